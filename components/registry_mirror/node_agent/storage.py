"""Puts the registry's configuration and cache directory on shared storage (`apply`), and takes the former away (`remove`).

Owns one file, and one directory with our marker in it: that says whose cache it is, and shows a node that it sees the same
storage. It deliberately never deletes the cache: what crossed the internet once should not have to do so again.
"""

import os
from typing import Any, Dict, Optional

from . import files

OWNER = ".swarm-registry-mirror"
"""In the cache: the name of the one service that writes there. A second registry would overwrite the first one's state."""

KEPT = ".before-swarm-registry-mirror"
"""Suffix under which a file that somebody else had put at our path is kept, to be put back by `remove`."""


def apply(request: Dict[str, Any]) -> str:
    """Have the configuration read `request["config"]`; returns `unchanged` or `written`. Raises files.FileProblem."""
    path, wanted = request["config_path"], request["config"].encode()
    try:
        os.makedirs(request["cache_path"], exist_ok=True)
    except OSError as error:
        raise files.FileProblem(
            "%s cannot be made: %s; is the shared storage mounted on this node?" % (request["cache_path"], error.strerror)
        ) from None
    _claim(os.path.join(request["cache_path"], OWNER), request["owner"])
    found = files.read(path)
    if found == wanted:
        return "unchanged"
    if found is not None and not _ours(found, request["marker"]) and not os.path.exists(path + KEPT):
        files.replace(path + KEPT, found)
    files.replace(path, wanted)
    return "written"


def remove(request: Dict[str, Any]) -> str:
    """Take our configuration away, putting back what was there before; an edited one is left. Raises files.FileProblem."""
    path = request["config_path"]
    files.remove(os.path.join(request["cache_path"], OWNER))
    found = files.read(path)
    kept = files.read(path + KEPT)
    if found is not None and not _ours(found, request["marker"]):
        return "left: it is not ours any more"
    if kept is not None:
        files.replace(path, kept)
        files.remove(path + KEPT)
        return "put back"
    files.remove(path)
    return "removed"


def _claim(path: str, owner: str) -> None:
    """Have the cache say whose it is. Raises files.FileProblem if it is somebody else's."""
    found = files.read(path)
    if found is None:
        files.replace(path, owner.encode() + b"\n")
    elif found.decode(errors="replace").strip() != owner:
        words = "%s says that the service %s writes to this cache; give each mirror a cachePath of its own (or remove that file)"
        raise files.FileProblem(words % (path, found.decode(errors="replace").strip()))


def seen(path: str, owner: str) -> Optional[str]:
    """What is wrong with the shared storage as this machine sees it; None if it is where `apply` has been."""
    try:
        found = files.read(os.path.join(path, OWNER))
    except files.FileProblem as error:
        return str(error)
    if found is not None and found.decode(errors="replace").strip() == owner:
        return None
    return "%s is not the storage that the manager sees under this name; mount it here too, or set placementConstraints" % path


def _ours(data: Optional[bytes], marker: str) -> bool:
    return data is not None and data.startswith(marker.encode())
