"""The args refuse as a whole, with every fault; the order of the roll-out follows from them."""

import dataclasses
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.registry_mirror import Bastion, InvalidArgs, RegistryMirrorArgs, SwarmNode
from components.registry_mirror.render import common
from tests.builders import CREDENTIALS, DIGEST, ED25519, PRIVATE_KEY, REGISTRY_2, VOLUME, args, node

NO_TEXT: Any = 5


def test_the_least_that_works_is_taken() -> None:
    assert args().faults() == []


def test_all_faults_are_reported_together() -> None:
    with pytest.raises(InvalidArgs) as refused:
        args(hostname="x", image="y", max_parallel=0, nodes=[node("a b"), node("w1", port=0)])
    keys = [fault.key for fault in refused.value.faults]
    assert keys == [
        "hostname",
        "image",
        "max_parallel",
        "nodes[0].name",
        "nodes[0].address",
        "nodes[1].port",
    ]


@pytest.mark.parametrize(
    ("changed", "key", "words"),
    [
        ({"nodes": []}, "nodes", "at least one node"),
        (
            {"nodes": [node("a"), node("a", address="b.test")]},
            "nodes[1].name",
            "name of nodes[0] too",
        ),
        (
            {"nodes": [node("a"), node("b", address="a.example.com")]},
            "nodes[1].address",
            "address of nodes[0] too",
        ),
        ({"manager": "nobody"}, "manager", "they are m1, w1, w2"),
        ({"manager": node("other", port=0)}, "manager.port", "65535"),
        (
            {"manager": node("other"), "daemon_keys": {"experimental": True}},
            "manager",
            "one of the nodes",
        ),
        ({"private_key_file": "id"}, "private_key", "is given besides private_key_file"),
        ({"private_key": None, "private_key_file": "a'b"}, "private_key_file", "without quotes"),
        ({"ssh_config": "~ops/config"}, "ssh_config", "must begin with / or ~/"),
        ({"bastion": {"address": "b"}}, "bastion", "write Bastion("),
        (
            {"bastion": Bastion(address="b@c", host_key="ssh-ed25519 A", port=0)},
            "bastion.address",
            "user and port are keys",
        ),
        (
            {"bastion": Bastion(address="b", host_key="ssh-ed25519 A")},
            "bastion.host_key",
            "must be a whole key",
        ),
        (
            {"nodes": [node("a", bastion=Bastion(address="b", host_key="x", user=NO_TEXT))]},
            "nodes[0].bastion.user",
            "must be a text",
        ),
        (
            {"network_id": "id", "create_network": True},
            "create_network",
            "besides the network's id",
        ),
        ({"nodes": [node("a", become="doas")]}, "nodes[0].become", "must be sudo"),
        ({"service_name": "a b"}, "service_name", "1 to 63"),
        ({"cert_resolver": "le`x"}, "cert_resolver", "1 to 63"),
        ({"check_image": "library/hello-world"}, "check_image", "a repository and a tag"),
        (
            {"check_image": "docker.io/library/hello-world:latest"},
            "check_image",
            "without a registry's host",
        ),
        ({"check_image": "hello-world:latest"}, "check_image", "write library/hello-world:latest"),
        ({"service_name": "m" * 58}, "service_name", "at most 57 characters"),
        ({"service_name": "m" * 64, "coalesce": False}, "service_name", "1 to 63"),
        ({"network": "traefik-"}, "network", "as swarm takes names"),
        (
            {"placement_constraints": ["node.role == manager", "disk == big"]},
            "placement_constraints[1]",
            "no node ever matches",
        ),
        ({"ready_timeout": 3541}, "ready_timeout", "1 to 3540"),
        ({"private_key": "~/.ssh/id_ed25519"}, "private_key", "looks like a path"),
        (
            {"nodes": [node("a", private_key="/root/.ssh/id")]},
            "nodes[0].private_key",
            "looks like a path",
        ),
        ({**CREDENTIALS, "upstream": "http://registry.test"}, "upstream", "unencrypted"),
        ({"cache_path": "/var/\x1b[2J"}, "cache_path", "control characters"),
        ({"cache_nfs": "nfs.example.com"}, "cache_nfs", "a server and an absolute path"),
        ({"cache_nfs": "h:/a,b"}, "cache_nfs", "a server and an absolute path"),
        (
            {"cache_nfs": "h:/a", "cache_nfs_options": "rw,addr=x"},
            "cache_nfs_options",
            "without addr",
        ),
        ({"cache_volume": "cache"}, "placement_constraints", "tie the task to one machine"),
        (
            {"cache_volume": "cache", "placement_constraints": ["node.role == manager"]},
            "placement_constraints",
            "one machine",
        ),
        ({**VOLUME, "cache_nfs": "h:/a"}, "cache_volume", "is given besides cache_nfs"),
        ({"varnish_image": None}, "varnish_image", "or set coalesce to false"),
        ({"varnish_image": f"varnish:7.1.1@{DIGEST}"}, "varnish_image", "7.3.0 or later"),
        (
            {"varnish_image": "varnish:7.7.0"},
            "varnish_image",
            "`docker buildx imagetools inspect` shows it",
        ),
        ({"coalesce_memory": 5}, "coalesce_memory", "64 (MiB)"),
        (
            {"entrypoint": "websecure, internal"},
            "entrypoint",
            "several different ones with commas and no spaces",
        ),
        ({"entrypoint": "websecure,"}, "entrypoint", "several different ones"),
        ({"entrypoint": "web,web"}, "entrypoint", "several different ones"),
        (
            {"traefik_labels": {"traefik.http.routers.x.middlewares": "a,,b"}},
            "traefik_labels.traefik.http.routers.x.middlewares",
            "names of middlewares with commas",
        ),
        (
            {"traefik_labels": {"Traefik.swarm.LBSwarm": "true"}},
            "traefik_labels.Traefik.swarm.LBSwarm",
            "hides the mirror from Traefik, which goes to the virtual address",
        ),
        (
            {"traefik": "v2", "traefik_labels": {"traefik.docker.lbswarm": "1"}},
            "traefik_labels.traefik.docker.lbswarm",
            "hides the mirror from Traefik, which goes to the virtual address",
        ),
        (
            {"traefik_labels": {"traefik.docker.network": "other"}},
            "traefik_labels.traefik.docker.network",
            "labels of traefik.docker beside those of traefik.swarm",
        ),
        ({"referrers": "mirror"}, "referrers", "must be empty or upstream"),
        ({"coalesce_disk": -1}, "coalesce_disk", "must be 0, for no disk, or 64 to 1048576 (MiB"),
        ({"coalesce_disk": 63}, "coalesce_disk", "must be 0, for no disk, or 64 to 1048576 (MiB"),
        (
            {"coalesce_disk": 1_048_577},
            "coalesce_disk",
            "must be 0, for no disk, or 64 to 1048576 (MiB",
        ),
        ({"image": f"registry:2.8.3@{DIGEST}"}, "image", "accept_registry_2: true"),
        (
            {"image": f"registry:2.8.1@{DIGEST}", "accept_registry_2": True},
            "image",
            "CVE-2026-33540",
        ),
        (
            {"image": f"registry:3.1.0@{DIGEST}", "accept_registry_2": True},
            "image",
            "CVE-2026-33540",
        ),
        ({**REGISTRY_2, "ttl_hours": 24}, "ttl_hours", "registry 2 forgets after seven days"),
        ({**REGISTRY_2, "cache_write_seconds": 9}, "cache_write_seconds", "for registry 3"),
        ({**REGISTRY_2, **CREDENTIALS}, "upstream_username", "CVE-2026-33540"),
        ({"upstream_username": "bot"}, "upstream_token", "is missing"),
        ({"upstream_token": "t"}, "upstream_username", "is missing"),
        ({**CREDENTIALS, "allow_from": []}, "allow_from", "private images"),
        (
            {**CREDENTIALS, "publish_unencrypted_port_5000": True},
            "publish_unencrypted_port_5000",
            "past the allow-list",
        ),
        ({"allow_from": ["10.0.0.1/24"]}, "allow_from[0]", "with zeros behind its prefix"),
        ({"allow_from": ["0.0.0.0/0"]}, "allow_from[0]", "the whole internet"),
        ({"metrics_from": ["x"]}, "metrics_from[0]", "a network like"),
        ({"metrics_from": ["10.0.0.0/8"], "traefik": "v1"}, "metrics_from", "Traefik 2 or later"),
        ({"traefik": "3"}, "traefik", "v1, v2, v3.0, v3"),
        ({"ttl_hours": -1}, "ttl_hours", "0 or more"),
        ({"memory": 1}, "memory", "64 (MiB)"),
        ({"restart": "always"}, "restart", "never or when-needed"),
        ({"daemon_keys": {"log-driver": 1}}, "daemon_keys.log-driver", "must be a text"),
        ({"nodes": [node("a", service="docker; reboot")]}, "nodes[0].service", "1 to 63"),
    ],
)
def test_a_fault_has_its_key_and_its_message(changed: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(InvalidArgs) as refused:
        args(**changed)
    assert [fault for fault in refused.value.faults if fault.key == key and words in fault.wrong]


SECRET_OUTPUT = pulumi.Output.secret("hunter2")


@pytest.mark.parametrize(
    ("changed", "key", "words"),
    [
        (
            {"nodes": [{"name": "a", "address": "b.test", "host_key": ED25519}]},
            "nodes[0]",
            "write SwarmNode(**",
        ),
        ({"nodes": node("a")}, "nodes", "must be a list"),
        ({"nodes": "a"}, "nodes", "must be a list"),
        ({"nodes": None}, "nodes", "must be a list"),
        ({"nodes": {"a": node("a")}}, "nodes", "must be a list"),
        ({"nodes": pulumi.Output.from_input([])}, "nodes", "not a pulumi.Output"),
        ({"hostname": pulumi.Output.from_input("m.test")}, "hostname", "not a pulumi.Output"),
        ({"network": pulumi.Output.from_input("n")}, "network", "not a pulumi.Output"),
        (
            {"nodes": [node("a", host_key=SECRET_OUTPUT)]},
            "nodes[0].host_key",
            "not a pulumi.Output",
        ),
        ({"nodes": [node("a", name=["x"])]}, "nodes[0].name", "must be a text"),
        ({"nodes": [node("a", port="22")]}, "nodes[0].port", "must be a whole number"),
        ({"nodes": [node("a", private_key=5)]}, "nodes[0].private_key", "must be a text"),
        ({"memory": "1g"}, "memory", "must be a whole number"),
        ({"memory": True}, "memory", "must be a whole number"),
        ({"max_parallel": 1.5}, "max_parallel", "must be a whole number"),
        ({"coalesce": "no"}, "coalesce", "must be true or false"),
        ({"allow_from": "10.0.0.0/8"}, "allow_from", "must be a list"),
        ({"allow_from": [10]}, "allow_from[0]", "must be a text"),
        (
            {"placement_constraints": "node.role == manager"},
            "placement_constraints",
            "must be a list",
        ),
        ({"daemon_keys": ["debug"]}, "daemon_keys", "must be a mapping"),
        ({"daemon_keys": {5: True}}, "daemon_keys", "texts as its keys"),
        ({"manager": 5}, "manager", "must be a text or a SwarmNode"),
        ({"manager": {"name": "a"}}, "manager", "write SwarmNode(**"),
        ({"private_key": 5}, "private_key", "must be a text"),
        (
            {"upstream_username": "bot", "upstream_token": 5, "allow_from": ["10.0.0.0/8"]},
            "upstream_token",
            "must be a text",
        ),
        ({"image": None}, "image", "must be a text"),
        ({"varnish_image": 7}, "varnish_image", "must be a text"),
    ],
)
def test_what_is_of_the_wrong_kind_is_one_fault_among_the_others(
    changed: dict[str, Any], key: str, words: str
) -> None:
    with pytest.raises(InvalidArgs) as refused:
        args(**{"entrypoint": "a b", **changed})
    faults = refused.value.faults
    assert [fault.key for fault in faults if fault.key != "entrypoint"] == [key]
    assert [fault.key for fault in faults if fault.key == "entrypoint"], (
        "the faults of the others are found, too"
    )
    assert [fault for fault in faults if fault.key == key and words in fault.wrong]
    assert "hunter2" not in str(refused.value)
    assert "object at" not in str(refused.value)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.just(SECRET_OUTPUT)
    | st.just(node("x")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = [field.name for field in dataclasses.fields(RegistryMirrorArgs)]
NODE_FIELDS = [field.name for field in dataclasses.fields(SwarmNode)]


@given(
    st.dictionaries(st.sampled_from(FIELDS), anything, max_size=4),
    st.dictionaries(st.sampled_from(NODE_FIELDS), anything, max_size=3),
)
def test_no_value_of_any_kind_gives_anything_but_args_or_faults(
    changed: dict[str, Any], of_a_node: dict[str, Any]
) -> None:
    outcome: RegistryMirrorArgs | InvalidArgs
    try:
        outcome = args(**{"nodes": [node("a"), node("b", **of_a_node)], **changed})
    except InvalidArgs as refused:
        outcome = refused
    assert isinstance(outcome, RegistryMirrorArgs) or all(
        line.isprintable() for line in str(outcome).split("\n")
    )


def test_pulumi_prints_the_faults_and_no_traceback() -> None:
    with pytest.raises(pulumi.RunError, match="hostname: must be"):
        args(hostname="x")


@pytest.mark.parametrize(
    "changed",
    [
        REGISTRY_2,
        CREDENTIALS,
        {**CREDENTIALS, "upstream": "http://h.test", "send_token_unencrypted": True},
        VOLUME,
        {"cache_nfs": "[2001:db8::1]:/a"},
        {"coalesce": False, "varnish_image": None},
        {"entrypoint": "websecure,internal"},
        {"coalesce_disk": 0},
        {"coalesce_disk": 64},
        {"referrers": "upstream"},
        {"coalesce_disk": 1_048_576},
    ],
)
def test_what_is_allowed_is_taken(changed: dict[str, Any]) -> None:
    assert args(**changed).faults() == []


def test_two_nodes_may_share_an_address_behind_different_ports() -> None:
    assert (
        args(
            nodes=[
                node("a", address="gate.test", port=2201),
                node("b", address="gate.test", port=2202),
            ]
        ).faults()
        == []
    )


def test_a_key_of_its_own_is_enough_for_a_node() -> None:
    assert args(private_key=None, nodes=[node("a", private_key=PRIVATE_KEY)]).faults() == []


def test_no_private_key_is_ever_printed() -> None:
    text = repr(
        args(
            private_key=f"SECRET{PRIVATE_KEY}",
            nodes=[node("a", private_key=f"SECRET{PRIVATE_KEY}")],
        )
    )
    assert "SECRET" not in text
    assert "private_key" in [field.name for field in dataclasses.fields(RegistryMirrorArgs)]


def test_the_manager_is_the_first_node_unless_named() -> None:
    assert args().manager_node.name == "m1"
    assert args(manager="w2").manager_node.name == "w2"


def test_the_manager_may_be_a_machine_that_is_no_node() -> None:
    assert args(manager=node("other")).manager_node.name == "other"


@pytest.mark.parametrize(
    ("names", "parallel", "expected"),
    [
        (["m"], 10, [["m"]]),
        (["m", "a"], 10, [["a"], ["m"]]),
        (["m", "a", "b", "c", "d"], 2, [["a"], ["m", "b"], ["c", "d"]]),
        (["a", "m", "b"], 10, [["a"], ["m", "b"]]),
    ],
)
def test_one_canary_that_is_no_manager_then_waves(
    names: list[str], parallel: int, expected: list[list[str]]
) -> None:
    assert common.waves(names, "m", parallel) == expected


def test_no_message_or_repr_has_a_secret_value_of_a_daemon_key() -> None:
    with pytest.raises(InvalidArgs) as refused:
        args(daemon_keys={"log-opts": "CANARY", "nonsense": "CANARY"}, daemon_keys_are_secret=True)
    assert "2 faults" in str(refused.value)
    assert "CANARY" not in str(refused.value)
    assert "CANARY" not in repr(args(daemon_keys={"log-opts": {"token": "CANARY"}}))


@pytest.mark.parametrize(
    "nested", [lambda value: value, lambda value: {"a": value}, lambda value: [{"a": [value]}]]
)
def test_an_output_among_the_daemon_keys_is_refused_with_what_to_do(nested: Any) -> None:
    value = nested(pulumi.Output.secret("CANARY"))
    with pytest.raises(
        InvalidArgs, match=r"daemon_keys.log-opts: holds a pulumi.Output.*daemon_keys_are_secret"
    ):
        args(daemon_keys={"log-opts": value})
