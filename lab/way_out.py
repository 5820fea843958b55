"""A company's proxy on the way out: CONNECT only, with an account, and it counts where it led.
Standard library only.

    python -m lab.way_out LISTEN_ADDRESS ALLOWED_HOST ADDRESS

ALLOWED_HOST:443 is reached at ADDRESS:443, every other place is refused with 403. It listens on
port 3128, and on port 80 of the same address it answers GET /_lab/counters with the counts, as
JSON, and POST /_lab/reset sets them to zero.
"""

import base64
import json
import select
import socket
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 3128
ACCOUNT = ("way-out", "lab-canary-p@ss")
"""User and password that it wants."""

asked: Counter[str] = Counter()
"""How often it was asked: `host:port` where it led there, the status where it did not."""


class Proxy(BaseHTTPRequestHandler):
    """Leads one connection to where it may go."""

    protocol_version = "HTTP/1.1"
    allowed, address = "", ""

    def do_CONNECT(self) -> None:
        wanted = "Basic " + base64.b64encode(":".join(ACCOUNT).encode()).decode()
        if self.headers.get("Proxy-Authorization") != wanted:
            self._refuse(407)
        elif self.path != f"{self.allowed}:443":
            self._refuse(403)
        else:
            asked[self.path] += 1
            with socket.create_connection((self.address, 443), timeout=10) as there:
                self.send_response_only(200)
                self.end_headers()
                _join(self.connection, there)
            self.close_connection = True

    def _refuse(self, status: int) -> None:
        asked[str(status)] += 1
        self.send_response_only(status)
        self.send_header("Content-Length", "0")
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="lab"')
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing per request: the counters are the log."""


class Counters(BaseHTTPRequestHandler):
    """Tells what was asked."""

    def do_GET(self) -> None:
        body = json.dumps(asked).encode()
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        asked.clear()
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing, neither."""


def _join(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes, both ways, until one side ends."""
    while True:
        ready, _, _ = select.select([one, other], [], [], 120)
        if not ready:
            return
        for source in ready:
            data = source.recv(1 << 16)
            if not data:
                return
            (other if source is one else one).sendall(data)


def main(listen: str, allowed: str, address: str) -> None:
    """Serve until killed."""
    Proxy.allowed, Proxy.address = allowed, address
    servers = (
        ThreadingHTTPServer((listen, PORT), Proxy),
        ThreadingHTTPServer((listen, 80), Counters),
    )
    for server in servers:
        server.daemon_threads = True
    threading.Thread(target=servers[1].serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
