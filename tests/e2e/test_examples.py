"""The examples, on the lab's machines, by somebody who has installed the wheel and nothing else of
this project."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import swarm
from lab.internet import reset_counters
from tests.lab.example import Example
from tests.lab.lab import HOSTS_TOML, Lab
from tests.lab.output import counts

NODES = ["node1", "node2", "node3"]
FILES = {
    "node1": "/etc/docker/daemon.json",
    "node2": "/etc/docker/daemon.json",
    "node3": HOSTS_TOML,
}
UPSTREAM: dict[str, Any] = {
    "upstream": "http://198.18.0.2",
    "checkImage": "library/swarm-mirror-proof:1",
}


def ssh_options(lab: Lab, *, known_hosts: bool = True) -> list[str]:
    found = ["-i", str(lab.folder.ssh_key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    return [
        *found,
        *(["-o", f"UserKnownHostsFile={lab.folder.known_hosts}"] if known_hosts else []),
    ]


def pull(lab: Lab, node: str) -> None:
    lab.pull(node)


@pytest.fixture
def clean(lab: Lab) -> Iterator[None]:
    """No cache before (other tests leave theirs, as destroy does) nor afterwards, and nodes that
    are as they were."""
    no_cache = "rm -rf /var/data/registry /var/data/mirror-*"
    lab.on("node1", no_cache)
    before = {node: lab.daemon_json(node) for node in NODES}
    yield
    assert {node: lab.daemon_json(node) for node in NODES} == before
    lab.on("node1", no_cache)


def test_the_least_that_works_works(lab: Lab, installed: Path, tmp_path: Path, clean: None) -> None:
    example = Example(lab, "minimal", installed, tmp_path)
    nodes = [
        {"name": node, "address": lab.nodes[node].address, "host_key": lab.host_key(node)}
        for node in NODES[:2]
    ]
    example.configure(
        hostname="mirror.lab.test",
        image=lab.digest("registry"),
        nodes=nodes,
        dockerHost="ssh://root@198.18.0.11",
        sshOptions=ssh_options(lab),
        **UPSTREAM,
    )
    example("up", "--yes", "--skip-preview")
    reset_counters(lab.sandbox)
    pull(lab, "node2")
    assert lab.upstream()["bytes"] > 1_000_000
    assert lab.mirrors("node2")[0] == example.outputs()["url"] + "/" == "https://mirror.lab.test/"
    assert counts(example("up", "--yes", "--skip-preview")) == {"unchanged": 15}
    example("destroy", "--yes", "--skip-preview")


def the_command_looks_after_both_mirrors(lab: Lab, example: Example) -> None:
    """`swarm-registry-mirror` of the wheel, in the program's own folder, which knows nothing of
    this checkout."""
    code, output = example.command("status", "--json")
    assert code == 0, output
    states = {(entry["mirror"], entry["node"]): entry["state"] for entry in json.loads(output)}
    assert states == {
        ("mirror-serve", "node1"): "healthy",
        ("mirror-serve", "node2"): "healthy",
        ("mirror-build", "node3"): "healthy",
    }
    files = {node: lab.on(node, f"stat -c %y {file}") for node, file in FILES.items()}
    lab.on("node3", f"rm {HOSTS_TOML}")
    code, output = example.command("status")
    assert code == 1
    assert "node3   DRIFTED" in output
    assert "https://second.lab.test" in output
    code, output = example.command("repair", "--mirror", "mirror-serve")
    assert (code, output) == (0, "Nothing to repair.\n")
    code, output = example.command("repair")
    assert code == 0, output
    assert lab.mirrors("node3") == ["https://second.lab.test/"]
    assert {
        node: lab.on(node, f"stat -c %y {file}") for node, file in FILES.items() if node != "node3"
    } == {node: when for node, when in files.items() if node != "node3"}
    assert example.command("status")[0] == 0
    code, output = example.command("stats", "--mirror", "mirror-serve", "--json")
    assert code == 0, output
    assert json.loads(output)["fetched_bytes"] > 1_000_000
    code, output = example.command("hostkeys", "--json")
    assert code == 0, output
    assert {entry["machine"]: entry["state"] for entry in json.loads(output)} == dict.fromkeys(
        NODES, "as known"
    )
    code, output = example.command("forget", "node3")
    assert code == 1
    assert "node3 can be reached" in output
    assert example.command("status", "--mirror", "mirror-x")[0] == 4
    key = lab.private_key().splitlines()[1]
    assert not [
        verb
        for verb in ("status", "stats", "advisories", "hostkeys", "policy", "preview")
        if key in example.command(verb)[1]
    ]


def a_change_is_previewed_and_checked_without_swarm_and_secret(lab: Lab, example: Example) -> None:
    """As in a pull request: from a saved state, in an estate's own folder."""
    assert example.command("policy", "--json") == (0, "[]\n")
    code, output = example.command("preview", "--json")
    assert code == 0, output
    assert json.loads(output)["changes"] == []
    code, output = example.command("preview", "--save", "previews/t.json")
    assert code == 0, output
    saved = (example.folder / "previews" / "t.json").read_text()
    local = (str(example.folder), "stackTrace", "sourcePosition", lab.private_key().splitlines()[1])
    assert [words for words in local if words in saved] == []
    before = lab.connections(*NODES)
    backend = example.environment.pop("PULUMI_BACKEND_URL")
    try:
        markdown = example.folder / "comment.md"
        code, output = example.command("preview", "--offline", "--json", "--markdown", "comment.md")
        assert code == 0, output
        report = json.loads(output)
        assert (report["changes"], report["impact"]) == ([], "no docker is touched")
        assert report["compared_with"]
        assert "### Preview of t: can be applied; no docker is touched" in markdown.read_text()
        file = example.folder / "Pulumi.t.yaml"
        text = file.read_text()
        file.write_text(text.replace("build: second.lab.test", "build: third.lab.test"))
        report = json.loads(example.command("preview", "--offline", "--json")[1])
        file.write_text(text)
        assert report["reloads"] == 1, "node3 is the only one of that pool"
        assert "docker reloads on up to 1 node" in report["impact"]
    finally:
        example.environment["PULUMI_BACKEND_URL"] = backend
    assert lab.connections(*NODES) == before


def an_up_goes_past_a_node_that_cannot_be_reached(lab: Lab, example: Example) -> None:
    lab.on("node3", "systemctl stop ssh.socket 2>/dev/null; systemctl stop ssh")
    skip = ("up", "--yes", "--unreachable", "skip-and-report")
    try:
        code, output = example.command(*skip)
    finally:
        lab.on("node3", "systemctl start ssh")
    assert code == 2, output
    assert "Skipped, left as they are: node3." in output
    code, output = example.command(*skip)
    assert code == 0, output
    assert example.command("status")[0] == 0


def bash_completes_the_command(example: Example) -> None:
    script = (
        'source <(swarm-registry-mirror completion bash); COMP_WORDS=(swarm-registry-mirror "sta")'
        ' COMP_CWORD=1; _swarm_registry_mirror; echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=example.folder,
        env=example.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["status", "stats"]
    assert counts(example("up", "--yes", "--skip-preview"))["unchanged"] > 20


def test_an_estate_brings_network_and_traefik_and_has_a_mirror_for_each_pool(
    lab: Lab, installed: Path, tmp_path: Path, clean: None
) -> None:
    """The component takes outputs, secrets and machines by pool; everything is deleted again, in
    the right order."""
    lab.on("node1", "docker service rm traefik >/dev/null")  # its port is the estate's now
    try:
        example = Example(lab, "estate", installed, tmp_path)
        machines = [
            {
                "name": node,
                "address": lab.nodes[node].address,
                "hostKey": lab.host_key(node),
                "user": lab.nodes[node].user,
                "pool": "build" if node == "node3" else "serve",
            }
            for node in NODES
        ]
        example.configure(
            machines=machines,
            manager="node1",
            certificates="/var/data/traefik",
            images={name: lab.digest(name) for name in ("registry", "varnish", "traefik")},
            mirrors={"serve": "mirror.lab.test", "build": "second.lab.test"},
            knownHostsFile=str(lab.folder.known_hosts),
            sshOptions=ssh_options(lab, known_hosts=False),
            **UPSTREAM,
        )
        example("up", "--yes", "--skip-preview")
        assert example.outputs()["mirrors"] == {
            "serve": "https://mirror.lab.test",
            "build": "https://second.lab.test",
        }
        assert {node: lab.mirrors(node)[0] for node in NODES} == {
            "node1": "https://mirror.lab.test/",
            "node2": "https://mirror.lab.test/",
            "node3": "https://second.lab.test/",
        }
        reset_counters(lab.sandbox)
        for node in ("node2", "node3"):
            pull(lab, node)
        caches = lab.on(
            "node1",
            "du --summarize --bytes /var/data/mirror-serve /var/data/mirror-build | cut -f1",
        ).split()
        assert all(int(size) > 1_000_000 for size in caches)  # one writer each
        assert "updated" not in counts(example("up", "--yes", "--skip-preview"))
        assert lab.private_key().splitlines()[1] not in example("stack", "export")
        the_command_looks_after_both_mirrors(lab, example)
        a_change_is_previewed_and_checked_without_swarm_and_secret(lab, example)
        an_up_goes_past_a_node_that_cannot_be_reached(lab, example)
        bash_completes_the_command(example)
        example("destroy", "--yes", "--skip-preview")
        assert lab.on("node1", "docker service ls --quiet").strip() == ""
        # The swarm has forgotten the network; a machine keeps its end until the last container
        # there has gone.
        gone = "docker network ls --format '{{.Name}}' | grep --quiet --line-regexp edge || exit 0"
        lab.on("node1", f"for i in $(seq 40); do {gone}; sleep 0.5; done; exit 1")
    finally:
        swarm.start_traefik(lab.sandbox, lab.folder)
        swarm.wait_for_traefik(lab.sandbox)
