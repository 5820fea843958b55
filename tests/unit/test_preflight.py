"""What is found before a node is changed, each with its remedy."""

import json
from typing import Any

import pytest

from components.registry_mirror.node_agent import preflight

URL = "https://mirror.example.com"
UNIT = ["/usr/sbin/dockerd", "-H", "fd://", "--containerd=/run/containerd/containerd.sock"]


def findings(
    text: str = "",
    arguments: list[str] | None = None,
    mirrors: list[str] | None = None,
    **info: Any,
) -> list[str]:
    known = {"RegistryConfig": {"Mirrors": mirrors or []}, **info}
    return preflight.findings(
        preflight.Facts("/etc/docker/daemon.json", text, known, arguments or UNIT, [URL])
    )


def test_a_usual_node_has_none() -> None:
    assert findings('{"log-driver": "journald", "storage-driver": "overlay2"}') == []


@pytest.mark.parametrize(
    "words",
    [
        ["--config-file=/etc/docker-latest/daemon.json"],
        ["--config-file", "/etc/docker-latest/daemon.json"],
    ],
)
def test_another_configuration_file_is_named(words: list[str]) -> None:
    (found,) = findings(arguments=[*UNIT, *words])
    assert found.startswith(
        "dockerd reads /etc/docker-latest/daemon.json, not /etc/docker/daemon.json"
    )
    assert found.endswith("set daemonJson to that [RM143]")


def test_the_same_configuration_file_by_flag_is_no_finding() -> None:
    assert findings(arguments=[*UNIT, "--config-file=/etc/docker/daemon.json"]) == []


@pytest.mark.parametrize(
    ("flags", "text", "key"),
    [
        (["--registry-mirror=https://a.test"], "", "registry-mirrors"),
        (["--registry-mirror", "https://a.test"], "{}", "registry-mirrors"),
        (["--log-driver=json-file"], '{"log-driver": "journald"}', "log-driver"),
        (["--label", "a=b"], '{"labels": []}', "labels"),
        (["--insecure-registry=a"], '{"insecure-registries": []}', "insecure-registries"),
        (["-D"], '{"debug": false}', "debug"),
    ],
)
def test_a_key_that_is_a_flag_too_would_keep_dockerd_from_taking_the_file(
    flags: list[str], text: str, key: str
) -> None:
    found = [words for words in findings(text, [*UNIT, *flags]) if "command line" in words]
    assert len(found) == 1
    assert f"refuses the key {key} in the file; move the flag into the file" in found[0]


def test_hosts_in_the_file_beside_the_units_own_flag_is_found() -> None:
    assert "refuses the key hosts" in findings('{"hosts": ["tcp://0.0.0.0:2375"]}')[0]


def test_a_snap_is_none_of_ours() -> None:
    assert "docker is a snap here" in findings(arguments=["/snap/docker/1/bin/dockerd"])[0]


@pytest.mark.parametrize(
    ("text", "info", "key"),
    [
        ('{"debug": true}', {}, "debug"),
        ('{"labels": ["a=b"]}', {"Labels": ["a=c"]}, "labels"),
        ('{"live-restore": true}', {"LiveRestoreEnabled": False}, "live-restore"),
        (
            '{"authorization-plugins": ["no-such"]}',
            {"Plugins": {"Authorization": None}},
            "authorization-plugins",
        ),
        ('{"registry-mirrors": ["https://other.test"]}', {}, "registry-mirrors"),
        ('{"registry-mirrors": []}', {"mirrors": ["https://other.test/"]}, "registry-mirrors"),
    ],
)
def test_somebodys_unfinished_edit_would_be_activated_by_our_reload(
    text: str, info: dict[str, Any], key: str
) -> None:
    (found,) = findings(text, **info)
    assert found.startswith(
        f"{key} was edited in /etc/docker/daemon.json, but docker has not taken that over"
    )


@pytest.mark.parametrize(
    ("text", "info"),
    [
        ('{"debug": true}', {"Debug": True}),
        ('{"labels": ["b", "a"]}', {"Labels": ["a", "b"]}),
        ('{"live-restore": true}', {"LiveRestoreEnabled": True}),
        ("{}", {"Debug": True, "Labels": ["a"]}),
        ('{"registry-mirrors": null}', {}),
        (
            json.dumps({"registry-mirrors": ["https://other.test"]}),
            {"mirrors": ["https://other.test/"]},
        ),
        # What is ours may differ: to repair that is why we are here.
        (json.dumps({"registry-mirrors": [URL]}), {}),
        ('{"registry-mirrors": []}', {"mirrors": [f"{URL}/"]}),
    ],
)
def test_what_docker_has_taken_over_is_no_unfinished_edit(text: str, info: dict[str, Any]) -> None:
    assert findings(text, **info) == []


def test_all_findings_are_reported_together() -> None:
    assert len(findings('{"debug": true}', [*UNIT, "--registry-mirror=x", "--config-file=/x"])) == 3
