"""Layers of a gigabyte and more under the memory that swarm gives Varnish.

See tests/chain.py. It takes some minutes, and 23 GB of disk of 27 that are free.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.registry_mirror.args import RegistryMirrorArgs
from components.registry_mirror.render import varnish
from tests.chain import Chain, Long, own_network
from tests.memory_limit import MIB, MemoryLimit, memory_limit

MB = 1_000_000
MEMORY_MIB = RegistryMirrorArgs.coalesce_memory
LIMIT_MIB = MEMORY_MIB + varnish.OVERHEAD_MIB


@contextlib.contextmanager
def chain_within_limits(folder: Path, disk: int) -> Iterator[tuple[Chain, MemoryLimit]]:
    """With Varnish's `disk` MiB on a real disk, and its control group. Afterwards: nothing was
    ended, and the cache is empty."""
    writable = folder / "writable"
    writable.mkdir()
    writable.chmod(0o1777)
    with (
        memory_limit(f"mirror-test-{os.getpid()}", LIMIT_MIB) as group,
        own_network(),
        Chain(
            folder,
            memory=MEMORY_MIB,
            disk=disk,
            writable=f"mount --bind {writable}",
            cgroup=group.folder,
        ) as chain,
    ):
        chain.wait_until_ready()
        processes = chain.varnish_processes()
        try:
            yield chain, group
            assert group.own < LIMIT_MIB * MIB
            assert group.killed == 0
            assert chain.varnish_processes() == processes
        finally:
            empty(chain)


def empty(chain: Chain) -> None:
    """The registry's cache, for room on this computer."""
    for data in (chain.folder / "cache").rglob("data"):
        data.unlink()


def pull(chain: Chain, group: MemoryLimit, bodies: list[Long], clients: int) -> float:
    """Have that many clients pull each body at the same moment, whole; what left the upstream, in
    sizes of all."""
    paths = [
        f"/v2/library/large/blobs/{chain.content.blob('library/large', body)}" for body in bodies
    ]
    chain.reset()
    begun = time.monotonic()
    with ThreadPoolExecutor(len(paths) * clients) as pool:
        received = list(pool.map(lambda path: chain.receive(path, timeout=300), paths * clients))
    assert [one.digest for one in received] == [body.digest for body in bodies] * clients
    crossed, seconds = chain.sent() / sum(map(len, bodies)), time.monotonic() - begun
    memory = (
        Path(f"/proc/{chain.registry.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    )
    print(
        f"\n{len(bodies)} of {len(bodies[0]) / 1e9:.1f} GB, {clients} clients: {crossed:.2f} sizes"
        f" in {seconds:.0f} s;",
        end=" ",
    )
    print(f"the registry's memory {int(memory) >> 10} MiB at most;")
    print(
        f"of {LIMIT_MIB} MiB Varnish's own {group.own / MIB:.0f} at most, of files"
        f" {group.mapped / MIB:.0f} now;",
        end=" ",
    )
    print(f"on its disk {chain.counter('SMF.disk.g_bytes') / MIB:.0f}")
    return crossed


def test_layers_of_a_gigabyte_through_a_full_store_stay_within_the_containers_memory(
    tmp_path: Path,
) -> None:
    with chain_within_limits(tmp_path, varnish.DISK_MIB) as (chain, group):
        # Together almost all of the store; then others, for which these have to go.
        assert pull(chain, group, [Long(1200 * MB, seed) for seed in range(3)], 3) == 1
        assert chain.counter("SMF.disk.g_bytes") > 0.8 * varnish.DISK_MIB * MIB
        empty(chain)
        assert pull(chain, group, [Long(700 * MB, 10 + seed) for seed in range(5)], 2) == 1
        assert pull(chain, group, [Long(200 * MB, 20 + seed) for seed in range(2)], 4) == 1
        empty(chain)
        # Larger than all of the store: passed on, one for each.
        assert pull(chain, group, [Long(4200 * MB, 30)], 1) == 1


@pytest.mark.parametrize(
    ("disk", "sizes"), [(varnish.DISK_MIB, 2), (12288, 1)], ids=["default", "12288"]
)
def test_ten_gigabytes_in_one_layer_are_whole_and_one_download_where_there_is_room(
    tmp_path: Path, disk: int, sizes: int
) -> None:
    """Without room each of those who come before the registry has it is a download; afterwards
    nobody is."""
    with chain_within_limits(tmp_path, disk) as (chain, group):
        assert chain.get("/v2/").headers["X-Mirror-Disk"] == f"{disk} of {disk}", (
            "this computer has too little room for the test"
        )
        assert pull(chain, group, [Long(10_000 * MB, 40)], 2) == sizes
        assert pull(chain, group, [Long(10_000 * MB, 40)], 1) == 0
