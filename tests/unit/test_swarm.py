"""What a manager is asked to do with another node: drained, given back, waited for; docker is a
store of nodes and tasks here."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from components.registry_mirror.node_agent import engine, files, swarm
from components.registry_mirror.node_agent.request import MemberRequest, ViewRequest


class Manager:
    """The commands that `swarm.py` runs, over nodes and tasks as swarm keeps them; every poll is a
    second."""

    def __init__(self) -> None:
        self.nodes = {
            "idM": node("idM", "m1", "manager", "10.0.0.1"),
            "idW": node("idW", "w1", "worker", "10.0.0.2"),
        }
        self.tasks = {"idW": ["web.1"]}
        self.stuck = False
        self.commands: list[tuple[str, ...]] = []
        self.fails: list[str] = []
        self.now = 0.0
        self.later: dict[float, Callable[[], None]] = {}

    def run(self, *command: str) -> str:
        self.commands.append(command)
        if self.fails:
            raise engine.EngineProblem(self.fails.pop(0))
        words = command[1:]
        if words[:2] == ("node", "ls"):
            return "\n".join(self.nodes)
        if words[:2] == ("node", "inspect"):
            return json.dumps([self.nodes[id_] for id_ in words[2:]])
        if words[:2] == ("node", "ps"):
            return "\n".join(f"{name} Running 3 minutes ago" for name in self.tasks[words[-1]])
        assert words[:2] == ("node", "update")
        self.update(self.nodes[words[-1]], list(words[2:-1]))
        return ""

    def update(self, changed: dict[str, Any], options: list[str]) -> None:
        changed["Version"]["Index"] += 1
        for option, value in zip(options[::2], options[1::2], strict=True):
            if option == "--label-add":
                name, _, text = value.partition("=")
                changed["Spec"]["Labels"][name] = text
            elif option == "--label-rm":
                del changed["Spec"]["Labels"][value]
            else:
                assert option == "--availability"
                changed["Spec"]["Availability"] = value
                if value == "drain" and not self.stuck:
                    self.tasks[changed["ID"]] = []

    def state(self, id_: str) -> str:
        """Availability of a node, and whether somebody has left a mark on it."""
        spec = self.nodes[id_]["Spec"]
        return str(spec["Availability"]) + (" (marked)" if spec["Labels"] else "")

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 1
        self.later.get(self.now, lambda: None)()


def node(id_: str, name: str, role: str, address: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ID": id_,
        "Version": {"Index": 10},
        "Description": {"Hostname": name},
        "Spec": {"Role": role, "Availability": "active", "Labels": {}},
        "Status": {"State": "ready", "Addr": address},
    }
    if role == "manager":
        # As the leader of a docker 20.10 says of itself.
        found["Status"]["Addr"] = "0.0.0.0"
        found["ManagerStatus"] = {
            "Reachability": "reachable",
            "Leader": True,
            "Addr": f"{address}:2377",
        }
    return found


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Manager:
    manager = Manager()
    monkeypatch.setattr(engine, "run", manager.run)
    monkeypatch.setattr(swarm, "time", manager)
    return manager


def test_the_view_has_every_node_with_the_address_at_which_others_reach_it(
    manager: Manager,
) -> None:
    members = {member["name"]: member for member in json.loads(swarm.view(ViewRequest()))}
    assert (
        members["m1"]["address"],
        members["m1"]["role"],
        members["m1"]["leader"],
        members["m1"]["reachable"],
    ) == (
        "10.0.0.1",
        "manager",
        True,
        True,
    )
    assert (
        members["w1"]["address"],
        members["w1"]["role"],
        members["w1"]["ready"],
        members["w1"]["version"],
    ) == (
        "10.0.0.2",
        "worker",
        True,
        10,
    )


@pytest.mark.parametrize("before", ["active", "pause", "drain"])
def test_a_drained_node_gets_back_exactly_what_it_had(manager: Manager, before: str) -> None:
    manager.nodes["idW"]["Spec"]["Availability"] = before
    assert swarm.drain(MemberRequest("idW")) == "drained"
    assert manager.state("idW") == "drain (marked)"
    assert manager.tasks["idW"] == []
    assert swarm.give_back(MemberRequest("idW")) == before
    assert manager.state("idW") == before
    assert manager.state("idM") == "active", "and nobody else was touched"


def test_a_node_that_an_interrupted_run_has_drained_gets_back_what_it_had_before_that(
    manager: Manager,
) -> None:
    swarm.drain(MemberRequest("idW"))
    swarm.drain(MemberRequest("idW"))
    assert swarm.give_back(MemberRequest("idW")) == "active"
    assert manager.state("idW") == "active"


def test_a_node_that_was_not_drained_by_us_is_left_as_it_is(manager: Manager) -> None:
    manager.nodes["idW"]["Spec"]["Availability"] = "drain"
    assert swarm.give_back(MemberRequest("idW")) == "as it was"
    assert manager.state("idW") == "drain"


def test_a_drain_that_its_tasks_outlast_is_taken_back_and_names_them(manager: Manager) -> None:
    manager.stuck = True
    with pytest.raises(
        files.Failed, match=r"web\.1 still run on w1 180 s after it was drained; it is active again"
    ):
        swarm.drain(MemberRequest("idW"))
    assert manager.state("idW") == "active"


def test_tasks_that_take_their_time_are_waited_for(manager: Manager) -> None:
    manager.stuck = True
    manager.later[60.0] = lambda: manager.tasks.update(idW=[])
    assert swarm.drain(MemberRequest("idW")) == "drained"
    assert manager.now == 60


def test_a_ready_that_is_older_than_the_restart_is_not_believed(manager: Manager) -> None:
    with pytest.raises(
        files.Failed,
        match=r"does not see w1 ready 90 s after .* \(what it says of it is from before\)",
    ):
        swarm.await_ready(MemberRequest("idW", 10))


def test_a_node_that_has_registered_anew_is_ready(manager: Manager) -> None:
    manager.later[4.0] = lambda: manager.nodes["idW"]["Version"].update(Index=11)
    assert swarm.await_ready(MemberRequest("idW", 10)) == "ready"
    assert manager.now == 4
    assert swarm.await_ready(MemberRequest("idW")) == "ready", (
        "without a restart there is nothing to wait for"
    )


def test_a_node_that_is_down_is_not_ready_however_new_that_is(manager: Manager) -> None:
    manager.nodes["idW"]["Version"]["Index"] = 99
    manager.nodes["idW"]["Status"]["State"] = "down"
    with pytest.raises(
        files.Failed, match=r"does not see w1 ready 90 s after its docker was restarted \[RM197\]$"
    ):
        swarm.await_ready(MemberRequest("idW", 10))


def test_a_manager_must_be_reachable_too(manager: Manager) -> None:
    manager.nodes["idM"]["ManagerStatus"]["Reachability"] = "unreachable"
    with pytest.raises(files.Failed, match="does not see m1 ready"):
        swarm.await_ready(MemberRequest("idM"))


def test_a_node_that_is_not_in_the_swarm_is_nobody_to_drain(manager: Manager) -> None:
    with pytest.raises(files.Failed, match="the swarm has no node with the id idX"):
        swarm.drain(MemberRequest("idX"))
    assert not [command for command in manager.commands if "update" in command]


def test_managers_that_choose_a_leader_are_asked_again(manager: Manager) -> None:
    manager.fails = ["rpc error: The swarm does not have a leader", "context deadline exceeded"]
    assert swarm.give_back(MemberRequest("idW")) == "as it was"
    manager.fails = ["Error: permission denied"]
    with pytest.raises(engine.EngineProblem, match="permission denied"):
        swarm.give_back(MemberRequest("idW"))
