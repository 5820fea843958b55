"""Faults at the worst moment, on real machines: the file stays whole, docker runs and agrees with
it, a new run converges.

Numbers are those of the project's list of faults; `make faults` repeats what has randomness in it
20 times and prints the list. Node 2 is nobody's here: the agent is sent to it directly. Node 3 is a
node of the stack.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chance import Chance
from tests.faults import harm
from tests.lab.agent import NEW, OLD, Agent
from tests.lab.lab import MIRROR_URL, Lab
from tests.lab.mirror import Mirror, kill_session
from tests.lab.output import counts

pytestmark = pytest.mark.engines(node3="20.10")
"""What is seen here is daemon.json and its reloads; hosts.toml has tests of its own
(`tests/e2e/test_two_ways.py`)."""

URL = MIRROR_URL
REPEATS = int(os.environ.get("FAULT_REPEATS", "2"))


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    mirror.configure(without=("node2",))
    mirror.up_after_kill()  # a lab that was kept from an interrupted run (KEEP_LAB=1) may be locked
    yield mirror
    mirror.configure(without=("node2",))
    mirror.destroy()


@pytest.fixture
def agent(lab: Lab, mirror: Mirror) -> Agent:
    return Agent(lab, "node2")


@pytest.mark.fault("F1", "the agent is killed (-9) at any moment")
@pytest.mark.parametrize("action", ["node.apply", "node.remove"])
def test_the_agent_is_killed(lab: Lab, agent: Agent, chance: Chance, action: str) -> None:
    for _ in range(REPEATS):
        if action == "node.remove":
            agent.run("node.apply")
        running = agent.start(action)
        chance.wait(0, 0.3)
        lab.on("node2", "pkill -9 -f '[R]EQUEST=json' || true")
        running.wait(timeout=30)
        agent.whole()
        agent.converges()


@pytest.mark.fault("F3", "the SSH connection is cut while the agent works")
def test_the_connection_is_cut(lab: Lab, agent: Agent, chance: Chance) -> None:
    for _ in range(REPEATS):
        running = agent.start("node.apply")
        chance.wait(0, 0.2)
        lab.on("node2", "pkill -9 -f '[s]shd: root' || true")
        running.wait(timeout=30)
        for _ in range(100):  # the agent works to its end even if nobody listens any more
            if not lab.on("node2", "pgrep -f '[R]EQUEST=json' || true"):
                break
            time.sleep(0.1)
        agent.whole()
        agent.converges()


@pytest.mark.fault("F26", "the power goes at any moment")
def test_the_power_fails(lab: Lab, agent: Agent, chance: Chance) -> None:
    for _ in range(REPEATS):
        running = agent.start("node.apply")
        chance.wait(0, 0.25)
        lab.power_off("node2")
        running.kill()
        running.wait()
        lab.power_on("node2")
        agent.whole()
        agent.converges()


@pytest.mark.fault("F8", "the disk is full")
@pytest.mark.parametrize("folder", ["/etc/docker", "/var/lib/swarm-registry-mirror"])
def test_the_disk_is_full(lab: Lab, agent: Agent, folder: str) -> None:
    with harm.disk_full(lab, "node2", folder):
        code, output = agent.run("node.apply")
        assert code == 1
        assert "is the disk full" in output
        agent.whole()
        assert lab.daemon_json("node2") == OLD
    agent.converges()


@pytest.mark.fault("F9", "/etc is read-only")
def test_etc_is_read_only(lab: Lab, agent: Agent) -> None:
    with harm.read_only(lab, "node2", "/etc/docker"):
        code, output = agent.run("node.apply")
        assert code == 1
        assert "Read-only file system" in output
        agent.whole()
    agent.converges()


@pytest.mark.fault("F12", "docker is down before we come")
def test_docker_is_down(lab: Lab, agent: Agent) -> None:
    with harm.docker_is_down(lab, "node2"):
        code, output = agent.run("node.apply")
        assert code == 1
        assert "nothing was changed: docker does not answer" in output
        assert "systemctl start docker" in output
        assert lab.daemon_json("node2") == OLD
        assert "inactive" in lab.on("node2", "systemctl is-active docker || true"), (
            "what is down is not ours to start"
        )
    agent.converges()


@pytest.mark.fault("F13", "dockerd dies when it is told to reload")
def test_dockerd_dies_on_reload(lab: Lab, agent: Agent) -> None:
    with harm.reload_kills(lab, "node2"):
        code, output = agent.run("node.apply")
        assert lab.daemon_json("node2") in (OLD, NEW)
        assert (code == 0) == (f"{URL}/" in lab.mirrors("node2")), output
    agent.converges()


@pytest.mark.fault("F14", "systemd has given up starting docker")
def test_systemd_has_given_up(lab: Lab, agent: Agent) -> None:
    with harm.systemd_has_given_up(lab, "node2", OLD):
        code, output = agent.run("node.apply")
        assert code == 1
        assert "after three starts in a minute systemd does not try again" in output
        assert "systemctl reset-failed docker" in output
        assert lab.daemon_json("node2") == OLD
    agent.converges()


@pytest.mark.fault("F15", "docker does not answer and does not refuse either")
def test_docker_hangs(lab: Lab, agent: Agent) -> None:
    with harm.docker_hangs(lab, "node2"):
        code, output = agent.run("node.apply")
        assert code == 1
        assert "did not answer within 20 s" in output
        assert lab.daemon_json("node2") == OLD
    agent.converges()


@pytest.mark.fault("F24", "two roll-outs at the same time")
def test_two_at_once(lab: Lab, agent: Agent) -> None:
    for _ in range(REPEATS):
        both = [agent.start("node.apply") for _ in range(2)]
        words = [running.communicate(timeout=150)[1] for running in both]
        assert [running.returncode for running in both] == [0, 0], (
            words
        )  # the second has waited for its turn
        assert lab.daemon_json("node2") == NEW
        agent.converges()


@pytest.mark.fault("F25", "somebody edits the file while we work")
def test_somebody_edits_meanwhile(lab: Lab, agent: Agent, chance: Chance) -> None:
    theirs = OLD.replace(b"rack=b", b"rack=c")
    for _ in range(REPEATS):
        running = agent.start("node.apply")
        chance.wait(0, 0.3)
        lab.on("node2", "cat > /etc/docker/daemon.json", theirs)
        running.communicate(timeout=150)
        # That edit is there, with our entry or without it.
        assert lab.daemon_json("node2") in (
            theirs,
            theirs.replace(b'[ "https', f'[ "{URL}", "https'.encode()),
        )
        agent.run("node.remove")
        lab.on("node2", "cat > /etc/docker/daemon.json; systemctl reload docker; sleep 0.3", OLD)
        agent.converges()


@pytest.mark.fault("F10", "sudo refuses")
def test_sudo_refuses(lab: Lab, mirror: Mirror) -> None:
    before = lab.daemon_json("node3")
    with harm.sudo_refuses(lab, "node3"):
        code, output = Agent(lab, "node3").run("node.apply")
        assert code == 1
        assert "a password is required" in output
        assert lab.daemon_json("node3") == before


def again(mirror: Mirror, keys: dict[str, Any]) -> None:
    """A change for every node of the stack, so that the next `up` has something to do there."""
    mirror.configure(without=("node2",), daemonKeys=keys)


@pytest.mark.fault("F2", "pulumi is killed (-9) in the middle of `up`")
def test_pulumi_is_killed(lab: Lab, mirror: Mirror, chance: Chance) -> None:
    for number in range(REPEATS):
        again(mirror, {"max-concurrent-downloads": 4 + number})
        running = mirror.start()
        chance.wait(1.0, 5.0)
        kill_session(running.pid)
        running.communicate()
        for node in ("node1", "node3"):
            lab.info(node)
            json.loads(lab.daemon_json(node) or b"{}")
        text = mirror.up_after_kill()
        assert set(counts(text)) <= {"updated", "unchanged", "created", "deleted"}
        assert mirror.operate("status")[0] == 0
        for node in ("node1", "node3"):
            assert (
                json.loads(lab.daemon_json(node) or b"{}")["max-concurrent-downloads"] == 4 + number
            )
    again(mirror, {})
    mirror.up()


@pytest.mark.fault("F30", "the canary fails")
def test_the_canary_fails(lab: Lab, mirror: Mirror) -> None:
    others = {
        node: lab.on(node, "stat -c '%i %y' /etc/docker/daemon.json") for node in ("node1", "node2")
    }
    canary = lab.daemon_json("node3") or b""
    daemons = {node: lab.daemon_pid(node) for node in lab.nodes}
    lab.on("node3", "cat > /etc/docker/daemon.json", canary.replace(b"{", b'{"no-such-key": 1,', 1))
    again(mirror, {"max-concurrent-downloads": 7})
    started = time.monotonic()
    assert "no-such-key" in mirror.up_fails()
    assert time.monotonic() - started < 60
    assert {
        node: lab.on(node, "stat -c '%i %y' /etc/docker/daemon.json") for node in others
    } == others
    assert {node: lab.daemon_pid(node) for node in lab.nodes} == daemons
    lab.on("node3", "cat > /etc/docker/daemon.json", canary)
    mirror.up()
    assert mirror.operate("status")[0] == 0


@pytest.mark.fault("F11", "dockerd refuses the file")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(
            "echo '{\"no-such-key\": 1}' > F", "no-such-key", id="a key that docker does not know"
        ),
        pytest.param(
            'echo \'{"labels": ["a=b"]}\' > F',
            "labels was edited in",
            id="an edit that docker has not taken over",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "echo '{}' > F; chattr +i F /etc/docker",
            "immutable",
            id="a file that must not change",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_left_as_it_is(
    lab: Lab, mirror: Mirror, make: str, words: str
) -> None:
    listing = "ls -l --time-style=+ /etc/docker; cat /etc/docker/daemon.json 2>&1 || true"
    mirror.configure(without=("node2", "node3"))
    mirror.up()
    with harm.file_that_cannot_be_used(lab, "node3", make):
        before = lab.on("node3", listing)
        mirror.configure(without=("node2",))
        assert words in mirror.up_fails()
        assert lab.on("node3", listing) == before
        assert lab.mirrors("node3") == []
    mirror.up()


@pytest.mark.fault("F17", "the mirror dies in the middle of the roll-out")
def test_the_mirror_dies_meanwhile(lab: Lab, mirror: Mirror) -> None:
    files = {node: lab.daemon_json(node) for node in ("node1", "node3")}
    with harm.no_registry(lab, "node3"):
        agent = Agent(lab, "node3")
        agent.settings["owner"] = "registry-mirror"
        code, output = agent.run("node.apply")
        assert code == 1
        assert "nothing was changed: from this node, Traefik has" in output
        assert {node: lab.daemon_json(node) for node in files} == files
        # Docker goes on without it: the next endpoint is asked at once.
        pull = "timeout 30 docker pull images.lab.test/registry:3.1.2 >/dev/null && echo pulled"
        assert lab.on("node3", pull).strip() == "pulled"
    assert mirror.operate("status")[0] == 0


@pytest.mark.long
@pytest.mark.fault("F33", "a node comes back from its restart and is no node of the swarm any more")
def test_a_node_that_has_left_the_swarm_by_its_restart_is_rolled_back_and_ends_the_roll_out(
    lab: Lab, mirror: Mirror
) -> None:
    mirror.configure(without=("node2",))  # without the keys of the test before
    mirror.up()
    before = {node: lab.daemon_json(node) for node in ("node1", "node3")}
    others = lab.daemon_pid("node1")
    with contextlib.ExitStack() as undone:
        undone.callback(mirror.up)
        undone.callback(again, mirror, {})
        undone.enter_context(harm.loses_its_place_at_the_next_start(lab, "node3"))
        allowed = {"restart": "when-needed", "allowQuorumLoss": True}
        mirror.configure(without=("node2",), daemonKeys={"log-level": "warn"}, **allowed)
        reason = mirror.up_fails()
        assert (
            "node3: docker was restarted, and then it is no active node of its swarm any more"
            in reason
        )
        assert "the old daemon.json is back, and docker runs with it" in reason
        assert "not restarted: node1" in reason
        assert lab.info("node3")["Swarm"]["LocalNodeState"] == "active", (
            "it has been restarted once more, with the old file"
        )
        assert {node: lab.daemon_json(node) for node in before} == before
        assert lab.daemon_pid("node1") == others
        assert lab.availability()["node3"] == "active"
        # Taken out of the list again, nothing of it is left, and status says so.
        mirror.configure(without=("node2",), **allowed)
        mirror.up()
        assert {node: lab.daemon_json(node) for node in before} == before
        assert mirror.operate("status")[0] == 0


@pytest.mark.fault(
    "F34",
    "a node is no node of the swarm any more, drained, or cannot reach its mirror, and status is"
    " asked",
)
def test_status_calls_no_node_healthy_that_cannot_take_a_task(lab: Lab, mirror: Mirror) -> None:
    with harm.drained(lab, "node3"):
        assert mirror.status()["node3"]["state"] == "drained"
        assert mirror.operate("status")[0] == 0, "that is somebody's decision"
    with harm.out_of_the_swarm(lab, "node3"):
        node = mirror.status()["node3"]
        assert (node["state"], node["drifted"]) == ("NOT IN SWARM", False)
        assert "docker is no active node of a swarm here (inactive)" in node["swarm_faults"][0]
        assert mirror.operate("status")[0] == 1
    # A mirror that is not up is no drift of the nodes.
    with harm.no_mirror(lab):
        states = {
            node: (entry["state"], entry["drifted"]) for node, entry in mirror.status().items()
        }
        assert states == {"node1": ("NO MIRROR", False), "node3": ("NO MIRROR", False)}
    assert {entry["state"] for entry in mirror.status().values()} == {"healthy"}


@pytest.mark.fault("F35", "docker goes through a proxy that does not lead to the mirror")
def test_docker_has_a_proxy_that_does_not_lead_to_the_mirror(lab: Lab, agent: Agent) -> None:
    proxy = (
        "Environment=HTTP_PROXY=http://127.0.0.1:3128"
        " HTTPS_PROXY=http://account:secret@127.0.0.1:3128 NO_PROXY=localhost"
    )
    with harm.proxy_that_leads_nowhere(lab, "node2", proxy):
        code, output = agent.run("node.apply")
        assert code == 1
        assert (
            "nothing was changed: from this node, docker goes to https://mirror.lab.test through"
            " its proxy" in output
        )
        assert "http://127.0.0.1:3128, and that does not lead there" in output
        assert "add mirror.lab.test to NO_PROXY" in output
        assert "secret" not in output
        assert lab.daemon_json("node2") == OLD
        look = json.loads(agent.run("node.look")[1])
        assert any("through its proxy" in fault for fault in look["faults"]), look
        # The remedy, as it is printed.
        harm.restart_with(lab, "node2", proxy + ",mirror.lab.test")
        agent.converges()
    agent.converges()


@pytest.mark.fault(
    "F36", "the authority that the mirror's certificate needs was installed after docker's start"
)
@pytest.mark.parametrize(
    "remedy", [pytest.param("restart docker", marks=pytest.mark.long), "certs.d"]
)
def test_docker_knows_an_older_trust_store_than_the_node_has(
    lab: Lab, agent: Agent, remedy: str
) -> None:
    with harm.authority_younger_than_docker(lab, "node2"):
        code, output = agent.run("node.apply")
        assert code == 1
        assert (
            "nothing was changed: from this node, docker itself does not get"
            " library/swarm-mirror-proof:1" in output
        )
        assert f"{harm.BUNDLE} is newer than the running docker" in output
        assert "/etc/docker/certs.d/mirror.lab.test/ca.crt" in output
        assert lab.daemon_json("node2") == OLD
        if remedy == "certs.d":
            lab.on(
                "node2",
                "mkdir -p /etc/docker/certs.d/mirror.lab.test;"
                f" cat {harm.AUTHORITIES}/*.crt > /etc/docker/certs.d/mirror.lab.test/ca.crt",
            )
        else:
            lab.on("node2", "systemctl restart docker")
        agent.converges()
    agent.converges()


@pytest.mark.long
@pytest.mark.fault("F37", "the mirror answers from its cache and does not reach its upstream")
def test_the_mirror_has_only_what_is_in_its_cache(lab: Lab, mirror: Mirror) -> None:
    # Another upstream has served nothing yet: the gate fails, though checkImage is in the cache.
    mirror.configure(without=("node2",), upstream="http://198.18.0.99", readyTimeout=30)
    try:
        assert (
            "the mirror https://mirror.lab.test does not reach its upstream now (500"
            in mirror.up_fails()
        )
    finally:
        mirror.configure(without=("node2",))
        mirror.up()
    # One that has served is unavailable: a new setting is rolled out all the same, with a warning.
    with contextlib.ExitStack() as undone:
        undone.callback(mirror.up)
        undone.callback(again, mirror, {})
        undone.callback(Agent(lab, "node2").run, "node.remove")
        undone.enter_context(harm.upstream_away(lab))
        mirror.configure(without=("node2",), coalesceMemory=500)
        text = mirror.up()
        assert (
            "READY ONLY WITH WHAT IS IN ITS CACHE: the mirror https://mirror.lab.test does not"
            " reach its upstream now" in text
        )
        assert {entry["state"] for entry in mirror.status().values()} == {"NO MIRROR"}
        code, output = Agent(lab, "node2").run("node.apply")
        assert (code, output) == (0, "written and reloaded; upstream not reached")
    assert mirror.operate("status")[0] == 0


@pytest.mark.fault("F37", "checkImage is an image that the upstream does not have")
def test_an_image_that_is_not_there_is_said_at_once(lab: Lab, mirror: Mirror) -> None:
    mirror.configure(without=("node2",), checkImage="library/no-such-image:1")
    started = time.monotonic()
    try:
        assert (
            "has no image library/no-such-image:1 (404); set checkImage to one that it has"
            in mirror.up_fails()
        )
        assert time.monotonic() - started < 60
    finally:
        mirror.configure(without=("node2",))
        mirror.up()
