"""Layers of a gigabyte and more under the memory that swarm gives Varnish: see tests/chain.py; some minutes, 14 GB of disk."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.registry_mirror import coalesce
from components.registry_mirror.args import RegistryMirrorArgs
from tests.chain import Chain, Long, own_network
from tests.memory_limit import MIB, memory_limit

MB = 1_000_000
MEMORY_MIB = RegistryMirrorArgs.coalesce_memory


def empty(chain: Chain) -> None:
    """The registry's cache, for room on this computer."""
    for data in (chain.folder / "cache").rglob("data"):
        data.unlink()


def test_layers_of_a_gigabyte_through_a_full_store_stay_within_the_containers_memory(tmp_path: Path) -> None:
    writable = tmp_path / "writable"
    writable.mkdir()
    writable.chmod(0o1777)
    limit = MEMORY_MIB + coalesce.OVERHEAD_MIB
    with (
        memory_limit(f"mirror-test-{os.getpid()}", limit) as group,
        own_network(),
        Chain(
            tmp_path, memory=MEMORY_MIB, disk=coalesce.DISK_MIB, writable=f"mount --bind {writable}", cgroup=group.folder
        ) as chain,
    ):
        chain.wait_until_ready()
        processes = chain.varnish_processes()

        def pull(bodies: list[Long], clients: int) -> float:
            paths = [f"/v2/library/large/blobs/{chain.content.blob('library/large', body)}" for body in bodies]
            chain.reset()
            begun = time.monotonic()
            with ThreadPoolExecutor(len(paths) * clients) as pool:
                received = list(pool.map(lambda path: chain.receive(path, timeout=300), paths * clients))
            assert [one.digest for one in received] == [body.digest for body in bodies] * clients
            crossed, seconds = chain.sent() / sum(map(len, bodies)), time.monotonic() - begun
            print(f"\n{len(bodies)} of {len(bodies[0]) / 1e9:.1f} GB, {clients} clients: {crossed:.2f} sizes in {seconds:.0f} s;")
            print(f"of {limit} MiB Varnish's own {group.own / MIB:.0f} at most, of files {group.mapped / MIB:.0f} now;", end=" ")
            print(f"on its disk {chain.counter('SMF.disk.g_bytes') / MIB:.0f}")
            return crossed

        # Together almost all of the store; then others, for which these have to go.
        assert pull([Long(1200 * MB, seed) for seed in range(3)], 3) == 1
        assert chain.counter("SMF.disk.g_bytes") > 0.8 * coalesce.DISK_MIB * MIB
        empty(chain)
        assert pull([Long(700 * MB, 10 + seed) for seed in range(5)], 2) == 1
        assert pull([Long(200 * MB, 20 + seed) for seed in range(2)], 4) == 1
        empty(chain)
        # Larger than all of the store: passed on, one for each.
        assert pull([Long(4200 * MB, 30)], 1) == 1
        empty(chain)
        assert group.own < limit * MIB
        assert group.killed == 0
        assert chain.varnish_processes() == processes
