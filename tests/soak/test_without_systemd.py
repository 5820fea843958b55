"""A node of the swarm without systemd (Debian with sysvinit): configured, restarted, and as before
in the end."""

from collections.abc import Iterator

import pytest

from lab import base_systems, machines
from lab.plan import MANAGER, LabNode
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror

NODE = LabNode("node4", "198.18.0.14", "20.10-sysv")
URL = "https://mirror.lab.test/"
RESTARTS = {"restart": "when-needed", "allowQuorumLoss": True}
DAEMON_JSON = b'{\n  "labels": ["init=sysv"]\n}\n'


@pytest.fixture
def node(lab: Lab) -> Iterator[str]:
    base_systems.make_base(NODE.has.base)
    machines.prepare(lab.folder, NODE)
    file = lab.folder.node(NODE.name) / "upper/etc/docker/daemon.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(DAEMON_JSON)
    machines.power_on(lab.sandbox, lab.folder, NODE)
    lab.nodes[NODE.name] = NODE
    machines.wait_until_up(lab.sandbox, lab.folder, NODE)
    lab.on(NODE.name, f"ip address add {NODE.address}/24 dev host0; ip link set host0 up")
    token = lab.on("node1", "docker swarm join-token -q worker").strip()
    lab.on(
        NODE.name,
        f"docker swarm join --token {token} --advertise-addr {NODE.address} {MANAGER.address}:2377",
    )
    yield NODE.name
    lab.on(NODE.name, "docker swarm leave")
    machines.power_off(lab.sandbox, NODE)
    lab.on("node1", f"docker node rm --force {NODE.name}")
    del lab.nodes[NODE.name]


@pytest.fixture
def mirror(lab: Lab, node: str) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    # First in the list: the canary, and the first whose turn it is.
    entry = {"name": node, "address": NODE.address, "hostKey": lab.host_key(node)}
    mirror.base["config"]["swarm-registry-mirror:nodes"].insert(0, entry)
    mirror.configure()
    yield mirror
    mirror.configure()
    mirror.destroy()


def pid(lab: Lab, node: str) -> str:
    return lab.on(node, "cat /var/run/docker.pid").strip()


def test_a_node_without_systemd_is_configured_restarted_and_gets_everything_back(
    lab: Lab, mirror: Mirror, node: str
) -> None:
    lab.on(node, "test ! -d /run/systemd/system && test -x /etc/init.d/docker")
    before = pid(lab, node)
    mirror.up()
    assert lab.mirrors(node) == [URL]
    assert pid(lab, node) == before, "it was told by a signal"
    lab.on(node, "docker pull --quiet swarm-mirror-proof:1")

    mirror.configure(daemonKeys={"debug": True})
    mirror.up()
    assert (lab.info(node)["Debug"], pid(lab, node)) == (True, before)

    told = lab.daemon_json(node)
    mirror.configure(daemonKeys={"debug": True, "log-opts": {"no-such-option": "1"}}, **RESTARTS)
    reason = mirror.up_fails()
    assert "no-such-option" in reason, "dockerd's own words, from its log file"
    assert "the old daemon.json is back, and docker runs with it" in reason
    assert lab.daemon_json(node) == told

    before = pid(lab, node)
    mirror.configure(daemonKeys={"debug": True, "log-level": "debug"}, **RESTARTS)
    mirror.up()
    assert pid(lab, node) != before
    assert lab.mirrors(node) == [URL]
    assert lab.availability()[node] == "active"

    mirror.destroy()
    assert lab.daemon_json(node) == DAEMON_JSON
    assert lab.mirrors(node) == []
