"""Has one node forget the mirror, and restores its files as they were before us.

Owns what daemon.json is without us, and how docker is brought there by reloads. An edit that
somebody has made since is kept.
"""

from typing import List, Optional

from . import daemon_json, engine, files, hosts, hosts_files, outcome, preflight
from .change import Edit, complaint, lists, reloadable, roll_back
from .context import Context, locked, record_of
from .files import Failed
from .plan import explicit, values_after
from .record import Record
from .request import NodeRequest


@locked
def remove(request: NodeRequest) -> str:
    """Have docker forget the mirror and restore its files; returns `forgotten` or
    `nothing-to-forget`. Raises Failed."""
    record, entry = record_of(request), hosts_files.withdrawn(request)
    if entry.refusals:
        raise Failed("nothing was changed: " + "; ".join(entry.refusals))
    entry.carry_out()
    try:
        word = forget(Context(request, record, engine.info(request.unit)))
    except Exception as error:
        hosts_files.roll_back(entry, error)
        raise
    word = outcome.FORGOTTEN if entry.is_due else word
    entry.settle()
    hosts.keep_guard_out(request.owner, guard=False)
    return word


def forget(context: Context) -> str:
    """As `remove`, for daemon.json alone."""
    record, request, info = context.record, context.request, context.info
    path, unit = request.path, request.unit
    url = record.mirror or request.mirror_url
    if record.mirror is None and record.is_of_another(url):
        return outcome.NOTHING_TO_FORGET
    before = files.read(path)
    text = daemon_json.decode(before)
    after = _without_us(record, url, before)
    names = list(record.keys)
    # While a key is absent a reload keeps what dockerd has, so the list must be there, empty, once;
    # keys alike.
    between = explicit(daemon_json.decode(after), names)

    used = daemon_json.contains(engine.mirrors_of(info), url)
    if not used and after == before:
        record.drop()
        return outcome.NOTHING_TO_FORGET
    reload = used or bool(names)
    if reload:
        _check(context, before, between, names)
    expected = values_after(daemon_json.decode(after), reloadable(names))
    edit = Edit(path, before, [between.encode(), after])
    reloaded = False
    try:
        if reload:
            record.own(between.encode())
            files.replace(path, between.encode(), expected=before)
            reloaded = True
            engine.reload_until(unit, complaint(None, [url], expected), bool(expected))
        if after is None:
            files.remove(path)
        elif after != (between.encode() if reload else before):
            files.replace(path, after)
    except Exception as error:
        if not reloaded and edit.left_alone:
            raise Failed("nothing was changed: %s" % error) from error
        ending = roll_back(context, edit, url, names, used=lists(text, url))
        raise Failed("%s; %s" % (error, ending)) from error
    record.drop()
    return outcome.FORGOTTEN


def _check(context: Context, before: Optional[bytes], between: str, names: List[str]) -> None:
    """That a reload would go well. Raises Failed."""
    request, facts = context.request, context.facts(before)
    reasons = preflight.findings(facts, names) + preflight.refused_by_dockerd(between, facts)
    hurts = preflight.reload_hurts(context.info)
    if hurts is not None and not request.accept_broken_host_gateway:
        reasons.append(
            "%s; take the mirror out of %s and restart docker yourself, bring it up to 29.3,"
            " or set acceptBrokenHostGateway [RM181]" % (hurts, request.path)
        )
    if reasons:
        raise Failed("nothing was changed: " + "; ".join(reasons))


def _without_us(record: Record, url: str, before: Optional[bytes]) -> Optional[bytes]:
    """What daemon.json should be without us: the original, unless somebody has edited the file
    since we wrote it."""
    last = not record.others
    if last and record.exists and files.digest(before) in record.written:
        original = record.original
        if not lists(daemon_json.decode(original), url):
            return original
    text = daemon_json.decode(before)
    ours = {key: value for key, value in record.keys.items() if key not in record.keys_of_others}
    without = record.without_keys(daemon_json.remove_mirror(text, url), ours)
    if without == text:
        return before
    if last and not (record.exists and daemon_json.has_list(daemon_json.decode(record.original))):
        without = daemon_json.remove_empty_list(without)
    return without.encode()
