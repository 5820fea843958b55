"""The lab's Docker Hub: a counting reverse proxy in front of a real registry, which can be made to
fail. Standard library only.

Owns the count of requests and bytes per client, which is how the lab knows what "crossed the
internet". The bandwidth limit is not here but on the network interface (`internet.py`), so that all
clients together share one line, as they do at home.

    python -m lab.upstream LISTEN_ADDRESS REGISTRY CERTIFICATE KEY

REGISTRY is host:port of what it passes on to. It listens on ports 80 and 443.

GET /_lab/counters answers the counts as JSON, GET /_lab/requests the last requests and GET
/_lab/headers those with their headers, POST /_lab/reset sets all to nothing, POST
/_lab/delay/MILLISECONDS makes the way to it longer (for each connection and each request: the
kernel's own means, netem, is not in every kernel), POST /_lab/behave/MODE changes how it is:

    well        as it should be
    429, 500, 401…  every request is answered with that status
    silent      accepts requests and never answers
    slow        10 KB a second
    truncated   bodies end half way
    wrong       bodies have a byte that is not theirs
    token       wants the token that its own /_lab/token gives to ACCOUNT
    hub         wants a token too, but gives it to anybody, as Docker Hub does

Every other GET and HEAD is passed on.
"""

import base64
import http.client
import json
import socket
import ssl
import sys
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK = 64 * 1024
REMEMBERED = 2000
"""Requests."""
ACCOUNT = ("mirror-bot", "lab-canary-token")
"""Username and token that the mode `token` asks for; `hub` asks for none."""
TICKET = "ticket-of-the-lab"
SLOW_BYTES = 10_000
"""A second, in the mode `slow`."""
PASSED_ON = ("Accept", "Range", "If-None-Match", "User-Agent")
HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


class Counters:
    """Requests and body bytes per client address; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[str, dict[str, int]] = {}
        self._requests: deque[list[str]] = deque(maxlen=REMEMBERED)
        self._headers: deque[dict[str, object]] = deque(maxlen=REMEMBERED)

    def seen(self, request: dict[str, object]) -> None:
        """Remember a request with its headers."""
        with self._lock:
            self._headers.append(request)

    def headers(self) -> list[dict[str, object]]:
        """The last requests with their headers, oldest first."""
        with self._lock:
            return list(self._headers)

    def asked(self, client: str, method: str, path: str) -> None:
        """Remember a request."""
        with self._lock:
            self._requests.append([client, method, path])

    def requests(self) -> list[list[str]]:
        """Client, method and path of the last requests, oldest first."""
        with self._lock:
            return list(self._requests)

    def add(self, client: str, *, requests: int = 0, sent: int = 0) -> None:
        with self._lock:
            entry = self._clients.setdefault(client, {"requests": 0, "bytes": 0})
            entry["requests"] += requests
            entry["bytes"] += sent

    def reset(self) -> None:
        with self._lock:
            self._clients.clear()
            self._requests.clear()
            self._headers.clear()

    def report(self) -> dict[str, object]:
        with self._lock:
            clients = {name: dict(entry) for name, entry in sorted(self._clients.items())}
        return {
            "requests": sum(entry["requests"] for entry in clients.values()),
            "bytes": sum(entry["bytes"] for entry in clients.values()),
            "clients": clients,
        }


class Upstream(BaseHTTPRequestHandler):
    """Passes one request on and counts what it sends back."""

    protocol_version = "HTTP/1.1"
    counters = Counters()
    registry = ""
    mode = "well"
    delay = 0.0
    """Seconds."""

    def setup(self) -> None:
        time.sleep(self.delay)
        super().setup()

    def do_GET(self) -> None:
        if self.path == "/_lab/counters":
            self._answer_json(self.counters.report())
        elif self.path == "/_lab/requests":
            self._answer_json(self.counters.requests())
        elif self.path == "/_lab/headers":
            self._answer_json(self.counters.headers())
        elif self.path.startswith("/_lab/token"):
            self._give_token()
        else:
            self._remember()
            self._answer()

    def do_HEAD(self) -> None:
        self._remember()
        self._answer()

    def _remember(self) -> None:
        """Keep what was asked, with its headers."""
        self.counters.seen(
            {
                "method": self.command,
                "path": self.path,
                "headers": dict(self.headers.items()),
                "basic": self._basic(),
            }
        )

    def _basic(self) -> str:
        """`username:token` of the request's header Authorization, or nothing."""
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(value).decode() if kind == "Basic" else ""

    def _answer(self) -> None:
        if self._is_well():
            self._pass_on()

    def do_POST(self) -> None:
        if self.path == "/_lab/reset":
            self.counters.reset()
            self._answer_json(self.counters.report())
        elif self.path.startswith("/_lab/delay/"):
            type(self).delay = int(self.path.rpartition("/")[2]) / 1000
            self._answer_json({"delay": self.delay})
        elif self.path.startswith("/_lab/behave/"):
            type(self).mode = self.path.rpartition("/")[2]
            self._answer_json({"mode": self.mode})
        else:
            self.send_error(405, "this stands in for Docker Hub, and is read-only")

    def _is_well(self) -> bool:
        """Whether the request is to be passed on; answers it otherwise."""
        self.counters.asked(self.client_address[0], self.command, self.path)
        time.sleep(self.delay)
        if self.mode == "silent":
            while type(self).mode == "silent":
                time.sleep(0.1)
            self.close_connection = True
            return False
        if (
            self.mode in ("token", "hub")
            and self.headers.get("Authorization") != f"Bearer {TICKET}"
        ):
            host = self.headers.get("Host", "")
            challenge = f'Bearer realm="http://{host}/_lab/token",service="lab"'
            self._refuse(
                401,
                {"WWW-Authenticate": challenge, "Docker-Distribution-Api-Version": "registry/2.0"},
            )
            return False
        if self.mode.isdigit():
            self._refuse(int(self.mode), {})
            return False
        return True

    def _give_token(self) -> None:
        if self.mode == "hub" or self._basic() == ":".join(ACCOUNT):
            self._answer_json({"token": TICKET, "access_token": TICKET, "expires_in": 300})
        else:
            self._refuse(401, {})

    def _refuse(self, status: int, headers: dict[str, str]) -> None:
        self.counters.add(self.client_address[0], requests=1)
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _path_there(self) -> str:
        """The path of this request at the registry behind."""
        return self.path

    def _pass_on(self) -> None:
        client = self.client_address[0]
        self.counters.add(client, requests=1)
        connection = http.client.HTTPConnection(self.registry, timeout=60)
        try:
            # Docker and its kin send a line for each kind of manifest that they accept.
            headers = {
                name: ", ".join(values)
                for name in PASSED_ON
                if (values := self.headers.get_all(name))
            }
            connection.request(self.command, self._path_there(), headers=headers)
            answer = connection.getresponse()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            left = int(answer.getheader("Content-Length") or 0) // 2
            while self.command == "GET" and (
                chunk := answer.read(SLOW_BYTES if self.mode == "slow" else CHUNK)
            ):
                if self.mode == "truncated" and left < len(chunk):
                    self.close_connection = True
                    break
                if self.mode == "wrong" and "/blobs/" in self.path:
                    chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
                left -= len(chunk)
                self.wfile.write(chunk)
                self.counters.add(client, sent=len(chunk))
                if self.mode == "slow":
                    time.sleep(len(chunk) / SLOW_BYTES)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            connection.close()

    def _answer_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response_only(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing per request: the counters are the log."""


class TLSServer(ThreadingHTTPServer):
    """The same with TLS; the handshake is left to the connection's own thread."""

    context: ssl.SSLContext

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        return self.context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        ), address


def main(address: str, registry: str, certificate: str, key: str) -> None:
    """Serve until killed."""
    Upstream.registry = registry
    TLSServer.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    TLSServer.context.load_cert_chain(certificate, key)
    servers = ThreadingHTTPServer((address, 80), Upstream), TLSServer((address, 443), Upstream)
    for server in servers:
        server.daemon_threads = True
    threading.Thread(target=servers[1].serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
