"""Edits that docker has not taken over yet, on real machines: a restart of ours would lose the
node, so there is none.

Node 1 runs docker 26.1, nodes 2 and 3 run 20.10. Node 2 is nobody's here, and node 3 is a node of
the stack.
"""

import json
from collections.abc import Iterator

import pytest

from tests.lab.agent import Agent
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror

pytestmark = pytest.mark.engines(node3="20.10")
"""What is seen here is daemon.json and its reloads; hosts.toml has tests of its own
(`tests/e2e/test_two_ways.py`)."""

DROP_IN = "/etc/systemd/system/docker.service.d/50-by-hand.conf"
MOVED = "/var/lib/docker/moved"


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    before = {name: lab.daemon_json(name) for name in ("node1", "node3")}
    mirror = Mirror(lab)
    mirror.configure(without=("node2",))
    mirror.up_after_kill()
    yield mirror
    mirror.configure(without=("node2",))
    mirror.destroy()
    # What an administrator has edited counts as theirs from then on, and stays; the next tests
    # begin without it.
    for name, data in before.items():
        if data is None:
            lab.on(name, "rm -f /etc/docker/daemon.json")
        else:
            lab.on(name, "cat > /etc/docker/daemon.json", data)


class Edited:
    """A node whose docker keeps running with what it was started with, whatever is edited."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name = lab, name
        self.file = lab.daemon_json(name)
        self.configured = json.loads(self.file or b"{}")

    def write(self, **keys: object) -> bytes:
        """Put keys into daemon.json without a reload."""
        text = json.dumps({**self.configured, **keys}, indent=2).encode()
        self.lab.on(self.name, "cat > /etc/docker/daemon.json", text)
        return text

    def start_with(self, flags: str) -> None:
        """Have docker started with other flags, by a drop-in as the manual has it."""
        command = f"/usr/sbin/dockerd {flags} --containerd=/run/containerd/containerd.sock"
        text = f"[Service]\nExecStart=\nExecStart={command}\n"
        self.lab.on(
            self.name,
            f"mkdir -p $(dirname {DROP_IN}); cat > {DROP_IN}; systemctl daemon-reload",
            text.encode(),
        )
        self.restart()

    def restart(self) -> None:
        self.lab.on(self.name, "systemctl reset-failed docker; systemctl restart docker")

    def undo(self) -> None:
        if self.file is None:
            self.lab.on(self.name, "rm -f /etc/docker/daemon.json")
        else:
            self.lab.on(self.name, "cat > /etc/docker/daemon.json", self.file)
        self.lab.on(self.name, f"rm -rf {DROP_IN} {MOVED}; systemctl daemon-reload")
        self.restart()


@pytest.fixture(params=["node2", pytest.param("node1", marks=pytest.mark.long)])
def node(lab: Lab, mirror: Mirror, request: pytest.FixtureRequest) -> Iterator[Edited]:
    node = Edited(lab, request.param)
    yield node
    node.undo()


@pytest.fixture
def node3(lab: Lab, mirror: Mirror) -> Iterator[Edited]:
    node = Edited(lab, "node3")
    yield node
    node.undo()


def restarted(lab: Lab, node: str) -> tuple[int, str]:
    """What the agent says that is asked to restart docker on a node for another key."""
    agent = Agent(lab, node)
    agent.settings.update(keys={"log-level": "warn"}, restart="when-needed")
    return agent.run("restart.run")


@pytest.mark.fault(
    "F31",
    "somebody's unfinished edit of daemon.json would move docker's data root with our restart",
)
def test_another_data_root_in_the_file(lab: Lab, node: Edited) -> None:
    before, images = lab.daemon_pid(node.name), lab.info(node.name)["Images"]
    text = node.write(**{"data-root": MOVED})
    code, output = restarted(lab, node.name)
    assert code == 1
    assert "nothing was changed: " in output
    assert (
        "data-root was edited in /etc/docker/daemon.json, but docker has not taken that over, and"
        " our restart would" in output
    )
    assert lab.daemon_pid(node.name) == before
    assert lab.daemon_json(node.name) == text
    info = lab.info(node.name)
    assert (info["DockerRootDir"], info["Images"]) == ("/var/lib/docker", images)
    assert info["Swarm"]["LocalNodeState"] == "active"


@pytest.mark.fault(
    "F32", "a flag of dockerd and a key of daemon.json that it refuses together, in every spelling"
)
@pytest.mark.parametrize(
    "flag", ["-H=fd://", "-Hfd://", "-H fd://", "--host=fd://", "-D=false -Hfd://"]
)
def test_hosts_beside_the_flag(lab: Lab, node: Edited, flag: str) -> None:
    node.start_with(flag)
    before = lab.daemon_pid(node.name)
    node.write(hosts=["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375"])
    code, output = restarted(lab, node.name)
    assert code == 1
    assert (
        "dockerd has the flag --host on its command line and refuses the key hosts in the file"
        in output
    )
    assert lab.daemon_pid(node.name) == before


@pytest.mark.fault(
    "F32", "a flag of dockerd and a key of daemon.json that it refuses together, in every spelling"
)
def test_a_drop_in_that_docker_was_not_started_with_yet(lab: Lab, node: Edited) -> None:
    before = lab.daemon_pid(node.name)
    lab.on(
        node.name,
        f"mkdir -p $(dirname {DROP_IN}); printf '[Service]\\nEnvironment=A=b\\n' > {DROP_IN};"
        " systemctl daemon-reload",
    )
    code, output = restarted(lab, node.name)
    assert code == 1
    assert f"service was edited since docker was started ({DROP_IN})" in output
    assert lab.daemon_pid(node.name) == before


def test_a_reload_takes_away_what_a_flag_had_said_and_is_refused(lab: Lab, node: Edited) -> None:
    node.start_with("-H fd:// --max-concurrent-downloads=10")
    agent = Agent(lab, node.name)
    agent.settings["keys"] = {"shutdown-timeout": 16}
    code, output = agent.run("node.apply")
    assert code == 1
    assert (
        "dockerd has the flag --max-concurrent-downloads on its command line, and a reload takes"
        " that away" in output
    )
    events = (
        "docker events --since {} --until $(date +%s) --filter event=reload --format"
        " '{{{{json .Actor.Attributes}}}}'"
    )
    since = lab.on(node.name, "date +%s").strip()
    lab.on(node.name, "systemctl reload docker; sleep 1")
    (said,) = lab.on(node.name, events.format(since)).splitlines()
    assert json.loads(said)["max-concurrent-downloads"] == "3", "what dockerd itself does"


@pytest.mark.fault(
    "F31",
    "somebody's unfinished edit of daemon.json would move docker's data root with our restart",
)
@pytest.mark.fault(
    "F32", "a flag of dockerd and a key of daemon.json that it refuses together, in every spelling"
)
def test_a_roll_out_with_restarts_stops_before_such_a_node(
    lab: Lab, mirror: Mirror, node3: Edited
) -> None:
    pids = {name: lab.daemon_pid(name) for name in ("node1", "node3")}
    node3.write(**{"data-root": MOVED})
    mirror.configure(
        without=("node2",),
        daemonKeys={"log-level": "warn"},
        restart="when-needed",
        allowQuorumLoss=True,
    )
    assert "data-root was edited in /etc/docker/daemon.json" in mirror.up_fails()
    assert lab.daemon_pid("node3") == pids["node3"]
    node3.undo()
    node3.start_with("-H=fd://")
    pids["node3"] = lab.daemon_pid("node3")
    node3.write(hosts=["unix:///var/run/docker.sock"])
    assert "refuses the key hosts in the file" in mirror.up_fails()
    assert lab.daemon_pid("node3") == pids["node3"]
    assert lab.availability() == {"node1": "active", "node2": "active", "node3": "active"}
