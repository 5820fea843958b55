"""Whether docker asks the mirror: seen from its connections. The daemon is this very process here:
it has a socket, and what it is made to pull it connects for, or not."""

import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import dockerd_view, engine, seen
from tests.builders import without_code
from tests.serving import in_background

IMAGE = "library/hello-world:latest"


class Daemon:
    """A docker API that answers a pull after it has connected to `goes_to`."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.goes_to: Callable[[], Any] = lambda: None
        self.kept: list[socket.socket] = []
        daemon = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                daemon.asked.append(self.rfile.readline().decode())
                daemon.goes_to()
                self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        self.socket = f"{folder}/docker.sock"
        self.server = socketserver.ThreadingUnixStreamServer(self.socket, Handler)
        in_background(self.server)

    def connect(self, port: int) -> None:
        self.kept.append(socket.create_connection(("127.0.0.1", port)))


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    """The mirror, and somebody else."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    yield sockets
    for listener in sockets:
        listener.close()


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    monkeypatch.setattr(dockerd_view, "socket_path", lambda: daemon.socket)
    monkeypatch.setattr(engine, "pid", lambda unit: str(os.getpid()))
    monkeypatch.setattr(seen, "SECONDS", 2)
    yield daemon
    for connection in daemon.kept:
        connection.close()
    daemon.server.shutdown()
    daemon.server.server_close()


def url(listener: socket.socket) -> str:
    return f"https://127.0.0.1:{listener.getsockname()[1]}"


def test_a_docker_that_connects_to_the_mirror_has_asked_it_for_what_nobody_has(
    daemon: Daemon, listeners: list[socket.socket]
) -> None:
    mirror = listeners[0]
    daemon.goes_to = lambda: daemon.connect(mirror.getsockname()[1])
    assert seen.complaint("docker.io", IMAGE, url(mirror), None, "docker") is None
    (line,) = daemon.asked
    assert line.startswith(
        "POST /images/create?fromImage=docker.io%2Flibrary%2Fhello-world&tag=sha256%3A"
    )
    seen.complaint("docker.io", IMAGE, url(mirror), None, "docker")
    assert daemon.asked[0] != daemon.asked[1], "or a cache could answer"


def test_a_docker_that_asks_elsewhere_is_reported_after_a_second_try(
    daemon: Daemon, listeners: list[socket.socket]
) -> None:
    mirror, other = listeners
    daemon.goes_to = lambda: daemon.connect(other.getsockname()[1])
    complaint = seen.complaint("docker.io", IMAGE, url(mirror), None, "docker.service")
    assert without_code(complaint) == (
        f"docker was made to pull from docker.io and did not connect to {url(mirror)}; see its log"
        " (journalctl -u docker.service)"
    )
    assert len(daemon.asked) == seen.TRIES


def test_a_connection_from_before_proves_nothing(
    daemon: Daemon, listeners: list[socket.socket]
) -> None:
    daemon.connect(listeners[0].getsockname()[1])
    complaint = seen.complaint("docker.io", IMAGE, url(listeners[0]), None, "docker")
    assert "did not connect" in (complaint or "")


def test_a_docker_that_says_nothing_is_given_up_in_time(
    daemon: Daemon, listeners: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "SECONDS", 0.2)
    over = threading.Event()
    daemon.goes_to = lambda: over.wait(20)
    try:
        complaint = seen.complaint("docker.io", IMAGE, url(listeners[0]), None, "docker")
        assert "did not connect" in (complaint or "")
    finally:
        over.set()


def test_where_nothing_can_be_seen_nothing_is_complained_of(
    daemon: Daemon, listeners: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("docker.io", IMAGE, url(listeners[0]))
    assert seen.complaint(*where, "http://proxy:3128", "docker") is None

    def no_process(unit: str) -> str:
        raise engine.EngineProblem("no service docker runs here")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "pid", no_process)
        assert seen.complaint(*where, None, "docker") is None
    with monkeypatch.context() as patch:
        patch.setattr(engine, "pid", lambda unit: "0")  # of no process there is a folder
        assert seen.complaint(*where, None, "docker") is None
    monkeypatch.setattr(dockerd_view, "socket_path", lambda: None)
    assert seen.complaint(*where, None, "docker") is None
    assert daemon.asked == []
