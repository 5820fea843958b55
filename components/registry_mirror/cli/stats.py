"""`stats`: what the mirror did, as its registry, its Varnish and Docker Hub count it, since their
start and over days."""

import argparse
import json
import time

from . import deployed, nodes, stack
from .console import Verb, progress, table, worst
from .errors import DRIFTED, OK, UNREACHABLE
from .gathered import Stats, as_rows
from .status import heading
from .usage import HEAD, SINCE_START, Usage, rows, rows_since_start
from .warm import whole


def run(options: argparse.Namespace) -> int:
    """Gather and print: for scripts an object, or a list of them where there are several
    mirrors."""
    state = stack.chosen(options).state()
    mirrors = deployed.mirrors(state, options.mirror)
    others = [
        machine for mirror in deployed.mirrors(state) for machine in (*mirror.nodes, mirror.manager)
    ]
    gathered, usages = [], []
    for mirror in mirrors:
        with progress(f"asking {len(mirror.nodes)} nodes of {mirror.name}"):
            gathered.append(nodes.stats(mirror, others))
            usages.append(nodes.usage(mirror, others, options.days))
    if options.json:
        entries = [
            {**each.as_json(), "mirror": mirror.name, **usage.as_json()}
            for mirror, each, usage in zip(mirrors, gathered, usages, strict=True)
        ]
        print(json.dumps(entries[0] if len(entries) == 1 else entries, indent=1))
    else:
        for mirror, each, usage in zip(mirrors, gathered, usages, strict=True):
            print(
                heading(mirror, len(mirrors))
                + "\n"
                + table(("what the mirror did", ""), as_rows(each))
                + "\n"
            )
            if usage.registries:
                print(over_days(usage))
            for fault in each.faults:
                print(f"  {fault}")
    return worst([_code(each) for each in gathered])


def over_days(usage: Usage) -> str:
    """Each registry since its start where there are several, each over the days, and the images
    that were pulled most."""
    parts = []
    if len(usage.registries) > 1:
        parts.append("  Each registry since its start:\n")
        parts.append(table(SINCE_START, rows_since_start(usage)) + "\n")
    parts.append(f"  The last {'day' if usage.days == 1 else f'{usage.days} days'}:\n")
    parts.append(table(HEAD, rows(usage, time.time())) + "\n")
    if usage.top():
        pulls = [(image, f"{number:,}") for image, number in usage.top()]
        parts.append(table(("most pulled", "pulls"), pulls) + "\n")
    return "\n".join(parts)


def _code(numbers: Stats) -> int:
    return UNREACHABLE if numbers.faults else OK if numbers.node else DRIFTED


VERB = Verb(
    "stats",
    "what the mirror did: hits, misses, bytes, Docker Hub's quota, since its start and over days",
    "swarm-registry-mirror stats --days 30 --json",
    run,
    lambda parser: parser.add_argument(
        "--days",
        type=whole(1, 400),
        default=7,
        metavar="DAYS",
        help="how many of the last ones (default: 7; most pulled: 32 at most)",
    ),
    has_json=True,
)
