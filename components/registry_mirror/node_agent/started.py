"""What daemon.json said when the running dockerd was started: learnt by the file's time, and
remembered while that dockerd runs.

Owns the folder FOLDER, which a boot empties, as it ends every dockerd. Without it, our own edit of
the file would hide whether somebody else's keys in it were there at the start.
"""

import contextlib
import json
import os
from typing import Any, Dict, Optional

from . import daemon_json, files
from .daemon_process import Process
from .daemon_settings import AtStart

FOLDER = "/run/swarm-registry-mirror"
"""Root-only, as a daemon.json may hold passwords."""


def at_start(path: str, data: Optional[bytes], process: Process) -> AtStart:
    """What the file at `path`, which has the bytes `data` now, said when `process` was started.
    Raises daemon_json.Refused."""
    text = None if data is None else daemon_json.decode(data)
    if process.started_at is None:
        return AtStart(values(text), False, text is None)
    place = os.path.join(FOLDER, path.strip("/").replace("/", "-") + ".json")
    known = _remembered(place)
    if known.get("process") != process.identity:
        known = {
            "process": process.identity,
            "text": text,
            "known": changed_at(path) <= process.started_at,
        }
        with contextlib.suppress(files.FileProblem, OSError):
            os.makedirs(FOLDER, mode=0o700, exist_ok=True)
            files.replace(place, json.dumps(known).encode(), mode=0o600)
    return AtStart(values(known["text"]), bool(known["known"]), known["text"] is None)


def changed_at(path: str) -> float:
    """When a file came to say what it says, in seconds since 1970; where there is none, when its
    folder was changed last.

    By the time that nobody can set: `cp -p`, rsync and archives bring an old time of modification
    along.
    """
    try:
        return max(os.stat(path).st_ctime, os.lstat(path).st_ctime)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            return os.stat(os.path.dirname(path)).st_ctime
        return 0.0


def values(text: Optional[str]) -> Dict[str, Any]:
    """The keys of a daemon.json and what they hold. Raises daemon_json.Refused where dockerd would
    not read it as we do."""
    if text is None:
        return {}
    return {
        key: json.loads(daemon_json.spelling(text, key) or "null", parse_int=_whole)
        for key in daemon_json.values(text)
    }


def _whole(spelling: str) -> Any:
    """Python refuses to read thousands of digits; dockerd refuses far fewer."""
    return int(spelling) if len(spelling) < 20 else spelling


def _remembered(place: str) -> Dict[str, Any]:
    try:
        data = files.read(place)
        found = json.loads(data) if data else {}
    except (files.FileProblem, ValueError):
        return {}
    return found if isinstance(found, dict) and {"process", "text", "known"} <= set(found) else {}
