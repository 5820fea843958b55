"""Whose turn it is, and whether it may be: workers first, managers one at a time, the leader last, quorum kept. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

Member = Mapping[str, Any]
"""A node as `node_agent/swarm.py` sees it."""


def order(due: Mapping[str, str], members: Sequence[Member]) -> list[str]:
    """Names of the nodes that wait for a restart, in the order of their turns. `due`: name -> id in the swarm.

    The leader last, because each restart of a leader costs an election: this way there is one at most.
    """
    known = {member["id"]: member for member in members}

    def rank(name: str) -> int:
        member = known.get(due[name], {})
        return 2 if member.get("leader") else 1 if member.get("role") == "manager" else 0

    return sorted(due, key=rank)  # stable: nodes of one rank keep the order of the configuration


def refusals(due: Mapping[str, str], members: Sequence[Member], allow_quorum_loss: bool) -> list[str]:
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

    Quorum is more than half of the managers (swarmkit raft.go): one of three, or two of five, may be away, and none of two.
    """
    managers = [member for member in members if member["role"] == "manager"]
    reachable = [member for member in managers if member["reachable"]]
    needed = len(managers) // 2 + 1
    if len(managers) == 1:
        return "it is the swarm's only manager, which would be without one meanwhile; allowQuorumLoss permits that"
    if len(reachable) - 1 < needed:
        words = f"{len(reachable)} of {len(managers)} managers are reachable and {needed} are needed for quorum"
        return f"{words}, so none may go; add managers, bring back those that are away, or permit it by allowQuorumLoss"
    return None
