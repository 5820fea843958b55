"""Clients that may send anything, and an honest one after each of them (see tests/chain.py)."""

import socket

from hypothesis import strategies as st

from components.registry_mirror.render import varnish
from tests.chain import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKERS_ACCEPT,
    OCI_INDEX,
    OCI_MANIFEST,
    VARNISH,
    Chain,
)

TYPES = (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    "*/*",
    "x/oci.image.index",
    "x/distribution.manifest.list",
    "",
)
PIECES = (
    "/v2/",
    "/",
    "//",
    "/./",
    "/../",
    "%2f",
    "%5f",
    "_catalog",
    "?ns=docker.io",
    "?",
    "&",
    "x=/manifests/",
    "blobs/",
    "manifests/",
    "tags/list",
    "?n=1",
    "#",
    ";",
    "%3A",
    "sha256:",
    "latest",
    "\\",
    "%00",
    "A",
    "-",
    "..",
    "referrers/",
    "@",
    "%",
    "+",
)

accepts = st.lists(
    st.tuples(
        st.sampled_from(TYPES), st.sampled_from(("", ";q=0", ";=", ' ;a="', "x", " ", '"'))
    ).map("".join),
    max_size=5,
).map(",".join) | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
methods = st.sampled_from(
    (
        "GET",
        "GET",
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "PURGE",
        "BAN",
        "CONNECT",
        "get",
        "OPTIONS",
    )
)
headers = st.lists(
    st.sampled_from(
        (
            "X-Known: take",
            "X-Known: ask",
            "X-Lease: 1 -5 1",
            "X-Lease: 1 99999999999 2",
            "X-Mirror-Namespace: evil",
            "Range: bytes=0-0",
            "Range: bytes=1-,0-3",
            "If-None-Match: *",
            "X-Forwarded-Host: evil",
            "X-HTTP-Method-Override: PUT",
            "Authorization: Basic eA==",
            "Cookie: a=b",
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Connection: X-Known",
            "Host: evil",
            "Expect: 100-continue",
            "Cache-Control: no-cache",
            "Accept-Encoding: gzip",
            "Vary: Accept",
            "Upgrade: h2c",
        )
    ),
    max_size=3,
)


def targets(known: list[str]) -> st.SearchStrategy[str]:
    """Paths: those that there are, with anything put in, left out or appended."""

    def bent(path: str, at: float, piece: str, cut: int, tail: str) -> str:
        place = int(at * len(path))
        return path[:place] + piece + path[place + cut :] + tail

    pieces = (
        st.sampled_from(PIECES)
        | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8)
        | st.just("")
    )
    return st.builds(
        bent, st.sampled_from(known), st.floats(0, 1), pieces, st.integers(0, 3), pieces
    )


class Honest:
    """A tag and a layer that an honest client asks for, and what it must get."""

    def __init__(self, chain: Chain, name: str, *, docker: bool) -> None:
        self.index, self.blobs = chain.content.image(
            name, [b"a layer of some bytes" * 1000], docker=docker
        )
        self.tag, self.layer = f"/v2/{name}/manifests/latest", f"/v2/{name}/blobs/{self.blobs[0]}"
        self.paths = [
            self.tag,
            self.layer,
            f"/v2/{name}/manifests/{self.index}",
            f"/v2/{name}/tags/list",
        ]

    def check(self, chain: Chain) -> None:
        assert chain.get(self.tag, DOCKERS_ACCEPT).digest == self.index
        assert chain.get(self.layer).digest == self.blobs[0]


def send(method: str, target: str, accept: str, more: list[str]) -> None:
    """One request byte by byte as it is given; what comes back is read and does not matter."""
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: mirror",
        f"Accept: {accept}",
        "Connection: close",
        *more,
        "",
        "",
    ]
    with socket.create_connection((VARNISH, varnish.PORT), timeout=5) as connection:
        connection.settimeout(0.5)
        try:
            connection.sendall("\r\n".join(lines).encode())
            while connection.recv(65536):
                pass
        except OSError:
            pass
