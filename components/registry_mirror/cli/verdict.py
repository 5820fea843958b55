"""What is to be said of a node in one word, from what it says of itself and what a manager says of it. Pure."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .console import DRIFTED, UNREACHABLE, WELL

if TYPE_CHECKING:
    from .nodes import Look


def swarm_faults(found: "Look", member: Mapping[str, Any] | None) -> list[str]:
    """What is wrong with a node in a manager's view. `member`: how the swarm sees the node with the id that `found` gives."""
    if not found.id:
        return []  # the node itself has said that it is in no swarm
    if member is None:
        return [f"the swarm has no node with its id {found.id}; see `docker node ls` on a manager"]
    faults = []
    if not member["ready"]:
        faults.append("the swarm sees it down, so it gets no tasks; see `docker node ls` on a manager")
    elif member["role"] == "manager" and not member["reachable"]:
        faults.append("it is a manager that the other managers do not reach; see `docker node ls`")
    if member["held"]:
        faults.append(
            f"an interrupted restart has left it drained; it was {member['held']} before, which `pulumi up` gives it back"
        )
    return faults


def state(found: "Look") -> str:
    """One word; those in capitals need somebody's attention. `well` is never said of a node that cannot take a task."""
    if not found.reachable:
        return "UNREACHABLE"
    if found.drifted:
        return "DRIFTED"
    if found.swarm_faults:
        return "NOT IN SWARM"
    if found.mirror_faults:
        return "NO MIRROR"
    return {"drain": "drained", "pause": "paused"}.get(found.availability, "well")


def exit_code(looks: "list[Look]") -> int:
    """The worst of all nodes, for scripts. A drained or paused node is somebody's decision, and no fault."""
    words = [state(found) for found in looks]
    if "UNREACHABLE" in words:
        return UNREACHABLE
    return DRIFTED if any(word.isupper() for word in words) else WELL
