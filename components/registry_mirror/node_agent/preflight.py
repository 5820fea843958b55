"""Looks for what would make a change go wrong, before anything is written; each finding with its
remedy.

`findings` is pure: facts in, sentences out. It deliberately refuses rather than repairs: a node's
command line and other people's unfinished edits are not ours.
"""

import os
from types import MappingProxyType
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence

from . import (
    command_line,
    daemon_json,
    daemon_keys,
    daemon_process,
    daemon_settings,
    engine,
    started,
)
from .daemon_keys import Version, version_of
from .daemon_settings import START, AtStart, Daemon, Pending

RELOAD_HURTS: "tuple[Version, Version]" = ((28, 0, 0), (29, 3, 0))
"""From which docker on, and before which, a reload zeroes the addresses behind `host-gateway`
(moby#52057), and from 29.0 on also what daemon.json says of `dns` (moby#52056): both are deep
copied without their private parts (moby#52060)."""

LIVE_RESTORE = (
    "live-restore is true, and with it dockerd does not start on a node of a swarm"
    " (moby daemon/config/config_linux.go) [RM142]"
)


NOTHING: Mapping[str, str] = MappingProxyType({})


class Facts(NamedTuple):
    """What a node is like."""

    path: str
    text: str
    info: Dict[str, Any]
    """`docker info`."""
    arguments: List[str]
    """dockerd's command line; empty where it cannot be found out."""
    ours: List[str]
    """Mirrors that we have entered: a difference between file and daemon there is what we are here
    to repair."""
    program: str = ""
    """dockerd's own file; empty where it cannot be found out."""
    started_with: Optional[str] = None
    """What the file said when docker was started, where a restart was interrupted before it
    happened; None: `text`."""
    environment: Mapping[str, str] = NOTHING
    """dockerd's."""
    at_start: AtStart = AtStart({}, False)
    """What the file said when docker was started."""
    event: Optional[Dict[str, str]] = None
    """Attributes of the last reload that dockerd accepted; None where it remembers none."""
    written_by_us: bool = False
    """Whether these very bytes were written by us, and taken over by a reload that we checked."""
    stale_unit: Sequence[str] = ()
    """What of docker's service was edited since docker was started."""
    data_root: Optional[str] = None
    """`data-root` of the file with every link resolved, as dockerd shows it; None where the file
    has none."""


def gather(
    path: str,
    data: Optional[bytes],
    info: Dict[str, Any],
    unit: str,
    ours: List[str],
    *,
    before_restart: Optional[str] = None,
    written_by_us: bool = False,
) -> Facts:
    """The facts of this node, read from the system. Raises daemon_json.Refused and
    engine.EngineProblem."""
    process = daemon_process.running(unit)
    text, at_start = daemon_json.decode(data), started.at_start(path, data, process)
    root = started.values(text).get("data-root")
    since = process.started_at
    return Facts(
        path,
        text,
        info,
        process.arguments,
        ours,
        process.program,
        before_restart,
        environment=process.environment,
        at_start=at_start,
        event=engine.reload_event(since or 0)
        if since is None or started.changed_at(path) > since
        else None,
        written_by_us=written_by_us,
        stale_unit=daemon_process.stale_unit(unit, process),
        data_root=os.path.realpath(root) if isinstance(root, str) and os.path.isabs(root) else None,
    )


def findings(facts: Facts, handed_over: Iterable[str] = ()) -> List[str]:
    """Why the file must not be changed now; empty if it may be. `handed_over`: keys that are ours
    besides the mirrors."""
    path, text, arguments, info = facts.path, facts.text, facts.arguments, facts.info
    found = other_docker(facts)
    elsewhere = command_line.last_value(arguments, "config-file")
    if elsewhere is not None and os.path.realpath(elsewhere) != os.path.realpath(path):
        found.append(
            "dockerd reads %s, not %s (its flag --config-file); set daemonJson to that [RM143]"
            % (elsewhere, path)
        )
    configured = configured_by(facts)
    refused = command_line.conflicts(
        {**dict.fromkeys([daemon_json.KEY, *handed_over]), **configured}, arguments
    )
    for key, flag in refused.items():
        words = (
            "dockerd has the flag --%s on its command line and refuses the key %s in the file;"
            " move the flag into the file [RM144]"
        )
        found.append(words % (flag, key))
    for flag in command_line.lost_by_reload(configured, arguments):
        words = (
            "dockerd has the flag --%s on its command line, and a reload takes that away from it"
            " (moby daemon/reload.go);"
            " move the flag into the file, and restart docker [RM145]"
        )
        found.append(words % flag)
    for edit in _pending(facts, handed_over, restart=False):
        found.append(_words(edit, path, "reload"))
    if "insecure-registries" in daemon_json.values(text) and _forgets_insecure(
        version_of(str(info.get("ServerVersion", "")))
    ):
        words = (
            "docker %s forgets insecure-registries at a reload (moby#45552); bring it up to"
            " date first [RM146]"
        )
        found.append(words % info["ServerVersion"])
    return found


def other_docker(facts: Facts) -> List[str]:
    """Why this docker is none whose files are looked after here, neither daemon.json nor
    hosts.toml."""
    found = []
    if facts.arguments and facts.arguments[0].startswith("/snap/"):
        found.append(
            "docker is a snap here, with a file and a reload of its own; this works with dockerd as"
            " a service only [RM147]"
        )
    if "name=rootless" in (facts.info.get("SecurityOptions") or []):
        found.append(
            "this docker is rootless, so it is no node of a swarm that root looks after; tell the"
            " one that is [RM148]"
        )
    return found


def reload_hurts(info: Dict[str, Any]) -> Optional[str]:
    """What a reload breaks in this docker until it is restarted, so that a node is not reloaded;
    None if nothing. Pure."""
    version = str(info.get("ServerVersion", ""))
    first, mended = RELOAD_HURTS
    if not first <= version_of(version) < mended:
        return None
    words = (
        "docker %s loses the addresses behind host-gateway at a reload%s, and then no"
        " container with them starts (moby#52057) [RM149]"
    )
    return words % (version, " and its dns" if version_of(version) >= (29, 0, 0) else "")


def restart_findings(facts: Facts, handed_over: Iterable[str]) -> List[str]:
    """Why docker must not be restarted now: it would not come back, or with somebody else's
    unfinished edit.

    Besides `findings`, whose sentences are not said again.
    """
    configured = configured_by(facts)
    found = []
    flags = [
        flag.value for flag in command_line.flags(facts.arguments) if flag.name == "live-restore"
    ]
    if (configured.get("live-restore") is True or flags[-1:] in ([""], ["true"])) and _in_swarm(
        facts.info
    ):
        found.append(
            LIVE_RESTORE
            + "; remove it from %s first" % (facts.path if not flags else "dockerd's command line")
        )
    if not facts.arguments:
        found.append(
            "dockerd's command line cannot be read from /proc, so nobody knows what it would start"
            " with [RM150]"
        )
    if facts.program.endswith(daemon_process.REPLACED):
        words = (
            "%s was replaced since docker was started, so that a restart brings up another"
            " version; restart docker yourself [RM151]"
        )
        found.append(words % facts.program[: -len(daemon_process.REPLACED)])
    for place in facts.stale_unit:
        words = (
            "docker's service was edited since docker was started (%s), and our restart would"
            " take that over [RM152];"
        )
        found.append((words + " restart docker yourself, or undo the edit") % place)
    told = {edit.key for edit in _pending(facts, handed_over, restart=False)}
    for edit in _pending(facts, handed_over, restart=True):
        if edit.key not in told:
            found.append(_words(edit, facts.path, "restart"))
    return found


def lost_image_store(before: str, after: str) -> List[str]:
    """Whether our edit would change where images are kept at docker's next start: then every one is
    out of sight."""
    store = daemon_settings.SNAPSHOTTER
    was, becomes = (
        daemon_settings.entry(started.values(text), "features", store) for text in (before, after)
    )
    if was is None or was == becomes:
        return []
    words = (
        "features of daemonKeys would take %s: %s out of the file, and the next start of"
        " docker would hide every image [RM153];"
    )
    return [
        (words + " take features out of daemonKeys, or add that entry to the file by hand")
        % (store, was)
    ]


def hazards(facts: Facts) -> List[str]:
    """What does not keep the node from using the mirror, but an administrator would want to
    know."""
    if (
        daemon_json.values(facts.text).get("live-restore") is True
        or facts.info.get("LiveRestoreEnabled")
    ) and _in_swarm(facts.info):
        return [LIVE_RESTORE + "; we only reload it, but the next start of docker fails"]
    return []


def refused_by_dockerd(text: str, facts: Facts) -> List[str]:
    """What dockerd itself has against a file with this text beside its command line; empty if
    nothing.

    Of a key that is a flag too dockerd prints both values, which may be secrets (log-opts); so that
    is said without it.
    """
    both = command_line.conflicts(started.values(text), facts.arguments)
    if both:
        complaint: Optional[str] = (
            "on its command line it has flags for %s too [RM154]"
        ) % ", ".join(both)
    else:
        process = daemon_process.Process(
            facts.arguments, facts.program, facts.environment, None, ""
        )
        version = str(facts.info.get("ServerVersion", ""))
        complaint = daemon_process.complaint(text.encode(), process, version)
    return [] if complaint is None else ["dockerd would refuse the file: %s [RM155]" % complaint]


def configured_by(facts: Facts) -> Dict[str, Any]:
    """The keys of the file and what they hold, with links of `data-root` resolved, as dockerd shows
    it."""
    configured = started.values(facts.text)
    return (
        {**configured, "data-root": facts.data_root}
        if facts.data_root and not facts.at_start.known
        else configured
    )


def _pending(facts: Facts, handed_over: Iterable[str], restart: bool) -> List[Pending]:
    """What of the file docker has not taken over, or not for certain, and would with a reload, or a
    restart."""
    configured, info = configured_by(facts), facts.info

    def theirs(urls: List[str]) -> List[str]:
        return [url.rstrip("/") for url in urls if not daemon_json.contains(facts.ours, url)]

    listed = theirs(configured.get(daemon_json.KEY) or [])
    found = []
    if listed != theirs(engine.mirrors_of(info)) and (restart or daemon_json.KEY in configured):
        found.append(Pending(daemon_json.KEY, True, daemon_settings.KEPT))
    daemon = Daemon(info, facts.arguments, facts.event, facts.at_start)
    return found + daemon_settings.pending(
        configured, daemon, restart, handed_over, facts.written_by_us
    )


def _words(edit: Pending, path: str, step: str) -> str:
    """Why an edit is in the way of a `reload` or a `restart`, with the remedy."""
    remedy = "restart docker yourself" if edit.taken_by == START else "reload docker"
    if edit.key in daemon_keys.KEYS:
        remedy += ", put it into daemonKeys"
    if edit.shown:
        words = (
            "%s was edited in %s, but docker has not taken that over, and our %s would; %s, or"
            " undo the edit [RM156]"
        )
        return words % (edit.key, path, step, remedy)
    words = (
        "%s was edited since docker was started, and docker does not show what it has of %s,"
        " which our %s may change; %s [RM157]"
    )
    return words % (path, edit.key, step, remedy)


def _in_swarm(info: Dict[str, Any]) -> bool:
    return bool((info.get("Swarm") or {}).get("LocalNodeState", "inactive") != "inactive")


def _forgets_insecure(version: Version) -> bool:
    """moby#45552 was fixed in 23.0.7 and 24.0.2 at the latest; 20.10.24 was tried and keeps
    them."""
    return (23, 0, 0) <= version < (23, 0, 7) or (24, 0, 0) <= version < (24, 0, 2)
