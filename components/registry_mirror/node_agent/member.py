"""What a node must still be after its docker was restarted: the same member of the same swarm, with
the same data. Pure."""

from typing import Any, Dict, List, Optional

ACTIVE = "active"


def standing(info: Dict[str, Any]) -> Dict[str, Any]:
    """What of `docker info` must be the same afterwards; it can be stored as JSON."""
    swarm = info.get("Swarm") or {}
    return {
        "id": swarm.get("NodeID", ""),
        "state": swarm.get("LocalNodeState", ""),
        "root": info.get("DockerRootDir", ""),
        "driver": info.get("Driver", ""),
        "images": info.get("Images", 0),
    }


def lost(before: Dict[str, Any], info: Dict[str, Any]) -> Optional[str]:
    """What the node has lost since `standing` gave `before`; None if nothing. What is not known of
    before is not compared."""
    now = standing(info)
    found: List[str] = []
    if before.get("root") and now["root"] != before["root"]:
        found.append("its data root is %s and was %s" % (now["root"], before["root"]))
    if before.get("driver") and now["driver"] != before["driver"]:
        found.append(
            ("its storage driver is %s and was %s [RM134]") % (now["driver"], before["driver"])
        )
    if before.get("images") and not now["images"]:
        found.append("it has none of its %d images" % before["images"])
    if before.get("state") == ACTIVE and now["state"] != ACTIVE:
        found.append(
            "it is no active node of its swarm any more (docker info: %s) [RM135]"
            % (now["state"] or "nothing")
        )
    elif before.get("id") and now["id"] != before["id"]:
        found.append(
            "it has another node id in the swarm, %s instead of %s [RM136]"
            % (now["id"] or "none", before["id"])
        )
    return "; ".join(found) or None


def absence(info: Dict[str, Any]) -> Optional[str]:
    """Why a node that ought to be one of a swarm is none; None if it is one."""
    swarm = info.get("Swarm") or {}
    state = swarm.get("LocalNodeState", "")
    if state == ACTIVE:
        return None
    reason = ": " + str(swarm["Error"]) if swarm.get("Error") else ""
    return (
        "docker is no active node of a swarm here (%s)%s; see `docker node ls` on a manager [RM137]"
    ) % (
        state or "unknown",
        reason,
    )
