"""`status`: how every node is, compared with what the last `pulumi up` did, and which members of
the swarm are in no list. It changes nothing."""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from . import deployed, enrolment, nodes, stack, verdict
from .console import Verb, progress, table, worst
from .deployed import Machine, Mirror
from .enrolment import Member
from .errors import DRIFTED, OK
from .look import Look

HEAD = (
    "node",
    "state",
    "docker",
    "goes by",
    "in that file",
    "docker uses it",
    "original kept",
    "edited since",
)


def run(options: argparse.Namespace) -> int:
    """Look at all nodes of all mirrors, and at the members of their swarms that are in no list."""
    state = stack.chosen(options).state()
    mirrors = deployed.mirrors(state, options.mirror)
    everywhere = [
        machine for mirror in deployed.mirrors(state) for machine in (*mirror.nodes, mirror.manager)
    ]
    surveys = [(mirror, survey(mirror, everywhere)) for mirror in mirrors]
    listed = {look.id for _, each in surveys for look in each.looks}
    states = [
        (mirror, each, [member for member in each.enrolment.unlisted if member.id not in listed])
        for mirror, each in surveys
    ]
    if options.json:
        print(
            json.dumps(
                [
                    {**entry, "mirror": mirror.name}
                    for mirror, each, unlisted in states
                    for entry in (
                        *(as_json(look, each) for look in each.looks),
                        *map(enrolment.as_json, unlisted),
                    )
                ],
                indent=1,
            )
        )
    else:
        for mirror, each, unlisted in states:
            print(heading(mirror, len(states)) + as_table(each.looks, unlisted))
    return worst([exit_code(each.looks, unlisted) for _, each, unlisted in states])


def as_json(look: Look, survey: nodes.Survey) -> dict[str, object]:
    """A node of the list, for scripts. `is_member`: whether the swarm has it; null where that is
    not known."""
    is_known = survey.members is not None and look.reachable
    return {
        **verdict.as_json(look),
        "in_list": True,
        "is_member": look.node not in survey.enrolment.absent if is_known else None,
    }


def exit_code(looks: list[Look], unlisted: Sequence[Member]) -> int:
    """The nodes' own; a member that is in no list is a drift, whether a guard runs there or not.

    A manager cannot see whether the guard has any effect there: that hangs on the image store. And
    the guard enters no managed key and no registry without fallback, and verifies nothing.
    """
    certain = [member for member in unlisted if not member.perhaps]
    return worst([verdict.exit_code(looks), DRIFTED if certain else OK])


def survey(mirror: Mirror, others: Iterable[Machine] = ()) -> nodes.Survey:
    """How a mirror's nodes are, by name: where a person looks one up."""
    with progress(f"asking {len(mirror.nodes)} nodes of {mirror.name}"):
        found = nodes.survey(mirror, others)
    return replace(
        found,
        looks=sorted(found.looks, key=lambda look: natural(look.node)),
    )


def looks(mirror: Mirror) -> list[Look]:
    """The nodes alone, by name."""
    return survey(mirror).looks


def heading(mirror: Mirror, of: int) -> str:
    """A line that says which mirror it is about, where there are several."""
    return f"\n  {mirror.name}: {mirror.gate.get('mirror', '')}\n" if of > 1 else ""


def natural(name: str) -> list[tuple[int, int, str]]:
    """By which node2 comes before node10."""
    parts: list[str] = []
    for character in name:
        if parts and parts[-1][-1].isdecimal() == character.isdecimal():
            parts[-1] += character
        else:
            parts.append(character)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def faults_of(look: Look) -> list[str]:
    """All that is wrong with a node, with its place in the swarm, and with its mirror."""
    return [*look.faults, *look.swarm_faults, *look.mirror_faults]


def as_table(states: list[Look], unlisted: Sequence[Member] = ()) -> str:
    """A row for each node, then one for each member that is in no list, and the faults below."""

    def yes(value: bool) -> str:
        return "yes" if value else "NO"

    # Docker Hub alone goes without saying.
    several = any(len(look.registries) > 1 for look in states)
    head = (*HEAD, "asks the mirror for") if several else HEAD
    rows = []
    for look in states:
        known = (
            (
                look.engine.partition("+")[0],
                look.way,
                yes(look.listed),
                yes(look.used),
                yes(look.recorded),
                "yes" if look.edited else "no",
            )
            if look.reachable
            else ("", "", "", "", "", "")
        )
        registries = (" ".join(look.registries),) if several else ()
        rows.append((look.node, verdict.state(look), *known, *registries))
    rows += [
        (each.name, each.state, each.engine.partition("+")[0], *[""] * (len(head) - 3))
        for each in unlisted
    ]
    faults = [
        f"  {look.node}: {fault}" for look in states for fault in [*faults_of(look), *look.hazards]
    ]
    faults += [f"  {each.name}: {each.sentence}" for each in unlisted]
    return "\n".join(["", table(head, rows), *([""] if faults else []), *faults, ""])


VERB = Verb(
    "status",
    "how every node is: reachable, configured, using the mirror",
    "swarm-registry-mirror status --stack prod --json",
    run,
    has_json=True,
)
