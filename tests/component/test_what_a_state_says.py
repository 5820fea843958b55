"""What the component declares is what the command reads out of a state: the two are one
interface."""

import json
from typing import Any

import pulumi
import pytest

from components.registry_mirror import Bastion, Registry, RegistryMirror, runner
from components.registry_mirror.cli.deployed import Mirror, mirrors
from components.registry_mirror.node_agent.request import encode
from components.registry_mirror.nodes import node_settings
from components.registry_mirror.render import common
from components.registry_mirror.render.clients import Served
from tests.builders import CREDENTIALS, PRIVATE_KEY, VOLUME, args, node
from tests.recorder import COMPONENT, SECRET, Recorder, run

NODES = [node(name) for name in ("m1", "w1", "w2", "w3", "w4")]


def state_of(found: Recorder) -> dict[str, Any]:
    """What Pulumi would keep of a run, as `pulumi stack export --show-secrets` prints it."""

    def urn(name: str) -> str:
        return f"urn:pulumi:test::p::t::{name}"

    def kept(value: Any) -> Any:
        if isinstance(value, dict) and SECRET in value:
            return {
                SECRET: "1b47061264138c4ac30d75fd1eb44270",
                "plaintext": json.dumps(kept(value["value"])),
            }
        if isinstance(value, dict):
            return {key: kept(entry) for key, entry in value.items()}
        return [kept(entry) for entry in value] if isinstance(value, list) else value

    resources = [
        {
            "urn": urn(each.name),
            "type": each.type,
            "parent": urn(each.parent),
            "dependencies": [urn(name) for name in each.depends_on],
            "inputs": kept(each.inputs),
            "outputs": kept(found.outputs.get(each.name, {})),
        }
        for each in found.resources
    ]
    return {"version": 3, "deployment": {"resources": resources}}


def deployed(**more: Any) -> Mirror:
    settings = args(**{"nodes": NODES, "manager": "m1", "max_parallel": 2, **more})
    declared = run(lambda: RegistryMirror("mirror", settings))
    assert len(declared.of(COMPONENT)) == 1
    (mirror,) = mirrors(state_of(declared))
    return mirror


@pytest.mark.parametrize("at_once", [1, 2, 10])
def test_nodes_are_read_in_the_waves_in_which_they_are_declared(at_once: int) -> None:
    mirror = deployed(max_parallel=at_once)
    waves = common.waves([each.name for each in NODES], "m1", at_once)
    # Those of one wave are registered at the same time, in any order.
    assert [
        {each.name for each in mirror.nodes if each.wave == number} for number in range(len(waves))
    ] == [set(wave) for wave in waves]
    assert mirror.at_once == max(map(len, waves))
    assert mirror.manager.name == "m1"


def test_a_node_is_read_with_everything_that_it_was_asked_for_and_how_it_is_reached() -> None:
    bastion = Bastion(address="b.test", host_key=NODES[0].host_key)
    keys = {"debug": True}
    mirror = deployed(
        nodes=[
            node("m1", private_key_file="~/.ssh/own"),
            node("w1", user="ops", become="sudo", bastion=bastion),
        ],
        private_key=pulumi.Output.secret(PRIVATE_KEY),
        daemon_keys=keys,
        daemon_keys_are_secret=True,
    )
    settings = args(nodes=[node("m1"), node("w1")], daemon_keys=keys)
    found = {each.name: each for each in mirror.nodes}
    assert found["w1"].settings == encode(node_settings("mirror", settings.nodes[1], settings))
    assert found["w1"].environment == {
        "MIRROR_RUNNER": runner.digest(),
        "MIRROR_NODE": "w1",
        "MIRROR_SSH": "ssh://ops@w1.example.com:22",
        "MIRROR_HOST_KEY": NODES[0].host_key,
        "MIRROR_BECOME": "sudo",
        "MIRROR_BASTION": "ssh://root@b.test:22",
        "MIRROR_BASTION_HOST_KEY": NODES[0].host_key,
        "MIRROR_PRIVATE_KEY": PRIVATE_KEY,
    }
    assert found["m1"].environment["MIRROR_KEY_FILE"] == "~/.ssh/own"
    assert "MIRROR_PRIVATE_KEY" not in found["m1"].environment


@pytest.mark.parametrize("is_secret", [False, True])
def test_the_rolling_restart_is_read_where_there_is_one(is_secret: bool) -> None:
    assert deployed().restart is None
    mirror = deployed(
        daemon_keys={"log-driver": "local"},
        restart="when-needed",
        daemon_keys_are_secret=is_secret,
        private_key=pulumi.Output.secret(PRIVATE_KEY),
    )
    assert mirror.restart is not None
    assert [each["name"] for each in json.loads(mirror.restart.request)["nodes"]] == [
        each.name for each in NODES
    ]
    assert set(json.loads(mirror.restart.environment["MIRROR_PRIVATE_KEYS"])) == {
        each.name for each in NODES
    }


def test_every_registry_and_alias_is_read_with_what_its_images_begin_with() -> None:
    assert deployed().served == [Served("docker.io", "mirror.example.com")]
    (hub,) = deployed(fallback=False).served
    assert not hub.fallback
    registries = [
        Registry(name="ghcr.io"),
        Registry(name="lscr.io", alias_of="ghcr.io"),
        Registry(name="registry.example.com:5000", fallback=False),
        Registry(name="docker.example.com", alias_of="docker.io"),
    ]
    assert deployed(registries=registries).served == [
        Served("docker.io", "mirror.example.com"),
        Served("ghcr.io", "mirror.example.com/ghcr.io"),
        Served("lscr.io", "mirror.example.com/ghcr.io"),
        Served(
            "registry.example.com:5000",
            "mirror.example.com/registry.example.com_5000",
            fallback=False,
        ),
        Served("docker.example.com", "mirror.example.com"),
    ]


def test_the_runner_is_read_under_its_digest() -> None:
    assert deployed().runners == {runner.digest(): runner.text()}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            {},
            {"service": "mirror", "front": "mirror-front", "has_credentials": False, "disk": 4096},
        ),
        (
            {"service_name": "cache", "coalesce": False, "varnish_image": None},
            {"service": "cache", "front": "", "disk": None},
        ),
        (CREDENTIALS, {"has_credentials": True}),
        (VOLUME, {"cache_path": None}),
        ({"cache_path": "/srv/cache"}, {"cache_path": "/srv/cache"}),
        ({"upstream": "https://ghcr.io"}, {"upstream": "https://ghcr.io"}),
        ({"manager": node("head")}, {}),
    ],
)
def test_what_is_asked_of_the_mirror_is_what_was_declared(
    more: dict[str, Any], expected: dict[str, Any]
) -> None:
    mirror = deployed(**more)
    assert {name: getattr(mirror, name) for name in expected} == expected
    settings = args(**more)
    assert mirror.images == {
        "registry": settings.image,
        **({"varnish": settings.varnish_image} if settings.coalesce else {}),
    }
    assert mirror.gate["mirror"] == "https://mirror.example.com"
    assert mirror.manager.name == ("head" if "manager" in more else "m1")
