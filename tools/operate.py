"""`make status`, `repair`, `stats`, `advisories`, `engines`: runs `operate/` with a stack's configuration.

    python3 -m tools.operate status|repair|stats|advisories|engines [STACK] [--json] [--to=29.10.0]

Exit code: 0 all is well, 1 a node has drifted, 2 a node could not be reached.
"""

import json
import subprocess
import sys
from typing import Any

from tools.progress import StageError, main_guard
from tools.stack import LAB_STACK, Stack, stack_named
from tools.toolchain import CHECKOUT, VENV


def operate(action: str, name: str, flags: list[str]) -> int:
    """Run the action on the user's terminal; returns its exit code."""
    stack = stack_named(name)
    return _run(stack, action, *flags).returncode


def looks(stack: Stack) -> list[dict[str, Any]]:
    """How every node of a stack is, as `status --json` prints it. Raises StageError."""
    done = _run(stack, "status", "--json", capture=True)
    if not done.stdout.startswith("["):
        raise StageError(done.stderr.strip() or "the nodes cannot be looked at")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _run(stack: Stack, action: str, *flags: str, capture: bool = False) -> "subprocess.CompletedProcess[str]":
    """The configuration, secrets included, goes through a pipe and nowhere else."""
    values = json.dumps({key.partition(":")[2]: value for key, value in stack.configuration().items()})
    argv = stack.inside([str(VENV / "bin" / "python"), "-m", "operate", action, *flags])
    return subprocess.run(argv, cwd=CHECKOUT, env=stack.environment, input=values, text=True, capture_output=capture, check=False)


def main() -> int:
    """Parse the command line; every failure to get at the configuration is one message."""
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    flags = [word for word in sys.argv[1:] if word.startswith("--")]
    code = 0

    def work() -> None:
        nonlocal code
        if not words or words[0] not in ("status", "repair", "stats", "advisories", "engines"):
            raise StageError("say status, repair, stats, advisories or engines", "make status ENV=…")
        code = operate(words[0], words[1] if len(words) > 1 else LAB_STACK, flags)

    return main_guard(work) or code


if __name__ == "__main__":
    sys.exit(main())
