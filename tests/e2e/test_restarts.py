"""Managed keys, and the restarts that some need, on real machines: refused, done in turn, failed,
given back.

The tests build on each other; one that is chosen alone (`pytest -k`) begins where three managers
have been restarted. Node 1 runs docker 26.1, nodes 2 and 3 run 20.10; node 2 has its log
driver already, and needs a restart for the other key alone.
"""

import json
import re
import time
from collections.abc import Iterator

import pytest

from lab.plan import NODE2_DAEMON_JSON
from tests.chance import Chance
from tests.lab.lab import Lab, is_chosen
from tests.lab.mirror import Mirror, kill_session, review, saved_state
from tests.lab.output import counts

pytestmark = [pytest.mark.story, pytest.mark.engines(node3="20.10")]
"""What is seen here is daemon.json and its reloads; hosts.toml has tests of its own
(`tests/e2e/test_two_ways.py`)."""

NODES = ["node1", "node2", "node3"]
URL = "https://mirror.lab.test/"
KEYS = {"experimental": True, "log-driver": "journald"}
LABEL = "docker node inspect --format '{{.Spec.Labels}}' node1 node2 node3"


@pytest.fixture(scope="module")
def mirror(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    if mirror.stack.outputs():  # a lab that was kept from an earlier run (KEEP_LAB=1)
        promote(lab)
        mirror.destroy()
        lab.on("node1", "docker node update --availability active node3")
    demote(lab)
    if not is_chosen(request, test_a_key_that_needs_a_restart_is_refused_where_none_is_allowed):
        promote(lab)
        mirror.configure(daemonKeys=KEYS, restart="when-needed")
        mirror.up()
    yield mirror
    mirror.destroy()  # where the test that does it was not chosen
    demote(lab)


def seen(lab: Lab, node: str) -> tuple[bool, str]:
    info = lab.info(node)
    return info["ExperimentalBuild"], info["LoggingDriver"]


def promote(lab: Lab) -> None:
    lab.on("node1", "docker node promote node2 node3")
    wait_for_managers(lab, ["Leader", "Reachable", "Reachable"])


def demote(lab: Lab) -> None:
    for _ in range(20):  # refused while managers are still choosing their leader
        lab.on("node1", "docker node demote node2 node3 || true")
        if "Reachable" not in lab.on(
            "node1", "docker node ls --format '{{.ManagerStatus}}' || echo Reachable"
        ):
            break
        time.sleep(0.5)
    wait_for_managers(lab, ["Leader"])


def wait_for_managers(lab: Lab, wanted: list[str]) -> None:
    names: list[str] = []
    for _ in range(120):
        # It answers nothing while managers are choosing their leader.
        names = sorted(
            lab.on("node1", "docker node ls --format '{{.ManagerStatus}}' || true").split()
        )
        if names == wanted:
            return
        time.sleep(0.5)
    raise AssertionError(f"the managers are {names}")


def test_a_key_that_needs_a_restart_is_refused_where_none_is_allowed(
    lab: Lab, mirror: Mirror
) -> None:
    mirror.configure(daemonKeys=KEYS)
    reason = mirror.up_fails()
    assert "nothing was changed: " in reason
    assert "experimental is read by this docker (20.10.24" in reason
    assert "set restart to when-needed" in reason
    assert lab.daemon_json("node2") == NODE2_DAEMON_JSON.encode()


def test_the_swarms_only_manager_is_never_restarted_and_then_nobody_is(
    lab: Lab, mirror: Mirror
) -> None:
    daemons = {node: lab.daemon_pid(node) for node in NODES}
    mirror.configure(daemonKeys=KEYS, restart="when-needed")
    reason = mirror.up_fails()
    assert (
        "no docker was restarted: node1 is not restarted: it is the swarm's only manager" in reason
    )
    assert "allowQuorumLoss" in reason
    assert {node: lab.daemon_pid(node) for node in NODES} == daemons
    # What a reload can do is done everywhere; what it cannot do is not in the file, lest a reboot
    # by chance activates it.
    assert all(lab.mirrors(node)[0] == URL for node in NODES)
    assert [seen(lab, node) for node in NODES] == [
        (False, "json-file"),
        (False, "journald"),
        (False, "json-file"),
    ]
    assert b"log-driver" not in (lab.daemon_json("node3") or b"")


def test_a_preview_says_what_it_may_restart(mirror: Mirror) -> None:
    text = mirror.preview_without_network()
    assert (
        "nodes that need it are drained and restarted one at a time, workers first, the leader last"
        in text
    )
    assert "registry-mirror-restarts" in text


def test_with_three_managers_those_who_need_it_are_restarted_in_turn(
    lab: Lab, mirror: Mirror
) -> None:
    promote(lab)
    lab.on("node1", "docker node update --availability pause node3")
    daemons = {node: lab.daemon_pid(node) for node in NODES}
    text = mirror.up()
    turns = re.findall(r"(node\d): its docker is restarted \(\d of 3\)", text)
    assert list(dict.fromkeys(turns)) == ["node2", "node3", "node1"]  # the leader is last
    assert [seen(lab, node) for node in NODES] == [(True, "journald")] * 3
    assert all(lab.mirrors(node)[0] == URL for node in NODES)
    assert not [node for node in NODES if lab.daemon_pid(node) == daemons[node]]
    assert lab.availability() == {"node1": "active", "node2": "active", "node3": "pause"}
    assert "swarm-registry-mirror" not in lab.on("node1", LABEL)
    lab.on("node1", "docker node update --availability active node3")


def test_up_again_restarts_and_contacts_nobody(lab: Lab, mirror: Mirror) -> None:
    before = lab.connections(*NODES)
    assert set(counts(mirror.up())) == {"unchanged"}
    # Nor does a pull request's preview, though the restart's own input is one secret as a whole.
    assert review(mirror.stack, saved_state(mirror.stack))[1]["changes"] == []
    assert lab.connections(*NODES) == before
    assert mirror.operate("status")[0] == 0


def test_a_repair_restarts_what_waits_for_it_as_the_last_up_did(lab: Lab, mirror: Mirror) -> None:
    lab.on("node3", "rm /etc/docker/daemon.json; systemctl restart docker")
    wait_for_managers(lab, ["Leader", "Reachable", "Reachable"])
    lab.wait_for_mirror("node3")
    assert seen(lab, "node3") == (False, "json-file"), "or this test shows nothing"
    daemons = {node: lab.daemon_pid(node) for node in NODES}
    assert mirror.status()["node3"]["state"] == "DRIFTED"
    code, output = mirror.operate("repair")
    assert code == 0, output
    assert "node3: its docker is restarted (1 of 1)" in output
    assert "Restarted: node3." in output
    assert seen(lab, "node3") == (True, "journald")
    assert [node for node in NODES if lab.daemon_pid(node) != daemons[node]] == ["node3"]
    assert set(lab.availability().values()) == {"active"}
    assert mirror.operate("status")[0] == 0


def test_a_log_driver_that_a_node_does_not_have_is_refused_there_before_anything_is_changed(
    lab: Lab, mirror: Mirror
) -> None:
    # docker would start with it, and then no container would.
    files = {node: lab.daemon_json(node) for node in NODES}
    mirror.configure(daemonKeys={**KEYS, "log-driver": "no-such-driver"}, restart="when-needed")
    assert "nothing was changed: docker here has no log driver no-such-driver" in mirror.up_fails()
    assert {node: lab.daemon_json(node) for node in NODES} == files


def test_a_docker_that_does_not_start_has_its_old_file_back_and_nobody_else_is_restarted(
    lab: Lab, mirror: Mirror
) -> None:
    daemons = {node: lab.daemon_pid(node) for node in NODES}
    files = {node: lab.daemon_json(node) for node in NODES}
    mirror.configure(
        daemonKeys={**KEYS, "log-opts": {"no-such-option": "1"}}, restart="when-needed"
    )
    reason = mirror.up_fails()
    assert "no-such-option" in reason
    assert "the old daemon.json is back, and docker runs with it; not restarted: " in reason
    changed = [node for node in NODES if lab.daemon_pid(node) != daemons[node]]
    assert len(changed) == 1, "a bad change costs one node a restart, and no more"
    assert [seen(lab, node) for node in NODES] == [(True, "journald")] * 3
    assert {node: lab.daemon_json(node) for node in NODES} == files
    assert set(lab.availability().values()) == {"active"}
    mirror.configure(daemonKeys=KEYS, restart="when-needed")
    mirror.up()


@pytest.mark.long
@pytest.mark.fault("F29", "quorum would be lost")
def test_a_manager_that_is_away_keeps_the_others_from_being_restarted(
    lab: Lab, mirror: Mirror
) -> None:
    lab.power_off("node2")
    wait_for_managers(lab, ["Leader", "Reachable", "Unreachable"])
    daemons = {node: lab.daemon_pid(node) for node in ("node1", "node3")}
    mirror.configure(
        daemonKeys={**KEYS, "log-driver": "local"}, restart="when-needed", without=("node2",)
    )
    exported = mirror.stack.quietly("stack", "export")
    code, output = mirror.operate("forget", "node2")
    assert code == 0, output
    reason = mirror.up_fails()
    assert "2 of 3 managers are reachable and 2 are needed for quorum" in reason
    assert {node: lab.daemon_pid(node) for node in daemons} == daemons
    lab.power_on("node2")
    mirror.stack.quietly("stack", "import", stdin=exported)
    mirror.configure(daemonKeys=KEYS, restart="when-needed")
    wait_for_managers(lab, ["Leader", "Reachable", "Reachable"])
    mirror.up()


@pytest.mark.fault("F2", "pulumi is killed (-9) in the middle of a rolling restart")
def test_a_rolling_restart_that_is_killed_is_finished_by_the_next_up(
    lab: Lab, mirror: Mirror, chance: Chance
) -> None:
    # log-level is a key that docker does not show: only our own record knows whether a start has
    # tried it.
    mirror.configure(daemonKeys={**KEYS, "log-level": "warn"}, restart="when-needed")
    running = mirror.start()
    assert running.stdout is not None
    assert any("its docker is restarted (1 of 3)" in line for line in running.stdout)
    chance.wait(0, 8)
    kill_session(running.pid)
    running.communicate()
    mirror.up_after_kill()
    assert [json.loads(lab.daemon_json(node) or b"{}").get("log-level") for node in NODES] == [
        "warn"
    ] * 3
    started = "grep -c . /var/lib/swarm-registry-mirror/*/before-restart 2>/dev/null || true"
    assert [lab.on(node, started).strip() for node in NODES] == [""] * 3, "each has been verified"
    assert set(lab.availability().values()) == {"active"}
    assert "swarm-registry-mirror" not in lab.on("node1", LABEL)
    assert mirror.operate("status")[0] == 0


def test_destroy_gives_every_key_back_by_restarts_where_it_must(lab: Lab, mirror: Mirror) -> None:
    mirror.destroy()
    assert [seen(lab, node) for node in NODES] == [
        (False, "json-file"),
        (False, "journald"),
        (False, "json-file"),
    ]
    assert [lab.daemon_json(node) for node in NODES] == [None, NODE2_DAEMON_JSON.encode(), None]
    assert set(lab.availability().values()) == {"active"}
