"""What strangers send to the mirror, and what strangers answer it: nothing that an honest client
gets depends on it.

Real Varnish and registry (tests/chain.py); no lab is started.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chain import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKERS_ACCEPT,
    OCI_INDEX,
    OCI_MANIFEST,
    REGISTRY,
    SERVICE,
    STRANGER,
    Chain,
    Upstream,
    own_network,
    random_bytes,
)
from tests.hostile_clients import Honest, accepts, headers, methods, send, targets


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with own_network(), Chain(tmp_path_factory.mktemp("chain")) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository of the test's own, so that nothing of it is cached."""
    return f"library/i{abs(hash(request.node.nodeid)) % 10**12}"


def test_a_layer_is_fetched_once_whatever_the_query_says(chain: Chain, name: str) -> None:
    """Case A: containerd adds ?ns=docker.io to every request."""
    layer = random_bytes(8_000_000)
    _, blobs = chain.content.image(name, [layer])
    Upstream.rate = 8_000_000
    chain.reset()
    paths = [
        f"/v2/{name}/blobs/{blobs[0]}{query}"
        for query in ("", "?ns=docker.io", "?ns=docker.io&x=1", "?9")
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(chain.get, paths * 2))
    Upstream.rate = 0
    assert {answer.digest for answer in answers} == {blobs[0]}
    assert chain.sent() == len(layer)
    # Kept as what it is: something named by its digest.
    age = [int(chain.get(path).headers["Age"]) for path in paths]
    assert min(age) >= 1


def test_no_query_is_a_key_of_the_cache(chain: Chain, name: str) -> None:
    _, blobs = chain.content.image(name, [b"layer"])
    before = objects(chain)
    for number in range(50):
        assert chain.get(f"/v2/{name}/blobs/{blobs[0]}?{number}").digest == blobs[0]
    assert objects(chain) - before <= 2


def objects(chain: Chain) -> int:
    """How many Varnish holds."""
    return chain.counter("MAIN.n_object")


HOSTILE_ACCEPTS = [
    f"x/oci.image.index, x/oci.image.manifest, x/distribution.manifest.list, {DOCKER_MANIFEST}",
    f"{DOCKER_LIST}x, {DOCKER_MANIFEST}",
    f"x{DOCKER_LIST}, {DOCKER_MANIFEST}",
    f'x/y;a="{DOCKER_LIST}, {OCI_INDEX}, {OCI_MANIFEST}", {DOCKER_MANIFEST}',
    f"{DOCKER_LIST};=, {DOCKER_MANIFEST}",
    DOCKER_MANIFEST,
    OCI_MANIFEST,
    "*/*",
    "",
]


@pytest.mark.parametrize("accept", HOSTILE_ACCEPTS)
def test_no_accept_of_one_client_changes_what_another_one_gets(
    chain: Chain, name: str, accept: str
) -> None:
    index, _ = chain.content.image(name, [b"layer"])
    chain.get(f"/v2/{name}/manifests/latest", accept)
    assert chain.get(f"/v2/{name}/manifests/latest", DOCKERS_ACCEPT).digest == index
    for shuffled in (
        DOCKERS_ACCEPT.replace(" ", ""),
        ", ".join(reversed(DOCKERS_ACCEPT.split(", "))),
        DOCKERS_ACCEPT.upper(),
    ):
        assert chain.get(f"/v2/{name}/manifests/latest", shuffled).digest == index


def test_a_tag_is_asked_for_again_whatever_the_query_pretends(chain: Chain, name: str) -> None:
    path = f"/v2/{name}/manifests/latest"
    first, _ = chain.content.image(name, [b"one"])
    assert chain.get(f"{path}?x=/manifests/sha256:{'0' * 64}", DOCKERS_ACCEPT).digest == first
    second, _ = chain.content.image(name, [b"two"])
    chain.wait_for(
        lambda: (
            chain.get(f"{path}?x=/manifests/sha256:{'0' * 64}", DOCKERS_ACCEPT).digest == second
        ),
        seconds=4,
    )


REFUSED = [
    "/v2/%5fcatalog",
    "/v2/_catalog",
    "/v2/_catalog?n=1",
    "/v2//_catalog",
    "/v2/./_catalog",
    "/v2/a/../_catalog",
    "//v2/_catalog",
    "/V2/library/x/manifests/latest",
    "/v2/Library/x/manifests/latest",
    "/v2/library//x/manifests/latest",
    "/v2/library/x/manifests/latest/",
    "/v2/library/x/blobs/latest",
    "/v2/library/x/blobs/sha256:0",
    "/v2/library/x/uploads/",
    "/v2/library/x/blobs/uploads/",
    "/v2/x/manifests/a%2fb",
    "/v2/x/manifests/..",
    "/metrics",
    "/debug/vars",
    "/debug/pprof/cmdline",
    "/",
    "/v2/x/manifests/" + "a" * 129,
    "/v2/" + "a/" * 400 + "manifests/latest",
    "/v2/" + "a-" * 300 + "/tags/list",
    "/v1/_ping",
    "/v2/x/tags/list/more",
    "/v2/x;y/manifests/latest",
    "/v2/x/manifests/la\\test",
]


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_no_part_of_a_pull_ends_in_varnish(chain: Chain, path: str) -> None:
    chain.reset()
    answer = chain.get(path)
    assert answer.status == 404
    assert b"Not part of a pull" in answer.body
    assert not Upstream.requests


def test_the_same_thing_in_other_spellings_is_the_same_thing(chain: Chain, name: str) -> None:
    index, _ = chain.content.image(name, [b"layer"], docker=False)
    for path in (
        f"/v2/{name}/manifests/{index.replace(':', '%3A')}",
        f"/v2/{name}/manifests/{index}?ns=docker.io",
    ):
        assert chain.get(path, DOCKERS_ACCEPT).digest == index
    assert chain.get("/v2").status == 200
    assert chain.get(f"/v2/{name}/tags/list?n=5&last=a&evil=1").status in (200, 404)


def test_varnish_runs_without_any_capability_on_a_read_only_root(chain: Chain) -> None:
    """As the service is declared: see `coalesce.LEAST_PRIVILEGE`."""
    children = [Path(f"/proc/{pid}") for pid in chain.varnish_processes()]
    assert len(children) >= 2
    for process in children:
        status = (process / "status").read_text()
        assert "CapBnd:\t0000000000000000" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        root = next(
            line for line in (process / "mounts").read_text().splitlines() if line.split()[1] == "/"
        )
        assert "ro" in root.split()[3].split(",")


def test_a_child_of_varnish_that_has_ended_for_good_is_started_again(chain: Chain) -> None:
    """As after a launch that failed because the disk was full: the manager goes on alone then, and
    answers the health check."""
    assert chain.inside("varnishadm", "-n", "/tmp/varnish", "stop").returncode == 0
    chain.wait_for(lambda: chain.get("/v2/").status == 200)
    assert "ended without starting again, and runs now" in chain.log.read_text()
    time.sleep(3)
    assert chain.log.read_text().count("and runs now") == 1, "one that runs is left alone"


def test_what_clients_send_at_random_changes_nothing_that_an_honest_one_gets(chain: Chain) -> None:
    """`make soak` does this for ten minutes."""
    images = [
        Honest(chain, f"library/random{number}", docker=number % 2 == 0) for number in range(30)
    ]
    paths = [path for image in images for path in image.paths]
    processes = chain.varnish_processes()

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.tuples(methods, targets(paths), accepts, headers), st.sampled_from(images))
    def attack(request: tuple[str, str, str, list[str]], image: Honest) -> None:
        send(*request)
        image.check(chain)

    attack()
    assert chain.varnish_processes() == processes
    assert chain.counter("MGT.child_panic") == 0


class Stranger(BaseHTTPRequestHandler):
    """Says yes to everything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"evil")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("a wildcard in the search domain", {f"tasks.{SERVICE}.corp.example": [STRANGER]}),
        ("whoever answers for the name itself", {f"tasks.{SERVICE}": [STRANGER]}),
        ("an address of this container's loopback", {f"tasks.{SERVICE}": ["127.9.9.9"]}),
    ],
)
def test_a_strangers_answer_for_the_registrys_name_is_not_believed(
    title: str, names: dict[str, list[str]], tmp_path: Path
) -> None:
    with own_network(), Chain(tmp_path, search="corp.example", names=names) as chain:
        for address in (STRANGER, "127.9.9.9"):
            chain.serve(address, 5000, Stranger)
        chain.wait_for(lambda: chain.get("/v2/").status == 503)
        chain.wait_for(lambda: chain.resolver.asked.count(f"tasks.{SERVICE}") > 1)
        assert chain.get("/v2/library/alpine/manifests/latest").status == 503
        # The swarm answers, then is silent, then a stranger answers: the last good one stays.
        chain.resolver.names = {f"tasks.{SERVICE}": [STRANGER, REGISTRY]}
        chain.wait_for(lambda: chain.get("/v2/").status == 200)
        index, _ = chain.content.image("library/alpine", [b"layer"])
        for answers in ({}, names):
            chain.resolver.names = answers
            seen = len(chain.resolver.asked)
            chain.wait_for(lambda seen=seen: len(chain.resolver.asked) > seen + 2)  # type: ignore[misc]
            assert chain.get("/v2/library/alpine/manifests/latest", DOCKERS_ACCEPT).digest == index
