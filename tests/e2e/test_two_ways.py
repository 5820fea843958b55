"""One machine with one engine after the other: configured the way its engine reads, seen, drifted,
forgotten without a trace.

The node agent is sent to node 3 directly; the mirror is that of the other two nodes.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab import internet
from tests.lab.agent import SentAgent
from tests.lab.lab import HOSTS_TOML, MIRROR_URL, Lab
from tests.lab.mirror import Mirror

OURS = f'[host."{MIRROR_URL}"]\n  capabilities = ["pull", "resolve"]\n  dial_timeout = "1s"\n'
HURT = "28.5"
"""The engine that a reload harms."""


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    mirror.configure(without=("node3",))
    mirror.up_after_kill()
    yield mirror
    mirror.configure(without=("node3",))
    mirror.destroy()


def everything(lab: Lab) -> str:
    """Every file of docker's configuration on node 3, and what we know of our own doings."""
    return lab.on(
        "node3",
        "cd / && find etc/docker var/lib/swarm-registry-mirror 2>/dev/null | sort | while read -r"
        " name; do"
        ' stat -c "%n %F %a %U" "$name"; [ ! -f "$name" ] || sha256sum < "$name"; done',
    )


def look(agent: SentAgent) -> dict[str, Any]:
    code, output = agent.run("node.look")
    assert code == 0, output
    found: dict[str, Any] = json.loads(output)
    return found


def from_the_upstream(lab: Lab) -> int:
    """Bytes that leave the upstream while node 3 pulls what the mirror has; the image is the same
    each time."""
    lab.pull("node1")
    internet.reset_counters(lab.sandbox)
    lab.pull("node3")
    return int(str(lab.upstream()["bytes"]))


def has_host_gateway(lab: Lab) -> bool:
    """Whether a container with host-gateway starts on node 3."""
    command = (
        f"docker run --rm --add-host x:host-gateway --entrypoint sh {lab.digest('registry')}"
        " -c 'exit 0'"
    )
    return "started" in lab.on("node3", f"{command} && echo started || true")


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("20.10", marks=pytest.mark.long),
        pytest.param("26.1", marks=pytest.mark.long),
        "28.5-containerd",
        "29",
        pytest.param("29-graphdriver", marks=pytest.mark.long),
    ],
)
def test_a_node_is_configured_seen_and_forgotten_whatever_engine_it_has(
    lab: Lab, mirror: Mirror, engine: str
) -> None:
    lab.have({"node3": engine})
    agent = SentAgent(lab, "node3", "two-ways")
    by_hosts = lab.nodes["node3"].has.containerd_store
    before, daemon, file = everything(lab), lab.daemon_pid("node3"), lab.daemon_json("node3")
    reloads = lab.reloads("node3")
    assert agent.run("node.apply") == (0, "written" if by_hosts else "written and reloaded")
    assert agent.run("node.apply") == (0, "unchanged")
    assert from_the_upstream(lab) < 100_000
    status = look(agent)
    assert (
        status["way"],
        status["listed"],
        status["used"],
        status["recorded"],
        status["edited"],
        status["faults"],
    ) == (
        "hosts.toml" if by_hosts else "daemon.json",
        True,
        True,
        True,
        False,
        [],
    )
    if by_hosts:
        assert lab.on("node3", f"cat {HOSTS_TOML}") == OURS
        assert (lab.daemon_json("node3"), lab.reloads("node3")) == (file, reloads)
        lab.on("node3", f"sed -i s/resolve/push/ {HOSTS_TOML}")
        status = look(agent)
        assert (status["edited"], status["used"]) == (True, False)
        assert agent.run("node.apply") == (0, "written")
        lab.on("node3", f"rm {HOSTS_TOML}")
        status = look(agent)
        assert (status["listed"], status["used"]) == (False, False)
        assert f"docker goes by {HOSTS_TOML}, where the mirror is not" in " ".join(status["faults"])
        assert agent.run("node.apply") == (0, "written")
    assert has_host_gateway(lab)
    assert agent.run("node.remove") == (0, "forgotten")
    assert agent.run("node.remove") == (0, "nothing-to-forget")
    assert (everything(lab), lab.daemon_pid("node3")) == (before, daemon)
    assert has_host_gateway(lab)
    assert MIRROR_URL + "/" not in lab.mirrors("node3")


def test_an_engine_that_a_reload_harms_is_not_reloaded(lab: Lab, mirror: Mirror) -> None:
    lab.have({"node3": HURT})
    agent = SentAgent(lab, "node3", "two-ways")
    before = everything(lab)
    code, output = agent.run("node.apply")
    assert code == 1
    assert "docker 28.5.2" in output
    assert "loses the addresses behind host-gateway at a reload" in output
    assert everything(lab) == before
    assert has_host_gateway(lab)
    agent.settings["accept_broken_host_gateway"] = True
    assert agent.run("node.apply") == (0, "written and reloaded")
    assert from_the_upstream(lab) < 100_000
    assert not has_host_gateway(lab)  # what is refused above is no fable
    assert agent.run("node.remove") == (0, "forgotten")
    lab.on("node3", "systemctl restart docker")
    assert everything(lab) == before


def test_dockerd_is_asked_and_not_believed(lab: Lab, mirror: Mirror) -> None:
    """A file that our reader takes, and that this dockerd does not get to see, is taken back."""
    lab.have({"node3": "29"})
    agent = SentAgent(lab, "node3", "two-ways")
    before = everything(lab)
    hide = (
        "mkdir -p /run/systemd/system/docker.service.d; printf"
        " '[Service]\\nTemporaryFileSystem=/etc/docker/certs.d\\n'"
    )
    place = "/run/systemd/system/docker.service.d/hidden.conf"
    lab.on(
        "node3",
        f"mkdir -p /etc/docker/certs.d; {hide} > {place}; systemctl daemon-reload; systemctl"
        " restart docker",
    )
    try:
        hidden = everything(lab)
        code, output = agent.run("node.apply")
        assert code == 1
        assert (
            f"docker was made to pull from docker.io and did not connect to {MIRROR_URL}" in output
        )
        assert f"the old {HOSTS_TOML} is back" in output
        assert everything(lab) == hidden
    finally:
        lab.on(
            "node3",
            f"rm {place}; systemctl daemon-reload; systemctl restart docker; rmdir"
            " /etc/docker/certs.d",
        )
    assert everything(lab) == before


def store(lab: Lab, containerd: bool) -> None:
    """Have node 3's docker keep its images in the other store, as its administrator does."""
    keys = json.loads((lab.daemon_json("node3") or b"{}").decode())
    keys["features"] = {"containerd-snapshotter": containerd}
    lab.on(
        "node3",
        "mkdir -p /etc/docker; cat > /etc/docker/daemon.json; systemctl restart docker",
        json.dumps(keys).encode(),
    )


@pytest.mark.long
def test_an_engine_that_changes_its_store_is_moved_from_one_way_to_the_other(
    lab: Lab, mirror: Mirror
) -> None:
    lab.have({"node3": "29-graphdriver"})
    agent = SentAgent(lab, "node3", "two-ways")
    assert agent.run("node.apply") == (0, "written and reloaded")
    store(lab, containerd=True)
    status = look(agent)
    assert (status["way"], status["listed"]) == ("hosts.toml", False)
    assert any("it is in daemon.json from before" in fault for fault in status["faults"])
    assert agent.run("node.apply") == (0, "written and reloaded")
    assert look(agent)["used"] is True
    assert from_the_upstream(lab) < 100_000
    assert MIRROR_URL not in (lab.daemon_json("node3") or b"").decode()
    assert MIRROR_URL + "/" not in lab.mirrors("node3")
    store(lab, containerd=False)
    status = look(agent)
    assert (status["way"], status["listed"], status["used"]) == ("daemon.json", False, False)
    assert any(
        "which docker does not read with this image store" in fault for fault in status["faults"]
    )
    assert agent.run("node.apply") == (0, "written and reloaded")
    assert from_the_upstream(lab) < 100_000
    assert "there" not in lab.on("node3", f"[ ! -e {HOSTS_TOML} ] || echo there")
    assert agent.run("node.remove") == (0, "forgotten")
    assert (
        lab.on("node3", "ls /var/lib/swarm-registry-mirror /etc/docker/certs.d 2>/dev/null || true")
        == ""
    )


def test_a_whole_stack_on_machines_of_both_kinds(lab: Lab, mirror: Mirror) -> None:
    """Node 1 with a 26.1, node 2 with a 20.10, node 3 with a 29 and the containerd image store."""
    lab.have({})
    mirror.configure()
    mirror.up()
    assert mirror.stack.outputs()["nodes"]["node3"] == "written"
    status = mirror.status()
    assert {node: (found["state"], found["way"]) for node, found in status.items()} == {
        "node1": ("healthy", "daemon.json"),
        "node2": ("healthy", "daemon.json"),
        "node3": ("healthy", "hosts.toml"),
    }
    code, output = mirror.operate("engines", "--to=29.2.1")
    assert code == 1
    assert (
        "node2: docker 29.2.1 loses the addresses behind host-gateway at a reload and its dns"
        in output
    )
    assert "node1: docker 29.0 to 29.2 answers no client before 25.0 (here: 20.10.24" in output
    lab.on("node3", f"rm {HOSTS_TOML}")
    assert mirror.status()["node3"]["state"] == "DRIFTED"
    code, output = mirror.operate("repair")
    assert code == 0, output
    assert lab.mirrors("node3") == [f"{MIRROR_URL}/"]
    assert from_the_upstream(lab) < 100_000
    mirror.configure(without=("node3",))
    mirror.up()
    assert (
        lab.on("node3", "ls /var/lib/swarm-registry-mirror /etc/docker/certs.d 2>/dev/null || true")
        == ""
    )
    mirror.up()


@pytest.mark.parametrize("images", ["stay", pytest.param("are gone", marks=pytest.mark.long)])
def test_an_upgrade_from_26_to_29_under_a_running_stack(
    lab: Lab, mirror: Mirror, images: str
) -> None:
    """An upgrade keeps the image store that there are images in; one that begins with none has the
    containerd store."""
    lab.have({"node3": "26.1"})
    mirror.configure()
    mirror.up()
    assert mirror.status()["node3"]["way"] == "daemon.json"
    lab.pull("node3")
    kept = "etc/docker etc/ssh var/lib/swarm-registry-mirror" + (
        " var/lib/docker" if images == "stay" else ""
    )
    host_keys = lab.folder.known_hosts.read_text()
    archive = lab.on_bytes(
        "node3",
        f"systemctl stop docker.socket docker; tar -cz -C / --exclude=var/lib/docker/swarm {kept}",
    )
    lab.have({"node3": "29"})
    stopped = (
        "systemctl stop docker.socket docker; find /var/lib/docker -mindepth 1 -maxdepth 1 !"
        " -name swarm -exec rm -rf {} +"
    )
    lab.on(
        "node3",
        f"{stopped}; rm -rf /etc/docker; tar -xz -C /; systemctl restart ssh; systemctl start"
        " docker",
        archive,
    )
    lab.folder.known_hosts.write_text(host_keys)
    status = mirror.status()["node3"]
    if images == "stay":
        assert (status["state"], status["way"]) == ("healthy", "daemon.json")
        assert mirror.operate("repair") == (0, "Nothing to repair.\n")
    else:
        assert (status["state"], status["way"], status["used"]) == ("DRIFTED", "hosts.toml", False)
        assert any("it is in daemon.json from before" in fault for fault in status["faults"])
        assert mirror.operate("repair")[0] == 0
        assert mirror.status()["node3"]["state"] == "healthy"
        assert MIRROR_URL not in (lab.daemon_json("node3") or b"").decode()
        assert from_the_upstream(lab) < 100_000
    mirror.configure(without=("node3",))
    mirror.up()
    assert lab.mirrors("node3") == []


@pytest.mark.long
def test_a_drained_restart_takes_the_place_of_a_reload_that_harms(lab: Lab, mirror: Mirror) -> None:
    lab.have({"node3": HURT})
    daemon, others = (
        lab.daemon_pid("node3"),
        {node: lab.daemon_pid(node) for node in ("node1", "node2")},
    )
    mirror.configure()
    assert "loses the addresses behind host-gateway" in mirror.up_fails()
    mirror.configure(restart="when-needed")
    text = mirror.up()
    assert "node3: its docker is restarted (1 of 1)" in text
    assert lab.daemon_pid("node3") != daemon
    assert {node: lab.daemon_pid(node) for node in others} == others
    assert lab.mirrors("node3") == [f"{MIRROR_URL}/"]
    assert has_host_gateway(lab)
    assert mirror.status()["node3"]["state"] == "healthy"
    # To forget it there is a reload, too, which is refused until somebody accepts what it breaks.
    mirror.configure(without=("node3",), restart="when-needed")
    assert "loses the addresses behind host-gateway" in mirror.up_fails()
    assert lab.mirrors("node3") == [f"{MIRROR_URL}/"]
    mirror.configure(restart="when-needed", acceptBrokenHostGateway=True)
    mirror.up()
    mirror.configure(without=("node3",), restart="when-needed", acceptBrokenHostGateway=True)
    mirror.up()
    assert lab.mirrors("node3") == []
