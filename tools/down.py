"""`make down`: destroy the stack, look whether every node is as before, remove the lab.

python3 -m tools.down [STACK]
"""

import sys

from lab import control
from lab.machines import run_on
from lab.plan import NODE2_DAEMON_JSON, NODES, STRANGERS_MIRROR, lab_folder
from lab.sandbox import Sandbox, SandboxError
from tools.progress import StageError, main_guard, stage
from tools.stack import LAB_STACK, Stack, changes
from tools.table import table


def down(name: str) -> None:
    """Take the stack `name` down. Raises StageError if a node is not as it was; the lab is then left for a look."""
    if name != LAB_STACK:
        Stack(name).run_attached("destroy")
        return
    sandbox = Sandbox(lab_folder(LAB_STACK).root)
    stack = Stack(LAB_STACK, lab=LAB_STACK)
    try:
        if sandbox.init_pid is not None and stack.state.exists():
            with stage("pulumi destroy") as running:
                running.note(changes(stack.run("destroy", "--yes", "--skip-preview")))
            rows, well = look_at_nodes(sandbox)
            print("\n" + table(("node", "daemon.json", "docker's mirrors"), rows) + "\n")
            if not well:
                raise StageError("a node is not as it was before `make up`", "look at it with `make ssh NODE=…`", stack.log)
    except SandboxError as error:
        raise StageError(str(error), "`make lab-down` removes the lab whatever its state") from error
    control.down(LAB_STACK)


def look_at_nodes(sandbox: Sandbox) -> tuple[list[tuple[str, str, str]], bool]:
    """For each node whether daemon.json is byte for byte what it was, and what docker says; and whether all is well."""
    rows, well = [], True
    for node in NODES:
        before = NODE2_DAEMON_JSON if node.name == "node2" else ""
        text = run_on(sandbox, node, "cat /etc/docker/daemon.json 2>/dev/null || true")
        mirrors = run_on(sandbox, node, "docker info --format '{{json .RegistryConfig.Mirrors}}'").strip()
        expected = f'["{STRANGERS_MIRROR}/"]' if node.name == "node2" else "none"
        shown = "none" if mirrors in ("null", "[]") else mirrors
        well = well and text == before and shown == expected
        rows.append((node.name, "as before" if text == before else "DIFFERS", shown))
    return rows, well


if __name__ == "__main__":
    sys.exit(main_guard(lambda: down(sys.argv[1] if len(sys.argv) > 1 else LAB_STACK)))
