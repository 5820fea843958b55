"""`stats`: what the mirror did, as its registry, its Varnish and Docker Hub count it."""

import argparse
import json

from . import deployed, nodes, stack
from .console import DRIFTED, UNREACHABLE, WELL, Verb, progress, table, worst
from .gathered import Stats, as_rows
from .status import heading


def run(options: argparse.Namespace) -> int:
    """Gather and print: for scripts an object, or a list of them where there are several mirrors."""
    state = stack.chosen(options).state()
    mirrors = deployed.mirrors(state, options.mirror)
    others = [machine for mirror in deployed.mirrors(state) for machine in (*mirror.nodes, mirror.manager)]
    found = []
    for mirror in mirrors:
        with progress(f"asking {len(mirror.nodes)} nodes of {mirror.name}"):
            found.append(nodes.stats(mirror, others))
    if options.json:
        entries = [{**each.as_json(), "mirror": mirror.name} for mirror, each in zip(mirrors, found, strict=True)]
        print(json.dumps(entries[0] if len(entries) == 1 else entries, indent=1))
    else:
        for mirror, each in zip(mirrors, found, strict=True):
            print(heading(mirror, len(mirrors)) + "\n" + table(("what the mirror did", ""), as_rows(each)) + "\n")
            for fault in each.faults:
                print(f"  {fault}")
    return worst([_code(each) for each in found])


def _code(found: Stats) -> int:
    return UNREACHABLE if found.faults else WELL if found.node else DRIFTED


VERB = Verb(
    "stats",
    "what the mirror did: hits, misses, bytes, Docker Hub's quota",
    "swarm-registry-mirror stats --mirror registry-mirror --json",
    run,
    has_json=True,
)
