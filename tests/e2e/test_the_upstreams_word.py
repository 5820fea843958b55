"""What a client gets when the upstream says no to the mirror, and how long a tag is served that the
upstream no longer has.

Real Varnish and registry (tests/chain.py); no lab is started.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.registry_mirror.render import registry
from tests.chain import DOCKERS_ACCEPT, REGISTRY, Answer, Chain, Upstream, own_network

NOBODYS = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with own_network(), Chain(tmp_path_factory.mktemp("chain")) as found:
        found.wait_until_ready()
        yield found


@pytest.fixture
def chain(running: Chain) -> Iterator[Chain]:
    Upstream.refusal = 0
    yield running
    Upstream.refusal = 0


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository of the test's own, so that nothing of it is cached."""
    return f"library/w{abs(hash(request.node.nodeid)) % 10**12}"


def answers(chain: Chain, path: str) -> list[Answer]:
    """By HEAD, as docker asks first, and by GET."""
    return [chain.get(path, DOCKERS_ACCEPT, method=method) for method in ("HEAD", "GET")]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_no_client_takes_the_upstreams_no_for_one_to_itself(
    chain: Chain, name: str, kind: str, status: int
) -> None:
    """A 401 has docker ask its user for a password, or report the 401 in place of the upstream's
    own answer."""
    Upstream.refusal = status
    head, get = answers(chain, f"/v2/{name}/{kind}/{NOBODYS}")
    for answer in (head, get):
        assert answer.status == 404
        assert answer.headers["Mirror-Upstream-Status"] == str(status), (
            "the gate tells it from one that is away"
        )
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        assert "WWW-Authenticate" not in answer.headers
    # Docker goes by the code in the body, whatever the status.
    (error,) = json.loads(get.body)["errors"]
    assert error["code"] == {"manifests": "MANIFEST_UNKNOWN", "blobs": "BLOB_UNKNOWN"}[kind]
    assert head.body == b""


def test_a_no_is_kept_for_nobody(chain: Chain, name: str) -> None:
    index, blobs = chain.content.image(name, [b"layer"])
    paths = [f"/v2/{name}/manifests/{index}", f"/v2/{name}/blobs/{blobs[0]}"]
    Upstream.refusal = 401
    assert [chain.get(path, DOCKERS_ACCEPT).status for path in paths] == [404, 404]
    Upstream.refusal = 0
    assert [chain.get(path, DOCKERS_ACCEPT).status for path in paths] == [200, 200]


@pytest.mark.parametrize(("status", "told"), [(404, 404), (429, 429), (500, 500), (503, 500)])
def test_every_other_no_is_passed_on_as_the_registry_words_it(
    chain: Chain, name: str, status: int, told: int
) -> None:
    """From 3.1.2 on; before, all but a layer's 404 was 500. Docker goes elsewhere after each of
    them."""
    Upstream.refusal = status
    for kind in ("manifests", "blobs"):
        for answer in answers(chain, f"/v2/{name}/{kind}/{NOBODYS}"):
            assert (answer.status, "Mirror-Upstream-Status" in answer.headers) == (told, False)


def test_the_registry_alone_passes_a_401_on_but_asks_for_nothing(chain: Chain, name: str) -> None:
    """What clients get where there is no Varnish (`coalesce: false`)."""
    Upstream.refusal = 401
    answer = chain.get(f"/v2/{name}/blobs/{NOBODYS}", address=REGISTRY, port=registry.PORT)
    assert (answer.status, "WWW-Authenticate" in answer.headers) == (401, False)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_what_is_in_the_cache_is_served_whatever_the_upstream_says(
    chain: Chain, name: str, status: int
) -> None:
    index, blobs = chain.content.image(name, [b"layer"])
    paths = [
        f"/v2/{name}/manifests/latest",
        f"/v2/{name}/manifests/{index}",
        f"/v2/{name}/blobs/{blobs[0]}",
    ]
    for path in paths:
        chain.get(path, DOCKERS_ACCEPT)
    Upstream.refusal = status
    time.sleep(1.5)  # Varnish knows a tag for a second
    assert [chain.get(path, DOCKERS_ACCEPT).status for path in paths] == [200] * 3


def link(chain: Chain, name: str) -> Path:
    return (
        chain.folder
        / "cache/docker/registry/v2/repositories"
        / name
        / "_manifests/tags/latest/current/link"
    )


def aged(chain: Chain, name: str) -> None:
    long_ago = time.time() - 40 * 86400
    os.utime(link(chain, name), (long_ago, long_ago))


def is_aged(chain: Chain, name: str) -> bool:
    return time.time() - link(chain, name).stat().st_mtime > 39 * 86400


def test_a_tag_that_was_deleted_is_served_as_long_as_the_registry_has_its_link(
    chain: Chain, name: str
) -> None:
    """It takes an upstream that says no for an unhealthy one. Without the link it has only its
    upstream's answer."""
    tag = f"/v2/{name}/manifests/latest"
    index, _ = chain.content.image(name, [b"layer"])
    assert chain.get(tag, DOCKERS_ACCEPT).digest == index
    del chain.content.answers[tag]
    time.sleep(1.5)
    assert [chain.get(tag, DOCKERS_ACCEPT).digest for _ in range(2)] == [index] * 2
    link(chain, name).unlink()
    time.sleep(1.5)
    assert [answer.status for answer in answers(chain, tag)] == [404, 404]
    assert chain.get(f"/v2/{name}/manifests/{index}", DOCKERS_ACCEPT).status == 200, (
        "by its digest it is right for ever"
    )
    # And it comes back with its tag.
    chain.content.image(name, [b"layer"])
    assert chain.get(tag, DOCKERS_ACCEPT).digest == index


def test_the_age_of_a_tags_link_is_the_time_since_the_upstream_confirmed_it(
    chain: Chain, name: str
) -> None:
    """By which `container/start-registry.sh` knows what to forget."""
    tag = f"/v2/{name}/manifests/latest"
    chain.content.image(name, [b"layer"])
    chain.get(tag, DOCKERS_ACCEPT)
    aged(chain, name)
    for status in (404, 401, 500):
        Upstream.refusal = status
        time.sleep(1.5)
        assert chain.get(tag, DOCKERS_ACCEPT).status == 200
        assert is_aged(chain, name)
    Upstream.refusal = 0
    time.sleep(1.5)
    assert chain.get(tag, DOCKERS_ACCEPT).status == 200
    assert not is_aged(chain, name)
