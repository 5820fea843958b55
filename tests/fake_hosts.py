"""A docker that goes by hosts.toml, without a node. dockerd's part is played by a reader of the
file that is not ours (`FakeHosts.asked`)."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import engine, hosts, node, seen
from components.registry_mirror.node_agent.request import NodeRequest
from tests.builders import tomllib
from tests.fake_docker import URL, FakeDocker, KillAt

OTHER = '[host."https://other.example.com"]\n  capabilities = ["pull"]\n'
OURS = f'[host."{URL}"]\n  capabilities = ["pull", "resolve"]\n  dial_timeout = "1s"\n'


class FakeHosts:
    """The folder certs.d, and a dockerd that reads it at every pull."""

    def __init__(self, folder: Path, docker: FakeDocker) -> None:
        self.folder, self.docker = folder, docker
        self.file = folder / "docker.io" / "hosts.toml"
        docker.daemon.version, docker.daemon.containerd_store = "29.7.2", True

    @property
    def text(self) -> str | None:
        return self.file.read_text() if self.file.exists() else None

    def asked(self, registry: str = "docker.io") -> list[str]:
        """Whom docker asks for an image of a registry, in this order (moby daemon/hosts.go)."""
        mirrors = [*(self.docker.mirrors if registry == "docker.io" else []), registry]
        reads = (
            self.docker.daemon.containerd_store
            and int(self.docker.daemon.version.partition(".")[0]) >= 28
        )
        text = self.text_of(registry)
        if not reads or not text:
            return mirrors
        found = tomllib.loads(text)
        known = [*found.get("host", {}), found.get("server", registry)]
        return known if len(known) > 1 else [*mirrors[:-1], *known]

    def text_of(self, registry: str) -> str | None:
        """What the hosts.toml of a registry says."""
        file = self.folder / hosts.folder_of(registry) / "hosts.toml"
        return file.read_text() if file.exists() else None

    def everything(self) -> dict[str, bytes | None]:
        """All that is there, folders too."""
        return {
            str(found): found.read_bytes() if found.is_file() else None
            for found in sorted(self.folder.parent.rglob("*"))
        }


@pytest.fixture
def by_hosts(docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHosts:
    fake = FakeHosts(path.parent / "certs.d", docker)
    monkeypatch.setattr(hosts, "CERTS", str(fake.folder))
    monkeypatch.setattr(
        seen,
        "complaint",
        lambda *words: None if fake.asked(words[0])[0] == words[2] else "docker asks somebody else",
    )
    return fake


def look(wish: NodeRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.look(wish))
    return found


STEPS = ("mkdir", "replace", "unlink", "rmdir")
"""Every call with which a file or folder comes or goes; what is written into a temporary file is
nobody's yet."""


def kill_at(
    patch: pytest.MonkeyPatch, moment: int, docker: FakeDocker, complaint: Callable[..., Any]
) -> None:
    """Have the agent be killed at its n-th moment. `complaint`: what dockerd is seen to do."""
    mortal = KillAt(moment).mortal
    for name in STEPS:
        patch.setattr(os, name, mortal(getattr(os, name)))
    patch.setattr(shutil, "rmtree", mortal(shutil.rmtree))
    patch.setattr(engine, "run", mortal(docker.run))
    patch.setattr(seen, "complaint", mortal(complaint))
