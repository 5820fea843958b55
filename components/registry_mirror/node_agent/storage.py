"""Puts the registry's configuration and cache directory on shared storage (`apply`), and takes the former away (`remove`).

Owns one file and the existence of one directory. It deliberately never deletes the cache: what crossed the internet once
should not have to do so again.
"""

import os
from typing import Any, Dict, Optional

from . import files

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


def _ours(data: Optional[bytes], marker: str) -> bool:
    return data is not None and data.startswith(marker.encode())
