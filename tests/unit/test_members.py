"""Who is in the swarm, as the agent on a manager says it for the verbs; docker is a store here."""

import json
from typing import Any

import pytest

from components.registry_mirror.cli import answers
from components.registry_mirror.node_agent import engine, members
from components.registry_mirror.node_agent.request import MembersRequest
from tests.fake_swarm import inspected

TASKS = {"t1": ("running", "idM"), "t2": ("shutdown", "idW"), "t3": ("pending", "")}
"""Of the guard: state, node."""


class Manager:
    """The commands that `members.py` runs."""

    def __init__(self) -> None:
        self.nodes = [
            inspected("idM", "m1", "10.0.0.1", "manager"),
            inspected("idW", "w1", "10.0.0.2"),
        ]
        self.nodes[1]["Spec"]["Labels"] = {"disk": "ssd"}
        self.services = ["guard-folder", "guard"]
        self.commands: list[tuple[str, ...]] = []

    def run(self, *command: str) -> str:
        self.commands.append(command)
        words = command[1:]
        if words[:2] == ("node", "ls"):
            return "\n".join(each["ID"] for each in self.nodes)
        if words[:2] == ("node", "inspect"):
            return json.dumps(self.nodes)
        if words[:2] == ("service", "ls"):
            wanted = words[words.index("--filter") + 1].removeprefix("name=")
            return "\n".join(name for name in self.services if name.startswith(wanted))
        if words[:2] == ("service", "ps"):
            assert words[-1] in self.services, "docker would fail"
            return "\n".join(TASKS)
        assert words[:3] == ("inspect", "--type", "task")
        return "\n".join(" ".join(TASKS[task]) for task in words if task in TASKS)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Manager:
    manager = Manager()
    monkeypatch.setattr(engine, "run", manager.run)
    return manager


def seen(guard: str = "guard") -> dict[str, dict[str, Any]]:
    """As the command reads it."""
    text = members.view(MembersRequest(guard))
    return {each["id"]: each for each in answers.parse_list(text, answers.MEMBER)}


def test_a_member_has_its_engine_its_labels_and_whether_the_guard_runs_there(
    manager: Manager,
) -> None:
    found = seen()
    assert [found[name]["guarded"] for name in ("idM", "idW")] == [True, False]
    assert found["idW"]["labels"] == {"disk": "ssd"}
    assert (found["idW"]["engine"], found["idW"]["os"]) == ("29.1.0", "linux")


def test_without_a_guard_no_service_is_asked_for(manager: Manager) -> None:
    assert not any(each["guarded"] for each in seen("").values())
    assert not [words for words in manager.commands if "service" in words]


def test_a_service_whose_name_only_begins_alike_is_not_the_guard(manager: Manager) -> None:
    manager.services = ["guard-folder"]
    assert not any(each["guarded"] for each in seen().values())
