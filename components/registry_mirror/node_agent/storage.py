"""Puts the registry's configuration and cache directory on shared storage (`apply`), and takes the
former away (`remove`).

Owns one file, and one directory with our marker in it: that says whose cache it is, and shows a
node that it sees the same storage. It deliberately never deletes the cache: what crossed the
internet once should not have to do so again.

Others may write to that storage, so no link of theirs is followed (`files.py`).
"""

import os
from typing import Optional

from . import files
from .request import StorageRequest

OWNER = ".swarm-registry-mirror"
"""In the cache: the one service that writes there and, on a second line, the identity of its mirror
(that line is missing where an earlier version wrote it). A second registry would overwrite the
first one's state."""

KEPT = ".before-swarm-registry-mirror"
"""Suffix under which a file that somebody else had put at our path is kept, to be put back by
`remove`."""


def apply(request: StorageRequest) -> str:
    """Have the configuration read `request.config`; returns `unchanged` or `written`. Raises
    files.FileProblem."""
    path, wanted = request.config_path, request.config.encode()
    cache, owner = request.cache_path, request.owner
    wrong = marker_fault(cache, owner, request.identity)
    if wrong and request.former is not None:
        wrong = marker_fault(
            cache, owner, request.former
        )  # an earlier version of this mirror has marked it
    if wrong:
        raise files.FileProblem(wrong)
    found = files.read(path, follow=False)
    try:
        files.make_folder(request.cache_path)
    except OSError as error:
        raise files.FileProblem(
            "%s cannot be made: %s; is the shared storage mounted on this node? [RM193]"
            % (request.cache_path, error.strerror)
        ) from None
    _mark(request)
    if found == wanted:
        return "unchanged"
    if (
        found is not None
        and not is_ours(found, request.marker)
        and files.read(path + KEPT, follow=False) is None
    ):
        files.replace(path + KEPT, found, mode=files.mode_of(path), follow=False)
    files.replace(path, wanted, follow=False)
    return "written"


def remove(request: StorageRequest) -> str:
    """Take our configuration away, putting back what was there before; an edited one is left.
    Raises files.FileProblem."""
    path, cache = request.config_path, request.cache_path
    if marker_fault(cache, request.owner, request.identity) is not None:
        return "left: it is not ours any more"
    files.remove(os.path.join(cache, OWNER), follow=False)
    found = files.read(path, follow=False)
    kept = files.read(path + KEPT, follow=False)
    if found is not None and not is_ours(found, request.marker):
        return "left: it is not ours any more"
    if kept is not None:
        files.replace(path, kept, mode=files.mode_of(path + KEPT), follow=False)
        files.remove(path + KEPT, follow=False)
        return "put back"
    files.remove(path, follow=False)
    return "removed"


def _mark(request: StorageRequest) -> None:
    """Have the cache say whose it is. Raises files.FileProblem."""
    path = os.path.join(request.cache_path, OWNER)
    wanted = "%s\n%s" % (request.owner, request.identity)
    wanted = wanted.rstrip("\n") + "\n"
    if files.read(path, follow=False) != wanted.encode():
        files.replace(path, wanted.encode(), follow=False)


def marker_fault(cache: str, owner: str, identity: str) -> Optional[str]:
    """Whose the cache is if it is somebody else's, and what to do; None if it is ours or nobody's.
    Raises files.FileProblem.

    A marker with our identity is ours under whatever name the service had.
    """
    path = os.path.join(cache, OWNER)
    found = files.read(path, follow=False)
    if found is None:
        return None
    service, its = _marker(found)
    if its == identity if its and identity else service == owner:
        return None
    words = (
        "%s says that the service %s writes to this cache%s; give each mirror a cachePath of"
        " its own (or remove that file) [RM194]"
    )
    return words % (path, service, ", which is another stack's" if service == owner else "")


def _marker(data: bytes) -> "tuple[str, str]":
    """Service and identity, the latter empty where it is not known."""
    lines = data.decode(errors="replace").split("\n")
    return lines[0].strip(), lines[1].strip() if len(lines) > 1 else ""


def seen(path: str, owner: str) -> Optional[str]:
    """What is wrong with the shared storage as this machine sees it; None if it is where `apply`
    has been."""
    try:
        found = files.read(os.path.join(path, OWNER), follow=False)
    except files.FileProblem as error:
        return str(error)
    if found is not None and _marker(found)[0] == owner:
        return None
    return (
        "%s is not the storage that the manager sees under this name; mount it here too, or set"
        " placementConstraints [RM195]" % path
    )


def is_ours(data: bytes, marker: str) -> bool:
    """Whether a configuration is one that we wrote."""
    return data.startswith(marker.encode())
