"""What the registries did over days, put together and said to a person. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .gathered import bytes_of

HUB = "Docker Hub"
TOP = 10


@dataclass(frozen=True)
class Registry:
    """One registry of the mirror: since its start (`counters`), and over the days that were asked
    for."""

    registry: str
    """Path at the mirror; empty for the one at the root."""
    counters: Mapping[str, int]
    hours: int
    """With notes; 0 where there are none yet."""
    requests: int
    hits: int
    misses: int
    served_bytes: int
    fetched_bytes: int
    evicted_layers: int
    evicted_bytes: int
    cached_bytes: int
    """0 where that was not noted, as the next."""
    oldest_use: int
    """When the layer was used that has not been used for longest, in seconds since 1970."""
    top: Mapping[str, int]

    @property
    def name(self) -> str:
        """For a person."""
        return self.registry or HUB

    @property
    def hit_rate(self) -> float | None:
        """Part of the requests that the cache answered, 0 to 1; None without any."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    @property
    def saved_bytes(self) -> int:
        """That did not have to cross the internet."""
        return max(0, self.served_bytes - self.fetched_bytes)


@dataclass(frozen=True)
class Usage:
    """Of all registries of a mirror."""

    days: int
    registries: list[Registry] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "days": self.days,
            "registries": [
                {**asdict(each), "hit_rate": each.hit_rate, "saved_bytes": each.saved_bytes}
                for each in self.registries
            ],
            "top": dict(self.top()),
        }

    def top(self) -> list[tuple[str, int]]:
        """The images that were pulled most, by their full names."""
        pulls = {
            f"{each.registry}/{image}" if each.registry else image: number
            for each in self.registries
            for image, number in each.top.items()
        }
        return sorted(pulls.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP]


def gather(days: int, answers: Iterable[Mapping[str, Any]]) -> Usage:
    """`answers`: of each registry whose task was found (node_agent/usage.py)."""
    found = {entry["registry"]: Registry(**entry) for entry in answers}
    return Usage(days, [found[name] for name in sorted(found)])


HEAD = ("registry", "requests", "hits", "served", "fetched", "saved", "evicted", "cached", "oldest")


def rows(usage: Usage, now: float) -> list[tuple[str, ...]]:
    """For a table: a line for each registry."""
    return [
        (
            each.name,
            f"{each.requests:,}" if each.hours else "no notes yet",
            "" if each.hit_rate is None else f"{100 * each.hit_rate:.0f} %",
            *(
                bytes_of(size) if each.hours else ""
                for size in (each.served_bytes, each.fetched_bytes, each.saved_bytes)
            ),
            f"{each.evicted_layers} ({bytes_of(each.evicted_bytes)})"
            if each.evicted_layers
            else "",
            bytes_of(each.cached_bytes) if each.cached_bytes else "",
            f"{max(0, int(now) - each.oldest_use) // 86400} d" if each.oldest_use else "",
        )
        for each in usage.registries
    ]


SINCE_START = ("registry", "requests", "hits", "misses", "served", "fetched")


def rows_since_start(usage: Usage) -> list[tuple[str, ...]]:
    """For a table: each registry's own counters, which begin anew with its task."""
    return [
        (
            each.name,
            *(f"{each.counters.get(name, 0):,}" for name in ("requests", "hits", "misses")),
            bytes_of(each.counters.get("pushed_bytes", 0)),
            bytes_of(each.counters.get("pulled_bytes", 0)),
        )
        for each in usage.registries
    ]
