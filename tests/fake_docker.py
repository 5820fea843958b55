"""The docker of a node, as the node agent meets it, without a node: the commands that it runs, over
a daemon that keeps moby's rules (lab/fleet/dockerd.py)."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import (
    context,
    daemon_process,
    dockerd_view,
    engine,
    node,
    outcome,
    probe,
    record,
    restart,
    started,
)
from components.registry_mirror.node_agent.outcome import Outcome
from components.registry_mirror.node_agent.request import NodeRequest
from lab.fleet.dockerd import Dockerd, Refused

URL = "https://mirror.example.com"
OTHER = "https://other.example.com"


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


class KillAt:
    """The agent's end, as by `kill -9`, at its n-th moment: each act that is `mortal` has one
    before it and one after."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def mortal(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **more: Any) -> Any:
            self._pass()
            result = act(*arguments, **more)
            self._pass()
            return result

        return step

    def _pass(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class FakeDocker:
    """The commands that the agent runs, over a daemon that keeps moby's rules."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.daemon = Dockerd()
        self.deaf = False
        self.hangs = False
        self.arguments = ["/usr/sbin/dockerd", "-H", "fd://"]
        self.born = time.time()
        self._daemons: list[Dockerd] = []
        self.word: str | None = None
        """Why dockerd itself does not get an image from the mirror."""
        self.started: float | None = None
        """When it was started, where that is known."""

    @property
    def mirrors(self) -> list[str]:
        return [mirror.rstrip("/") for mirror in self.daemon.live["registry-mirrors"]]

    @property
    def reloads(self) -> int:
        return self.daemon.reloads

    @property
    def data(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    def run(self, *command: str, seconds: float = 0) -> str:
        if command[:2] == ("docker", "info"):
            if self.hangs:
                raise engine.EngineProblem("`docker info` did not answer within 20 s")
            if not self.daemon.running:
                return json.dumps({"ServerErrors": ["Cannot connect to the Docker daemon"]})
            return json.dumps(self.daemon.info())
        if command[:2] == ("docker", "events"):
            since = float(command[command.index("--since") + 1])
            return "\n".join(
                json.dumps(attributes) for when, attributes in self.daemon.events if when >= since
            )
        if command[0] == "journalctl":
            return "\n".join(self.daemon.log)
        if command[:2] == ("systemctl", "show") or command[0] == "cat":
            return "999999999"
        if command[:2] == ("systemctl", "reset-failed"):
            self.daemon.reset_failed()
        elif "restart" in command:
            try:
                self.daemon.restart(self.data, time.time())
                self.started = time.time()
            except Refused:
                raise engine.EngineProblem("`systemctl restart` failed: see journalctl") from None
        else:
            assert command[:2] in [("systemctl", "reload"), ("kill", "-HUP")]
            self.reload()
        return ""

    def process(self, unit: str) -> daemon_process.Process:
        """The running dockerd, as /proc shows it."""
        if all(daemon is not self.daemon for daemon in self._daemons):
            self._daemons.append(self.daemon)
        number = next(
            number for number, daemon in enumerate(self._daemons) if daemon is self.daemon
        )
        started_at = self.daemon.starts[-1] if self.daemon.starts else self.born
        return daemon_process.Process(
            self.arguments, "", {}, started_at, f"{number} {self.daemon.restarts}"
        )

    def reload(self) -> None:
        """What a SIGHUP does."""
        if self.deaf:
            self.daemon.reloads += 1
            self.daemon.log.append('level=error msg="Error reloading configuration: unknown key"')
        else:
            self.daemon.reload(self.data, time.time())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "docker" / "daemon.json"


@pytest.fixture
def docker(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(path)
    # What a write survives is a power cut (test_files_and_storage.py); here it would only be slow.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(engine, "run", fake.run)
    monkeypatch.setattr(daemon_process, "running", fake.process)
    monkeypatch.setattr(started, "FOLDER", str(tmp_path / "run"))
    monkeypatch.setattr(engine, "RELOAD_SECONDS", 0.05)
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(engine, "has_systemd", lambda: True)
    monkeypatch.setattr(probe, "fault", lambda *_, **__: None)
    monkeypatch.setattr(probe, "ask", lambda *_, **__: probe.Answer(None))
    monkeypatch.setattr(probe, "upstream_fault", lambda *_, **__: None)
    monkeypatch.setattr(dockerd_view, "refusal", lambda *_: fake.word)
    monkeypatch.setattr(dockerd_view, "started_at", lambda unit: fake.started)
    monkeypatch.setattr(restart, "MEMBER_SECONDS", 0.1)
    monkeypatch.setattr(restart, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(record, "STATE", str(tmp_path / "state"))
    monkeypatch.setattr(context, "LOCK", str(tmp_path / "run" / "lock"))
    return fake


def request(
    path: Path,
    url: str = URL,
    owner: str = "registry-mirror",
    keys: dict[str, Any] | None = None,
    may: str = "never",
) -> NodeRequest:
    return NodeRequest(
        owner=owner,
        mirror_url=url,
        path=str(path),
        unit="docker",
        check_image="library/hello-world:latest",
        managed_keys=keys or {},
        restart=may,
    )


def apply(wish: NodeRequest) -> Outcome:
    """What the action says, as the reader of its answer gets it."""
    return outcome.read(node.apply(wish))


def edit(docker: FakeDocker, path: Path, text: str) -> bytes:
    """What a careful administrator does: write the file, and reload docker."""
    written = write(path, text)
    docker.reload()
    return written


def write(path: Path, text: str) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path.read_bytes()


def raises(error: type[BaseException]) -> Any:
    def act(*_: object) -> None:
        raise error

    return act
