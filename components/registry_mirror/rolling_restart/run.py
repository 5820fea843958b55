"""Goes from node to node: drain, restart, wait until it is ready, give it back its availability,
see the mirror from it.

Owns the sequence and what is left behind if a step fails: a node keeps its old availability, docker
runs, the rest is not touched. What happens on a machine is done by the node agent, which is sent
there. This module decides only which node, when, and whether.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..node_agent import outcome
from ..node_agent.request import MemberRequest, NodeToRestart, RestartsRequest, ViewRequest
from . import order
from .agent import Agent, RestartFailed, parsed

AT_ONCE = 8
"""Nodes that are asked at the same time; restarted is one after the other."""

NOT_NEEDED = "no restart was needed"


class NotReady(RestartFailed):
    """docker runs on the node, and the swarm does not see it."""


class Due(NamedTuple):
    """What a node says of itself (`restart.due`)."""

    node: NodeToRestart
    keys: list[str]
    """That wait for a restart."""
    reasons: list[str]
    identity: str
    """In the swarm."""
    unverified: bool
    """Whether an interrupted run restarted it, and nobody has seen yet that it is healthy."""


def run(request: RestartsRequest, ask: Agent) -> str:
    """Restart the nodes that wait for it; returns what was done. Raises RestartFailed.

    Only nodes that were left waiting, as their last change said (`told`), are asked again.
    """
    waiting = [
        node for node in request.nodes if outcome.read(request.told.get(node.name, "")).pending
    ]
    return RollingRestart(request, request.nodes, ask).run(waiting)


def release(request: RestartsRequest, ask: Agent) -> str:
    """The rollback: have the nodes run without `restart_keys`, as they did before. Raises
    RestartFailed.

    Every node is asked, also where no key is managed any more: what its last change came to is no
    history of what it has.
    """
    nodes = []
    for node in request.nodes:
        keys = {
            key: value
            for key, value in node.settings.managed_keys.items()
            if key not in request.restart_keys
        }
        nodes.append(replace(node, settings=replace(node.settings, managed_keys=keys)))
    return RollingRestart(request, nodes, ask).run(nodes)


@dataclass(frozen=True)
class RollingRestart:
    """The restarts of one run."""

    request: RestartsRequest
    nodes: list[NodeToRestart]
    """With the settings that they are to have."""
    ask: Agent

    def run(self, asked: list[NodeToRestart]) -> str:
        """Restart those of `asked` that wait for it; returns what was done. Raises
        RestartFailed."""
        if not asked:
            return NOT_NEEDED
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            answers = list(pool.map(self._due, asked))
        waiting = [each for each in answers if each.keys]
        unverified = [each for each in answers if each.unverified and not each.keys]
        for each in waiting:
            for reason in each.reasons:
                _say(f"{each.node.name}: {reason}")
        members = self._check_identities([*waiting, *unverified], waiting)
        for each in unverified:
            self._verify_leftover(each)
        if not waiting:
            names = ", ".join(each.node.name for each in unverified)
            return f"verified: {names}" if unverified else NOT_NEEDED
        self._check_permission(waiting, members)
        return self._restart_in_turn(waiting, members)

    def _check_identities(self, asked: list[Due], waiting: list[Due]) -> list[dict[str, Any]]:
        """The swarm, as a manager sees it, in which every node is who it says; what an interrupted
        run has left drained is given back. Raises RestartFailed."""
        manager, members = self.swarm()
        claims = {each.node.name: each.identity for each in asked}
        places = [{"name": node.name, "address": address_of(node)} for node in self.request.nodes]
        doubts = order.identify(claims, places, members)
        if doubts:
            raise RestartFailed("no docker was restarted: " + "; ".join(doubts))
        turn = {each.identity for each in waiting}
        for member in members:
            if member["held"] and member["id"] not in turn:
                self.ask(manager, "swarm.give_back", MemberRequest(member["id"]))
                _say(
                    f"{member['name']}: was left drained by an interrupted run; it is"
                    f" {member['held']} again"
                )
        return members

    def _verify_leftover(self, each: Due) -> None:
        """What an interrupted run did not come to. Raises RestartFailed."""
        name = each.node.name
        _say(f"{name}: was restarted by an interrupted run; whether it is healthy is checked now")
        try:
            Turn(self, each.node, each.identity).verify()
        except RestartFailed as error:
            raise RestartFailed(f"{name}: {error}") from None

    def _check_permission(self, waiting: list[Due], members: list[dict[str, Any]]) -> None:
        """That the nodes may be restarted. Raises RestartFailed."""
        identities = {each.node.name: each.identity for each in waiting}
        if self.request.restart == "never":
            raise RestartFailed(
                f"no docker was restarted: {', '.join(identities)} wait for it, and restart is"
                " never; set it to when-needed [RM227]"
            )
        refusals = order.refusals(identities, members, self.request.allow_quorum_loss)
        if refusals:
            raise RestartFailed("no docker was restarted: " + "; ".join(refusals))

    def _restart_in_turn(self, waiting: list[Due], members: list[dict[str, Any]]) -> str:
        """One node after the other; the first that fails ends it. Raises RestartFailed."""
        named = {each.node.name: each for each in waiting}
        turns = order.order({name: each.identity for name, each in named.items()}, members)
        for turn, name in enumerate(turns, 1):
            _say(f"{name}: its docker is restarted ({turn} of {len(turns)})")
            try:
                Turn(self, named[name].node, named[name].identity).restart()
            except RestartFailed as error:
                others = ", ".join(turns[turn:])
                ending = f"; not restarted: {others}" if others else ""
                raise RestartFailed(f"{name}: {error}{ending}") from None
        return f"restarted: {', '.join(turns)}"

    def swarm(
        self, without: NodeToRestart | None = None
    ) -> tuple[NodeToRestart, list[dict[str, Any]]]:
        """The first manager that answers, and the swarm as it sees it. Raises RestartFailed.

        Prefers a manager other than the node being restarted (`without`), which cannot report on
        itself; falls back to it if it is the only one.
        """

        def rank(node: NodeToRestart) -> int:
            if without is not None and node.name == without.name:
                return 2
            return int(node.name != self.request.manager)

        first: Exception | None = None
        for node in sorted(self.nodes, key=rank):
            try:
                return node, parsed(node, self.ask(node, "swarm.view", ViewRequest()), list)
            except RestartFailed as error:
                first = first or error
        raise RestartFailed(
            f"no manager of the swarm answers among {', '.join(node.name for node in self.nodes)}:"
            f" {first} [RM226]"
        )

    def _due(self, node: NodeToRestart) -> Due:
        """What a node says of itself. Raises RestartFailed where that is not of the agreed
        shape."""
        fields = parsed(node, self.ask(node, "restart.due", node.settings), dict)
        shape = {"due": list, "reasons": list, "id": str, "unverified": bool}
        unusable = [name for name, kind in shape.items() if not isinstance(fields.get(name), kind)]
        if unusable:
            raise RestartFailed(
                f"{node.name}: its agent's answer has no usable {', '.join(unusable)}; does its"
                " shell change output? [RM228]"
            )
        return Due(node, fields["due"], fields["reasons"], fields["id"], fields["unverified"])


@dataclass(frozen=True)
class Turn:
    """The restart of one node."""

    all: RollingRestart
    node: NodeToRestart
    identity: str
    """In the swarm."""

    def restart(self) -> None:
        """Drain, restart, give back, verify. Raises RestartFailed, with how the node is then."""
        manager, members = self._others()
        me = next((member for member in members if member["id"] == self.identity), None)
        # Once more, because a manager may have gone since the first look.
        if me is not None and me["role"] == "manager" and not self.all.request.allow_quorum_loss:
            fault = order.quorum_fault(members)
            if fault:
                raise RestartFailed(f"not restarted: {fault}")
        try:
            self._on(manager, "swarm.drain")
            version = self._version()
            restarted = self.all.ask(self.node, "restart.run", self.node.settings)
            self._give_back(after=version if restarted == outcome.RESTARTED else 0)
        except NotReady as error:
            raise RestartFailed(f"{error}; {self._undo()}") from None
        except RestartFailed as error:
            raise RestartFailed(f"{error}{self._released()}") from None
        except BaseException:  # ctrl-c, or a fault of ours: no node is left drained by that either
            self._released()
            raise
        self.verify()

    def verify(self) -> None:
        """Whether the restarted node, which has its tasks again, is healthy; what was there before
        is restored if not. Raises RestartFailed."""
        try:
            self.all.ask(self.node, "restart.verify", self.node.settings)
        except RestartFailed as error:
            raise RestartFailed(f"{error}; {self._undo()}") from None

    def _undo(self) -> str:
        """Have the node go back to what it was before its restart, and verify that; returns how
        that went."""
        try:
            manager, _ = self._others()
            self._on(manager, "swarm.drain")
            version = self._version()
            ending = self.all.ask(self.node, "restart.undo", self.node.settings)
            self._give_back(after=version)
        except RestartFailed as error:
            return f"UNDOING THAT FAILED TOO: {error}{self._released()}"
        try:
            self.all.ask(self.node, "restart.verify", self.node.settings)
        except RestartFailed as error:
            return f"{ending}; it is not healthy with that either: {error}"
        return ending

    def _released(self) -> str:
        """After a failure: give the node its availability back, whether the swarm sees it ready or
        not; returns what is left to say.

        A node that is unavailable gets no task whatever its availability is, and once it is back it
        must not be found drained.
        """
        reason = ""
        try:
            manager, _ = self._others()
            try:
                self._on(manager, "swarm.await_ready")
            except RestartFailed as error:
                reason = f"; {error}"
            self._on(manager, "swarm.give_back")
        except RestartFailed as error:
            return f"{reason}; IT IS STILL DRAINED: {error}"
        return reason

    def _version(self) -> int:
        """Version of what the swarm knows of the node; it shows whether something is news."""
        _, members = self._others()
        versions = [member.get("version", 0) for member in members if member["id"] == self.identity]
        return max(versions, default=0)

    def _give_back(self, after: int) -> None:
        """Give the node its availability back once the swarm sees it ready, which must be news.
        Raises NotReady, or RestartFailed."""
        manager, _ = self._others()
        try:
            self._on(manager, "swarm.await_ready", after)
        except RestartFailed as error:
            raise NotReady(str(error)) from None
        self._on(manager, "swarm.give_back")

    def _others(self) -> tuple[NodeToRestart, list[dict[str, Any]]]:
        """A manager that can say how this node does, and the swarm as it sees it."""
        return self.all.swarm(without=self.node)

    def _on(self, manager: NodeToRestart, action: str, after: int = 0) -> None:
        self.all.ask(manager, action, MemberRequest(self.identity, after))


def address_of(node: NodeToRestart) -> str:
    """Where a node is reached, as the swarm may know it; empty where that is not said."""
    return urlsplit(node.environment.get("MIRROR_SSH", "")).hostname or ""


def _say(text: str) -> None:
    """Progress, for the person who waits; Pulumi shows stderr as it comes."""
    print(text, file=sys.stderr, flush=True)
