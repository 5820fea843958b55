"""Restarts docker on one node, which is drained, for keys that nothing else changes: `due`, `run`,
`verify`, `undo`.

Owns the restart and its rollback: if docker does not come up with the new file, or comes up as
something less than it was (no member of its swarm, another data root, no images), or the mirror
does not answer once the node has its tasks again, the old file is put back and docker started with
that, and that is checked too. It deliberately knows nothing of other nodes; `rolling_restart/` on
the computer of `pulumi up` decides whose turn it is.
"""

import json
import os
import time
from typing import Any, Dict, Optional

from . import daemon_json, dockerd_view, engine, files, member, outcome, probe
from .change import EDITED_MEANWHILE, Edit, change
from .context import Context, context_of, locked, record_of, refuse
from .files import Failed
from .plan import Plan, untaken, values_after
from .record import Record
from .request import NodeRequest

VERIFY_SECONDS = 120
"""For the mirror to answer again from a node whose own restart may have moved it to another
machine."""

MEMBER_SECONDS = 30
"""For a docker that has just started to be an active node of its swarm again; a healthy one takes
one or two."""
POLL_SECONDS = 0.5
REFUSED = ".not-started"
"""Suffix under which a file is kept that docker did not start with, where an older one took its
place."""


def due(request: NodeRequest) -> str:
    """Whether this node waits for a restart, as JSON: `due` (keys), `reasons`, `id` (in its swarm).
    Changes nothing.

    `unverified`: it was restarted, or nearly, by a run that ended before it knew whether the node
    is healthy.
    """
    context = context_of(request)
    todo = _plan(context)
    swarm = context.info.get("Swarm") or {}
    answer = {
        "due": todo.due,
        "reasons": [
            reason.text
            for reason in todo.reasons
            if reason.kind == "key" and reason.key in todo.due
        ],
        "id": swarm.get("NodeID", ""),
        "unverified": context.record.unverified,
    }
    return json.dumps(answer)


@locked
def run(request: NodeRequest) -> str:
    """Write what only a restart changes, restart docker and check; returns `restarted` or
    `not-needed`. Raises Failed.

    After a failure the old bytes are back and docker runs with them, or the message says that it
    does not.
    """
    context = context_of(request)
    record, path, url, unit = context.record, request.path, request.mirror_url, request.unit
    before = files.read(path)
    facts = context.facts(before)
    todo = context.plan(facts, restarting=True)
    entered = context.keys_after(todo)
    refuse(todo, facts)
    after = before if todo.after == facts.text else todo.after.encode()
    if todo.step == "none":
        return outcome.NOT_NEEDED
    if todo.step == "reload":
        change(context, before, todo, entered)
        record.settle(url, after, entered)
        return outcome.NOT_NEEDED

    expected = values_after(todo.after, list(entered))
    resumed = record.unverified and files.digest(before) in record.written
    if record.unverified and not resumed:
        # Somebody has edited the file since, and that edit is what must come back.
        record.forget_before_restart()
    record.begin(url, before, after, entered)
    if not record.unverified and _started_with(path, unit):
        record.keep_healthy(before)
    record.keep_before_restart(before, member.standing(context.info))
    stopped = False
    try:
        if after != before:
            files.replace(path, after or b"", expected=before)
        stopped = True
        engine.restart(unit)
        info = _await_membership(record, unit)
        missing = untaken(expected, info)
        if missing:
            raise Failed(
                ("docker was restarted and still does not have %s as wanted [RM182]")
                % ", ".join(missing)
            )
        if todo.mirror is not None and not daemon_json.contains(engine.mirrors_of(info), url):
            raise Failed("docker was restarted and does not use %s any more [RM183]" % url)
    except Exception as error:
        begun = record.before_restart
        untouched = not stopped and Edit(path, before, [after]).left_alone
        edit = Edit(path, begun, [before, after])
        ending = "" if untouched else _back(context, edit)
        if resumed and untouched:
            # what the interrupted run has written is still there, and still untried
            record.rewind()
        elif resumed:
            now = files.read(path)
            _know_what_is_there(record, url, now if now == record.healthy else begun)
        else:
            record.rewind()
            record.forget_before_restart()
        raise Failed(
            "nothing was changed: %s" % error if untouched else "%s; %s" % (error, ending)
        ) from error
    record.docker_started()
    record.settle(url, after, entered)
    return outcome.RESTARTED


@locked
def verify(request: NodeRequest) -> str:
    """Whether this node, which has its tasks again, is healthy; returns `healthy`. Raises
    Failed: then `undo`.

    It must be what it was in its swarm, and both this program and dockerd itself must get an image
    from the mirror.
    """
    deadline = time.monotonic() + VERIFY_SECONDS
    while True:
        wrong = _fault(request)
        if wrong is None:
            record, data = record_of(request), files.read(request.path)
            if record.unverified:
                record.forget_before_restart()
                record.settle(request.mirror_url, data, record.keys)
                record.keep_healthy(data)
            return "healthy"
        if time.monotonic() > deadline:
            raise Failed("docker was restarted, and then, from this node, " + wrong + " [RM216]")
        time.sleep(1)


def _fault(request: NodeRequest) -> Optional[str]:
    """What keeps the node from being healthy just now; None if nothing does."""
    url, unit, image = request.mirror_url, request.unit, request.check_image
    try:
        info = engine.info(unit)
    except engine.EngineProblem as error:
        return str(error)
    text = daemon_json.decode(files.read(request.path))
    proxy = dockerd_view.proxy_of(url, info, unit, text)
    standing = record_of(request).standing
    return (
        member.lost(standing, info)
        or member.absence(info)
        or probe.fault(url, image=image, proxy=proxy)
        or dockerd_view.refusal(url, image, info, unit, text)
    )


@locked
def undo(request: NodeRequest) -> str:
    """Put back what was there before the last restart, and restart docker with that; returns how
    that went."""
    context = Context(request, record_of(request), {})
    record, path = context.record, request.path
    if not record.unverified:
        return "there is nothing to restore"
    before = record.before_restart
    ending = _back(context, Edit(path, before, [files.read(path)]))
    now = files.read(path)
    _know_what_is_there(record, request.mirror_url, now if now == record.healthy else before)
    return ending


def _started_with(path: str, unit: str) -> bool:
    """Whether the running docker was started with the file as it is: nobody has written to it
    since."""
    started = dockerd_view.started_at(unit)
    try:
        return started is not None and os.path.getmtime(path) < started
    except OSError:
        return False


def _await_membership(record: Record, unit: str) -> Dict[str, Any]:
    """`docker info` of a docker that has just started, once it is what it was in its swarm. Raises
    Failed if that never comes."""
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
    """After the rollback: which keys are ours is read from the file, because an earlier restart may
    have entered some."""
    text = daemon_json.decode(data)
    spelt = {key: daemon_json.spelling(text, key) for key in record.keys}
    record.forget_before_restart()
    record.settle(
        url,
        data,
        {key: json.loads(spelling) for key, spelling in spelt.items() if spelling is not None},
    )


def _plan(context: Context) -> Plan:
    return context.plan(context.facts(files.read(context.request.path)), restarting=True)


def _back(context: Context, edit: Edit) -> str:
    """Have docker run again as it was, with the old file unless somebody has just written another;
    returns how that went."""
    unit, ending = context.request.unit, "the old daemon.json is back"
    try:
        if edit.is_overtaken:
            ending = EDITED_MEANWHILE
        else:
            edit.restore()
        engine.restart(unit)
    except Exception as error:
        return _back_to_health(
            context, "%s, BUT DOCKER DID NOT START WITH IT: %s [RM185]" % (ending, error)
        )
    try:
        _await_membership(context.record, unit)
    except Exception as error:
        return "%s, and docker runs with it, BUT IS NOT WHAT IT WAS: %s [RM186]" % (ending, error)
    return ending + ", and docker runs with it"


def _back_to_health(context: Context, ending: str) -> str:
    """Where docker does not start with the old file either: the last one with which it is known to
    have been healthy."""
    path = context.request.path
    try:
        refused, healthy = files.read(path), context.record.healthy
        if healthy is None or healthy == refused:
            return ending
        if refused is not None:
            files.replace(path + REFUSED, refused, mode=0o600)
        files.replace(path, healthy)
        engine.restart(context.request.unit)
    except Exception as error:
        return "%s; NOR WITH THE LAST ONE THAT IT WAS HEALTHY WITH: %s [RM187]" % (ending, error)
    return (
        "%s; it runs with the last one that it was healthy with, and the one it did not start with"
        " is %s" % (ending, path + REFUSED)
    )
