"""New machines: `status` names those that are in no list, `nodes` prints their entries, and user
data for a real cloud-init has them use the mirror before any `pulumi up` has come to them.

Node 1 (docker 26.1) is in the list from the beginning. Node 2 (20.10, or 26.1) and node 3 (29, with
the containerd image store) come to it.
"""

import json
from collections.abc import Iterator
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
import yaml

from config.settings import parse_files
from lab.plan import CHECKOUT, NODE2_DAEMON_JSON
from tests.lab import cloud
from tests.lab.lab import HOSTS_TOML, MIRROR_URL, Lab
from tests.lab.mirror import Mirror

NEW = ("node2", "node3")
KEYS = {"max-concurrent-downloads": 6}
RELOADS = "journalctl --unit=docker --output=cat | grep -c 'Got signal to reload' || true"

FOLDER = HOSTS_TOML.rpartition("/")[0]
GUARDS = [f".registry-mirror.2.{name}" for name in ("made", "with", "without")] + ["hosts.toml"]
"""What a guard would lay there."""

pytestmark = pytest.mark.story


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    mirror.configure(without=NEW, daemonKeys=KEYS)
    mirror.left_out = ()  # they are new, and nobody has left them out
    for node in NEW:  # as a file before may have
        lab.on("node1", f"docker node update --label-rm registry-mirror {node} || true")
    mirror.up_after_kill()
    yield mirror
    mirror.destroy()
    for node in NEW:
        cloud.remove(lab, node)
    lab.on("node3", f"rm -rf /etc/docker/daemon.json {FOLDER}; systemctl restart docker")
    lab.on("node2", "cat > /etc/docker/daemon.json", stdin=NODE2_DAEMON_JSON.encode())
    lab.on("node2", "systemctl restart docker")


@pytest.fixture(scope="module")
def user_data(mirror: Mirror) -> str:
    code, text = mirror.operate("cloud-init")
    print(text)
    assert code == 0, text
    return text


def test_status_names_the_members_that_are_in_no_list(lab: Lab, mirror: Mirror) -> None:
    code, table = mirror.operate("status")
    print(table)
    assert code == 1, table
    assert [line.split()[0] for line in table.splitlines() if " NOT LISTED " in line] == [*NEW]
    entries = {each["node"]: each for each in json.loads(mirror.operate("status", "--json")[1])}
    assert {node: each["in_list"] for node, each in entries.items()} == {
        "node1": True,
        "node2": False,
        "node3": False,
    }
    assert entries["node3"]["engine"].startswith("29.")
    for change, expected in (("add registry-mirror=off", 0), ("rm registry-mirror", 1)):
        for node in NEW:
            lab.on("node1", f"docker node update --label-{change} {node}")
        assert mirror.operate("status")[0] == expected, "with the label it is on purpose"


def entry(values: dict[str, Any], project: str = "swarm-registry-mirror") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = values["config"][f"{project}:nodes"]
    return found


def test_what_nodes_prints_is_a_list_that_the_configuration_takes(lab: Lab, mirror: Mirror) -> None:
    code, text = mirror.operate("nodes", "--config-file", str(mirror.file))
    print(text)
    assert code == 0, text
    nodes = entry(yaml.safe_load(text))
    given = yaml.safe_load(mirror.file.read_text())
    assert nodes[0] == entry(given)[0], "what is in the list keeps its entry"
    assert {node["name"]: node.get("hostKey") for node in nodes[1:]} == {
        name: lab.host_key(name) for name in NEW
    }
    config = given["config"] | {"swarm-registry-mirror:nodes": nodes}
    settings = parse_files(
        {
            key.partition(":")[2]: value if isinstance(value, str) else json.dumps(value)
            for key, value in config.items()
        }
    )
    assert [node.address for node in settings.mirror.nodes] == [
        lab.nodes[name].address for name in ("node1", *NEW)
    ]
    for name in NEW:
        file = "/etc/ssh/ssh_host_ed25519_key.pub"
        assert lab.on(name, f"ssh-keygen -lf {file}").split()[1] in text


def test_the_user_data_is_what_cloud_init_takes(lab: Lab, mirror: Mirror, user_data: str) -> None:
    cloud.install(lab, "node2")
    assert cloud.complaints(lab, "node2", user_data) == ""
    assert cloud.complaints(lab, "node2", user_data.replace("bootcmd:", "bootcmd: 5\nx:")) != ""


def test_a_machine_that_has_a_daemon_json_is_left_as_it_is(
    lab: Lab, mirror: Mirror, user_data: str
) -> None:
    before, pid = lab.daemon_json("node2"), lab.daemon_pid("node2")
    assert before
    cloud.give(lab, "node2", user_data, "image-with-docker")
    assert "is there already and is left as it is" in cloud.boot(lab, "node2")
    cloud.finish(lab, "node2")
    assert (lab.daemon_json("node2"), lab.daemon_pid("node2")) == (before, pid)


def first_boot(lab: Lab, node: str, user_data: str) -> None:
    """Docker is started for the first time while cloud-init is at work, as on a new machine."""
    lab.on(node, "systemctl stop docker.socket docker; rm -f /etc/docker/daemon.json")
    cloud.install(lab, node)
    cloud.give(lab, node, user_data, f"new-{node}")
    cloud.boot(lab, node)
    lab.on(node, "systemctl start docker")
    cloud.finish(lab, node)
    # Its task may have run there, which no new machine's docker does.
    lab.wait_for_mirror(node)


def joined(*parts: str) -> str:
    """Several user data in one, as `cloud-init devel make-mime` joins them."""
    whole = MIMEMultipart()
    for part in parts:
        whole.attach(MIMEText(part, "cloud-config"))
    return whole.as_string()


@pytest.mark.parametrize("node", NEW)
def test_a_new_machine_uses_the_mirror_from_its_first_boot_on(
    lab: Lab, mirror: Mirror, user_data: str, node: str
) -> None:
    if node == "node2":  # with a part of the administrator's own
        own = "#cloud-config\nbootcmd: [[touch, /run/own-bootcmd]]\n"
        first_boot(lab, node, joined(own, user_data))
        lab.on(node, "rm /run/own-bootcmd")
    else:
        first_boot(lab, node, user_data)
    assert lab.mirrors(node) == [f"{MIRROR_URL}/"]
    assert json.loads(lab.daemon_json(node) or b"{}") == {
        "registry-mirrors": [MIRROR_URL],
        **KEYS,
    }
    marks = lab.on(node, f"ls -A {FOLDER} 2>/dev/null || true").split()
    by_hosts = lab.nodes[node].has.containerd_store
    assert marks == (GUARDS if by_hosts else [])
    lab.pull(node)


def test_the_next_up_finds_it_configured_and_reloads_nothing(lab: Lab, mirror: Mirror) -> None:
    before = {node: (lab.on(node, RELOADS), lab.daemon_pid(node)) for node in NEW}
    files = {node: lab.daemon_json(node) for node in NEW}
    mirror.configure(daemonKeys=KEYS)
    mirror.up()
    assert {node: (lab.on(node, RELOADS), lab.daemon_pid(node)) for node in NEW} == before
    assert {node: lab.daemon_json(node) for node in NEW} == files
    code, table = mirror.operate("status")
    assert code == 0, table
    code, table = mirror.operate("repair")
    assert code == 0, table
    assert {node: (lab.on(node, RELOADS), lab.daemon_pid(node)) for node in NEW} == before


def test_a_node_that_leaves_and_joins_again_is_the_same_entry(lab: Lab, mirror: Mirror) -> None:
    token = lab.on("node1", "docker swarm join-token --quiet worker").strip()
    lab.on("node2", "docker swarm leave")
    code, table = mirror.operate("status")
    assert (code, mirror.status()["node2"]["state"]) == (1, "NOT IN SWARM"), table
    lab.on("node2", f"docker swarm join --token {token} {lab.nodes['node1'].address}:2377")
    # The node that it was is down in the swarm's eyes after some seconds.
    lab.on(
        "node1",
        "for i in $(seq 60); do docker node ls | grep -q Down && exit 0; sleep 0.5; done; exit 1",
    )
    lab.wait_for_mirror("node3")  # what ran on the node that left is started somewhere else
    code, table = mirror.operate("status")
    print(table)
    assert code == 0, table
    assert "which this machine was before it left; docker node rm" in table
    lab.on("node1", "docker node ls | awk '/Down/ {print $1}' | xargs docker node rm")


def test_destroy_takes_the_mirror_out_of_what_cloud_init_has_written(
    lab: Lab, mirror: Mirror
) -> None:
    mirror.destroy()
    for node in NEW:
        assert lab.mirrors(node) == []
        assert MIRROR_URL not in (lab.daemon_json(node) or b"").decode()
    assert lab.on("node3", f"ls -A {FOLDER} 2>/dev/null || true") == ""


UNITS = CHECKOUT / "examples" / "scheduled-status"
STATUS = "printf '  node9   DRIFTED\\n'; exit 1"
CURL = "while [ $# -gt 1 ]; do [ $1 != --data-binary ] || cat ${2#@} >&7; shift; done; cat >&7"


def test_systemd_runs_status_and_hands_over_what_is_secret(lab: Lab, mirror: Mirror) -> None:
    """The units of the example, by a machine's systemd; `status` and curl are stand-ins, which the
    machine has not."""
    for name in ("report-status.sh", "registry-mirror-status.service"):
        lab.on(
            "node1",
            f"mkdir -p /srv/mirror/venv/bin; cat > /srv/mirror/{name}",
            stdin=(UNITS / name).read_bytes(),
        )
    for name, text in (
        ("swarm-registry-mirror", STATUS),
        ("curl", f"exec 7>>/srv/mirror/posted; {CURL}"),
    ):
        lab.on("node1", f"cat > /srv/mirror/venv/bin/{name}", stdin=f"#!/bin/sh\n{text}\n".encode())
    lab.on(
        "node1",
        "set -e; chmod 755 /srv/mirror/*.sh /srv/mirror/venv/bin/*;"
        " install -m 700 -d /etc/registry-mirror;"
        " cd /etc/registry-mirror; echo https://hook.test/T0K3N > webhook; echo pass > passphrase;"
        " chmod 600 *; useradd --system --home-dir /srv/mirror registry-mirror;"
        " chown registry-mirror /srv/mirror; mv /srv/mirror/*.service /etc/systemd/system;"
        " systemctl daemon-reload",
    )
    try:
        for _ in range(2):
            lab.on("node1", "systemctl start registry-mirror-status")
        posted = lab.on("node1", "cat /srv/mirror/posted")
        assert posted.count("DRIFTED") == 1, "once"
        assert 'url = "https://hook.test/T0K3N"' in posted
        logged = lab.on("node1", "journalctl --unit=registry-mirror-status --output=cat")
        assert "DRIFTED" in logged
        assert "T0K3N" not in logged
    finally:
        lab.on(
            "node1",
            "userdel registry-mirror; rm -rf /srv/mirror /etc/registry-mirror"
            " /var/lib/registry-mirror-status /etc/systemd/system/registry-mirror-status.service;"
            " systemctl daemon-reload",
        )
