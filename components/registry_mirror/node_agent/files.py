"""Files that are wholly old or wholly new, whatever interrupts us. Stdlib only.

Owns reading without being fooled (links to nowhere, directories, pipes) and replacing without a moment in between. It
deliberately knows nothing of JSON or docker.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from typing import Iterator, Optional


class Failed(Exception):
    """What was asked for is not done and everything is as it was; the message is one sentence that says why and what to do."""


class FileProblem(Failed):
    """A file cannot be read or replaced; the message names it and says what to do. It is as it was."""


def read(path: str) -> Optional[bytes]:
    """Bytes of a regular file (through links), or None where there is none. Raises FileProblem."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            raise FileProblem(
                "%s is a link to %s, which does not exist; mend or remove the link" % (path, os.readlink(path))
            ) from None
        return None
    except OSError as error:
        raise FileProblem("%s cannot be read: %s" % (path, error.strerror)) from None
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise FileProblem("%s is %s; move it away" % (path, kind))
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise FileProblem("%s cannot be read: %s" % (path, error.strerror)) from None


ANYTHING = object()


def replace(path: str, data: bytes, mode: int = 0o644, expected: object = ANYTHING) -> None:
    """Put `data` where `path` is, atomically; an existing file keeps its mode, owner and extended attributes.

    Temporary file in the same directory, fsync, rename, fsync of the directory (Pillai et al., OSDI 2014: without the two
    fsyncs a power cut may leave an empty file). A link stays a link: the file that it names is replaced.
    `mode` is that of a new file. `expected`: the bytes (None: no file) on which the decision to replace was made; if
    somebody has edited the file since, that is his, and it stays. Raises FileProblem.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    temporary = None
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".swarm-registry-mirror-", dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if os.path.exists(target):
                found = os.stat(target)
                os.fchown(file.fileno(), found.st_uid, found.st_gid)
                shutil.copystat(target, temporary)  # mode and extended attributes (SELinux label, access lists)
                os.utime(temporary)
            else:
                os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        if expected is not ANYTHING and read(path) != expected:
            raise FileProblem("%s was edited by somebody else at this very moment; run this again" % path)
        os.replace(temporary, target)
        temporary = None
        sync_folder(folder)
    except OSError as error:
        reason = "%s cannot be replaced: %s" % (path, error.strerror)
        raise FileProblem(reason + "; is the disk full, read-only, or the file immutable (lsattr)?") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def remove(path: str) -> None:
    """Remove a file if it is there, and make that last. Raises FileProblem."""
    try:
        os.unlink(path)
        sync_folder(os.path.dirname(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileProblem("%s cannot be removed: %s" % (path, error.strerror)) from None


def sync_folder(folder: str) -> None:
    """Make the names in a directory survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold a lock; raises FileProblem at once if another run holds it. The kernel drops it with the process."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FileProblem("another roll-out is at work on this node; wait for it, then run this one again") from None
        yield


def digest(data: Optional[bytes]) -> str:
    """Short name for some bytes; `absent` for a file that is not there."""
    return "absent" if data is None else "sha256:" + hashlib.sha256(data).hexdigest()
