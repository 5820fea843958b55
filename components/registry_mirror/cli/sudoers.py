"""`sudoers USER`: what a user that is not root must be allowed on a node, for /etc/sudoers.d.

Printed only: an administrator of the nodes installs it, because nothing here has the right to.
"""

import argparse

from .. import ship
from ..rules import InvalidArgs
from .console import Verb
from .errors import OK, USAGE, CommandError


def run(options: argparse.Namespace) -> int:
    """Print the rules. Raises CommandError if that is no user."""
    try:
        print(ship.sudoers(options.user), end="")
    except InvalidArgs as error:
        reason = "; ".join(f"the user {fault.wrong}" for fault in error.faults)
        raise CommandError(
            reason, "name the account with which ssh logs in to the nodes", USAGE
        ) from None
    return OK


VERB = Verb(
    "sudoers",
    "what a user that is not root must be allowed on a node",
    "swarm-registry-mirror sudoers ops > registry-mirror.sudoers",
    run,
    lambda parser: parser.add_argument(
        "user", metavar="USER", help="the account with which ssh logs in to the nodes"
    ),
    has_stack=False,
)
