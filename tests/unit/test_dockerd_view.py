"""How dockerd gets to the mirror: its proxy (one JSON file per claim under cases/no_proxy/), its
authorities, and its own word.

The rules of NO_PROXY are those of Go's golang.org/x/net/http/httpproxy. dockerd's API is a real
socket here.
"""

import http.server
import json
import os
import socketserver
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from components.registry_mirror.node_agent import dockerd_view, engine
from tests.serving import in_background

CASES = Path(__file__).parent / "cases" / "no_proxy"
URL = "https://mirror.example.com"
IMAGE = "library/hello-world:latest"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_whether_docker_goes_through_its_proxy(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    assert (
        dockerd_view.goes_through_proxy(urlsplit(case["url"]), case["no_proxy"])
        is case["through_proxy"]
    )


class Daemon:
    """A dockerd's API on a socket, and the rest of its machine."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.status, self.body = 200, b"{}"
        self.wait = 0.0
        self.host = f"unix://{folder}/docker.sock"
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                time.sleep(outer.wait)
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(outer.body)

            def address_string(self) -> str:
                return "local"

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = socketserver.ThreadingUnixStreamServer(f"{folder}/docker.sock", Handler)
        in_background(self.server)

    def run(self, *command: str, **_: Any) -> str:
        if command[0] == "systemctl":
            return str(os.getpid())
        assert command[:3] == ("docker", "context", "inspect")
        return self.host


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    monkeypatch.setattr(engine, "run", daemon.run)
    monkeypatch.setattr(engine, "has_systemd", lambda: True)
    yield daemon
    daemon.server.shutdown()
    daemon.server.server_close()


def test_docker_is_asked_for_the_image_by_the_mirrors_own_name(daemon: Daemon) -> None:
    assert dockerd_view.refusal("https://mirror.example.com:8443", IMAGE, {}, "docker", "") is None
    assert daemon.asked == ["/distribution/mirror.example.com:8443/library/hello-world:latest/json"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_anything_but_200_is_a_refusal_in_dockers_own_words(daemon: Daemon, status: int) -> None:
    daemon.status, daemon.body = (
        status,
        b'{"message": "Get \\"https://mirror.example.com/v2/\\": Forbidden"}',
    )
    refusal = dockerd_view.refusal(URL, IMAGE, {}, "docker", "") or ""
    assert refusal.startswith(
        "docker itself does not get library/hello-world:latest from https://mirror.example.com,"
        " though"
    )
    assert 'Get "https://mirror.example.com/v2/": Forbidden' in refusal


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"[]", b"null", b'{"message": 1}', b"[" * 3000, b"x" * 100_000]
)
def test_an_answer_that_is_no_error_of_dockers_is_one_line_all_the_same(
    daemon: Daemon, body: bytes
) -> None:
    daemon.status, daemon.body = 500, body
    refusal = dockerd_view.refusal(URL, IMAGE, {}, "docker", "") or ""
    assert "docker itself does not get" in refusal
    assert len(refusal) < 1000
    assert "\n" not in refusal


def test_a_docker_that_does_not_answer_is_given_up_in_time(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dockerd_view, "ASK_SECONDS", 0.2)
    daemon.wait = 2
    started = time.monotonic()
    assert "no answer within" in (dockerd_view.refusal(URL, IMAGE, {}, "docker", "") or "")
    assert time.monotonic() - started < 1.5


def test_a_docker_elsewhere_is_not_asked(daemon: Daemon) -> None:
    daemon.host = "tcp://192.0.2.1:2376"
    assert dockerd_view.refusal(URL, IMAGE, {}, "docker", "") is None
    assert daemon.asked == []


def test_a_docker_without_a_socket_is_a_refusal(daemon: Daemon, tmp_path: Path) -> None:
    daemon.host = f"unix://{tmp_path}/no.sock"
    assert "docker itself does not get" in (
        dockerd_view.refusal(URL, IMAGE, {}, "docker", "") or ""
    )


PROXIED = {"HttpsProxy": "http://xxxxx:xxxxx@proxy.example.com:3128", "NoProxy": "localhost"}


def test_a_proxy_is_named_without_its_account_and_with_the_remedy(daemon: Daemon) -> None:
    daemon.status = 500
    refusal = dockerd_view.refusal(URL, IMAGE, PROXIED, "docker", "") or ""
    assert (
        "it goes there through its proxy http://proxy.example.com:3128: add mirror.example.com to"
        " NO_PROXY" in refusal
    )
    assert "xxxxx" not in refusal


def test_an_authority_that_is_newer_than_docker_is_the_reason_that_is_given(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.status = 500
    bundle = tmp_path / "authorities.crt"
    bundle.touch()
    monkeypatch.setattr(dockerd_view, "SYSTEM_AUTHORITIES", ("/nowhere", str(bundle)))
    words = (
        f"{bundle} is newer than the running docker, which reads it at its start only: restart"
        " docker, or put the authority in"
    )
    assert words in (dockerd_view.refusal(URL, IMAGE, {}, "docker", "") or "")
    os.utime(bundle, (1, 1))
    assert "newer" not in (dockerd_view.refusal(URL, IMAGE, {}, "docker", "") or "")


def test_the_start_of_a_process_is_known(daemon: Daemon) -> None:
    started = dockerd_view.started_at("docker") or 0
    assert 0 <= time.time() - started < 24 * 3600
    assert started < Path(daemon.host.removeprefix("unix://")).stat().st_mtime + 1


def test_docker_without_a_proxy_goes_directly(daemon: Daemon) -> None:
    assert dockerd_view.proxy_of(URL, {"HttpsProxy": "", "NoProxy": ""}, "docker", "") is None
    assert dockerd_view.proxy_of(URL, {**PROXIED, "NoProxy": "example.com"}, "docker", "") is None


def test_the_account_of_a_proxy_comes_from_where_docker_has_it(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = "http://me:secret@proxy.example.com:3128"
    assert (
        dockerd_view.proxy_of(
            URL, PROXIED, "docker", json.dumps({"proxies": {"https-proxy": full}})
        )
        == full
    )
    assert dockerd_view.proxy_of(URL, PROXIED, "docker", "{ no JSON") == PROXIED["HttpsProxy"]
    monkeypatch.setattr(
        dockerd_view,
        "_environment",
        lambda unit: {"https_proxy": "me:secret@proxy.example.com:3128"},
    )
    assert dockerd_view.proxy_of(URL, PROXIED, "docker", "") == full
    monkeypatch.setattr(
        dockerd_view,
        "_environment",
        lambda unit: {"HTTPS_PROXY": "http://another.example.com:3128"},
    )
    assert dockerd_view.proxy_of(URL, PROXIED, "docker", "") == PROXIED["HttpsProxy"]
