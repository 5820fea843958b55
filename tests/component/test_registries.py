"""Registries besides the one at the root, one test per promise. The engine is mocked."""

import base64
import itertools
import json
from typing import Any

import pytest

from components.registry_mirror import InvalidArgs, Registry, RegistryMirror
from components.registry_mirror.render import registry
from tests.builders import args, node
from tests.recorder import SERVICE, Recorder, request, run

SECRET_TYPE = "docker:index/secret:Secret"
NODES = [node("m1"), node("w1")]
GHCR = Registry(name="ghcr.io", username="bot", token="of-ghcr", repositories=["owner/*"])
QUAY = Registry(name="quay.io", username="bot", token="of-quay", ttl_hours=24)
LSCR = Registry(name="lscr.io", alias_of="ghcr.io")


def build(*registries: Registry, **more: Any) -> Recorder:
    settings = args(nodes=NODES, registries=registries, allow_from=["10.0.0.0/8"], **more)
    return run(lambda: RegistryMirror("mirror", settings))


def container(found: Recorder, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = found.named(name).inputs["taskSpec"]["containerSpec"]
    return spec


def test_each_registry_has_a_task_of_its_own_and_an_alias_has_none() -> None:
    found = build(GHCR, LSCR, QUAY)
    services = [item.inputs["name"] for item in found.resources if item.type == SERVICE]
    assert sorted(services) == ["mirror", "mirror-front", "mirror-ghcr-io", "mirror-quay-io"]


def test_the_root_is_the_same_service_with_and_without_other_registries() -> None:
    alone, among = build(), build(GHCR, QUAY)
    assert among.named("mirror-service").inputs == alone.named("mirror-service").inputs


def test_each_registry_has_its_own_folder_of_the_cache_and_its_own_upstream() -> None:
    found = build(GHCR, QUAY)
    for name, url in (("ghcr.io", "https://ghcr.io"), ("quay.io", "https://quay.io")):
        spec = container(found, f"mirror-registry-{name}")
        assert f"FOLDER=registries/{name}" in spec["commands"]
        text = next(
            str(item.inputs["dataRaw"])
            for item in found.resources
            if str(item.inputs.get("dataRaw", "")).startswith(registry.MARKER)
            and f"remoteurl: {url}" in str(item.inputs["dataRaw"])
        )
        assert f"rootdirectory: /var/lib/registry/registries/{name}" in text
    assert "ttl: 24h" in text
    assert not any(
        word.startswith("FOLDER") for word in container(found, "mirror-service")["commands"]
    )


def test_credentials_of_one_registry_reach_that_one_alone() -> None:
    found = build(GHCR, QUAY, upstream_username="bot", upstream_token="of-the-hub")
    by_name = {}
    for item in found.resources:
        if item.type == SECRET_TYPE:  # whose data must be marked as a secret
            by_name[item.name] = json.loads(base64.b64decode(item.inputs["data"]["value"]))
    assert sorted(entry["Secret"] for entry in by_name.values()) == [
        "of-ghcr",
        "of-quay",
        "of-the-hub",
    ]
    for service, token in (
        ("mirror-service", "of-the-hub"),
        ("mirror-registry-ghcr.io", "of-ghcr"),
        ("mirror-registry-quay.io", "of-quay"),
    ):
        (secret,) = container(found, service)["secrets"]
        owner = next(name for name in by_name if secret["secretId"].startswith(name))
        assert by_name[owner]["Secret"] == token
        assert (
            by_name[owner]["ServerURL"]
            == {
                "of-ghcr": "https://ghcr.io",
                "of-quay": "https://quay.io",
                "of-the-hub": "https://registry-1.docker.io",
            }[token]
        )
    shown = json.dumps([item.inputs for item in found.resources if item.type != SECRET_TYPE])
    assert not [token for token in ("of-ghcr", "of-quay", "of-the-hub") if token in shown]


def test_no_registry_but_through_varnish() -> None:
    found = build(GHCR, QUAY)
    for name in ("ghcr.io", "quay.io"):
        labels = found.named(f"mirror-registry-{name}").inputs["labels"]
        assert {item["label"]: item["value"] for item in labels} == {"traefik.enable": "false"}
    words = container(found, "mirror-front")["commands"]
    assert [word for word in words if word.startswith("REGISTRY=")] == [
        "REGISTRY=mirror",
        "REGISTRY=mirror-ghcr-io",
        "REGISTRY=mirror-quay-io",
    ]
    assert "mirror-registry-ghcr.io" in found.named("mirror-front").depends_on


def test_an_alias_of_the_registry_at_the_root_is_a_path_also_where_no_other_is_cached() -> None:
    found = build(Registry(name="hub.example.com", alias_of="docker.io"))
    (text,) = (
        str(item.inputs["dataRaw"])
        for item in found.resources
        if "sub choose_registry" in str(item.inputs.get("dataRaw", ""))
    )
    assert '"^/v2/(hub\\.example\\.com)/"' in text


def test_what_is_made_of_each_registry_waits_for_the_one_before() -> None:
    """Or an sshd refuses some of the connections that the docker plugin opens."""
    found = build(*(Registry(name=f"r{i}.test", username="bot", token="t") for i in range(12)))
    texts = {
        item.name: str(item.inputs.get("dataRaw", ""))
        for item in found.resources
        if "config-" in item.name
    }
    configs = [
        next(name for name, text in texts.items() if f"remoteurl: https://r{i}.test\n" in text)
        for i in range(12)
    ]
    for before, after in itertools.pairwise(configs):
        account = after.replace("-config-", "-account-")
        for waiting in (after, account):
            assert before in found.named(waiting).depends_on
            assert "mirror-claim" in found.named(waiting).depends_on


def test_the_service_of_every_registry_is_claimed() -> None:
    found = build(GHCR, LSCR, QUAY)
    request = json.loads(found.named("mirror-claim").inputs["stdin"])
    services = [item.inputs["name"] for item in found.resources if item.type == SERVICE]
    assert sorted(request["services"]) == sorted(services)


def test_the_gate_waits_for_the_task_of_every_registry() -> None:
    asked = request(build(GHCR).named("mirror-ready"))
    assert [item["service"] for item in asked["services"]] == [
        "mirror",
        "mirror-ghcr-io",
        "mirror-front",
    ]


def test_the_gate_asks_for_every_registry_that_is_cached() -> None:
    found = build(GHCR, LSCR, Registry(name="quay.io", required=True, check_repository="a/b"))
    request = json.loads(found.named("mirror-ready").inputs["stdin"])
    assert request["registries"] == [
        {
            "name": "ghcr.io",
            "path": "ghcr.io",
            "upstream": "https://ghcr.io",
            "repository": "owner/swarm-registry-mirror-check",
            "is_known": False,
            "required": False,
        },
        {
            "name": "quay.io",
            "path": "quay.io",
            "upstream": "https://quay.io",
            "repository": "a/b",
            "is_known": True,
            "required": True,
        },
    ]


def test_only_another_registry_that_is_required_makes_the_gate_begin_anew() -> None:
    def triggers(*registries: Registry) -> list[str]:
        return list(build(*registries).named("mirror-ready").inputs["triggers"])

    assert triggers(GHCR, QUAY) == triggers()
    required = Registry(name="quay.io", required=True)
    moved = Registry(name="quay.io", required=True, upstream="https://cache.example.com")
    account = Registry(name="quay.io", required=True, username="bot", token="t")
    different = [triggers(), triggers(required), triggers(moved), triggers(account)]
    assert len({json.dumps(found) for found in different}) == 4


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"coalesce": False, "varnish_image": None}, "needs coalesce"),
        (
            {"image": "registry:2.8.3@sha256:" + "a" * 64, "accept_registry_2": True},
            "needs registry 3",
        ),
    ],
)
def test_what_cannot_serve_several_registries_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgs, match=words):
        args(registries=[Registry(name="ghcr.io")], **more)


def test_each_node_is_asked_for_all_of_them_and_an_alias_by_the_path_of_its_registry() -> None:
    strict = Registry(name="quay.io", fallback=False)
    hub = Registry(name="hub.example.com", alias_of="docker.io")
    found = build(GHCR, LSCR, strict, hub, Registry(name="registry.example.com:5000"))
    assert request(found.named("mirror-node-w1"))["registries"] == [
        {"name": "ghcr.io", "path": "ghcr.io", "fallback": True},
        {"name": "lscr.io", "path": "ghcr.io", "fallback": True},
        {"name": "quay.io", "path": "quay.io", "fallback": False},
        {"name": "hub.example.com", "path": "", "fallback": True},
        {
            "name": "registry.example.com:5000",
            "path": "registry.example.com_5000",
            "fallback": True,
        },
    ]


def test_the_guard_covers_every_registry_but_one_without_fallback() -> None:
    found = build(GHCR, LSCR, Registry(name="quay.io", fallback=False), guard=True)
    words = request(found.named("mirror-guard"))["arguments"]
    tables = dict(zip(words[3::2], words[4::2], strict=True))
    assert list(tables) == ["docker.io", "ghcr.io", "lscr.io"]
    assert '[host."https://mirror.example.com/v2/ghcr.io"]' in tables["lscr.io"]
    assert "override_path = true" in tables["lscr.io"]
    assert "override_path" not in tables["docker.io"]


def test_scrapers_reach_the_metrics_of_each_registry_and_nobody_reaches_anything_else() -> None:
    found = build(GHCR, QUAY, metrics_from=["10.9.0.0/16"])
    for name, service in (("ghcr.io", "mirror-ghcr-io"), ("quay.io", "mirror-quay-io")):
        labels = {
            each["label"]: each["value"]
            for each in found.named(f"mirror-registry-{name}").inputs["labels"]
        }
        rules = [value for label, value in labels.items() if label.endswith(".rule")]
        assert rules == [f"Host(`mirror.example.com`) && Path(`/metrics/{name}`) && Method(`GET`)"]
        assert labels[f"traefik.http.routers.{service}-metrics.middlewares"]
        assert "METRICS=5002" in container(found, f"mirror-registry-{name}")["commands"]


def test_the_component_says_where_its_metrics_are() -> None:
    addresses: list[Any] = []

    def program() -> None:
        settings = args(
            nodes=NODES,
            registries=[GHCR, LSCR],
            allow_from=["10.0.0.0/8"],
            metrics_from=["10.9.0.0/16"],
        )
        RegistryMirror("mirror", settings).metrics.apply(addresses.append)

    run(program)
    base = "https://mirror.example.com/metrics"
    assert addresses == [[base, f"{base}/varnish", f"{base}/ghcr.io"]]
