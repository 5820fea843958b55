"""`cloud-init`: user data that has a new machine use the mirror from its first boot on.

It is read from the stack's state, and no machine is asked. What is secret there is not printed.
"""

import argparse
from collections import Counter
from pathlib import Path

from .. import rules
from ..node_agent.request import BadRequest, NodeRequest, decode
from ..render.cloud_init import user_data
from . import stack
from .console import Verb
from .deployed import Mirror, Node
from .errors import OK, USAGE, CommandError, StateError


def run(options: argparse.Namespace) -> int:
    """Print the user data. Raises CommandError."""
    mirrors = stack.mirrors(options)
    if len(mirrors) > 1:
        raise CommandError(
            "there are several mirrors in this stack, and a machine has one daemon.json",
            f"name one with --mirror: {', '.join(mirror.name for mirror in mirrors)}",
            USAGE,
        )
    node = usual(mirrors[0])
    text = user_data(
        _request(node), secret=node.is_secret, authorities=_authorities(options.authority)
    )
    print(text, end="")
    return OK


def usual(mirror: Mirror) -> Node:
    """A node whose daemon.json is where most nodes have theirs."""
    paths = [str(node.settings.get("daemon_json")) for node in mirror.nodes]
    ((path, _),) = Counter(paths).most_common(1)
    return mirror.nodes[paths.index(path)]


def _request(node: Node) -> NodeRequest:
    """Raises StateError where another version of the program has made it."""
    try:
        return decode(NodeRequest, node.settings)
    except BadRequest as error:
        raise StateError(
            f"this version cannot read the state: {error}",
            "use the version of the command that ran the last `pulumi up`",
        ) from None


def _authorities(file: Path | None) -> str | None:
    """The certificates in a file. Raises CommandError for one that has none, or has a key."""
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CommandError(f"--authority: {file} cannot be read: {error}", code=USAGE) from None
    wrong = rules.authorities(text)
    if wrong is not None:
        raise CommandError(f"--authority: {file} {wrong}", code=USAGE)
    return text


VERB = Verb(
    "cloud-init",
    "user data that has a new machine use the mirror from its first boot on",
    "swarm-registry-mirror cloud-init --stack prod > user-data",
    run,
    lambda parser: parser.add_argument(
        "--authority",
        type=Path,
        metavar="FILE",
        help="certificates that docker needs to trust the mirror, where no public authority has"
        " signed its own",
    ),
)
