"""What is read off a mirror that somebody has set up by hand, and what cannot be taken over."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from adopt.find import _values
from adopt.settings import AdoptError, Found, Machine, mirror_among, settings_of, stack_file
from config.keys import KEYS

RECIPE = Path(__file__).resolve().parents[1] / "e2e" / "recipe"
CONFIG = (RECIPE / "registry-mirror-config.yml").read_text()
NETWORKS = {"n1": "traefik_public", "n2": "other"}


def service(**changes: Any) -> dict[str, Any]:
    """The recipe's, as `docker service inspect` shows it."""
    about: dict[str, Any] = {
        "name": "registry_registry-mirror",
        "image": "registry:2@sha256:abc",
        "labels": {
            "traefik.frontend.rule": "Host:mirror.example.com",
            "traefik.docker.network": "traefik_public",
            "traefik.port": "5000",
        },
        "mounts": [
            {"Type": "bind", "Source": "/var/data/cache", "Target": "/var/lib/registry"},
            {"Type": "bind", "Source": "/var/data/mirror.yml", "Target": "/etc/docker/registry/config.yml"},
        ],
        "networks": ["n1"],
        "ports": [5000],
        "mode": {"Replicated": {"Replicas": 1}},
        "constraints": [],
        **changes,
    }
    return {
        "ID": "3x6vsb8bcg70ct5xes6zmr333",
        "Spec": {
            "Name": about["name"],
            "Labels": about["labels"],
            "Mode": about["mode"],
            "EndpointSpec": {"Ports": [{"PublishedPort": port} for port in about["ports"]]},
            "TaskTemplate": {
                "ContainerSpec": {"Image": about["image"], "Mounts": about["mounts"]},
                "Networks": [{"Target": network} for network in about["networks"]],
                "Placement": {"Constraints": about["constraints"]},
            },
        },
    }


def traefik(tag: str) -> dict[str, Any]:
    return service(name="traefik", image=f"traefik:{tag}", labels={}, mounts=[], ports=[443])


def found(*others: dict[str, Any], config: str = CONFIG, machines: Any = (), **changes: Any) -> Found:
    mine = service(**changes)
    return settings_of(mine, config=config, services=[mine, *others], networks=NETWORKS, machines=list(machines), manager="node1")


def test_the_recipes_mirror_is_read_as_it_is() -> None:
    told = {"/etc/docker-latest/daemon.json": '{"registry-mirrors": ["https://mirror.example.com"]}'}
    result = found(machines=[Machine("node1", "10.0.0.1", told), Machine("node2", "10.0.0.2", {})])
    assert result.values == {
        "hostname": "mirror.example.com",
        "image": "registry:3.1.1",
        "varnishImage": "varnish:7.7.0",
        "manager": "node1",
        "serviceName": "registry_registry-mirror",
        "network": "traefik_public",
        "traefik": "v1",
        "upstream": "http://198.18.0.2",
        "cachePath": "/var/data/cache",
        "configPath": "/var/data/mirror.yml",
        "publishUnencryptedPort5000": True,
        "nodes": [
            {"name": "node1", "address": "10.0.0.1", "daemonJson": "/etc/docker-latest/daemon.json", "service": "docker-latest"},
            {"name": "node2", "address": "10.0.0.2"},
        ],
    }
    assert "node2 was not told of the mirror until now, and will be" in result.notes
    assert "port 5000 is open" in result.notes[0]


@pytest.mark.parametrize(
    ("tag", "dialect"),
    [("1.7", "v1"), ("v2.11.3", "v2"), ("v3.0.4", "v3.0"), ("v3.2.1", "v3.0"), ("v3.2.2", "v3"), ("v3.7.15@sha256:a", "v3")],
)
def test_traefiks_generation_is_that_of_the_one_that_runs(tag: str, dialect: str) -> None:
    assert found(traefik(tag)).values["traefik"] == dialect


def test_a_modern_route_keeps_entrypoint_and_resolver() -> None:
    router = "traefik.http.routers.m"
    labels = {
        f"{router}.rule": "Host(`m.example.com`) && PathPrefix(`/v2`)",
        f"{router}.entrypoints": "https",
        f"{router}.tls.certresolver": "le",
    }
    values = found(traefik("v3.4"), labels=labels).values
    assert (values["hostname"], values["entrypoint"], values["certResolver"]) == ("m.example.com", "https", "le")


def test_credentials_are_named_and_never_copied() -> None:
    result = found(config=CONFIG + "  username: bot\n  password: hunter2\n")
    assert result.values["upstreamUsername"] == "bot"
    assert "pulumi config set --secret upstreamToken" in " ".join(result.notes)
    assert "hunter2" not in stack_file(result, {}, list(KEYS))


def test_images_stay_in_the_registry_they_come_from_and_constraints_stay() -> None:
    values = found(image="images.example.com/hub/registry:2.8.3", constraints=["node.labels.disk == big"]).values
    assert values["varnishImage"] == "images.example.com/hub/varnish:7.7.0"
    assert values["placementConstraints"] == ["node.labels.disk == big"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": {}}, "no Traefik rule with a Host"),
        ({"mounts": []}, "the cache goes with each container"),
        ({"mode": {"Replicated": {"Replicas": 3}}}, "has 3 replicas"),
        ({"config": "version: 0.1\n"}, "no proxy.remoteurl"),
        ({"config": "a: ["}, "is not YAML"),
        ({"networks": ["n1", "n2"], "labels": {"traefik.frontend.rule": "Host:m.example.com"}}, "on 2 networks"),
    ],
)
def test_what_cannot_be_taken_over_is_said_with_the_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(AdoptError, match=words):
        found(**changes)


def test_the_one_registry_is_found_and_several_must_be_told_apart() -> None:
    mine, second = service(), service(name="push", image="distribution/distribution:3.0.0")
    assert mirror_among([traefik("v3.4"), mine]) is mine
    with pytest.raises(AdoptError, match="several services run a registry: push, registry_registry-mirror"):
        mirror_among([mine, second])
    assert mirror_among([mine, second], "push") is second
    with pytest.raises(AdoptError, match="there are: traefik"):
        mirror_among([traefik("v3.4")])


def test_the_file_has_the_keys_in_order_and_the_services_id() -> None:
    text = stack_file(found(), {"sshPrivateKeyFile": "~/.ssh/id"}, list(KEYS))
    keys = [key.partition(":")[2] for key in yaml.safe_load(text)["config"]]
    assert keys == [key for key in KEYS if key in keys]
    assert "# The service that was there: 3x6vsb8bcg70ct5xes6zmr333\n" in text


def test_json_values_one_after_the_other_are_told_apart() -> None:
    assert _values('"a"\n[{"b": 1}]\n\n[]\n') == ["a", [{"b": 1}], []]
