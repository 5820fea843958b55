"""The plugin of the wheel, started by Pulumi for a program that only knows the package: what it
declares on the lab's swarm is what a program in Python declares."""

import json
from pathlib import Path

import pytest

from lab.internet import reset_counters
from tests.lab.example import Example
from tests.lab.lab import Lab
from tests.lab.output import counts

PROGRAM = """
import pulumi
import pulumi_docker as docker


class Mirror(pulumi.ComponentResource):
    # As the SDKs register it that Pulumi generates, in every language.
    url: pulumi.Output[str]
    nodes: pulumi.Output[dict[str, str]]

    def __init__(self, name: str, inputs: dict[str, object], opts: pulumi.ResourceOptions) -> None:
        token = "swarm-registry-mirror:index:RegistryMirror"
        super().__init__(token, name, {**inputs, "url": None}, opts, remote=True)


config = pulumi.Config()
swarm = docker.Provider(
    "swarm", host=config.require("dockerHost"), ssh_opts=config.get_object("sshOptions")
)
mirror = Mirror(
    "registry-mirror",
    {
        "hostname": config.require("hostname"),
        "image": config.require("image"),
        "upstream": config.require("upstream"),
        "checkImage": config.require("checkImage"),
        "coalesce": False,
        "nodes": [
            {"name": node["name"], "address": node["address"], "hostKey": node["host_key"]}
            for node in config.require_object("nodes")
        ],
        "privateKey": config.require_secret("sshPrivateKey"),
    },
    pulumi.ResourceOptions(providers=[swarm]),
)
pulumi.export("url", mirror.url)
pulumi.export("nodes", mirror.nodes)
"""


def test_a_stack_may_change_to_another_language_and_nothing_on_the_swarm_changes(
    lab: Lab, installed: Path, tmp_path: Path
) -> None:
    lab.on("node1", "rm -rf /var/data/registry")
    before = {node: lab.daemon_json(node) for node in ("node1", "node2")}
    example = Example(lab, "minimal", installed, tmp_path)
    nodes = [
        {"name": node, "address": lab.nodes[node].address, "host_key": lab.host_key(node)}
        for node in ("node1", "node2")
    ]
    example.configure(
        hostname="mirror.lab.test",
        image=lab.digest("registry"),
        nodes=nodes,
        dockerHost="ssh://root@198.18.0.11",
        sshOptions=[
            *("-i", str(lab.folder.ssh_key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
            *("-o", f"UserKnownHostsFile={lab.folder.known_hosts}"),
        ],
        upstream="http://198.18.0.2",
        checkImage="library/swarm-mirror-proof:1",
    )
    made = counts(example("up", "--yes", "--skip-preview"))
    python = (example.folder / "__main__.py").read_text()

    (example.folder / "__main__.py").write_text(PROGRAM)
    assert counts(example("up", "--yes", "--skip-preview")) == {"unchanged": made["created"]}
    outputs = example.outputs()
    assert outputs["url"] == "https://mirror.lab.test"
    assert set(outputs["nodes"]) == {"node1", "node2"}

    # What is changed from there reaches the swarm, and a mistake does not.
    (example.folder / "__main__.py").write_text(PROGRAM.replace('"coalesce"', '"colaesce"'))
    with pytest.raises(AssertionError) as error:
        example("preview")
    assert "colaesce: is no input; did you mean coalesce?" in str(error.value)
    (example.folder / "__main__.py").write_text(
        PROGRAM.replace(
            '"coalesce": False', '"coalesce": False, "daemonKeys": {"max-concurrent-downloads": 5}'
        )
    )
    assert counts(example("up", "--yes", "--skip-preview"))["updated"] == 2
    assert b'"max-concurrent-downloads": 5' in (lab.daemon_json("node2") or b"")
    lab.wait_for_mirror("node2")
    reset_counters(lab.sandbox)
    lab.pull("node2")
    assert lab.upstream()["bytes"] > 1_000_000
    assert lab.mirrors("node2")[0] == "https://mirror.lab.test/"

    _, output = example.command("status", "--json")
    states = {entry["node"]: entry["state"] for entry in json.loads(output)}
    assert (states["node1"], states["node2"]) == ("healthy", "healthy")

    state = example("stack", "export")
    body = lab.private_key().splitlines()[1]
    assert body not in state, "the key is a secret in the state"
    (example.folder / "__main__.py").write_text(python)
    example("destroy", "--yes", "--skip-preview")
    assert {node: lab.daemon_json(node) for node in before} == before
    lab.on("node1", "rm -rf /var/data/registry")
