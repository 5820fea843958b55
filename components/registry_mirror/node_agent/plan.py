"""Decides what is to be done to a node: text of daemon.json and facts in, new text and `none`,
`reload` or `restart` out. Pure.

Owns the decision and its reasons. It deliberately touches nothing: `apply.py`, `change.py` and
`restart.py` read, write, reload or restart docker, and check.
"""

import json
from typing import Any, Dict, List, NamedTuple, Optional

from . import daemon_json, daemon_keys, engine, preflight
from .preflight import Facts


class Wanted(NamedTuple):
    """What the node should be like."""

    mirror: Optional[str]
    """None: it is not to be in daemon.json, because docker reads hosts.toml."""
    gone: List[str]
    """Mirrors that we entered earlier and that are not wanted any more."""
    keys: Dict[str, Any]
    """The managed keys, with their values."""
    former: Dict[str, Optional[str]]
    """Keys that were managed and no longer are -> how the original file spells them; None where it
    has none."""


class Reason(NamedTuple):
    """Why a node is not as it should be."""

    kind: str
    """`mirror`, `key` or `file`: what of the node it concerns."""
    key: str
    """Of daemon.json."""
    needs_restart: bool
    """Whether only a restart of docker changes it."""
    text: str
    """For a person; nothing is decided by it."""


class Plan(NamedTuple):
    """What to do. `between` is read by the daemon once, `after` stays: they differ where a missing
    key would change nothing."""

    between: str
    after: str
    step: str
    due: List[str]
    """Keys that only a restart can change; without `restarting` they are left as they are."""
    reasons: List[Reason]
    refusals: List[str]
    """Why nothing may be written; each with its remedy."""
    mirror: Optional[str] = None
    """The mirror that docker must have afterwards, by its daemon.json."""


RELOAD_REMEDY = (
    "; bring docker up to 29.3 or later, or set restart to when-needed, so that it is drained and"
    " restarted instead of reloaded;"
    " or set acceptBrokenHostGateway, and restart docker yourself afterwards"
)


def plan(
    wanted: Wanted,
    facts: Facts,
    restart: str = "never",
    restarting: bool = False,
    harm_accepted: bool = False,
) -> Plan:
    """What to do to the node. Raises daemon_json.Refused where the text cannot be edited without
    guessing.

    `restart`: `never` or `when-needed`. `restarting`: the node is drained, and what needs a restart
    is to be done now. `harm_accepted`: docker is reloaded even where that harms it
    (`preflight.reload_hurts`).
    """
    text = facts.text
    for url in wanted.gone:
        text = daemon_json.remove_mirror(text, url)
    used = engine.mirrors_of(facts.info)
    reasons = []
    if wanted.mirror is not None:
        text = daemon_json.add_mirror(text, wanted.mirror)
        if not daemon_json.contains(used, wanted.mirror):
            reasons.append(_of_the_mirror("docker does not use %s yet" % wanted.mirror))
    reasons += [
        _of_the_mirror("docker still uses %s" % url)
        for url in wanted.gone
        if daemon_json.contains(used, url)
    ]

    due, dropped = [], []
    spelt: Dict[str, Optional[str]] = {
        key: json.dumps(value, ensure_ascii=False) for key, value in wanted.keys.items()
    }
    for key, spelling in {**wanted.former, **spelt}.items():
        reason = _difference(key, spelling, facts)
        if reason is not None:
            reasons.append(reason)
            if reason.needs_restart:
                due.append(key)
                if not restarting:
                    continue
        text = with_spelling(text, key, spelling)
        if spelling is None:
            dropped.append(key)
    if text != facts.text and not reasons:
        reasons.append(Reason("file", "", False, "daemon.json does not say so yet"))

    step = "none"
    if restarting and due:
        step = "restart"
    elif text != facts.text or not all(reason.needs_restart for reason in reasons):
        step = "reload"
    hurts = None if harm_accepted or step != "reload" else preflight.reload_hurts(facts.info)
    if hurts is not None and (restarting or restart == "when-needed"):
        by_reload = _by_reload(facts.text, text, wanted)
        due += by_reload
        reasons += [
            Reason(
                "key",
                key,
                True,
                "%s would be taken over by a reload, and %s; so it needs a restart" % (key, hurts),
            )
            for key in by_reload
        ]
        step, text = ("restart", text) if restarting else ("none", facts.text)
    elif hurts is not None and wanted.mirror is None and not wanted.keys and not wanted.former:
        # What is left in daemon.json does no harm beside hosts.toml, as long as the mirror is
        # there.
        step, text = "none", facts.text
    refusals = _refusals(facts, wanted, due, restart, restarting, step)
    if step != "none":
        refusals += preflight.lost_image_store(facts.text, text)
        refusals += [hurts + RELOAD_REMEDY] if hurts is not None and step == "reload" else []
    return Plan(explicit(text, dropped), text, step, due, reasons, refusals, wanted.mirror)


def _by_reload(before: str, after: str, wanted: Wanted) -> List[str]:
    """The keys that a reload would have taken over."""
    names = [key for key in [*wanted.former, *wanted.keys] if daemon_keys.KEYS[key].reloads]
    changed = [
        key
        for key in names
        if daemon_json.spelling(before, key) != daemon_json.spelling(after, key)
    ]
    return [daemon_json.KEY, *changed]


def with_spelling(text: str, key: str, spelling: Optional[str]) -> str:
    """`text` with a key as it is spelt, or without it."""
    return (
        daemon_json.drop_key(text, key)
        if spelling is None
        else daemon_json.set_key(text, key, spelling)
    )


def explicit(text: str, dropped: List[str]) -> str:
    """`text` with the defaults written out: where a key is absent, a reload keeps what the daemon
    has (moby daemon/reload.go)."""
    for key in dropped:
        if daemon_keys.KEYS[key].reloads and daemon_json.spelling(text, key) is None:
            text = daemon_json.set_key(text, key, json.dumps(daemon_keys.KEYS[key].default))
    return daemon_json.add_empty_list(text)


def untaken(
    wanted: Dict[str, Any], info: Dict[str, Any], event: Optional[Dict[str, str]] = None
) -> List[str]:
    """The keys of `wanted` (key -> value) that the running daemon does not show to have, as far as
    it shows them."""
    found = []
    for key, value in wanted.items():
        entry = daemon_keys.KEYS[key]
        if entry.in_info is not None:
            shown = entry.in_info(info)
        elif entry.in_event is not None and event is not None:
            shown = entry.in_event(event[key]) if key in event else value
        else:
            continue
        if daemon_keys.comparable(shown) != daemon_keys.comparable(value):
            found.append(key)
    return found


def values_after(text: str, names: List[str]) -> Dict[str, Any]:
    """What the daemon should have of some keys once it has read `text`."""
    found = {}
    for key in names:
        spelling = daemon_json.spelling(text, key)
        found[key] = daemon_keys.KEYS[key].default if spelling is None else json.loads(spelling)
    return found


def _of_the_mirror(text: str) -> Reason:
    return Reason("mirror", daemon_json.KEY, False, text)


def _difference(key: str, spelling: Optional[str], facts: Facts) -> Optional[Reason]:
    """What of a key is not as wanted; by what the daemon shows, or else by what the file
    says."""
    default = daemon_keys.KEYS[key].default
    wanted = default if spelling is None else json.loads(spelling)
    shown = daemon_keys.KEYS[key].in_info
    if shown is not None:
        found = shown(facts.info)
    elif facts.at_start.known and not daemon_keys.KEYS[key].reloads:
        found = facts.at_start.values.get(key, default)
    else:
        now = daemon_json.spelling(
            facts.text if facts.started_with is None else facts.started_with, key
        )
        found = default if now is None else json.loads(now)
    if daemon_keys.comparable(found) == daemon_keys.comparable(wanted):
        return None
    reloads = daemon_keys.KEYS[key].reloads
    text = "%s is %s and becomes %s" % (key, json.dumps(found), json.dumps(wanted))
    return Reason("key", key, not reloads, text if reloads else text + ", which needs a restart")


def _refusals(
    facts: Facts, wanted: Wanted, due: List[str], restart: str, restarting: bool, step: str
) -> List[str]:
    if step == "none" and not due:
        return []
    faults = {key: daemon_keys.fault(key, value) for key, value in wanted.keys.items()}
    found = ["daemonKeys: %s %s" % (key, fault) for key, fault in faults.items() if fault]
    former = [key for key in due if key not in wanted.keys]
    if former and restart == "never":
        words = (
            "docker still runs with the managed key %s, which is not in daemonKeys any more,"
            " and only a restart takes that back [RM138]; "
        )
        found.append(
            words % ", ".join(former) + "set restart to when-needed for the next `pulumi up`"
        )
    due = [key for key in due if key in wanted.keys]
    if due and restart == "never":
        verb = "is" if len(due) == 1 else "are"
        words = (
            "%s %s read by this docker (%s) at its start only; set restart to when-needed, or"
            " take it out of daemonKeys [RM140]"
        )
        found.append(words % (", ".join(due), verb, facts.info.get("ServerVersion", "?")))
    handed_over = [*wanted.keys, *wanted.former]
    drivers = (facts.info.get("Plugins") or {}).get("Log") or []
    driver = wanted.keys.get("log-driver")
    if driver is not None and drivers and driver not in drivers:
        # dockerd starts with it all the same, and then not one container does (seen on 26.1.5).
        found.append(
            ("docker here has no log driver %s; it has %s [RM141]")
            % (driver, ", ".join(sorted(drivers)))
        )
    if step != "none":
        found += preflight.findings(facts, handed_over)
    if restarting and step == "restart":
        found += preflight.restart_findings(facts, handed_over)
    return found
