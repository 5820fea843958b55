"""`make up` and `make down`: tools, lab, `pulumi up`, proof; and back, with a check of every node.

    python -m lab.tryout up [STACK] [fail | skip-and-report] [--yes]
    python -m lab.tryout down [STACK] [--yes]

With the stack of a real swarm: tools, and `swarm-registry-mirror up` or `pulumi destroy` on your
own terminal, where Pulumi asks before it changes anything; `--yes` is for where nobody can be
asked. The exit code is 2 where nodes were skipped.
"""

import json
import sys
from typing import Any

from components.registry_mirror.cli.console import table
from components.registry_mirror.cli.deployed import changed_at
from components.registry_mirror.cli.errors import UNKNOWN, UNREACHABLE, USAGE
from components.registry_mirror.cli.up import FAIL, SKIP
from lab import control
from lab.machines import run_on
from lab.plan import NODE2_DAEMON_JSON, NODES, STRANGERS_MIRROR, lab_folder
from lab.proof import prove
from lab.run import check_known, run
from lab.sandbox import Sandbox, SandboxError
from lab.stack import LAB_STACK, Stack, changes
from tools import toolchain
from tools.progress import StageError, main_guard, stage

YES = "--yes"
WITHOUT = "swarm-registry-mirror:without"
"""Key of this checkout's configuration: names of nodes to leave out."""


def up(name: str, unreachable: str = FAIL, *, yes: bool = False) -> int:
    """Bring the stack `name` up; returns the exit code. Raises StageError with reason and remedy;
    running it again goes on from there."""
    if unreachable not in (FAIL, SKIP):
        raise StageError(f"UNREACHABLE is {unreachable}", f"say {FAIL} or {SKIP}")
    if name == LAB_STACK:
        # before anything is built: minutes later would be too late to say so
        control.check_computer()
    else:
        check_known(Stack(name))
    toolchain.bring(with_lab=name == LAB_STACK)
    if name != LAB_STACK:
        return _up_real_swarm(Stack(name), unreachable, yes=yes)
    try:
        control.up(LAB_STACK)
        stack = Stack(LAB_STACK, lab=LAB_STACK)
        with stage("pulumi up") as running:
            stack.select()
            before = changed_at(_exported(stack))
            running.note(changes(stack.run("up", "--yes", "--skip-preview")))
        with stage("proof: two pulls on every node"):
            proof = prove(Sandbox(lab_folder(LAB_STACK).root))
    except SandboxError as error:
        raise StageError(
            str(error), "run the same command again; if that does not help, `make down` first"
        ) from error
    done = stack.outputs()["nodes"]
    after = changed_at(_exported(stack))
    touched = {node for node, when in after.items() if before.get(node) != when}
    rows = [
        (
            pulls.node.name,
            pulls.engine,
            done[pulls.node.name] if pulls.node.name in touched else "nothing, not contacted",
            f"{pulls.first:.2f} s",
            f"{pulls.second:.2f} s",
        )
        for pulls in proof.pulls
    ]
    print(
        "\n" + table(("node", "docker", "what was done to it", "first pull", "second pull"), rows)
    )
    share = proof.upstream_bytes / proof.image_bytes
    already = "; the mirror had it already" if share < 0.5 else ""
    print(
        f"\n  {proof.upstream_bytes / 1e6:.1f} MB left the upstream for {2 * len(NODES)} pulls of"
        " an image of"
        f" {proof.image_bytes / 1e6:.1f} MB: {share:.2f} times its size{already}."
        "\n  `make shell` enters the lab's network, `make down` undoes everything.\n"
    )
    return 0


def _exported(stack: Stack) -> Any:
    return json.loads(stack.quietly("stack", "export"))


def _up_real_swarm(stack: Stack, unreachable: str, *, yes: bool) -> int:
    _check_terminal(stack, yes=yes)
    stack.check_plugins()
    stack.select()
    words = ["--unreachable", unreachable, "--without-key", WITHOUT, *([YES] if yes else [])]
    code = run(stack, "up", *words).returncode
    if code not in (0, UNREACHABLE):
        return code or UNKNOWN
    outputs = stack.outputs()
    if outputs.get("nodes"):
        print(
            "\n"
            + table(("node", "what was done to it"), sorted(outputs["nodes"].items()))
            + f"\n\n  {outputs['url']}\n"
        )
    return code


def _check_terminal(stack: Stack, *, yes: bool) -> None:
    """Raises StageError where Pulumi would ask and nobody could answer."""
    if not yes and not sys.stdin.isatty():
        raise StageError(
            f"{stack.name}: there is no terminal on which Pulumi could ask before it changes"
            " anything",
            "say YES=1 if it may",
        )


def down(name: str, *, yes: bool = False) -> int:
    """Take the stack `name` down; returns the exit code. Raises StageError if a node is not as it
    was; the lab then stays, so that you can see why."""
    if name != LAB_STACK:
        check_known(Stack(name))
        toolchain.bring(with_lab=False)
        _check_terminal(Stack(name), yes=yes)
        Stack(name).run_attached("destroy", *([YES] if yes else []))
        return 0
    sandbox = Sandbox(lab_folder(LAB_STACK).root)
    stack = Stack(LAB_STACK, lab=LAB_STACK)
    try:
        if sandbox.init_pid is not None and stack.state.exists():
            with stage("pulumi destroy") as running:
                running.note(changes(stack.run("destroy", "--yes", "--skip-preview")))
            rows, restored = compared_nodes(sandbox)
            print("\n" + table(("node", "daemon.json", "docker's mirrors"), rows) + "\n")
            if not restored:
                raise StageError(
                    "a node is not as it was before `make up`",
                    "look at it with `make ssh NODE=…`",
                    stack.log,
                )
    except SandboxError as error:
        raise StageError(
            str(error), "`make lab-down` removes the lab whatever its state"
        ) from error
    control.down(LAB_STACK)
    return 0


def compared_nodes(sandbox: Sandbox) -> tuple[list[tuple[str, str, str]], bool]:
    """For each node whether daemon.json is byte for byte what it was, and what docker says; and
    whether both are so everywhere."""
    rows, restored = [], True
    for node in NODES:
        before = NODE2_DAEMON_JSON if node.name == "node2" else ""
        text = run_on(sandbox, node, "cat /etc/docker/daemon.json 2>/dev/null || true")
        mirrors = run_on(
            sandbox, node, "docker info --format '{{json .RegistryConfig.Mirrors}}'"
        ).strip()
        expected = f'["{STRANGERS_MIRROR}/"]' if node.name == "node2" else "none"
        used = "none" if mirrors in ("null", "[]") else mirrors
        restored = restored and text == before and used == expected
        rows.append((node.name, "as before" if text == before else "DIFFERS", used))
    return rows, restored


def main() -> int:
    """Parse the command line."""
    yes = YES in sys.argv
    verb, *words = [word for word in sys.argv[1:] if word not in ("", YES)] or [""]
    if verb not in ("up", "down"):
        print("say up or down", file=sys.stderr)
        return USAGE
    code = 0

    def work() -> None:
        nonlocal code
        name, *more = words or [LAB_STACK]
        code = up(name, *more[:1], yes=yes) if verb == "up" else down(name, yes=yes)

    return main_guard(work) or code


if __name__ == "__main__":
    sys.exit(main())
