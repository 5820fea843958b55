"""Files that are wholly old or wholly new, whatever interrupts us. Stdlib only.

Owns reading without being fooled (links to nowhere, directories, pipes) and replacing without a
moment in between. It deliberately knows nothing of JSON or docker.

A path is walked folder by folder, by handles, so that a folder that is exchanged for a link
meanwhile leads nowhere. A link on the way is followed only where nobody but root can have put it.
"""

import contextlib
import errno
import hashlib
import os
import stat
from typing import Iterator, List, Optional, Tuple, Union

LINKS = 40
"""Links on the way to one file; more are taken for a circle, as by the kernel
(path_resolution(7))."""

TEMPORARY = ".swarm-registry-mirror-"
"""How the name of a temporary file begins."""

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = (
    os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
)  # the opening of a pipe would wait for its other end


class Failed(Exception):
    """What was asked for is not done and everything is as it was; the message is one sentence that
    says why and what to do."""


class FileProblem(Failed):
    """A file cannot be read or replaced; the message names it and says what to do. It is as it
    was."""


def read(path: str, follow: bool = True) -> Optional[bytes]:
    """Bytes of a regular file, or None where there is none. Raises FileProblem.

    `follow`: whether a file that is a link is read through it; refused otherwise, as on storage
    where others may write.
    """
    try:
        with _placed(path, follow) as (parent, name):
            handle = _open(parent, name, path)
            try:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    kind = (
                        "a directory"
                        if stat.S_ISDIR(os.fstat(handle).st_mode)
                        else "not a regular file"
                    )
                    raise FileProblem("%s is %s; move it away [RM213]" % (path, kind))
                with os.fdopen(handle, "rb", closefd=False) as file:
                    return file.read()
            finally:
                os.close(handle)
    except FileNotFoundError:
        if follow and os.path.islink(path):
            words = "%s is a link to %s, which does not exist; mend or remove the link [RM038]"
            raise FileProblem(words % (path, os.readlink(path))) from None
        return None
    except OSError as error:
        raise FileProblem("%s cannot be read: %s [RM214]" % (path, error.strerror)) from None


def _open(parent: int, name: str, path: str) -> int:
    """Handle of an existing file that is not a link. Raises OSError, FileProblem for a link."""
    try:
        return os.open(name, _FILE, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise FileProblem(
            ("%s is a link, which is not followed there; put the file itself in its place [RM039]")
            % path
        ) from None


ANYTHING = object()


def replace(
    path: str, data: bytes, mode: int = 0o644, expected: object = ANYTHING, follow: bool = True
) -> None:
    """Put `data` where `path` is, atomically; an existing file keeps its mode, owner and extended
    attributes.

    Temporary file in the same directory, fsync, rename, fsync of the directory (Pillai et al., OSDI
    2014: without the two fsyncs a power cut may leave an empty file). `follow`: a link stays a
    link, and the file that it names is replaced; otherwise a link is refused. `mode` is that of a
    new file. `expected`: the bytes (None: no file) on which the decision to replace was made; an
    edit that somebody has made since then stays. Raises FileProblem.
    """
    try:
        with _placed(path, follow, make=True) as (parent, name):
            temporary = TEMPORARY + os.urandom(8).hex()
            try:
                _write(parent, temporary, name, path, data, mode)
                if expected is not ANYTHING and read(path, follow) != expected:
                    raise FileProblem(
                        (
                            "%s was edited by somebody else at this very moment; run this again"
                            " [RM040]"
                        )
                        % path
                    )
                os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise
            _sync(parent)
    except OSError as error:
        reason = "%s cannot be replaced: %s" % (path, error.strerror)
        raise FileProblem(
            reason + "; is the disk full, read-only, or the file immutable (lsattr)?"
        ) from None


def _write(parent: int, temporary: str, name: str, path: str, data: bytes, mode: int) -> None:
    """A new file with mode, owner and attributes of `name`, where that exists, on disk when this
    returns. Raises OSError."""
    handle = os.open(
        temporary,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
        dir_fd=parent,
    )
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        try:
            former = _open(parent, name, path)
        except FileNotFoundError:
            os.fchmod(handle, mode)
        else:
            try:
                _take_over(former, handle)
            finally:
                os.close(former)
        file.flush()
        os.fsync(handle)


def _take_over(former: int, handle: int) -> None:
    """Give a file the owner, mode and extended attributes (SELinux label, access lists) of another.
    Raises OSError."""
    found = os.fstat(former)
    os.fchown(handle, found.st_uid, found.st_gid)
    os.fchmod(handle, stat.S_IMODE(found.st_mode))
    with contextlib.suppress(OSError):  # a file system without them
        for attribute in os.listxattr(former):
            with contextlib.suppress(OSError):  # one that only the kernel sets
                os.setxattr(handle, attribute, os.getxattr(former, attribute))


def remove(path: str, follow: bool = True) -> None:
    """Remove a file (or the link of that name) if it is there, and make that last. Raises
    FileProblem."""
    folder, name = os.path.split(path)
    try:
        with _walked(os.path.realpath(folder) if follow else folder) as parent:
            os.unlink(name, dir_fd=parent)
            _sync(parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileProblem("%s cannot be removed: %s [RM215]" % (path, error.strerror)) from None


def mode_of(path: str) -> int:
    """Permissions of a file that is no link, for a copy of it; root's alone where there is none."""
    try:
        with _placed(path, follow=False) as (parent, name):
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except (OSError, FileProblem):
        return 0o600
    return stat.S_IMODE(found.st_mode) if stat.S_ISREG(found.st_mode) else 0o600


def make_folder(path: str) -> None:
    """Have a directory, and its parents, and make them last. Raises OSError, FileProblem for a link
    of somebody else."""
    with _walked(path, make=True):
        return


def make_private_folder(path: str) -> None:
    """Have a directory that is ours and nobody else's. Raises FileProblem where it is another
    user's, or no directory."""
    try:
        with _walked(os.path.realpath(os.path.dirname(path)), make=True) as parent:
            name = os.path.basename(path)
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
                _sync(parent)
            handle = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
            )
            try:
                if os.fstat(handle).st_uid != os.geteuid():
                    raise FileProblem("%s belongs to another user; remove it [RM041]" % path)
                if stat.S_IMODE(os.fstat(handle).st_mode) != 0o700:
                    os.fchmod(handle, 0o700)
            finally:
                os.close(handle)
    except OSError as error:
        raise FileProblem(
            "%s cannot be used as a folder: %s; remove it [RM042]" % (path, error.strerror)
        ) from None


@contextlib.contextmanager
def _placed(path: str, follow: bool, make: bool = False) -> Iterator[Tuple[int, str]]:
    """Handle of the folder in which the file is (or will be), and its name there. Raises OSError,
    FileProblem."""
    folder, name = os.path.split(os.path.realpath(path) if follow else path)
    with _walked(folder, make) as handle:
        yield handle, name


@contextlib.contextmanager
def _walked(path: str, make: bool = False) -> Iterator[int]:
    """Handle of a directory; with `make` it and its parents are made where they are missing. Raises
    OSError, FileProblem."""
    here = os.open("/", _FOLDER)
    try:
        names, links = path.split("/")[::-1], 0
        while names:
            name = names.pop()
            if name in ("", "."):
                continue
            below = _step(here, name, make)
            if isinstance(below, str):
                links += 1
                if links > LINKS:
                    raise FileProblem("%s goes round in a circle of links; mend it [RM043]" % path)
                names.extend(below.split("/")[::-1])
                if not below.startswith("/"):
                    continue
                below = os.open("/", _FOLDER)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _step(here: int, name: str, make: bool) -> Union[int, str]:
    """Handle of a directory in another, or where the link of that name leads. Raises OSError,
    FileProblem."""
    try:
        return os.open(name, _FOLDER, dir_fd=here)
    except FileNotFoundError:
        if not make:
            raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=here)
            _sync(here)
        return os.open(name, _FOLDER, dir_fd=here)
    except NotADirectoryError:
        found = os.stat(name, dir_fd=here, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            raise
        parent = os.fstat(here)
        ours: List[int] = [0, os.geteuid()]
        if found.st_uid not in ours or parent.st_uid not in ours or parent.st_mode & 0o022:
            where = os.path.join(os.readlink("/proc/self/fd/%d" % here), name)
            words = (
                "%s is a link that others than root may have put there, and is not followed;"
                " name the folder itself [RM044]"
            )
            raise FileProblem(words % where) from None
        return os.readlink(name, dir_fd=here)


def _sync(folder: int) -> None:
    """Make the names in a directory survive a power cut. Raises OSError."""
    handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(data: Optional[bytes]) -> str:
    """Short name for some bytes; `absent` for a file that is not there."""
    return "absent" if data is None else "sha256:" + hashlib.sha256(data).hexdigest()
