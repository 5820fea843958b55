"""Makes one node use the mirror (`apply`) or forget it (`remove`): read, plan, change, verify, or put everything back.

WHAT IT OWNS: our entry in daemon.json, or our host in hosts.toml (`hosts.py`) where that is what docker goes by, and the keys
that were handed over as far as a reload changes them. Which of the two ways a node takes is decided here, by the running docker:
one that has changed its image store is moved from one to the other.

WHAT IT PROMISES: a node that is right is neither written to nor reloaded. A change is believed only when docker shows it.
After a failure the old bytes are back and docker has been told. An interruption anywhere leaves a file that is wholly old or
wholly new, and the next run goes on from there.

It deliberately never restarts docker (`restart.py` does, where that was allowed), and leaves every other key to its owner.
"""

import contextlib
import functools
import json
from typing import Any, Callable, Dict, List, Optional, Sequence

from . import daemon_json, dockerd_view, engine, files, hosts, hosts_plan, lock, member, preflight, probe, seen, storage
from .files import Failed
from .keys import KEYS
from .plan import Plan, Wanted, explicit, plan, untaken, values_after
from .preflight import Facts
from .record import Record

LOCK = "/run/swarm-registry-mirror/lock"
"""In a folder of root's own: in /run/lock any user of the node could hold it, or put a link in its place. Not in the record's
folder, which goes with the last mirror."""

PATIENCE = 90
"""Seconds that a mirror may be away when a node is told of it. Swarm takes up to 20 to see that a machine is dead, a machine that
comes back up to 30 to join its network (moby libnetwork/networkdb/cluster.go bulkSyncNode), the task 5 to be started and 5 to be
found healthy, and Traefik 15 to look again (providers.swarm.refreshSeconds)."""

NO_UPSTREAM = "; upstream not reached"
"""Behind the word of an action: the mirror serves what it has, and cannot fetch anything else at this moment."""

EDITED_MEANWHILE = "somebody edited daemon.json meanwhile, so it is left as it is now"

Action = Callable[[Dict[str, Any]], str]


def locked(act: Action) -> Action:
    """One run at a time on a node; what fails before anything was written says so."""

    @functools.wraps(act)
    def run(request: Dict[str, Any]) -> str:
        try:
            with lock.held(LOCK, "%s of the mirror %s" % (act.__name__, request["owner"])):
                return act(request)
        except daemon_json.Refused as error:
            raise Failed("nothing was changed: %s: %s" % (request["daemon_json"], error)) from error
        except (files.FileProblem, engine.EngineProblem) as error:
            raise Failed("nothing was changed: %s" % error) from error

    return run


@locked
def apply(request: Dict[str, Any]) -> str:
    """Have docker use `request["mirror"]` and the keys handed over; returns what was done. Raises Failed.

    `unchanged`, `reloaded` or `written and reloaded`, or `written` where docker goes by hosts.toml; with `; restart due` behind
    it where something waits for a restart, and `; upstream not reached` where the mirror can only serve what it has.
    """
    record = record_of(request)
    path, url, unit = request["daemon_json"], request["mirror"], request["service"]
    upstream = _ask_the_mirror(request, engine.info(unit))
    # The storage knows the mirror by the name of its service.
    apart = storage.seen(request["shared"], request.get("former") or request["owner"]) if request.get("shared") else None
    if apart:
        raise Failed("nothing was changed: the mirror's task may run here, and " + apart)
    info = engine.info(unit)
    # Read only now, because asking the mirror may take seconds in which somebody else edits the file.
    before = files.read(path)
    wanted, facts = wishes(record, request, info), look_around(record, path, url, before, info, unit)
    todo = plan(wanted, facts, request["restart"], harm_accepted=harm_accepted(request))
    entered = keys_in_file(record, wanted, todo)
    outcome = ("; restart due" if todo.due else "") + upstream
    by_hosts = wanted.mirror is None
    entry = hosts.entered(request, info) if by_hosts else hosts.withdrawn(request)
    refuse(todo, facts, entry.refusals + (preflight.other_docker(facts) if entry.is_due else []))
    if by_hosts:
        _enter(entry, request, info)
    try:
        after = before if todo.after == facts.text else todo.after.encode()
        if by_hosts and not wanted.keys and not record.keys:
            if record.mirror is not None and not todo.due and (todo.step != "none" or not _is_listed(facts, record.mirror)):
                _forget(record, request, info)
        elif todo.step != "none":
            change(record, request, before, todo, entered, info)
            record.settle(url, after, entered)
        else:
            record.settle(url, before, entered)
        if not by_hosts:
            entry.carry_out()
    except Exception as error:
        _and_put_back(entry, error, by_hosts)
        raise
    entry.settle()
    hosts.keep_guard_out(record.owner, not by_hosts and bool(request.get("guard")))
    written = entry.is_due or after != before
    if todo.step == "none":
        return ("written" if entry.is_due else "unchanged") + outcome
    return ("written and reloaded" if written else "reloaded") + outcome


def _enter(entry: hosts.Change, request: Dict[str, Any], info: Dict[str, Any]) -> None:
    """Have hosts.toml name the mirror, and see dockerd ask it; otherwise it is as it was. Raises Failed."""
    if not entry.is_due:
        return
    url, unit, image = entry.url, request["service"], request["check_image"]
    hosts.keep_guard_out(request["owner"], guard=False)
    try:
        entry.carry_out()
    except files.FileProblem as error:
        raise Failed("nothing was changed: %s" % error) from error
    try:
        text = daemon_json.decode(files.read(request["daemon_json"]))
        wrong = seen.complaint(hosts.REGISTRY, image, url, dockerd_view.proxy_of(url, info, unit, text), unit)
    except Exception as error:
        raise Failed("%s%s" % (error, entry.put_back())) from error
    if wrong:
        raise Failed("now that it is configured, %s%s" % (wrong, entry.put_back()))


def _and_put_back(entry: hosts.Change, error: Exception, carried_out: bool = True) -> None:
    """Undo a change of hosts.toml after an error in what followed. Raises Failed with both where there was one."""
    words = entry.put_back() if carried_out else ""
    if words:
        raise Failed("%s%s" % (error, words)) from error


def _is_listed(facts: Facts, url: str) -> bool:
    """Whether daemon.json or the running docker has the mirror yet."""
    return _lists(facts.text, url) or daemon_json.contains(engine.mirrors_of(facts.info), url)


def harm_accepted(request: Dict[str, Any]) -> bool:
    """Whether docker may be reloaded where that harms it; a request of an earlier version does not say so."""
    return bool(request.get("accept_broken_host_gateway"))


def _ask_the_mirror(request: Dict[str, Any], info: Dict[str, Any]) -> str:
    """Have this program and dockerd each ask the mirror; returns what is to be said of its upstream. Raises Failed."""
    url, unit, image = request["mirror"], request["service"], request["check_image"]
    text = daemon_json.decode(files.read(request["daemon_json"]))
    proxy = dockerd_view.proxy_of(url, info, unit, text)
    wrong = probe.fault(url, PATIENCE, image, proxy) or dockerd_view.refusal(url, image, info, unit, text)
    if wrong:
        raise Failed("nothing was changed: from this node, " + wrong)
    return NO_UPSTREAM if probe.upstream_fault(url, image, proxy) else ""


@locked
def remove(request: Dict[str, Any]) -> str:
    """Have docker forget the mirror and restore its files; returns `forgotten` or `nothing to forget`. Raises Failed."""
    record, entry = record_of(request), hosts.withdrawn(request)
    if entry.refusals:
        raise Failed("nothing was changed: " + "; ".join(entry.refusals))
    entry.carry_out()
    try:
        word = _forget(record, request, engine.info(request["service"]))
    except Exception as error:
        _and_put_back(entry, error)
        raise
    word = "forgotten" if entry.is_due else word
    entry.settle()
    hosts.keep_guard_out(record.owner, guard=False)
    return word


def _forget(record: Record, request: Dict[str, Any], info: Dict[str, Any]) -> str:
    """As `remove`, for daemon.json alone."""
    path, unit = request["daemon_json"], request["service"]
    url = record.mirror or request["mirror"]
    if record.mirror is None and record.is_of_another(url):
        return "nothing to forget"
    before = files.read(path)
    text = daemon_json.decode(before)
    after = _without_us(record, url, before)
    names = list(record.keys)
    # While a key is absent a reload keeps what dockerd has, so the list must be there, empty, once; keys alike.
    between = explicit(daemon_json.decode(after), names)

    used = daemon_json.contains(engine.mirrors_of(info), url)
    if not used and after == before:
        record.drop()
        return "nothing to forget"
    reload = used or bool(names)
    if reload:
        facts = look_around(record, path, url, before, info, unit)
        found = preflight.findings(facts, names) + _dockerds_word(between, facts)
        hurts = None if harm_accepted(request) else preflight.reload_hurts(info)
        if hurts is not None:
            words = "; take the mirror out of %s and restart docker yourself, bring it up to 29.3, or set acceptBrokenHostGateway"
            found.append(hurts + words % path)
        if found:
            raise Failed("nothing was changed: " + "; ".join(found))
    expected = values_after(daemon_json.decode(after), reloadable(names))
    reloaded = False
    try:
        if reload:
            record.own(between.encode())
            files.replace(path, between.encode(), expected=before)
            reloaded = True
            engine.reload_until(unit, _complaint(None, [url], expected), bool(expected))
        if after is None:
            files.remove(path)
        elif after != (between.encode() if reload else before):
            files.replace(path, after)
    except Exception as error:
        mine = [between.encode(), after]
        if not reloaded and left_alone(path, before, mine):
            raise Failed("nothing was changed: %s" % error) from error
        raise Failed("%s; %s" % (error, put_back(record, request, before, url, names, mine, used=_lists(text, url)))) from error
    record.drop()
    return "forgotten"


def record_of(request: Dict[str, Any]) -> Record:
    """What we know of the node's daemon.json, for the mirror that asks."""
    return Record(request["daemon_json"], request["owner"], request.get("former"))


def wishes(record: Record, request: Dict[str, Any], info: Dict[str, Any]) -> Wanted:
    """What daemon.json should be like, with what is to be undone of earlier wishes. Raises Failed where two mirrors disagree."""
    url, wanted = request["mirror"], request["keys"]
    for key, value in record.keys_of_others.items():
        if key in wanted and wanted[key] != value:
            words = "nothing was changed: %s was handed over to another mirror on this node too, as %s; give both the same"
            raise Failed(words % (key, json.dumps(value)))
    by_hosts = hosts_plan.reads_hosts_toml(info)
    gone = [record.mirror] if record.mirror is not None and (by_hosts or not daemon_json.same(record.mirror, url)) else []
    former = [key for key in record.keys if key not in wanted and key not in record.keys_of_others]
    return Wanted(None if by_hosts else url, gone, wanted, record.original_spellings(former))


def look_around(record: Record, path: str, url: str, data: Optional[bytes], info: Dict[str, Any], unit: str) -> Facts:
    """What the node is like."""
    before_restart = daemon_json.decode(record.before_restart) if record.untried else None
    ours = [*record.mirrors, url]
    proven = record.exists and not record.untried and files.digest(data) in record.written
    return preflight.gather(path, data, info, unit, ours, before_restart, proven)


def keys_in_file(record: Record, wanted: Wanted, todo: Plan) -> Dict[str, Any]:
    """The keys that are ours once the plan is done: what is due is not in the file yet, and what was there before still is."""
    waiting = [key for key in todo.due if todo.step != "restart"]
    kept = {key: record.keys[key] for key in waiting if key in record.keys}
    return {**kept, **{key: value for key, value in wanted.keys.items() if key not in waiting}}


def refuse(todo: Plan, facts: Facts, others: Sequence[str] = ()) -> None:
    """Raises Failed with everything that speaks against the plan, and `others`."""
    found = [*others, *todo.refusals, *(_dockerds_word(todo.after, facts) if todo.step != "none" else [])]
    if found:
        raise Failed("nothing was changed: " + "; ".join(found))


def change(
    record: Record,
    request: Dict[str, Any],
    before: Optional[bytes],
    todo: Plan,
    entered: Dict[str, Any],
    info: Dict[str, Any],
) -> None:
    """Write what was planned, tell docker, and check; after a failure everything is as it was. Raises Failed."""
    path, url, unit = request["daemon_json"], request["mirror"], request["service"]
    text = daemon_json.decode(before)
    # Where there is no file and nothing to be said in one, it is there for the reload alone.
    after = None if before is None and not todo.after else todo.after.encode()
    between = todo.between.encode()
    touched = [key for key in {**record.keys, **entered} if key not in todo.due]
    expected = values_after(todo.after, reloadable(touched))
    insecure = _insecure(info)
    gone = [mirror for mirror in record.mirrors if not _lists(todo.after, mirror)]
    record.begin(url, before, after, {**record.keys, **entered})
    reloaded = False
    try:
        if between != (before or b""):
            record.own(between)
            files.replace(path, between, expected=before)
        reloaded = True
        engine.reload_until(unit, _complaint(todo.mirror, gone, expected), bool(expected))
        if after is None:
            files.remove(path)
        elif after != between:
            files.replace(path, after)
        if "insecure-registries" not in expected and "insecure-registries" in daemon_json.values(text):
            lost = insecure - _insecure(engine.info(unit))
            if lost:
                raise Failed("docker lost its insecure-registries with the reload (moby#45552); it has them again once restarted")
        wrong = dockerd_view.refusal(url, request["check_image"], info, unit, todo.after)
        if wrong:
            raise Failed("now that it is configured, " + wrong)
    except Exception as error:
        if not reloaded and left_alone(path, before, [between, after]):
            record.rewind()
            raise Failed("nothing was changed: %s" % error) from error
        outcome = put_back(record, request, before, url, touched, [between, after])
        record.rewind()
        raise Failed("%s; %s" % (error, outcome)) from error


def reloadable(names: List[str]) -> List[str]:
    """Those of some keys that dockerd takes over with a reload."""
    return [key for key in names if KEYS[key].reloads]


def _complaint(url: Optional[str], gone: List[str], expected: Dict[str, Any]) -> engine.Complaint:
    """What a daemon that has read the file must show."""

    def complaint(info: Dict[str, Any], event: Optional[Dict[str, str]]) -> Optional[str]:
        used = engine.mirrors_of(info)
        if url is not None and not daemon_json.contains(used, url):
            return "use %s" % url
        still = [mirror for mirror in gone if daemon_json.contains(used, mirror)]
        if still:
            return "forget %s" % still[0]
        missing = untaken(expected, info, event)
        return "take %s over" % ", ".join(missing) if missing else None

    return complaint


def _insecure(info: Dict[str, Any]) -> "frozenset[str]":
    """The registries that the running daemon takes without a trusted certificate."""
    found = info["RegistryConfig"]
    hosts = [name for name, index in (found.get("IndexConfigs") or {}).items() if not index.get("Secure", True)]
    return frozenset([*hosts, *(found.get("InsecureRegistryCIDRs") or [])])


def _dockerds_word(text: str, facts: Facts) -> List[str]:
    wrong = preflight.refused_by_dockerd(text.encode(), facts)
    return ["dockerd would refuse the file: %s" % wrong] if wrong else []


def _lists(text: str, url: str) -> bool:
    """Whether the text of a daemon.json lists the mirror `url`."""
    return daemon_json.contains(daemon_json.mirrors(text), url)


def _without_us(record: Record, url: str, before: Optional[bytes]) -> Optional[bytes]:
    """What daemon.json should be without us: the original, unless somebody has edited the file since we wrote it."""
    last = not record.others
    if last and record.exists and files.digest(before) in record.written:
        original = record.original
        if not _lists(daemon_json.decode(original), url):
            return original
    text = daemon_json.decode(before)
    ours = {key: value for key, value in record.keys.items() if key not in record.keys_of_others}
    without = record.without_keys(daemon_json.remove_mirror(text, url), ours)
    if without == text:
        return before
    if last and not (record.exists and daemon_json.has_list(daemon_json.decode(record.original))):
        without = daemon_json.remove_empty_list(without)
    return without.encode()


def put_back(
    record: Record,
    request: Dict[str, Any],
    before: Optional[bytes],
    url: str,
    names: List[str],
    mine: List[Optional[bytes]],
    used: bool = False,
) -> str:
    """Restore the old bytes and tell dockerd; returns the sentence that the failure ends with.

    `mine`: what we may have written. Anything else is somebody's edit of this very moment, and stays.
    """
    path, unit = request["daemon_json"], request["service"]
    try:
        if files.read(path) not in [before, *mine]:
            return EDITED_MEANWHILE
        text = daemon_json.decode(before)
        used = used or _lists(text, url)
        out_loud = explicit(text, names)
        told = _complaint(url if used else None, [] if used else [url], values_after(text, reloadable(names)))
        if out_loud != text:
            # As in `remove`: drop from the running daemon what the old text does not mention.
            record.own(out_loud.encode())
            files.replace(path, out_loud.encode())
            with contextlib.suppress(engine.EngineProblem):
                engine.reload_until(unit, told)
        restore(path, before)
        with contextlib.suppress(engine.EngineProblem):
            engine.reload_until(unit, told)
    except Exception as error:
        return "PUTTING THE OLD daemon.json BACK FAILED TOO: %s" % error
    return "the old daemon.json is back"


def left_alone(path: str, before: Optional[bytes], mine: List[Optional[bytes]]) -> bool:
    """Whether the file has nothing of ours (`mine`) that it did not have before, as after a replacement that was refused."""
    try:
        found = files.read(path)
    except files.FileProblem:
        return False
    return found == before or found not in mine


def restore(path: str, before: Optional[bytes]) -> None:
    """Have the file read `before` again; None: have no file. Raises files.FileProblem."""
    if before is None:
        files.remove(path)
    elif files.read(path) != before:
        files.replace(path, before)


def look(request: Dict[str, Any]) -> str:
    """How the node is, as JSON; changes nothing and takes no lock. For people and scripts, never for Pulumi's state.

    `engine` (version), `way` (the file by which docker goes, `daemon.json` or `hosts.toml`), `listed` (that has our entry),
    `used` (docker uses it), `recorded` (we know the original), `edited` (somebody has changed the file since), `due` (what waits
    for a restart), `id` (the node's own, in its swarm), and sentences: `faults` (what keeps the node from being as wanted),
    `mirror_faults` (what is wrong with the mirror and not the node), `swarm_faults` (what is wrong with its place in the swarm),
    `hazards` (what is not wrong, but ought to be known).
    """
    path, url, unit = request["daemon_json"], request["mirror"], request["service"]
    found: Dict[str, Any] = {
        "engine": "", "way": "daemon.json", "listed": False, "used": False, "recorded": False, "edited": False, "due": [],
        "faults": [], "mirror_faults": [], "swarm_faults": [], "hazards": [], "id": "",
    }  # fmt: skip
    info: Dict[str, Any] = {}
    text = ""
    try:
        info = engine.info(unit)
        found.update(engine=info["ServerVersion"], used=daemon_json.contains(engine.mirrors_of(info), url))
        found["id"] = member.standing(info)["id"]
        found["swarm_faults"] += [reason for reason in [member.absence(info)] if reason]
    except Failed as error:
        found["faults"].append(str(error))
    try:
        record, data = record_of(request), files.read(path)
        text = daemon_json.decode(data)
        found.update(recorded=record.mirror is not None, edited=record.exists and files.digest(data) not in record.written)
        found["listed"] = _lists(text, url)
        if record.unverified:
            found["faults"].append("its docker was restarted by a run that ended before it was verified; run `pulumi up` again")
        if info:
            facts = look_around(record, path, url, data, info, unit)
            wanted = wishes(record, request, info)
            todo = plan(wanted, facts, request["restart"], harm_accepted=harm_accepted(request))
            found["due"], found["hazards"] = todo.due, preflight.hazards(facts)
            pending = preflight.findings(facts, request["keys"]) if wanted != Wanted(None, [], {}, {}) else []
            found["faults"] += todo.refusals or pending
            # What a restart would take over besides: the daemon does not run with what its file says.
            found["hazards"] += [line for line in preflight.restart_findings(facts, request["keys"]) if line not in pending]
            _look_at_hosts(request, info, found)
            found["faults"] += [reason for reason in todo.reasons if found["listed"] and found["used"]]
    except Failed as error:
        found["faults"].append("%s: %s" % (path, error))
    _look_at_the_mirror(request, info, text, found)
    return json.dumps(found)


def _look_at_hosts(request: Dict[str, Any], info: Dict[str, Any], found: Dict[str, Any]) -> None:
    """Put what hosts.toml says in the place of what daemon.json says, where docker goes by that. Raises Failed."""
    if not hosts_plan.reads_hosts_toml(info):
        if hosts.is_ours(request):
            words = (
                "the mirror is in %s, which docker does not read with this image store;"
                " run `pulumi up`, or swarm-registry-mirror repair"
            )
            found["faults"].append(words % hosts.path_of(hosts.REGISTRY))
        return
    by_list, view = found["listed"], hosts.look(request, info)
    found["way"] = "hosts.toml"
    found["hazards"] += view.hazards
    found["faults"] += view.faults
    found["mirror_faults"] += view.mirror_faults
    if not view.listed and not view.mirror_faults:
        words = "docker goes by %s, where the mirror is not%s; run `pulumi up`, or swarm-registry-mirror repair"
        moved = ", and it is in daemon.json from before" if by_list else ""
        found["faults"].append(words % (hosts.path_of(hosts.REGISTRY), moved))
    elif by_list:
        found["hazards"].append("daemon.json still lists the mirror, from before docker went by hosts.toml, which does no harm")
    # What the guard has taken out is as it should be on this node; what is wrong is the mirror.
    listed = view.listed or bool(view.mirror_faults)
    found.update(listed=listed, recorded=view.recorded, edited=view.edited, used=listed and not view.faults)


def _look_at_the_mirror(request: Dict[str, Any], info: Dict[str, Any], text: str, found: Dict[str, Any]) -> None:
    """Add what is wrong on the way to the mirror, or with it."""
    url, unit, image = request["mirror"], request["service"], request["check_image"]
    proxy = dockerd_view.proxy_of(url, info, unit, text)
    answer = probe.ask(url, image, proxy)
    if answer.fault is not None:
        found["mirror_faults" if answer.concerns_the_mirror else "faults"].append(answer.fault)
        return
    wrong = dockerd_view.refusal(url, image, info, unit, text) if info else None
    if wrong is not None:
        found["faults"].append(wrong)
    elif proxy is not None:
        words = "docker goes to the mirror through its proxy %s, and every image with it; "
        found["hazards"].append(words % probe.without_password(proxy) + probe.NO_PROXY % (probe.host_of(url)))
    upstream = probe.upstream_fault(url, image, proxy)
    if upstream is not None:
        found["mirror_faults"].append(upstream)
