"""What a layer costs that is asked for in parts, taken up again or broken off, and that it is right
(tests/chain.py; no lab)."""

import hashlib
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chain import OTHER_TASK, REGISTRY, SERVICE, VARNISH, Chain, Long, Upstream, own_network

MB = 1_000_000


# ---------------------------------------------------------------------------------- parts of a body


@pytest.fixture(scope="module")
def chains(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    with (
        own_network(),
        Chain(tmp_path_factory.mktemp("parts"), memory=64, disk=request.param) as chain,
    ):
        chain.wait_until_ready()
        yield chain


@pytest.fixture
def chain(chains: Chain) -> Iterator[Chain]:
    yield chains
    Upstream.rate, Upstream.broken_off_at = 0, []


ROOM, NO_ROOM = 256, 0
"""MiB on the disk beside 64 in memory: for a layer of 90 MB, or not."""
with_room = pytest.mark.parametrize("chains", [ROOM], indirect=True)
without_room = pytest.mark.parametrize("chains", [NO_ROOM], indirect=True)
sizes = pytest.mark.parametrize("mb", [1, 20, 90])
seeds = itertools.count(1)


def new_layer(chain: Chain, mb: int) -> tuple[Long, str]:
    """One that nobody has had, and its path; the upstream's counters at 0."""
    body = Long(mb * MB, next(seeds))
    path = f"/v2/library/parts/blobs/{chain.content.blob('library/parts', body)}"
    chain.reset()
    return body, path


def part_of(body: Long, start: int, size: int) -> str:
    return f"sha256:{hashlib.sha256(body[start : start + size]).hexdigest()}"


def as_containerd(chain: Chain, path: str, parts: int, workers: int, address: str = VARNISH) -> str:
    """What containerd 2.1 and later has at the end (core/remotes/docker/fetcher.go `open`): a first
    `bytes=0-`, and if that was answered as a range, further open ranges at the same time, of each
    of which it reads its part, whatever their status is."""
    first = chain.open(path, {"Range": "bytes=0-"}, address)
    size = int(first.headers["Content-Length"])
    if first.status == 200:
        return chain.rest(first).digest
    step = -(-size // parts)

    def part(number: int) -> bytes:
        response = (
            first
            if number == 0
            else chain.open(path, {"Range": f"bytes={number * step}-"}, address)
        )
        assert response.status < 300
        try:
            return response.read(step)
        finally:
            response.close()

    with ThreadPoolExecutor(workers) as pool:
        return f"sha256:{hashlib.sha256(b''.join(pool.map(part, range(parts)))).hexdigest()}"


@with_room
@sizes
def test_parts_of_a_cold_layer_that_are_fetched_at_the_same_moment_are_one_download(
    chain: Chain, mb: int
) -> None:
    body, path = new_layer(chain, mb)
    Upstream.rate = 30 * MB
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(lambda _: as_containerd(chain, path, 10, 4), range(3))) == {body.digest}
    assert chain.sent() == len(body)
    assert as_containerd(chain, path, 10, 4) == body.digest
    assert chain.sent() == len(body)


@with_room
@sizes
def test_a_download_that_is_taken_up_again_is_still_one_download(chain: Chain, mb: int) -> None:
    body, path = new_layer(chain, mb)
    step = mb * MB // 5
    Upstream.rate = 30 * MB
    for start in range(0, len(body), step):  # the client goes away after each part
        received = chain.receive(path, start, step)
        assert (received.status, received.digest) == (
            206 if start else 200,
            part_of(body, start, step),
        )
    assert chain.sent() == len(body)


@with_room
@sizes
def test_who_asks_how_large_a_layer_is_begins_the_one_download(chain: Chain, mb: int) -> None:
    body, path = new_layer(chain, mb)
    Upstream.rate = 30 * MB
    with ThreadPoolExecutor(4) as pool:
        begun = time.monotonic()
        answers = list(pool.map(lambda _: chain.get(path, method="HEAD"), range(4)))
        assert {answer.headers["Content-Length"] for answer in answers} == {str(len(body))}
        assert mb < 90 or time.monotonic() - begun < 2.5, "nobody waits for all of it"
    assert chain.receive(path).digest == body.digest
    assert chain.get(path, method="HEAD").headers["Content-Length"] == str(len(body))
    assert chain.sent() == len(body)


@without_room
def test_a_layer_that_there_is_no_room_for_is_not_fetched_once_for_each_part(chain: Chain) -> None:
    body, path = new_layer(chain, 90)
    Upstream.rate = 60 * MB
    assert as_containerd(chain, path, 10, 4) == body.digest
    assert chain.sent() == len(body)
    # The registry has it now: parts are parts all the way, as often as they are asked for.
    for _ in range(2):
        received = chain.receive(path, 45 * MB, 9 * MB)
        assert (received.status, received.digest) == (206, part_of(body, 45 * MB, 9 * MB))
    log = (chain.folder / f"registry-{REGISTRY}.log").read_text()
    assert f'blobs/{body.digest} HTTP/1.1" 206 ' in log
    assert chain.sent() == len(body)


@without_room
def test_resuming_what_there_is_no_room_for_costs_no_more_than_without_varnish_and_gives_the_right_bytes(  # noqa: E501
    chain: Chain,
) -> None:
    body, path = new_layer(chain, 90)
    Upstream.rate = 60 * MB
    for start in (30 * MB, 60 * MB):  # the first is a miss, the next is known to have no room
        received = chain.receive(path, start, 10 * MB)
        assert (received.status, received.digest) == (206, part_of(body, start, 10 * MB))
    time.sleep(1)  # what is on its way still
    assert chain.sent() < 2 * len(body), (
        "the bare registry answers each of them with the whole layer"
    )
    received = chain.receive(path, 30 * MB)
    assert (received.status, received.digest) == (206, part_of(body, 30 * MB, 60 * MB))
    chain.reset()
    assert chain.receive(path).digest == body.digest
    assert chain.sent() == 0, "who stays to the end has put it into the registry's cache"


# ---------------------------------------------------------------------------------- slow and broken


def test_a_layer_may_take_longer_than_the_minutes_that_varnish_gives_an_answer(
    tmp_path: Path,
) -> None:
    # Varnish's 600 s for each answer, and the ten minutes for which it keeps a layer, made short.
    def short(text: str) -> str:
        text = text.replace("-p timeout_idle=65", "-p timeout_idle=65 -p send_timeout=1")
        return text.replace("beresp.ttl = 10m", "beresp.ttl = 1s")

    with own_network(), Chain(tmp_path, edit=short) as chain:
        chain.wait_until_ready()
        body, path = new_layer(chain, 20)
        Upstream.rate = 4 * MB
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(chain.receive, path)
            time.sleep(2.5)
            second = pool.submit(chain.receive, path)
            assert [first.result().digest, second.result().digest] == [body.digest] * 2
        assert chain.sent() == len(body)


@pytest.mark.parametrize("chains", [ROOM, NO_ROOM], indirect=True)
@pytest.mark.parametrize("mb", [20, 90])
def test_a_body_that_breaks_off_at_the_upstream_is_complete_for_nobody_and_kept_by_nobody(
    chain: Chain, mb: int
) -> None:
    body, path = new_layer(chain, mb)
    Upstream.rate, Upstream.broken_off_at = 30 * MB, [len(body) // 2] * 12
    with ThreadPoolExecutor(6) as pool:
        received = list(pool.map(lambda number: chain.receive(path, number % 2 * 1000), range(6)))
    assert not any(one.complete for one in received)
    Upstream.broken_off_at = []
    chain.reset()
    assert chain.receive(path).digest == body.digest
    assert chain.sent() == len(body)


@with_room
def test_a_body_that_breaks_off_because_the_registry_moves_is_whole_from_its_next_task(
    chain: Chain,
) -> None:
    body, path = new_layer(chain, 90)
    Upstream.rate = 30 * MB
    with ThreadPoolExecutor(4) as pool:
        broken = [pool.submit(chain.receive, path) for _ in range(4)]
        time.sleep(1)
        chain.registry.kill()
        assert not any(one.result().complete for one in broken)
    Upstream.rate = 0
    chain.resolver.names = {f"tasks.{SERVICE}": [OTHER_TASK]}
    chain.start_registry(OTHER_TASK)
    chain.wait_until_ready()
    chain.wait_for(lambda: chain.receive(path).digest == body.digest)


@with_room
def test_a_dead_task_leaves_nothing_on_the_disk(chain: Chain) -> None:
    chain.wait_for(lambda: chain.inside("test", "-e", "/tmp/bodies").returncode == 1)
    body, path = new_layer(chain, 90)
    assert chain.receive(path).digest == body.digest
    named = int(chain.inside("du", "-sm", "--exclude=_.vsm*", "/tmp").stdout.split()[0])
    assert named < 64 < chain.counter("SMF.disk.g_bytes") >> 20


@with_room
def test_what_is_on_the_disk_is_read_ahead(chain: Chain) -> None:
    """Page by page, as Varnish itself asks for it, a layer that is larger than the container's
    memory came at 14 MB/s."""
    mappings = Path(f"/proc/{chain.varnish_processes()[-1]}/smaps").read_text().split("VmFlags:")
    flags = [flags for mapping, flags in itertools.pairwise(mappings) if "/tmp/bodies" in mapping]
    assert flags
    assert all("rr" not in found.partition("\n")[0].split() for found in flags), (
        "random reads are announced"
    )


def test_who_fills_the_disk_breaks_off_no_body(tmp_path: Path) -> None:
    # A file system that reserves nothing by itself, as XFS does not.
    with (
        own_network(),
        Chain(tmp_path, disk=256, writable="mount -t tmpfs -o size=300m,mode=1777 tmpfs") as chain,
    ):
        chain.wait_until_ready()
        processes = chain.varnish_processes()
        filled = chain.inside("sh", "-c", "head -c 400M /dev/zero > /tmp/filled")
        assert filled.returncode != 0, "the disk is full"
        body, path = new_layer(chain, 90)
        with ThreadPoolExecutor(4) as pool:
            assert {one.digest for one in pool.map(chain.receive, [path] * 4)} == {body.digest}
        assert chain.varnish_processes() == processes
