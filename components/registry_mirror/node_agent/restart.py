"""Restarts docker on one node, which is drained, for keys that nothing else changes: `due`, `run`, `verify`, `undo`.

Owns the restart and its way back: if docker does not come up with the new file, or comes up as something less than it was (no
member of its swarm, another data root, no images), or the mirror does not answer once the node has its tasks again, the old file
is put back and docker started with that, and that is checked too. It deliberately knows nothing of
other nodes; `rolling_restart/` on the computer of `pulumi up` decides whose turn it is.
"""

import json
import os
import time
from typing import Any, Dict, List, Optional

from . import daemon_json, dockerd_view, engine, files, member, probe
from .files import Failed
from .node import (
    EDITED_MEANWHILE,
    change,
    harm_accepted,
    keys_in_file,
    left_alone,
    locked,
    look_around,
    refuse,
    restore,
    wishes,
)
from .plan import Plan, plan, untaken, values_after
from .preflight import Facts
from .record import Record

VERIFY_SECONDS = 120
"""For the mirror to answer again from a node whose own restart may have moved it to another machine."""

MEMBER_SECONDS = 30
"""For a docker that has just started to be an active node of its swarm again; a healthy one takes one or two."""
POLL_SECONDS = 0.5
REFUSED = ".not-started"
"""Suffix under which a file is kept that docker did not start with, where an older one took its place."""


def due(request: Dict[str, Any]) -> str:
    """Whether this node waits for a restart, as JSON: `due` (keys), `reasons`, `id` (in its swarm). Changes nothing.

    `unverified`: it was restarted, or nearly, by a run that ended before it knew whether the node is well.
    """
    record, facts, todo = _plan(request)
    swarm = facts.info.get("Swarm") or {}
    reasons = [reason for reason in todo.reasons if any(reason.startswith(key + " ") for key in todo.due)]
    found = {"due": todo.due, "reasons": reasons, "id": swarm.get("NodeID", ""), "unverified": record.unverified}
    return json.dumps(found)


@locked
def run(request: Dict[str, Any]) -> str:
    """Write what only a restart changes, restart docker and check; returns `restarted` or `not needed`. Raises Failed.

    After a failure the old bytes are back and docker runs with them, or the message says that it does not.
    """
    record, facts, todo = _plan(request)
    path, url, unit = request["daemon_json"], request["mirror"], request["service"]
    before = files.read(path)
    entered = keys_in_file(record, wishes(record, request, facts.info), todo)
    refuse(todo, facts)
    after = before if todo.after == facts.text else todo.after.encode()
    if todo.step == "none":
        return "not needed"
    if todo.step == "reload":
        change(record, request, before, todo, entered, facts.info)
        record.settle(url, after, entered)
        return "not needed"

    expected = values_after(todo.after, list(entered))
    resumed = record.unverified and files.digest(before) in record.written
    if record.unverified and not resumed:
        record.forget_before_restart()  # somebody has edited the file since: what he wrote is what must come back
    record.begin(url, before, after, entered)
    if not record.unverified and _started_with(path, unit):
        record.keep_healthy(before)
    record.keep_before_restart(before, member.standing(facts.info))
    stopped = False
    try:
        if after != before:
            files.replace(path, after or b"", expected=before)
        stopped = True
        engine.restart(unit)
        info = _await_membership(record, unit)
        missing = untaken(expected, info)
        if missing:
            raise Failed("docker was restarted and still does not have %s as wanted" % ", ".join(missing))
        if todo.mirror is not None and not daemon_json.contains(engine.mirrors_of(info), url):
            raise Failed("docker was restarted and does not use %s any more" % url)
    except Exception as error:
        begun = record.before_restart
        untouched = not stopped and left_alone(path, before, [after])
        outcome = "" if untouched else _back(record, path, begun, [before, after], unit)
        if resumed and untouched:
            record.rewind()  # what the interrupted run has written is still there, and still untried
        elif resumed:
            now = files.read(path)
            _know_what_is_there(record, url, now if now == record.healthy else begun)
        else:
            record.rewind()
            record.forget_before_restart()
        raise Failed("nothing was changed: %s" % error if untouched else "%s; %s" % (error, outcome)) from error
    record.docker_started()
    record.settle(url, after, entered)
    return "restarted"


@locked
def verify(request: Dict[str, Any]) -> str:
    """Whether this node, which has its tasks again, is healthy; returns `well`. Raises Failed: then `undo`.

    It must be what it was in its swarm, and both this program and dockerd itself must get an image from the mirror.
    """
    deadline = time.monotonic() + VERIFY_SECONDS
    while True:
        wrong = _fault(request)
        if wrong is None:
            record, data = Record(request["daemon_json"], request["owner"]), files.read(request["daemon_json"])
            if record.unverified:
                record.forget_before_restart()
                record.settle(request["mirror"], data, record.keys)
                record.keep_healthy(data)
            return "well"
        if time.monotonic() > deadline:
            raise Failed("docker was restarted, and then, from this node, " + wrong)
        time.sleep(1)


def _fault(request: Dict[str, Any]) -> Optional[str]:
    """What keeps the node from being healthy just now; None if nothing does."""
    url, unit, image = request["mirror"], request["service"], request["check_image"]
    try:
        info = engine.info(unit)
    except engine.EngineProblem as error:
        return str(error)
    text = daemon_json.decode(files.read(request["daemon_json"]))
    proxy = dockerd_view.proxy_of(url, info, unit, text)
    standing = Record(request["daemon_json"], request["owner"]).standing
    return (
        member.lost(standing, info)
        or member.absence(info)
        or probe.fault(url, image=image, proxy=proxy)
        or dockerd_view.refusal(url, image, info, unit, text)
    )


@locked
def undo(request: Dict[str, Any]) -> str:
    """Put back what was there before the last restart, and restart docker with that; returns how that went."""
    record = Record(request["daemon_json"], request["owner"])
    path, url, unit = request["daemon_json"], request["mirror"], request["service"]
    if not record.unverified:
        return "there is nothing to put back"
    before = record.before_restart
    words = _back(record, path, before, [files.read(path)], unit)
    now = files.read(path)
    _know_what_is_there(record, url, now if now == record.healthy else before)
    return words


def _started_with(path: str, unit: str) -> bool:
    """Whether the running docker was started with the file as it is: nobody has written to it since."""
    started = dockerd_view.started_at(unit)
    try:
        return started is not None and os.path.getmtime(path) < started
    except OSError:
        return False


def _await_membership(record: Record, unit: str) -> Dict[str, Any]:
    """`docker info` of a docker that has just started, once it is what it was in its swarm. Raises Failed if that never comes."""
    deadline = time.monotonic() + MEMBER_SECONDS
    while True:
        info = engine.info(unit)
        wrong = member.lost(record.standing, info)
        if wrong is None:
            return info
        if time.monotonic() > deadline:
            raise Failed("docker was restarted, and then " + wrong)
        time.sleep(POLL_SECONDS)


def _know_what_is_there(record: Record, url: str, data: Optional[bytes]) -> None:
    """After the way back: which keys are ours is read from the file, because an earlier restart may have entered some."""
    text = daemon_json.decode(data)
    spelt = {key: daemon_json.spelling(text, key) for key in record.keys}
    record.forget_before_restart()
    record.settle(url, data, {key: json.loads(spelling) for key, spelling in spelt.items() if spelling is not None})


def _plan(request: Dict[str, Any]) -> "tuple[Record, Facts, Plan]":
    path, unit = request["daemon_json"], request["service"]
    record, info = Record(path, request["owner"]), engine.info(unit)
    facts = look_around(record, path, request["mirror"], files.read(path), info, unit)
    wanted = wishes(record, request, info)
    return record, facts, plan(wanted, facts, request["restart"], restarting=True, harm_accepted=harm_accepted(request))


def _back(record: Record, path: str, before: Optional[bytes], ours: List[Optional[bytes]], unit: str) -> str:
    """Have docker run again as it was, with the old file unless somebody has just written another; returns how that went."""
    words = "the old daemon.json is back"
    try:
        if files.read(path) in [before, *ours]:
            restore(path, before)
        else:
            words = EDITED_MEANWHILE
        engine.restart(unit)
    except Exception as error:
        return _back_to_health(record, path, unit, "%s, BUT DOCKER DID NOT START WITH IT: %s" % (words, error))
    try:
        _await_membership(record, unit)
    except Exception as error:
        return "%s, and docker runs with it, BUT IS NOT WHAT IT WAS: %s" % (words, error)
    return words + ", and docker runs with it"


def _back_to_health(record: Record, path: str, unit: str, words: str) -> str:
    """Where docker does not start with the old file either: the last one with which it is known to have been healthy."""
    try:
        refused, healthy = files.read(path), record.healthy
        if healthy is None or healthy == refused:
            return words
        if refused is not None:
            files.replace(path + REFUSED, refused, mode=0o600)
        files.replace(path, healthy)
        engine.restart(unit)
    except Exception as error:
        return "%s; NOR WITH THE LAST ONE THAT IT WAS HEALTHY WITH: %s" % (words, error)
    return "%s; it runs with the last one that it was healthy with, and the one it did not start with is %s" % (
        words,
        path + REFUSED,
    )
