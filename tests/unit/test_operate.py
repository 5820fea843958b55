"""What status says of a node, and the exit code that a script can use."""

from typing import Any

import pytest

from operate import __main__ as operate
from operate import nodes
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
    assert operate._exit_code([look(), look()]) == 0
    assert operate._exit_code([look(), look(used=False)]) == 1
    assert operate._exit_code([look(used=False), off]) == 2


def test_the_table_has_a_row_per_node_and_the_faults_below() -> None:
    lines = operate._as_table([look(), look("n2", used=False, faults=["the reason"]), look("n3", reachable=False)]).splitlines()
    assert [line.split()[:2] for line in lines[3:6]] == [["n1", "well"], ["n2", "DRIFTED"], ["n3", "UNREACHABLE"]]
    assert lines[-1] == "  n2: the reason"


def test_repair_begins_with_one_node_and_stops_at_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def agent(action: str, swarm_node: Any, *_: Any) -> tuple[int, str, str]:
        asked.append(swarm_node.name)
        return (1, "", "no") if swarm_node.name == "b" else (0, "reloaded", "")

    monkeypatch.setattr(nodes, "_agent", agent)
    settings = args(nodes=[node(name) for name in "abcd"], max_parallel=1)
    assert nodes.repair(settings, "s", "key", {"a", "b", "d"}) == [("a", True, "reloaded"), ("b", False, "no")]
    assert asked == ["a", "b"]
