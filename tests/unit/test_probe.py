"""What a node says of a mirror that does not answer as it should: real sockets on loopback, real
certificates."""

import base64
import contextlib
import http.server
import json
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.registry_mirror.node_agent import probe
from components.registry_mirror.node_agent.request import LABELS_HEADER
from tests.serving import in_background, self_signed


class Server:
    """An HTTPS server on loopback whose answers the test sets."""

    def __init__(self, folder: Path) -> None:
        cert, key = self_signed(folder)
        self.cert = cert
        self.answers: list[tuple[int, bool]] = [(200, True)]
        self.asked = 0
        self.manifests: list[tuple[str, str]] = []
        self.manifest_status = 200
        self.upstream_status = 404
        """What is answered for a layer that nobody has."""
        self.blobs: list[str] = []
        self.is_registry = True
        self.refused = ""
        """What Varnish says of the upstream's answer to the mirror itself."""
        self.registry = ""
        """By which path Varnish knows the registry that it has asked."""
        self.said: object = None
        """The body of an answer about a layer, by GET."""
        self.disk: str | None = None
        self.mark: str | None = None
        """Of Traefik's labels."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if "/blobs/" in self.path:
                    body = b"" if outer.said is None else json.dumps(outer.said).encode()
                    self.send_response(outer.upstream_status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return
                status, is_registry = outer.answers[min(outer.asked, len(outer.answers) - 1)]
                outer.asked += 1
                self.send_response(status)
                if is_registry:
                    self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                if outer.mark is not None:
                    self.send_header(LABELS_HEADER, outer.mark)
                if outer.disk is not None:
                    self.send_header(probe.DISK_HEADER, outer.disk)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_HEAD(self) -> None:
                if "/blobs/" in self.path:
                    outer.blobs.append(self.path)
                    self.send_response(outer.upstream_status)
                else:
                    outer.manifests.append((self.path, self.headers["Accept"] or ""))
                    self.send_response(outer.manifest_status)
                if outer.is_registry:
                    self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                if outer.registry:
                    self.send_header("Mirror-Registry", outer.registry)
                if outer.refused:
                    self.send_header("Mirror-Upstream-Status", outer.refused)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        in_background(self.server)
        self.url = f"https://localhost:{self.server.server_address[1]}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(tmp_path)
    trusting = ssl.create_default_context(cafile=str(server.cert))
    monkeypatch.setattr(probe, "_trust", lambda netloc: trusting)
    yield server
    server.server.shutdown()


def test_a_registry_that_answers_has_no_fault(server: Server) -> None:
    assert probe.fault(server.url) is None


def test_a_manifest_is_asked_for_without_being_pulled(server: Server) -> None:
    assert probe.fault(server.url, image="library/hello-world:latest") is None
    ((path, accept),) = server.manifests
    assert path == "/v2/library/hello-world/manifests/latest"
    assert "application/vnd.oci.image.index.v1+json" in accept


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("1200 of 4096", (1200, 4096)),
        ("0 of 4096", (0, 4096)),
        (None, None),
        ("", None),
        ("-1 of 4096", None),
        ("1200", None),
        ("1200 of 4096 of 1", None),
        ("9" * 5000 + " of 1", None),
    ],
)
def test_varnish_says_what_it_took_of_its_disk(
    server: Server, said: str | None, found: tuple[int, int] | None
) -> None:
    server.disk = said
    assert probe.disk(server.url) == found


def test_nobody_says_so_where_nobody_answers_or_only_docker_could_ask(server: Server) -> None:
    assert probe.disk("https://localhost:1") is None
    server.disk = "1 of 2"
    assert probe.disk(server.url, "socks5://localhost:1") is None
    assert server.asked == 0


def test_by_which_labels_traefik_goes_is_in_every_answer_also_in_one_that_refuses(
    server: Server,
) -> None:
    assert probe.ask(server.url).labels_mark == ""
    server.mark = "ab12"
    assert probe.ask(server.url).labels_mark == "ab12"
    assert probe.ask(server.url, IMAGE).labels_mark == "ab12"
    server.manifest_status = 429
    assert probe.ask(server.url, IMAGE).labels_mark == "ab12"
    server.manifest_status, server.upstream_status = 404, 500
    assert probe.ask(server.url, IMAGE).labels_mark == "ab12"
    server.answers = [(403, False)]
    assert probe.ask(server.url).labels_mark == "ab12"
    assert probe.ask("https://localhost:1").labels_mark is None


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_mirror_through_which_no_manifest_passes_is_worse_than_none(
    server: Server, status: int
) -> None:
    server.manifest_status = status
    fault = probe.fault(server.url, image="library/hello-world:latest") or ""
    assert f"library/hello-world:latest does not pass through it ({status})" in fault
    assert "checkImage" in fault


IMAGE = "library/hello-world:latest"


def test_an_image_that_the_upstream_does_not_have_differs_from_an_upstream_that_is_unavailable(
    server: Server,
) -> None:
    server.manifest_status = 404
    answer = probe.ask(server.url, IMAGE)
    assert "has no image library/hello-world:latest (404); set checkImage to one that it has" in (
        answer.fault or ""
    )
    assert answer.final
    assert len(server.manifests) == 2, (
        "asked once more, lest the upstream came back between the two questions"
    )
    server.upstream_status = 500
    answer = probe.ask(server.url, IMAGE)
    assert "does not reach its upstream now (500 " in (answer.fault or "")
    assert (answer.final, answer.concerns_the_mirror) == (False, True)


def test_a_404_that_is_not_a_registrys_is_traefiks_and_may_pass(server: Server) -> None:
    server.manifest_status, server.is_registry = 404, False
    answer = probe.ask(server.url, IMAGE)
    assert "does not pass through it (404)" in (answer.fault or "")
    assert not answer.final


def test_the_upstream_is_there_if_it_says_that_nobody_has_a_layer(server: Server) -> None:
    assert probe.upstream_fault(server.url, IMAGE) is None
    assert probe.upstream_fault(server.url, IMAGE) is None
    one, other = server.blobs
    assert one.startswith("/v2/library/hello-world/blobs/sha256:")
    assert len(one.rpartition(":")[2]) == 64
    assert one != other, "what was asked for once could have been remembered"


@pytest.mark.parametrize("status", [200, 429, 500, 502, 503])
def test_any_other_answer_is_not_the_upstreams(server: Server, status: int) -> None:
    server.upstream_status = status
    assert f"does not reach its upstream now ({status} " in (
        probe.upstream_fault(server.url, IMAGE) or ""
    )


@pytest.mark.parametrize("status", [401, 403])
def test_an_upstream_that_does_not_let_the_mirror_in_differs_from_one_that_is_unavailable(
    server: Server, status: int
) -> None:
    """The registry passes that on (3.1.2); behind Varnish it is a 404 with a header."""
    words = f"does not let the mirror in ({status}); check upstreamUsername and upstreamToken"
    server.upstream_status = status
    assert words in (probe.upstream_fault(server.url, IMAGE) or "")
    server.upstream_status, server.refused = 404, str(status)
    assert words in (probe.upstream_fault(server.url, IMAGE) or "")
    server.refused = "200 or anything else"
    assert probe.upstream_fault(server.url, IMAGE) is None


def test_a_tag_that_the_mirror_cannot_have_is_reported_with_the_upstreams_answer(
    server: Server,
) -> None:
    server.manifest_status, server.refused = 404, "401"
    server.upstream_status = 404
    assert "does not let the mirror in (401)" in (probe.ask(server.url, IMAGE).fault or "")


PROXY_IS_AWAY = (
    'Get "https://r.test/v2/": proxyconnect tcp: dial tcp 10.0.0.9:3128: connect:'
    " connection refused"
)


def test_the_registrys_own_message_says_what_stands_in_the_way(server: Server) -> None:
    server.upstream_status, server.said = (
        500,
        {"errors": [{"code": "UNKNOWN", "detail": PROXY_IS_AWAY}]},
    )
    fault = probe.upstream_fault(server.url, IMAGE) or ""
    assert fault.endswith(f"(upstreamProxy, upstreamCa); the registry says: {PROXY_IS_AWAY}")


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {"errors": []},
        {"errors": [{"detail": {"a": 1}}]},
        {"errors": [{}]},
        {"errors": 5},
        "x" * 70_000,
    ],
)
def test_without_such_a_message_the_fault_is_the_same(server: Server, said: object) -> None:
    server.upstream_status, server.said = 500, said
    assert (probe.upstream_fault(server.url, IMAGE) or "").endswith("(upstreamProxy, upstreamCa)")


def test_no_password_and_no_escape_sequence_in_them_is_repeated(server: Server) -> None:
    detail = "invalid proxy address http://user:CANARY@p.test:1\x1b[2J\n" + "y" * 1000
    server.upstream_status, server.said = 500, {"errors": [{"detail": detail}]}
    fault = probe.upstream_fault(server.url, IMAGE) or ""
    assert "http://[hidden]@p.test:1" in fault
    assert "CANARY" not in fault
    assert fault.isprintable()
    assert len(fault) < 800


def test_nor_is_a_404_of_somebody_elses(server: Server) -> None:
    server.is_registry = False
    assert "does not reach its upstream now" in (probe.upstream_fault(server.url, IMAGE) or "")


def test_a_mirror_that_is_not_there_has_no_upstream(server: Server) -> None:
    assert "refused the connection" in (
        probe.upstream_fault(f"https://localhost:{free_port()}", IMAGE) or ""
    )


class Proxy:
    """A proxy on loopback: it lets CONNECT through to a port, or answers with a status of its
    own."""

    def __init__(self, port: int, status: int = 200) -> None:
        self.asked: list[str] = []
        self.accounts: list[str] = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer.asked.append(self.rfile.readline().decode().split()[1])
                while line := self.rfile.readline().strip():
                    if line.lower().startswith(b"proxy-authorization:"):
                        outer.accounts.append(line.split()[-1].decode())
                self.wfile.write(f"HTTP/1.1 {status} whatever\r\n\r\n".encode())
                if status == 200:
                    with socket.create_connection(("127.0.0.1", port)) as there:
                        back = threading.Thread(
                            target=copy, args=(there, self.connection), daemon=True
                        )
                        back.start()
                        copy(self.connection, there)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        in_background(self.server)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def test_where_docker_has_a_proxy_the_mirror_is_asked_through_it(server: Server) -> None:
    port = int(server.url.rpartition(":")[2])
    proxy = Proxy(port)
    assert probe.fault(server.url, image=IMAGE, proxy=f"http://me:p%40ss@{proxy.address}") is None
    assert probe.upstream_fault(server.url, IMAGE, f"http://{proxy.address}") is None
    assert proxy.asked == [f"localhost:{port}"] * 2
    assert base64.b64decode(proxy.accounts[0]) == b"me:p@ss"
    assert len(proxy.accounts) == 1


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_does_not_lead_to_the_mirror_is_named_with_the_remedy(
    server: Server, status: int
) -> None:
    proxy = Proxy(1, status)
    answer = probe.ask(server.url, IMAGE, f"http://me:secret@{proxy.address}")
    assert (
        f"docker goes to {server.url} through its proxy http://{proxy.address}, and that does not"
        " lead there" in (answer.fault or "")
    )
    assert str(status) in (answer.fault or "")
    assert "add localhost to NO_PROXY" in (answer.fault or "")
    assert "secret" not in (answer.fault or "")
    assert not answer.concerns_the_mirror


def test_a_proxy_that_is_away_is_named_too(server: Server) -> None:
    fault = probe.fault(server.url, image=IMAGE, proxy=f"http://localhost:{free_port()}") or ""
    assert "and that does not lead there" in fault


@pytest.mark.parametrize("scheme", ["https", "socks5"])
def test_a_proxy_that_only_docker_can_speak_to_is_left_to_docker(scheme: str) -> None:
    assert probe.ask(
        "https://no.such.name.invalid", IMAGE, f"{scheme}://proxy.invalid:1"
    ) == probe.Answer(None)
    assert (
        probe.upstream_fault("https://no.such.name.invalid", IMAGE, f"{scheme}://proxy.invalid:1")
        is None
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, False), "Traefik has no route to the mirror (404"),
        ((502, False), "Traefik has a route but reaches no mirror (502"),
        ((503, False), "reaches no mirror (503"),
        ((200, False), "something that is not a registry answers"),
        ((401, True), "answered 401 instead of 200"),
    ],
)
def test_an_answer_that_is_no_registrys_is_explained(
    server: Server, answer: tuple[int, bool], words: str
) -> None:
    server.answers = [answer]
    assert words in (probe.fault(server.url) or "")


def test_a_certificate_that_nobody_here_trusts_is_explained(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert "the certificate of localhost is not trusted" in (probe.fault(server.url) or "")


def test_a_certificate_for_another_name_is_explained(server: Server) -> None:
    assert "not trusted" in (probe.fault(server.url.replace("localhost", "127.0.0.1")) or "")


def test_authorities_are_judged_as_docker_judges_them_not_as_python_3_13_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python_3_13 = ssl.create_default_context()
    python_3_13.verify_flags |= ssl.VERIFY_X509_STRICT
    monkeypatch.setattr(ssl, "create_default_context", lambda: python_3_13)
    assert not probe._trust("mirror.example.com").verify_flags & ssl.VERIFY_X509_STRICT


def test_a_name_that_does_not_resolve_is_explained() -> None:
    assert "the name no.such.name.invalid does not resolve" in (
        probe.fault("https://no.such.name.invalid") or ""
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def test_nobody_there_is_explained() -> None:
    assert "refused the connection" in (probe.fault(f"https://localhost:{free_port()}") or "")


@pytest.mark.parametrize(
    ("says", "seconds"), [(b"", probe.TRAEFIK_LOOKS), (b"SSH-2.0-OpenSSH_9.2\r\n", probe.NEVER)]
)
def test_a_server_that_hangs_up_may_be_starting_and_one_with_another_protocol_is_no_mirror(
    says: bytes, seconds: float
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with (
                connection,
                contextlib.suppress(OSError),
            ):  # once it has what it does not understand, the other side is gone
                connection.recv(4096)
                connection.sendall(says)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(4096)

        server = threading.Thread(target=answer)
        server.start()
        found = probe.ask(f"https://localhost:{listening.getsockname()[1]}")
        server.join()
    assert "does not speak TLS there" in (found.fault or "")
    assert found.passes_within == seconds


def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        assert "did not answer within" in (
            probe.fault(f"https://127.0.0.1:{silent.getsockname()[1]}") or ""
        )
        assert time.monotonic() - started < 2


def test_a_mirror_that_is_moving_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    server.answers = [(404, False), (502, False), (200, True)]
    assert probe.fault(server.url, patience=10) is None
    assert server.asked == 3


class Clock:
    """Stands in for the module `time`: a second that is slept is over at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_what_only_traefik_can_change_is_waited_for_as_long_as_traefik_takes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(probe, "time", clock)
    server.answers = [(403, False), (403, False), (200, True)]
    assert probe.fault(server.url, patience=90) is None
    server.answers = [(403, False)]
    clock.now = 0.0
    assert "does allowFrom have its address?" in (probe.fault(server.url, patience=90) or "")
    assert 15 < clock.now < 30


def test_what_does_not_get_better_by_waiting_is_not_waited_for(server: Server) -> None:
    server.answers = [(401, True)]
    assert probe.fault(server.url, patience=60) is not None
    assert server.asked == 1


def test_a_layer_that_nobody_has_is_asked_for_below_the_path_of_a_registry(server: Server) -> None:
    server.registry = "ghcr.io"
    answer = probe.nobodys_layer(server.url, "ghcr.io/owner/app")
    assert answer == probe.NobodysLayer(404, "ghcr.io")
    (path,) = server.blobs
    assert path.startswith("/v2/ghcr.io/owner/app/blobs/sha256:")


@pytest.mark.parametrize(
    ("status", "refused", "answered"), [(404, "401", 401), (404, "403", 403), (503, "", 503)]
)
def test_what_the_upstream_says_to_the_mirror_comes_before_what_the_mirror_makes_of_it(
    server: Server, status: int, refused: str, answered: int
) -> None:
    server.upstream_status, server.refused = status, refused
    answer = probe.nobodys_layer(server.url, "ghcr.io/owner/app")
    assert answer is not None
    assert answer.status == answered


def test_the_registrys_words_come_with_an_answer_that_is_its_own(server: Server) -> None:
    server.upstream_status = 500
    server.said = {"errors": [{"code": "UNKNOWN", "detail": "dial tcp: no route to host"}]}
    answer = probe.nobodys_layer(server.url, "ghcr.io/owner/app")
    assert answer == probe.NobodysLayer(500, said="dial tcp: no route to host")


def test_a_404_that_is_no_registrys_is_no_answer_and_nobody_there_is_a_failure(
    server: Server,
) -> None:
    server.is_registry = False
    assert probe.nobodys_layer(server.url, "ghcr.io/owner/app") == probe.NobodysLayer(0)
    nobody = probe.nobodys_layer(f"https://localhost:{free_port()}", "ghcr.io/owner/app")
    assert nobody is not None
    assert nobody.failure is not None
    assert probe.nobodys_layer(server.url, "x", "socks5://proxy.test:1080") is None
