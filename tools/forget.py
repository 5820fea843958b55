"""`make forget NODE=…`: strike a node that is gone for good from the stack's state, so that it can leave the list.

Taking a node out of the list makes Pulumi log in to it, so that it forgets the mirror; a machine that no longer exists would
block that for ever. This strikes the node's resource and nothing else, and only if the node really cannot be reached.

    python3 -m tools.forget NODE [STACK]
"""

import json
import sys
from typing import Any

from tools.operate import looks
from tools.progress import StageError, main_guard, stage
from tools.stack import LAB_STACK, stack_named


def forget(node: str, name: str) -> None:
    """Strike `node`. Raises StageError if it answers, or is not known to the stack."""
    stack = stack_named(name)
    state = json.loads(stack.quietly("stack", "export"))
    struck = strike(state, node)
    found = {entry["node"]: entry["reachable"] for entry in looks(stack)}
    if node not in found:
        raise StageError(
            f"{node} is not in the list, so it cannot be asked whether it is gone", "put it back, then run this again"
        )
    if found[node]:
        raise StageError(f"{node} can be reached", "take it out of the list and run `make up`: it then forgets the mirror itself")
    with stage(f"{node} struck from the state of {name}"):
        stack.quietly("stack", "import", stdin=json.dumps(struck))
    print(f"  Now take {node} out of the list of nodes, or the next `make up` will try to tell it again.")


def strike(state: dict[str, Any], node: str) -> dict[str, Any]:
    """An exported state without the node's command, and without the edges to it from later waves. Raises StageError.

    `pulumi state delete` would refuse because of those edges, or take the later waves along.
    """
    resources = state["deployment"].get("resources", [])
    known = nodes_in(state)
    if node not in known:
        raise StageError(f"the stack knows no node {node!r}", f"name one of its nodes: {', '.join(sorted(known)) or 'none'}")
    urn = known[node]
    left = [_without(r, urn) for r in resources if r["urn"] != urn]
    return {**state, "deployment": {**state["deployment"], "resources": left}}


def _without(resource: dict[str, Any], urn: str) -> dict[str, Any]:
    """A resource without its edges to another one."""
    by_property = {key: [d for d in urns if d != urn] for key, urns in resource.get("propertyDependencies", {}).items()}
    edges = {"dependencies": [d for d in resource.get("dependencies", []) if d != urn], "propertyDependencies": by_property}
    return {**resource, **{name: edge for name, edge in edges.items() if name in resource}}


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
    if len(sys.argv) < 2 or not sys.argv[1]:
        sys.exit("say which node: make forget NODE=…")
    sys.exit(main_guard(lambda: forget(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else LAB_STACK)))
