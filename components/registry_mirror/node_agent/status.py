"""Says how one node is, for people and scripts; changes nothing and takes no lock.

Owns the one answer in which everything stands that is known of a node: its file, its docker, its
place in the swarm, and the mirror as it is seen from there.
"""

import json
from typing import Any, Dict

from . import (
    daemon_json,
    dockerd_view,
    engine,
    files,
    hosts,
    hosts_files,
    hosts_plan,
    member,
    preflight,
    probe,
)
from .change import lists
from .context import Context, record_of
from .files import Failed
from .plan import Wanted
from .request import NodeRequest


def look(request: NodeRequest) -> str:
    """How the node is, as JSON; changes nothing and takes no lock. For people and scripts, never
    for Pulumi's state.

    `engine` (version), `way` (the file by which docker goes, `daemon.json` or `hosts.toml`),
    `listed` (that has our entry), `used` (docker uses it), `recorded` (we know the original),
    `edited` (somebody has changed the file since), `due` (what waits for a restart), `id` (the
    node's own, in its swarm), and sentences: `faults` (what keeps the node from being as wanted),
    `mirror_faults` (what is wrong with the mirror and not the node), `swarm_faults` (what is wrong
    with its place in the swarm), `hazards` (what is not wrong, but ought to be known).
    `registries` has the names of those whose images docker asks the mirror for by itself;
    `guard_out` says whether the guard has the mirror out of one of their files.
    """
    path, url, unit = request.path, request.mirror_url, request.unit
    found: Dict[str, Any] = {
        "engine": "",
        "way": "daemon.json",
        "listed": False,
        "used": False,
        "recorded": False,
        "edited": False,
        "due": [],
        "faults": [],
        "mirror_faults": [],
        "swarm_faults": [],
        "hazards": [],
        "id": "",
        "registries": [],
        "guard_out": False,
    }
    info: Dict[str, Any] = {}
    text = ""
    try:
        info = engine.info(unit)
        found.update(
            engine=info["ServerVersion"], used=daemon_json.contains(engine.mirrors_of(info), url)
        )
        found["id"] = member.standing(info)["id"]
        found["swarm_faults"] += [reason for reason in [member.absence(info)] if reason]
    except Failed as error:
        found["faults"].append(str(error))
    try:
        record, data = record_of(request), files.read(path)
        text = daemon_json.decode(data)
        found.update(
            recorded=record.mirror is not None,
            edited=record.exists and files.digest(data) not in record.written,
        )
        found["listed"] = lists(text, url)
        if record.unverified:
            found["faults"].append(
                "its docker was restarted by a run that ended before it was verified; run `pulumi"
                " up` again [RM189]"
            )
        if info:
            context = Context(request, record, info)
            facts, wanted = context.facts(data), context.wanted()
            todo = context.plan(facts)
            found["due"], found["hazards"] = todo.due, preflight.hazards(facts)
            pending = (
                preflight.findings(facts, request.managed_keys)
                if wanted != Wanted(None, [], {}, {})
                else []
            )
            found["faults"] += todo.refusals or pending
            # What a restart would take over besides: the daemon does not run with what its file
            # says.
            found["hazards"] += [
                line
                for line in preflight.restart_findings(facts, request.managed_keys)
                if line not in pending
            ]
            _look_at_hosts(request, info, found)
            found["faults"] += [
                reason.text for reason in todo.reasons if found["listed"] and found["used"]
            ]
    except Failed as error:
        found["faults"].append("%s: %s" % (path, error))
    _look_at_the_mirror(request, info, text, found)
    return json.dumps(found)


def _look_at_hosts(request: NodeRequest, info: Dict[str, Any], found: Dict[str, Any]) -> None:
    """Put what hosts.toml says in the place of what daemon.json says, where docker goes by that.
    Raises Failed."""
    if not hosts_plan.reads_hosts_toml(info):
        _look_at_unread_hosts(request, info, found)
        return
    found["way"] = "hosts.toml"
    hub, *others = hosts.entries(request)
    by_list, view = found["listed"], hosts.look(request, info, hub)
    found["hazards"] += view.hazards
    found["faults"] += view.faults
    found["mirror_faults"] += view.mirror_faults
    if not view.listed and not view.mirror_faults:
        words = (
            "docker goes by %s, where the mirror is not%s; run `pulumi up`, or"
            " swarm-registry-mirror repair [RM191]"
        )
        moved = ", and it is in daemon.json from before" if by_list else ""
        found["faults"].append(words % (hosts.path_of(hosts.REGISTRY), moved))
    elif by_list:
        found["hazards"].append(
            "daemon.json still lists the mirror, from before docker went by hosts.toml, which does"
            " no harm"
        )
    # What the guard has taken out is as it should be on this node; what is wrong is the mirror.
    listed = view.listed or bool(view.mirror_faults)
    found.update(
        listed=listed, recorded=view.recorded, edited=view.edited, used=listed and not view.faults
    )
    found["registries"] = [hub.registry] if listed else []
    for entry in others:
        _look_at_a_registry(request, info, entry, found)
    # Nothing but the guard has spoken of the mirror so far.
    found["guard_out"] = bool(found["mirror_faults"])
    _look_for_others(request, found)


def _look_at_a_registry(
    request: NodeRequest, info: Dict[str, Any], entry: hosts.Entry, found: Dict[str, Any]
) -> None:
    """Add how the hosts.toml of a registry besides Docker Hub is. Raises Failed."""
    view = hosts.look(request, info, entry)
    found["hazards"] += view.hazards
    found["faults"] += view.faults
    # Of a mirror that is out of all files one sentence says enough.
    found["mirror_faults"] += view.mirror_faults if not found["mirror_faults"] else []
    found["edited"] = found["edited"] or view.edited
    if view.listed or view.mirror_faults:
        found["registries"].append(entry.registry)
    elif not view.faults:
        words = "the mirror is not in %s; run `pulumi up`, or swarm-registry-mirror repair [RM232]"
        found["faults"].append(words % entry.path)


def _look_for_others(request: NodeRequest, found: Dict[str, Any]) -> None:
    """Add the files of registries that the request does not name any more. Raises Failed."""
    named = [entry.path for entry in hosts.entries(request)]
    for path in hosts.own_paths(request.owner):
        if path not in named:
            words = (
                "the mirror is in %s, and this registry is not cached any more;"
                " run `pulumi up`, or swarm-registry-mirror repair [RM233]"
            )
            found["faults"].append(words % path)


def _look_at_unread_hosts(
    request: NodeRequest, info: Dict[str, Any], found: Dict[str, Any]
) -> None:
    """Add what it means that docker does not go by hosts.toml. Raises Failed."""
    found["registries"] = [hosts.REGISTRY] if found["listed"] else []
    for path in hosts.own_paths(request.owner):
        words = (
            "the mirror is in %s, which docker does not read with this image store;"
            " run `pulumi up`, or swarm-registry-mirror repair [RM190]"
        )
        found["faults"].append(words % path)
    found["faults"] += hosts_files.without_fallback(request, info)
    found["hazards"] += hosts_files.by_name_alone(request, info)


def _look_at_the_mirror(
    request: NodeRequest, info: Dict[str, Any], text: str, found: Dict[str, Any]
) -> None:
    """Add what is wrong on the way to the mirror, or with it."""
    url, unit, image = request.mirror_url, request.unit, request.check_image
    proxy = dockerd_view.proxy_of(url, info, unit, text)
    answer = probe.ask(url, image, proxy)
    if answer.fault is not None:
        found["mirror_faults" if answer.concerns_the_mirror else "faults"].append(answer.fault)
        return
    wrong = dockerd_view.refusal(url, image, info, unit, text) if info else None
    if wrong is not None:
        found["faults"].append(wrong)
    elif proxy is not None:
        words = "docker goes to the mirror through its proxy %s, and every image with it [RM192]; "
        found["hazards"].append(
            words % probe.without_password(proxy) + probe.NO_PROXY % (probe.host_of(url))
        )
    upstream = probe.upstream_fault(url, image, proxy)
    if upstream is not None:
        found["mirror_faults"].append(upstream)
