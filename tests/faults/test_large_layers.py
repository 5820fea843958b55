"""What may happen while a large layer is on its way: what a client takes for complete is right, and
the next client gets it.

On the real chain (tests/chain.py); no lab is started. A layer has 100 MB in `make test`, to be
short, and 1 GB in `make faults`.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chain import Chain, Long, Upstream, own_network
from tests.chance import Chance

MB = 1_000_000
REPEATS = int(os.environ.get("FAULT_REPEATS", "2"))
SIZE = (1000 if REPEATS >= 20 else 100) * MB
CLIENTS = 3


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Room for a layer and a bit, for the registry as for Varnish."""
    disk = SIZE * 5 // 4 >> 20
    writable = f"mount -t tmpfs -o size={disk * 2 + 100}m,mode=1777 tmpfs"
    cache = f"mount -t tmpfs -o size={SIZE * 2 >> 20}m tmpfs"
    with (
        own_network(),
        Chain(
            tmp_path_factory.mktemp("faults"), disk=disk, writable=writable, cache=cache
        ) as chain,
    ):
        chain.wait_until_ready()
        yield chain


def kill_varnishs_child(chain: Chain) -> Callable[[], object]:
    os.kill(chain.varnish_processes()[-1], signal.SIGKILL)
    return lambda: None


def kill_the_registry(chain: Chain) -> Callable[[], object]:
    chain.registry.kill()
    return chain.start_registry


def cut_the_upstream_off(chain: Chain) -> Callable[[], object]:
    Upstream.cut = True

    def mend() -> None:
        Upstream.cut = False

    return mend


def fill_the_cache(chain: Chain) -> Callable[[], object]:
    assert chain.beside_the_registry("head -c 4G /dev/zero > filled").returncode != 0
    return lambda: chain.beside_the_registry("rm filled")


def fill_varnishs_disk(chain: Chain) -> Callable[[], object]:
    assert chain.inside("sh", "-c", "head -c 4G /dev/zero > /tmp/filled").returncode != 0
    return lambda: chain.inside("rm", "/tmp/filled")


FAULTS = [
    kill_varnishs_child,
    kill_the_registry,
    cut_the_upstream_off,
    fill_the_cache,
    fill_varnishs_disk,
]


@pytest.mark.fault(
    "F48", "a large layer on its way: Varnish or the registry killed, upstream cut, a disk full"
)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_a_client_takes_for_complete_is_right_whatever_happens_on_the_way(
    chain: Chain, fault: Callable[[Chain], Callable[[], object]], chance: Chance
) -> None:
    seen, seconds = 0, 0.0
    for repeat in range(
        REPEATS + 1
    ):  # the first time nothing happens, which shows how long it takes
        body = Long(SIZE, chance.getrandbits(32))
        path = f"/v2/library/faults/blobs/{chain.content.blob('library/faults', body)}"
        Upstream.rate = 250 * MB
        starts = [0, 0, chance.randrange(1, SIZE)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            asked = [pool.submit(chain.receive, path, start) for start in starts]
            begun = time.monotonic()
            if repeat == 0:
                assert all(one.result().complete for one in asked)
                seconds = time.monotonic() - begun
            if repeat:
                chance.wait(0, 1.2 * seconds)
            mend = fault(chain) if repeat else lambda: None
            received = [one.result() for one in asked]
        mend()
        for start, one in zip(starts, received, strict=True):
            if one.complete:
                seen += 1
                assert one.digest == body.digest_from(start)
        Upstream.rate = 0
        assert chain.receive_whole(path) == body.digest
        chain.beside_the_registry("find . -name data -delete")
        chain.content.answers.pop(path)
    print(f"{fault.__name__}: {seen} of {(REPEATS + 1) * CLIENTS} were complete all the same")
