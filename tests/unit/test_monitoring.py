"""Rules and dashboard ask for metrics that there are; what is printed for Prometheus is what it
reads."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.registry_mirror.cli import __main__ as command
from components.registry_mirror.cli import metrics as verb
from components.registry_mirror.cli.errors import CommandError
from components.registry_mirror.cli.gathered import Stats
from components.registry_mirror.cli.look import Look
from components.registry_mirror.monitoring import scrape
from components.registry_mirror.monitoring.metrics import METRICS, exposition
from components.registry_mirror.monitoring.panels import ROWS
from config.reference import BEGIN, END, METRICS_PAGE, metrics_table

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "components/registry_mirror/monitoring"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"][0][
    "rules"
]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
NAMES = {metric.name for metric in METRICS}
PANELS = [panel for row in ROWS for panel in row.panels]


def asked(expr: str) -> set[str]:
    """The names of metrics in a query: without strings, labels and functions."""
    bare = re.sub(r'"[^"]*"|\{[^{}]*\}|\b(?:by|on) \([^()]*\)', "", expr)
    return set(re.findall(r"\b(?:up|registry[a-z0-9_:]+)\b(?!\()", bare))


def test_rules_ask_for_nothing_that_nobody_says() -> None:
    for rule in RULES:
        names = asked(rule["expr"])
        assert names, rule
        assert names <= NAMES | RECORDED | {"up"}, rule


def test_panels_ask_for_nothing_that_nobody_says() -> None:
    for panel in PANELS:
        for query in panel.queries:
            names = asked(query.expr)
            assert names, query
            assert names <= NAMES | RECORDED | {"up"}, query


def test_an_alert_says_what_is_wrong_and_what_it_means() -> None:
    for rule in RULES:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("info", "warning", "critical")
            assert rule["annotations"].keys() == {"summary", "description"}


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    tests = yaml.safe_load((ROOT / "tests/monitoring/rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    for fires in (True, False):
        named = {case["alertname"] for case in cases if bool(case["exp_alerts"]) == fires}
        assert named == {rule["alert"] for rule in RULES if "alert" in rule}, fires


def panels_of(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield from panel.get("panels") or []
        if panel["type"] != "row":
            yield panel


def test_the_dashboard_is_made_of_the_panels_here() -> None:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    found = {
        panel["title"]: (
            panel["description"],
            panel["fieldConfig"]["defaults"]["unit"],
            [(target["expr"], target["legendFormat"]) for target in panel["targets"]],
        )
        for panel in panels_of(dashboard)
    }
    assert found == {
        panel.title: (
            panel.meaning,
            panel.unit,
            [(query.expr, query.legend) for query in panel.queries],
        )
        for panel in PANELS
    }, "run `make dashboard`"


def test_the_page_shows_the_table() -> None:
    text = (ROOT / METRICS_PAGE).read_text()
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == metrics_table()


def test_every_part_of_a_mirror_is_a_target_of_its_own() -> None:
    (job,) = yaml.safe_load(
        scrape.configuration(
            [
                "https://mirror.test/metrics",
                "https://mirror.test/metrics/varnish",
                "https://mirror.test/metrics/ghcr.io",
            ]
        )
    )
    assert (job["job_name"], job["scheme"]) == ("registry-mirror", "https")
    assert [
        (each["targets"], each["labels"]["part"], each["labels"]["__metrics_path__"])
        for each in job["static_configs"]
    ] == [
        (["mirror.test:443"], "root", "/metrics"),
        (["mirror.test:443"], "varnish", "/metrics/varnish"),
        (["mirror.test:443"], "ghcr.io", "/metrics/ghcr.io"),
    ]
    assert {each["labels"]["mirror"] for each in job["static_configs"]} == {"mirror.test"}


HEALTHY = Look("n1", reachable=True, listed=True, used=True, recorded=True)
QUOTA = Stats(quota={"left": 87, "of": 100, "hours": 6})


def values(*looks: Look, stats: Stats = QUOTA) -> dict[tuple[str, str], float]:
    """(metric, node) -> value."""
    return {
        (name.removeprefix("registry_mirror_"), labels.get("node", "")): float(value)
        for name, labels, value in verb.of_a_mirror("mirror.test", looks, stats, 17.5)
    }


def test_a_healthy_node_and_the_quota_are_numbers() -> None:
    assert values(HEALTHY) == {
        ("status_timestamp_seconds", ""): 17,
        ("node_reachable", "n1"): 1,
        ("node_uses_mirror", "n1"): 1,
        ("node_drifted", "n1"): 0,
        ("node_in_swarm", "n1"): 1,
        ("node_mirror_answers", "n1"): 1,
        ("node_guard_out", "n1"): 0,
        ("node_pending_restart_keys", "n1"): 0,
        ("quota_remaining", ""): 87,
        ("quota_limit", ""): 100,
    }


@pytest.mark.parametrize(
    ("look", "name", "value"),
    [
        (Look("n", reachable=True, used=False), "node_uses_mirror", 0),
        (Look("n", reachable=True, used=False), "node_drifted", 1),
        (Look("n", reachable=True, swarm_faults=["down"]), "node_in_swarm", 0),
        (Look("n", reachable=True, mirror_faults=["503"]), "node_mirror_answers", 0),
        (Look("n", reachable=True, guard_out=True), "node_guard_out", 1),
        (Look("n", reachable=True, due=["a", "b"]), "node_pending_restart_keys", 2),
    ],
)
def test_what_is_wrong_with_a_node_is_a_number(look: Look, name: str, value: float) -> None:
    assert values(look)[name, "n"] == value


def test_of_a_node_that_cannot_be_asked_nothing_else_is_said() -> None:
    found = values(Look("n1", reachable=False), stats=Stats())
    assert found == {("status_timestamp_seconds", ""): 17, ("node_reachable", "n1"): 0}


def test_every_number_of_the_nodes_is_in_the_table_and_the_other_way_round() -> None:
    said = {name for name, _, _ in verb.of_a_mirror("mirror.test", [HEALTHY], QUOTA, 1)}
    assert said == {metric.name for metric in METRICS if metric.source == "nodes"}


def test_samples_of_a_name_stand_together_and_no_label_ends_a_line() -> None:
    name, other = "registry_mirror_node_reachable", "registry_mirror_quota_limit"
    text = exposition(
        [(name, {"node": 'a"\n\\'}, True), (other, {}, 100.0), (name, {"node": "b"}, 0)]
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [f'{name}{{node="a\\"\\n\\\\"}} 1', f'{name}{{node="b"}} 0', f"{other}{{}} 100"]
    with pytest.raises(KeyError):
        exposition([("registry_mirror_of_nobody", {}, 1)])


def test_a_file_takes_the_place_of_the_old_one_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "mirror.prom"
    path.write_text("old")
    inode = path.stat().st_ino
    verb.write(path, "new\n")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new\n", 0o644)
    assert path.stat().st_ino != inode
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_one_message_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CommandError) as raised:
        verb.write(tmp_path / "folder", "new\n")
    assert "cannot be written" in raised.value.reason
    assert raised.value.remedy
    with pytest.raises(CommandError):
        verb.write(tmp_path / "none/x", "new\n")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("part", "file"), [("rules", "rules.yml"), ("dashboard", "dashboard.json")]
)
def test_rules_and_dashboard_are_printed_without_a_stack(
    capsys: pytest.CaptureFixture[str], part: str, file: str
) -> None:
    assert command.main(["monitoring", part]) == 0
    assert capsys.readouterr().out == (FOLDER / file).read_text()
