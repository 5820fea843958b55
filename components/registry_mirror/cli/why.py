"""`why IMAGE`: where each node's next pull of an image goes, and if past the mirror, why. It
changes nothing and pulls nothing."""

import argparse
import json
import time
from calendar import timegm
from collections.abc import Sequence
from dataclasses import asdict, replace

from .. import images
from ..images import BadImage, MirroredImage
from ..node_agent.verb_request import RouteRequest
from . import answers, nodes, route, stack
from .console import Verb, progress, table, worst
from .deployed import Mirror
from .errors import DRIFTED, OK, UNREACHABLE
from .look import Look
from .route import MIRROR, Route
from .status import heading, natural

HEAD = ("node", "the next pull goes to", "digest there", "asked", "digest here", "since")


def run(options: argparse.Namespace) -> int:
    """Ask all nodes of all mirrors."""
    mirrors = stack.mirrors(options)
    codes, report = [], []
    for mirror in mirrors:
        try:
            image = images.at_mirror(images.parse(options.image), mirror.served)
        except BadImage as error:
            print(f"  {options.image!r} {error}.")
            codes.append(DRIFTED)
            continue
        found = routes(mirror, image)
        codes.append(_code(found))
        if options.json:
            report += [{**asdict(each), "mirror": mirror.name} for each in found]
        else:
            print(heading(mirror, len(mirrors)) + as_table(found))
    if options.json:
        print(json.dumps(report, indent=1))
    return worst(codes)


def routes(mirror: Mirror, image: MirroredImage) -> list[Route]:
    """The way of each node, by name."""
    with progress(f"asking {len(mirror.nodes)} nodes of {mirror.name}"):
        looks = {look.node: look for look in nodes.reach(mirror.nodes)}
        asked = [
            (
                node,
                RouteRequest(
                    mirror_url=mirror.url,
                    path=str(node.settings.get("daemon_json")),
                    unit=str(node.settings.get("service")),
                    repository=image.repository,
                    reference=image.image.reference,
                    names=list(dict.fromkeys([image.written.familiar, _by_mirror(mirror, image)])),
                ),
            )
            for node in mirror.nodes
            if looks[node.name].reachable
        ]
        answered = nodes.ask_all("route.look", asked)
    found = [route.decide(look, image, None) for look in looks.values() if not look.reachable]
    for node, code, output, errors in answered:
        look = looks[node.name]
        try:
            if code != 0:
                raise answers.BadAnswer(errors)
            found.append(route.decide(look, image, answers.parse(output, answers.ROUTE)))
        except answers.BadAnswer as error:
            found.append(route.decide(_failed(look, error), image, None))
    return sorted(found, key=lambda each: natural(each.node))


def _failed(look: Look, error: Exception) -> Look:
    return replace(look, faults=[str(error), *look.faults])


def _by_mirror(mirror: Mirror, image: MirroredImage) -> str:
    """The image by the mirror's own name."""
    tag = f":{image.image.tag}" if image.image.tag else ""
    digest = f"@{image.image.digest}" if image.image.digest else ""
    return f"{mirror.url.removeprefix('https://')}/{image.repository}{tag}{digest}"


def _code(found: Sequence[Route]) -> int:
    if any(not each.reachable for each in found):
        return UNREACHABLE
    return OK if all(each.goes == MIRROR for each in found) else DRIFTED


def as_table(found: Sequence[Route], now: float | None = None) -> str:
    """A row for each node, and below, for each that goes past the mirror, why."""
    moment = time.time() if now is None else now
    rows = []
    for each in found:
        digest, _, since = (each.copies[0] if each.copies else "").partition(" ")
        rows.append(
            (
                each.node,
                each.goes,
                each.digest[7:19],
                f"{each.age} s ago" if each.digest else "",
                digest[7:19],
                _age(since, moment),
            )
        )
    reasons = [f"  {each.node}: {each.reason}" for each in found if each.reason]
    return "\n".join(["", table(HEAD, rows), *([""] if reasons else []), *reasons, ""])


def _age(since: str, now: float) -> str:
    """How long ago a time is, like `3 d`; empty where there is none."""
    try:
        seconds = int(now - timegm(time.strptime(since.removesuffix("Z"), "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"


VERB = Verb(
    "why",
    "where each node's next pull of an image goes, and if past the mirror, why",
    "swarm-registry-mirror why traefik:v3.7",
    run,
    lambda parser: parser.add_argument(
        "image", metavar="IMAGE", help="like traefik:v3.7 or ghcr.io/owner/app:1"
    ),
    has_json=True,
)
