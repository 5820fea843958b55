"""What is to be said of a node in one word, from what it says of itself and what a manager says of
it. Pure."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .errors import DRIFTED, OK, UNREACHABLE
from .look import Look


def swarm_faults(node: Look, member: Mapping[str, Any] | None) -> list[str]:
    """What is wrong with a node in a manager's view. `member`: how the swarm sees the node with the
    id that `node` gives."""
    if not node.id:
        return []  # the node itself has said that it is in no swarm
    if member is None:
        return [f"the swarm has no node with its id {node.id}; see `docker node ls` on a manager"]
    faults = []
    if not member["ready"]:
        faults.append(
            "the swarm sees it down, so it gets no tasks; see `docker node ls` on a manager"
        )
    elif member["role"] == "manager" and not member["reachable"]:
        faults.append("it is a manager that the other managers do not reach; see `docker node ls`")
    if member["held"]:
        faults.append(
            f"an interrupted restart has left it drained; it was {member['held']} before, which"
            " `pulumi up` gives it back"
        )
    return faults


def state(node: Look) -> str:
    """One word; those in capitals need somebody's attention. `healthy` is never said of a node that
    cannot take a task."""
    if not node.reachable:
        return "UNREACHABLE"
    if node.drifted:
        return "DRIFTED"
    if node.swarm_faults:
        return "NOT IN SWARM"
    if node.mirror_faults:
        return "NO MIRROR"
    return {"drain": "drained", "pause": "paused"}.get(node.availability, "healthy")


def as_json(node: Look) -> dict[str, object]:
    """For scripts: all fields, `drifted`, and the `state` that a person is shown."""
    return {**asdict(node), "drifted": node.drifted, "state": state(node)}


def exit_code(looks: list[Look]) -> int:
    """The worst of all nodes, for scripts. A drained or paused node is somebody's decision, and no
    fault."""
    if not all(node.reachable for node in looks):
        return UNREACHABLE
    wrong = (node.drifted or node.swarm_faults or node.mirror_faults for node in looks)
    return DRIFTED if any(wrong) else OK
