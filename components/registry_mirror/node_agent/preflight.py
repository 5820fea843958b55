"""Looks for what would make a change go wrong, before anything is written; each finding with its remedy.

`findings` is pure: facts in, sentences out. It deliberately refuses rather than repairs: a node's command line and other
people's unfinished edits are not ours.
"""

import os
import tempfile
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from . import daemon_json, engine
from .keys import Version, version_of

SHORT_FLAGS = {"-H": "--host", "-D": "--debug", "-G": "--group", "-l": "--log-level", "-s": "--storage-driver"}
"""dockerd's one-letter flags that have a key in the file (`dockerd --help`)."""

HOSTS_TOML = "/etc/docker/certs.d/docker.io/hosts.toml"
"""Where it names hosts, the containerd image store asks those and no others (moby daemon/hosts.go, since 28.0)."""

LIVE_RESTORE = (
    "live-restore is true, and with it dockerd does not start on a node of a swarm (moby daemon/config/config_linux.go)"
)

VALIDATES_SINCE = 23
"""First major version of docker whose dockerd has `--validate` (20.10 says: unknown flag)."""


class Facts(NamedTuple):
    """What a node is like."""

    path: str
    text: str
    info: Dict[str, Any]
    """`docker info`."""
    arguments: List[str]
    """dockerd's command line; empty where it cannot be found out."""
    ours: List[str]
    """Mirrors that we have entered: a difference between file and daemon there is what we are here to mend."""
    hosts_toml: bool = False
    """Whether HOSTS_TOML exists."""
    program: str = ""
    """dockerd's own file; empty where it cannot be found out."""
    started_with: Optional[str] = None
    """What the file said when docker was started, where a restart was interrupted before it happened; None: `text`."""


def findings(facts: Facts, handed_over: Iterable[str] = ()) -> List[str]:
    """Why the file must not be changed now; empty if it may be. `handed_over`: keys that are ours besides the mirrors."""
    path, text, arguments, info = facts.path, facts.text, facts.arguments, facts.info
    found = []
    if arguments and arguments[0].startswith("/snap/"):
        found.append("docker is a snap here, with a file and a reload of its own; this works with dockerd as a service only")
    if "name=rootless" in (info.get("SecurityOptions") or []):
        found.append("this docker is rootless, so it is no node of a swarm that root looks after; tell the one that is")
    elsewhere = _value(arguments, "--config-file")
    if elsewhere is not None and os.path.realpath(elsewhere) != os.path.realpath(path):
        found.append("dockerd reads %s, not %s (its flag --config-file); set daemonJson to that" % (elsewhere, path))
    keys = {*daemon_json.values(text), daemon_json.KEY, *handed_over}
    for flag in _flags(arguments):
        both = sorted(keys & {flag, flag + "s", flag[:-1] + "ies"})
        if both:
            words = (
                "dockerd has the flag --%s on its command line and refuses the key %s in the file; move the flag into the file"
            )
            found.append(words % (flag, both[0]))
    for key in _pending(text, info, facts.ours):
        if key not in handed_over:
            words = (
                "%s was edited in %s, but docker has not taken that over, and our reload would; reload docker, or undo the edit"
            )
            found.append(words % (key, path))
    if facts.hosts_toml and _has_containerd_store(info):
        words = "docker's containerd image store goes by %s and ignores registry-mirrors; enter the mirror there, or remove it"
        found.append(words % HOSTS_TOML)
    if "insecure-registries" in daemon_json.values(text) and _forgets_insecure(version_of(str(info.get("ServerVersion", "")))):
        words = "docker %s forgets insecure-registries at a reload (moby#45552); bring it up to date first"
        found.append(words % info["ServerVersion"])
    return found


def restart_findings(facts: Facts, handed_over: Iterable[str]) -> List[str]:
    """Why docker must not be restarted now: it would not come back, or with somebody else's unfinished edit."""
    configured = daemon_json.values(facts.text)
    found = []
    if configured.get("live-restore") is True and _in_swarm(facts.info):
        found.append(LIVE_RESTORE + "; remove it from %s first" % facts.path)
    driver = configured.get("log-driver", facts.info.get("LoggingDriver"))
    if driver != facts.info.get("LoggingDriver") and "log-driver" not in handed_over:
        words = "log-driver was edited in %s, but docker has not taken that over, and our restart would; undo it, or hand it over"
        found.append(words % facts.path)
    return found


def hazards(facts: Facts) -> List[str]:
    """What does not keep the node from using the mirror, but an administrator would want to know."""
    if (daemon_json.values(facts.text).get("live-restore") is True or facts.info.get("LiveRestoreEnabled")) and _in_swarm(
        facts.info
    ):
        return [LIVE_RESTORE + "; we only reload it, but the next start of docker fails"]
    return []


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


def dockerd(unit: str) -> Tuple[List[str], str]:
    """Command line and program of the running dockerd; empty where it cannot be found out."""
    pid = engine.pid(unit)
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
        # dockerd ends at a reload that names one which does not answer (moby daemon/command/daemon.go).
        "authorization-plugins": (info.get("Plugins") or {}).get("Authorization") or [],
        daemon_json.KEY: theirs(engine.mirrors_of(info)),
    }
    wanted = {
        **configured,
        "labels": sorted(configured["labels"]) if isinstance(configured.get("labels"), list) else None,
        daemon_json.KEY: theirs(configured.get(daemon_json.KEY) or []),
    }
    return [key for key, value in live.items() if key in configured and wanted[key] != value]


def _in_swarm(info: Dict[str, Any]) -> bool:
    return bool((info.get("Swarm") or {}).get("LocalNodeState", "inactive") != "inactive")


def _has_containerd_store(info: Dict[str, Any]) -> bool:
    return any("io.containerd.snapshotter.v1" in pair for pair in info.get("DriverStatus") or [])


def _forgets_insecure(version: Version) -> bool:
    """moby#45552 was mended in 23.0.7 and 24.0.2 at the latest; 20.10.24 was tried and keeps them."""
    return (23, 0, 0) <= version < (23, 0, 7) or (24, 0, 0) <= version < (24, 0, 2)
