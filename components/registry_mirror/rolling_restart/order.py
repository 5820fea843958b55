"""Whose turn it is, and whether it may be: workers first, managers one at a time, the leader last,
quorum kept. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

Member = Mapping[str, Any]
"""A node as `node_agent/swarm.py` sees it."""


def identify(
    claims: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], members: Sequence[Member]
) -> list[str]:
    """Why the nodes' own words on who they are in the swarm cannot be believed, all reasons at
    once; empty if they can.

    `claims`: node name -> the id that the node gives. `nodes`: all configured nodes, with `name`
    and `address`. A manager's view decides: a node may have an id that the manager sees at its
    address or under its name, or else one that is nobody else's. Otherwise a worker that was broken
    into could have another node drained, or be counted as a manager.
    """
    known = {member["id"]: member for member in members}
    seen = {node["name"]: _ids_at(node, members) for node in nodes}
    found = []
    for name, claim in claims.items():
        if not isinstance(claim, str):
            found.append(f"{name} does not say who it is in the swarm, but {str(claim)[:40]!r}")
            continue
        twice = [
            other for other, value in claims.items() if other != name and value == claim and claim
        ]
        if twice:
            found.append(
                f"{name} and {twice[0]} both say that they are the node {claim} of the swarm"
            )
        elif claim in known and claim not in seen.get(name, set()):
            theirs = [other for other, ids in seen.items() if claim in ids]
            if theirs or seen.get(name):
                member = known[claim]
                words = (
                    f"{name} says that it is the node {claim} of the swarm, which a manager"
                    f" knows as {member['name']}"
                )
                found.append(
                    f"{words} ({member.get('address', '')}):"
                    f" {theirs[0] if theirs else 'another machine'}, not {name}"
                )
    return found


def _ids_at(node: Mapping[str, Any], members: Sequence[Member]) -> set[str]:
    """The ids that a manager sees at a configured node's address; without one, those under its
    name. A machine that has left the swarm and joined it again is in the list twice."""
    address = node.get("address", "")
    found = {member["id"] for member in members if address and member.get("address") == address}
    return found or {
        member["id"] for member in members if member["name"] in (node["name"], address)
    }


def order(due: Mapping[str, str], members: Sequence[Member]) -> list[str]:
    """Names of the nodes that wait for a restart, in the order of their turns. `due`: name -> id in
    the swarm.

    The leader last, because each restart of a leader costs an election: this way there is one at
    most.
    """
    known = {member["id"]: member for member in members}

    def rank(name: str) -> int:
        member = known.get(due[name], {})
        return 2 if member.get("leader") else 1 if member.get("role") == "manager" else 0

    return sorted(due, key=rank)  # stable: nodes of one rank keep the order of the configuration


def refusals(
    due: Mapping[str, str], members: Sequence[Member], allow_quorum_loss: bool
) -> list[str]:
    """Why nothing may be restarted, all reasons at once; empty if it may be."""
    known = {member["id"]: member for member in members}
    found = [
        f"{name} is no member of this swarm (docker info: node id {id_ or 'none'})"
        for name, id_ in due.items()
        if id_ not in known
    ]
    managers = [name for name, id_ in due.items() if known.get(id_, {}).get("role") == "manager"]
    if managers and not allow_quorum_loss:
        wrong = quorum_fault(members)
        if wrong:
            verb = "is" if len(managers) == 1 else "are"
            found.append(f"{', '.join(managers)} {verb} not restarted: {wrong}")
    return found


def quorum_fault(members: Sequence[Member]) -> str | None:
    """Why no manager may be restarted; None if one may.

    Quorum is more than half of the managers (swarmkit raft.go): one of three, or two of five, may
    be away, and none of two.
    """
    managers = [member for member in members if member["role"] == "manager"]
    reachable = [member for member in managers if member["reachable"]]
    needed = len(managers) // 2 + 1
    if len(managers) == 1:
        return (
            "it is the swarm's only manager, which would be without one meanwhile;"
            " allowQuorumLoss permits that [RM206]"
        )
    if len(reachable) - 1 < needed:
        words = (
            f"{len(reachable)} of {len(managers)} managers are reachable and {needed} are"
            " needed for quorum"
        )
        return (
            f"{words}, so none may go; add managers, bring back those that are away, or permit"
            " it by allowQuorumLoss"
        )
    return None
