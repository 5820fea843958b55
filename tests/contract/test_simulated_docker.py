"""The simulated dockerd (lab/fleet/dockerd.py) beside the real ones: the same files, the same
reloads, the same answers."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.fleet.dockerd import Dockerd
from tests.lab.lab import Lab

FILES = [
    '{"registry-mirrors": ["https://a.test"]}',
    "{}",
    '{"registry-mirrors": ["https://b.test/", "https://a.test"], "debug": true, "labels": ["x=y"]}',
    '{"labels": ["z=1"], "max-concurrent-downloads": 7, "features": {"buildkit": true}}',
    '{"no-such-key": 1, "registry-mirrors": ["https://c.test"]}',
    "{",
    "[]",
    '{"registry-mirrors": ["ftp://c.test"]}',
    '{"registry-mirrors": ["c.test"]}',
    "",
    '\ufeff{"insecure-registries": ["r.test:5000"], "shutdown-timeout": 20, "debug": false}',
    '{"experimental": true, "log-driver": "journald", "log-opts": {"tag": "x"}}',
    '{"registry-mirrors": null, "labels": []}',
    '{"registry-mirrors": [], "insecure-registries": [], "shutdown-timeout": 15}',
    '{"data-root": "/srv/docker", "default-ipc-mode": "shareable", "max-download-attempts": 2}',
    '{"hosts": ["unix:///var/run/docker.sock"], "labels": ["not=taken"]}',
    '{"default-ipc-mode": "private"}',
]
SHOWN = (
    "Debug",
    "Labels",
    "LiveRestoreEnabled",
    "ExperimentalBuild",
    "LoggingDriver",
    "DockerRootDir",
    "DefaultRuntime",
)
ATTRIBUTES = (
    "max-concurrent-downloads",
    "max-download-attempts",
    "features",
    "shutdown-timeout",
    "debug",
    "default-runtime",
    "default-shm-size",
    "default-ipc-mode",
)


@pytest.fixture(params=["node1", "node2", "node3"])
def node(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """A node of each engine, its docker fresh from a start with a file, as nearly every docker
    is."""
    name: str = request.param
    lab.on(
        name,
        "mv /etc/docker/daemon.json /tmp/kept 2>/dev/null; echo '{}' > /etc/docker/daemon.json;"
        " systemctl restart docker",
    )
    yield name
    lab.on(
        name,
        "rm /etc/docker/daemon.json; mv /tmp/kept /etc/docker/daemon.json 2>/dev/null; systemctl"
        " restart docker",
    )


def seen(info: dict[str, Any]) -> dict[str, Any]:
    """What both must agree on."""
    registries = info["RegistryConfig"]
    insecure = [
        name
        for name, index in (registries.get("IndexConfigs") or {}).items()
        if not index["Secure"]
    ]
    return {
        **{key: info[key] for key in SHOWN},
        "Mirrors": registries.get("Mirrors") or [],
        "insecure": insecure,
    }


def test_they_take_over_refuse_and_keep_the_same(lab: Lab, node: str) -> None:
    model = Dockerd(lab.info(node)["ServerVersion"])
    for text in FILES:
        since = lab.on(node, "date +%s.%N").strip()
        lab.on(
            node, "cat > /etc/docker/daemon.json; systemctl reload docker; sleep 0.4", text.encode()
        )
        events = lab.on(
            node,
            f"docker events --since {since} --until $(date +%s.%N) --filter type=daemon --filter"
            " event=reload"
            " --format '{{json .Actor.Attributes}}'",
        )
        known = len(model.events)
        model.reload(text.encode())
        assert seen(lab.info(node)) == seen(model.info()), text
        assert len(events.splitlines()) == len(model.events) - known, text
        if events:
            real, ours = json.loads(events.splitlines()[-1]), model.attributes()
            assert {key: real[key] for key in ATTRIBUTES} == {
                key: ours[key] for key in ATTRIBUTES
            }, text
