"""`up`: `pulumi up`, also past nodes that cannot be reached.

`pulumi up` ends at the first node that it cannot reach. With `--unreachable skip-and-report` all
nodes of the program are asked first, by the program's own plan; those that cannot be reached stay
as they are, and every other one is configured. A node that the state knows is excluded by its URN.
One that is new cannot be: Pulumi does not make what depends on something that is missing. It is
left out by the program, if that has a list for it (`--without-key`).
"""

import argparse

from . import deployed, nodes, stack
from .console import Verb, progress
from .deployed import Node
from .errors import OK, UNREACHABLE, CommandError
from .look import Look

FAIL, SKIP = "fail", "skip-and-report"


def run(options: argparse.Namespace) -> int:
    """Bring the stack up; 2 if nodes were skipped. Raises CommandError."""
    chosen = stack.chosen(options)
    flags = ["--yes"] if options.yes else []
    if options.unreachable == FAIL:
        chosen.attached("up", *flags)
        return OK
    state = chosen.state()
    wanted = deployed.planned(state, chosen.plan())
    with progress(f"asking {len(wanted)} nodes whether they are there"):
        skipped = [look for look in nodes.reach(wanted) if not look.reachable]
    for look in skipped:
        print(f"  {look.node}: {look.faults[0]}")
    known, new = split(skipped, wanted, state)
    excluded = [word for node in known for word in ("--exclude", node.urn)]
    if not new:
        chosen.attached("up", *flags, *excluded)
    else:
        names = [node.name for node in new]
        with stack.with_nodes_left_out(chosen, _key(options.without_key, names), names) as changed:
            changed.attached("up", *flags, *excluded)
    if not skipped:
        return OK
    names = [look.node for look in skipped]
    print(f"\n  Skipped, left as they are: {', '.join(names)}.")
    print("  The same command configures them once they can be reached.\n")
    return UNREACHABLE


def split(skipped: list[Look], wanted: list[Node], state: object) -> tuple[list[Node], list[Node]]:
    """Of the nodes that cannot be reached, those that the state knows and those that are new."""
    known = deployed.urns(state)
    away = {look.node for look in skipped}
    left = [node for node in wanted if node.name in away]
    return [node for node in left if node.urn in known], [
        node for node in left if node.urn not in known
    ]


def _key(key: str | None, names: list[str]) -> str:
    if key is not None:
        return key
    raise CommandError(
        f"{', '.join(names)} cannot be reached, and the stack does not know them yet, so Pulumi"
        " cannot go past them; nothing was changed",
        "take them out of the program's list of nodes for now; or, where the program reads a list"
        " of nodes to leave out from its configuration, name that with --without-key",
        UNREACHABLE,
        "docs/explanation/roll-out.md",
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unreachable",
        choices=(FAIL, SKIP),
        default=FAIL,
        help=f"what to do about nodes that cannot be reached: `{FAIL}` at the first, as `pulumi up`"
        f" does (the default), or `{SKIP}`: leave them as they are, configure all others, exit"
        " code 2",
    )
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask before the change")
    parser.add_argument(
        "--without-key",
        metavar="PROJECT:KEY",
        help="a list in the program's configuration with names of nodes to leave out, for new nodes"
        " that cannot be reached",
    )


VERB = Verb(
    "up",
    "`pulumi up`, also past nodes that cannot be reached",
    "swarm-registry-mirror up --stack prod --unreachable skip-and-report",
    run,
    _arguments,
    has_mirrors=False,
    has_configuration=True,
)
