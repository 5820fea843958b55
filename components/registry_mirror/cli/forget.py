"""`forget NODE`: remove a node that no longer exists from the stack's state, so that it can leave
the program's list.

Taking a node out of the list makes Pulumi log in to it, so that it forgets the mirror; a machine
that no longer exists would block that for ever. This removes the node's resource and nothing else,
and only if the node really cannot be reached.
"""

import argparse

from . import deployed, nodes, stack
from .console import Verb, progress
from .errors import DRIFTED, OK, CommandError


def run(options: argparse.Namespace) -> int:
    """Remove the node. Raises CommandError if it answers, and StateError if the stack does not know
    it."""
    node, chosen = options.node, stack.chosen(options)
    state = chosen.state()
    mirrors = deployed.mirrors(state, options.mirror)
    known = [each for mirror in mirrors for each in mirror.nodes if each.name == node]
    if not known:
        names = sorted({each.name for mirror in mirrors for each in mirror.nodes})
        raise CommandError(
            f"the stack knows no node {node!r}", f"name one of its nodes: {', '.join(names)}"
        )
    with progress(f"asking {node} whether it is there"):
        answered = any(look.reachable for look in nodes.reach(known))
    if answered:
        raise CommandError(
            f"{node} can be reached",
            "take it out of the list and run `pulumi up`: it then forgets the mirror itself",
            DRIFTED,
        )
    # Exported once more, with its secrets encrypted, because this text is imported again.
    sealed = chosen.sealed_state()
    chosen.replace(deployed.without(sealed, [each.urn for each in known]))
    print(f"  {node} is struck from the state.")
    print(
        f"  Now take {node} out of the list of nodes, or the next `pulumi up` will try to configure"
        " it again."
    )
    return OK


VERB = Verb(
    "forget",
    "remove a node that no longer exists from the state",
    "swarm-registry-mirror forget node3 --stack prod",
    run,
    lambda parser: parser.add_argument(
        "node", metavar="NODE", help="name of the node, as `status` shows it"
    ),
)
