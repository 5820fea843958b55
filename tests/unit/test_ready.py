"""The gate sees what would make an allow-list worthless."""

import json
from typing import Any

import pytest

from components.registry_mirror.node_agent import engine, ready


def service(name: str, mode: str, port: int = 443, network: str = "net-id") -> dict[str, Any]:
    return {
        "Spec": {"Name": name, "TaskTemplate": {"Networks": [{"Target": network}]}},
        "Endpoint": {"Ports": [{"PublishedPort": port, "PublishMode": mode}]},
    }


def hidden(
    monkeypatch: pytest.MonkeyPatch, *services: dict[str, Any], allow_from: tuple[str, ...] = ("10.0.0.0/8",)
) -> str | None:
    answers = {"network": "net-id", "ls": "id", "inspect": json.dumps(services)}
    monkeypatch.setattr(engine, "run", lambda *words: answers["network" if words[1] == "network" else words[2]])
    return ready._hidden_addresses({"allow_from": list(allow_from), "network": "traefik_public"})


def test_a_traefik_behind_the_routing_mesh_sees_nobodys_address(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hidden(monkeypatch, service("traefik", "ingress")) or ""
    assert found.startswith("the service traefik publishes port 443 through the routing mesh")
    assert "publish it with mode=host" in found


@pytest.mark.parametrize(
    "other",
    [service("traefik", "host"), service("web", "ingress", port=80), service("web", "ingress", network="another-network")],
)
def test_everything_else_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]) -> None:
    assert hidden(monkeypatch, other) is None


def test_without_an_allow_list_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hidden(monkeypatch, service("traefik", "ingress"), allow_from=()) is None
