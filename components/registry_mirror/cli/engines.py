"""`engines`: what another version of docker would break on each node, before anybody installs
it."""

import argparse
import json
import re

from ..plain_text import one_line
from . import nodes, stack
from .console import Verb, progress, table
from .errors import DRIFTED, OK, UNREACHABLE, USAGE, CommandError
from .status import natural

NEWEST_ENGINE = "29.10.0"
"""The version that an upgrade is compared with where none is named."""


def run(options: argparse.Namespace) -> int:
    """1 if the upgrade would break something somewhere. Raises CommandError for what is no
    version."""
    to = options.to
    if not re.fullmatch(r"[0-9]{2}\.[0-9]{1,2}(\.[0-9]{1,2})?", to):
        raise CommandError(
            f"--to is {one_line(to, 40)}, and must be a version of docker like {NEWEST_ENGINE}",
            code=USAGE,
        )
    answers = []
    for mirror in stack.mirrors(options):
        with progress(f"asking {len(mirror.nodes)} nodes of {mirror.name}"):
            answers += sorted(nodes.upgrade(mirror, to), key=lambda answer: natural(answer[0]))
    if options.json:
        entries = [{"node": node, "unreachable": fault, **known} for node, known, fault in answers]
        print(json.dumps({"to": to, "nodes": entries}, indent=1))
    else:
        rows = [
            (node, known["engine"], known["way"]) if known else (node, "UNREACHABLE", "")
            for node, known, _ in answers
        ]
        print("\n" + table(("node", "docker now", f"goes by, with {to}"), rows) + "\n")
        for node, known, fault in answers:
            for sentence in [fault] if fault else known["hazards"]:
                print(f"  {node}: {sentence}")
    if any(fault for _, _, fault in answers):
        return UNREACHABLE
    return DRIFTED if any(known["hazards"] for _, known, _ in answers) else OK


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to",
        default=NEWEST_ENGINE,
        metavar="VERSION",
        help=f"docker that is to come (default {NEWEST_ENGINE})",
    )


VERB = Verb(
    "engines",
    "what another version of docker would break on each node",
    "swarm-registry-mirror engines --to 29.2.1",
    run,
    _arguments,
    has_json=True,
)
