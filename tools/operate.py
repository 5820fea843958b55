"""The way of the Makefile to the command `swarm-registry-mirror`, for the stacks of this checkout.

    python3 -m tools.operate VERB [STACK] [WORD …] [--json] [--to=29.10.0]

The command reads the stack's state like everybody's. What is added here is where it runs: the lab's state, tools and network are
its own. Exit codes are the command's.
"""

import contextlib
import difflib
import json
import subprocess
import sys
from typing import Any

from lab.sandbox import SandboxError
from tools.progress import StageError, main_guard
from tools.stack import LAB_STACK, Stack, stack_named
from tools.toolchain import CHECKOUT, VENV

UNKNOWN = 4
"""Exit code where it could not be found out, as the command has it; 1 would be drift."""
VERBS = ("status", "repair", "stats", "engines", "advisories", "forget", "unlock")


def operate(verb: str, name: str, words: list[str]) -> int:
    """Run a verb on the user's terminal; returns its exit code. Raises StageError for a stack that nobody knows."""
    stack = stack_named(name)
    check_known(stack)
    return run(stack, verb, *words).returncode


def check_known(stack: Stack) -> None:
    """Raises StageError, with the name that is probably meant, where a stack has neither a file here nor a state.

    Nothing is made: neither a stack nor a file.
    """
    names = {path.name[len("Pulumi.") : -len(".yaml")] for path in CHECKOUT.glob("Pulumi.*.yaml")}
    with contextlib.suppress(StageError):  # without a backend there is only what lies here
        if stack.name in names or stack.exists():
            return
    near = difflib.get_close_matches(stack.name, sorted(names), 1)
    question = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names))}"
    raise StageError(f"there is no stack {stack.name}; {question}", "say ENV=<one of them>")


def run(stack: Stack, verb: str, *words: str, capture: bool = False) -> "subprocess.CompletedProcess[str]":
    """The command, where the stack's nodes can be reached. Raises StageError where that is nowhere."""
    command = [str(VENV / "bin" / "python"), "-m", "components.registry_mirror.cli", verb, "--stack", stack.name, *words]
    return _inside(stack, command, capture=capture)


def unreachable(stack: Stack) -> dict[str, str]:
    """The nodes of a stack's configuration that cannot be reached, and why. Raises StageError.

    The configuration, secrets included, goes through a pipe and nowhere else.
    """
    values = json.dumps({key.partition(":")[2]: value for key, value in stack.configuration().items()})
    done = _inside(stack, [str(VENV / "bin" / "python"), "-m", "config.reachable"], stdin=values, capture=True)
    if done.returncode != 0:
        raise StageError(done.stderr.strip() or "the nodes cannot be asked")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _inside(
    stack: Stack, argv: list[str], *, stdin: "str | None" = None, capture: bool = False
) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            stack.inside(argv), cwd=CHECKOUT, env=stack.environment, input=stdin, text=True, capture_output=capture, check=False
        )
    except SandboxError as error:
        raise StageError(str(error)) from error


def main() -> int:
    """Parse the command line; a stack that cannot be found is one message."""
    words = [word for word in sys.argv[1:] if word]
    code = 0

    def work() -> None:
        nonlocal code
        if not words or words[0] not in VERBS:
            raise StageError(f"say {', '.join(VERBS)}", "make status ENV=…")
        code = operate(words[0], words[1] if len(words) > 1 else LAB_STACK, words[2:])

    ended = main_guard(work)
    return UNKNOWN if ended == 1 else ended or code


if __name__ == "__main__":
    sys.exit(main())
