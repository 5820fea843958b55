"""Faults at the worst moment, on real machines: the file stays whole, docker runs and agrees with it, a new run converges.

Numbers are those of the project's list of faults; `make faults` repeats what has randomness in it 20 times and prints the list.
Node 2 is nobody's here: the agent is sent to it directly. Node 3 is a node of the stack.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import internet
from lab.plan import NODE2_DAEMON_JSON
from tests.lab_fixture import Lab, Mirror, SentAgent, counts, kill_session

pytestmark = pytest.mark.engines(node3="20.10")
"""What is seen here is daemon.json and its reloads; hosts.toml has tests of its own (`tests/e2e/test_two_ways.py`)."""

URL = "https://mirror.lab.test"
REPEATS = int(os.environ.get("FAULT_REPEATS", "2"))
OLD = NODE2_DAEMON_JSON.encode()
NEW = OLD.replace(b'[ "https', f'[ "{URL}", "https'.encode())


class Agent(SentAgent):
    """The node agent on a machine whose daemon.json is known to the last byte."""

    def __init__(self, lab: Lab, node: str) -> None:
        super().__init__(lab, node, "faults")

    def whole(self) -> None:
        """The file is old or new to the last byte, and docker runs."""
        assert self.lab.daemon_json(self.name) in (OLD, NEW)
        self.lab.info(self.name)

    def converges(self) -> None:
        """Told again, the node uses the mirror; forgetting it, it is as it was."""
        code, words = self.run("node.apply")
        assert code == 0, words
        assert self.lab.daemon_json(self.name) == NEW
        assert self.lab.mirrors(self.name)[0] == f"{URL}/"
        code, words = self.run("node.remove")
        assert code == 0, words
        assert self.lab.daemon_json(self.name) == OLD
        assert f"{URL}/" not in self.lab.mirrors(self.name)


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    found = Mirror(lab)
    found.configure(without=("node2",))
    found.up_after_kill()  # a lab that was kept from an interrupted run (KEEP_LAB=1) may be locked
    yield found
    found.configure(without=("node2",))
    found.destroy()


@pytest.fixture
def agent(lab: Lab, mirror: Mirror) -> Agent:
    return Agent(lab, "node2")


@pytest.mark.fault("F1", "the agent is killed (-9) at any moment")
@pytest.mark.parametrize("action", ["node.apply", "node.remove"])
def test_the_agent_is_killed(lab: Lab, agent: Agent, action: str) -> None:
    for _ in range(REPEATS):
        if action == "node.remove":
            agent.run("node.apply")
        running = agent.start(action)
        time.sleep(random.uniform(0, 0.3))
        lab.on("node2", "pkill -9 -f '[R]EQUEST=json' || true")
        running.wait(timeout=30)
        agent.whole()
        agent.converges()


@pytest.mark.fault("F3", "the SSH connection is cut while the agent works")
def test_the_connection_is_cut(lab: Lab, agent: Agent) -> None:
    for _ in range(REPEATS):
        running = agent.start("node.apply")
        time.sleep(random.uniform(0, 0.2))
        lab.on("node2", "pkill -9 -f '[s]shd: root' || true")
        running.wait(timeout=30)
        for _ in range(100):  # whom the agent does not hear any more, it works to its end for
            if not lab.on("node2", "pgrep -f '[R]EQUEST=json' || true"):
                break
            time.sleep(0.1)
        agent.whole()
        agent.converges()


@pytest.mark.fault("F26", "the power goes at any moment")
def test_the_power_goes(lab: Lab, agent: Agent) -> None:
    for _ in range(REPEATS):
        running = agent.start("node.apply")
        time.sleep(random.uniform(0, 0.25))
        lab.power_off("node2")
        running.kill()
        running.wait()
        lab.power_on("node2")
        agent.whole()
        agent.converges()


@pytest.mark.fault("F8", "the disk is full")
@pytest.mark.parametrize("folder", ["/etc/docker", "/var/lib/swarm-registry-mirror"])
def test_the_disk_is_full(lab: Lab, agent: Agent, folder: str) -> None:
    lab.on(
        "node2",
        f"mkdir -p {folder}; cp -a {folder} /tmp/kept; mount -t tmpfs -o size=16k tmpfs {folder}; cp -a /tmp/kept/. {folder};"
        f" cat /dev/zero > {folder}/full 2>/dev/null || true",
    )
    try:
        code, words = agent.run("node.apply")
        assert code == 1
        assert "is the disk full" in words
        agent.whole()
        assert lab.daemon_json("node2") == OLD
    finally:
        lab.on("node2", f"umount {folder}; rm -rf /tmp/kept; rmdir /var/lib/swarm-registry-mirror 2>/dev/null || true")
    agent.converges()


@pytest.mark.fault("F9", "/etc is read-only")
def test_etc_is_read_only(lab: Lab, agent: Agent) -> None:
    lab.on("node2", "mount --bind /etc/docker /etc/docker && mount -o remount,bind,ro /etc/docker")
    try:
        code, words = agent.run("node.apply")
        assert code == 1
        assert "Read-only file system" in words
        agent.whole()
    finally:
        lab.on("node2", "umount /etc/docker")
    agent.converges()


@pytest.mark.fault("F12", "docker is down before we come")
def test_docker_is_down(lab: Lab, agent: Agent) -> None:
    lab.on("node2", "systemctl stop docker.socket docker")
    try:
        code, words = agent.run("node.apply")
        assert code == 1
        assert "nothing was changed: docker does not answer" in words
        assert "systemctl start docker" in words
        assert lab.daemon_json("node2") == OLD
        assert "inactive" in lab.on("node2", "systemctl is-active docker || true"), "what is down is not ours to start"
    finally:
        lab.on("node2", "systemctl start docker.socket docker")
    agent.converges()


DYING = "[Service]\\nExecReload=\\nExecReload=/bin/kill -9 \\$MAINPID\\n"


@pytest.mark.fault("F13", "dockerd dies when it is told to reload")
def test_dockerd_dies_on_reload(lab: Lab, agent: Agent) -> None:
    folder = "/run/systemd/system/docker.service.d"
    lab.on("node2", f'mkdir -p {folder}; printf "{DYING}" > {folder}/dies.conf; systemctl daemon-reload')
    try:
        code, words = agent.run("node.apply")
        assert lab.daemon_json("node2") in (OLD, NEW)
        assert (code == 0) == (f"{URL}/" in lab.mirrors("node2")), words
    finally:
        lab.on("node2", f"rm {folder}/dies.conf; systemctl daemon-reload; systemctl reset-failed docker; systemctl start docker")
    agent.converges()


@pytest.mark.fault("F14", "systemd has given up starting docker")
def test_systemd_has_given_up(lab: Lab, agent: Agent) -> None:
    lab.on("node2", "systemctl stop docker.socket docker; echo '{' > /etc/docker/daemon.json")
    lab.on("node2", "for i in 1 2 3 4; do systemctl start docker || true; done 2>/dev/null")
    lab.on("node2", "cat > /etc/docker/daemon.json", OLD)
    try:
        code, words = agent.run("node.apply")
        assert code == 1
        assert "after three starts in a minute systemd does not try again" in words
        assert "systemctl reset-failed docker" in words
        assert lab.daemon_json("node2") == OLD
    finally:
        lab.on("node2", "systemctl reset-failed docker; systemctl start docker.socket docker")
    agent.converges()


@pytest.mark.fault("F15", "docker does not answer and does not refuse either")
def test_docker_hangs(lab: Lab, agent: Agent) -> None:
    lab.on("node2", "kill -STOP $(systemctl show --property=MainPID --value docker)")
    try:
        code, words = agent.run("node.apply")
        assert code == 1
        assert "did not answer within 20 s" in words
        assert lab.daemon_json("node2") == OLD
    finally:
        lab.on("node2", "kill -CONT $(systemctl show --property=MainPID --value docker)")
    agent.converges()


@pytest.mark.fault("F24", "two roll-outs at the same time")
def test_two_at_once(lab: Lab, agent: Agent) -> None:
    for _ in range(REPEATS):
        both = [agent.start("node.apply") for _ in range(2)]
        words = [running.communicate(timeout=150)[1] for running in both]
        assert [running.returncode for running in both] == [0, 0], words  # the second has waited for its turn
        assert lab.daemon_json("node2") == NEW
        agent.converges()


@pytest.mark.fault("F25", "somebody edits the file while we work")
def test_somebody_edits_meanwhile(lab: Lab, agent: Agent) -> None:
    theirs = OLD.replace(b"rack=b", b"rack=c")
    for _ in range(REPEATS):
        running = agent.start("node.apply")
        time.sleep(random.uniform(0, 0.3))
        lab.on("node2", "cat > /etc/docker/daemon.json", theirs)
        running.communicate(timeout=150)
        # His edit is there, with our entry or without it.
        assert lab.daemon_json("node2") in (theirs, theirs.replace(b'[ "https', f'[ "{URL}", "https'.encode()))
        agent.run("node.remove")
        lab.on("node2", "cat > /etc/docker/daemon.json; systemctl reload docker; sleep 0.3", OLD)
        agent.converges()


@pytest.mark.fault("F10", "sudo refuses")
def test_sudo_refuses(lab: Lab, mirror: Mirror) -> None:
    before = lab.daemon_json("node3")
    lab.on("node3", "mv /etc/sudoers.d/ops /root/sudoers")
    try:
        code, words = Agent(lab, "node3").run("node.apply")
        assert code == 1
        assert "a password is required" in words
        assert lab.daemon_json("node3") == before
    finally:
        lab.on("node3", "mv /root/sudoers /etc/sudoers.d/ops")


def again(mirror: Mirror, keys: dict[str, Any]) -> None:
    """A change for every node of the stack, so that the next `up` has something to do there."""
    mirror.configure(without=("node2",), daemonKeys=keys)


@pytest.mark.fault("F2", "pulumi is killed (-9) in the middle of `up`")
def test_pulumi_is_killed(lab: Lab, mirror: Mirror) -> None:
    for number in range(REPEATS):
        again(mirror, {"max-concurrent-downloads": 4 + number})
        running = mirror.start()
        time.sleep(random.uniform(1.0, 5.0))
        kill_session(running.pid)
        running.communicate()
        for node in ("node1", "node3"):
            lab.info(node)
            json.loads(lab.daemon_json(node) or b"{}")
        text = mirror.up_after_kill()
        assert set(counts(text)) <= {"updated", "unchanged", "created", "deleted"}
        assert mirror.operate("status")[0] == 0
        for node in ("node1", "node3"):
            assert json.loads(lab.daemon_json(node) or b"{}")["max-concurrent-downloads"] == 4 + number
    again(mirror, {})
    mirror.up()


@pytest.mark.fault("F30", "the canary fails")
def test_the_canary_fails(lab: Lab, mirror: Mirror) -> None:
    others = {node: lab.on(node, "stat -c '%i %y' /etc/docker/daemon.json") for node in ("node1", "node2")}
    canary = lab.daemon_json("node3") or b""
    daemons = {node: lab.daemon_pid(node) for node in lab.nodes}
    lab.on("node3", "cat > /etc/docker/daemon.json", canary.replace(b"{", b'{"no-such-key": 1,', 1))
    again(mirror, {"max-concurrent-downloads": 7})
    started = time.monotonic()
    assert "no-such-key" in mirror.up_fails()
    assert time.monotonic() - started < 60
    assert {node: lab.on(node, "stat -c '%i %y' /etc/docker/daemon.json") for node in others} == others
    assert {node: lab.daemon_pid(node) for node in lab.nodes} == daemons
    lab.on("node3", "cat > /etc/docker/daemon.json", canary)
    mirror.up()
    assert mirror.operate("status")[0] == 0


@pytest.mark.fault("F11", "dockerd refuses the file")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        ("echo '{\"no-such-key\": 1}' > F", "no-such-key"),
        ('echo \'{"labels": ["a=b"]}\' > F', "labels was edited in"),
        ("echo '{}' > F; chattr +i F /etc/docker", "immutable"),
    ],
    ids=["a key that docker does not know", "an edit that docker has not taken over", "a file that must not change"],
)
def test_a_file_that_cannot_be_used_is_left_as_it_is(lab: Lab, mirror: Mirror, make: str, words: str) -> None:
    listing = "ls -l --time-style=+ /etc/docker; cat /etc/docker/daemon.json 2>&1 || true"
    mirror.configure(without=("node2", "node3"))
    mirror.up()
    lab.on("node3", make.replace("F", "/etc/docker/daemon.json"))
    try:
        found = lab.on("node3", listing)
        mirror.configure(without=("node2",))
        assert words in mirror.up_fails()
        assert lab.on("node3", listing) == found
        assert lab.mirrors("node3") == []
    finally:
        lab.on("node3", "chattr -i /etc/docker /etc/docker/daemon.json 2>/dev/null; rm -f /etc/docker/daemon.json")
    mirror.up()


@pytest.mark.fault("F17", "the mirror dies in the middle of the roll-out")
def test_the_mirror_dies_meanwhile(lab: Lab, mirror: Mirror) -> None:
    files = {node: lab.daemon_json(node) for node in ("node1", "node3")}
    lab.on("node1", "docker service scale --detach registry-mirror=0")
    lab.on("node3", "for i in $(seq 60); do docker ps -q --filter name=registry-mirror | grep -q . || exit 0; sleep 0.5; done")
    try:
        told = Agent(lab, "node3")
        told.settings["owner"] = "registry-mirror"
        code, words = told.run("node.apply")
        assert code == 1
        assert "nothing was changed: from this node, Traefik has" in words
        assert {node: lab.daemon_json(node) for node in files} == files
        # Docker goes on without it: the next endpoint is asked at once.
        assert (
            lab.on("node3", "timeout 30 docker pull images.lab.test/registry:3.1.2 >/dev/null && echo pulled").strip() == "pulled"
        )
    finally:
        lab.on("node1", "docker service scale --detach registry-mirror=1")
    lab.wait_for_mirror("node3")
    assert mirror.operate("status")[0] == 0


LOSES_ITS_PLACE = """#!/bin/sh
cd /var/lib/docker
if [ -e /run/loses-its-place ]; then
  rm /run/loses-its-place
  mv swarm swarm.kept
elif [ -d swarm.kept ]; then
  rm -rf swarm
  mv swarm.kept swarm
fi
"""


@pytest.mark.fault("F33", "a node comes back from its restart and is no node of the swarm any more")
def test_a_node_that_has_left_the_swarm_by_its_restart_goes_back_and_ends_the_roll_out(lab: Lab, mirror: Mirror) -> None:
    mirror.configure(without=("node2",))  # without the keys of the test before
    mirror.up()
    before = {node: lab.daemon_json(node) for node in ("node1", "node3")}
    others = lab.daemon_pid("node1")
    folder = "/run/systemd/system/docker.service.d"
    lab.on("node3", "cat > /run/lose; chmod +x /run/lose", LOSES_ITS_PLACE.encode())
    drop_in = "[Service]\nExecStartPre=/run/lose\n"
    lab.on("node3", f"mkdir -p {folder}; cat > {folder}/lose.conf; systemctl daemon-reload", drop_in.encode())
    # docker must know the drop-in, or the restart is refused for it.
    lab.on("node3", "systemctl restart docker; touch /run/loses-its-place")
    lab.wait_for_mirror("node3")
    try:
        allowed = {"restart": "when-needed", "allowQuorumLoss": True}
        mirror.configure(without=("node2",), daemonKeys={"log-level": "warn"}, **allowed)
        reason = mirror.up_fails()
        assert "node3: docker was restarted, and then it is no active node of its swarm any more" in reason
        assert "the old daemon.json is back, and docker runs with it" in reason
        assert "not restarted: node1" in reason
        assert lab.info("node3")["Swarm"]["LocalNodeState"] == "active", "it has been restarted once more, with the old file"
        assert {node: lab.daemon_json(node) for node in before} == before
        assert lab.daemon_pid("node1") == others
        assert lab.availability()["node3"] == "active"
        # Taken out of the list again, nothing of it is left, and status says so.
        mirror.configure(without=("node2",), **allowed)
        mirror.up()
        assert {node: lab.daemon_json(node) for node in before} == before
        assert mirror.operate("status")[0] == 0
    finally:
        lab.on("node3", f"rm -f {folder}/lose.conf /run/loses-its-place; systemctl daemon-reload")
        mirror.configure(without=("node2",))
        mirror.up()


@pytest.mark.fault("F34", "a node is no node of the swarm any more, drained, or cannot reach its mirror, and status is asked")
def test_status_says_well_of_no_node_that_cannot_take_a_task(lab: Lab, mirror: Mirror) -> None:
    lab.on("node1", "docker node update --availability drain node3")
    assert mirror.status()["node3"]["state"] == "drained"
    assert mirror.operate("status")[0] == 0, "that is somebody's decision"
    lab.on("node1", "docker node update --availability active node3")
    token = lab.on("node1", "docker swarm join-token --quiet worker").strip()
    lab.on("node3", "docker swarm leave")
    try:
        found = mirror.status()["node3"]
        assert (found["state"], found["drifted"]) == ("NOT IN SWARM", False)
        assert "docker is no active node of a swarm here (inactive)" in found["swarm_faults"][0]
        assert mirror.operate("status")[0] == 1
    finally:
        lab.on("node3", f"docker swarm join --token {token} 198.18.0.11:2377")
        forget = (
            "docker node ls --format '{{.ID}} {{.Status}}' | awk '$2 == \"Down\" {print $1}' | xargs -r docker node rm --force"
        )
        lab.on("node1", f"for i in $(seq 60); do docker node ls | grep -q Down && break; sleep 0.5; done; {forget}")
    # A mirror that is not up is no drift of the nodes.
    lab.on("node1", "docker service scale --detach registry-mirror=0 registry-mirror-front=0")
    try:
        gone = "for i in $(seq 120); do docker ps -q --filter name=registry-mirror | grep -q . || exit 0; sleep 0.5; done; exit 1"
        for node in lab.nodes:
            lab.on(node, gone)
        states = {node: (entry["state"], entry["drifted"]) for node, entry in mirror.status().items()}
        assert states == {"node1": ("NO MIRROR", False), "node3": ("NO MIRROR", False)}
    finally:
        lab.on("node1", "docker service scale --detach registry-mirror=1 registry-mirror-front=1")
    lab.wait_for_mirror("node3")
    assert {entry["state"] for entry in mirror.status().values()} == {"well"}


PROXY = (
    "import socketserver as s\n"
    "class H(s.StreamRequestHandler):\n"
    "    def handle(self):\n"
    "        self.rfile.readline()\n"
    "        self.wfile.write(b'HTTP/1.1 403 Forbidden\\r\\nContent-Length: 0\\r\\n\\r\\n')\n"
    "s.ThreadingTCPServer.allow_reuse_address = True\n"
    "s.ThreadingTCPServer(('127.0.0.1', 3128), H).serve_forever()\n"
)
UNIT = "/run/systemd/system/docker.service.d"


def environment(lab: Lab, node: str, text: str) -> None:
    """Start docker anew with these lines in its unit; none: as it was."""
    lab.on(node, f"mkdir -p {UNIT}; cat > {UNIT}/proxy.conf; systemctl daemon-reload", f"[Service]\n{text}\n".encode())
    lab.on(node, "systemctl reset-failed docker; systemctl restart docker")


@pytest.mark.fault("F35", "docker goes through a proxy that does not lead to the mirror")
def test_docker_has_a_proxy_that_does_not_lead_to_the_mirror(lab: Lab, agent: Agent) -> None:
    proxy = "Environment=HTTP_PROXY=http://127.0.0.1:3128 HTTPS_PROXY=http://account:secret@127.0.0.1:3128 NO_PROXY=localhost"
    lab.on("node2", "cat > /run/proxy.py; systemd-run --unit=lab-proxy python3 /run/proxy.py", PROXY.encode())
    try:
        environment(lab, "node2", proxy)
        code, words = agent.run("node.apply")
        assert code == 1
        assert "nothing was changed: from this node, docker goes to https://mirror.lab.test through its proxy" in words
        assert "http://127.0.0.1:3128, and that does not lead there" in words
        assert "add mirror.lab.test to NO_PROXY" in words
        assert "secret" not in words
        assert lab.daemon_json("node2") == OLD
        found = json.loads(agent.run("node.look")[1])
        assert any("through its proxy" in fault for fault in found["faults"]), found
        # The remedy, as it is printed.
        environment(lab, "node2", proxy + ",mirror.lab.test")
        agent.converges()
    finally:
        environment(lab, "node2", "")
        lab.on("node2", "systemctl stop lab-proxy; rm /run/proxy.py")
    agent.converges()


@pytest.mark.fault("F36", "the authority that the mirror's certificate needs was installed after docker's start")
@pytest.mark.parametrize("remedy", ["restart docker", "certs.d"])
def test_docker_knows_an_older_trust_store_than_the_node_has(lab: Lab, agent: Agent, remedy: str) -> None:
    bundle, ours = "/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/ca-certificates"
    lab.on("node2", f"mkdir -p /root/kept; mv {ours}/*.crt /root/kept/; update-ca-certificates --fresh >/dev/null 2>&1")
    lab.on("node2", "systemctl reset-failed docker; systemctl restart docker")
    # dockerd reads the store when it needs it first.
    lab.on("node2", "docker pull mirror.lab.test/library/swarm-mirror-proof:1 2>&1 | grep -q 'unknown authority'")
    lab.on("node2", f"sleep 1; mv /root/kept/*.crt {ours}/; update-ca-certificates --fresh >/dev/null 2>&1; touch {bundle}")
    try:
        code, words = agent.run("node.apply")
        assert code == 1
        assert "nothing was changed: from this node, docker itself does not get library/swarm-mirror-proof:1" in words
        assert f"{bundle} is newer than the running docker" in words
        assert "/etc/docker/certs.d/mirror.lab.test/ca.crt" in words
        assert lab.daemon_json("node2") == OLD
        if remedy == "certs.d":
            lab.on(
                "node2",
                f"mkdir -p /etc/docker/certs.d/mirror.lab.test; cat {ours}/*.crt > /etc/docker/certs.d/mirror.lab.test/ca.crt",
            )
        else:
            lab.on("node2", "systemctl restart docker")
        agent.converges()
    finally:
        lab.on("node2", "rm -rf /etc/docker/certs.d/mirror.lab.test; systemctl reset-failed docker; systemctl restart docker")
    agent.converges()


@pytest.mark.fault("F37", "the mirror answers from its cache and does not reach its upstream")
def test_the_mirror_has_only_what_is_in_its_cache(lab: Lab, mirror: Mirror) -> None:
    # Another upstream has served nothing yet: the gate fails, though checkImage is in the cache.
    mirror.configure(without=("node2",), upstream="http://198.18.0.99", readyTimeout=30)
    try:
        assert "the mirror https://mirror.lab.test does not reach its upstream now (500" in mirror.up_fails()
    finally:
        mirror.configure(without=("node2",))
        mirror.up()
    # One that has served is away: a new setting is rolled out, and it is said.
    internet.behave(lab.sandbox, "black-hole")
    try:
        mirror.configure(without=("node2",), coalesceMemory=500)
        text = mirror.up()
        assert "READY ONLY WITH WHAT IS IN ITS CACHE: the mirror https://mirror.lab.test does not reach its upstream now" in text
        assert {entry["state"] for entry in mirror.status().values()} == {"NO MIRROR"}
        code, words = Agent(lab, "node2").run("node.apply")
        assert (code, words) == (0, "written and reloaded; upstream not reached")
    finally:
        internet.behave(lab.sandbox, "well")
        Agent(lab, "node2").run("node.remove")
        mirror.configure(without=("node2",))
        mirror.up()
    assert mirror.operate("status")[0] == 0


@pytest.mark.fault("F37", "checkImage is an image that the upstream does not have")
def test_an_image_that_is_not_there_is_said_at_once(lab: Lab, mirror: Mirror) -> None:
    mirror.configure(without=("node2",), checkImage="library/no-such-image:1")
    started = time.monotonic()
    try:
        assert "has no image library/no-such-image:1 (404); set checkImage to one that it has" in mirror.up_fails()
        assert time.monotonic() - started < 60
    finally:
        mirror.configure(without=("node2",))
        mirror.up()
