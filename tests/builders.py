"""Valid values of everything that tests begin with: digests, keys, args, settings, a deployed
mirror, the facts of a node. A test says only what is special about its case.
"""

import base64
import importlib
import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from components.registry_mirror import RegistryMirrorArgs, SwarmNode, runner
from components.registry_mirror.cli.deployed import Machine, Mirror, Node
from components.registry_mirror.node_agent import started
from components.registry_mirror.node_agent.daemon_settings import AtStart
from components.registry_mirror.node_agent.preflight import Facts

tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
"""TOML's own reader, also where Python has none yet."""

DIGEST = "sha256:" + "a" * 64
ED25519 = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32).decode()
"""A host key."""

PRIVATE_KEY = "-----{} PRIVATE KEY-----\nbm9uZQ==\n"
"""As much of one as is looked at."""

REGISTRY_2: dict[str, Any] = {"image": f"registry:2.8.3@{DIGEST}", "accept_registry_2": True}
VOLUME: dict[str, Any] = {"cache_volume": "cache", "placement_constraints": ["node.hostname == w1"]}
CREDENTIALS: dict[str, Any] = {
    "upstream_username": "bot",
    "upstream_token": "t",
    "allow_from": ["10.0.0.0/24"],
}


def node(called: str, **more: Any) -> SwarmNode:
    return SwarmNode(
        **{"name": called, "address": f"{called}.example.com", "host_key": ED25519, **more}
    )


def args(**more: Any) -> RegistryMirrorArgs:
    nodes = [node("m1"), node("w1"), node("w2")]
    least = {
        "hostname": "mirror.example.com",
        "image": f"registry:3.1.1@{DIGEST}",
        "nodes": nodes,
        "private_key": PRIVATE_KEY,
        "varnish_image": f"varnish:7.7.0@{DIGEST}",
    }
    return RegistryMirrorArgs(**{**least, **more})


FRAME = "-----{} OPENSSH PRIVATE KEY-----\n"
"""Around a body that is no key; whole key files are made at run time."""
KEY = FRAME.format("BEGIN") + "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n" + FRAME.format("END")
FILES = {
    "key": KEY,
    "known_hosts": f"node2.test {ED25519}\n",
    "digest": f"{DIGEST}\n",
    "key.pub": "ssh-ed25519 AAAA",
}


def read(name: str) -> str:
    if name not in FILES:
        raise FileNotFoundError(2, "No such file or directory", name)
    return FILES[name]


def values(**changed: Any) -> dict[str, Any]:
    least = {
        "hostname": "mirror.example.com",
        "image": f"registry:3.1.1@{DIGEST}",
        "varnishImage": f"varnish:7.7.0@{DIGEST}",
        # Pulumi hands lists over as JSON text.
        "nodes": json.dumps(
            [
                {"name": "n1", "address": "node1.test", "hostKey": ED25519},
                {"name": "n2", "address": "node2.test"},
            ]
        ),
        "sshPrivateKeyFile": "key",
        "knownHostsFile": "known_hosts",
    }
    return {key: value for key, value in {**least, **changed}.items() if value is not None}


CLAIM = {"services": ["s", "s-front"], "front": "s-front", "cache": {"path": "/var/data/registry"}}
GATE = {
    "mirror": "https://mirror.test",
    "disk": 4096,
    "services": [{"service": "s", "image": "registry:3.0.0"}],
}


def mirror(
    *names: str, manager: str = "n1", at_once: int = 2, **environments: Mapping[str, str]
) -> Mirror:
    """A mirror as it is read from a state: the first name is the canary, then waves of
    `at_once`."""

    def environment(name: str) -> dict[str, str]:
        usual = {
            "MIRROR_NODE": name,
            "MIRROR_SSH": f"ssh://root@{name}.test:22",
            "MIRROR_HOST_KEY": ED25519,
        }
        return {"MIRROR_RUNNER": runner.digest(), **usual, **environments.get(name, {})}

    found = [
        Node(
            name,
            environment(name),
            json.dumps({"service": "docker", "daemon_json": f"/{name}"}),
            f"urn::{name}",
            0 if number == 0 else 1 + (number - 1) // at_once,
        )
        for number, name in enumerate(names)
    ]
    return Mirror(
        "m",
        "urn::m",
        found,
        Machine(manager, environment(manager)),
        CLAIM,
        GATE,
        "https://hub.test",
        False,
    )


def facts_of(case: dict[str, Any]) -> Facts:
    text = case["file"]
    info = {
        "RegistryConfig": {"Mirrors": []},
        "ServerVersion": case.get("version", "26.1.5"),
        **case.get("info", {}),
    }
    then = case.get("at_start", text)
    at_start = AtStart(started.values(then), not case.get("edited", False), then is None)
    return Facts(
        "/etc/docker/daemon.json",
        text,
        info,
        case.get("argv", ["/usr/sbin/dockerd", "-H", "fd://", *case.get("arguments", [])]),
        ["https://mirror.example.com"],
        program=case.get("program", "/usr/sbin/dockerd"),
        at_start=at_start,
        event=case.get("event"),
        written_by_us=case.get("written_by_us", False),
        stale_unit=case.get("stale_unit", ()),
        data_root=case.get("data_root"),
    )


def without_code(text: str | None) -> str | None:
    """A sentence without the codes that its refusals end with."""
    return None if text is None else re.sub(r" \[RM\d{3}\]", "", text)


def node_answer(**more: Any) -> dict[str, Any]:
    """What a healthy node answers to `node.look`; `more` are fields that differ."""
    healthy: dict[str, Any] = {
        "engine": "26.1.5",
        "way": "daemon.json",
        "listed": True,
        "used": True,
        "recorded": True,
        "edited": False,
        "due": [],
        "faults": [],
        "hazards": [],
        "mirror_faults": [],
        "swarm_faults": [],
        "id": "",
        "registries": ["docker.io"],
        "guard_out": False,
    }
    return healthy | more
