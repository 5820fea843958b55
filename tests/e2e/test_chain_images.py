"""An image into the cache and out of it, with the programs that the verbs `warm` and `purge` take
to a node: real Varnish and registries (tests/chain.py); no lab is started."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import containers, manifests, probe, purge, warm
from components.registry_mirror.node_agent.verb_request import (
    BanRequest,
    PurgeRequest,
    WarmImage,
    WarmRequest,
)
from components.registry_mirror.render.registries import Behind
from tests.chain import (
    DOCKERS_ACCEPT,
    Chain,
    SecondUpstream,
    Upstream,
    own_network,
    random_bytes,
    to_varnish,
)

GHCR = Behind("ghcr.io", aliases=["lscr.io"])
MB = 1_000_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with own_network(), Chain(tmp_path_factory.mktemp("chain"), second=GHCR) as chain:
        chain.wait_until_ready()
        chain.wait_for(lambda: chain.get("/v2/ghcr.io/owner/x/manifests/no").status == 404)
        yield chain


@pytest.fixture
def chain(running: Chain, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    """With docker's `exec` and the way by HTTPS in the place of which stands what they lead to."""

    def run_in(container: str, *command: str) -> str:
        if container == "varnish":
            done = running.inside(*command)
        else:
            # The registry's container sees its cache there and nothing else of this machine.
            inside = ["unshare", "--mount", "sh", "-c", IN_A_CONTAINER, str(running.folder)]
            done = subprocess.run([*inside, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    monkeypatch.setattr(probe, "connection_to", to_varnish)
    monkeypatch.setattr(containers, "of_service", lambda service: [service])
    monkeypatch.setattr(containers, "run_in", run_in)
    running.reset()
    SecondUpstream.sent.clear()
    yield running
    Upstream.rate, Upstream.refusal, Upstream.broken_off_at = 0, 0, []


IN_A_CONTAINER = """
mkdir -p /var/lib/registry && mount --bind "$0/cache" /var/lib/registry &&
  mount -o remount,ro,bind "$0" 2> /dev/null; exec "$@"
"""


def warmed(
    *images: tuple[str, str], platforms: list[str] | None = None, **more: Any
) -> list[warm.Warmed]:
    """What comes of `(path at the mirror, reference)`."""
    entries = [WarmImage(f"{path}:{reference}", path, reference) for path, reference in images]
    request = WarmRequest("https://mirror", "/d.json", "docker", entries, **{"seconds": 60, **more})
    reader = warm.Reader(request, None, platforms or ["linux/amd64", "linux/arm64"])
    return [reader.warm(image) for image in entries]


def from_the_cache(chain: Chain, path: str, blob: str) -> bool:
    """Whether a client gets a layer without its upstream."""
    before = chain.sent() + sum(SecondUpstream.sent.values())
    assert chain.get(f"/v2/{path}/blobs/{blob}").digest == blob
    return chain.sent() + sum(SecondUpstream.sent.values()) == before


def test_an_image_is_fetched_once_and_is_there_for_whoever_asks_then(chain: Chain) -> None:
    layers = [random_bytes(3 * MB, seed=1), random_bytes(2 * MB, seed=2)]
    digest, blobs = chain.content.image("library/warm", layers)
    (first,) = warmed(("library/warm", "latest"))
    assert (first.outcome, first.digest) == ("warm", digest)
    assert first.platforms == ["linux/amd64", "linux/arm64"]
    assert first.blobs == 4, "two layers, and a configuration for each platform"
    assert first.fetched == first.size == sum(len(chain.content.answers[at][1]) for at in of(blobs))
    sent = chain.sent()
    assert all(from_the_cache(chain, "library/warm", blob) for blob in blobs)
    (ban,) = [purge.ban(BanRequest("varnish", "library/warm"))]
    assert ban == "1"
    chain.reset()
    (again,) = warmed(("library/warm", "latest"))
    assert (again.outcome, again.fetched, again.size) == ("warm", 0, first.size)
    assert chain.sent() < 10_000 < sent, "manifests may be asked for again; layers may not"


def of(blobs: list[str]) -> list[str]:
    return [f"/v2/library/warm/blobs/{blob}" for blob in blobs]


def test_only_the_platforms_of_the_nodes_are_fetched(chain: Chain) -> None:
    _, blobs = chain.content.image("library/one", [random_bytes(MB, seed=3)])
    (found,) = warmed(("library/one", "latest"), platforms=["linux/arm64"])
    assert (found.blobs, found.platforms) == (2, ["linux/arm64"])
    fetched = {path.rpartition("/")[2] for path in Upstream.requests if "/blobs/" in path}
    assert fetched == {blobs[0], blobs[2]}, "its layer, and the second configuration"
    (none,) = warmed(("library/one", "latest"), platforms=["linux/s390x"])
    assert (none.outcome, "linux/s390x" in none.reason) == ("failed", True)
    (some,) = warmed(("library/one", "latest"), platforms=["linux/amd64", "linux/s390x"])
    assert (some.outcome, "linux/s390x" in some.reason) == ("warm", True)


def test_an_image_that_does_not_exist_is_named_and_the_rest_goes_on(chain: Chain) -> None:
    digest, _ = SecondUpstream.content.image("owner/app", [random_bytes(MB, seed=4)])
    nobody, mine = warmed(("library/nobody", "1"), ("ghcr.io/owner/app", "latest"))
    assert (nobody.outcome, "RM264" in nobody.reason) == ("failed", True)
    assert (mine.outcome, mine.digest) == ("warm", digest)


def test_an_upstream_that_refuses_or_is_away_is_told_from_an_image_that_does_not_exist(
    chain: Chain,
) -> None:
    chain.content.image("library/away", [random_bytes(MB, seed=5)])
    Upstream.refusal = 401
    (private,) = warmed(("library/away", "latest"))
    assert (private.outcome, "RM263" in private.reason) == ("failed", True)
    Upstream.refusal = 500
    (away,) = warmed(("library/away", "latest"))
    assert away.outcome == "failed"
    assert "RM265" in away.reason or "RM266" in away.reason


def test_a_layer_that_breaks_off_is_fetched_again(chain: Chain) -> None:
    digest, _ = chain.content.image("library/broken", [random_bytes(3 * MB, seed=6)])
    Upstream.broken_off_at = []
    chain.get("/v2/library/broken/manifests/latest", DOCKERS_ACCEPT)
    for each in manifests.read(
        chain.get("/v2/library/broken/manifests/latest", DOCKERS_ACCEPT).body
    )["manifests"]:
        chain.get(f"/v2/library/broken/manifests/{each['digest']}", DOCKERS_ACCEPT)
    Upstream.broken_off_at = [100, 2 * MB]
    (found,) = warmed(("library/broken", "latest"))
    assert (found.outcome, found.digest) == ("warm", digest), found.reason
    assert Upstream.broken_off_at == []


def test_the_bandwidth_is_kept_on_average(chain: Chain) -> None:
    chain.content.image("library/slow", [random_bytes(4 * MB, seed=7), random_bytes(MB, seed=8)])
    (found,) = warmed(("library/slow", "latest"), bandwidth=2 * MB)
    assert found.outcome == "warm"
    assert 2 <= found.seconds <= 6, "5 MB at 2 MB/s"
    chain.content.image("library/late", [random_bytes(4 * MB, seed=9), random_bytes(MB, seed=10)])
    late, after = warmed(
        ("library/late", "latest"), ("library/slow", "latest"), bandwidth=MB // 2, seconds=2
    )
    assert (late.outcome, after.outcome) == ("skipped", "skipped")
    assert "RM258" in late.reason


# ------------------------------------------------------------------------------------------- purge


def request(repository: str, reference: str = "latest", folder: str = "") -> PurgeRequest:
    return PurgeRequest("registry", folder, repository, reference)


def test_an_image_that_was_purged_is_fetched_again_and_no_other_one_is(chain: Chain) -> None:
    shared, own = random_bytes(2 * MB, seed=11), random_bytes(3 * MB, seed=12)
    _, mine = chain.content.image("library/gone", [shared, own])
    _, theirs = chain.content.image("library/stays", [shared])
    warmed(("library/gone", "latest"), ("library/stays", "latest"))
    found = answer(purge.look(request("library/gone")))
    assert found == {"here": True, "tags": ["latest"], "manifests": 3, "layers": 1, "bytes": 0}
    gone = answer(purge.run(request("library/gone")))
    assert gone["layers"] == 1
    assert gone["bytes"] > len(own)
    assert purge.ban(BanRequest("varnish", "library/gone")) == "1"
    chain.reset()
    assert from_the_cache(chain, "library/stays", theirs[0])
    assert not from_the_cache(chain, "library/gone", mine[1])
    left = answer(purge.look(request("library/gone")))
    assert (left["tags"], left["manifests"]) == ([], 0)
    chain.reset()
    (again,) = warmed(("library/gone", "latest"))
    assert again.outcome == "warm"
    assert from_the_cache(chain, "library/gone", mine[1])


def test_without_the_ban_varnish_would_serve_a_purged_image_on(chain: Chain) -> None:
    """Else the test above shows nothing of Varnish."""
    _, (layer, *_) = chain.content.image("library/kept", [random_bytes(MB, seed=13)])
    warmed(("library/kept", "latest"))
    chain.get(f"/v2/library/kept/blobs/{layer}")
    purge.run(request("library/kept"))
    assert from_the_cache(chain, "library/kept", layer)
    purge.ban(BanRequest("varnish", "library/kept"))
    assert not from_the_cache(chain, "library/kept", layer)


def test_an_image_of_another_registry_is_purged_from_its_own_store(chain: Chain) -> None:
    digest, (layer, *_) = SecondUpstream.content.image("owner/two", [random_bytes(MB, seed=14)])
    _, (hub, *_) = chain.content.image("owner/two", [random_bytes(MB, seed=15)])
    warmed(("ghcr.io/owner/two", "latest"), ("owner/two", "latest"))
    gone = answer(purge.run(request("owner/two", digest, "registries/ghcr.io")))
    assert (gone["tags"], gone["manifests"]) == (["latest"], 3)
    purge.ban(BanRequest("varnish", "ghcr.io/owner/two"))
    assert not from_the_cache(chain, "ghcr.io/owner/two", layer)
    assert from_the_cache(chain, "owner/two", hub)


def test_another_tag_of_the_repository_keeps_what_it_needs(chain: Chain) -> None:
    shared, own = random_bytes(MB, seed=16), random_bytes(MB, seed=17)
    _, one = chain.content.image("library/tags", [shared, own], tag="1")
    two, _ = chain.content.image("library/tags", [shared], tag="2")
    warmed(("library/tags", "1"), ("library/tags", "2"))
    gone = answer(purge.run(request("library/tags", "1")))
    assert (gone["tags"], gone["layers"]) == (["1"], 1)
    purge.ban(BanRequest("varnish", "library/tags"))
    chain.reset()
    manifest = chain.get("/v2/library/tags/manifests/2", DOCKERS_ACCEPT)
    assert manifest.digest == two
    assert from_the_cache(chain, "library/tags", one[0])
    assert not from_the_cache(chain, "library/tags", one[1])


def test_what_is_not_there_is_no_failure_and_nothing_is_touched(chain: Chain) -> None:
    before = listing(chain)
    found = answer(purge.run(request("library/never")))
    assert found == {"here": True, "tags": [], "manifests": 0, "layers": 0, "bytes": 0}
    assert listing(chain) == before


def test_no_link_on_the_way_is_followed(chain: Chain, tmp_path: Path) -> None:
    """Whoever may write to the storage could lead the way out of it."""
    chain.content.image("library/linked", [random_bytes(MB, seed=18)])
    warmed(("library/linked", "latest"))
    repositories = chain.folder / "cache/docker/registry/v2/repositories/library"
    outside = tmp_path / "outside"
    (repositories / "linked").rename(outside)
    (repositories / "linked").symlink_to(outside)
    before = sorted(map(str, outside.rglob("*")))
    found = answer(purge.run(request("library/linked")))
    assert (found["tags"], found["manifests"], found["layers"]) == ([], 0, 0)
    assert sorted(map(str, outside.rglob("*"))) == before


def answer(text: str) -> dict[str, Any]:
    return dict(manifests.read(text.encode()))


def listing(chain: Chain) -> list[str]:
    return sorted(map(str, (chain.folder / "cache").rglob("*")))
