"""A memory limit of a test's own, by both versions of control groups.

A folder plays the kernel's, with files of the form that the kernel gives them (linux
Documentation/admin-guide, cgroup-v2.rst and cgroup-v1/memory.rst).
"""

import os
import time
from pathlib import Path

import pytest

from tests import memory_limit

MIB = 1 << 20
KERNEL = {
    1: {
        "memory.limit_in_bytes": "9223372036854771712\n",
        "memory.stat": "cache 1\nrss 2\nhierarchical_memory_limit 3\ntotal_cache 7340032\ntotal_rss"
        " 5242880\ntotal_rss_huge 9\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    },
    2: {
        "memory.max": "max\n",
        "memory.stat": "anon 5242880\nfile 7340032\nkernel 1\nanon_thp 9\nfile_mapped 8\n",
        "memory.events": "low 0\nhigh 0\nmax 31\noom 3\noom_kill 2\noom_group_kill 0\n",
    },
}


@pytest.fixture(params=[1, 2], ids=["version 1", "version 2"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where groups are made: whoever makes one finds its files in it, and removes them with it."""
    make, remove = os.mkdir, os.rmdir

    def mkdir(path: Path, mode: int = 0o777) -> None:
        make(path, mode)
        for name, text in KERNEL[request.param].items():
            (path / name).write_text(text)

    def rmdir(path: Path) -> None:
        for name in KERNEL[request.param]:
            (path / name).unlink()
        remove(path)

    (tmp_path / "memory").mkdir()
    if request.param == 2:
        (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    monkeypatch.setattr(memory_limit, "ROOT", tmp_path)
    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(os, "rmdir", rmdir)
    return tmp_path if request.param == 2 else tmp_path / "memory"


def test_a_group_has_the_limit_and_says_what_the_kernel_counts_in_it(root: Path) -> None:
    with memory_limit.memory_limit("ours", 100) as group:
        assert group.folder == root / "ours"
        limits = [(root / "ours" / name) for name in ("memory.max", "memory.limit_in_bytes")]
        assert [limit.read_text() for limit in limits if limit.exists()] == [str(100 * MIB)]
        assert (group.killed, group.mapped) == (2, 7 * MIB)
        deadline = time.monotonic() + 10
        while not group.own and time.monotonic() < deadline:
            time.sleep(0.02)
        assert group.own == 5 * MIB
    assert not (root / "ours").exists()
