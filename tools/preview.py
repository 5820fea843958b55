"""`make preview`: what `make up` would change. Opens no connection to any node.

python3 -m tools.preview [STACK]
"""

import subprocess
import sys

from tools.progress import StageError, main_guard
from tools.stack import LAB_STACK, stack_named
from tools.toolchain import CHECKOUT


def preview(name: str) -> None:
    """Show the preview. Raises StageError with every fault of the configuration."""
    stack = stack_named(name)
    stack.select()
    done = subprocess.run(stack.command("preview", "--diff"), cwd=CHECKOUT, env=stack.environment, check=False)
    if done.returncode != 0:
        raise StageError("the preview failed; the reason stands above")


if __name__ == "__main__":
    sys.exit(main_guard(lambda: preview(sys.argv[1] if len(sys.argv) > 1 else LAB_STACK)))
