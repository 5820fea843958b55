"""`make unlock ENV=<stack>`: take away the lock that a killed `pulumi` has left on a stack. The next run finishes what it was at.

python3 -m tools.unlock [STACK]
"""

import sys

from tools.progress import main_guard, stage
from tools.stack import LAB_STACK, Stack, stack_named


def unlock(stack: Stack) -> None:
    """Take the lock away. Raises StageError."""
    with stage(f"the stack {stack.name} unlocked"):
        stack.quietly("cancel", "--yes")


if __name__ == "__main__":
    sys.exit(main_guard(lambda: unlock(stack_named(sys.argv[1] if len(sys.argv) > 1 else LAB_STACK))))
