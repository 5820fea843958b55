"""`make forget NODE=…`: strike a node that is gone for good from the stack's state, so that it can leave the list.

Taking a node out of the list makes Pulumi log in to it, so that it forgets the mirror; a machine that no longer exists would
block that for ever. This strikes the node's resource and nothing else, and only if the node really cannot be reached.

    python3 -m tools.forget NODE [STACK]
"""

import json
import sys

from tools.operate import looks
from tools.progress import StageError, main_guard, stage
from tools.stack import LAB_STACK, Stack


def forget(node: str, name: str) -> None:
    """Strike `node`. Raises StageError if it answers, or is not known to the stack."""
    stack = Stack(name, lab=LAB_STACK if name == LAB_STACK else None)
    resources = json.loads(stack.quietly("stack", "export"))["deployment"].get("resources", [])
    urns = [r["urn"] for r in resources if r["type"] == "command:remote:Command" and r["urn"].endswith(f"-node-{node}")]
    if len(urns) != 1:
        known = sorted(r["urn"].rpartition("-node-")[2] for r in resources if "-node-" in r["urn"])
        raise StageError(f"the stack {name} knows no node {node!r}", f"its nodes are {', '.join(known) or 'none'}")
    found = {entry["node"]: entry["reachable"] for entry in looks(stack)}
    if found.get(node, False):
        raise StageError(
            f"{node} can be reached", "take it out of the list and run `make up`: then it forgets the mirror properly"
        )
    with stage(f"{node} struck from the state of {name}"):
        stack.run("state", "delete", urns[0], "--yes")
    print(f"  Now take {node} out of the list of nodes, or the next `make up` will try to tell it again.")


if __name__ == "__main__":
    if len(sys.argv) < 2 or not sys.argv[1]:
        sys.exit("say which node: make forget NODE=…")
    sys.exit(main_guard(lambda: forget(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else LAB_STACK)))
