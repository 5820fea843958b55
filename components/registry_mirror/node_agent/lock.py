"""One run at a time on a node: a lock that waits for its turn, in a folder that is root's alone.
Stdlib only.

Owns the lock's file, which is never removed (one that is removed can be held twice) and says who
holds it.
"""

import contextlib
import fcntl
import os
import stat
import time
from typing import Iterator

from .files import FileProblem, make_private_folder

WAIT_SECONDS = 120
"""For another run on this node, such as that of a second mirror: it may wait for its mirror for 90
(apply.PATIENCE)."""
POLL_SECONDS = 0.1
HOLDER_BYTES = 300


@contextlib.contextmanager
def held(path: str, holder: str) -> Iterator[None]:
    """Hold the lock; the kernel drops it with the process. Raises FileProblem if another run has it
    for too long.

    `path`: a file in a folder of its own, which nobody else may enter, so that nobody else can hold
    the lock or put something in its place. `holder`: who we are, as shown to a run that waits in
    vain.
    """
    make_private_folder(os.path.dirname(path))
    try:
        handle = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600
        )
    except OSError as error:
        raise FileProblem(
            "the lock %s cannot be opened: %s; remove it [RM130]" % (path, error.strerror)
        ) from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise FileProblem("the lock %s is no file of ours; remove it [RM131]" % path)
        _take(handle)
        os.ftruncate(handle, 0)
        os.pwrite(handle, holder.encode()[:HOLDER_BYTES], 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _take(handle: int) -> None:
    """Wait for the lock. Raises FileProblem, naming who has it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(handle, HOLDER_BYTES, 0).decode(errors="replace") or "somebody"
                words = (
                    "another roll-out is at work on this node (%s) and did not end within %d"
                    " s; wait for it, then run this again [RM132]"
                )
                raise FileProblem(words % (holder, WAIT_SECONDS)) from None
            time.sleep(POLL_SECONDS)
        except OSError as error:
            raise FileProblem(
                ("this node's lock cannot be taken: %s [RM133]") % error.strerror
            ) from None
        else:
            return
