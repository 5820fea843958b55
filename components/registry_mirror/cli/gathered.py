"""What the mirror has done, put together from what each node knows, and said to a person. Pure."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stats:
    """Numbers since the registry's and Varnish's last start; None where no node could say."""

    node: str | None = None
    """Where the registry runs."""
    requests: int | None = None
    hits: int | None = None
    misses: int | None = None
    served_bytes: int | None = None
    fetched_bytes: int | None = None
    """From the upstream."""
    coalesced: int | None = None
    """Requests that Varnish answered from what another one had just fetched."""
    disk_bytes: int | None = None
    """Of its machine's disk that Varnish has for large layers."""
    disk_asked_bytes: int | None = None
    """How much `coalesceDisk` says; None without Varnish."""
    cached_bytes: int | None = None
    """On the shared storage."""
    quota: dict[str, int] | None = None
    """Docker Hub's: pulls `left`, `of` so many in `hours`."""
    faults: list[str] = field(default_factory=list)
    """Nodes that could not be asked, with the reason."""

    def as_json(self) -> dict[str, object]:
        """For scripts."""
        return asdict(self)


def gather(
    answers: Iterable[tuple[str, dict[str, Any], str]], disk_asked: int | None = None
) -> Stats:
    """`answers`: node, what it knows, and why it could not be asked; `disk_asked`: bytes of disk
    that Varnish is to take."""
    numbers: dict[str, Any] = {"faults": [], "disk_asked_bytes": disk_asked}
    for node, known, fault in answers:
        if fault:
            numbers["faults"].append(f"{node}: {fault}")
        if known.get("registry") is not None:
            counted = known["registry"]
            # Counters appear with their first event: one that is missing is a zero.
            names = {"requests": "requests", "hits": "hits", "misses": "misses"}
            names |= {"served_bytes": "pushed_bytes", "fetched_bytes": "pulled_bytes"}
            numbers |= {name: counted.get(counter, 0) for name, counter in names.items()}
            numbers |= {"node": node, "quota": known.get("quota")}
        if known.get("varnish") is not None:
            numbers["coalesced"] = numbers.get("coalesced", 0) + known["varnish"]["hit"]
            numbers["disk_bytes"] = known["varnish"].get("disk")
        if known.get("cached") is not None:
            numbers["cached_bytes"] = known["cached"]
    return Stats(**numbers)


def as_rows(stats: Stats) -> list[tuple[str, str]]:
    """For a table."""
    quota = stats.quota
    return [
        ("the registry runs on", stats.node or "NO NODE of the list"),
        ("requests since its start", _number(stats.requests)),
        ("of them from the cache", _number(stats.hits)),
        ("of them from the upstream", _number(stats.misses)),
        ("answered by Varnish alone", _number(stats.coalesced)),
        ("bytes served by the registry", bytes_of(stats.served_bytes)),
        ("bytes fetched from the upstream", bytes_of(stats.fetched_bytes)),
        ("on the shared storage", bytes_of(stats.cached_bytes)),
        ("disk for large layers", _disk(stats)),
        (
            "Docker Hub pulls left",
            f"{quota['left']} of {quota['of']} in {quota['hours']} h" if quota else "not known",
        ),
    ]


def _disk(stats: Stats) -> str:
    """The disk that Varnish has, with a remark where that is less than it was configured to
    take."""
    has, asked = stats.disk_bytes, stats.disk_asked_bytes
    if asked is None:
        return "none, without Varnish"
    if has is None or has >= asked:
        return bytes_of(has)
    return (
        f"{bytes_of(has)}, LESS THAN the {bytes_of(asked)} of coalesceDisk: half of what was free"
        " on its machine"
    )


def _number(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"


def bytes_of(value: int | None) -> str:
    """A number of bytes for a person."""
    if value is None:
        return "not known"
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value} B"
