"""`unlock`: take away the lock that a killed `pulumi` has left on a stack. The next `pulumi up` finishes what it was at."""

import argparse

from . import stack
from .console import WELL, Verb


def run(options: argparse.Namespace) -> int:
    """Take the lock away. Raises CommandError."""
    stack.chosen(options).unlock()
    print("  The stack is unlocked.")
    return WELL


VERB = Verb(
    "unlock",
    "take away the lock that a killed pulumi has left on a stack (`pulumi cancel`)",
    "swarm-registry-mirror unlock --stack prod",
    run,
    has_mirrors=False,
)
