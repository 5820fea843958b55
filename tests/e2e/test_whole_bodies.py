"""Every body that the mirror begins is whole, whatever is asked of it at the same moment
(tests/chain.py; no lab is started)."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.registry_mirror.node_agent import probe, stats
from tests.chain import Chain, Upstream, own_network, random_bytes

MB = 1_000_000


@pytest.fixture
def network() -> Iterator[None]:
    with own_network():
        yield


def pull(chain: Chain, name: str, digests: list[str], clients: int) -> list[bool]:
    """Each of the blobs, by so many clients, all at the same moment: whether each body was
    whole."""
    paths = [f"/v2/{name}/blobs/{digest}" for digest in digests] * clients

    def whole(path: str) -> bool:
        answer = chain.get(path, timeout=120)
        assert answer.status == 200
        return path.endswith(answer.digest)

    with ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(whole, paths))


@pytest.mark.parametrize(
    ("memory", "disk", "sizes", "clients", "at_most"),
    [
        (
            64,
            0,
            [30] * 3,
            2,
            2.0,
        ),  # the case K: three of under a half each; Varnish ran out of storage
        (64, 0, [30] * 6, 2, 2.0),
        (64, 256, [30] * 6, 3, 1.0),  # what memory has no room for is on disk
        (64, 256, [90, 90, 20, 5, 1], 4, 1.0),  # larger than memory
        (64, 128, [90, 90, 90], 2, 2.0),  # larger than both together
    ],
)
def test_bodies_that_do_not_fit_together_are_whole_all_the_same(
    network: None,
    tmp_path: Path,
    memory: int,
    disk: int,
    sizes: list[int],
    clients: int,
    at_most: float,
) -> None:
    with Chain(tmp_path, memory=memory, disk=disk) as chain:
        chain.wait_until_ready()
        layers = [random_bytes(size * MB, seed) for seed, size in enumerate(sizes)]
        digests = [chain.content.blob("library/big", layer) for layer in layers]
        Upstream.rate = 20 * MB
        failed = chain.counter("MAIN.fetch_failed")  # while the registry was not found yet
        chain.reset()
        assert all(pull(chain, "library/big", digests, clients))
        assert chain.counter("MAIN.fetch_failed") == failed
        assert chain.sent() <= at_most * sum(map(len, layers))
        # Nothing is held for good: an hour of it is as the first minute.
        time.sleep(4)
        Upstream.rate = 0
        assert all(pull(chain, "library/big", digests, 1))


@pytest.mark.parametrize(("asked", "taken"), [(256, 256), (1_048_576, None), (0, 0)])
def test_varnish_says_what_it_took_of_the_disk_and_never_takes_more_than_half_of_what_is_free(
    network: None, tmp_path: Path, asked: int, taken: int | None
) -> None:
    with Chain(tmp_path, memory=64, disk=asked) as chain:
        chain.wait_until_ready()
        said = re.fullmatch("([0-9]+) of ([0-9]+)", chain.get("/v2/").headers[probe.DISK_HEADER])
        assert said is not None
        assert int(said.group(2)) == asked
        if taken is None:
            taken = int(said.group(1))
            assert 64 <= taken < asked
        else:
            assert int(said.group(1)) == taken
        inside = chain.inside("varnishstat", "-n", "/tmp/varnish", "-j").stdout
        assert stats.hits(inside) is not None
        assert (stats.hits(inside) or {})["disk"] == taken * 1024 * 1024
        if asked > taken:
            free = int(chain.inside("df", "-Pm", "/tmp").stdout.splitlines()[-1].split()[3])
            assert taken <= free + 256, (
                "what was taken is reserved, and is half of what was free before the rest was"
                " written"
            )
        digest = chain.content.blob("library/x", b"x")
        assert probe.DISK_HEADER not in chain.get(f"/v2/library/x/blobs/{digest}").headers, (
            "pulls get no word more than before"
        )


def test_slow_clients_that_hold_what_is_stored_do_not_cost_others_their_bodies(
    network: None, tmp_path: Path
) -> None:
    with Chain(tmp_path, memory=64, disk=0) as chain:
        chain.wait_until_ready()
        digests = [
            chain.content.blob("library/slow", random_bytes(20 * MB, seed)) for seed in range(6)
        ]
        failed = chain.counter("MAIN.fetch_failed")
        held = [chain.open(f"/v2/library/slow/blobs/{digest}") for digest in digests[:3]]
        time.sleep(
            6
        )  # all of it has arrived in Varnish, the fetch is long over, and none of it has been read
        assert all(pull(chain, "library/slow", digests[3:], 2))
        assert [
            digest
            for digest, response in zip(digests[:3], held, strict=True)
            if chain.rest(response).digest != digest
        ] == []
        assert chain.counter("MAIN.fetch_failed") == failed
