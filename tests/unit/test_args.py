"""The args refuse as a whole, with every fault; the order of the roll-out follows from them."""

import dataclasses
from typing import Any

import pytest

from components.registry_mirror import InvalidArgs, RegistryMirrorArgs, SwarmNode, render
from tests.unit.test_rules import DIGEST, ED25519


def node(name: str, **more: Any) -> SwarmNode:
    return SwarmNode(**{"name": name, "address": f"{name}.example.com", "host_key": ED25519, **more})


def args(**more: Any) -> RegistryMirrorArgs:
    nodes = [node("m1"), node("w1"), node("w2")]
    least = {"hostname": "mirror.example.com", "image": f"registry:3.1.1@{DIGEST}", "nodes": nodes, "private_key": "key"}
    return RegistryMirrorArgs(**{**least, **more})


def test_the_least_that_works_is_taken() -> None:
    assert args().faults() == []


def test_all_faults_are_reported_together() -> None:
    with pytest.raises(InvalidArgs) as refused:
        args(hostname="x", image="y", max_parallel=0, nodes=[node("a b"), node("w1", port=0)])
    keys = [fault.key for fault in refused.value.faults]
    assert keys == ["hostname", "image", "maxParallel", "nodes[0].name", "nodes[0].address", "nodes[1].port"]


@pytest.mark.parametrize(
    ("changed", "key", "words"),
    [
        ({"nodes": []}, "nodes", "at least one node"),
        ({"nodes": [node("a"), node("a", address="b.test")]}, "nodes[1].name", "name of nodes[0] too"),
        ({"nodes": [node("a"), node("b", address="a.example.com")]}, "nodes[1].address", "address of nodes[0] too"),
        ({"manager": "nobody"}, "manager", "they are m1, w1, w2"),
        ({"private_key": None}, "nodes[0].privateKey", "is missing"),
        ({"nodes": [node("a", become="doas")]}, "nodes[0].become", "must be sudo"),
        ({"service_name": "a b"}, "serviceName", "1 to 63"),
        ({"cert_resolver": "le`x"}, "certResolver", "1 to 63"),
        ({"check_image": "docker.io/library/hello-world"}, "checkImage", "a repository and a tag"),
        ({"restart": "always"}, "restart", "never or when-needed"),
        ({"daemon_keys": {"log-driver": 1}}, "daemonKeys.log-driver", "must be a text"),
        ({"nodes": [node("a", service="docker; reboot")]}, "nodes[0].service", "1 to 63"),
    ],
)
def test_a_fault_has_its_key_and_words(changed: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(InvalidArgs) as refused:
        args(**changed)
    assert [fault for fault in refused.value.faults if fault.key == key and words in fault.wrong]


def test_two_nodes_may_share_an_address_behind_different_ports() -> None:
    assert args(nodes=[node("a", address="gate.test", port=2201), node("b", address="gate.test", port=2202)]).faults() == []


def test_a_key_of_its_own_is_enough_for_a_node() -> None:
    assert args(private_key=None, nodes=[node("a", private_key="key")]).faults() == []


def test_no_private_key_is_ever_printed() -> None:
    shown = repr(args(private_key="SECRET", nodes=[node("a", private_key="SECRET")]))
    assert "SECRET" not in shown
    assert "private_key" in [field.name for field in dataclasses.fields(RegistryMirrorArgs)]


def test_the_manager_is_the_first_node_unless_named() -> None:
    assert args().manager_node.name == "m1"
    assert args(manager="w2").manager_node.name == "w2"


@pytest.mark.parametrize(
    ("names", "parallel", "expected"),
    [
        (["m"], 10, [["m"]]),
        (["m", "a"], 10, [["a"], ["m"]]),
        (["m", "a", "b", "c", "d"], 2, [["a"], ["m", "b"], ["c", "d"]]),
        (["a", "m", "b"], 10, [["a"], ["m", "b"]]),
    ],
)
def test_one_canary_that_is_no_manager_then_waves(names: list[str], parallel: int, expected: list[list[str]]) -> None:
    assert render.waves(names, "m", parallel) == expected
