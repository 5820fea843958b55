"""`status`: how every node is, compared with what the last `pulumi up` did. It changes nothing."""

import argparse
import json

from . import nodes, stack, verdict
from .console import Verb, progress, table, worst
from .deployed import Mirror
from .nodes import Look

HEAD = ("node", "state", "docker", "goes by", "in that file", "docker uses it", "original kept", "edited since")


def run(options: argparse.Namespace) -> int:
    """Look at all nodes of all mirrors."""
    found = [(mirror, looks(mirror)) for mirror in stack.mirrors(options)]
    if options.json:
        print(json.dumps([{**look.as_json(), "mirror": mirror.name} for mirror, each in found for look in each], indent=1))
    else:
        for mirror, each in found:
            print(heading(mirror, len(found)) + as_table(each))
    return worst([verdict.exit_code(each) for _, each in found])


def looks(mirror: Mirror) -> list[Look]:
    """How a mirror's nodes are, by name: where a person looks one up."""
    with progress(f"asking {len(mirror.nodes)} nodes of {mirror.name}"):
        return sorted(nodes.look(mirror), key=lambda look: natural(look.node))


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


def as_table(found: list[Look]) -> str:
    """A row for each node, and the faults below."""

    def yes(value: bool) -> str:
        return "yes" if value else "NO"

    rows = []
    for look in found:
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
        rows.append((look.node, verdict.state(look), *known))
    faults = [f"  {look.node}: {fault}" for look in found for fault in [*faults_of(look), *look.hazards]]
    return "\n".join(["", table(HEAD, rows), *([""] if faults else []), *faults, ""])


VERB = Verb(
    "status",
    "how every node is: reachable, configured, using the mirror",
    "swarm-registry-mirror status --stack prod --json",
    run,
    has_json=True,
)
