"""`make up`: tools, lab, `pulumi up`, proof. With ENV=<stack> of a real swarm: tools, and `pulumi up` on your own terminal.

python3 -m tools.up [STACK]
"""

import re
import sys

from lab import control
from lab.plan import NODES, lab_folder
from lab.proof import prove
from lab.sandbox import Sandbox, SandboxError
from tools import toolchain
from tools.progress import StageError, main_guard, stage
from tools.stack import LAB_STACK, Stack, changes
from tools.table import table


def up(name: str) -> None:
    """Bring the stack `name` up. Raises StageError with reason and remedy; running it again goes on from there."""
    if name == LAB_STACK:
        control.check_computer()  # before anything is built: minutes later would be too late to say so
    toolchain.bring(with_lab=name == LAB_STACK)
    if name != LAB_STACK:
        _up_real_swarm(Stack(name))
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


def _up_real_swarm(stack: Stack) -> None:
    stack.select()
    stack.run_attached("up")
    outputs = stack.outputs()
    if outputs.get("nodes"):
        print("\n" + table(("node", "what was done to it"), sorted(outputs["nodes"].items())) + f"\n\n  {outputs['url']}\n")


if __name__ == "__main__":
    sys.exit(main_guard(lambda: up(sys.argv[1] if len(sys.argv) > 1 else LAB_STACK)))
