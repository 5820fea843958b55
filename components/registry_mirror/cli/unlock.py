"""`unlock`: remove the lock that a killed `pulumi` has left on a stack. The next `pulumi up`
finishes what was interrupted."""

import argparse

from . import stack
from .console import Verb
from .errors import OK


def run(options: argparse.Namespace) -> int:
    """Remove the lock. Raises CommandError."""
    stack.chosen(options).unlock()
    print("  The stack is unlocked.")
    return OK


VERB = Verb(
    "unlock",
    "remove the lock that a killed pulumi has left on a stack (`pulumi cancel`)",
    "swarm-registry-mirror unlock --stack prod",
    run,
    has_mirrors=False,
)
