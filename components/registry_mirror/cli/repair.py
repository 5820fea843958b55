"""`repair`: asks the nodes that have drifted again for what the last `pulumi up` has asked them
for."""

import argparse

from ..node_agent import outcome
from . import nodes, stack, verdict
from .console import Verb, progress, table, worst
from .deployed import Mirror
from .errors import DRIFTED
from .look import Look
from .status import faults_of, heading, looks


def run(options: argparse.Namespace) -> int:
    """Repair what can be repaired, one mirror after the other, and say of the rest why not."""
    mirrors = stack.mirrors(options)
    codes = []
    for mirror in mirrors:
        print(heading(mirror, len(mirrors)), end="")
        codes.append(repair(mirror, looks(mirror)))
    return worst(codes)


def repair(mirror: Mirror, found: list[Look]) -> int:
    """Repair the drifted nodes of a mirror; returns the exit code."""
    drifted = {look.node for look in found if look.drifted}
    beyond = [
        f"  {look.node}: {verdict.state(look)}: {'; '.join(faults_of(look))}"
        for look in found
        if verdict.state(look).isupper() and look.node not in drifted
    ]
    if not drifted:
        print(
            "Nothing to repair."
            if not beyond
            else "\n".join(["Nothing that a repair could mend:", *beyond])
        )
        return verdict.exit_code(found)
    with progress(f"repairing {', '.join(sorted(drifted))}"):
        done = nodes.repair(mirror, drifted)
    print(
        table(
            ("node", "what was done to it"),
            [(node, shown(words, succeeded)) for node, succeeded, words in done],
        )
    )
    waiting = {
        node: words for node, succeeded, words in done if succeeded and outcome.read(words).pending
    }
    if waiting:
        succeeded, words = nodes.restart(mirror, waiting)
        print(f"\n  {words[:1].upper()}{words[1:]}.")
        if not succeeded:
            return DRIFTED
    left = [f"  {node}: {words}" for node, succeeded, words in done if not succeeded]
    if left or beyond:
        print("\n".join(["", "  Not repaired:", *left, *beyond]))
    if left:
        return DRIFTED
    return verdict.exit_code([look for look in found if look.node not in drifted])


def shown(answer: str, succeeded: bool) -> str:
    """What a node has answered, in one line; a reason is one already."""
    return outcome.read(answer).sentence() if succeeded else answer


VERB = Verb(
    "repair",
    "apply the mirror again on nodes that have drifted, as the last `pulumi up` did",
    "swarm-registry-mirror repair --stack prod",
    run,
)
