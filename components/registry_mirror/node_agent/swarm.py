"""What only a manager can see and do of other nodes: who is there (`view`), draining (`drain`), and
undoing that (`give_back`).

Runs on a manager. The availability that a node had is kept as a label on the node itself, in the
swarm's own store, so that whoever goes on after an interruption, from whichever manager, gives back
exactly that.
"""

import json
import time
from typing import Any, Dict, List

from . import engine
from .files import Failed
from .request import MemberRequest, ViewRequest

LABEL = "swarm-registry-mirror.availability"
DRAIN_SECONDS = 180
"""For the tasks of a node to end; docker gives each 10 s before it kills it, unless its service
says more."""
READY_SECONDS = 90
"""For a restarted node to be Ready again: heartbeats come every 5 s, attempts to connect up to 8 s
apart (swarmkit)."""
POLL_SECONDS = 0.5


def view(_: ViewRequest) -> str:
    """Every node of the swarm, as JSON: id, name (its host name), address, role, availability,
    ready, reachable and leader (managers), held (by us), version (of what the swarm knows of it; it
    grows with every change)."""
    return json.dumps(_nodes())


def drain(request: MemberRequest) -> str:
    """Have no task run on the node `request.id`; returns `drained`. Raises Failed, with the node
    as it was."""
    node = _node(request.id)
    kept = node["held"] or node["availability"]
    # One update: there is no moment in which the node is drained and nobody knows what it was
    # before.
    _docker(
        "node",
        "update",
        "--label-add",
        "%s=%s" % (LABEL, kept),
        "--availability",
        "drain",
        node["id"],
    )
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        tasks = _tasks(node["id"])
        if not tasks:
            return "drained"
        if time.monotonic() > deadline:
            give_back(request)
            words = (
                "%s still run on %s %d s after it was drained; it is %s again, and was not"
                " restarted [RM196]"
            )
            raise Failed(words % (", ".join(tasks), node["name"], DRAIN_SECONDS, kept))
        time.sleep(POLL_SECONDS)


def give_back(request: MemberRequest) -> str:
    """Give the node `request.id` the availability that it had before `drain`; returns that.
    Nothing to do: `as it was`."""
    node = _node(request.id)
    if not node["held"]:
        return "as it was"
    _docker("node", "update", "--label-rm", LABEL, "--availability", node["held"], node["id"])
    return str(node["held"])


def await_ready(request: MemberRequest) -> str:
    """Wait until the swarm sees the node `request.id` ready (and a manager reachable); returns
    `ready`. Raises Failed.

    `request.after`: version of the node from before its restart; a `ready` that is no younger is
    the old docker's, which the swarm believes for 15 s and more. A docker that starts registers
    anew, and that is a new version (swarmkit manager/dispatcher `markNodeReady`; seen on 20.10.24
    and 26.1.5). 0 where nothing was restarted.
    """
    deadline = time.monotonic() + READY_SECONDS
    after = request.after
    while True:
        node = _node(request.id)
        fresh = node["version"] > after
        if fresh and node["ready"] and (node["role"] == "worker" or node["reachable"]):
            return "ready"
        if time.monotonic() > deadline:
            words = "the swarm does not see %s ready %d s after its docker was restarted%s [RM197]"
            stale = " (what it says of it is from before)" if node["ready"] and not fresh else ""
            raise Failed(words % (node["name"], READY_SECONDS, stale))
        time.sleep(POLL_SECONDS)


def _nodes() -> List[Dict[str, Any]]:
    return [member_of(node) for node in inspected()]


def inspected() -> List[Dict[str, Any]]:
    """Every node of the swarm, as `docker node inspect` has it. Raises engine.EngineProblem."""
    ids = _docker("node", "ls", "--quiet").split()
    nodes: List[Dict[str, Any]] = json.loads(_docker("node", "inspect", *ids))
    return nodes


def member_of(node: Dict[str, Any]) -> Dict[str, Any]:
    """What `view` says of a node. Pure."""
    manager = node.get("ManagerStatus") or {}
    return {
        "id": node["ID"],
        "name": node["Description"]["Hostname"],
        "address": _address(node),
        "version": node["Version"]["Index"],
        "role": node["Spec"]["Role"],
        "availability": node["Spec"]["Availability"],
        "ready": node["Status"]["State"] == "ready",
        "reachable": manager.get("Reachability") == "reachable",
        "leader": bool(manager.get("Leader")),
        "held": (node["Spec"].get("Labels") or {}).get(LABEL, ""),
    }


def _address(node: Dict[str, Any]) -> str:
    """The address at which the swarm sees a node. A manager's own is where the others reach it: its
    status may say 0.0.0.0."""
    manager = (node.get("ManagerStatus") or {}).get("Addr") or ""
    found: str = manager.rpartition(":")[0].strip("[]") or node["Status"].get("Addr") or ""
    return found


def _node(identity: str) -> Dict[str, Any]:
    for node in _nodes():
        if node["id"] == identity:
            return node
    raise Failed("the swarm has no node with the id %s [RM198]" % identity)


def _tasks(identity: str) -> List[str]:
    """Names of the tasks that are still alive on a node."""
    lines = _docker("node", "ps", "--format", "{{.Name}} {{.CurrentState}}", identity).splitlines()
    return [
        line.split()[0]
        for line in lines
        if line.split()[1] in ("Running", "Starting", "Preparing", "Ready", "Assigned")
    ]


def _docker(*words: str) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            return engine.run("docker", *words)
        except engine.EngineProblem as error:
            # While managers choose a new leader they answer nothing else; that takes seconds.
            if not any(
                passing in str(error)
                for passing in (
                    "leader",
                    "out of sequence",
                    "DeadlineExceeded",
                    "deadline exceeded",
                )
            ):
                raise
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
