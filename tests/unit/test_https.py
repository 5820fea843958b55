"""A mirror, or whatever answers under its name, can make the agent wait only briefly, and hold
little in memory."""

import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.registry_mirror.node_agent import https, probe
from tests.serving import self_signed

WELL = b"HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\n"
EMPTY = WELL + b"Content-Length: 0\r\n\r\n"
HUGE = 200 * 1024 * 1024

Talk = Callable[[socket.socket], None]


def drip(to: socket.socket) -> None:
    """A byte at a time, for longer than anybody should wait."""
    for _ in range(150):
        to.sendall(b"x")
        time.sleep(0.05)


def after_request(*sent: bytes) -> Talk:
    def talk(client: socket.socket) -> None:
        for data in sent:
            client.recv(65536)
            client.sendall(data)
        drip(client)

    return talk


def flood(client: socket.socket) -> None:
    client.recv(65536)
    client.sendall(WELL + b"Content-Length: %d\r\n\r\n" % HUGE)
    for _ in range(HUGE // (1024 * 1024)):
        client.sendall(bytes(1024 * 1024))


class Server:
    """A listener on loopback that does to each client what a test wants."""

    def __init__(self, folder: Path) -> None:
        cert, key = self_signed(folder)
        self.cert = cert
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self.listener.getsockname()[1]}"

    def start(self, talk: Talk, *, tls: bool) -> None:
        def serve() -> None:
            try:
                client, _ = self.listener.accept()
                talk(self.context.wrap_socket(client, server_side=True) if tls else client)
            except OSError:  # the client has gone
                return

        threading.Thread(target=serve, daemon=True).start()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(tmp_path)
    trusting = ssl.create_default_context(cafile=str(server.cert))
    monkeypatch.setattr(probe, "_trust", lambda netloc: trusting)
    monkeypatch.setattr(probe, "SECONDS", 0.3)
    yield server
    server.listener.close()


def drip_a_handshake(client: socket.socket) -> None:
    client.sendall(b"\x16\x03\x03\x20\x00")
    drip(client)


@pytest.mark.parametrize(
    ("talk", "tls"),
    [
        (drip_a_handshake, False),
        (after_request(b""), True),
        (after_request(WELL), True),
        (after_request(WELL + b"Content-Length: 1000\r\n\r\n"), True),
        (after_request(WELL + b"Transfer-Encoding: chunked\r\n\r\n"), True),
        (after_request(WELL + b"\r\n"), True),
        (after_request(EMPTY, b"HTTP/1.1 200 OK\r\nX: "), True),
    ],
    ids=["handshake", "status", "header", "body", "chunks", "body without a length", "manifest"],
)
def test_a_server_that_sends_a_byte_at_a_time_is_given_up_in_time(
    server: Server, talk: Talk, tls: bool
) -> None:
    server.start(talk, tls=tls)
    started = time.monotonic()
    assert "did not answer within" in (probe.fault(server.url, image="library/x:1") or "")
    assert time.monotonic() - started < 3


def test_a_body_that_nobody_needs_is_not_read(server: Server) -> None:
    server.start(flood, tls=True)
    tracemalloc.start()
    try:
        assert "something that is not a registry answers" in (probe.fault(server.url) or "")
        assert tracemalloc.get_traced_memory()[1] < 20 * https.BODY_BYTES
    finally:
        tracemalloc.stop()
