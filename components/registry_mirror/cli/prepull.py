"""`prepull IMAGE…`: has every node pull images by digest, so that tasks start at once. The mirror
is warmed first; then one node pulls, then as many at a time as in a wave."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..answer import UNREACHABLE as NO_ANSWER
from ..node_agent.verb_request import PrepullRequest
from . import answers, nodes, stack, warm
from .answers import BadAnswer
from .console import Verb, progress, table, worst
from .deployed import Mirror, Node
from .errors import DRIFTED, OK, UNREACHABLE, USAGE, CommandError
from .gathered import bytes_of
from .status import heading, natural

HEAD = ("node", "image", "state", "size", "seconds")


@dataclass(frozen=True)
class Pull:
    """What came of an image on a node."""

    node: str
    image: str
    outcome: str
    """`pulled`, `here`, `failed` or `unreachable`."""
    reason: str = ""
    seconds: int = 0
    size: int = 0

    @property
    def code(self) -> int:
        """The exit code for it alone."""
        return {"pulled": OK, "here": OK, "unreachable": UNREACHABLE}.get(self.outcome, DRIFTED)


def run(options: argparse.Namespace) -> int:
    """Warm the mirror, then have the nodes pull what it has."""
    if not options.image and not options.from_running:
        raise CommandError("no image is named", "name one, or give --from-running", USAGE)
    mirrors = stack.mirrors(options)
    report, codes = [], []
    for mirror in mirrors:
        wanted = [*options.image, *(warm.running(mirror) if options.from_running else [])]
        wanted = list(dict.fromkeys(wanted))
        found, _ = warm.resolve(mirror, wanted, options.image)
        rows = warm.warm(
            mirror,
            wanted,
            asked=options.image,
            bandwidth=options.bandwidth,
            reserve=options.reserve,
            minutes=options.minutes,
        )
        names = {
            row.image: found[row.image].written.by_digest(row.digest)
            for row in rows
            if row.outcome == "warm"
        }
        pulls = prepull(mirror, list(names.values()), options.minutes)
        codes += [row.code for row in rows] + [each.code for each in pulls]
        if options.json:
            report += [{**asdict(each), "mirror": mirror.name} for each in pulls]
            continue
        cold = [row for row in rows if row.outcome != "warm"]
        print(heading(mirror, len(mirrors)) + as_table(pulls, cold))
    if options.json:
        print(json.dumps(report, indent=1))
    return worst(codes)


def prepull(mirror: Mirror, images: Sequence[str], minutes: int) -> list[Pull]:
    """Have the nodes pull images: one, then as many at a time as in a wave. A node that cannot be
    reached keeps no other from it."""
    if not images:
        return []
    seconds = minutes * 60
    request = PrepullRequest(list(images), seconds)
    pulls: list[Pull] = []
    for wave in waves(mirror):
        names = ", ".join(node.name for node in wave)
        with progress(f"pulling on {names}"):
            done = nodes.ask_all(
                "prepull.run",
                [(node, request) for node in wave],
                seconds + warm.MARGIN,
                len(wave),
            )
        for node, code, output, errors in done:
            pulls += _pulls(node, code, output, errors)
    return pulls


def waves(mirror: Mirror) -> list[list[Node]]:
    """The nodes in the order of the roll-out: the canary, then as many as in its largest wave."""
    first, *rest = mirror.nodes
    size = mirror.at_once
    return [[first], *(list(rest[start : start + size]) for start in range(0, len(rest), size))]


def _pulls(node: Node, code: int, output: str, errors: str) -> list[Pull]:
    if code != 0:
        outcome = "unreachable" if code == NO_ANSWER else "failed"
        return [Pull(node.name, "", outcome, errors)]
    try:
        entries = answers.parse_list(output, answers.PULLED)
    except BadAnswer as error:
        return [Pull(node.name, "", "failed", str(error))]
    return [Pull(node.name, **entry) for entry in entries]


def as_table(pulls: Sequence[Pull], cold: Sequence[warm.Row]) -> str:
    """A row for each node and image, by name, and the reasons below; `cold`: what the mirror could
    not be given, so that no node was asked for it."""
    ranked = sorted(pulls, key=lambda each: (natural(each.node), each.image))
    cells = [
        (
            each.node,
            warm.short(each.image),
            each.outcome if each.code == OK else each.outcome.upper(),
            bytes_of(each.size) if each.code == OK else "",
            str(each.seconds) if each.code == OK else "",
        )
        for each in ranked
    ]
    reasons = [f"  {each.node}: {each.reason}" for each in ranked if each.reason]
    reasons += [
        f"  {warm.short(row.image)}: {row.outcome}, so pulled nowhere: {row.reason}" for row in cold
    ]
    return "\n".join(["", table(HEAD, cells), *([""] if reasons else []), *reasons, ""])


VERB = Verb(
    "prepull",
    "have every node pull images by digest, in waves, so that tasks start at once",
    "swarm-registry-mirror prepull traefik:v3.7 ghcr.io/owner/app:2",
    run,
    warm.choose,
    has_json=True,
)
