"""What the mirror did: read from the registry's and Varnish's own words, put together, and said to a person."""

import json
from pathlib import Path

import pytest

from components.registry_mirror.cli.gathered import Stats, as_rows, gather
from components.registry_mirror.node_agent import stats

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
def test_docker_hubs_quota(remaining: str | None, limit: str | None, expected: dict[str, int] | None) -> None:
    assert stats.granted(remaining, limit) == expected


def test_disk_use_counts_files_and_survives_what_goes_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "data").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to("/nowhere")
    assert 1000 <= stats.disk_use(str(tmp_path)) < 1100
    assert stats.disk_use(str(tmp_path / "missing")) == 0


REGISTRY = {"hits": 12, "misses": 4, "pulled_bytes": 24_000_000}


def test_what_each_node_knows_becomes_one_answer() -> None:
    found = gather(
        [
            ("n1", {"registry": None, "varnish": {"hit": 7, "miss": 3}, "cached": 5, "quota": None}, ""),
            ("n2", {"registry": REGISTRY, "varnish": None, "quota": {"left": 1, "of": 100, "hours": 6}}, ""),
            ("n3", {}, "no route to host"),
        ]
    )
    assert (found.node, found.hits, found.requests, found.coalesced, found.cached_bytes) == ("n2", 12, 0, 7, 5)
    assert found.faults == ["n3: no route to host"]
    rows = dict(as_rows(found))
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
        (1 << 30, 4 << 30, "1.1 GB, LESS THAN the 4.3 GB of coalesceDisk: half of what was free on its machine"),
        (None, 4 << 30, "not known"),
        (0, 0, "0 B"),
        (None, None, "none, without Varnish"),
    ],
)
def test_a_disk_that_gave_less_than_it_was_asked_for_is_said(has: int | None, asked: int | None, said: str) -> None:
    varnish = None if has is None else {"hit": 0, "miss": 0, "disk": has}
    assert dict(as_rows(gather([("n1", {"varnish": varnish}, "")], asked)))["disk for large layers"] == said


@pytest.mark.parametrize("value", ["1e999", "1.2.3", "e", "+", "1e"])
def test_a_counter_that_is_no_number_is_left_out(value: str) -> None:
    text = f'registry_proxy_hits_total{{type="blob"}} {value}\nregistry_proxy_hits_total{{type="manifest"}} 2\n'
    assert stats.counters(text) == {"hits": 2}


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"counters": 3}', "[" * 200_000,
                                  '{"MAIN.cache_hit": {"value": 1e999}, "MAIN.cache_miss": {"value": 1}}'])  # fmt: skip
def test_what_varnish_says_and_nobody_understands_is_not_known(text: str) -> None:
    assert stats.hits(text) is None
