"""`warm IMAGE…`: has the mirror fetch images before a node asks for them, for the platforms that
the swarm's nodes have. One image after the other, so that an interruption costs one at most."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from .. import images
from ..answer import UNREACHABLE as NO_ANSWER
from ..images import BadImage, MirroredImage
from ..node_agent.verb_request import RunningRequest, WarmImage, WarmRequest
from ..plain_text import one_line
from . import answers, nodes, stack
from .answers import BadAnswer
from .console import Verb, progress, table, worst
from .deployed import Mirror
from .errors import DRIFTED, OK, UNREACHABLE, USAGE, CommandError
from .gathered import bytes_of
from .status import heading

RESERVE = 10
"""Of Docker Hub's pulls, which are left for nodes."""
MINUTES = 30
"""For one image."""
MARGIN = 60
"""Seconds beyond that for the way there and back."""

HEAD = ("image", "state", "digest", "for", "size", "new", "seconds")


@dataclass(frozen=True)
class Row:
    """What came of an image."""

    image: str
    outcome: str
    """`warm`; `failed`; `skipped`, for now; `not cached`, where this mirror has not its
    registry."""
    reason: str = ""
    digest: str = ""
    platforms: list[str] = field(default_factory=list)
    size: int = 0
    fetched: int = 0
    seconds: int = 0
    quota: dict[str, int] = field(default_factory=dict)

    @property
    def code(self) -> int:
        """The exit code for it alone."""
        return {"warm": OK, "not cached": OK, "unreachable": UNREACHABLE}.get(self.outcome, DRIFTED)


def run(options: argparse.Namespace) -> int:
    """Warm the images of the command line, and those that run."""
    if not options.image and not options.from_running:
        raise CommandError("no image is named", "name one, or give --from-running", USAGE)
    mirrors = stack.mirrors(options)
    rows = {}
    for mirror in mirrors:
        wanted = [*options.image, *(running(mirror) if options.from_running else [])]
        rows[mirror.name] = warm(
            mirror,
            list(dict.fromkeys(wanted)),
            asked=options.image,
            bandwidth=options.bandwidth,
            reserve=options.reserve,
            minutes=options.minutes,
        )
    if options.json:
        found = [{**asdict(row), "mirror": name} for name, each in rows.items() for row in each]
        print(json.dumps(found, indent=1))
    else:
        for mirror in mirrors:
            print(heading(mirror, len(mirrors)) + as_table(rows[mirror.name]))
    return worst([row.code for each in rows.values() for row in each])


def running(mirror: Mirror) -> list[str]:
    """The images that the swarm's services have now, with their digests. Raises CommandError where
    the manager cannot be asked."""
    code, output, errors = nodes.ask("warm.running", mirror.manager, RunningRequest())
    if code != 0:
        raise CommandError(
            f"{mirror.manager.name}: {errors}", code=UNREACHABLE if code == NO_ANSWER else DRIFTED
        )
    try:
        return [entry["image"] for entry in answers.parse_list(output, answers.RUNNING)]
    except BadAnswer as error:
        raise CommandError(f"{mirror.manager.name}: {error}", code=DRIFTED) from None


def resolve(
    mirror: Mirror, wanted: Sequence[str], asked: Sequence[str]
) -> tuple[dict[str, MirroredImage], list[Row]]:
    """The images that the mirror can have, each name once, and a row for every other one.

    Args:
        mirror: Which one.
        wanted: As people and services write them.
        asked: Those of them that somebody has named; another one that is not cached is no failure.
    """
    found: dict[str, MirroredImage] = {}
    rows = []
    for text in wanted:
        try:
            image = images.at_mirror(images.parse(text), mirror.served)
        except BadImage as error:
            outcome = "failed" if text in asked else "not cached"
            rows.append(Row(one_line(text, 200), outcome, str(error)))
            continue
        # Another name of the same image stays: to a docker it is another image.
        found.setdefault(image.written.familiar, image)
    return found, rows


def warm(
    mirror: Mirror,
    wanted: Sequence[str],
    *,
    asked: Sequence[str],
    bandwidth: int = 0,
    reserve: int = RESERVE,
    minutes: int = MINUTES,
) -> list[Row]:
    """Warm one image after the other, and say on stderr what came of each; one that fails keeps no
    other from being warmed."""
    found, rows = resolve(mirror, wanted, asked)
    docker = mirror.docker_of_manager
    for number, (name, image) in enumerate(found.items(), 1):
        request = WarmRequest(
            mirror_url=mirror.url,
            path=docker["path"],
            unit=docker["unit"],
            images=[WarmImage(name, image.repository, image.image.reference, not image.registry)],
            seconds=minutes * 60,
            bandwidth=bandwidth,
            hub=mirror.asks_hub_without_account,
            reserve=reserve,
        )
        with progress(f"{number} of {len(found)}: {name}"):
            code, output, errors = nodes.ask(
                "warm.run", mirror.manager, request, minutes * 60 + MARGIN
            )
        row = _row(name, mirror.manager.name, code, output, errors)
        rows.append(row)
        print(f"  {number} of {len(found)}  {sentence(row)}", file=sys.stderr, flush=True)
        if row.outcome == "unreachable":
            break
    return rows


def _row(name: str, manager: str, code: int, output: str, errors: str) -> Row:
    if code != 0:
        return Row(name, "unreachable" if code == NO_ANSWER else "failed", f"{manager}: {errors}")
    try:
        (entry,) = answers.parse_list(output, answers.WARMED)
    except (BadAnswer, ValueError) as error:
        return Row(name, "failed", f"{manager}: {error}")
    entry.pop("blobs")
    entry.pop("name")
    return Row(name, **entry)


def sentence(row: Row) -> str:
    """What came of an image, in one line."""
    if row.outcome != "warm":
        return f"{short(row.image)}: {row.outcome}: {row.reason}"
    new = f"{bytes_of(row.fetched)} of them new" if row.fetched else "all of it was there"
    left = f", Docker Hub grants {row.quota['left']} more pulls" if row.quota.get("left") else ""
    return f"{short(row.image)}: {bytes_of(row.size)}, {new}, {row.seconds} s{left}"


def short(image: str) -> str:
    """`traefik@sha256:…` with as many digits as docker shows."""
    name, at, digest = image.partition("@sha256:")
    return f"{name}@{digest[:12]}" if at else name


def as_table(rows: Sequence[Row]) -> str:
    """A row for each image, and the reasons below."""
    cells = [
        (
            short(row.image),
            row.outcome if row.outcome in ("warm", "not cached") else row.outcome.upper(),
            row.digest[7:19],
            " ".join(row.platforms),
            bytes_of(row.size) if row.digest else "",
            bytes_of(row.fetched) if row.digest else "",
            str(row.seconds) if row.digest else "",
        )
        for row in rows
    ]
    reasons = [f"  {short(row.image)}: {row.reason}" for row in rows if row.reason]
    return "\n".join(["", table(HEAD, cells), *([""] if reasons else []), *reasons, ""])


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def bandwidth(text: str) -> int:
    """Bytes a second of `50MB/s` or `10MiB/s`. Raises argparse.ArgumentTypeError."""
    found = re.fullmatch(r"([0-9]{1,9})\s*([kmg]i?)?b(?:/s)?", text.lower())
    if found is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no bandwidth; write it like 50MB/s")
    return int(found[1]) * _UNITS[found[2] or ""]


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number from `least` to `most`."""

    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")
        return int(text)

    return read


def choose(parser: argparse.ArgumentParser) -> None:
    """What `warm` and `prepull` share."""
    parser.add_argument(
        "image", metavar="IMAGE", nargs="*", help="like traefik:v3.7 or ghcr.io/owner/app:1"
    )
    parser.add_argument(
        "--from-running",
        action="store_true",
        help="those that the swarm's services have now",
    )
    parser.add_argument(
        "--bandwidth",
        type=bandwidth,
        default=0,
        metavar="50MB/s",
        help="no more than that on average (default: as fast as the line)",
    )
    parser.add_argument(
        "--reserve",
        type=whole(0, 100_000),
        default=RESERVE,
        metavar="PULLS",
        help=f"of Docker Hub's quota, for others (default: {RESERVE})",
    )
    parser.add_argument(
        "--minutes",
        type=whole(1, 110),
        default=MINUTES,
        help=f"for one image (default: {MINUTES})",
    )


VERB = Verb(
    "warm",
    "have the mirror fetch images before a node asks for them",
    "swarm-registry-mirror warm --from-running --bandwidth 50MB/s",
    run,
    choose,
    has_json=True,
)
