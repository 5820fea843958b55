"""What status says of a node, and the exit code that a script can use."""

import json
import re
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from operate import __main__ as operate
from operate import nodes, verdict
from operate.nodes import Look
from tests.unit.test_args import args, node

WELL: dict[str, Any] = {"reachable": True, "engine": "26.1.5", "listed": True, "used": True, "recorded": True}


def look(name: str = "n1", **more: Any) -> Look:
    return Look(name, **{**WELL, **more})


@pytest.mark.parametrize(
    ("changed", "drifted"),
    [
        ({}, False),
        ({"edited": True}, False),  # by somebody, who left our entry: his right
        ({"listed": False}, True),
        ({"used": False}, True),
        ({"recorded": False}, True),
        ({"faults": ["the name does not resolve"]}, True),
        ({"reachable": False, "used": False}, False),
    ],
)
def test_a_node_has_drifted_if_it_does_not_use_the_mirror_as_we_left_it(changed: dict[str, Any], drifted: bool) -> None:
    assert look(**changed).drifted is drifted


def test_the_exit_code_tells_the_worst() -> None:
    off = look("n3", reachable=False)
    assert verdict.exit_code([look(), look(availability="drain")]) == 0
    assert verdict.exit_code([look(), look(used=False)]) == 1
    assert verdict.exit_code([look(), look(mirror_faults=["no route"])]) == 1
    assert verdict.exit_code([look(), look(swarm_faults=["down"])]) == 1
    assert verdict.exit_code([look(used=False), off]) == 2


CASES = Path(__file__).parent / "cases" / "verdict"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_what_is_said_of_a_node(path: Path) -> None:
    """`node`: what it says of itself; `member`: how the swarm sees it, or null; `fault`: a pattern of what is wrong with that."""
    case: dict[str, Any] = json.loads(path.read_text())
    member = None if case["member"] is None else {**MEMBER, **case["member"]}
    found = nodes._placed(look(id="i1", **case["node"]), {"i1": member} if member else {})
    assert verdict.state(found) == case["state"], found
    assert found.drifted is (case["state"] == "DRIFTED")
    assert bool(found.swarm_faults) is ("fault" in case)
    assert re.search(case.get("fault", ""), " ".join(found.swarm_faults)), found.swarm_faults


MEMBER = {"role": "worker", "ready": True, "reachable": False, "availability": "active", "held": ""}


def test_a_swarm_that_cannot_be_asked_is_said_and_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def agent(action: str, *_: Any) -> tuple[int, str, str]:
        answer = asdict(Look("a", **WELL))
        for name in ("node", "reachable", "availability"):  # what the node does not say itself
            answer.pop(name)
        return (255, "", "no route to host") if action == "swarm.view" else (0, json.dumps(answer), "")

    monkeypatch.setattr(nodes, "_agent", agent)
    (found,) = nodes.look(args(nodes=[node("a")]), "s", "key")
    assert found.hazards == ["the swarm's view of the nodes is not known: no route to host"]
    assert verdict.state(found) == "well"
    for nonsense in ("Welcome", "[1]", '[{"name": "a"}]', "{}x", "[" * 3000):
        monkeypatch.setattr(nodes, "_agent", lambda action, *_, text=nonsense: (0, text, ""))
        assert nodes._members(args(nodes=[node("a")]), "s", "key")[0] is None


def test_the_table_has_a_row_per_node_and_the_faults_below() -> None:
    lines = operate._as_table([look(), look("n2", used=False, faults=["the reason"]), look("n3", reachable=False)]).splitlines()
    assert [line.split()[:2] for line in lines[3:6]] == [["n1", "well"], ["n2", "DRIFTED"], ["n3", "UNREACHABLE"]]
    assert lines[-1] == "  n2: the reason"


def test_repair_begins_with_a_worker_and_goes_on_to_those_that_can_be_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, most = 0, 0
    asked: list[tuple[str, int]] = []
    lock = threading.Lock()

    def agent(action: str, swarm_node: Any, *_: Any) -> tuple[int, str, str]:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
            asked.append((swarm_node.name, at_work))
        time.sleep(0.05)
        with lock:
            at_work -= 1
        return (1, "", "no " + swarm_node.name) if swarm_node.name in "bc" else (0, "reloaded", "")

    monkeypatch.setattr(nodes, "_agent", agent)
    settings = args(nodes=[node(name) for name in "abcdefg"], manager="a", max_parallel=2)
    done = nodes.repair(settings, "s", "key", set("abcdeg"))
    assert [(name, well) for name, well, _ in done] == [
        ("b", False), ("c", False), ("d", True), ("e", True), ("g", True), ("a", True),
    ]  # fmt: skip
    assert done[0][2] == "no b"
    assert [running for _, running in asked[:3]] == [1, 1, 1], "one at a time until one is repaired"
    assert most == 2


def test_repair_gives_a_reason_for_each_node_that_it_does_not_mend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operate, "repair", lambda *_: [("n1", False, "nothing was changed: why"), ("n2", True, "reloaded")])
    looks = [
        look("n1", used=False), look("n2", used=False), look("n3", swarm_faults=["the swarm sees it down"]),
        look("n4", reachable=False, faults=["no route to host"]), look("n5"), look("n6", availability="drain"),
    ]  # fmt: skip
    settings: Any = type("Settings", (), {"mirror": None, "service": "s", "private_key": "k"})
    assert operate._repair(settings, looks) == 1
    told = capsys.readouterr().out
    assert "n1: nothing was changed: why" in told
    assert "n3: NOT IN SWARM: the swarm sees it down" in told
    assert "n4: UNREACHABLE: no route to host" in told
    assert "n5" not in told
    assert "n6" not in told
    assert operate._repair(settings, looks[2:]) == 2
    assert operate._repair(settings, looks[4:]) == 0
    assert "Nothing to repair." in capsys.readouterr().out
