"""The owner of a hostname, a service name, a cache, a configuration file: claimed before anything
is made (`take`, `release`).

Runs on a manager. A claim is a Swarm config that says who has one of these: docker makes each name
once, so of two stacks that ask at the same moment one has it. What is there without a claim counts
too: services, Traefik's rules, marks on the storage.

It deliberately takes nothing away from anybody: a claim that is somebody else's is reported, with
the way to end it.
"""

import hashlib
import json
import os
import re
import time
from typing import Any, Dict, List, NamedTuple, Optional, Set

from . import engine, files, routes, storage
from .files import Failed
from .request import Cache, ClaimRequest

ATTEMPTS = 20
"""Of looking at what other mirrors give back at the same moment, one thing after the other."""
PAUSE_SECONDS = 0.2
FOLDER = "FOLDER=registries/"
"""Word of the command of a registry's service, with the folder of its cache."""
LABEL = "swarm-registry-mirror.claim"
"""Label of the Swarm config; its value is the kind of what is claimed."""

Service = Dict[str, Any]


class Claim(NamedTuple):
    """One thing that only one mirror can have."""

    kind: str
    """`hostname`, `service`, `cache` or `config`."""
    value: str

    @property
    def config(self) -> str:
        """Name of the Swarm config; docker allows 64 characters."""
        return "swarm-registry-mirror.%s.%s" % (
            self.kind,
            hashlib.sha256(self.value.encode()).hexdigest()[:24],
        )


class Holder(NamedTuple):
    """Who has a claim."""

    identity: str
    """Minted once by the stack and kept in its state, so that it outlives every renaming."""
    stack: str
    """Project, stack and component, for a person."""


def take(request: ClaimRequest) -> str:
    """Claim everything that the request names, or nothing of it; returns `claimed`. Raises Failed
    with all that is not.

    `identity` and `stack` (ours), `former` (the identity under which an earlier version made our
    claims, which become these), `hostname`, `entrypoint`, `routers`, `services`, `front`, `cache`,
    `cache_target`, `config_path`, `marker` (of our configurations) and `network` (the overlay
    network that must be there, or None). Claims of ours that are not asked for any more are given
    back.
    """
    me = Holder(request.identity, request.stack)
    machines = _machines()
    wanted = claims_of(request, machines)
    held, services = _held(), _services()
    former = [claim for claim, holder in held.items() if holder.identity == request.former]
    held.update(dict.fromkeys(former, me))
    faults = faults_of(request, held, services, machines) + _network_faults(request.network)
    if faults:
        raise Failed("nothing was made: " + "; ".join(faults))
    made: List[Claim] = []
    try:
        for claim in wanted:
            if claim in former:
                _remove(claim)
                _make(claim, me)
            elif claim not in held:
                _make(claim, me)
                made.append(claim)
    except Failed:
        for claim in made:
            _remove(claim)
        raise
    for claim, holder in held.items():
        if holder.identity == me.identity and claim not in wanted:
            _remove(claim)
    return "claimed"


def release(request: ClaimRequest) -> str:
    """Give back whatever is ours; returns `released`. Raises engine.EngineProblem."""
    for claim, holder in _held().items():
        if holder.identity == request.identity:
            _remove(claim)
    return "released"


def claims_of(request: ClaimRequest, machines: Dict[str, str]) -> List[Claim]:
    """What the request asks for. `machines`: host name -> node id of the swarm's nodes."""
    found = [Claim("hostname", request.hostname.lower())]
    found += [Claim("service", name) for name in request.services]
    found.append(Claim("cache", _cache_name(request.cache, machines)))
    if request.config_path:
        found.append(Claim("config", os.path.normpath(request.config_path)))
    return found


def _cache_name(cache: Cache, machines: Dict[str, str]) -> str:
    if cache.path is not None:
        return "path %s" % os.path.normpath(cache.path)
    if cache.nfs is not None:
        folder = os.path.normpath(cache.nfs.device.lstrip(":"))
        return "nfs %s %s" % (cache.nfs.addr.lower(), folder)
    tied = sorted(_tied_to(cache.constraints or [], machines))
    return "volume %s on %s" % (cache.volume, ",".join(tied))


def _tied_to(constraints: List[str], machines: Dict[str, str]) -> Set[str]:
    """The nodes (ids, where the swarm knows the name) that constraints tie a task to."""
    found = set()
    for constraint in constraints:
        attribute, sign, value = constraint.partition("==")
        if sign and attribute.strip() == "node.hostname":
            found.add(machines.get(value.strip(), value.strip()))
        elif sign and attribute.strip() == "node.id":
            found.add(value.strip())
    return found


def faults_of(
    request: ClaimRequest,
    held: Dict[Claim, Holder],
    services: List[Service],
    machines: Dict[str, str],
) -> List[str]:
    """What of the request is somebody else's, a sentence each, with what to do. Raises
    files.FileProblem."""
    faults = []
    for claim in claims_of(request, machines):
        holder = held.get(claim)
        if holder is not None and holder.identity != request.identity:
            faults.append(_claimed(claim, holder))
    named = {service["Spec"]["Name"]: service for service in services}
    mine = {
        claim.value
        for claim, holder in held.items()
        if claim.kind == "service" and holder.identity == request.identity
    }
    for name in request.services:
        if (
            name in named
            and name not in mine
            and Claim("service", name) not in held
            and not _is_own(request, name, named, machines)
        ):
            words = (
                "there is a service %s already, which is not this mirror's; set serviceName to"
                " another name (or remove it) [RM010]"
            )
            faults.append(words % name)
        mine.add(name)
    front = named.get(request.front)
    if front is not None and _leads_to(front, request.services[0]):
        mine.add(request.front)  # Varnish was there and is not wanted any more
    # A registry that is not wanted any more: its claim is given back before its service is deleted,
    # and an `up` may have ended in between.
    mine.update(name for name in named if _is_further(request, named[name], machines))
    for service in services:
        if service["Spec"]["Name"] not in mine:
            faults += _in_the_way(request, service, machines)
    return faults + _on_storage(request, held, mine)


def _network_faults(network: Optional[str]) -> List[str]:
    """Raises engine.EngineProblem."""
    if network is None:
        return []
    there = engine.run(
        "docker", "network", "ls", "--filter", "driver=overlay", "--format", "{{.Name}}"
    ).split()
    return (
        []
        if network in there
        else [
            ("no overlay network %s on this swarm: create it, or set createNetwork to true [RM011]")
            % network
        ]
    )


def _claimed(claim: Claim, holder: Holder) -> str:
    key = {
        "hostname": "hostname",
        "service": "serviceName",
        "cache": "cachePath, cacheNfs or cacheVolume",
        "config": "configPath",
    }
    words = (
        "the %s %s is taken by the mirror of the stack %s; set %s to another (or destroy that"
        " stack; if it is gone for good [RM012]: "
    )
    return (
        words % (claim.kind, claim.value, holder.stack, key[claim.kind])
        + "docker config rm %s)" % claim.config
    )


def _in_the_way(request: ClaimRequest, service: Service, machines: Dict[str, str]) -> List[str]:
    """What a service that is not ours has of what we ask for."""
    name, labels = service["Spec"]["Name"], service["Spec"].get("Labels") or {}
    faults = []
    if routes.leads_here(labels, request.hostname, request.entrypoint):
        words = (
            "Traefik leads the hostname %s to the service %s; set hostname to another (or"
            " remove that service or its rule) [RM013]"
        )
        faults.append(words % (request.hostname, name))
    for router in routes.named(labels, request.routers):
        words = (
            "the service %s has a Traefik router %s, which would be ours; set serviceName to"
            " another name (or rename it) [RM014]"
        )
        faults.append(words % (name, router))
    if _writes_to(service, request.cache, request.cache_target, machines):
        words = "the service %s writes to the cache %s; give each mirror one of its own [RM015]"
        faults.append(words % (name, _cache_name(request.cache, machines)))
    return faults


def _on_storage(request: ClaimRequest, held: Dict[Claim, Holder], mine: Set[str]) -> List[str]:
    """What the shared storage says: it may be another swarm's, too. Raises files.FileProblem."""
    faults = []
    cache = request.cache.path
    if cache is not None:
        service = request.services[0]
        wrong = storage.marker_fault(cache, service, request.identity)
        if wrong and request.former is not None:
            wrong = storage.marker_fault(cache, service, request.former)
        faults += [wrong] if wrong else []
    path = request.config_path
    if path and Claim("config", os.path.normpath(path)) not in held:
        data = files.read(path, follow=False)
        if data is not None and storage.is_ours(data, request.marker):
            head = data.split(b"\n")[0].decode(errors="replace")
            if not any("service %s;" % name in head for name in mine):
                faults.append(
                    "%s is another mirror's (%s); give each mirror a configPath of its own [RM016]"
                    % (path, head.strip("# "))
                )
    return faults


def _is_own(
    request: ClaimRequest, name: str, named: Dict[str, Service], machines: Dict[str, str]
) -> bool:
    """Whether a service without a claim is ours: made by a version that made no claims, or by hand
    and taken over since."""
    service = named[name]
    if name == request.front:
        return _leads_to(service, request.services[0])
    if _is_further(request, service, machines):
        return True
    front = named.get(request.front)
    shown = [service, *([front] if front is not None and _leads_to(front, name) else [])]
    same_host = any(
        routes.leads_here(one["Spec"].get("Labels") or {}, request.hostname, request.entrypoint)
        for one in shown
    )
    same_cache = _writes_to(service, request.cache, request.cache_target, machines)
    return (same_host or same_cache) if _made_by_us(service) else (same_host and same_cache)


def _is_further(request: ClaimRequest, service: Service, machines: Dict[str, str]) -> bool:
    """Whether a service is a registry of this mirror besides the one at the root: by its name,
    which follows from the mirror's and from the folder that it has of the mirror's cache
    (`render/registries.py`)."""
    folder = next(
        (
            word[len(FOLDER) :]
            for word in _container(service).get("Command") or []
            if word.startswith(FOLDER)
        ),
        None,
    )
    if folder is None:
        return False
    suffix = re.sub("[^a-z0-9]+", "-", folder.lower())
    return bool(
        service["Spec"]["Name"] == "%s-%s" % (request.services[0], suffix)
        and _writes_to(service, request.cache, request.cache_target, machines)
    )


def _made_by_us(service: Service) -> bool:
    return "swarm-registry-mirror.digest" in (_container(service).get("Labels") or {})


def _leads_to(front: Service, registry: str) -> bool:
    """Whether a service is the Varnish that we put in front of a registry."""
    return _made_by_us(front) and "REGISTRY=" + registry in (_container(front).get("Env") or [])


def _writes_to(service: Service, cache: Cache, target: str, machines: Dict[str, str]) -> bool:
    for mount in _container(service).get("Mounts") or []:
        if mount.get("Target") != target or mount.get("ReadOnly"):
            continue
        source, kind = mount.get("Source", ""), mount.get("Type", "bind")
        driver = (mount.get("VolumeOptions") or {}).get("DriverConfig") or {}
        options = driver.get("Options") or {}
        if cache.path is not None and kind == "bind" and _overlap(source, cache.path):
            return True
        nfs = cache.nfs
        if nfs is not None and "addr=" + nfs.addr in options.get("o", "").split(","):
            return _overlap(options.get("device", "").lstrip(":"), nfs.device.lstrip(":"))
        if cache.volume is not None and kind == "volume" and source == cache.volume:
            placement = service["Spec"]["TaskTemplate"].get("Placement") or {}
            theirs, ours = (
                _tied_to(found or [], machines)
                for found in (placement.get("Constraints"), cache.constraints)
            )
            return not theirs or not ours or theirs == ours
    return False


def _overlap(one: str, other: str) -> bool:
    """Whether two folders are the same, or one is in the other."""
    first, second = (os.path.normpath(path).rstrip("/") + "/" for path in (one, other))
    return first.startswith(second) or second.startswith(first)


def _container(service: Service) -> Dict[str, Any]:
    found: Dict[str, Any] = service["Spec"]["TaskTemplate"].get("ContainerSpec") or {}
    return found


def _services() -> List[Service]:
    return _inspected("service", "docker", "service", "ls", "--quiet")


def _machines() -> Dict[str, str]:
    """Host name -> node id; without names that two nodes have."""
    nodes = [
        (node["Description"].get("Hostname", ""), node["ID"])
        for node in _inspected("node", "docker", "node", "ls", "--quiet")
    ]
    names = [name for name, _ in nodes]
    return {name: identity for name, identity in nodes if names.count(name) == 1}


def _held() -> Dict[Claim, Holder]:
    found = {}
    for config in _inspected(
        "config", "docker", "config", "ls", "--quiet", "--filter", "label=" + LABEL
    ):
        labels = config["Spec"].get("Labels") or {}
        claim = Claim(labels.get(LABEL, ""), labels.get(LABEL + ".value", ""))
        found[claim] = Holder(labels.get(LABEL + ".identity", ""), labels.get(LABEL + ".stack", ""))
    return found


def _inspected(kind: str, *listing: str) -> List[Dict[str, Any]]:
    """All of a kind; once more if one was removed between the two questions. Raises
    engine.EngineProblem."""
    for left in range(ATTEMPTS, 0, -1):
        names = sorted(set(engine.run(*listing).split()))
        try:
            return list(json.loads(engine.run("docker", kind, "inspect", *names))) if names else []
        except engine.EngineProblem:
            if left == 1:
                raise
            time.sleep(PAUSE_SECONDS)
    return []


def _make(claim: Claim, me: Holder) -> None:
    """Make the Swarm config of a claim. Raises Failed if somebody was quicker,
    engine.EngineProblem."""
    labels = {
        LABEL: claim.kind,
        LABEL + ".value": claim.value,
        LABEL + ".identity": me.identity,
        LABEL + ".stack": me.stack,
    }
    words = [word for key, value in labels.items() for word in ("--label", "%s=%s" % (key, value))]
    text = "The %s %s belongs to the registry mirror of the stack %s.\n" % (
        claim.kind,
        claim.value,
        me.stack,
    )
    script = 'printf %s "$0" | docker config create "$@" - 2>&1'
    try:
        engine.run("sh", "-c", script, text, *words, claim.config)
    except engine.EngineProblem:
        holder: Optional[Holder] = _held().get(claim)
        if holder is None:
            raise
        if holder.identity != me.identity:
            raise Failed("nothing was made: " + _claimed(claim, holder)) from None


def _remove(claim: Claim) -> None:
    try:
        engine.run("docker", "config", "rm", claim.config)
    except engine.EngineProblem:
        if claim in _held():
            raise
