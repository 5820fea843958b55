"""`advisories`: which published advisories the images of the last `pulumi up` are older than.
Connects to no node."""

import argparse
import dataclasses
import json

from ..advisories import Advisory, concerning
from . import stack
from .console import Verb, table
from .deployed import Mirror
from .errors import DRIFTED, OK

HEAD = ("image", "advisory", "severity", "fixed in", "here", "more")


def run(options: argparse.Namespace) -> int:
    """1 if one of high severity is among them."""
    concerned = [(mirror, each) for mirror in stack.mirrors(options) for each in advisories(mirror)]
    if options.json:
        print(
            json.dumps(
                [{**dataclasses.asdict(each), "mirror": mirror.name} for mirror, each in concerned],
                indent=1,
            )
        )
    else:
        rows = as_rows(list(dict.fromkeys(each for _, each in concerned)))
        print("\n" + (table(HEAD, rows) if rows else "no advisory that is listed here") + "\n")
    return DRIFTED if any(each.severity == "high" for _, each in concerned) else OK


def advisories(mirror: Mirror) -> list[Advisory]:
    """Those that concern the mirror's images. Raises StateError."""
    return [
        advisory
        for component, image in mirror.images.items()
        for advisory in concerning(component, image)
    ]


def as_rows(listed: list[Advisory]) -> list[tuple[str, ...]]:
    """A row for each, as HEAD."""
    return [
        (each.component, each.id, each.severity, " and ".join(each.fixed), each.effect, each.url)
        for each in listed
    ]


VERB = Verb(
    "advisories",
    "which published advisories the mirror's images are older than",
    "swarm-registry-mirror advisories --json",
    run,
    has_json=True,
)
