"""`make adopt`: a mirror that somebody has set up by hand becomes a stack. Changes nothing on the swarm and on no node.

    python3 -m tools.adopt STACK [USER@MANAGER] [--service NAME] [--users …] [--key FILE] [--known-hosts FILE]

In two steps, each of which is left out where it is done already: the stack's file is written from what is there; and the running
service is taken into the stack's state, so that the next `pulumi up` changes it in place and not beside it.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tools import pin, toolchain
from tools.progress import StageError, main_guard, stage
from tools.stack import LAB_STACK, Stack
from tools.toolchain import CHECKOUT, VENV

PROJECT = "swarm-registry-mirror"
COMPONENT = f"{PROJECT}:index:RegistryMirror"
SERVICE = "docker:index/service:Service"
MIRROR = "registry-mirror"
"""The component's name in `__main__.py` (config.MIRROR_NAME, which cannot be imported before anything is installed)."""


def describe(file: Path, manager: str, flags: list[str]) -> None:
    """Write the stack's file. Raises StageError with what speaks against taking the mirror over."""
    argv = [str(VENV / "bin" / "python"), "-m", "adopt", str(file), "--manager", manager, *flags]
    with stage("what is there") as running:
        done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise StageError(said[-1] if said else "it cannot be looked at", "nothing has been changed")
        running.note(f"written to {file.name}")
    print(done.stderr, end="")


def service_of(file: Path) -> str:
    """The id of the service that was there, as the stack's file has it. Raises StageError."""
    found = re.search(r"(?m)^# The service that was there: ([a-z0-9]{25})$", file.read_text())
    if found is None:
        raise StageError(f"{file.name} was not written by `make adopt`", "move it away, or choose another ENV")
    return found[1]


def take_over(stack: Stack, service_id: str) -> None:
    """Take the running service into the stack's state. Raises StageError."""
    stack.select()
    urns = {resource["urn"].rpartition("::")[2]: resource["urn"] for resource in _resources(stack)}
    if f"{MIRROR}-service" in urns:
        print(f"  {stack.name} has taken it over already.")
        return
    head = f"urn:pulumi:{stack.name}::{PROJECT}::"
    provider, component = f"{head}pulumi:providers:docker::manager", f"{head}{COMPONENT}::{MIRROR}"
    with stage("the stack's frame, and the running service in it") as running:
        # Entries in the state that an import hangs on; neither of them changes anything.
        targets = [word for urn in (provider, component) for word in ("--target", urn)]
        stack.run("up", "--yes", "--skip-preview", *targets)
        given = {
            "nameTable": {"manager": provider, "mirror": component},
            "resources": [
                {"type": SERVICE, "name": f"{MIRROR}-service", "id": service_id, "parent": "mirror", "provider": "manager"}
            ],
        }
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(json.dumps(given))
            file.flush()
            stack.run("import", "--file", file.name, "--yes", "--skip-preview", "--generate-code=false", "--protect=false")
        running.note("taken over, unchanged")


def _resources(stack: Stack) -> list[dict[str, str]]:
    state = json.loads(stack.quietly("stack", "export"))
    found: list[dict[str, str]] = (state.get("deployment") or {}).get("resources") or []
    return found


def adopt(name: str, manager: str, flags: list[str]) -> None:
    """Both steps. Raises StageError with reason and remedy; running it again goes on from there."""
    if name == LAB_STACK:
        raise StageError("the lab's stack is not for a mirror of yours", "say ENV=<a new name>")
    toolchain.bring(with_lab=False)
    file = CHECKOUT / f"Pulumi.{name}.yaml"
    if not file.exists():
        if not manager:
            raise StageError("which swarm?", f"make adopt ENV={name} MANAGER=root@<address of a manager>")
        describe(file, manager, flags)
    if "@sha256:" not in file.read_text():
        pin.main(name)
    take_over(Stack(name), service_of(file))
    print(f"\n  Nothing has been changed yet. `make preview ENV={name}` shows what `make up ENV={name}` would.\n")


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.adopt")
    parser.add_argument("stack", nargs="?", default=LAB_STACK)
    parser.add_argument("manager", nargs="?", default="")
    for flag in ("--service", "--users", "--key", "--known-hosts"):
        parser.add_argument(flag, default="")
    chosen = parser.parse_args()
    given = (
        ("--service", chosen.service),
        ("--users", chosen.users),
        ("--key", chosen.key),
        ("--known-hosts", chosen.known_hosts),
    )
    flags = [word for flag, value in given if value for word in (flag, value)]
    return main_guard(lambda: adopt(chosen.stack, chosen.manager, flags))


if __name__ == "__main__":
    sys.exit(main())
