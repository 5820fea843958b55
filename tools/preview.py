"""`make preview`: what `make up` would change, in a few lines, checked against the policies. Opens no connection to any node.

    python3 -m tools.preview [STACK] [--offline] [--state FILE] [--markdown FILE] [--json]
    python3 -m tools.preview [STACK] --save

It compares with the stack's own state, from its backend. `--offline` needs no backend, no secret and no passphrase: it compares
with `previews/<stack>.json`, if that is there, and else everything counts as new. `--save` writes that file, without secrets.

Exit code: 0 it can be applied, 1 it cannot, 3 it is against the policy.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tools.progress import StageError, main_guard
from tools.stack import LAB_STACK, Stack, stack_named
from tools.toolchain import CHECKOUT, VENV
from tools.toolchain import environment as usual_environment

SAVED = "previews/{}.json"
AGAINST_POLICY = 3


def preview(stack: Stack, *, state: Path | None, offline: bool, flags: list[str]) -> int:
    """Show what would change; returns the exit code. Raises StageError where the stack's state cannot be had."""
    stack.check_plugins()
    with tempfile.TemporaryDirectory() as folder:
        if state is None and offline:
            saved = CHECKOUT / SAVED.format(stack.name)
            state = saved if saved.exists() else None
        elif state is None:
            cleaned = cleaned_state(stack)
            if cleaned is not None:
                state = Path(folder, "state.json")
                state.write_text(cleaned)
        given = ["--state", str(state)] if state else []
        if stack.config_file:
            given += ["--file", str(stack.config_file)]
        return review("preview", stack.name, *given, *flags, environment=stack.environment).returncode


def cleaned_state(stack: Stack) -> str | None:
    """The stack's state without its secrets, as JSON; None where the stack does not exist yet. Raises StageError."""
    if not stack.exists():
        return None
    file = stack.config_file or CHECKOUT / f"Pulumi.{stack.name}.yaml"
    values = stack.configuration()
    exported = json.loads(stack.quietly("stack", "export", "--show-secrets"))
    given = json.dumps({"state": exported, "values": values, "file": file.read_text()})
    done = review("clean", stack.name, stdin=given)
    if done.returncode != 0:
        raise StageError("the state could not be read; the reason stands above")
    return str(done.stdout)


def review(
    *words: str, stdin: str | None = None, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `review/` in the project's Python environment; with a stdin its output is caught, else it is the user's."""
    argv = [str(VENV / "bin" / "python"), "-m", "review", *words]
    return subprocess.run(
        argv, cwd=CHECKOUT, env=environment or {**os.environ, **usual_environment()}, input=stdin, text=True,
        stdout=subprocess.PIPE if stdin is not None else None, check=False,
    )  # fmt: skip


def save(stack: Stack) -> None:
    """Write the stack's state, without secrets, to where `--offline` looks for it. Raises StageError."""
    cleaned = cleaned_state(stack)
    if cleaned is None:
        raise StageError(f"there is no stack {stack.name} yet", f"`make up ENV={stack.name}` makes it")
    file = CHECKOUT / SAVED.format(stack.name)
    file.parent.mkdir(exist_ok=True)
    file.write_text(cleaned)
    print(f"  {file.relative_to(CHECKOUT)}: the state without secrets; commit it, so that pull requests are compared with it")


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.preview")
    parser.add_argument("stack", nargs="?", default=LAB_STACK)
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    flags = [*(["--markdown", str(chosen.markdown)] if chosen.markdown else []), *(["--json"] if chosen.json else [])]
    code = 0

    def work() -> None:
        nonlocal code
        stack = stack_named(chosen.stack)
        if chosen.save:
            save(stack)
        else:
            code = preview(stack, state=chosen.state, offline=chosen.offline, flags=flags)

    return main_guard(work) or code


if __name__ == "__main__":
    sys.exit(main())
