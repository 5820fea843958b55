"""The rolling restart: whose turn it is, what forbids it, and what is left behind when it fails. The nodes are simulated."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from components.registry_mirror.rolling_restart import order, run

M1, M2, M3 = (
    {"id": f"i{n}", "name": f"m{n}", "role": "manager", "reachable": True, "leader": n == 1, "held": "", "availability": "active"}
    for n in (1, 2, 3)
)
W1, W2 = (
    {"id": f"j{n}", "name": f"w{n}", "role": "worker", "reachable": False, "leader": False, "held": "", "availability": "active"}
    for n in (1, 2)
)
SWARM = [M1, M2, M3, W1, W2]
DUE = {"m1": "i1", "w1": "j1", "m2": "i2", "w2": "j2", "m3": "i3"}


def test_workers_come_first_and_the_leader_last() -> None:
    assert order.order(DUE, SWARM) == ["w1", "w2", "m2", "m3", "m1"]


def test_three_managers_that_are_all_there_may_go_one_at_a_time() -> None:
    assert order.refusals(DUE, SWARM, False) == []


def test_with_one_of_three_managers_away_no_other_may_go() -> None:
    members = [M1, M2, {**M3, "reachable": False}, W1]
    (found,) = order.refusals({"m1": "i1", "m2": "i2", "w1": "j1"}, members, False)
    assert found.startswith("m1, m2 are not restarted: 2 of 3 managers are reachable and 2 are needed for quorum")


@pytest.mark.parametrize(("managers", "words"), [([M1], "the swarm's only manager"), ([M1, M2], "2 of 2 managers")])
def test_one_or_two_managers_may_never_go(managers: list[dict[str, Any]], words: str) -> None:
    (found,) = order.refusals({"m1": "i1"}, [*managers, W1], False)
    assert words in found
    assert order.refusals({"m1": "i1"}, [*managers, W1], True) == []


def test_workers_do_not_depend_on_the_managers_number() -> None:
    assert order.refusals({"w1": "j1"}, [M1, W1], False) == []


def test_a_node_of_another_swarm_is_found_out() -> None:
    assert order.refusals({"x": "zz"}, SWARM, False) == ["x is no member of this swarm (docker info: node id zz)"]


class Fleet:
    """Nodes that do as they are told, and remember what they were told, in order."""

    def __init__(self, members: list[dict[str, Any]]) -> None:
        self.members = [dict(member) for member in members]
        self.done: list[str] = []
        self.due = set(DUE)
        self.unverified: set[str] = set()
        self.fails: dict[str, str] = {}
        self.after: dict[str, Callable[[], None]] = {}

    def agent(self, request: Mapping[str, Any], node: Mapping[str, Any], action: str, **settings: Any) -> str:
        name = node["name"]
        me = next(member for member in self.members if member["name"] == name)
        target = next((member for member in self.members if member["id"] == settings.get("id")), me)
        step = f"{action} {target['name']}"
        if action == "swarm.view":
            if me["role"] == "worker":
                raise run.RestartFailed("This node is not a swarm manager")
            return json.dumps(self.members)
        if action == "restart.due":
            due = ["log-driver"] if name in self.due else []
            return json.dumps({"due": due, "reasons": ["why"], "id": me["id"], "unverified": name in self.unverified})
        self.done.append(step)
        if action.startswith("swarm.") and name == target["name"] and len(self.members) > 2:
            raise AssertionError("a node was asked about itself though there are other managers")
        if step in self.fails:
            raise run.RestartFailed(self.fails[step])
        if action == "swarm.drain":
            target.update(held=target["held"] or target["availability"], availability="drain")
        if action == "swarm.give_back" and target["held"]:
            target.update(held="", availability=target["held"])
        if action == "restart.run":
            assert me["availability"] == "drain"
            self.due.discard(name)
        self.after.get(step, lambda: None)()
        return "done"


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    found = Fleet(SWARM)
    monkeypatch.setattr(run, "_agent", found.agent)
    return found


def request(told: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    nodes = [{"name": name, "settings": {"keys": {"log-driver": "journald", "debug": True}}} for name in DUE]
    words = told if told is not None else dict.fromkeys(DUE, "written and reloaded; restart due")
    common = {"restart": "when-needed", "restart_keys": ["log-driver"], "allow_quorum_loss": False, "manager": "m1"}
    return {**common, "told": words, "nodes": nodes, **more}


def test_one_node_at_a_time_is_drained_restarted_given_back_and_looked_at(fleet: Fleet) -> None:
    assert run.run(request()) == "restarted: w1, w2, m2, m3, m1"
    steps = ["swarm.drain", "restart.run", "swarm.await_ready", "swarm.give_back", "restart.verify"]
    assert fleet.done == [f"{step} {name}" for name in ("w1", "w2", "m2", "m3", "m1") for step in steps]
    assert {member["availability"] for member in fleet.members} == {"active"}


def test_a_node_gets_back_exactly_the_availability_that_it_had(fleet: Fleet) -> None:
    fleet.members[3]["availability"] = "pause"
    fleet.members[4]["availability"] = "drain"
    run.run(request())
    assert [member["availability"] for member in fleet.members] == ["active", "active", "active", "pause", "drain"]


def test_nodes_that_were_not_left_waiting_are_not_even_asked(fleet: Fleet) -> None:
    assert run.run(request(dict.fromkeys(DUE, "unchanged"))) == "no restart was needed"
    assert fleet.done == []


def test_a_failed_restart_ends_the_roll_out_and_leaves_no_node_drained(fleet: Fleet) -> None:
    fleet.fails["restart.run w2"] = "docker did not start; the old daemon.json is back, and docker runs with it"
    with pytest.raises(run.RestartFailed, match=r"^w2: docker did not start.*; not restarted: m2, m3, m1$"):
        run.run(request())
    assert {member["availability"] for member in fleet.members} == {"active"}
    assert not [step for step in fleet.done if "m2" in step]


def test_a_node_that_cannot_be_given_back_is_said_to_be_drained_still(fleet: Fleet) -> None:
    fleet.fails["restart.run w1"] = "docker did not start"
    fleet.fails["swarm.await_ready w1"] = "the swarm does not see w1 ready"
    with pytest.raises(run.RestartFailed, match="docker did not start; IT IS STILL DRAINED: the swarm does not see w1 ready"):
        run.run(request())


def test_a_node_that_is_not_well_once_it_has_its_tasks_again_is_drained_and_undone(fleet: Fleet) -> None:
    fleet.fails["restart.verify w1"] = "docker was restarted, and then, from this node, no route"
    with pytest.raises(
        run.RestartFailed, match=r"w1: docker was restarted, and then.*no route; done; not restarted: w2, m2, m3, m1"
    ):
        run.run(request())
    steps = ["drain", "await_ready", "give_back"]
    assert fleet.done[-4:] == ["swarm.drain w1", "restart.undo w1", *(f"swarm.{step} w1" for step in steps[1:])]
    assert {member["availability"] for member in fleet.members} == {"active"}


def test_a_manager_that_is_lost_on_the_way_ends_the_roll_out_before_quorum_does(fleet: Fleet) -> None:
    fleet.after["restart.verify w2"] = lambda: fleet.members[2].update(reachable=False)
    with pytest.raises(run.RestartFailed, match="m2: not restarted: 2 of 3 managers are reachable"):
        run.run(request())
    assert [step for step in fleet.done if step.startswith("restart.run")] == ["restart.run w1", "restart.run w2"]


def test_what_an_interrupted_run_has_left_drained_is_given_back(fleet: Fleet) -> None:
    fleet.due = {"w2"}
    fleet.members[3].update(held="active", availability="drain")
    run.run(request())
    assert fleet.members[3]["availability"] == "active"


def test_what_an_interrupted_run_has_restarted_is_looked_at_before_anybody_else_is_restarted(fleet: Fleet) -> None:
    fleet.due, fleet.unverified = {"w2"}, {"w1"}
    run.run(request())
    assert fleet.done[:2] == ["restart.verify w1", "swarm.drain w2"]
    fleet.due, fleet.unverified = set(), {"w1"}
    assert run.run(request()) == "verified: w1"


def test_what_an_interrupted_run_has_restarted_and_is_not_well_goes_back_and_nobody_is_restarted(fleet: Fleet) -> None:
    fleet.due, fleet.unverified = {"w2"}, {"w1"}
    fleet.fails["restart.verify w1"] = "docker was restarted, and then, from this node, no route"
    with pytest.raises(run.RestartFailed, match=r"^w1: docker was restarted, and then.*no route; done$"):
        run.run(request())
    assert "restart.undo w1" in fleet.done
    assert not [step for step in fleet.done if "w2" in step]


def test_nothing_is_restarted_where_that_is_not_allowed(fleet: Fleet) -> None:
    with pytest.raises(run.RestartFailed, match="restart is never; set it to when-needed"):
        run.run(request(restart="never"))
    assert fleet.done == []


def test_a_refusal_names_every_reason_and_restarts_nobody(fleet: Fleet) -> None:
    fleet.members[1]["reachable"] = False
    with pytest.raises(run.RestartFailed, match=r"^no docker was restarted: m1, m2, m3 are not restarted: 2 of 3"):
        run.run(request())
    assert fleet.done == []


def test_the_way_back_asks_for_everything_but_the_keys_that_need_a_restart(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def agent(request: Mapping[str, Any], node: Mapping[str, Any], action: str, **settings: Any) -> str:
        asked.append(node["settings"]["keys"])
        return fleet.agent(request, node, action, **settings)

    monkeypatch.setattr(run, "_agent", agent)
    run.release(request(dict.fromkeys(DUE, "unchanged")))
    assert fleet.due == set(), "whatever a node said last, it is asked"
    assert all(keys == {"debug": True} for keys in asked)
    assert len(asked) > 5
