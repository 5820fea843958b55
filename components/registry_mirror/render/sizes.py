"""Sizes as people write them, like `200GB`, and what they are in bytes. Pure."""

import re

UNITS = {
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
"""By SI and by IEC 80000-13. `200G` is none: 200 GB to some programs, and 200 GiB to others."""

_SIZE = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?) ?([KMGT]i?B)")
_PERCENT = re.compile(r"([0-9]{1,3})%")


def size(text: str) -> int | None:
    """Bytes of a size like `200GB` or `1.5TiB`; None for a text that is none."""
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in UNITS:
        return None
    whole, _, fraction = match[1].partition(".")
    thousandths = int(whole) * 1000 + int(fraction.ljust(3, "0") or 0)
    return thousandths * UNITS[match[2]] // 1000


def percent(text: str) -> int | None:
    """The number of a text like `10%`; None for one that is none."""
    match = _PERCENT.fullmatch(text)
    return None if match is None else int(match[1])
