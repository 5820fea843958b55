"""Goes from node to node: drain, restart, wait until it is ready, give it back its availability, see the mirror from it.

Owns the sequence and what is left behind if a step fails: a node keeps its old availability, docker runs, the rest is not
touched. What happens on a machine is done by the node agent, which is sent there; here is only who, when, and whether.
"""

import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .. import answer
from . import order, ssh

AT_ONCE = 8
"""Nodes that are asked at the same time; restarted is one after the other."""
AGENT_SECONDS = 660
"""Longer than the limit under which the agent runs on the node (ship.py, RESTART_LIMIT)."""

Node = Mapping[str, Any]

RESTARTED = "restarted"
"""The agent's word where it has restarted docker (node_agent/restart.py)."""
DUE = "restart due"
"""What the agent's word ends with when a node waits (node_agent/node.py)."""


class RestartFailed(Exception):
    """The roll-out of restarts has ended early; the message says at which node, why, and how that is now."""


class NotReady(RestartFailed):
    """docker runs on the node, and the swarm does not see it."""


def run(request: Mapping[str, Any]) -> str:
    """Restart the nodes that wait for it; returns what was done. Raises RestartFailed.

    `nodes`: each has `name`, how to reach it (`environment`, see `runner.sh`) and `settings` for the agent. `runner`: path of
    that script. `private_keys`: node name -> SSH key, of those that have one as text. `told`: node name -> what the agent said
    when it was last told; only those that were left waiting are asked again. `manager`: name of the node that is asked about the
    swarm first.
    """
    asked = [node for node in request["nodes"] if DUE in request["told"].get(node["name"], "")]
    return _restart_all(request, request["nodes"], asked)


def release(request: Mapping[str, Any]) -> str:
    """The way back: have the nodes go without `restart_keys`, as they were before. Raises RestartFailed.

    Every node is asked, also where no key is managed any more: what was said when it was last told is no history of what it has.
    """
    nodes: list[Node] = []
    for node in request["nodes"]:
        keys = {key: value for key, value in node["settings"]["keys"].items() if key not in request["restart_keys"]}
        nodes.append({**node, "settings": {**node["settings"], "keys": keys}})
    return _restart_all(request, nodes, nodes)


def _restart_all(request: Mapping[str, Any], nodes: list[Node], asked: list[Node]) -> str:
    if not asked:
        return "no restart was needed"
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        answers = list(pool.map(lambda node: _due(request, node), asked))
    waiting = {node["name"]: found for node, found in zip(asked, answers, strict=True) if found["due"]}
    left = [(node, found["id"]) for node, found in zip(asked, answers, strict=True) if found["unverified"] and not found["due"]]
    for name, found in waiting.items():
        for reason in found["reasons"]:
            _say(f"{name}: {reason}")
    manager, members = _swarm(request, nodes)
    claims = {**{name: found["id"] for name, found in waiting.items()}, **{node["name"]: identity for node, identity in left}}
    wrong = order.identify(claims, request["nodes"], members)
    if wrong:
        raise RestartFailed("no docker was restarted: " + "; ".join(wrong))
    _heal(request, manager, members, waiting)
    for node, identity in left:
        _say(f"{node['name']}: was restarted by an interrupted run; whether it is well is looked at now")
        try:
            _verify(request, nodes, node, identity)
        except RestartFailed as error:
            raise RestartFailed(f"{node['name']}: {error}") from None
    if not waiting:
        return f"verified: {', '.join(node['name'] for node, _ in left)}" if left else "no restart was needed"
    due = {name: found["id"] for name, found in waiting.items()}
    if request["restart"] == "never":
        raise RestartFailed(f"no docker was restarted: {', '.join(due)} wait for it, and restart is never; set it to when-needed")
    wrong = order.refusals(due, members, request["allow_quorum_loss"])
    if wrong:
        raise RestartFailed("no docker was restarted: " + "; ".join(wrong))
    named = {node["name"]: node for node in nodes}
    turns = order.order(due, members)
    for turn, name in enumerate(turns, 1):
        _say(f"{name}: its docker is restarted ({turn} of {len(turns)})")
        try:
            _restart(request, nodes, named[name], due[name])
        except RestartFailed as error:
            others = turns[turn:]
            raise RestartFailed(f"{name}: {error}" + (f"; not restarted: {', '.join(others)}" if others else "")) from None
    return f"restarted: {', '.join(turns)}"


def _restart(request: Mapping[str, Any], nodes: list[Node], node: Node, identity: str) -> None:
    manager, members = _swarm(request, nodes, without=node)
    me = next((member for member in members if member["id"] == identity), None)
    # Once more, because a manager may have gone since the first look.
    if me is not None and me["role"] == "manager" and not request["allow_quorum_loss"]:
        wrong = order.quorum_fault(members)
        if wrong:
            raise RestartFailed(f"not restarted: {wrong}")
    try:
        _agent(request, manager, "swarm.drain", id=identity)
        version = _version(request, nodes, node, identity)
        restarted = _agent(request, node, "restart.run") == RESTARTED
        _give_back(request, nodes, node, identity, after=version if restarted else 0)
    except NotReady as error:
        raise RestartFailed(f"{error}; {_undo(request, nodes, node, identity)}") from None
    except RestartFailed as error:
        raise RestartFailed(f"{error}{_released(request, nodes, node, identity)}") from None
    except BaseException:  # ctrl-c, or a fault of ours: no node is left drained by that either
        _released(request, nodes, node, identity)
        raise
    _verify(request, nodes, node, identity)


def _verify(request: Mapping[str, Any], nodes: list[Node], node: Node, identity: str) -> None:
    """Whether a restarted node that has its tasks again is well; it goes back if not. Raises RestartFailed."""
    try:
        _agent(request, node, "restart.verify")
    except RestartFailed as error:
        raise RestartFailed(f"{error}; {_undo(request, nodes, node, identity)}") from None


def _undo(request: Mapping[str, Any], nodes: list[Node], node: Node, identity: str) -> str:
    """Have a node that is not well after its restart go back to what it was, and verify that; returns how that went."""
    try:
        manager, _ = _swarm(request, nodes, without=node)
        _agent(request, manager, "swarm.drain", id=identity)
        version = _version(request, nodes, node, identity)
        words = _agent(request, node, "restart.undo")
        _give_back(request, nodes, node, identity, after=version)
    except RestartFailed as error:
        return f"UNDOING THAT FAILED TOO: {error}{_released(request, nodes, node, identity)}"
    try:
        _agent(request, node, "restart.verify")
    except RestartFailed as error:
        return f"{words}; it is not well with that either: {error}"
    return words


def _released(request: Mapping[str, Any], nodes: list[Node], node: Node, identity: str) -> str:
    """After a failure: give the node its availability back, whether the swarm sees it ready or not; returns what is left to say.

    A node that is away gets no task whatever its availability is, and once it is back it must not be found drained.
    """
    reason = ""
    try:
        manager, _ = _swarm(request, nodes, without=node)
        try:
            _agent(request, manager, "swarm.await_ready", id=identity)
        except RestartFailed as error:
            reason = f"; {error}"
        _agent(request, manager, "swarm.give_back", id=identity)
    except RestartFailed as error:
        return f"{reason}; IT IS STILL DRAINED: {error}"
    return reason


def _version(request: Mapping[str, Any], nodes: list[Node], node: Node, identity: str) -> int:
    """Version of what the swarm knows of a node, so that news can be told from what was known before."""
    _, members = _swarm(request, nodes, without=node)
    return max((member.get("version", 0) for member in members if member["id"] == identity), default=0)


def _give_back(request: Mapping[str, Any], nodes: list[Node], node: Node, identity: str, after: int) -> None:
    """Give a node its availability back once the swarm sees it ready, which must be news. Raises NotReady, or RestartFailed."""
    manager, _ = _swarm(request, nodes, without=node)
    try:
        _agent(request, manager, "swarm.await_ready", id=identity, after=after)
    except RestartFailed as error:
        raise NotReady(str(error)) from None
    _agent(request, manager, "swarm.give_back", id=identity)


def _heal(request: Mapping[str, Any], manager: Node, members: list[dict[str, Any]], waiting: Mapping[str, Any]) -> None:
    """Give back what an interrupted run has left drained."""
    turn = {found["id"] for found in waiting.values()}
    for member in members:
        if member["held"] and member["id"] not in turn:
            _agent(request, manager, "swarm.give_back", id=member["id"])
            _say(f"{member['name']}: was left drained by an interrupted run; it is {member['held']} again")


def _swarm(request: Mapping[str, Any], nodes: list[Node], without: Node | None = None) -> tuple[Node, list[dict[str, Any]]]:
    """The first manager that answers, and the swarm as it sees it.

    Another one than the node whose turn it is, which cannot say how it does itself; that one only where there is no other.
    """

    def rank(node: Node) -> int:
        return 2 if without is not None and node["name"] == without["name"] else int(node["name"] != request["manager"])

    first: Exception | None = None
    for node in sorted(nodes, key=rank):
        try:
            return node, _parsed(node, _agent(request, node, "swarm.view"), list)
        except RestartFailed as error:
            first = first or error
    raise RestartFailed(f"no manager of the swarm answers among {', '.join(node['name'] for node in nodes)}: {first}")


def _due(request: Mapping[str, Any], node: Node) -> dict[str, Any]:
    """What a node says of itself. Raises RestartFailed where that is not of the agreed shape."""
    found: dict[str, Any] = _parsed(node, _agent(request, node, "restart.due"), dict)
    shape = {"due": list, "reasons": list, "id": str, "unverified": bool}
    wrong = [name for name, kind in shape.items() if not isinstance(found.get(name), kind)]
    if wrong:
        raise RestartFailed(f"{node['name']}: its agent's answer has no usable {', '.join(wrong)}; does its shell change output?")
    return found


def _parsed(node: Node, text: str, kind: type) -> Any:
    """JSON of an answer. Raises RestartFailed with the node's name where it is something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, kind):
        raise RestartFailed(f"{node['name']}: its agent answered with something else than JSON: {text[:80]!r}")
    return found


def _agent(request: Mapping[str, Any], node: Node, action: str, **settings: Any) -> str:
    """What the agent says on a node. Raises RestartFailed with its own words."""
    stdin = json.dumps({**node["settings"], **settings})
    try:
        done = ssh.run(request["runner"], action, {**node["environment"], **_key(request, node)}, stdin, AGENT_SECONDS)
    except Exception as error:
        # Whatever it is (no shell, bytes that are no text): it is this node's failure, and what was begun is undone.
        raise RestartFailed(f"{node['name']}: {action} came to nothing: {error}") from error
    who = f"{node['name']}: " * (done.returncode == 0)
    if done.returncode != 0:
        raise RestartFailed(who + answer.complaint(done.stderr, done.returncode, done.stdout))
    try:
        return answer.find(done.stdout)
    except answer.NoAnswer as error:
        raise RestartFailed(f"{who}{error}") from None


def _key(request: Mapping[str, Any], node: Node) -> dict[str, str]:
    """The node's private key, where it is given as text."""
    key = request["private_keys"].get(node["name"])
    return {} if key is None else {"MIRROR_PRIVATE_KEY": key}


def _say(text: str) -> None:
    """Progress, for the person who waits; Pulumi shows stderr as it comes."""
    print(text, file=sys.stderr, flush=True)
