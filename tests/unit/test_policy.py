"""The policies: a mirror of ours breaks none, and each is broken by what it is there for."""

import copy
from collections.abc import Callable
from typing import Any

import pulumi
import pytest

from components.registry_mirror import RegistryMirror, RegistryMirrorArgs, SwarmNode
from components.registry_mirror.policy import rules
from tests.builders import DIGEST, ED25519, PRIVATE_KEY
from tests.recorder import SECRET, run

ARGS: dict[str, Any] = {
    "hostname": "mirror.example.com",
    "image": f"registry:3.1.1@{DIGEST}",
    "varnish_image": f"varnish:7.7.0@{DIGEST}",
    "nodes": [
        SwarmNode(name=name, address=f"{name}.example.com", host_key=ED25519)
        for name in ("m1", "w1", "w2", "w3")
    ],
    "private_key": PRIVATE_KEY,
    "max_parallel": 2,
    "upstream_username": "reader",
    "upstream_token": pulumi.Output.secret("token"),
    "allow_from": ["10.0.0.0/8"],
}


def declared(*mirrors: str, **arguments: Any) -> list[dict[str, Any]]:
    """What a program with these mirrors declares, as a policy sees it."""

    def program() -> None:
        for mirror in mirrors:
            paths = {"cache_path": f"/var/data/{mirror}", "config_path": f"/var/data/{mirror}.yml"}
            RegistryMirror(mirror, RegistryMirrorArgs(**{**ARGS, **paths, **arguments}))

    return [
        {
            "type": found.type,
            "name": found.name,
            "urn": found.name,
            "parent": found.parent,
            "inputs": unwrapped(found.inputs),
            "dependencies": found.depends_on,
            "ignored": found.ignore_changes,
        }
        for found in run(program).resources
    ]


def unwrapped(value: Any) -> Any:
    """Secrets in the clear, as a policy pack gets them."""
    if isinstance(value, dict):
        return (
            unwrapped(value["value"])
            if SECRET in value
            else {key: unwrapped(item) for key, item in value.items()}
        )
    return [unwrapped(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def two_mirrors() -> list[dict[str, Any]]:
    return declared("mirror", "other")


def test_two_mirrors_of_ours_break_no_policy(two_mirrors: list[dict[str, Any]]) -> None:
    assert rules.check(two_mirrors) == []


def test_a_proxys_password_is_no_credential_of_a_registry() -> None:
    nobody: dict[str, Any] = {"upstream_username": None, "upstream_token": None, "allow_from": []}
    assert (
        rules.check(
            declared(
                "mirror",
                upstream_proxy=pulumi.Output.secret("http://u:p@proxy.test:3128"),
                **nobody,
            )
        )
        == []
    )


def container(resource: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = resource["inputs"]["taskSpec"]["containerSpec"]
    return found


def without_allow_list(resource: dict[str, Any]) -> None:
    labels = resource["inputs"]["labels"]
    resource["inputs"]["labels"] = [
        label for label in labels if not label["label"].endswith("sourcerange")
    ]


def replaced(resource: dict[str, Any], **inputs: Any) -> None:
    resource["inputs"].update(inputs)


BROKEN: list[tuple[str, str, Callable[[dict[str, Any]], object], str]] = [
    (
        "images-by-digest",
        "mirror-front",
        lambda r: container(r).update(image="varnish:7.7.0"),
        "varnish:7.7.0 has no digest",
    ),
    (
        "no-published-port",
        "mirror-service",
        lambda r: replaced(
            r, endpointSpec={"ports": [{"targetPort": 5000, "publishedPort": 5000}]}
        ),
        "publishes port 5000",
    ),
    (
        "host-keys-present",
        "mirror-node-w1",
        lambda r: r["inputs"]["environment"].pop("MIRROR_HOST_KEY"),
        "has no hostKey",
    ),
    ("credentials-need-an-allow-list", "mirror-front", without_allow_list, "set allowFrom"),
    (
        "one-writer-per-cache",
        "other-service",
        lambda r: container(r)["mounts"][1].update(source="/var/data/mirror"),
        "writes to /var/data/mirror, as mirror-service does",
    ),
    (
        "one-writer-per-cache",
        "mirror-service",
        lambda r: replaced(r, mode={"replicated": {"replicas": 2}}),
        "2 replicas",
    ),
    (
        "one-writer-per-cache",
        "mirror-service",
        lambda r: replaced(r, updateConfig={"order": "start-first"}),
        "start-first",
    ),
    (
        "network-by-id",
        "mirror-service",
        lambda r: (
            r.update(ignored=[]),
            r["inputs"]["taskSpec"].update(networksAdvanceds=[{"name": "traefik_public"}]),
        ),
        "traefik_public by name",
    ),
    (
        "restarts-only-in-waves",
        "mirror-ready",
        lambda r: replaced(r, create="sudo systemctl restart docker"),
        "restarts docker",
    ),
    (
        "restarts-only-in-waves",
        "mirror-ready",
        lambda r: replaced(r, delete="service docker-latest restart"),
        "its delete",
    ),
    (
        "restarts-only-in-waves",
        "mirror-node-w2",
        lambda r: r.update(dependencies=[]),
        "same time as the canary",
    ),
]


@pytest.mark.parametrize(
    ("rule", "name", "harm", "words"),
    BROKEN,
    ids=[f"{rule}-{words}" for rule, _, _, words in BROKEN],
)
def test_each_policy_is_broken_by_what_it_is_there_for(
    two_mirrors: list[dict[str, Any]],
    rule: str,
    name: str,
    harm: Callable[[dict[str, Any]], object],
    words: str,
) -> None:
    resources = copy.deepcopy(two_mirrors)
    (harmed,) = [resource for resource in resources if resource["name"] == name]
    harm(harmed)
    (found,) = rules.check(resources)
    assert words in found
    assert found.endswith(f"[{rule}]")
    assert len(rules.check(two_mirrors)) == 0


def test_a_command_beside_the_component_that_believes_anybody_is_found_too() -> None:
    inputs = {"connection": {"host": "10.0.0.1"}}
    (found,) = rules.check(
        [
            {
                "type": rules.REMOTE,
                "name": "c",
                "urn": "c",
                "inputs": inputs,
                "dependencies": [],
                "ignored": [],
            }
        ]
    )
    assert "its connection has no hostKey" in found


@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        (f"traefik:v3@{DIGEST}", True),
        (f"registry.example.com:5000/edge/traefik@{DIGEST}", True),
        (f"not-traefik:1@{DIGEST}", False),
        (f"traefik/whoami:1@{DIGEST}", False),
    ],
)
def test_only_an_estates_traefik_may_publish_its_ports(image: str, allowed: bool) -> None:
    edge = {
        "type": rules.SERVICE,
        "name": "edge",
        "urn": "edge",
        "inputs": {
            "endpointSpec": {"ports": [{"targetPort": 443, "publishedPort": 443}]},
            "taskSpec": {"containerSpec": {"image": image}},
        },
        "dependencies": [],
        "ignored": [],
    }
    assert (rules.check([edge]) == []) is allowed


def test_every_policy_has_a_case_here() -> None:
    assert {rule.name for rule in rules.RULES} == {case[0] for case in BROKEN}


def test_a_number_is_shown_as_one_though_a_pack_gets_it_as_a_float() -> None:
    inputs = {
        "endpointSpec": {"ports": [{"publishedPort": 5000.0}]},
        "mode": {"replicated": {"replicas": 2.0}},
        "taskSpec": {"containerSpec": {"image": f"a@{DIGEST}", "mounts": [{"source": "/c"}]}},
    }
    found = " ".join(
        rules.check(
            [
                {
                    "type": rules.SERVICE,
                    "name": "s",
                    "urn": "s",
                    "inputs": inputs,
                    "dependencies": [],
                    "ignored": [],
                }
            ]
        )
    )
    assert "publishes port 5000 on" in found
    assert "(2 replicas, stop-first)" in found
