"""What differs between the registry's majors: where it reads its configuration, and what may stand
in it."""

from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from components.registry_mirror.render import registry
from components.registry_mirror.render.registry import RegistryVersion, registry_config

RECIPE = """
version: 0.1
log:
  fields:
    service: registry
storage:
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
proxy:
  remoteurl: https://registry-1.docker.io
"""
"""The recipe's file but for its blob descriptor cache, which is wrong in a pull-through cache."""

V3, V2 = RegistryVersion((3, 1, 1)), RegistryVersion((2, 8, 3))
HUB = "https://registry-1.docker.io"


def config(version: RegistryVersion = V3, **more: Any) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(
        registry_config("registry-mirror", HUB, version, **more)
    )
    return config


def recipe(**proxy: object) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(RECIPE)
    config["http"]["draintimeout"] = "8s"
    config["http"]["debug"] = {
        "addr": "127.0.0.1:5001",
        "prometheus": {"enabled": True, "path": "/metrics"},
    }
    config["proxy"] |= proxy
    return config


def test_registry_3_has_the_recipes_with_layers_that_never_expire_and_a_start_without_its_upstream() -> (  # noqa: E501
    None
):
    helper = {"command": "/usr/local/bin/docker-credential-upstream", "lifetime": "1h"}
    assert config() == recipe(ttl="0s", exec=helper, cachewritetimeout="300s")


def test_registry_2_has_the_recipes_and_no_key_that_it_would_ignore() -> None:
    assert config(V2) == recipe()


def test_registry_3_takes_times_with_their_unit_since_a_bare_number_is_nanoseconds() -> None:
    proxy = config(ttl_hours=720, cache_write_seconds=900)["proxy"]
    assert (proxy["ttl"], proxy["cachewritetimeout"]) == ("720h", "900s")


def test_profiler_and_variables_never_leave_the_container() -> None:
    for version in (V3, V2):
        assert config(version)["http"]["debug"]["addr"] == "127.0.0.1:5001"


def test_the_script_is_asked_for_the_metrics_by_a_word() -> None:
    assert words(metrics=True) == ["/c.yml", "METRICS=5002"]
    assert words() == ["/c.yml"]


def words(*, metrics: bool = False, tag_days: int = 0, way_out: Sequence[str] = ()) -> list[str]:
    return registry.words("/c.yml", metrics=metrics, tag_days=tag_days, way_out=way_out)


def test_the_script_gets_the_days_after_which_a_tag_is_forgotten() -> None:
    assert words(tag_days=30) == ["/c.yml", "TAG_DAYS=30"]


def test_without_a_setting_of_the_way_out_the_script_gets_none() -> None:
    assert registry.way_out(None, False, ["localhost"], False) == []


def test_a_proxy_in_the_clear_is_a_word_and_one_that_is_a_secret_is_a_file() -> None:
    assert registry.way_out("http://p:1", False, ["a", "b"], False) == [
        "PROXY=http://p:1",
        "NO_PROXY=a,b",
    ]
    assert registry.way_out(None, True, ["a"], False) == [
        "PROXY_FILE=/run/secrets/upstream-proxy",
        "NO_PROXY=a",
    ]


def test_authorities_are_a_folder_whether_there_is_a_proxy_or_not() -> None:
    assert registry.way_out(None, False, [], True) == ["CA=/etc/upstream-ca"]
    assert words(way_out=["CA=/etc/upstream-ca"]) == ["/c.yml", "CA=/etc/upstream-ca"]


MACHINE = ["localhost", "127.0.0.0/8", "::1", "mirror", "tasks.mirror"]


@pytest.mark.parametrize(
    ("upstream", "inside"),
    [
        (HUB, []),
        ("http://harbor:5000", ["harbor"]),
        ("http://10.0.0.1", []),
        ("http://[2001:db8::1]:5000", []),
    ],
)
def test_the_swarms_own_names_never_go_through_the_proxy(upstream: str, inside: list[str]) -> None:
    assert registry.without_proxy("mirror", upstream, ["localhost", ".corp"]) == [
        *MACHINE,
        *inside,
        ".corp",
    ]


def test_the_configuration_begins_with_the_mark_by_which_it_is_known() -> None:
    assert registry_config("x", HUB, V3).startswith(registry.MARKER)


@pytest.mark.parametrize(
    ("image", "numbers", "target"),
    [
        ("registry:3.1.1@sha256:0", (3, 1, 1), "/etc/distribution/config.yml"),
        ("host:5000/distribution:v3.2.0", (3, 2, 0), "/etc/distribution/config.yml"),
        ("registry:2.8.3@sha256:0", (2, 8, 3), "/etc/docker/registry/config.yml"),
    ],
)
def test_where_the_configuration_lies_follows_from_the_tag(
    image: str, numbers: tuple[int, ...], target: str
) -> None:
    version = RegistryVersion.of(image)
    assert version is not None
    assert (version.numbers, version.config_target) == (numbers, target)


@pytest.mark.parametrize(
    "image",
    ["registry", "registry:3", "registry:latest", "host:5000/registry", "registry:3.1.1-alpine"],
)
def test_nothing_follows_from_a_tag_that_is_no_full_version(image: str) -> None:
    assert RegistryVersion.of(image) is None
