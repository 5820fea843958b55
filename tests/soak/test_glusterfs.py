"""The mirror's cache on GlusterFS: three machines with a brick each, and every machine's own client in user space (FUSE).

GlusterFS runs as where a machine has no packages of it: in a container of its own docker, whose mount the machine sees.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.plan import NODES
from tests.lab_fixture import Lab
from tests.soak import shared_storage
from tests.soak.shared_storage import SMALL_MIB, Cache, Containers

CACHE, SMALL = "/mnt/gluster/cache", "/mnt/gluster/small"
SMALL_BRICK = f"mkdir -p /var/lib/docker/gluster/small; mount -t tmpfs -o size={SMALL_MIB}m tmpfs /var/lib/docker/gluster/small"


class Gluster(Containers):
    """Volumes of three bricks, mounted below /mnt/gluster of every machine."""

    def begin(self) -> None:
        self.start(SMALL_BRICK)
        for node in self.lab.nodes:
            self.inside(node, "glusterd")  # it takes a brick that died for one that runs while nobody has taken it in
        self.until("node1", "gluster pool list | grep -q Connected")
        for peer in NODES[1:]:
            self.until("node1", f"gluster --mode=script peer probe {peer.address}")
        self.until("node1", "test $(gluster pool list | grep -c Connected) = 3")

    def volume(self, name: str) -> None:
        """A volume with a brick on each machine, which each machine mounts."""
        bricks = " ".join(f"{node.address}:/store/{name}/brick" for node in NODES)
        for node in self.lab.nodes:
            self.inside(node, f"mkdir -p /store/{name}")
        self.until("node1", f"gluster --mode=script volume create {name} replica 3 {bricks} force")
        self.until("node1", f"gluster --mode=script volume start {name}")
        for node in self.lab.nodes:
            mount = f"glusterfs --volfile-server=localhost --volfile-id={name} /mnt/gluster/{name}"
            mounted = f"grep -q ' /mnt/gluster/{name} fuse.glusterfs ' /proc/mounts"
            self.until(node, f"mkdir -p /mnt/gluster/{name}; {mounted} || {mount}; {mounted}")
            self.lab.on(node, mounted)

    def kill_brick(self, node: str, volume: str) -> None:
        """End the process of a machine's brick, which gets no chance to finish anything."""
        self.inside(node, f"kill -9 $(cat /var/run/gluster/vols/{volume}/*.pid)")

    def heal(self, volume: str) -> None:
        """Have dead bricks run again, and wait until they have what they missed."""
        self.until("node1", f"gluster --mode=script volume start {volume} force")
        # Once is not enough: a brick that is only just back has not been asked yet.
        left = f"gluster volume heal {volume} info | sed -n 's/^Number of entries: //p' | tr -d '\\n'"
        healed = f'gluster volume heal {volume} >/dev/null && for i in 1 2 3; do sleep 1; test "$({left})" = 000 || exit 1; done'
        self.until("node1", healed, 120)


@pytest.fixture(scope="module")
def gluster(lab: Lab) -> Iterator[Gluster]:
    found = Gluster(lab, "gluster", "glusterfs-server")
    found.begin()
    found.volume("cache")
    found.volume("small")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def cache(lab: Lab, gluster: Gluster) -> Iterator[Cache]:
    with shared_storage.mirror_of_its_own(lab) as found:
        yield found


def test_the_cache_is_warm_after_the_registrys_task_has_moved_and_this_is_what_it_costs(cache: Cache) -> None:
    shared_storage.is_warm_after_the_task_has_moved(cache, CACHE, "GlusterFS, replica 3")


@pytest.mark.parametrize("bricks", [("node2",), ("node1", "node2")], ids=["one", "two"])
def test_bricks_that_die_in_the_middle_of_a_write_cost_nobody_a_right_byte(
    gluster: Gluster, cache: Cache, bricks: tuple[str, ...]
) -> None:
    """With one of three the volume goes on; with two it is without its quorum, and takes and gives nothing."""
    cache.on(CACHE, "node3")
    cache.empty()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(cache.read)
        cache.wait_for_a_write("node3")
        for node in bricks:
            gluster.kill_brick(node, "cache")
        first = reading.result()
    assert "WRONG" not in first
    if len(bricks) == 1:
        assert first == ["whole", "whole"]
    without = cache.read()
    assert "WRONG" not in without
    gluster.heal("cache")
    cache.forget()
    assert cache.read() == ["whole", "whole"]
    assert [cache.damaged(node.name) for node in NODES] == [[], [], []]
    print(f"\n{len(bricks)} of 3 bricks died in the middle of a write: {first}; then, with them away: {without}")


def test_a_full_volume_cuts_off_what_it_has_no_room_for_and_keeps_what_it_has(cache: Cache) -> None:
    """GlusterFS says so only once a good part is written; the registry then ends the body, and docker goes to the upstream."""
    shared_storage.is_right_where_there_is_no_room(cache, SMALL)
