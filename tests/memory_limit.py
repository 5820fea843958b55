"""A memory limit as swarm gives one to a container, by either version of the kernel's control
groups. Owns one group.

A mapped file's pages count in such a group, beside what a program has of its own: whether they are
given back when the limit is reached, or the program is ended, is for the kernel to show.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20


class MemoryLimit:
    """A group of processes that may have so much memory together."""

    def __init__(self, folder: Path, limit_mib: int) -> None:
        self.folder = folder
        self._version_2 = (ROOT / "cgroup.controllers").exists()
        folder.mkdir()
        name = "memory.max" if self._version_2 else "memory.limit_in_bytes"
        (folder / name).write_text(str(limit_mib * MIB))
        self.own = 0
        """Most bytes that were the programs' own (not a file's) at any look at it, every tenth of a
        second."""
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            self.own = max(self.own, self._stat("anon" if self._version_2 else "total_rss"))

    def _stat(self, name: str, file: str = "memory.stat") -> int:
        lines = (line.split() for line in (self.folder / file).read_text().splitlines())
        return next(int(words[1]) for words in lines if words[0] == name)

    @property
    def killed(self) -> int:
        """How many processes the kernel has ended for want of memory."""
        return self._stat("oom_kill", "memory.events" if self._version_2 else "memory.oom_control")

    @property
    def mapped(self) -> int:
        """Bytes of files that are in memory now, counted in the group."""
        return self._stat("file" if self._version_2 else "total_cache")

    def remove(self) -> None:
        """After the last process in it has ended."""
        self._ended.set()
        self._watch.join()
        for _ in range(100):
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                return
            time.sleep(0.1)
        self.folder.rmdir()


@contextlib.contextmanager
def memory_limit(name: str, limit_mib: int) -> Iterator[MemoryLimit]:
    """A group of that name, which is gone afterwards."""
    version_2 = (ROOT / "cgroup.controllers").exists()
    group = MemoryLimit((ROOT if version_2 else ROOT / "memory") / name, limit_mib)
    try:
        yield group
    finally:
        group.remove()
