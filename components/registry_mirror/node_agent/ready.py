"""The readiness gate: waits until the mirror's new task runs and answers over HTTPS through
Traefik, or says why it does not.

Runs on the manager, changes nothing. Until it has passed, no node is told of the mirror. What an
old task or a cache answers is taken as proof of nothing, nor what comes by earlier labels of
Traefik's: the task must have the new configuration, Traefik must go by the new labels, and the
upstream must answer now (`wait`), or it is said that it does not (`wait_again`, on a stack that has
run with this upstream). Of the registries besides the one at the root, only those that
are required hold it up (`wait`); the others are named.
"""

import dataclasses
import json
import sys
import time
from typing import Any, Callable, Dict, List, Optional

from ..answer import printed_complaint
from . import constraint, daemon_json, dockerd_view, engine, files, probe, registries
from .request import LABELS_HEADER, ExpectedTask, ReadyRequest

POLL_SECONDS = 0.5
LABELS_SECONDS = 60.0
"""How long Traefik may go by earlier labels. It looks every 15 s (providers.swarm.refreshSeconds),
or as often as it is told to."""
VARNISH_LOOKS = 10.0
"""Seconds in which Varnish takes over the address of a registry's new task."""


OTHER_LABELS = (
    "READY, BUT NOT BY TODAY'S LABELS: what answers at %s does not say that Traefik goes by them,"
    " and whom they let in is not known: Traefik looks more seldom than once a minute"
    " (providers.swarm.refreshSeconds), or something in front of it takes the header %s away"
)


class NotReady(files.Failed):
    """The mirror does not answer in time; the message says what is wrong and what to do. No node
    was touched."""


def wait(request: ReadyRequest) -> str:
    """Wait for a task of each service with the digest word and the image that are wanted, and for
    the upstream; returns `ready`.

    A registry besides the one at the root that is not reached is a warning on stderr, unless it is
    required. Raises NotReady when `request.timeout` seconds are over, and at once for what no
    waiting mends.
    """
    deadline = time.monotonic() + request.timeout
    url, image, proxy = request.mirror_url, request.check_image, _start(request)
    _until_ready(request, proxy, lambda: probe.upstream_fault(url, image, proxy))
    faults = _registry_faults(request, proxy, deadline)
    required = [item.name for item in request.registries if item.required and item.name in faults]
    if required:
        raise NotReady(
            "the mirror is not ready, so no node was touched: %s (required in registries)"
            % "; ".join(faults[name] for name in required)
        )
    _warn_of_registries(faults)
    _warn_of_the_disk(request, proxy)
    return "ready"


def wait_again(request: ReadyRequest) -> str:
    """As `wait`, for a mirror that has served from this upstream: it does so from its cache while
    the upstream is away.

    Returns `ready`. An upstream that does not answer now is a warning on stderr, that of a registry
    besides the one at the root, too. Raises NotReady.
    """
    deadline, proxy = time.monotonic() + request.timeout, _start(request)
    _until_ready(request, proxy, lambda: None)
    upstream = probe.upstream_fault(request.mirror_url, request.check_image, proxy)
    if upstream is not None:
        print(
            printed_complaint("READY ONLY WITH WHAT IS IN ITS CACHE: " + upstream), file=sys.stderr
        )
    served = [dataclasses.replace(item, required=False) for item in request.registries]
    request = dataclasses.replace(request, registries=served)
    _warn_of_registries(_registry_faults(request, proxy, deadline))
    _warn_of_the_disk(request, proxy)
    return "ready"


def _registry_faults(
    request: ReadyRequest, proxy: Optional[str], deadline: float
) -> Dict[str, str]:
    """The registries besides the one at the root that are not reached: name -> why.

    Those that are required are asked until the deadline, the others for as long as Traefik may take
    to find Varnish's new task; both, at the deadline, as long as Varnish may take to find theirs.
    """
    faults: Dict[str, str] = {}
    begun, waiting = time.monotonic(), list(request.registries)
    last = max(deadline, begun + VARNISH_LOOKS)
    patience = min(last, begun + probe.TRAEFIK_LOOKS)
    while waiting:
        found = registries.faults(request.mirror_url, waiting, proxy)
        for item in waiting:
            faults.pop(item.name, None)
        faults.update({name: fault.reason for name, fault in found.items()})
        now = time.monotonic()
        waiting = [
            item
            for item in waiting
            if item.name in found
            and not found[item.name].final
            and now <= (last if item.required else patience)
        ]
        if waiting:
            time.sleep(POLL_SECONDS)
    return faults


def _warn_of_registries(faults: Dict[str, str]) -> None:
    for name, reason in faults.items():
        print(printed_complaint("READY, BUT NOT FOR %s: %s" % (name, reason)), file=sys.stderr)


def _warn_of_the_disk(request: ReadyRequest, proxy: Optional[str]) -> None:
    """Say on stderr if Varnish's machine had less disk than it was told to take; only that machine
    knows, and Varnish says it.

    Until Traefik has taken the new task over, the old one answers: that is told by what it was told
    to take.
    """
    wanted, deadline = request.disk, time.monotonic() + probe.TRAEFIK_LOOKS
    found = probe.disk(request.mirror_url, proxy) if wanted else None
    while found is not None and found[1] != wanted and time.monotonic() <= deadline:
        time.sleep(POLL_SECONDS)
        found = probe.disk(request.mirror_url, proxy)
    if found is not None and found[1] == wanted and found[0] < wanted:
        words = (
            "READY WITH LESS DISK THAN coalesceDisk SAYS: Varnish took %d MiB of %d, half of what"
            " its machine has free; layers of"
            " over %d MiB that do not fit into memory are downloaded once for each client; make"
            " room there (it looks at its next"
            " start), or set coalesceDisk to %d"
        )
        print(
            printed_complaint(words % (found[0], wanted, found[0] * 15 // 16, found[0])),
            file=sys.stderr,
        )


def _start(request: ReadyRequest) -> Optional[str]:
    """dockerd's proxy on the way to the mirror; None if there is none. Raises NotReady where this
    machine is no manager."""
    unit = request.unit
    info = engine.info(unit)
    if not (info.get("Swarm") or {}).get("ControlAvailable"):
        raise NotReady(
            "this machine is no manager of a swarm (docker info: ControlAvailable), so no node was"
            " touched; set manager [RM174]"
        )
    text = daemon_json.decode(files.read(request.path))
    return dockerd_view.proxy_of(request.mirror_url, info, unit, text)


def _until_ready(
    request: ReadyRequest, proxy: Optional[str], upstream: Callable[[], Optional[str]]
) -> None:
    """Wait until nothing is wrong and Traefik goes by the labels of today. Raises NotReady.

    Until it has looked again it leads, and lets in, as before: what was a mirror to everybody then
    may be none to the nodes, or have another name, seconds later.
    """
    deadline = time.monotonic() + request.timeout
    answer = _until_nothing_is_wrong(request, proxy, upstream, deadline)
    patience = min(deadline, time.monotonic() + LABELS_SECONDS)
    while not _is_by_our_labels(request, answer):
        if time.monotonic() > patience:
            print(
                printed_complaint(OTHER_LABELS % (request.mirror_url, LABELS_HEADER)),
                file=sys.stderr,
            )
            return
        time.sleep(POLL_SECONDS)
        seen = probe.ask(request.mirror_url, None, proxy)
        if seen.fault is not None or _is_by_our_labels(request, seen):
            answer = _until_nothing_is_wrong(request, proxy, upstream, deadline)


def _is_by_our_labels(request: ReadyRequest, answer: probe.Answer) -> bool:
    """Whether Traefik goes by the labels of today, as far as its answer tells."""
    return not request.labels_mark or answer.labels_mark in (None, request.labels_mark)


def _until_nothing_is_wrong(
    request: ReadyRequest,
    proxy: Optional[str],
    upstream: Callable[[], Optional[str]],
    deadline: float,
) -> probe.Answer:
    """Wait until the tasks run and the mirror answers, by whatever labels; returns its answer.
    Raises NotReady."""
    while True:
        wrong, hidden = _tasks_fault(request) or _hidden_addresses(request), False
        if wrong is None:
            answer = probe.ask(request.mirror_url, request.check_image, proxy)
            if answer.final or _is_for_good(request, answer):
                raise NotReady("the mirror is not ready, so no node was touched: %s" % answer.fault)
            wrong, hidden = answer.fault or upstream(), answer.no_route
        if wrong is None:
            return answer
        if time.monotonic() > deadline:
            wrong += _hiding_constraint(request) if hidden else ""
            raise NotReady(
                "the mirror is not ready after %d s, so no node was touched: %s"
                % (request.timeout, wrong)
            )
        time.sleep(POLL_SECONDS)


def _is_for_good(request: ReadyRequest, answer: probe.Answer) -> bool:
    """Whether it is what only labels can change, and Traefik goes by those of today."""
    return answer.passes_within == probe.TRAEFIK_LOOKS and bool(
        answer.labels_mark and answer.labels_mark == request.labels_mark
    )


def _hiding_constraint(request: ReadyRequest) -> str:
    """Behind "no route": the constraint of a Traefik that our services do not meet. Looked for
    once, when the time is over."""
    try:
        found = constraint.fault(request.labels, _services())
    except (engine.EngineProblem, ValueError):
        return ""  # what is wrong is said already; this would only have said why
    return "" if found is None else " " + found


def _services() -> List[Dict[str, Any]]:
    """Every service of the swarm. Raises engine.EngineProblem."""
    names = engine.run("docker", "service", "ls", "--quiet").split()
    found: List[Dict[str, Any]] = (
        json.loads(engine.run("docker", "service", "inspect", *names)) if names else []
    )
    return found


def _hidden_addresses(request: ReadyRequest) -> Optional[str]:
    """What makes an allow-list worthless: a service on Traefik's network whose HTTPS port goes
    through the routing mesh.

    The mesh replaces every client's address by its own (moby#25526): all would be let in, or none.
    """
    if not request.allow_from:
        return None
    try:
        network = engine.run(
            "docker", "network", "inspect", "--format", "{{.ID}}", request.network
        ).strip()
        services = _services()
    except engine.EngineProblem as error:
        return "the swarm's services cannot be looked at: %s [RM175]" % error
    for service in services:
        spec = service["Spec"]
        networks = spec["TaskTemplate"].get("Networks") or spec.get("Networks") or []
        ports = (service.get("Endpoint") or {}).get("Ports") or []
        meshed = [
            port
            for port in ports
            if port.get("PublishedPort") == 443 and port.get("PublishMode") != "host"
        ]
        if meshed and network in [item.get("Target") for item in networks]:
            words = (
                "the service %s publishes port 443 through the routing mesh, which hides who a"
                " client is from allowFrom [RM176]; "
            )
            return words % str(spec["Name"]) + "publish it with mode=host"
    return None


def _tasks_fault(request: ReadyRequest) -> Optional[str]:
    faults = (_task_fault(service.service, service) for service in request.services)
    return next((fault for fault in faults if fault is not None), None)


def _task_fault(service: str, wanted: ExpectedTask) -> Optional[str]:
    """What is wrong with the service's newest task; None if one with our configuration runs (and is
    healthy)."""
    try:
        tasks = _tasks(service)
    except engine.EngineProblem as error:
        return "the service %s cannot be looked at: %s [RM177]" % (service, error)
    current = [task for task in tasks if _is_wanted(task["Spec"]["ContainerSpec"], wanted)]
    if any(task["Status"]["State"] == task["DesiredState"] == "running" for task in current):
        return None
    if not current:
        return (
            "docker has not made a task of the service %s with this configuration yet [RM178]"
        ) % service
    newest = max(current, key=lambda task: str(task["CreatedAt"]))
    # A task that is being tried again is younger than the one whose failure tells the reason.
    failed = [task for task in current if task["Status"].get("Err")]
    reason = max(failed, key=lambda task: str(task["CreatedAt"]))["Status"]["Err"] if failed else ""
    words = "its task is %s" % newest["Status"]["State"]
    return words + (": " + reason if reason else "") + _last_log_line(service)


def _tasks(service: str) -> List[Dict[str, Any]]:
    names = engine.run("docker", "service", "ps", "--quiet", "--no-trunc", service).split()
    tasks: List[Dict[str, Any]] = (
        json.loads(engine.run("docker", "inspect", "--type", "task", *names)) if names else []
    )
    return tasks


def _is_wanted(spec: Dict[str, Any], wanted: ExpectedTask) -> bool:
    """Whether a task has the configuration's digest as a word of its command, and the image."""
    return bool(wanted.word in (spec.get("Command") or []) and spec["Image"] == wanted.image)


def _last_log_line(service: str) -> str:
    try:
        # A service's complaints are on stderr, and docker keeps the two apart.
        lines = engine.run(
            "sh", "-c", "docker service logs --raw --tail 3 %s 2>&1" % service
        ).splitlines()
    except engine.EngineProblem:
        return ""
    return "; its log ends with: %s" % lines[-1][-300:] if lines else ""
