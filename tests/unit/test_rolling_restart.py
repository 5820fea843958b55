"""The rolling restart: whose turn it is, what forbids it, and what is left behind when it fails.
The nodes are simulated."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent.request import (
    MemberRequest,
    NodeRequest,
    NodeToRestart,
    RestartsRequest,
)
from components.registry_mirror.rolling_restart import order, run, ssh
from components.registry_mirror.rolling_restart.agent import RestartFailed, over_ssh

M1, M2, M3 = (
    {
        "id": f"i{n}",
        "name": f"m{n}",
        "role": "manager",
        "reachable": True,
        "leader": n == 1,
        "held": "",
        "availability": "active",
    }
    for n in (1, 2, 3)
)
W1, W2 = (
    {
        "id": f"j{n}",
        "name": f"w{n}",
        "role": "worker",
        "reachable": False,
        "leader": False,
        "held": "",
        "availability": "active",
    }
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
    assert found.startswith(
        "m1, m2 are not restarted: 2 of 3 managers are reachable and 2 are needed for quorum"
    )


@pytest.mark.parametrize(
    ("managers", "words"), [([M1], "the swarm's only manager"), ([M1, M2], "2 of 2 managers")]
)
def test_one_or_two_managers_may_never_go(managers: list[dict[str, Any]], words: str) -> None:
    (found,) = order.refusals({"m1": "i1"}, [*managers, W1], False)
    assert words in found
    assert order.refusals({"m1": "i1"}, [*managers, W1], True) == []


def test_workers_do_not_depend_on_the_managers_number() -> None:
    assert order.refusals({"w1": "j1"}, [M1, W1], False) == []


def test_a_node_of_another_swarm_is_found_out() -> None:
    assert order.refusals({"x": "zz"}, SWARM, False) == [
        "x is no member of this swarm (docker info: node id zz)"
    ]


CASES = Path(__file__).parent / "cases" / "identify"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_who_a_node_is_in_the_swarm(path: Path) -> None:
    """`claims`: what nodes say; `refused`: a pattern per reason."""
    case: dict[str, Any] = json.loads(path.read_text())
    identified = order.identify(case["claims"], case["nodes"], case["members"])
    assert len(identified) == len(case["refused"]), identified
    assert all(
        re.search(words, reason) for words, reason in zip(case["refused"], identified, strict=True)
    ), identified


class Fleet:
    """Nodes that do what they are asked to do, and remember it, in order."""

    def __init__(self, members: list[dict[str, Any]]) -> None:
        self.members = [{**member, "version": 1} for member in members]
        self.done: list[str] = []
        self.due = set(DUE)
        self.unverified: set[str] = set()
        self.fails: dict[str, Exception | str] = {}
        self.says: dict[str, str] = {}
        """Action and node -> what it answers in place of the truth."""
        self.silent: set[str] = set()
        """Nodes that do not register with the swarm again once their docker was restarted."""
        self.after: dict[str, Callable[[], None]] = {}

    def agent(self, node: NodeToRestart, action: str, request: Any) -> str:
        name = node.name
        me = next(member for member in self.members if member["name"] == name)
        wanted = request.id if isinstance(request, MemberRequest) else me["id"]
        target = next(member for member in self.members if member["id"] == wanted)
        step = f"{action} {target['name']}"
        if step in self.says:
            return self.says[step]
        if action == "swarm.view":
            if me["role"] == "worker":
                raise RestartFailed("This node is not a swarm manager")
            return json.dumps(self.members)
        if action == "restart.due":
            due = ["log-driver"] if name in self.due else []
            return json.dumps(
                {
                    "due": due,
                    "reasons": ["why"],
                    "id": me["id"],
                    "unverified": name in self.unverified,
                }
            )
        self.done.append(step)
        if action.startswith("swarm.") and name == target["name"] and len(self.members) > 2:
            raise AssertionError("a node was asked about itself though there are other managers")
        if step in self.fails:
            error = self.fails[step]
            raise RestartFailed(error) if isinstance(error, str) else error
        if action == "swarm.await_ready" and target["version"] <= request.after:
            raise RestartFailed(
                f"the swarm does not see {target['name']} ready (what it says of it is from before)"
            )
        if action == "swarm.drain":
            target.update(held=target["held"] or target["availability"], availability="drain")
        if action == "swarm.give_back" and target["held"]:
            target.update(held="", availability=target["held"])
        if action == "restart.run":
            assert me["availability"] == "drain"
            self.due.discard(name)
        if action in ("restart.run", "restart.undo") and name not in self.silent:
            me["version"] += 1
        self.after.get(step, lambda: None)()
        return "restarted" if action == "restart.run" else "done"


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(SWARM)


def request(told: dict[str, Any] | None = None, **more: Any) -> RestartsRequest:
    settings = NodeRequest(
        owner="hub",
        mirror_url="https://mirror.example.com",
        check_image="library/hello-world:latest",
        path="/etc/docker/daemon.json",
        unit="docker",
        managed_keys={"log-driver": "journald", "debug": True},
        restart="when-needed",
    )
    left_waiting = {"outcome": "written-and-reloaded", "pending": ["log-driver"]}
    usual = RestartsRequest(
        restart="when-needed",
        restart_keys=["log-driver"],
        allow_quorum_loss=False,
        manager="m1",
        told=told if told is not None else dict.fromkeys(DUE, left_waiting),
        nodes=[NodeToRestart(name, {}, settings) for name in DUE],
    )
    return replace(usual, **more)


def test_one_node_at_a_time_is_drained_restarted_given_back_and_looked_at(fleet: Fleet) -> None:
    assert run.run(request(), fleet.agent) == "restarted: w1, w2, m2, m3, m1"
    steps = ["swarm.drain", "restart.run", "swarm.await_ready", "swarm.give_back", "restart.verify"]
    assert fleet.done == [
        f"{step} {name}" for name in ("w1", "w2", "m2", "m3", "m1") for step in steps
    ]
    assert {member["availability"] for member in fleet.members} == {"active"}


def test_a_node_gets_back_exactly_the_availability_that_it_had(fleet: Fleet) -> None:
    fleet.members[3]["availability"] = "pause"
    fleet.members[4]["availability"] = "drain"
    run.run(request(), fleet.agent)
    assert [member["availability"] for member in fleet.members] == [
        "active",
        "active",
        "active",
        "pause",
        "drain",
    ]


def test_nodes_that_were_not_left_waiting_are_not_even_asked(fleet: Fleet) -> None:
    assert run.run(request(dict.fromkeys(DUE, "unchanged")), fleet.agent) == "no restart was needed"
    assert fleet.done == []


def test_a_failed_restart_ends_the_roll_out_and_leaves_no_node_drained(fleet: Fleet) -> None:
    fleet.fails["restart.run w2"] = (
        "docker did not start; the old daemon.json is back, and docker runs with it"
    )
    with pytest.raises(
        RestartFailed, match=r"^w2: docker did not start.*; not restarted: m2, m3, m1$"
    ):
        run.run(request(), fleet.agent)
    assert {member["availability"] for member in fleet.members} == {"active"}
    assert not [step for step in fleet.done if "m2" in step]


def test_a_node_that_the_swarm_does_not_see_is_given_back_all_the_same_and_one_that_cannot_be_is_named(  # noqa: E501
    fleet: Fleet,
) -> None:
    fleet.fails["restart.run w1"] = "docker did not start"
    fleet.fails["swarm.await_ready w1"] = "the swarm does not see w1 ready"
    with pytest.raises(
        RestartFailed,
        match=r"^w1: docker did not start; the swarm does not see w1 ready; not restarted",
    ):
        run.run(request(), fleet.agent)
    assert fleet.members[3]["availability"] == "active", (
        "a node that is away gets no tasks anyhow, and one that is back gets some"
    )
    fleet.due, fleet.fails["swarm.give_back w1"] = {"w1"}, "no leader"
    with pytest.raises(
        RestartFailed,
        match="docker did not start; the swarm does not see w1 ready; IT IS STILL DRAINED: no"
        " leader",
    ):
        run.run(request(), fleet.agent)


def test_a_node_that_is_unhealthy_once_it_has_its_tasks_again_is_drained_and_rolled_back(
    fleet: Fleet,
) -> None:
    fleet.fails["restart.verify w1"] = "docker was restarted, and then, from this node, no route"
    with pytest.raises(
        RestartFailed,
        match=r"w1: docker was restarted, and then.*; done; it is not healthy with that either: .*"
        r"no route; not restarted: w2, m2",
    ):
        run.run(request(), fleet.agent)
    steps = [
        "swarm.drain",
        "restart.undo",
        "swarm.await_ready",
        "swarm.give_back",
        "restart.verify",
    ]
    assert fleet.done[-5:] == [f"{step} w1" for step in steps], "the way back is verified too"
    assert {member["availability"] for member in fleet.members} == {"active"}


def test_a_manager_that_is_lost_on_the_way_ends_the_roll_out_before_quorum_does(
    fleet: Fleet,
) -> None:
    fleet.after["restart.verify w2"] = lambda: fleet.members[2].update(reachable=False)
    with pytest.raises(RestartFailed, match="m2: not restarted: 2 of 3 managers are reachable"):
        run.run(request(), fleet.agent)
    assert [step for step in fleet.done if step.startswith("restart.run")] == [
        "restart.run w1",
        "restart.run w2",
    ]


def test_what_an_interrupted_run_has_left_drained_is_given_back(fleet: Fleet) -> None:
    fleet.due = {"w2"}
    fleet.members[3].update(held="active", availability="drain")
    run.run(request(), fleet.agent)
    assert fleet.members[3]["availability"] == "active"


def test_what_an_interrupted_run_has_restarted_is_looked_at_before_anybody_else_is_restarted(
    fleet: Fleet,
) -> None:
    fleet.due, fleet.unverified = {"w2"}, {"w1"}
    run.run(request(), fleet.agent)
    assert fleet.done[:2] == ["restart.verify w1", "swarm.drain w2"]
    fleet.due, fleet.unverified = set(), {"w1"}
    assert run.run(request(), fleet.agent) == "verified: w1"


def test_what_an_interrupted_run_has_restarted_and_is_unhealthy_is_rolled_back_and_that_is_all(
    fleet: Fleet,
) -> None:
    fleet.due, fleet.unverified = {"w2"}, {"w1"}
    fleet.fails["restart.verify w1"] = "docker was restarted, and then, from this node, no route"
    with pytest.raises(
        RestartFailed, match=r"^w1: docker was restarted, and then.*no route; done; it is not"
    ):
        run.run(request(), fleet.agent)
    assert "restart.undo w1" in fleet.done
    assert not [step for step in fleet.done if "w2" in step]


def test_nothing_is_restarted_where_that_is_not_allowed(fleet: Fleet) -> None:
    with pytest.raises(RestartFailed, match="restart is never; set it to when-needed"):
        run.run(request(restart="never"), fleet.agent)
    assert fleet.done == []


def test_a_refusal_names_every_reason_and_restarts_nobody(fleet: Fleet) -> None:
    fleet.members[1]["reachable"] = False
    with pytest.raises(
        RestartFailed, match=r"^no docker was restarted: m1, m2, m3 are not restarted: 2 of 3"
    ):
        run.run(request(), fleet.agent)
    assert fleet.done == []


def test_the_way_back_asks_for_everything_but_the_keys_that_need_a_restart(
    fleet: Fleet,
) -> None:
    asked: list[Any] = []

    def agent(node: NodeToRestart, action: str, wish: Any) -> str:
        if isinstance(wish, NodeRequest):
            asked.append(wish.managed_keys)
        return fleet.agent(node, action, wish)

    run.release(request(dict.fromkeys(DUE, "unchanged")), agent)
    assert fleet.due == set(), "whatever a node said last, it is asked"
    assert all(keys == {"debug": True} for keys in asked)
    assert len(asked) > 5


def test_a_node_whose_ready_is_older_than_its_restart_is_rolled_back_and_ends_the_roll_out(
    fleet: Fleet,
) -> None:
    fleet.silent = {"w1"}
    fleet.after["restart.undo w1"] = lambda: fleet.members[3].update(version=9)
    words = (
        r"^w1: the swarm does not see w1 ready \(what it says of it is from before\); done;"
        r" not restarted: w2, m2, m3, m1$"
    )
    with pytest.raises(RestartFailed, match=words):
        run.run(request(), fleet.agent)
    assert "restart.undo w1" in fleet.done
    assert fleet.done[-1] == "restart.verify w1"
    assert {member["availability"] for member in fleet.members} == {"active"}


def test_a_node_that_needed_no_restart_after_all_need_not_register_anew(fleet: Fleet) -> None:
    fleet.due, fleet.silent = {"w1"}, {"w1"}
    fleet.says["restart.run w1"] = "not-needed"
    assert run.run(request(), fleet.agent) == "restarted: w1"


@pytest.mark.parametrize(
    "step", ["swarm.drain", "restart.run", "swarm.await_ready", "swarm.give_back", "restart.verify"]
)
@pytest.mark.parametrize(
    "error",
    [
        "no answer within 660 s",
        RuntimeError("a fault of ours"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
    ],
)
def test_no_failure_of_any_kind_leaves_a_node_drained(
    fleet: Fleet, step: str, error: Exception | str
) -> None:
    give_back_once = iter([error])

    def agent(node: NodeToRestart, action: str, wish: Any) -> str:
        concerns_w1 = not isinstance(wish, MemberRequest) or wish.id == "j1"
        if action == step and concerns_w1 and next(give_back_once, None):
            if (
                step == "swarm.drain"
            ):  # the command has reached the swarm, and its answer never came
                fleet.agent(node, action, wish)
            raise RestartFailed(error) if isinstance(error, str) else error
        return fleet.agent(node, action, wish)

    fleet.due = {"w1"}
    with pytest.raises((RestartFailed, RuntimeError, UnicodeDecodeError)):
        run.run(request(), agent)
    assert {member["availability"] for member in fleet.members} == {"active"}
    assert not [member for member in fleet.members if member["held"]]


def test_bytes_that_are_no_text_are_the_failure_of_the_node_that_sent_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_text(*_: Any) -> Any:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(ssh, "run", no_text)
    (node,) = [node for node in request().nodes if node.name == "w1"]
    with pytest.raises(RestartFailed, match=r"^w1: restart.run came to nothing: "):
        over_ssh("runner.sh", {})(node, "restart.run", node.settings)


@pytest.mark.parametrize(
    "answer",
    [
        "Welcome to w1\n{}",
        "[]",
        "{}",
        '{"due": 1, "reasons": [], "id": "x", "unverified": false}',
        "[" * 3000,
    ],
)
def test_an_answer_that_is_no_answer_names_the_node_and_nobody_is_restarted(
    fleet: Fleet, answer: str
) -> None:
    fleet.says["restart.due w1"] = answer
    with pytest.raises(RestartFailed, match=r"^w1: its agent"):
        run.run(request(), fleet.agent)
    assert fleet.done == []


def test_a_node_that_says_it_is_another_one_has_nobody_drained(fleet: Fleet) -> None:
    fleet.says["restart.due w2"] = json.dumps(
        {"due": ["log-driver"], "reasons": [], "id": "i3", "unverified": False}
    )
    with pytest.raises(
        RestartFailed,
        match="no docker was restarted: w2 and m3 both say that they are the node i3",
    ):
        run.run(request(), fleet.agent)
    assert fleet.done == []


def test_the_way_back_asks_every_node_also_where_no_key_is_managed_any_more(fleet: Fleet) -> None:
    fleet.due = {"w1"}  # half done, and taken out of the list since
    assert (
        run.release(request(dict.fromkeys(DUE, "unchanged"), restart_keys=[]), fleet.agent)
        == "restarted: w1"
    )


def test_what_an_earlier_version_said_of_a_node_is_understood(fleet: Fleet) -> None:
    """The words are in the states of stacks, and in what its program answers to a repair."""
    told = dict.fromkeys(DUE, "unchanged") | {"w2": "written and reloaded; restart due"}
    assert run.run(request(told), fleet.agent) == "restarted: w2"


def test_a_node_is_known_to_the_swarm_by_the_address_at_which_it_is_reached() -> None:
    (node, *_) = request().nodes
    reached = replace(node, environment={"MIRROR_SSH": "ssh://ops@10.0.0.7:2222"})
    assert (run.address_of(node), run.address_of(reached)) == ("", "10.0.0.7")
    v6 = replace(node, environment={"MIRROR_SSH": "ssh://ops@[2001:db8::7]:22"})
    assert run.address_of(v6) == "2001:db8::7"


def test_a_worker_that_claims_the_place_of_another_machine_is_found_out_by_its_address(
    fleet: Fleet,
) -> None:
    """Also where nobody calls the nodes by their host names."""
    for number, member in enumerate(fleet.members):
        member["address"] = f"10.0.0.{number}"
    asked = request()
    nodes = [
        replace(
            node, name=f"of-{node.name}", environment={"MIRROR_SSH": f"ssh://root@10.0.0.{n}:22"}
        )
        for n, node in enumerate(sorted(asked.nodes, key=lambda node: (node.name[0], node.name)))
    ]
    pending = {"outcome": "unchanged", "pending": ["log-driver"]}

    def agent(node: NodeToRestart, action: str, wish: Any) -> str:
        answered = fleet.agent(replace(node, name=node.name.removeprefix("of-")), action, wish)
        if action == "restart.due" and node.name == "of-w1":
            return json.dumps({**json.loads(answered), "id": "i2"})
        return answered

    with pytest.raises(RestartFailed, match="of-w1 says that it is the node i2 of the swarm"):
        run.run(replace(asked, nodes=nodes, manager="of-m1", told={"of-w1": pending}), agent)
    assert fleet.done == []
