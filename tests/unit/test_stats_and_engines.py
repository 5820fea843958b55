"""The verbs `stats` and `engines`: what they print, for people and for scripts, and their exit
codes."""

import json
from typing import Any

import pytest

from components.registry_mirror.cli import __main__ as command
from components.registry_mirror.cli import deployed, nodes
from components.registry_mirror.cli import stack as stacks
from components.registry_mirror.cli.gathered import Stats
from components.registry_mirror.cli.usage import Registry, Usage
from tests.builders import mirror


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> list[deployed.Mirror]:
    """What the stack's state has."""
    mirrors = [mirror("n1", "n2")]

    class Stack:
        def state(self) -> None: ...

    monkeypatch.setattr(stacks, "chosen", lambda options: Stack())
    monkeypatch.setattr(stacks, "mirrors", lambda options: mirrors)
    monkeypatch.setattr(deployed, "mirrors", lambda state, name=None: mirrors)
    monkeypatch.setattr(nodes, "usage", lambda mirror, others, days: Usage(days))
    return mirrors


@pytest.mark.parametrize(
    ("each", "code"),
    [
        (Stats(node="n1", hits=12), 0),
        (Stats(), 1),
        (Stats(node="n1", faults=["n2: no route"]), 2),
    ],
    ids=["all is known", "no node has it", "one node did not answer"],
)
def test_stats_are_a_table_or_an_object_and_say_what_could_not_be_asked(
    mirrors: list[deployed.Mirror],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    each: Stats,
    code: int,
) -> None:
    monkeypatch.setattr(nodes, "stats", lambda *_: each)
    assert command.main(["stats"]) == code
    text = capsys.readouterr().out
    assert "what the mirror did" in text
    assert all(fault in text for fault in each.faults)
    assert command.main(["stats", "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert report["mirror"] == "m"
    assert report["hits"] == each.hits


def test_the_stats_of_several_mirrors_are_a_list_and_the_worst_counts(
    mirrors: list[deployed.Mirror],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mirrors.append(mirror("n3"))
    answers = iter([Stats(node="n1"), Stats(faults=["n3: no route"])])
    monkeypatch.setattr(nodes, "stats", lambda *_: next(answers))
    assert command.main(["stats", "--json"]) == 2
    assert len(json.loads(capsys.readouterr().out)) == 2


def noted(registry: str, **more: Any) -> Registry:
    names = ("requests", "hits", "misses", "served_bytes", "fetched_bytes", "evicted_layers")
    numbers = dict.fromkeys((*names, "evicted_bytes", "cached_bytes", "oldest_use"), 0)
    return Registry(registry, {"hits": 5}, **{"hours": 3, **numbers, "top": {}, **more})


def test_stats_over_days_have_a_line_for_each_registry_and_the_images_that_are_pulled_most(
    mirrors: list[deployed.Mirror],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registries = [noted("", hits=9, misses=1, top={"library/x:1": 1200}), noted("ghcr.io")]
    monkeypatch.setattr(nodes, "stats", lambda *_: Stats(node="n1", hits=12))
    monkeypatch.setattr(nodes, "usage", lambda mirror, others, days: Usage(days, registries))
    assert command.main(["stats", "--days", "30"]) == 0
    text = capsys.readouterr().out
    assert "The last 30 days" in text
    assert "90 %" in text
    assert "Each registry since its start" in text
    assert "1,200" in text
    assert command.main(["stats", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["hits"], report["days"]) == (12, 7), "what scripts read before is there"
    assert [each["registry"] for each in report["registries"]] == ["", "ghcr.io"]
    with pytest.raises(SystemExit) as ended:
        command.main(["stats", "--days", "0"])
    assert ended.value.code == 64


Answer = tuple[str, dict[str, Any], str]
FINE: Answer = ("n10", {"engine": "26.1.5", "way": "hosts.toml", "hazards": []}, "")
BREAKS: Answer = (
    "n9",
    {"engine": "20.10.24", "way": "daemon.json", "hazards": ["its labels are refused"]},
    "",
)
AWAY: Answer = ("n2", {}, "no answer within 8 s")


@pytest.mark.parametrize(
    ("answers", "code"),
    [([FINE], 0), ([FINE, BREAKS], 1), ([FINE, BREAKS, AWAY], 2)],
    ids=["nothing breaks", "one breaks", "one is away"],
)
def test_engines_says_what_would_break_on_which_node(
    mirrors: list[deployed.Mirror],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: list[Answer],
    code: int,
) -> None:
    asked: list[str] = []

    def upgrade(of: deployed.Mirror, to: str) -> list[Answer]:
        asked.append(to)
        return list(answers)

    monkeypatch.setattr(nodes, "upgrade", upgrade)
    assert command.main(["engines", "--to", "29.2.1"]) == code
    text = capsys.readouterr().out
    assert asked == ["29.2.1"]
    names = [name for name in ("n2", "n9", "n10") if name in {answer[0] for answer in answers}]
    assert [
        line.split()[0]
        for line in text.splitlines()
        if line.split()[:1] and line.split()[0] in names and ":" not in line
    ] == names, "n9 before n10"
    for name, known, fault in answers:
        for words in [fault] if fault else known["hazards"]:
            assert f"{name}: {words}" in text
    assert command.main(["engines", "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert asked[1] == report["to"]
    assert [node["node"] for node in report["nodes"]] == names


@pytest.mark.parametrize("to", ["29", "latest", "29.2.1; id", "v29.2.1"])
def test_what_is_no_version_of_docker_is_a_mistake_of_usage(
    mirrors: list[deployed.Mirror], capsys: pytest.CaptureFixture[str], to: str
) -> None:
    assert command.main(["engines", "--to", to]) == 64
    assert "must be a version of docker like" in capsys.readouterr().err
