"""The whole life of a mirror on real machines, in the order in which it happens: up, up again,
pull, break, recover, destroy.

The tests build on each other; what comes after the first failure is skipped. One that is chosen
alone (`pytest -k`) begins with the mirror up.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lab import deployed
from lab.images import PROOF, proof_image_bytes
from lab.internet import reset_counters
from lab.plan import NODE2_DAEMON_JSON, STRANGERS_MIRROR
from tests.lab.lab import HOSTS_TOML, Lab, is_chosen
from tests.lab.mirror import Mirror, review, saved_state
from tests.lab.output import counts

pytestmark = pytest.mark.story

NODES = ["node1", "node2", "node3"]
URL = "https://mirror.lab.test/"
DAEMON = "systemctl show --property=MainPID --value docker"


@pytest.fixture(scope="module")
def mirror(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    if mirror.stack.outputs():  # a lab that was kept from an earlier run (KEEP_LAB=1)
        mirror.destroy()
    lab.on("node1", "rm -rf /var/data/registry")
    for node in NODES:
        lab.on(node, f"docker image rm --force {PROOF} >/dev/null 2>&1 || true")
    if not is_chosen(request, test_up_configures_every_node_without_disturbing_what_runs_there):
        mirror.up()
        lab.wait_for_mirror("node3")
    yield mirror
    # Where the test that destroys it was not chosen.
    mirror.configure()
    mirror.destroy()


def test_a_preview_works_where_no_node_can_be_reached(mirror: Mirror) -> None:
    assert "19 to create" in mirror.preview_without_network()


def test_up_configures_every_node_without_disturbing_what_runs_there(
    lab: Lab, mirror: Mirror
) -> None:
    daemons = {node: lab.on(node, DAEMON) for node in NODES}
    traefik = lab.on("node1", "docker ps --quiet --filter name=traefik")
    before = lab.connections(*NODES)
    assert counts(mirror.up()) == {"created": 19}
    outputs = mirror.stack.outputs()
    assert outputs["nodes"] == lab.configured()
    assert outputs["url"] == "https://mirror.lab.test"
    assert lab.mirrors("node1") == [URL]
    assert lab.mirrors("node2") == [URL, f"{STRANGERS_MIRROR}/"]
    assert lab.mirrors("node3") == [URL]
    assert {node: lab.on(node, DAEMON) for node in NODES} == daemons
    assert lab.on("node1", "docker ps --quiet --filter name=traefik") == traefik
    # One connection per node; the manager has four more for claim, network, storage and gate, and
    # docker's own for what it makes. The stand-in makes a connection for each call: two services,
    # whose images' platforms are asked for first, and six files.
    assert lab.connections(*NODES) - before <= 3 + 4 + 2 * 2 + 6


def test_a_file_that_was_there_keeps_every_other_byte(lab: Lab) -> None:
    ours = NODE2_DAEMON_JSON.replace(
        f'[ "{STRANGERS_MIRROR}"', f'[ "{URL.rstrip("/")}", "{STRANGERS_MIRROR}"'
    )
    assert lab.daemon_json("node2") == ours.encode()


def test_up_again_changes_nothing_and_contacts_nobody(lab: Lab, mirror: Mirror) -> None:
    before = lab.connections(*NODES)
    assert counts(mirror.up()) == {"unchanged": 19}
    assert lab.connections(*NODES) == before


def test_a_pull_requests_preview_needs_no_secret_and_shows_exactly_what_changes(
    lab: Lab, mirror: Mirror
) -> None:
    state = saved_state(mirror.stack)
    assert lab.private_key().splitlines()[1] not in state.read_text()
    before = lab.connections(*NODES)
    code, report = review(mirror.stack, state)
    assert (code, report["headline"]) == (0, "dev: nothing changes; 17 stay as they are")
    mirror.configure(daemonKeys={"debug": True}, hostname="bad name")
    code, report = review(mirror.stack, state)
    assert code == 1
    assert "- hostname: must be a full DNS name" in report["faults"][0]
    mirror.configure(daemonKeys={"debug": True}, publishUnencryptedPort5000=True)
    code, report = review(mirror.stack, state)
    assert code == 3
    assert "publishes port 5000 on every node" in report["violations"][0]
    changes = {change["name"]: change["lines"] for change in report["changes"]}
    told = {f"registry-mirror-node-{node}": ["keys.debug: true (new)"] for node in NODES}
    assert {name: lines for name, lines in changes.items() if "-node-" in name} == told
    assert set(changes) == {*told, "registry-mirror-service"}
    mirror.configure()
    assert lab.connections(*NODES) == before


def test_status_finds_every_node_healthy_and_changes_nothing(lab: Lab, mirror: Mirror) -> None:
    files = [lab.daemon_json(node) for node in NODES]
    before = lab.connections(*NODES)
    code, output = mirror.operate("status")
    assert code == 0, output
    assert [line.split()[:2] for line in output.splitlines() if line.strip().startswith("node")][
        1:
    ] == [[n, "healthy"] for n in NODES]
    assert (
        lab.connections(*NODES) == before + 4
    )  # each node, and the manager once more for the swarm's view
    assert [lab.daemon_json(node) for node in NODES] == files


def test_drift_is_seen_by_status_and_repaired_on_the_drifted_node_alone(
    lab: Lab, mirror: Mirror
) -> None:
    ours = lab.daemon_json("node2")
    theirs = NODE2_DAEMON_JSON.replace("rack=b", "rack=c")
    lab.on(
        "node2", "cat > /etc/docker/daemon.json; systemctl reload docker; sleep 1", theirs.encode()
    )
    code, _ = mirror.operate("status")
    assert code == 1
    status = mirror.status()["node2"]
    assert (status["drifted"], status["listed"], status["used"], status["edited"]) == (
        True,
        False,
        False,
        True,
    )
    files = {"node1": "/etc/docker/daemon.json", "node3": HOSTS_TOML}
    others = {node: lab.on(node, f"stat -c %y {file}") for node, file in files.items()}
    code, output = mirror.operate("repair")
    assert code == 0, output
    assert "written and reloaded" in output
    assert mirror.operate("status")[0] == 0
    assert {node: lab.on(node, f"stat -c %y {file}") for node, file in files.items()} == others
    assert lab.daemon_json("node2") == (ours or b"").replace(b"rack=b", b"rack=c")
    assert mirror.operate("repair") == (0, "Nothing to repair.\n")
    # Back to what the rest of the story expects, by an administrator's edit of a key that is not
    # ours.
    lab.on("node2", "sed -i s/rack=c/rack=b/ /etc/docker/daemon.json; systemctl reload docker")


def test_a_docker_that_can_validate_is_asked_before_anything_is_written(
    lab: Lab, mirror: Mirror
) -> None:
    ours = lab.daemon_json("node1") or b""
    lab.on("node1", "cat > /etc/docker/daemon.json", b'{"no-such-key": 1}')
    code, output = mirror.operate("repair")
    assert code == 1
    assert "nothing was changed: dockerd would refuse the file: " in output
    assert "no-such-key" in output
    assert lab.daemon_json("node1") == b'{"no-such-key": 1}'
    lab.on("node1", "cat > /etc/docker/daemon.json", ours)
    assert mirror.operate("status")[0] == 0


def test_every_node_pulls_by_plain_name_and_the_image_crosses_the_internet_once(lab: Lab) -> None:
    reset_counters(lab.sandbox)
    with ThreadPoolExecutor() as pool:  # at the same moment
        list(pool.map(lab.pull, NODES))
    # Not `.Id`: that is the configuration's digest in one image store, and the manifest's in the
    # other.
    digests = {
        lab.on(node, f"docker image inspect --format '{{{{.RepoDigests}}}}' {PROOF}")
        for node in NODES
    }
    assert len(digests) == 1
    assert lab.upstream()["bytes"] <= 1.01 * proof_image_bytes(lab.sandbox)
    assert set(lab.upstream()["clients"]) <= {"198.18.0.11", "198.18.0.12", "198.18.0.13"}


def test_a_removed_image_comes_back_from_the_mirror_alone(lab: Lab) -> None:
    reset_counters(lab.sandbox)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lab.pull, NODES))
    assert lab.upstream()["bytes"] < 50_000  # manifests may be asked for again; layers may not


def test_the_mirror_shows_images_and_nothing_else(lab: Lab) -> None:
    ask = (
        "import urllib.request as u, sys\n"
        "try: print(u.urlopen(u.Request(sys.argv[2], method=sys.argv[1])).status)\n"
        "except u.HTTPError as e: print(e.code)"
    )

    def status(method: str, path: str) -> str:
        return lab.on(
            "node2", f'python3 -c "$(cat)" {method} https://mirror.lab.test{path}', ask.encode()
        ).strip()

    assert status("GET", "/v2/") == "200"
    assert status("GET", "/v2/library/swarm-mirror-proof/tags/list") == "200"
    assert status("GET", "/v2/_catalog") == "404"
    assert status("PUT", "/v2/library/x/manifests/1") == "404"
    assert status("DELETE", "/v2/library/swarm-mirror-proof/manifests/1") == "404"
    assert status("GET", "/") == "404"
    assert (
        lab.on(
            "node1", "docker service inspect --format '{{json .Endpoint.Ports}}' registry-mirror"
        ).strip()
        == "null"
    )


def test_a_changed_configuration_restarts_the_mirrors_task_and_only_that(
    lab: Lab, mirror: Mirror
) -> None:
    tasks = "docker service ps --quiet --filter desired-state=running "
    traefik = lab.on("node1", tasks + "traefik")
    task = lab.on("node1", tasks + "registry-mirror")
    before = lab.connections("node2", "node3")
    mirror.configure(upstream="http://198.18.0.2:80")
    assert counts(mirror.up()) == {
        "updated": 2,
        "replaced": 1,
        "unchanged": 16,
    }  # the gate begins anew with another upstream
    assert "remoteurl: http://198.18.0.2:80\n" in lab.on(
        "node1", "cat /var/data/registry/registry-mirror-config.yml"
    )
    assert lab.on("node1", tasks + "registry-mirror") != task
    assert lab.on("node1", tasks + "traefik") == traefik
    assert lab.connections("node2", "node3") == before
    mirror.configure()
    mirror.up()


def test_a_mirror_whose_container_dies_is_back_with_its_cache(lab: Lab) -> None:
    reset_counters(lab.sandbox)
    deployed.kill(lab.sandbox)
    lab.pull("node3")
    assert lab.upstream()["bytes"] < 50_000


@pytest.mark.fault("F16", "the mirror never gets ready")
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param(
            {"hostname": "nowhere.lab.test"},
            "not ready after 6 s, so no node was touched: the name nowhere.lab.test does not"
            " resolve",
            marks=pytest.mark.long,
        ),
        (
            {"hostname": "other.lab.test"},
            "not ready after 6 s, so no node was touched: the certificate of other.lab.test is not"
            " trusted",
        ),
        pytest.param(
            {"entrypoint": "nosuch"},
            "not ready after 6 s, so no node was touched: Traefik has no route to the mirror (404",
            marks=pytest.mark.long,
        ),
        (
            {"checkImage": "library/no-such-image:1"},
            "has no image library/no-such-image:1 (404); set checkImage",
        ),
        (  # in the words of its engine, which needs some seconds to find out on a busy machine
            {"image": "images.lab.test/registry:3.9.9@sha256:" + "0" * 64, "readyTimeout": 15},
            "its task is rejected: ",
        ),
    ],
)
def test_a_mirror_that_is_not_ready_is_reported_with_its_reason_and_no_node_is_touched(
    lab: Lab, mirror: Mirror, changed: dict[str, Any], words: str
) -> None:
    lab.on(
        "node1",
        "grep -q other.lab.test /etc/hosts || echo '198.18.0.11 other.lab.test' >> /etc/hosts",
    )
    files = [lab.daemon_json(node) for node in NODES]
    before = lab.connections("node2", "node3")
    mirror.configure(**{"readyTimeout": 6, **changed})
    reason = mirror.up_fails()
    assert "so no node was touched: " in reason
    assert words in reason
    assert lab.connections("node2", "node3") == before
    assert [lab.daemon_json(node) for node in NODES] == files


def test_the_right_configuration_again_heals_it(mirror: Mirror) -> None:
    mirror.configure()
    mirror.up()
    assert set(counts(mirror.up())) == {"unchanged"}


def test_a_node_that_leaves_the_list_forgets_the_mirror_and_no_other_is_contacted(
    lab: Lab, mirror: Mirror
) -> None:
    before = lab.connections("node1", "node2")
    mirror.configure(without=("node3",))
    assert counts(mirror.up()) == {"deleted": 1, "unchanged": 18}
    assert lab.daemon_json("node3") is None
    assert lab.mirrors("node3") == []
    assert lab.connections("node1", "node2") == before


BAD_FILES = {
    "not JSON": ("printf 'log-driver: journald' > F", "it is not JSON"),
    "not an object": ("echo '[]' > F", "not an object"),
    "a link to nowhere": ("ln -s /nowhere F", "is a link to /nowhere"),
    "a directory": ("mkdir F", "is a directory; move it away"),
    "a folder that must not change": ("mkdir -p $(dirname H); chattr +i $(dirname H)", "immutable"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_used_is_left_as_it_is(lab: Lab, mirror: Mirror, name: str) -> None:
    make, words = BAD_FILES[name]
    listing = "ls -lR --time-style=+ /etc/docker; cat /etc/docker/daemon.json 2>&1 || true"
    lab.on("node3", make.replace("F", "/etc/docker/daemon.json").replace("H", HOSTS_TOML))
    try:
        found = lab.on("node3", listing)
        mirror.configure()
        assert words in mirror.up_fails()
        assert lab.on("node3", listing) == found
        assert lab.mirrors("node3") == []
    finally:
        lab.on(
            "node3",
            f"chattr -i $(dirname {HOSTS_TOML}) 2>/dev/null; rm -rf /etc/docker/daemon.json"
            " /etc/docker/certs.d",
        )


@pytest.mark.fault("F4", "a node is off")
def test_a_node_that_is_off_is_named_soon_and_its_peers_keep_working(
    lab: Lab, mirror: Mirror
) -> None:
    lab.power_off("node3")
    started = time.monotonic()
    reason = mirror.up_fails()
    assert time.monotonic() - started < 45
    assert "198.18.0.13" in reason
    assert set(mirror.status()) == {"node1", "node2"}, "those that an `up` has come to"
    assert lab.mirrors("node2") == [URL, f"{STRANGERS_MIRROR}/"]
    lab.wait_for_mirror(
        "node2"
    )  # a task of it may have been on node 3, and swarm takes its time to see that it is off
    lab.pull("node2")


@pytest.mark.fault("F28", "a dead node is taken out of the list")
def test_a_node_that_no_longer_exists_can_leave_the_list(lab: Lab, mirror: Mirror) -> None:
    lab.power_on("node3")
    mirror.up()
    lab.power_off("node3")
    mirror.configure(without=("node3",))
    assert "198.18.0.13" in mirror.up_fails()  # Pulumi wants it to forget the mirror first
    assert mirror.operate("status")[0] == 2
    assert {node: found["reachable"] for node, found in mirror.status().items()} == {
        "node1": True,
        "node2": True,
        "node3": False,
    }
    code, output = mirror.operate("forget", "node2")
    assert code == 1
    assert "node2 can be reached" in output
    code, output = mirror.operate("forget", "node3")
    assert code == 0, output
    assert counts(mirror.up()) == {"unchanged": 18}
    # For the rest of the story the machine is found again, mirror and all: configuring it again
    # changes nothing.
    lab.power_on("node3")
    mirror.configure()
    assert counts(mirror.up())["created"] == 1
    assert mirror.stack.outputs()["nodes"]["node3"] == "unchanged"
    mirror.configure(without=("node3",))
    mirror.up()
    mirror.configure()


def test_the_node_that_comes_back_is_configured_by_the_same_command(
    lab: Lab, mirror: Mirror
) -> None:
    assert counts(mirror.up())["created"] == 1
    assert lab.mirrors("node3") == [URL]


@pytest.mark.fault("F7", "a machine answers with another host key")
def test_a_machine_that_answers_with_another_host_key_gets_nothing(
    lab: Lab, mirror: Mirror
) -> None:
    before = lab.daemon_json("node3")
    nodes = json.loads(json.dumps(mirror.base["config"]["swarm-registry-mirror:nodes"]))
    nodes[2]["hostKey"] = lab.host_key("node2")
    mirror.configure(nodes=nodes)
    assert "node3" in mirror.up_fails()
    assert lab.daemon_json("node3") == before
    mirror.configure()
    mirror.up()


def test_destroy_leaves_every_node_as_it_was_and_keeps_the_cache(lab: Lab, mirror: Mirror) -> None:
    daemons = {node: lab.on(node, DAEMON) for node in NODES}
    assert set(counts(mirror.destroy())) == {"deleted"}
    assert lab.daemon_json("node1") is None
    assert lab.daemon_json("node2") == NODE2_DAEMON_JSON.encode()
    assert lab.daemon_json("node3") is None
    assert [lab.mirrors(node) for node in NODES] == [[], [f"{STRANGERS_MIRROR}/"], []]
    assert {node: lab.on(node, DAEMON) for node in NODES} == daemons
    for node in NODES:
        assert (
            lab.on(node, "ls -d /var/lib/swarm-registry-mirror 2>/dev/null || echo gone").strip()
            == "gone"
        )
        assert lab.on(node, "find /etc/docker -name '.swarm*'") == ""
    assert lab.on("node1", "docker service ls --format '{{.Name}}'").split() == ["traefik"]
    assert lab.on("node1", "ls /var/data/registry").split() == ["registry-mirror-data"]
    assert (
        lab.on("node1", "find /var/data/registry/registry-mirror-data -name data | wc -l").strip()
        != "0"
    )
