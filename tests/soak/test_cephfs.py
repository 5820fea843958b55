"""The mirror's cache on CephFS: three machines with an OSD each, and every machine's own client in user space (FUSE).

One monitor and one metadata server, on the first machine; without authentication. The OSDs are as people run them (BlueStore),
each on a file.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.plan import MANAGER, NETWORK, NODES
from tests.lab_fixture import Lab
from tests.soak import shared_storage
from tests.soak.shared_storage import SMALL_MIB, Cache, Containers

CACHE, SMALL = "/mnt/ceph/cache", "/mnt/ceph/small"
FSID = "5a5a5a5a-0000-4000-8000-000000000001"
MONITOR = f"[v2:{MANAGER.address}:3300,v1:{MANAGER.address}:6789]"
CONFIGURATION = f"""[global]
fsid = {FSID}
mon host = {MONITOR}
public network = {NETWORK}
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 3
osd pool default min size = 2
bluestore block size = 2147483648
osd memory target = 1073741824
run dir = /store
mon data = /store/mon
osd data = /store/osd
mds data = /store/mds
pid file = /store/$name.pid
log file = /store/$name.log
"""
START_MONITOR = f"""
set -e
mkdir -p /store/mon /store/mds
monmaptool --create --fsid {FSID} --addv a '{MONITOR}' /store/monmap
ceph-mon --mkfs --id a --monmap /store/monmap
ceph-mon --id a
"""
START_OSD = "ulimit -n 65536; ceph-osd --id {number}"
MAKE_OSD = """
set -e
mkdir -p /store/osd
uuid=$(cat /proc/sys/kernel/random/uuid)
test $(ceph osd new $uuid) = {number}
ceph-osd --id {number} --mkfs --osd-uuid $uuid
"""
START_METADATA = "ceph-mds --id a"
MAKE = "ceph osd pool create meta 8 && ceph osd pool create data 8 && ceph fs new fs meta data"
WITH_A_QUOTA = f"""
import os
os.makedirs("{CACHE}"); os.makedirs("{SMALL}")
os.setxattr("{SMALL}", "ceph.quota.max_bytes", b"{SMALL_MIB << 20}")
"""


class Ceph(Containers):
    """One file system, mounted on /mnt/ceph of every machine."""

    def begin(self) -> None:
        self.start()
        for node in self.lab.nodes:
            self.inside(node, f"cat > /etc/ceph/ceph.conf <<'END'\n{CONFIGURATION}END\n")
        self.inside("node1", START_MONITOR)
        self.until("node1", "timeout 10 ceph -s")
        for number, machine in enumerate(NODES):
            self.inside(machine.name, MAKE_OSD.format(number=number) + START_OSD.format(number=number))
        self.until("node1", "ceph osd stat | grep -q '3 up'")
        self.inside("node1", MAKE)
        self.inside("node1", START_METADATA)
        self.until("node1", "ceph mds stat | grep -q up:active")
        for node in self.lab.nodes:
            self.until(node, "ceph-fuse /mnt/ceph; grep -q ' /mnt/ceph fuse.ceph-fuse ' /proc/mounts")
        self.lab.on("node1", 'python3 -c "$(cat)"', WITH_A_QUOTA.encode())

    def kill(self, part: str) -> None:
        """End the OSD of the second machine, or the metadata server, which get no chance to finish anything."""
        node, name = ("node2", "osd.1") if part == "an OSD" else ("node1", "mds.a")
        self.inside(node, f"kill -9 $(cat /store/{name}.pid)")

    def mend(self, part: str) -> None:
        """Start it again, and wait until it is in its place."""
        if part == "an OSD":
            self.inside("node2", START_OSD.format(number=1))
            self.until("node1", "ceph osd stat | grep -q '3 up'")
        else:
            self.inside("node1", START_METADATA)
            self.until("node1", "ceph mds stat | grep -q up:active", 120)


@pytest.fixture(scope="module")
def ceph(lab: Lab) -> Iterator[Ceph]:
    found = Ceph(lab, "ceph", "ceph-mon,ceph-osd,ceph-mds,ceph-fuse,ceph-common")
    found.begin()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def cache(lab: Lab, ceph: Ceph) -> Iterator[Cache]:
    with shared_storage.mirror_of_its_own(lab) as found:
        yield found


def test_the_cache_is_warm_after_the_registrys_task_has_moved_and_this_is_what_it_costs(cache: Cache) -> None:
    shared_storage.is_warm_after_the_task_has_moved(cache, CACHE, "CephFS, size 3")


@pytest.mark.parametrize("part", ["an OSD", "the metadata server"])
def test_a_part_that_dies_in_the_middle_of_a_write_costs_nobody_a_right_byte(ceph: Ceph, cache: Cache, part: str) -> None:
    """Without one OSD of three all goes on; without its metadata server a client waits until there is one."""
    cache.on(CACHE, "node3")
    cache.empty()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(cache.read)
        cache.wait_for_a_write("node3")
        ceph.kill(part)
        time.sleep(5)
        if part == "the metadata server":
            ceph.mend(part)
        first = reading.result()
    assert "WRONG" not in first
    if part == "an OSD":
        assert first == ["whole", "whole"]
        without = cache.read()
        assert "WRONG" not in without
        ceph.mend(part)
    cache.forget()
    assert cache.read() == ["whole", "whole"]
    assert [cache.damaged(node.name) for node in NODES] == [[], [], []]
    print(f"\n{part} died in the middle of a write: {first}")


def test_a_full_folder_cuts_off_what_it_has_no_room_for_and_keeps_what_it_has(cache: Cache) -> None:
    """A quota, which the client watches itself and is some seconds late for."""
    shared_storage.is_right_where_there_is_no_room(cache, SMALL)
