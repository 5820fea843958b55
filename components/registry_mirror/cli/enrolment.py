"""Compares the list of nodes with the members of the swarm: who is in no list, and which entries
are no members. Pure.

A member is known by the id that its own docker gives, which is another one after it has left and
joined again. The id of a machine that could not be asked is not known: it is taken to be the member
with its address or its host name, and said with a "perhaps".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from ..node_agent.daemon_keys import version_of
from ..node_agent.hosts_plan import SINCE
from .deployed import Machine
from .look import Look

LABEL = "registry-mirror"
"""Of a node in the swarm; with the value `off` it is in no list on purpose."""
NOT_LISTED, PERHAPS = "NOT LISTED", "PERHAPS LISTED"
"""The state of a member that is in no list; or may be an entry that could not be asked."""


@dataclass(frozen=True)
class Member:
    """A node of the swarm, as a manager sees it."""

    id: str
    name: str
    """Its host name."""
    address: str
    role: str
    engine: str
    """docker's version."""
    labels: Mapping[str, str] = field(default_factory=dict)
    availability: str = "active"
    ready: bool = True
    os: str = "linux"
    guarded: bool = False
    """Whether the guard's task runs there."""
    perhaps: Sequence[str] = ()
    """Names of entries of the list that could not be asked, each of which it may be."""

    @property
    def state(self) -> str:
        """One word for a member that no entry is known to be."""
        return PERHAPS if self.perhaps else NOT_LISTED

    @property
    def is_left_out(self) -> bool:
        """Whether it is in no list on purpose, or docker's mirrors are none of its business."""
        return self.labels.get(LABEL) == "off" or self.os not in ("", "linux")

    @property
    def sentence(self) -> str:
        """What is wrong with a member that is in no list, and what to do."""
        place = f"it is a {self.role} of the swarm at {self.address or 'an unknown address'}"
        if self.perhaps:
            return (
                f"{place}, and perhaps {' or '.join(self.perhaps)} of the list, which could not be"
                " asked; else it is in no list"
            )
        covered = (
            "; the guard runs there, which enters the mirror where docker keeps its images in"
            " containerd's store, and checks nothing"
            if self.guarded and version_of(self.engine) >= SINCE
            else ""
        )
        return (
            f"{place}, and in no list, so no `pulumi up` has configured its docker{covered};"
            " `swarm-registry-mirror nodes` prints its entry, and if it is to stay out of the list:"
            f" docker node update --label-add {LABEL}=off {self.id}"
        )


@dataclass(frozen=True)
class Enrolment:
    """How the list and the swarm differ."""

    unlisted: list[Member] = field(default_factory=list)
    """Members that are in no list."""
    absent: list[str] = field(default_factory=list)
    """Names of entries that are no members of the swarm."""
    hazards: dict[str, list[str]] = field(default_factory=dict)
    """Name of an entry -> what to know of its place in the swarm."""
    members: dict[str, Member] = field(default_factory=dict)
    """Name of an entry -> the member that it is, or perhaps is."""


def member(answer: Mapping[str, Any]) -> Member:
    """A member out of an answer of `members.view`."""
    names = Member.__dataclass_fields__
    return Member(**{name: value for name, value in answer.items() if name in names})


def compare(
    looks: Sequence[Look], listed: Iterable[Machine], members: Iterable[Member]
) -> Enrolment:
    """The differences.

    Args:
        looks: How the nodes are that were asked.
        listed: Every machine that the stack names, whether it was asked or not.
        members: The swarm's.
    """
    members = list(members)
    machines = {machine.name: machine for machine in listed}
    known = {look.id: look.node for look in looks if look.id}
    found = Enrolment()
    by_id = {each.id: each for each in members}
    for look in looks:
        if look.id in by_id:
            found.members[look.node] = by_id[look.id]
    # One that is in no swarm has no id, and neither has one whose docker does not answer.
    asked = {look.node for look in looks if look.reachable and (look.id or look.engine)}
    in_no_swarm = {look.node for look in looks if look.node in asked and not look.id}
    for each in members:
        if each.id in known:
            continue
        names = [name for name, machine in machines.items() if is_same(each, machine)]
        not_asked = [name for name in names if name not in asked]
        if not_asked:
            found.members.setdefault(not_asked[0], each)
        elif names and (not each.ready or in_no_swarm.intersection(names)):
            found.hazards.setdefault(names[0], []).append(
                f"the swarm still has the node {each.id}, which this machine was before it left;"
                f" docker node rm {each.id}"
            )
        elif not each.is_left_out:
            found.unlisted.append(each)
    # A host name and an address of the swarm's own may both be unknown to the list.
    not_known = tuple(
        look.node for look in looks if not look.reachable and look.node not in found.members
    )
    found.unlisted[:] = [replace(each, perhaps=not_known) for each in found.unlisted]
    for look in looks:
        if look.node in found.members:
            if not look.reachable:
                found.hazards.setdefault(look.node, []).append(
                    f"it is perhaps the node {found.members[look.node].id} of the swarm, by its"
                    " address or host name"
                )
            continue
        found.absent.append(look.node)
        if not look.reachable:
            found.hazards.setdefault(look.node, []).append(
                "perhaps it is no member of the swarm any more: none has its address or host name;"
                " see `docker node ls`"
            )
    return found


def is_same(each: Member, machine: Machine) -> bool:
    """Whether a member has the address or the host name of a machine in the list."""
    host = host_of(machine)
    names = {each.name.lower(), each.name.partition(".")[0].lower()}
    return host in (each.address.lower(), each.name.lower()) or machine.name.lower() in names


def host_of(machine: Machine) -> str:
    """The address at which ssh reaches a machine."""
    try:
        return (urlsplit(machine.environment.get("MIRROR_SSH", "")).hostname or "").lower()
    except ValueError:
        return ""


def as_look(each: Member) -> Look:
    """A member that is in no list, as a row of `status`."""
    return Look(
        each.name,
        False,
        engine=each.engine,
        swarm_faults=[each.sentence],
        id=each.id,
        availability=each.availability,
    )


def as_json(each: Member) -> dict[str, object]:
    """For scripts: the fields of every node, and what a manager knows. Nobody has asked it, so
    `reachable` is null."""
    return {
        **asdict(as_look(each)),
        **{name: getattr(each, name) for name in ("address", "role", "guarded", "ready")},
        "labels": dict(each.labels),
        "perhaps": list(each.perhaps),
        "reachable": None,
        "drifted": False,
        "state": each.state,
        "in_list": None if each.perhaps else False,
        "is_member": True,
    }
