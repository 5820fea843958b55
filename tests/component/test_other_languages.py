"""The plugin for programs in other languages: what comes over the wire becomes the component that a
program in Python declares. The engine is mocked."""

import asyncio
import base64
import importlib.metadata
import json
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any

import pulumi
import pytest
from google.protobuf import json_format, struct_pb2
from pulumi.errors import InputPropertiesError
from pulumi.provider.server import ProviderServicer

from components.registry_mirror import RegistryMirror
from components.registry_mirror.provider import host, schema
from components.registry_mirror.provider.inputs import arguments
from tests.builders import DIGEST, ED25519, PRIVATE_KEY, args, node
from tests.recorder import COMPONENT, SECRET, Recorder, run

OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
"""Under the key that marks what is no plain JSON (pulumi sdk/go/common/resource/properties.go)."""
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
KEY = PRIVATE_KEY.format("BEGIN")


def output(value: object = None, *, secret: bool = False) -> dict[str, Any]:
    """An output as the engine sends it; without a value, one that is not known yet."""
    known = {} if value is None else {"value": value}
    return {SECRET: OUTPUT, **known, "secret": secret, "dependencies": []}


NODES: list[dict[str, Any]] = [
    {"name": "m1", "address": "m1.example.com", "hostKey": ED25519},
    {"name": "w1", "address": "w1.example.com", "hostKey": ED25519, "port": 2222},
]
LEAST: dict[str, Any] = {
    "hostname": "mirror.example.com",
    "image": f"registry:3.1.1@{DIGEST}",
    "varnishImage": f"varnish:7.7.0@{DIGEST}",
    "nodes": NODES,
    "privateKey": output(KEY, secret=True),
}
PLAIN = {**LEAST, "privateKey": KEY}


def until_done(work: Coroutine[Any, Any, None]) -> pulumi.Output[Any]:
    promise: Awaitable[Any] = asyncio.ensure_future(work)
    return pulumi.Output.from_input(promise)


def declare(inputs: dict[str, Any], *, name: str = "mirror", **more: Any) -> Recorder:
    """Have the plugin declare a mirror, of inputs as they are on the wire."""
    provider = host.MirrorProvider("1.2.3")
    wire = json_format.ParseDict(inputs, struct_pb2.Struct())

    async def construct() -> None:
        given = await ProviderServicer._construct_inputs(wire, {})
        provider.construct(name, schema.COMPONENT, given, pulumi.ResourceOptions())

    return run(lambda: until_done(construct()), **more)


def faults(inputs: dict[str, Any], **more: Any) -> list[str]:
    with pytest.raises(InputPropertiesError) as error:
        declare(inputs, **more)
    assert error.value.errors == [], "with None the SDK fails, with some it prints the values"
    return [line.strip(" -") for line in error.value.message.splitlines()[1:]]


def seen(recorder: Recorder) -> list[tuple[str, str, str]]:
    """Every registration, without the digests of what is minted in each program."""
    return sorted((each.type, each.name, json.dumps(each.inputs)) for each in recorder.resources)


def test_the_plugin_declares_what_a_program_in_python_declares() -> None:
    python = args(
        nodes=[node("m1"), node("w1", port=2222)],
        private_key=pulumi.Output.secret(KEY),
        coalesce_disk=4096,
        daemon_keys={"debug": True, "max-concurrent-downloads": 5},
        manager=node("m2"),
    )
    other = LEAST | {
        "coalesceDisk": 4096,
        "daemonKeys": {"max-concurrent-downloads": 5, "debug": True},
        "manager": {"name": "m2", "address": "m2.example.com", "hostKey": ED25519},
    }
    assert seen(declare(other)) == seen(run(lambda: RegistryMirror("mirror", python)))


def test_outputs_have_the_packages_names() -> None:
    provider = host.MirrorProvider("1.2.3")
    made: list[Any] = []

    async def construct() -> None:
        wire = json_format.ParseDict(LEAST, struct_pb2.Struct())
        given = await ProviderServicer._construct_inputs(wire, {})
        made.append(provider.construct("mirror", schema.COMPONENT, given))

    run(lambda: until_done(construct()))
    described = json.loads(provider.schema or "")["resources"][COMPONENT]["properties"]
    assert set(made[0].state) == set(described) >= {"serviceId", "configDigest", "nodes"}
    assert all(isinstance(value, pulumi.Output) for value in made[0].state.values())


def test_a_secret_within_a_node_or_a_registry_stays_a_secret() -> None:
    own_key = KEY.replace("bm9", "bm8")
    own = {**NODES[1], "privateKey": output(own_key, secret=True)}
    hidden = {"name": "ghcr.io", "username": "bot", "token": output("of-ghcr", secret=True)}
    recorder = declare(
        LEAST | {"nodes": [NODES[0], own], "registries": [hidden], "allowFrom": ["10.0.0.0/8"]}
    )
    key = recorder.named("mirror-node-w1").inputs["environment"]["MIRROR_PRIVATE_KEY"]
    assert SECRET in key
    assert key["value"] == own_key
    (account,) = recorder.of("docker:index/secret:Secret")
    assert SECRET in account.inputs["data"]
    assert "of-ghcr" in base64.b64decode(account.inputs["data"]["value"]).decode()


def test_an_id_that_is_not_known_yet_is_taken_where_the_args_take_one() -> None:
    recorder = declare(LEAST | {"networkId": output()}, preview=True)
    assert recorder.named("mirror-node-w1")


@pytest.mark.parametrize("value", [output(), output("w1.example.com"), output("w", secret=True)])
def test_an_output_where_the_graph_follows_from_it_is_refused_by_its_name(value: Any) -> None:
    (fault,) = faults(LEAST | {"nodes": [NODES[0], {**NODES[1], "address": value}]}, preview=True)
    assert fault.startswith("nodes[1].address: must be a plain value, known in the preview")


def test_what_is_unknown_and_no_output_is_refused_in_the_same_way() -> None:
    (fault,) = faults(LEAST | {"allowFrom": [UNKNOWN]}, preview=True)
    assert fault.startswith("allowFrom[0]: must be a plain value, known in the preview")


def test_all_faults_are_said_at_once_in_the_names_of_the_package() -> None:
    told = faults(
        {
            "hostnam": "mirror.example.com",
            "image": LEAST["image"],
            "acceptRegistry2": "yes",
            "nodes": [{"name": "m1", "host_key": ED25519, "bastion": {"user": "ops"}}],
            "cachePath": "relative",
            "coalesceMemory": 0.5,
            "daemonKeys": {"insecure_registries": True},
        }
    )
    assert told[:6] == [
        "hostnam: is no input; did you mean hostname?",
        "nodes[0].host_key: is no input; did you mean hostKey?",
        "hostname: is missing",
        "nodes[0].address: is missing",
        "nodes[0].hostKey: is missing",
        "nodes[0].bastion.address: is missing",
    ]
    keys = {fault.partition(":")[0] for fault in told}
    assert keys >= {"acceptRegistry2", "coalesceMemory", "cachePath", "varnishImage"}
    assert not [fault for fault in told if "accept_registry" in fault or "cache_path" in fault]
    assert "nodes[0].bastion.hostKey" in keys
    assert len(told) == len(keys), "one fault for each"


def test_a_name_of_the_users_own_stays_as_it_is_and_has_one_order() -> None:
    keys = {"cache_path": output("x"), "debug": True}
    told = faults(LEAST | {"daemonKeys": keys})
    assert told[0].startswith("daemonKeys.cache_path: ")
    ordered = arguments({**PLAIN, "traefikLabels": {"b": "1", "a": "2"}})
    assert list(ordered.traefik_labels) == ["a", "b"], "the wire has no order"


def test_what_is_null_is_left_out() -> None:
    nodes = [{**NODES[0], "port": None}]
    given = arguments({**PLAIN, "nodes": nodes, "coalesceDisk": None, "traefikLabels": None})
    assert given == arguments({**PLAIN, "nodes": NODES[:1]})


def test_a_secret_is_in_no_fault() -> None:
    told = faults(
        LEAST | {"privateKey": "of-the-swarm", "upstreamProxy": "http://u:of-the-proxy@p"}
    )
    assert len(told) == 2
    assert not [fault for fault in told if "of-the" in fault]


def test_a_docker_provider_is_asked_for_in_words_of_every_language() -> None:
    (fault,) = faults(LEAST, docker_host=None)
    assert fault == (
        "docker provider: is missing: give the resource a docker provider, in its option"
        " `providers`, whose host is ssh://root@<a manager>"
    )


def test_another_resource_is_refused() -> None:
    provider = host.MirrorProvider("1.2.3")
    with pytest.raises(InputPropertiesError, match="swarm-registry-mirror:index:Mirror is none"):
        provider.construct("mirror", "swarm-registry-mirror:index:Mirror", LEAST)


VERSIONS = [
    ("0.3.0", "0.3.0"),
    ("0.3.1.dev4+gabc", "0.3.1-dev.4"),
    ("0.3.1.dev4", "0.3.1-dev.4"),
]


@pytest.mark.parametrize(("python", "semantic"), VERSIONS)
def test_the_version_is_that_of_the_wheel(
    python: str, semantic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: python)
    assert host.version("swarm-registry-mirror", Path("/")) == semantic


FOLDERS = [
    ("/p/resource-github.com_a_b.git-v0.3.0/components/x.py", "0.3.0"),
    ("/p/resource-github.com_a_b.git-v0.0.0-x0123abc/components/x.py", "0.0.0-x0123abc"),
    ("/home/somebody/checkout/components/x.py", "0.0.0"),
]


@pytest.mark.parametrize(("folder", "semantic"), FOLDERS)
def test_without_a_wheel_it_is_that_of_the_git_source(folder: str, semantic: str) -> None:
    assert host.version("no-such-package-of-ours", Path(folder)) == semantic
