"""Looks for what would make a change go wrong, before anything is written; each finding with its remedy.

`findings` is pure: facts in, sentences out. It deliberately refuses rather than repairs: a node's command line and other
people's unfinished edits are not ours.
"""

import os
import tempfile
from typing import Any, Dict, List, Optional, Tuple

from . import daemon_json, engine

SHORT_FLAGS = {"-H": "--host", "-D": "--debug", "-G": "--group", "-l": "--log-level", "-s": "--storage-driver"}
"""dockerd's one-letter flags that have a key in the file (`dockerd --help`)."""

VALIDATES_SINCE = 23
"""First major version of docker whose dockerd has `--validate` (20.10 says: unknown flag)."""


def findings(facts: Dict[str, Any]) -> List[str]:
    """Why the file must not be changed now; empty if it may be.

    facts: `path`, `text` (of the file), `arguments` (dockerd's command line), `info` (docker info), `mirrors` (entries that
    are ours, whose difference between file and daemon is just what we are here to mend).
    """
    path, text, arguments, info = facts["path"], facts["text"], facts["arguments"], facts["info"]
    found = []
    if arguments and arguments[0].startswith("/snap/"):
        found.append("docker is a snap here, with a file and a reload of its own; this works with dockerd under systemd only")
    elsewhere = _value(arguments, "--config-file")
    if elsewhere is not None and os.path.realpath(elsewhere) != os.path.realpath(path):
        found.append("dockerd reads %s, not %s (its flag --config-file); set daemonJson to that" % (elsewhere, path))
    keys = set(daemon_json.values(text)) | {daemon_json.KEY}
    for flag in _flags(arguments):
        both = sorted(keys & {flag, flag + "s", flag[:-1] + "ies"})
        if both:
            words = (
                "dockerd has the flag --%s on its command line and refuses the key %s in the file; move the flag into the file"
            )
            found.append(words % (flag, both[0]))
    for key in _pending(text, info, facts["mirrors"]):
        words = "%s was edited in %s, but docker has not taken that over, and our reload would; reload docker, or undo the edit"
        found.append(words % (key, path))
    return found


def validated_by_dockerd(data: bytes, program: str, version: str) -> Optional[str]:
    """What dockerd itself has against a file with these bytes; None if nothing, or if this version cannot be asked."""
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) < VALIDATES_SINCE or not os.path.exists(program):
        return None
    with tempfile.NamedTemporaryFile(prefix="swarm-registry-mirror-", suffix=".json") as file:
        file.write(data)
        file.flush()
        try:
            engine.run(program, "--validate", "--config-file", file.name)
        except engine.EngineProblem as error:
            return str(error).replace(file.name, "the file")
    return None


def dockerd() -> Tuple[List[str], str]:
    """Command line and program of the running dockerd; empty where it cannot be found out."""
    pid = engine.pid()
    try:
        with open("/proc/%s/cmdline" % pid, "rb") as file:
            arguments = [word.decode(errors="replace") for word in file.read().split(b"\0") if word]
        return arguments, os.readlink("/proc/%s/exe" % pid)
    except OSError:
        return [], ""


def _flags(arguments: List[str]) -> List[str]:
    """Names of the flags of a command line, without values: `--log-driver=json-file -H fd://` gives log-driver and host."""
    long = [SHORT_FLAGS.get(word, word) for word in arguments[1:]]
    return [word.partition("=")[0][2:] for word in long if word.startswith("--")]


def _value(arguments: List[str], flag: str) -> Optional[str]:
    for index, word in enumerate(arguments):
        if word.startswith(flag + "="):
            return word.partition("=")[2]
        if word == flag and index + 1 < len(arguments):
            return arguments[index + 1]
    return None


def _pending(text: str, info: Dict[str, Any], ours: List[str]) -> List[str]:
    """Keys whose value in the file is not what docker has, as far as docker tells: a reload would activate them."""
    configured = daemon_json.values(text)

    def theirs(urls: List[str]) -> List[str]:
        return [url.rstrip("/") for url in urls if not daemon_json.contains(ours, url)]

    live = {
        "debug": bool(info.get("Debug")),
        "labels": sorted(info.get("Labels") or []),
        "live-restore": bool(info.get("LiveRestoreEnabled")),
        daemon_json.KEY: theirs(engine.mirrors_of(info)),
    }
    wanted = {
        **configured,
        "labels": sorted(configured["labels"]) if isinstance(configured.get("labels"), list) else None,
        daemon_json.KEY: theirs(configured.get(daemon_json.KEY) or []),
    }
    return [key for key, value in live.items() if key in configured and wanted[key] != value]
