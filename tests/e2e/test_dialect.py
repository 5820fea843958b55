"""What docker 28 and 29 with the containerd image store ask a mirror: answered whole, soon, or not
begun.

Real Varnish and registry (tests/chain.py); no lab is started.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.registry_mirror.render import varnish
from components.registry_mirror.render.varnish import REFERRERS
from tests.chain import DOCKERS_ACCEPT, OCI_INDEX, Chain, Upstream, own_network, random_bytes

QUERIES = (
    "",
    "?ns=docker.io",
    "?ns=docker.io&artifactType=application%2Fvnd.dev.sigstore.bundle.v0.3%2Bjson",
)
SUBJECT = "1" * 64


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with own_network(), Chain(tmp_path_factory.mktemp("chain")) as found:
        found.wait_until_ready()
        yield found


@pytest.fixture
def chain(running: Chain) -> Iterator[Chain]:
    well()
    Upstream.content = running.content  # another chain may have put its own there
    running.reset()
    yield running
    well()


def well() -> None:
    Upstream.refusal, Upstream.cut, Upstream.silent, Upstream.broken_off_at = 0, False, False, []


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository of the test's own, so that nothing of it is cached."""
    return f"library/d{abs(hash(request.node.nodeid)) % 10**12}"


@pytest.mark.parametrize("query", QUERIES)
def test_an_image_has_no_referrers_and_the_upstream_is_not_asked_for_them(
    chain: Chain, name: str, query: str
) -> None:
    path = f"/v2/{name}/referrers/sha256:{SUBJECT}{query}"
    answer, head = chain.get(path), chain.get(path, method="HEAD")
    assert (answer.status, answer.headers["Content-Type"]) == (200, OCI_INDEX)
    assert json.loads(answer.body) == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    assert (head.status, head.headers["Content-Length"], head.body) == (
        200,
        str(len(answer.body)),
        b"",
    )
    assert not Upstream.requests


def test_where_they_are_the_upstreams_a_client_is_sent_there(tmp_path: Path) -> None:
    assert "upstream" in REFERRERS
    with own_network(), Chain(tmp_path, referrers="upstream") as chain:
        chain.wait_until_ready()
        assert chain.get(f"/v2/library/x/referrers/sha256:{SUBJECT}?ns=docker.io").status == 404


def silent() -> None:
    Upstream.silent = True


def cut() -> None:
    Upstream.cut = True


def broken() -> None:
    Upstream.refusal = 500


@pytest.mark.parametrize(
    "ill", [None, silent, cut, broken], ids=["well", "silent", "cut off", "500"]
)
def test_a_tag_that_stands_for_referrers_is_not_there_whatever_the_upstream_is(
    chain: Chain, name: str, ill: Callable[[], None] | None
) -> None:
    """Of a 503 containerd makes a pull that fails."""
    if ill:
        ill()
    started = time.monotonic()
    answer = chain.get(f"/v2/{name}/manifests/sha256-{SUBJECT}?ns=docker.io", DOCKERS_ACCEPT)
    assert answer.status == 404, answer.body
    assert json.loads(answer.body)["errors"][0]["code"] == "MANIFEST_UNKNOWN"
    assert time.monotonic() - started < 7


def test_one_that_is_there_is_served_even_when_the_upstream_is_unavailable(
    chain: Chain, name: str
) -> None:
    tag = f"sha256-{SUBJECT}"
    digest = chain.content.manifest(name, OCI_INDEX, {"manifests": []}, tag)
    assert chain.get(f"/v2/{name}/manifests/{tag}", DOCKERS_ACCEPT).digest == digest
    Upstream.silent = True
    time.sleep(1.1)  # a tag is Varnish's for a second
    assert chain.get(f"/v2/{name}/manifests/{tag}?ns=docker.io", DOCKERS_ACCEPT).digest == digest


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("query", QUERIES[:2])
def test_a_head_of_a_tag_says_digest_and_length(
    chain: Chain, name: str, query: str, warm: bool
) -> None:
    """Or containerd fetches it to find them out (core/remotes/docker/resolver.go)."""
    index, _ = chain.content.image(name, [b"layer"], docker=False)
    length = len(chain.content.answers[f"/v2/{name}/manifests/{index}"][1])
    path = f"/v2/{name}/manifests/latest"
    if warm:
        chain.get(path, DOCKERS_ACCEPT)
    answer = chain.get(path + query, DOCKERS_ACCEPT, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Docker-Content-Digest"] == index
    assert answer.headers["Content-Length"] == str(length)
    assert answer.headers["Content-Type"] == OCI_INDEX


def test_a_layer_is_resumed_by_a_client_that_names_the_registry(chain: Chain, name: str) -> None:
    layer = random_bytes(3_000_000)
    _, blobs = chain.content.image(name, [layer])
    path = f"/v2/{name}/blobs/{blobs[0]}?ns=docker.io"
    first = chain.get(path, headers={"Range": "bytes=0-999999"})
    rest = chain.get(path, headers={"Range": "bytes=1000000-"})
    assert (first.status, rest.status) == (206, 206)
    assert rest.headers["Content-Range"] == "bytes 1000000-2999999/3000000"
    assert first.body + rest.body == layer
    assert chain.sent() == len(layer)


def test_a_silent_upstream_costs_a_pull_one_wait_and_takes_nothing_that_is_cached_away(
    tmp_path: Path,
) -> None:
    """A pull asks for one thing after the other; each in vain, for as long as the first, would be
    minutes."""
    with own_network(), Chain(tmp_path) as chain:
        chain.wait_until_ready()
        _, blobs = chain.content.image(
            "library/x", [random_bytes(200_000, seed) for seed in range(5)]
        )
        for kept in blobs[:2]:
            assert chain.get(f"/v2/library/x/blobs/{kept}").status == 200
        # What is cached is the registry's alone.
        chain.inside(
            "varnishadm", "-n", "/tmp/varnish", "ban", "req.url ~ /blobs/"
        ).check_returncode()
        Upstream.silent = True
        started = time.monotonic()
        assert chain.get("/v2/library/x/manifests/never-seen", DOCKERS_ACCEPT).status == 503
        assert 8 < time.monotonic() - started < 13
        for missing in blobs[2:]:
            assert chain.get(f"/v2/library/x/blobs/{missing}?ns=docker.io").status == 503
        assert time.monotonic() - started < 20
        for kept in blobs[:2]:
            assert chain.get(f"/v2/library/x/blobs/{kept}?ns=docker.io").digest == kept
        # It is healthy again: no client waits until the mirror believes it.
        Upstream.silent = False
        assert chain.get(f"/v2/library/x/blobs/{blobs[4]}").digest == blobs[4]


def test_a_body_that_broke_off_is_not_begun_again_until_all_of_it_is_there(
    chain: Chain, name: str
) -> None:
    """Docker with a containerd store has no image where a body breaks off; where none is begun it
    goes to the upstream."""
    layer = random_bytes(6_000_000)
    _, blobs = chain.content.image(name, [layer])
    path = f"/v2/{name}/blobs/{blobs[0]}?ns=docker.io"
    Upstream.broken_off_at = [2_000_000] * 20
    first = chain.receive(path)
    assert not first.complete, (
        "the first client had it from the first byte on, and sees that it is too short"
    )
    for _ in range(3):
        again = chain.receive(path)
        assert again.status == 503, "a second one is told at once to go elsewhere"
    Upstream.broken_off_at = []
    whole = chain.receive(path)
    assert (whole.status, whole.digest) == (200, blobs[0]), "nothing of what broke off is kept"


def test_bodies_that_came_whole_are_sent_from_their_first_byte_on(chain: Chain, name: str) -> None:
    """The memory of what broke off costs nobody else a wait: a layer is with its clients while it
    still arrives."""
    layer = random_bytes(4_000_000)
    _, blobs = chain.content.image(name, [layer])
    Upstream.rate = 2_000_000
    try:
        started = time.monotonic()
        response = chain.open(f"/v2/{name}/blobs/{blobs[0]}")
        response.read(1)
        assert time.monotonic() - started < 1
        assert len(chain.rest(response).body) == len(layer) - 1
    finally:
        Upstream.rate = 0


def test_whether_varnish_answers_is_asked_of_it_alone(chain: Chain) -> None:
    """Traefik's question: a registry or an upstream that is unavailable must not keep clients from
    what Varnish has."""
    Upstream.silent = True
    answers = [chain.get(varnish.HEALTH_PATH, method=method) for method in ("GET", "HEAD")]
    assert [(answer.status, answer.body) for answer in answers] == [(204, b""), (204, b"")]
    assert not Upstream.requests
    assert chain.get(f"{varnish.HEALTH_PATH}?x").status == 404
