"""The room that Varnish reserves on its machine's disk, on file systems that docker's folder may be
on: see tests/chain.py.

Each is a file of this computer, mounted where only the test sees it. The programs that make them
are Debian's.
"""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.base_systems import debian_tree
from tests.chain import Chain, Long, own_network

MB = 1_000_000
DISK_MIB = 64
MIB = 300
"""Of a file system: half of what is free on it is more than DISK_MIB."""
PACKAGES = "e2fsprogs,xfsprogs,btrfs-progs"
MAKE = {"ext4": "mkfs.ext4 -q -F", "xfs": "mkfs.xfs -q", "btrfs": "mkfs.btrfs -q"}

PLAIN = 'set -e; mount -o loop {image} "$1"; chmod 1777 "$1"'
OVERLAY = """
set -e
mount -o loop {image} /mnt
mkdir -m 1777 /mnt/upper
mkdir /mnt/lower /mnt/work
mount -t overlay -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work overlay "$1"
"""
TMPFS = f'mount -t tmpfs -o size={MIB}m,mode=1777 tmpfs "$1"'
"""What the test changes in this computer's mounts ends with its namespace."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("debian") / "tree"
    debian_tree("trixie", tree, PACKAGES)
    return tree


def file_system(programs: Path, kind: str) -> Path:
    """An empty one of that kind."""
    image = programs / "disk"
    image.unlink(missing_ok=True)
    with image.open("wb") as disk:
        disk.truncate(MIB << 20)
    with_proc = (
        f'mount -t proc proc "$0/proc" && exec chroot "$0" {MAKE[kind]} /disk'  # as btrfs wants it
    )
    subprocess.run(["unshare", "--mount", "sh", "-c", with_proc, str(programs)], check=True)
    return image


@pytest.mark.parametrize(
    ("kind", "mount"),
    [("ext4", PLAIN), ("xfs", PLAIN), ("ext4", OVERLAY), ("xfs", OVERLAY), ("", TMPFS)],
    ids=["ext4", "xfs", "overlay on ext4", "overlay on xfs", "tmpfs"],
)
def test_who_fills_the_disk_breaks_off_no_body(
    programs: Path, tmp_path: Path, kind: str, mount: str
) -> None:
    script = tmp_path / "mount"
    script.write_text(mount.format(image=file_system(programs, kind) if kind else ""))
    with own_network(), Chain(tmp_path, disk=DISK_MIB, writable=f"sh {script}") as chain:
        chain.wait_until_ready()
        assert chain.get("/v2/").headers["X-Mirror-Disk"] == f"{DISK_MIB} of {DISK_MIB}"
        processes = chain.varnish_processes()
        filled = chain.inside("sh", "-c", f"head -c {2 * MIB}M /dev/zero > /tmp/filled")
        assert filled.returncode != 0, "the disk is full"
        chain.reset()
        # Twice what fits, so each place is written to more than once. What has been sent keeps its
        # room for three seconds.
        for seed in range(4):
            body = Long(40 * MB, seed)
            path = f"/v2/library/disks/blobs/{chain.content.blob('library/disks', body)}"
            with ThreadPoolExecutor(3) as pool:
                assert {one.digest for one in pool.map(chain.receive, [path] * 3)} == {body.digest}
            time.sleep(4)
        assert chain.sent() == 4 * 40 * MB, "all of them were on the disk"
        assert chain.varnish_processes() == processes
        assert "cannot be reserved" not in chain.log.read_text()


def test_on_btrfs_a_full_disk_is_never_a_wrong_body_and_what_has_room_again_serves_again(
    programs: Path, tmp_path: Path
) -> None:
    """There no room can be reserved, which is said. Varnish ends when it writes, and starts
    again."""
    script = tmp_path / "mount"
    script.write_text(PLAIN.format(image=file_system(programs, "btrfs")))
    with own_network(), Chain(tmp_path, disk=DISK_MIB, writable=f"sh {script}") as chain:
        chain.wait_until_ready()
        assert "cannot be reserved" in chain.log.read_text()
        assert (
            chain.inside("sh", "-c", f"head -c {2 * MIB}M /dev/zero > /tmp/filled").returncode != 0
        ), "the disk is full"
        for seed in range(4):
            body = Long(40 * MB, seed)
            path = f"/v2/library/disks/blobs/{chain.content.blob('library/disks', body)}"
            with ThreadPoolExecutor(3) as pool:
                received = list(pool.map(chain.receive, [path] * 3))
            assert {one.digest for one in received if one.complete} <= {body.digest}
        chain.inside("rm", "/tmp/filled")
        assert chain.receive_whole(path) == body.digest
