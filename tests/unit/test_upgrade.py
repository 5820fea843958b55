"""What another version of docker would break on a node, by what the node is like."""

import json
from typing import Any

import pytest

from components.registry_mirror.node_agent import daemon_process, engine, upgrade
from components.registry_mirror.node_agent.request import UpgradeRequest
from components.registry_mirror.node_agent.upgrade import Node, hazards

QUIET = Node("26.1.5", False, False, True, {}, [], [], [])


def said(to: str, **differs: Any) -> str:
    return "; ".join(hazards(QUIET._replace(**differs), to))


@pytest.mark.parametrize(
    ("to", "differs", "words"),
    [
        (
            "28.5.2",
            {"host_gateway": ["web.1"]},
            "loses the addresses behind host-gateway.*(here: web.1); take 29.3 or",
        ),
        ("29.2.1", {}, "and its dns"),
        (
            "29.2.1",
            {"containerd_store": True, "keys": {"dns": ["192.0.2.1"]}},
            "a reload of yours breaks them",
        ),
        (
            "28.0.0",
            {"containerd_store": True},
            "goes by /etc/docker/certs.d/docker.io/hosts.toml from 28.0 on",
        ),
        ("29.10.0", {}, "its images stay in the storage driver of old"),
        ("29.10.0", {"keys": {"userns-remap": "default"}}, "not with userns-remap"),
        ("29.0.0", {"keys": {"firewall-backend": "nftables"}}, "no node of a swarm"),
        (
            "29.10.0",
            {"keys": {"insecure-registries": []}},
            "registries on localhost are insecure only where it names them",
        ),
        (
            "29.0.0",
            {"manager": True, "traefik": ["traefik:v3.6.0@sha256:0"]},
            "traefik:v3.6.0@sha256:0 says API 1.24",
        ),
        ("29.10.0", {"manager": True, "traefik": ["docker.io/library/traefik:2.11"]}, "~"),
        (
            "29.10.0",
            {"manager": True, "traefik": ["traefik:v2.11.30"]},
            "take Traefik 3.6.1 or 2.11.31 before",
        ),
        (
            "29.1.0",
            {"manager": True, "clients": ["20.10.24", "26.1.5"]},
            "answers no client before 25.0 (here: 20.10.24)",
        ),
        ("29.10.0", {"manager": True}, "docker/cli#7302"),
    ],
)
def test_what_breaks_is_said_with_its_remedy(to: str, differs: dict[str, Any], words: str) -> None:
    report = said(to, **differs)
    if words == "~":
        assert "API 1.24" not in report
    else:
        for part in words.split(".*"):
            assert part in report


@pytest.mark.parametrize(
    ("to", "differs", "words"),
    [
        ("27.5.1", {}, "host-gateway"),
        ("29.3.0", {}, "host-gateway"),
        ("29.10.0", {"engine": "29.3.0"}, "storage driver"),
        ("29.9.0", {"keys": {"insecure-registries": []}}, "localhost"),
        (
            "29.10.0",
            {"in_swarm": False, "keys": {"firewall-backend": "nftables"}},
            "no node of a swarm",
        ),
        ("29.10.0", {"keys": {"firewall-backend": "iptables"}}, "nftables"),
        ("29.10.0", {"traefik": ["traefik:v3.6.0"]}, "Traefik"),
        (
            "29.10.0",
            {
                "manager": True,
                "traefik": ["traefik:v3.6.1", "traefik:v2.11.31", "traefik:latest", "x/web:v3.0"],
            },
            "API",
        ),
        ("29.3.0", {"manager": True, "clients": ["20.10.24"]}, "no client"),
        ("28.5.2", {"manager": True, "traefik": ["traefik:v3.0.4"]}, "API"),
    ],
)
def test_what_does_not_break_is_not_accused(to: str, differs: dict[str, Any], words: str) -> None:
    assert words not in said(to, **differs)


def test_a_node_is_asked_for_what_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    swarm = {"LocalNodeState": "active", "ControlAvailable": True}
    answers = {
        ("docker", "info"): json.dumps(
            {"ServerVersion": "26.1.5", "RegistryConfig": {"Mirrors": []}, "Swarm": swarm}
        ),
        ("docker", "ps"): "a\nb",
        ("docker", "inspect"): '/web.1 ["x:host-gateway"]\n/db.1 null',
        ("docker", "service"): "traefik:v3.0.4@sha256:0\nnginx:1",
        ("docker", "node"): "26.1.5\n20.10.24",
    }
    monkeypatch.setattr(engine, "run", lambda *words, **_: answers[words[:2]])
    flags = ["/usr/sbin/dockerd", "--insecure-registry=registry.test"]
    monkeypatch.setattr(
        daemon_process, "running", lambda _: daemon_process.Process(flags, "", {}, None, "")
    )
    file = tmp_path / "daemon.json"
    file.write_text('{"dns": ["192.0.2.1"]}')
    report = json.loads(upgrade.look(UpgradeRequest("docker", str(file), "29.2.1")))
    assert (report["engine"], report["way"]) == ("26.1.5", "daemon.json")
    text = "; ".join(report["hazards"])
    for words in ("web.1", "traefik:v3.0.4", "20.10.24", "and its dns"):
        assert words in text
    assert "db.1" not in text
    report = json.loads(upgrade.look(UpgradeRequest("docker", str(file), "29.10.0")))
    assert "registries on localhost" in "; ".join(report["hazards"])
