"""What the mirror did: read from the registry's and Varnish's own words, put together, and said to
a person."""

import email.message
import io
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest

from components.registry_mirror.cli.gathered import Stats, as_rows, gather
from components.registry_mirror.node_agent import engine, stats

METRICS = """# HELP registry_proxy_hits_total The number of total proxy request hits
# TYPE registry_proxy_hits_total counter
registry_proxy_hits_total{type="blob"} 10
registry_proxy_hits_total{type="manifest"} 2
registry_proxy_misses_total{type="blob"} 4
registry_proxy_pulled_bytes_total{type="blob"} 2.4e+07
registry_storage_action_seconds_count{action="GetContent",driver="filesystem"} 87
"""


def test_the_registrys_counters_are_summed_over_blobs_and_manifests() -> None:
    assert stats.counters(METRICS) == {"hits": 12, "misses": 4, "pulled_bytes": 24_000_000}


@pytest.mark.parametrize("wrap", [lambda values: {"counters": values}, lambda values: values])
def test_varnish_is_understood_with_its_counters_apart_or_not(wrap: object) -> None:
    values = {"MAIN.cache_hit": {"value": 7}, "MAIN.cache_miss": {"value": 3}}
    assert stats.hits(json.dumps(wrap(values))) == {"hit": 7, "miss": 3, "disk": 0}  # type: ignore[operator]
    values |= {"SMF.disk.g_bytes": {"value": 5}, "SMF.disk.g_space": {"value": 6}}
    assert stats.hits(json.dumps(wrap(values))) == {"hit": 7, "miss": 3, "disk": 11}  # type: ignore[operator]


@pytest.mark.parametrize(
    ("remaining", "limit", "expected"),
    [
        ("87;w=21600", "100;w=21600", {"left": 87, "of": 100, "hours": 6}),
        (None, None, None),  # an account without a limit
    ],
)
def test_docker_hubs_quota(
    remaining: str | None, limit: str | None, expected: dict[str, int] | None
) -> None:
    assert stats.granted(remaining, limit) == expected


def test_disk_use_counts_files_and_survives_one_that_disappears_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "data").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to("/nowhere")
    assert 1000 <= stats.disk_use(str(tmp_path)) < 1100
    assert stats.disk_use(str(tmp_path / "missing")) == 0


REGISTRY = {"hits": 12, "misses": 4, "pulled_bytes": 24_000_000}


def test_what_each_node_knows_becomes_one_answer() -> None:
    stats = gather(
        [
            (
                "n1",
                {"registry": None, "varnish": {"hit": 7, "miss": 3}, "cached": 5, "quota": None},
                "",
            ),
            (
                "n2",
                {
                    "registry": REGISTRY,
                    "varnish": None,
                    "quota": {"left": 1, "of": 100, "hours": 6},
                },
                "",
            ),
            ("n3", {}, "no route to host"),
        ]
    )
    assert (stats.node, stats.hits, stats.requests, stats.coalesced, stats.cached_bytes) == (
        "n2",
        12,
        0,
        7,
        5,
    )
    assert stats.faults == ["n3: no route to host"]
    rows = dict(as_rows(stats))
    assert rows["bytes fetched from the upstream"] == "24.0 MB"
    assert rows["Docker Hub pulls left"] == "1 of 100 in 6 h"


def test_what_nobody_knows_is_said_to_be_unknown() -> None:
    rows = dict(as_rows(Stats()))
    assert rows["the registry runs on"] == "NO NODE of the list"
    assert rows["of them from the cache"] == rows["on the shared storage"] == "not known"


@pytest.mark.parametrize(
    ("has", "asked", "said"),
    [
        (4 << 30, 4 << 30, "4.3 GB"),
        (
            1 << 30,
            4 << 30,
            "1.1 GB, LESS THAN the 4.3 GB of coalesceDisk: half of what was free on its machine",
        ),
        (None, 4 << 30, "not known"),
        (0, 0, "0 B"),
        (None, None, "none, without Varnish"),
    ],
)
def test_a_disk_that_gave_less_than_it_was_asked_for_is_said(
    has: int | None, asked: int | None, said: str
) -> None:
    varnish = None if has is None else {"hit": 0, "miss": 0, "disk": has}
    assert (
        dict(as_rows(gather([("n1", {"varnish": varnish}, "")], asked)))["disk for large layers"]
        == said
    )


@pytest.mark.parametrize("value", ["1e999", "1.2.3", "e", "+", "1e"])
def test_a_counter_that_is_no_number_is_left_out(value: str) -> None:
    text = (
        f'registry_proxy_hits_total{{type="blob"}}'
        f' {value}\nregistry_proxy_hits_total{{type="manifest"}} 2\n'
    )
    assert stats.counters(text) == {"hits": 2}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"counters": 3}',
        "[" * 200_000,
        '{"MAIN.cache_hit": {"value": 1e999}, "MAIN.cache_miss": {"value": 1}}',
    ],
)
def test_what_varnish_says_and_nobody_understands_is_not_known(text: str) -> None:
    assert stats.hits(text) is None


class Hub(io.BytesIO):
    """An answer of Docker Hub."""

    def __init__(self, body: bytes, **headers: str) -> None:
        super().__init__(body)
        self.headers = email.message.Message()
        for name, value in headers.items():
            self.headers[name.replace("_", "-")] = value


def test_docker_hub_is_asked_in_its_own_way_which_counts_as_no_pull(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def opened(what: str | Request, **_: Any) -> Hub:
        if isinstance(what, str):
            asked.append(("GET", what, None))
            return Hub(b'{"token": "abc"}')
        asked.append((what.get_method(), what.full_url, what.get_header("Authorization")))
        return Hub(b"", ratelimit_remaining="87;w=21600", ratelimit_limit="100;w=21600")

    monkeypatch.setattr(urllib.request, "urlopen", opened)
    assert stats.quota() == {"left": 87, "of": 100, "hours": 6}
    assert asked == [
        ("GET", stats.QUOTA_TOKEN, None),
        ("HEAD", stats.QUOTA_PROBE, "Bearer abc"),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        urllib.error.URLError("no route"),
        TimeoutError(),
        b"no JSON",
        b"[]",
        b"{}",
        b"[" * 60_000,
    ],
    ids=["no route", "time-out", "no JSON", "a list", "no token", "deep"],
)
def test_a_docker_hub_that_does_not_say_is_not_known(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | Exception
) -> None:
    def opened(*_: Any, **__: Any) -> Hub:
        if isinstance(answer, Exception):
            raise answer
        return Hub(answer)

    monkeypatch.setattr(urllib.request, "urlopen", opened)
    assert stats.quota() is None


def test_a_command_runs_in_the_services_own_container_or_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {"label=com.docker.swarm.service.name=hub": "c1\nc2"}
    ran: list[tuple[str, ...]] = []

    def run(*command: str) -> str:
        ran.append(command)
        return there.get(command[-1], "") if command[1] == "ps" else METRICS

    monkeypatch.setattr(engine, "run", run)
    assert stats._inside("hub", "wget", "x") == METRICS
    assert stats._inside("hub-front", "varnishstat") is None
    assert [command for command in ran if command[1] == "exec"] == [
        ("docker", "exec", "c1", "wget", "x")
    ]
