"""The registries of the lab's internet besides Docker Hub: ghcr.io, quay.io and their kin, each
under its real name, with the ways that their clients must follow. Standard library only.

Owns what each of them is like (`REGISTRIES`), and serves all of them in one process: an address, a
count of requests and bytes, and a behaviour for each (`upstream.py`), and a name server that knows
their addresses. What they have is in the registry behind the hub, below a folder of the
registry's name.

    python -m lab.other_registries NAME_SERVER_ADDRESS REGISTRY CERTIFICATE KEY

REGISTRY is host:port of what has their images.
"""

import http.client
import socket
import ssl
import struct
import sys
import threading
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from lab.upstream import Counters, TLSServer, Upstream


@dataclass(frozen=True)
class OtherRegistry:
    """A registry, or a host that serves layers for one."""

    name: str
    """Its host, as images have it."""
    address: str
    realm: str = ""
    """URL of its token server; empty where it asks for no token."""
    layers_at: str = ""
    """The host to which it redirects whoever asks for a layer."""
    all_at: str = ""
    """The host to which it redirects whoever asks for anything of an image."""
    content_of: str = ""
    """The registry whose content it has; empty: its own."""
    strict: bool = False
    """Whether its token server refuses a token for a repository that is not there."""
    signed: bool = False
    """Whether it serves only what it was redirected to for, and nobody who sends a token along, as
    storage in a cloud does."""

    @property
    def content(self) -> str:
        """The registry whose content it has."""
        return self.content_of or self.name


REGISTRIES = (
    OtherRegistry(
        "ghcr.io",
        "198.18.0.20",
        realm="https://ghcr.io/token",
        layers_at="pkg-containers.githubusercontent.com",
        strict=True,
    ),
    OtherRegistry(
        "pkg-containers.githubusercontent.com", "198.18.0.21", content_of="ghcr.io", signed=True
    ),
    OtherRegistry("quay.io", "198.18.0.22", realm="https://quay.io/v2/auth"),
    OtherRegistry("lscr.io", "198.18.0.23", realm="https://ghcr.io/token", content_of="ghcr.io"),
    OtherRegistry(
        "images.vanity.test", "198.18.0.24", realm="https://ghcr.io/token", content_of="ghcr.io"
    ),
    OtherRegistry("registry.k8s.io", "198.18.0.25", all_at="europe-docker.pkg.dev"),
    OtherRegistry("europe-docker.pkg.dev", "198.18.0.26", content_of="registry.k8s.io"),
    OtherRegistry("registry.gitlab.com", "198.18.0.27", realm="https://gitlab.com/jwt/auth"),
    OtherRegistry("gitlab.com", "198.18.0.28"),
)
"""ghcr.io and registry.k8s.io redirect, lscr.io has its tokens from another registry, and
registry.gitlab.com from another host of its domain: as the real ones do. images.vanity.test is a
vanity host that nobody knows."""

SIGNATURE = "sig=of-the-lab"
PRIVATE = "private"
"""The owner whose images only an account gets."""
TICKET_SECONDS = 300


def named(name: str) -> OtherRegistry:
    """The registry of this name."""
    return next(registry for registry in REGISTRIES if registry.name == name)


def account(name: str) -> tuple[str, str]:
    """Username and token of the account that a registry knows."""
    return f"bot-of-{name}", f"lab-canary-of-{name}"


class Handler(Upstream):
    """Answers for one registry."""

    registry_played: ClassVar[OtherRegistry]

    def _answer(self) -> None:
        if not self._is_well():
            return
        played, path = self.registry_played, urlsplit(self.path)
        if path.path in _realms_at(played.name):
            self._give_ticket()
        elif played.signed and "Authorization" in self.headers:
            self._refuse(400, {})
        elif played.signed and SIGNATURE not in path.query:
            self._refuse(403, {})
        elif played.realm and not self._may(path.path):
            self._challenge(path.path)
        elif target := self._redirect(path.path):
            self._refuse(307, {"Location": f"https://{target}{path.path}?{SIGNATURE}"})
        else:
            self._pass_on()

    def _challenge(self, path: str) -> None:
        played = self.registry_played
        repository = path.removeprefix("/v2/").rpartition("/")[0].rpartition("/")[0]
        words = f'Bearer realm="{played.realm}",service="{played.name}"'
        words += f',scope="repository:{repository}:pull"' if repository else ""
        headers = {
            "WWW-Authenticate": words,
            "Docker-Distribution-Api-Version": "registry/2.0",
        }
        self._refuse(401, headers)

    def _redirect(self, path: str) -> str:
        played = self.registry_played
        return (
            played.layers_at
            if played.layers_at and "/blobs/" in path
            else played.all_at
            if path != "/v2/"
            else ""
        )

    def _path_there(self) -> str:
        path = urlsplit(self.path).path
        if path == "/v2/" or not path.startswith("/v2/"):
            return path
        query = urlsplit(self.path).query
        pages = f"?{query}" if query and "/tags/list" in path else ""
        return f"/v2/{self.registry_played.content}/{path[len('/v2/') :]}{pages}"

    def _may(self, path: str) -> bool:
        """Whether the client has a ticket of the token server, and one of the account for what is
        private."""
        given = self.headers.get("Authorization", "")
        issuer = urlsplit(self.registry_played.realm).hostname or ""
        is_private = path.startswith(f"/v2/{PRIVATE}/")
        names = [account(self.registry_played.content)[0], *([] if is_private else ["anybody"])]
        return given in [f"Bearer {_ticket(issuer, name)}" for name in names]

    def _give_ticket(self) -> None:
        """Tokens for anybody, and better ones for the accounts of the registries that have them
        here."""
        name, basic = self.registry_played.name, self._basic()
        clients = {other.content for other in REGISTRIES if urlsplit(other.realm).hostname == name}
        accounts = {":".join(account(client)): account(client)[0] for client in clients}
        scope = parse_qs(urlsplit(self.path).query).get("scope", [""])[0]
        wants = scope.removeprefix("repository:").rpartition(":")[0]
        if basic and basic not in accounts:
            self._refuse(401, {})
            return
        if self.registry_played.strict and wants and not self._is_there(wants):
            self._refuse(403, {})
            return
        ticket = _ticket(name, accounts.get(basic, "anybody"))
        self.counters.add(self.client_address[0], requests=1)
        self._answer_json({"token": ticket, "access_token": ticket, "expires_in": TICKET_SECONDS})

    def _is_there(self, repository: str) -> bool:
        connection = http.client.HTTPConnection(self.registry, timeout=10)
        try:
            path = f"/v2/{self.registry_played.content}/{repository}/tags/list"
            connection.request("GET", path)
            return connection.getresponse().status == 200
        finally:
            connection.close()


def _realms_at(name: str) -> set[str]:
    """Paths of the token servers on a host."""
    parts = [urlsplit(other.realm) for other in REGISTRIES if other.realm]
    return {part.path for part in parts if part.hostname == name}


def _ticket(issuer: str, account_name: str) -> str:
    return f"ticket-of-{issuer}-for-{account_name}"


class NameServer(threading.Thread):
    """Answers A queries for the registries' names (RFC 1035); no other name exists."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._addresses = {registry.name: registry.address for registry in REGISTRIES}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))

    def run(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(4096)
            if len(query) > 16:
                self._socket.sendto(self.answer(query), sender)

    def answer(self, query: bytes) -> bytes:
        """The answer to a query of one question."""
        end, labels = 12, []
        while query[end]:
            labels.append(query[end + 1 : end + 1 + query[end]].decode("ascii", "replace"))
            end += query[end] + 1
        question = query[12 : end + 5]
        address = self._addresses.get(".".join(labels).lower())
        is_a = question[-4:] == b"\0\1\0\1"
        flags = 0x8180 if address else 0x8183
        found = [address] if address and is_a else []
        header = query[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0)
        return b"".join(
            (
                header,
                question,
                *(b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(item) for item in found),
            )
        )


def main(names_at: str, registry: str, certificate: str, key: str) -> None:
    """Serve until killed."""
    TLSServer.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    TLSServer.context.load_cert_chain(certificate, key)
    NameServer(names_at).start()
    threads = []
    for played in REGISTRIES:
        own = {
            "registry_played": played,
            "registry": registry,
            "counters": Counters(),
        }
        handler = type(f"Handler of {played.name}", (Handler,), own)
        for server in (
            ThreadingHTTPServer((played.address, 80), handler),
            TLSServer((played.address, 443), handler),
        ):
            server.daemon_threads = True
            threads.append(threading.Thread(target=server.serve_forever, daemon=True))
            threads[-1].start()
    threads[0].join()


if __name__ == "__main__":
    main(*sys.argv[1:])
