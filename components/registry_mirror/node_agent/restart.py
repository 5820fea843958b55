"""Restarts docker on one node, which is drained, for keys that nothing else changes: `due`, `run`, `verify`, `undo`.

Owns the restart and its way back: if docker does not come up with the new file, or comes up and the mirror does not answer
once the node has its tasks again, the old file is put back and docker started with that. It deliberately knows nothing of
other nodes; `rolling_restart/` on the computer of `pulumi up` decides whose turn it is.
"""

import json
import time
from typing import Any, Dict, List, Optional

from . import daemon_json, engine, files, probe
from .files import Failed
from .node import EDITED_MEANWHILE, change, keys_in_file, locked, look_around, refuse, restore, wishes
from .plan import Plan, plan, untaken, values_after
from .preflight import Facts
from .record import Record

VERIFY_SECONDS = 120
"""For the mirror to answer again from a node whose own restart may have moved it to another machine."""


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
    entered = keys_in_file(record, wishes(record, request), todo)
    refuse(todo, facts)
    after = before if todo.after == facts.text else todo.after.encode()
    if todo.step == "none":
        return "not needed"
    if todo.step == "reload":
        change(record, request, before, todo, entered, facts.info)
        record.settle(url, after, entered)
        return "not needed"

    expected = values_after(todo.after, list(entered))
    used = daemon_json.contains(engine.mirrors_of(facts.info), url)
    resumed = record.unverified and files.digest(before) in record.written
    if record.unverified and not resumed:
        record.forget_before_restart()  # somebody has edited the file since: what he wrote is what must come back
    record.begin(url, before, after, entered)
    record.keep_before_restart(before)
    try:
        if after != before:
            files.replace(path, after or b"", expected=before)
        engine.restart(unit)
        info = engine.info(unit)
        missing = untaken(expected, info)
        if missing:
            raise Failed("docker was restarted and still does not have %s as wanted" % ", ".join(missing))
        if used and not daemon_json.contains(engine.mirrors_of(info), url):
            raise Failed("docker was restarted and does not use %s any more" % url)
    except Exception as error:
        begun = record.before_restart
        outcome = _back(path, begun, [before, after], unit)
        if resumed:
            _know_what_is_there(record, url, begun)
        else:
            record.rewind()
            record.forget_before_restart()
        raise Failed("%s; %s" % (error, outcome)) from error
    record.docker_started()
    record.settle(url, after, entered)
    return "restarted"


@locked
def verify(request: Dict[str, Any]) -> str:
    """Whether the mirror answers from this node, which has its tasks again; returns `well`. Raises Failed: then `undo`."""
    deadline = time.monotonic() + VERIFY_SECONDS
    while True:
        wrong = probe.fault(request["mirror"], image=request["check_image"])
        if wrong is None:
            record = Record(request["daemon_json"], request["owner"])
            if record.unverified:
                record.forget_before_restart()
                record.settle(request["mirror"], files.read(request["daemon_json"]), record.keys)
            return "well"
        if time.monotonic() > deadline:
            raise Failed("docker was restarted, and then, from this node, " + wrong)
        time.sleep(1)


@locked
def undo(request: Dict[str, Any]) -> str:
    """Put back what was there before the last restart, and restart docker with that; returns how that went."""
    record = Record(request["daemon_json"], request["owner"])
    path, url, unit = request["daemon_json"], request["mirror"], request["service"]
    if not record.unverified:
        return "there is nothing to put back"
    before = record.before_restart
    words = _back(path, before, [files.read(path)], unit)
    _know_what_is_there(record, url, before)
    return words


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
    return record, facts, plan(wishes(record, request), facts, request["restart"], restarting=True)


def _back(path: str, before: Optional[bytes], ours: List[Optional[bytes]], unit: str) -> str:
    """Have docker run again, with the old file unless somebody has just written another; returns how that went."""
    words = "the old daemon.json is back"
    try:
        if files.read(path) in [before, *ours]:
            restore(path, before)
        else:
            words = EDITED_MEANWHILE
        engine.restart(unit)
    except Exception as error:
        return "%s, BUT DOCKER DID NOT START WITH IT: %s" % (words, error)
    return words + ", and docker runs with it"
