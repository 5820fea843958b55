"""What registries noted of hours and days: added up, whoever wrote the lines, and said."""

import json
from typing import Any

import pytest

from components.registry_mirror.cli import usage as said
from components.registry_mirror.node_agent import containers, usage
from components.registry_mirror.node_agent.verb_request import CountedService, UsageRequest

HOURS = """hour 1000 requests=10 hits=8 misses=2 served_bytes=100 fetched_bytes=40 cached_bytes=5
hour 4600 requests=1 hits=1 served_bytes=50 evicted_layers=3 evicted_bytes=9 cached_bytes=7 oldest_use=900
hour 100 requests=5 hits=5 cached_bytes=1"""  # noqa: E501


def test_the_hours_that_were_asked_for_are_added_up_and_the_last_ones_state_counts() -> None:
    found = usage.added_up(HOURS, since=1000)
    assert (found["hours"], found["requests"], found["hits"], found["misses"]) == (2, 11, 9, 2)
    assert (found["served_bytes"], found["fetched_bytes"]) == (150, 40)
    assert (found["evicted_layers"], found["evicted_bytes"]) == (3, 9)
    assert (found["cached_bytes"], found["oldest_use"]) == (7, 900)
    assert usage.added_up(HOURS, since=0)["cached_bytes"] == 7, "whatever the order of the lines"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hour",
        "hour x requests=1",
        "hour 2000 requests=-1",
        "hour 2000 requests=1e9",
        "hour 2000 requests=" + "9" * 40,
        "hour 2000 requests",
        "hour 2000 requests=1; reboot",
        "hour 2000\x1b[2J requests=1",
        "pull 5 \x1b[2Jx:1",
        "pull -1 a:1",
        "pull 1 ../../x:1",
        "pull 1 a",
        "pull 1 a@sha256:abc",
        "pull 1 " + "a" * 400 + ":1",
    ],
)
def test_a_line_of_another_shape_counts_for_nothing(line: str) -> None:
    assert usage.added_up(line, 0) == usage.added_up("", 0)
    assert usage.most_pulled(line, 10) == {}


def test_a_name_that_nobody_counts_is_no_sum() -> None:
    assert usage.added_up("hour 5 whatever=7", 0) == {**usage.added_up("", 0), "hours": 1}


def test_pulls_of_all_days_are_added_and_the_most_come_first() -> None:
    digest = "a@sha256:" + "b" * 64
    text = f"pull 2 library/x:1\npull 9 {digest}\npull 8 library/x:1\npull 1 z:1\npull 1 b/c:1"
    assert list(usage.most_pulled(text, 3).items()) == [
        ("library/x:1", 10),
        (digest, 9),
        ("b/c:1", 1),
    ]


def test_a_registry_whose_task_is_elsewhere_is_left_to_the_machine_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[tuple[str, ...]] = []

    def run_in(container: str, *command: str) -> str:
        ran.append(command)
        return 'registry_proxy_hits_total{type="blob"} 5\n' if command[0] == "wget" else HOURS

    monkeypatch.setattr(containers, "of_service", lambda name: ["c1"] if name == "m-ghcr" else [])
    monkeypatch.setattr(containers, "run_in", run_in)
    services = [
        CountedService("", "m", ""),
        CountedService("ghcr.io", "m-ghcr", "registries/ghcr.io"),
    ]
    (found,) = json.loads(usage.look(UsageRequest(services, "http://127.0.0.1:5001/metrics", 400)))
    assert (found["registry"], found["counters"]) == ("ghcr.io", {"hits": 5})
    script = ran[0]
    assert script[4] == "registries/ghcr.io"
    assert len(script[5:]) == usage.PULL_DAYS + 1, "no more days than are kept"


def entry(**more: Any) -> dict[str, Any]:
    return {"registry": "", "counters": {}, **usage.added_up("", 0), "top": {}, **more}


def test_each_registry_has_a_line_and_the_images_their_full_names() -> None:
    found = said.gather(
        7,
        [
            entry(registry="ghcr.io", top={"a/b:1": 5}),
            entry(hours=2, hits=3, misses=1, served_bytes=5000, fetched_bytes=1000,
                  evicted_layers=2, evicted_bytes=10, oldest_use=1, cached_bytes=7, requests=4,
                  top={"library/x:1": 9}),
        ],
    )  # fmt: skip
    hub, ghcr = said.rows(found, now=86400 * 3 + 1)
    assert hub == (
        "Docker Hub",
        "4",
        "75 %",
        "5.0 kB",
        "1.0 kB",
        "4.0 kB",
        "2 (10 B)",
        "7 B",
        "3 d",
    )
    assert ghcr[:2] == ("ghcr.io", "no notes yet")
    assert found.top() == [("library/x:1", 9), ("ghcr.io/a/b:1", 5)]
    assert found.as_json()["registries"][0]["saved_bytes"] == 4000


def test_more_fetched_than_served_saved_nothing() -> None:
    (found,) = said.gather(7, [entry(served_bytes=1, fetched_bytes=5)]).registries
    assert (found.saved_bytes, found.hit_rate) == (0, None)
