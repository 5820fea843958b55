"""Which published advisories an image is older than. Pure; the list is `advisories.json`, kept by
hand.

An image that is older than a fix is used all the same, with a warning in every preview: a stack
that runs must not become one that cannot be changed. What is refused outright (`rules.py`) is what
cannot work or gives secrets away.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

_TAG = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class Advisory:
    """One published weakness of an image that the mirror is made of."""

    id: str
    component: str
    """`registry` or `varnish`."""
    fixed: Sequence[str]
    """First version without it, one for each line of releases that got the fix, oldest first."""
    severity: str
    """`low`, `medium` or `high`, by itself; what it means here is `effect`."""
    date: str
    url: str
    effect: str

    def concerns(self, version: tuple[int, int, int]) -> bool:
        """Whether `version` is without the fix: older than the newest fix, and not in a line of
        releases that has its own."""
        fixes = [_numbers(fix) for fix in self.fixed]
        return not any(
            version >= fix and (version[:2] == fix[:2] or fix == fixes[-1]) for fix in fixes
        )


def known() -> list[Advisory]:
    """The list."""
    text = (resources.files(__package__) / "advisories.json").read_text(encoding="utf-8")
    return [Advisory(**entry) for entry in json.loads(text)]


def concerning(component: str, image: str) -> list[Advisory]:
    """What `image` (`repository:tag@digest`) is older than; nothing is known of one whose tag is no
    full version.

    Args:
        component: `registry` or `varnish`.
        image: As in the settings.
    """
    tag = _TAG.fullmatch(image.partition("@")[0].rpartition("/")[2].partition(":")[2])
    if tag is None:
        return []
    return [
        advisory
        for advisory in known()
        if advisory.component == component and advisory.concerns(_numbers(tag[0]))
    ]


def warnings(image: str, varnish_image: str | None) -> list[str]:
    """One line for each image that is older than a fix, worst first; for a preview."""
    lines = []
    for key, component, value in (
        ("image", "registry", image),
        ("Varnish's image", "varnish", varnish_image),
    ):
        found = sorted(
            concerning(component, value or ""),
            key=lambda advisory: ("high", "medium", "low").index(advisory.severity),
        )
        if found:
            described = "; ".join(
                f"{each.id} ({each.severity}, fixed in {' and '.join(each.fixed)}: {each.effect})"
                for each in found
            )
            lines.append(
                f"{key}: {str(value).partition('@')[0]} is older than the fix of {described}. Take"
                " a newer tag, with its digest"
            )
    return lines


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = version.removeprefix("v").split(".")
    return int(major), int(minor), int(patch)
