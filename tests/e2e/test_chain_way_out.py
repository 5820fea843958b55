"""The registry itself behind a company's proxy and authority: what its start script puts into its
environment is what it reads.

Real registry and Varnish (tests/chain.py), the lab's proxy; no lab is started. Nobody but the proxy
can resolve the upstream.
"""

import json
import ssl
import subprocess
import threading
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from components.registry_mirror.render import registry
from lab import way_out
from tests.chain import DOCKERS_ACCEPT, UPSTREAM, VARNISH, Chain, Upstream, own_network
from tests.container_root import ContainerRoot, why_not

HOST = "registry.corp.example"
USER = "way-out:lab-canary-p%40ss"
PROXY = f"http://{USER}@{VARNISH}:{way_out.PORT}"
EXCEPTIONS = "NO_PROXY=localhost,127.0.0.0/8,::1,mirror"


def certificates(folder: Path) -> None:
    """An authority `ca/ca.pem`, and a certificate for HOST that it has signed."""
    (folder / "ca").mkdir()
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    (folder / "names").write_text(f"subjectAltName=DNS:{HOST}\n")
    for command in (
        ["req", "-x509", *new, "-subj", "/CN=corp", "-keyout", "ca.key", "-out", "ca/ca.pem"],
        ["req", *new, "-subj", f"/CN={HOST}", "-keyout", "host.key", "-out", "host.csr"],
        [
            "x509",
            "-req",
            "-in",
            "host.csr",
            "-CA",
            "ca/ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "1",
            "-extfile",
            "names",
            "-out",
            "host.crt",
        ],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)


def environment(folder: Path, *words: str) -> Mapping[str, str]:
    """What the registry finds, by the script that starts it."""
    root = ContainerRoot(folder / "root")
    (folder / "root/var/lib/registry").mkdir(parents=True)
    own = folder / "root/own"
    for name, text in {
        "registry": "#!/bin/sh\nenv\n",
        "start": registry.script("start-registry.sh"),
        "secret": PROXY,
    }.items():
        (own / name).write_text(text)
        (own / name).chmod(0o755)
    output, _ = root.start("/bin/sh", "/own/start", "/c.yml", *words).communicate(timeout=60)
    found = dict(line.partition("=")[::2] for line in output.splitlines() if "=" in line)
    return {
        key: value
        for key, value in found.items()
        if key in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_DIR")
    }


class TLSServer(ThreadingHTTPServer):
    daemon_threads = True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if why_not():
        pytest.skip(why_not())
    certificates(tmp_path)
    way_out.asked.clear()
    way_out.Proxy.allowed, way_out.Proxy.address = HOST, UPSTREAM
    return tmp_path


def chain(folder: Path, *words: str) -> Chain:
    (folder / "chain").mkdir()
    return Chain(
        folder / "chain", upstream=f"https://{HOST}", environment=environment(folder, *words)
    )


def serve(running: Chain, folder: Path) -> None:
    """The upstream with TLS, and the proxy."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "host.crt", folder / "host.key")
    server = TLSServer((UPSTREAM, 443), Upstream)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    running.serve(VARNISH, way_out.PORT, way_out.Proxy)


def detail(running: Chain) -> str:
    """The registry's own words for what stands in the way."""
    answer = running.get("/v2/library/x/blobs/sha256:" + "0" * 64)
    assert answer.status == 500
    return str(json.loads(answer.body)["errors"][0]["detail"])


def test_the_upstream_is_reached_through_the_proxy_alone_and_its_authority_is_trusted(
    folder: Path,
) -> None:
    words = ("PROXY_FILE=/own/secret", EXCEPTIONS, f"CA={folder}/ca")
    with own_network(), chain(folder, *words) as running:
        serve(running, folder)
        running.wait_until_ready()
        index, blobs = running.content.image("library/x", [b"layer"])
        assert running.get("/v2/library/x/manifests/latest", DOCKERS_ACCEPT).digest == index
        assert running.get(f"/v2/library/x/blobs/{blobs[0]}").digest == blobs[0]
    assert way_out.asked[f"{HOST}:443"] > 0
    assert set(way_out.asked) == {f"{HOST}:443"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("PROXY_FILE=/own/secret", EXCEPTIONS), "certificate signed by unknown authority"),
        ((f"PROXY=http://{VARNISH}:{way_out.PORT}", EXCEPTIONS), "Proxy Authentication Required"),
        (
            (f"PROXY=http://{VARNISH}:9", EXCEPTIONS),
            "proxyconnect tcp: dial tcp 10.77.0.1:9: connect: connection refused",
        ),
        ((f"PROXY=http://{VARNISH}:9", f"{EXCEPTIONS},.corp.example"), f"lookup {HOST}"),
    ],
    ids=["no authority", "no password", "nobody there", "an exception"],
)
def test_what_stands_in_the_way_is_in_the_registrys_answer(
    folder: Path, words: tuple[str, ...], told: str
) -> None:
    with own_network(), chain(folder, *words) as running:
        serve(running, folder)
        running.wait_until_ready()
        assert told in detail(running)
