"""Two registries behind one mirror: each is asked for its own images and for no other's.

Real Varnish and registries (tests/chain.py); no lab is started.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from components.registry_mirror.render.registries import Behind
from tests.chain import DOCKERS_ACCEPT, Chain, SecondUpstream, Upstream, own_network, random_bytes

GHCR = Behind("ghcr.io", aliases=["lscr.io"], repositories=["owner/*", "other/app"])


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    with own_network(), Chain(folder, second=GHCR, root_aliases=["hub.example.com"]) as running:
        running.wait_until_ready()
        running.wait_for(lambda: running.get("/v2/ghcr.io/owner/x/manifests/no").status == 404)
        yield running


def test_each_registry_is_asked_for_its_own_images_once(chain: Chain) -> None:
    layers = [random_bytes(3_000_000), random_bytes(3_000_000)]
    _, (first, *_) = chain.content.image("owner/app", layers[:1])
    _, (second, *_) = SecondUpstream.content.image("owner/app", layers[1:])
    paths = [f"/v2/owner/app/blobs/{first}", f"/v2/ghcr.io/owner/app/blobs/{second}"] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(chain.get, paths))
    assert [answer.digest for answer in answers] == [first, second] * 4
    assert Upstream.sent == {f"/v2/owner/app/blobs/{first}": 3_000_000}
    assert SecondUpstream.sent == {f"/v2/owner/app/blobs/{second}": 3_000_000}


def test_the_same_tag_of_two_registries_is_two_images(chain: Chain) -> None:
    mine, _ = chain.content.image("owner/same", [b"of the hub"])
    theirs, _ = SecondUpstream.content.image("owner/same", [b"of ghcr.io"])
    assert chain.get("/v2/owner/same/manifests/latest", DOCKERS_ACCEPT).digest == mine
    answer = chain.get("/v2/ghcr.io/owner/same/manifests/latest", DOCKERS_ACCEPT)
    assert answer.digest == theirs


def test_an_alias_is_the_registry_itself_under_another_path_and_kept_once(chain: Chain) -> None:
    layer = random_bytes(3_000_000, seed=7)
    digest, (blob, *_) = SecondUpstream.content.image("owner/alias", [layer])
    SecondUpstream.sent.clear()
    for name in ("lscr.io", "ghcr.io"):
        path = f"/v2/{name}/owner/alias"
        assert chain.get(f"{path}/manifests/latest", DOCKERS_ACCEPT).digest == digest
        assert chain.get(f"{path}/blobs/{blob}").digest == blob
    assert SecondUpstream.sent[f"/v2/owner/alias/blobs/{blob}"] == len(layer)


def test_an_alias_of_the_registry_at_the_root_is_that_one(chain: Chain) -> None:
    layer = random_bytes(3_000_000, seed=8)
    digest, (blob, *_) = chain.content.image("owner/alias", [layer])
    chain.reset()
    for prefix in ("/v2/hub.example.com", "/v2"):
        path = f"{prefix}/owner/alias"
        assert chain.get(f"{path}/manifests/latest", DOCKERS_ACCEPT).digest == digest
        assert chain.get(f"{path}/blobs/{blob}").digest == blob
    assert Upstream.sent[f"/v2/owner/alias/blobs/{blob}"] == len(layer)


def test_varnish_tells_which_registry_it_has_asked(chain: Chain) -> None:
    """Without which a 404 of Docker Hub is taken for that of a registry that is not known yet."""
    layer = "blobs/sha256:" + "0" * 64
    for name in ("ghcr.io", "lscr.io", "hub.example.com"):
        answer = chain.get(f"/v2/{name}/owner/nobody/{layer}", method="HEAD")
        assert (answer.status, answer.headers.get("Mirror-Registry")) == (404, name)
    for path in (f"/v2/owner/nobody/{layer}", f"/v2/quay.io/owner/nobody/{layer}"):
        answer = chain.get(path, method="HEAD", headers={"Mirror-Registry": "quay.io"})
        assert (answer.status, answer.headers.get("Mirror-Registry")) == (404, None)
    SecondUpstream.refusal = 401
    try:
        answer = chain.get(f"/v2/ghcr.io/owner/nobody/{layer}", method="HEAD")
        assert answer.headers.get("Mirror-Registry") == "ghcr.io"
        assert answer.headers.get("Mirror-Upstream-Status") == "401"
    finally:
        SecondUpstream.refusal = 0


@pytest.mark.parametrize("name", ["ghcr.io", "lscr.io", "hub.example.com"])
def test_no_path_below_an_alias_of_the_root_leads_to_another_registry(
    chain: Chain, name: str
) -> None:
    """It would be served from there, or be kept where that one's images are."""
    SecondUpstream.content.image("owner/inner", [b"of ghcr.io"])
    chain.content.image(f"{name}/owner/inner", [b"of the hub"])
    path = f"/v2/hub.example.com/{name}/owner/inner/manifests/latest"
    assert chain.get(path, DOCKERS_ACCEPT).status == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/lscr.io/owner/named/manifests/latest?ns=lscr.io", 200),
        ("/v2/lscr.io/owner/named/manifests/latest?ns=docker.io", 404),
        ("/v2/hub.example.com/owner/named/manifests/latest?ns=hub.example.com", 200),
        ("/v2/hub.example.com/owner/named/manifests/latest?ns=ghcr.io", 404),
        ("/v2/owner/named/manifests/latest?ns=hub.example.com", 200),
        ("/v2/lscr.io/a/b/manifests/latest", 404),
        ("/v2/ghcr.io/owner/named/manifests/latest?ns=ghcr.io", 200),
        ("/v2/ghcr.io/owner/named/manifests/latest?ns=lscr.io", 200),
        ("/v2/ghcr.io/owner/named/manifests/latest?ns=docker.io", 404),
        ("/v2/ghcr.io/owner/named/manifests/latest?ns=ghcr.io.evil.example", 404),
        ("/v2/owner/named/manifests/latest?ns=ghcr.io", 404),
        ("/v2/owner/named/manifests/latest?ns=docker.io", 200),
        ("/v2/owner/named/manifests/latest", 200),
    ],
)
def test_a_client_that_takes_the_mirror_for_another_registry_is_told_so(
    chain: Chain, path: str, status: int
) -> None:
    for content in (chain.content, SecondUpstream.content):
        content.image("owner/named", [b"named"])
    assert chain.get(path, DOCKERS_ACCEPT).status == status


@pytest.mark.parametrize(
    ("repository", "status"),
    [("owner/a", 200), ("owner/a/b", 200), ("other/app", 200), ("other/apps", 404), ("a/b", 404)],
)
def test_only_the_repositories_of_the_list_are_served(
    chain: Chain, repository: str, status: int
) -> None:
    SecondUpstream.content.image(repository, [repository.encode()])
    path = f"/v2/{repository}/manifests/latest"
    SecondUpstream.requests.clear()
    assert chain.get(f"/v2/ghcr.io{path[3:]}", DOCKERS_ACCEPT).status == status
    assert bool(SecondUpstream.requests) == (status == 200), "asked for what is not served"


@pytest.mark.parametrize("name", ["ghcr.io", "lscr.io", "hub.example.com"])
def test_a_list_of_tags_links_to_its_next_page_by_the_path_that_was_asked(
    chain: Chain, name: str
) -> None:
    content = chain.content if name == "hub.example.com" else SecondUpstream.content
    for tag in ("a", "b", "c"):
        content.image("owner/tags", [b"tags"], tag=tag)
    path, query = "/owner/tags/tags/list", "?n=2"
    page = json.dumps({"name": "owner/tags", "tags": ["a", "b"]}).encode()
    content.answers[f"/v2{path}{query}"] = ("application/json", page)
    content.links[f"/v2{path}{query}"] = f'</v2{path}{query}&last=b>; rel="next"'
    answer = chain.get(f"/v2/{name}{path}{query}")
    assert answer.status == 200
    assert answer.headers["Link"].startswith(f"</v2/{name}{path}?")


def test_a_silent_upstream_costs_the_other_registry_nothing(chain: Chain) -> None:
    digest, _ = chain.content.image("owner/lively", [b"lively"])
    SecondUpstream.silent = True
    try:
        assert chain.get("/v2/ghcr.io/owner/silent/manifests/latest", DOCKERS_ACCEPT).status >= 500
        Upstream.rate = 0
        answer = chain.get("/v2/owner/lively/manifests/latest", DOCKERS_ACCEPT, timeout=1)
        assert answer.digest == digest
    finally:
        SecondUpstream.silent = False
