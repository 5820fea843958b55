"""`make up`: tools, lab, `pulumi up`, proof. With ENV=<stack> of a real swarm: tools, and `pulumi up` on your own terminal.

python3 -m tools.up [STACK] [fail | skip-and-report]

The last word says what to do about nodes of a real swarm that cannot be reached: fail at the first (so does `pulumi up`), or
leave them as they are, tell all others, and report them.
"""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lab import control
from lab.plan import NODES, lab_folder
from lab.proof import prove
from lab.sandbox import Sandbox, SandboxError
from tools import toolchain
from tools.operate import unreachable as not_reached
from tools.progress import StageError, main_guard, stage
from tools.stack import LAB_STACK, Stack, changes
from tools.table import table
from tools.toolchain import CHECKOUT

FAIL, SKIP = "fail", "skip-and-report"


def up(name: str, unreachable: str = FAIL) -> None:
    """Bring the stack `name` up. Raises StageError with reason and remedy; running it again goes on from there."""
    if unreachable not in (FAIL, SKIP):
        raise StageError(f"UNREACHABLE is {unreachable}", f"say {FAIL} or {SKIP}")
    if name == LAB_STACK:
        control.check_computer()  # before anything is built: minutes later would be too late to say so
    toolchain.bring(with_lab=name == LAB_STACK)
    if name != LAB_STACK:
        _up_real_swarm(Stack(name), unreachable)
        return
    try:
        control.up(LAB_STACK)
        stack = Stack(LAB_STACK, lab=LAB_STACK)
        with stage("pulumi up") as running:
            stack.select()
            output = stack.run("up", "--yes", "--skip-preview")
            running.note(changes(output))
        with stage("proof: two pulls on every node"):
            proof = prove(Sandbox(lab_folder(LAB_STACK).root))
    except SandboxError as error:
        raise StageError(str(error), "run the same command again; if that does not help, `make down` first") from error
    done = stack.outputs()["nodes"]
    touched = {node for node in done if re.search(rf"-node-{node} (created|updated)", output)}
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
    print("\n" + table(("node", "docker", "what was done to it", "first pull", "second pull"), rows))
    share = proof.upstream_bytes / proof.image_bytes
    already = "; the mirror had it already" if share < 0.5 else ""
    print(
        f"\n  {proof.upstream_bytes / 1e6:.1f} MB left the upstream for {2 * len(NODES)} pulls of an image of"
        f" {proof.image_bytes / 1e6:.1f} MB: {share:.2f} times its size{already}."
        "\n  `make shell` enters the lab's network, `make down` undoes everything.\n"
    )


def _up_real_swarm(stack: Stack, unreachable: str) -> None:
    stack.select()
    skipped: list[str] = []
    if unreachable == FAIL:
        stack.run_attached("up")
    else:
        skipped = _up_past_unreachable(stack)
    outputs = stack.outputs()
    if outputs.get("nodes"):
        rows = {**outputs["nodes"], **dict.fromkeys(skipped, "UNREACHABLE, left as it is")}
        print("\n" + table(("node", "what was done to it"), sorted(rows.items())) + f"\n\n  {outputs['url']}\n")
    if skipped:
        print("  The nodes that were skipped are told by the same command once they can be reached.\n")


def _up_past_unreachable(stack: Stack) -> list[str]:
    """Bring up what can be reached; returns the names of the nodes that cannot."""
    with stage("which nodes can be reached") as running:
        away = not_reached(stack)
        running.note(f"all but {', '.join(away)}" if away else "all")
    for node, fault in away.items():
        print(f"  {node}: {fault}")
    excluded, left_out = past_unreachable(away, json.loads(stack.quietly("stack", "export")))
    with tempfile.TemporaryDirectory() as folder:
        # Never in the stack's own file: what cannot be reached today is no setting.
        stack.config_file = Path(folder, f"Pulumi.{stack.name}.yaml")
        shutil.copyfile(CHECKOUT / f"Pulumi.{stack.name}.yaml", stack.config_file)
        for index, node in enumerate(left_out):  # as a list: a text that looks like one is not one to Pulumi
            stack.quietly("config", "set", "--path", f"without[{index}]", node)
        stack.run_attached("up", *(word for urn in excluded for word in ("--exclude", urn)))
        stack.config_file = None
    return list(away)


def past_unreachable(away: Iterable[str], state: dict[str, Any]) -> tuple[list[str], list[str]]:
    """How to get past nodes that cannot be reached: (URNs to exclude from the run, names to leave out of the list).

    A node that was told before stays in the state as it is; Pulumi's `--exclude` does that. It cannot do so for one that it
    does not know yet: what comes after that one would refer to nothing.
    """
    known = nodes_in(state)
    return [known[node] for node in away if node in known], [node for node in away if node not in known]


def nodes_in(state: dict[str, Any]) -> dict[str, str]:
    """The nodes that an exported state knows: name -> URN of its command."""
    resources = state["deployment"].get("resources", [])
    return {r["urn"].rpartition("-node-")[2]: r["urn"] for r in resources if _is_node(r)}


def _is_node(resource: dict[str, Any]) -> bool:
    return (
        resource["type"] in ("command:local:Command", "command:remote:Command")
        and "-node-" in resource["urn"].rpartition("::")[2]
    )


if __name__ == "__main__":
    sys.exit(main_guard(lambda: up(*(word for word in (sys.argv[1:] or [LAB_STACK]) if word))))
