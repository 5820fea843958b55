"""Which registries besides the one at the root the mirror reaches, and what is wrong where it does
not."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import probe, registries
from components.registry_mirror.node_agent.registries import Challenge, Fault
from components.registry_mirror.node_agent.request import CachedRegistry

CASES = Path(__file__).parent / "cases"
URL = "https://mirror.example.com"


def registry(name: str = "ghcr.io", **more: Any) -> CachedRegistry:
    settings = {"upstream": f"https://{name}", "repository": "owner/app", "is_known": True}
    return CachedRegistry(**{"name": name, "path": name, **settings, **more})


@pytest.mark.parametrize("path", sorted((CASES / "reach").glob("*.json")), ids=lambda p: p.stem)
def test_what_an_answer_says_of_a_registry(path: Path) -> None:
    case = json.loads(path.read_text())
    challenge = None if case["challenge"] is None else Challenge(**case["challenge"])
    fault = registries.judge(registry(**case["registry"]), case["status"], challenge)
    if case["fault"] is None:
        assert fault is None
    else:
        assert fault is not None
        assert f"[{case['fault']}]" in fault.reason
        assert case["registry"]["name"] in fault.reason
        assert fault.final is case["final"]


@pytest.mark.parametrize(
    "case", json.loads((CASES / "realms.json").read_text()), ids=lambda case: case["why"]
)
def test_a_realm_is_foreign_where_distribution_asks_it_for_no_token(case: dict[str, Any]) -> None:
    assert registries.is_foreign(case["upstream"], case["realm"]) is case["foreign"]


def test_the_host_of_a_foreign_realm_is_shown_and_nothing_else_of_it() -> None:
    realm = "https://user:secret@auth.test\x1b2J/token?key=secret"
    fault = registries.judge(registry(), 401, Challenge(401, realm))
    assert fault is not None
    assert "auth.test" in fault.reason
    assert "secret" not in fault.reason
    assert "\x1b" not in fault.reason


class Upstream:
    """An upstream on loopback that answers `/v2/` with a challenge."""

    def __init__(self) -> None:
        self.headers: list[str] = []
        self.status = 401
        self.asked: list[dict[str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append({"path": self.path, **dict(self.headers.items())})
                self.send_response(outer.status)
                for value in outer.headers:
                    self.send_header("WWW-Authenticate", value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    running = Upstream()
    yield running
    running.server.shutdown()


@pytest.mark.parametrize(
    ("headers", "realm"),
    [
        (['Bearer realm="https://ghcr.io/token",service="ghcr.io"'], "https://ghcr.io/token"),
        (['bearer service="x", scope="a,b", realm="https://a.test/t"'], "https://a.test/t"),
        (['Basic realm="registry"'], ""),
        (['Basic realm="registry"', 'Bearer realm="https://a.test/t"'], "https://a.test/t"),
        ([], ""),
    ],
)
def test_the_challenge_of_an_upstream_has_the_url_of_its_token_server(
    upstream: Upstream, headers: list[str], realm: str
) -> None:
    upstream.headers = headers
    assert registries.challenge(upstream.url) == Challenge(401, realm)


def test_an_upstream_is_asked_for_its_challenge_without_credentials(upstream: Upstream) -> None:
    registries.challenge(upstream.url)
    (asked,) = upstream.asked
    assert asked["path"] == "/v2/"
    assert not [name for name in asked if name.lower() in ("authorization", "cookie")]


def test_an_upstream_that_cannot_be_asked_has_no_challenge(upstream: Upstream) -> None:
    assert registries.challenge("http://127.0.0.1:9") is None
    assert registries.challenge(upstream.url.replace("http:", "https:")) is None


class Mirror:
    """What a mirror answers for each repository, and after how many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, probe.NobodysLayer | None] = {}
        self.seconds: dict[str, float] = {}
        self.challenges: dict[str, Challenge] = {}
        self.challenged: list[str] = []
        monkeypatch.setattr(probe, "nobodys_layer", self.ask)
        monkeypatch.setattr(registries, "challenge", self.challenge)

    def ask(self, url: str, repository: str, proxy: str | None) -> probe.NobodysLayer | None:
        time.sleep(self.seconds.get(repository, 0))
        answer = self.answers[repository]
        return answer and answer._replace(path=answer.path or repository.partition("/")[0])

    def challenge(self, url: str) -> Challenge | None:
        self.challenged.append(url)
        return self.challenges.get(url)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Mirror:
    return Mirror(monkeypatch)


def test_a_silent_registry_takes_nobody_elses_time_and_is_named(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "ROUND_SECONDS", 1)
    names = ["a.test", "b.test", "silent.test"]
    mirror.answers = {f"{name}/owner/app": probe.NobodysLayer(404) for name in names}
    mirror.seconds = {"silent.test/owner/app": 5, "a.test/owner/app": 0.5, "b.test/owner/app": 0.5}
    started = time.monotonic()
    found = registries.faults(URL, [registry(name) for name in reversed(names)])
    assert time.monotonic() - started < 2
    assert list(found) == ["silent.test"]
    assert "[RM240]" in found["silent.test"].reason


def test_an_upstream_is_asked_for_its_challenge_only_where_that_explains_something(
    mirror: Mirror,
) -> None:
    statuses = {"a.test": 404, "b.test": 503, "c.test": 429, "d.test": 401, "e.test": 500}
    mirror.answers = {f"{name}/owner/app": probe.NobodysLayer(statuses[name]) for name in statuses}
    registries.faults(URL, [registry(name) for name in statuses])
    assert sorted(mirror.challenged) == ["https://d.test", "https://e.test"]


def test_the_registrys_own_words_are_added(mirror: Mirror) -> None:
    mirror.answers = {
        "ghcr.io/owner/app": probe.NobodysLayer(500, said="dial tcp: no route to host")
    }
    fault = registries.fault(URL, registry())
    assert fault is not None
    assert fault.reason.endswith("; the registry says: dial tcp: no route to host")


def test_a_mirror_that_does_not_answer_says_so_itself(mirror: Mirror) -> None:
    mirror.answers = {"ghcr.io/owner/app": probe.NobodysLayer(0, failure="refused [RM164]")}
    assert registries.fault(URL, registry()) == Fault("refused [RM164]")


def test_where_only_docker_could_ask_nothing_is_wrong(mirror: Mirror) -> None:
    mirror.answers = {"ghcr.io/owner/app": None}
    assert registries.faults(URL, [registry()]) == {}


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_answer_of_another_registry_says_nothing_of_this_one(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Varnish that does not know a registry yet asks Docker Hub, which has no such layer."""
    for path in ("", "quay.io"):
        answer = probe.NobodysLayer(status, path)
        monkeypatch.setattr(probe, "nobodys_layer", lambda *_, answer=answer: answer)
        fault = registries.fault(URL, registry(is_known=False))
        assert fault is not None
        assert "[RM245]" in fault.reason
        assert not fault.final, "Traefik may take the new task over"
