"""Has one node use the mirror: read, plan, change, verify, or roll back.

WHAT IT OWNS: our entry in daemon.json, or our host in hosts.toml (`hosts.py`) where that is what
docker goes by, and the managed keys as far as a reload changes them. Which of the two ways a node
takes is decided here, by the running docker: one that has changed its image store is moved from one
to the other.

WHAT IT PROMISES: a node that is right is neither written to nor reloaded. A change is believed only
when docker shows it. After a failure the old bytes are back and docker has read them. An
interruption anywhere leaves a file that is wholly old or wholly new, and the next run goes on from
there.

It deliberately never restarts docker (`restart.py` does, where that was allowed), and leaves every
other key to its owner.
"""

from . import (
    daemon_json,
    dockerd_view,
    engine,
    files,
    hosts,
    hosts_files,
    outcome,
    preflight,
    probe,
    seen,
    storage,
)
from .change import change, lists
from .context import Context, context_of, locked, refuse
from .files import Failed
from .outcome import Outcome
from .preflight import Facts
from .remove import forget
from .request import NodeRequest

PATIENCE = 90
"""Seconds that a mirror may be unavailable when a node is configured. Swarm takes up to 20 to see
that a machine is dead, a machine that comes back up to 30 to join its network (moby
libnetwork/networkdb/cluster.go bulkSyncNode), the task 5 to be started and 5 to be found healthy,
and Traefik 15 to look again (providers.swarm.refreshSeconds)."""


@locked
def apply(request: NodeRequest) -> str:
    """Have docker use the mirror and the managed keys; returns an `Outcome` as JSON. Raises
    Failed.

    `unchanged`, `reloaded` or `written-and-reloaded`, or `written` where docker goes by hosts.toml.
    """
    path, url = request.path, request.mirror_url
    upstream_reached = _ask_the_mirror(context_of(request))
    _check_storage(request)
    context = context_of(request)
    # Read only now, because asking the mirror may take seconds in which somebody else edits the
    # file.
    before = files.read(path)
    record, wanted, facts = context.record, context.wanted(), context.facts(before)
    todo = context.plan(facts)
    entered = context.keys_after(todo)
    by_hosts = wanted.mirror is None
    info = context.info
    entry = hosts_files.entered(request, info) if by_hosts else hosts_files.withdrawn(request)
    others = preflight.other_docker(facts) if entry.is_due else []
    others += [] if by_hosts else hosts_files.without_fallback(request, info)
    refuse(todo, facts, entry.refusals + others)
    if by_hosts:
        _enter(entry, context)
    try:
        after = before if todo.after == facts.text else todo.after.encode()
        if by_hosts and not wanted.keys and not record.keys:
            if (
                record.mirror is not None
                and not todo.due
                and (todo.step != "none" or not _is_listed(facts, record.mirror))
            ):
                forget(context)
        elif todo.step != "none":
            change(context, before, todo, entered)
            record.settle(url, after, entered)
        else:
            record.settle(url, before, entered)
        if not by_hosts:
            entry.carry_out()
    except Exception as error:
        hosts_files.roll_back(entry if by_hosts else None, error)
        raise
    entry.settle()
    hosts.keep_guard_out(record.owner, not by_hosts and request.guard)
    written = entry.is_due or after != before
    if todo.step == "none":
        word = outcome.WRITTEN if entry.is_due else outcome.UNCHANGED
    else:
        word = outcome.WRITTEN_AND_RELOADED if written else outcome.RELOADED
    return Outcome(word, tuple(todo.due), upstream_reached).as_json()


def _ask_the_mirror(context: Context) -> bool:
    """Have this program and dockerd each ask the mirror; returns whether it reaches its upstream.
    Raises Failed."""
    request, info = context.request, context.info
    url, unit, image = request.mirror_url, request.unit, request.check_image
    text = daemon_json.decode(files.read(request.path))
    proxy = dockerd_view.proxy_of(url, info, unit, text)
    fault = probe.fault(url, PATIENCE, image, proxy) or dockerd_view.refusal(
        url, image, info, unit, text
    )
    if fault:
        raise Failed("nothing was changed: from this node, " + fault)
    return probe.upstream_fault(url, image, proxy) is None


def _check_storage(request: NodeRequest) -> None:
    """That this node sees the storage on which the mirror's task would keep its cache. Raises
    Failed."""
    if not request.shared_path:
        return
    # The storage knows the mirror by the name of its service.
    fault = storage.seen(request.shared_path, request.former or request.owner)
    if fault:
        raise Failed("nothing was changed: the mirror's task may run here, and " + fault)


def _enter(entry: hosts_files.Changes, context: Context) -> None:
    """Have each hosts.toml name the mirror, and see dockerd ask it; otherwise all are as they were.
    Raises Failed."""
    if not entry.is_due:
        return
    request, info = context.request, context.info
    hosts.keep_guard_out(request.owner, guard=False)
    try:
        entry.carry_out()
    except files.FileProblem as error:
        raise Failed("nothing was changed: %s" % error) from error
    try:
        text = daemon_json.decode(files.read(request.path))
        proxy = dockerd_view.proxy_of(request.mirror_url, info, request.unit, text)
        complaints = [
            seen.complaint(change.registry, request.check_image, change.url, proxy, request.unit)
            for change in entry.entering
        ]
    except Exception as error:
        raise Failed("%s%s" % (error, entry.put_back())) from error
    said = [complaint for complaint in complaints if complaint]
    if said:
        raise Failed("now that it is configured, %s%s" % ("; ".join(said), entry.put_back()))


def _is_listed(facts: Facts, url: str) -> bool:
    """Whether daemon.json or the running docker has the mirror yet."""
    return lists(facts.text, url) or daemon_json.contains(engine.mirrors_of(facts.info), url)
