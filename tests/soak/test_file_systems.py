"""The room that Varnish reserves on its machine's disk, on file systems that docker's folder may be on: see tests/chain.py.

Each is a file of this computer, mounted where only the test sees it. The programs that make them are Debian's.
"""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.base_systems import debian_tree
from tests.chain import Chain, Long, own_network

MB = 1_000_000
DISK_MIB = 256
MIB = 700
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
"""What of this computer's mounts the test changes is gone with its namespace."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("debian") / "tree"
    debian_tree("trixie", tree, PACKAGES)
    return tree


@pytest.mark.parametrize(
    ("kind", "mount"),
    [("ext4", PLAIN), ("xfs", PLAIN), ("btrfs", PLAIN), ("ext4", OVERLAY), ("xfs", OVERLAY), ("", TMPFS)],
    ids=["ext4", "xfs", "btrfs", "overlay on ext4", "overlay on xfs", "tmpfs"],
)
def test_who_fills_the_disk_breaks_off_no_body_on_any_file_system(programs: Path, tmp_path: Path, kind: str, mount: str) -> None:
    image, script = programs / "disk", tmp_path / "mount"
    if kind:
        image.unlink(missing_ok=True)
        with image.open("wb") as disk:
            disk.truncate(MIB << 20)
        with_proc = f'mount -t proc proc "$0/proc" && exec chroot "$0" {MAKE[kind]} /disk'  # as btrfs wants it
        subprocess.run(["unshare", "--mount", "sh", "-c", with_proc, str(programs)], check=True)
    script.write_text(mount.format(image=image))
    with own_network(), Chain(tmp_path, disk=DISK_MIB, writable=f"sh {script}") as chain:
        chain.wait_until_ready()
        assert chain.get("/v2/").headers["X-Mirror-Disk"] == f"{DISK_MIB} of {DISK_MIB}"
        processes = chain.varnish_processes()
        filled = chain.inside("sh", "-c", f"head -c {2 * MIB}M /dev/zero > /tmp/filled")
        assert filled.returncode != 0, "the disk is full"
        chain.reset()
        # Three times what fits, so each place is written to more than once. What has been sent keeps its room for three seconds.
        for seed in range(0, 8, 2):
            bodies = [Long(90 * MB, seed + one) for one in range(2)]
            paths = [f"/v2/library/disks/blobs/{chain.content.blob('library/disks', body)}" for body in bodies]
            with ThreadPoolExecutor(6) as pool:
                assert {one.digest for one in pool.map(chain.receive, paths * 3)} == {body.digest for body in bodies}
            time.sleep(4)
        assert chain.sent() == 8 * 90 * MB, "all of them were on the disk"
        assert chain.varnish_processes() == processes
        assert "could not be reserved" not in chain.log.read_text()
