"""From what docker says of a hand-made mirror to a stack's configuration. Pure.

What is there stays as it is: name, cache, configuration file, network, route, open port. What changes with the first
`pulumi up` is what this project does better, and the preview shows it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from components.registry_mirror.coalesce import front_name
from components.registry_mirror.registry import CACHE_TARGET, PORT
from components.registry_mirror.service import ALWAYS_TRUE

SERVICE_LINE = "# The service that was there: "
"""Begins the line of the stack's file by which `tools/adopt.py` finds what it has to import."""
REGISTRY_TAG, VARNISH_TAG = "3.1.1", "7.7.0"
"""What the file asks for; `make pin` adds the digests."""
CONFIG_TARGETS = ("/etc/docker/registry/config.yml", "/etc/distribution/config.yml")
_REPOSITORY = re.compile(r"(?P<prefix>(?:.*/)?)(?P<name>registry|distribution)(?::(?P<tag>[^@]+))?(?:@.*)?")
_TRAEFIK = re.compile(r"(?:.*/)?traefik:v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:[-@].*)?")
_HOST = re.compile(r"Host(?:Regexp)?(?::\s*|\(\s*`)([A-Za-z0-9.-]+)")


class AdoptError(Exception):
    """This cannot be taken over; the text says why and what to do."""


@dataclass(frozen=True)
class Machine:
    """A node of the swarm: as docker knows it, and what its files say. `daemon_json`: path -> text of those that exist."""

    name: str
    address: str
    daemon_json: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A mirror that can be taken over."""

    service_id: str
    values: dict[str, Any]
    """Configuration key -> value."""
    notes: list[str]
    """What a person should know or do, in sentences."""


def mirror_among(services: Sequence[Mapping[str, Any]], wanted: str | None = None) -> Mapping[str, Any]:
    """The one service that runs a registry (or that has the name `wanted`). Raises AdoptError if it is not exactly one."""
    registries = [service for service in services if _REPOSITORY.fullmatch(_container(service).get("Image", ""))]
    if wanted is not None:
        registries = [service for service in services if service["Spec"]["Name"] == wanted]
    if len(registries) == 1:
        return registries[0]
    if not registries:
        names = ", ".join(sorted(service["Spec"]["Name"] for service in services)) or "none"
        raise AdoptError(f"no service of this swarm runs a registry (there are: {names}); name yours with SERVICE=…")
    names = ", ".join(sorted(service["Spec"]["Name"] for service in registries))
    raise AdoptError(f"several services run a registry: {names}; name the mirror with SERVICE=…")


def config_path(service: Mapping[str, Any]) -> str | None:
    """Where on the machine the registry's configuration lies; None where it is no bind mount."""
    return next((m["Source"] for m in _mounts(service) if m["Target"] in CONFIG_TARGETS and m["Type"] == "bind"), None)


def settings_of(
    service: Mapping[str, Any],
    *,
    config: str,
    services: Sequence[Mapping[str, Any]],
    networks: Mapping[str, str],
    machines: Sequence[Machine],
    manager: str,
) -> Found:
    """What describes `service` and the nodes. `services`: all of the swarm; `networks`: id -> name. Raises AdoptError."""
    spec, name = service["Spec"], service["Spec"]["Name"]
    if front_name(name) in [other["Spec"]["Name"] for other in services]:
        raise AdoptError(f"there is a service {front_name(name)} already, and Varnish's will have that name; rename yours")
    labels: dict[str, str] = {**_container(service).get("Labels", {}), **(spec.get("Labels") or {})}
    notes: list[str] = []
    image = _REPOSITORY.fullmatch(_container(service)["Image"])
    prefix = image["prefix"] if image else ""
    values: dict[str, Any] = {
        "hostname": _hostname(name, labels),
        "image": f"{prefix}registry:{REGISTRY_TAG}",
        "varnishImage": f"{prefix}varnish:{VARNISH_TAG}",
        "manager": manager,
        "serviceName": name,
        "network": _network(service, labels, networks),
        "traefik": _dialect(labels, services),
        **_proxy(config, notes),
        **_storage(service, notes),
        **_route(labels),
    }
    if _replicas(service) != 1:
        raise AdoptError(f"the service {name} has {_replicas(service)} replicas, which spoil each other's cache; scale it to 1")
    ports = [port.get("PublishedPort") for port in (spec.get("EndpointSpec") or {}).get("Ports") or []]
    if ports == [PORT]:
        values["publishUnencryptedPort5000"] = True
        notes.append("port 5000 is open on every node, without encryption; remove publishUnencryptedPort5000 once nobody uses it")
    elif ports:
        notes.append(f"published ports go with the first `pulumi up`: {', '.join(map(str, ports))}")
    constraints = (spec["TaskTemplate"].get("Placement") or {}).get("Constraints") or []
    if kept := [constraint for constraint in constraints if constraint != ALWAYS_TRUE]:
        values["placementConstraints"] = kept
    values["nodes"] = [_node(machine, values["hostname"], notes) for machine in machines]
    return Found(service["ID"], values, notes)


def stack_file(found: Found, extra: Mapping[str, Any], order: Sequence[str]) -> str:
    """The stack's file: comments for a person, keys in the order of the reference."""
    values = {**found.values, **extra}
    config = {f"swarm-registry-mirror:{key}": values[key] for key in order if key in values}
    head = [
        "# yaml-language-server: $schema=config/stack.schema.json",
        "# Written by `make adopt` from the mirror that was there. `make preview` shows what `make up` would change.",
        f"{SERVICE_LINE}{found.service_id}",
        *(f"# Note: {note}." for note in found.notes),
    ]
    body = yaml.safe_dump({"config": config}, sort_keys=False, allow_unicode=True, width=130)
    return "\n".join(head) + "\n" + body


def _container(service: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    return found


def _mounts(service: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [{"Type": "bind", "ReadOnly": False, **mount} for mount in _container(service).get("Mounts") or []]


def _replicas(service: Mapping[str, Any]) -> int:
    mode = service["Spec"].get("Mode") or {}
    return int((mode.get("Replicated") or {}).get("Replicas", 1)) if "Global" not in mode else 2


def _hostname(name: str, labels: Mapping[str, str]) -> str:
    for key, rule in labels.items():
        if key.endswith(("frontend.rule", ".rule")) and (host := _HOST.search(rule)):
            return host[1]
    raise AdoptError(f"the labels of {name} have no Traefik rule with a Host; nodes could not find the mirror by a name")


def _network(service: Mapping[str, Any], labels: Mapping[str, str], networks: Mapping[str, str]) -> str:
    spec = service["Spec"]
    attached = spec["TaskTemplate"].get("Networks") or spec.get("Networks") or []
    names = [networks.get(network["Target"], str(network["Target"])) for network in attached]
    named = labels.get("traefik.docker.network") or labels.get("traefik.swarm.network")
    if named in names and named is not None:
        return named
    if len(names) == 1:
        return names[0]
    raise AdoptError(f"the service is on {len(names)} networks ({', '.join(names)}); label it with traefik.docker.network")


def _dialect(labels: Mapping[str, str], services: Sequence[Mapping[str, Any]]) -> str:
    """By the version of the Traefik that runs; else by the labels."""
    for service in services:
        if version := _TRAEFIK.fullmatch(_container(service).get("Image", "")):
            major, minor, patch = int(version[1]), int(version[2] or 0), int(version[3] or 0)
            return f"v{major}" if major < 3 else "v3.0" if (minor, patch) < (2, 2) else "v3"
    return "v1" if any(key.startswith("traefik.frontend.") for key in labels) else "v3"


def _proxy(config: str, notes: list[str]) -> dict[str, Any]:
    try:
        proxy = (yaml.safe_load(config) or {}).get("proxy") or {}
    except (yaml.YAMLError, AttributeError) as error:
        raise AdoptError(f"the registry's configuration is not YAML: {error}") from None
    if "remoteurl" not in proxy:
        raise AdoptError("the registry's configuration has no proxy.remoteurl, so it is a registry of its own and no mirror")
    values: dict[str, Any] = {"upstream": str(proxy["remoteurl"]).rstrip("/")}
    if proxy.get("username"):
        values["upstreamUsername"] = str(proxy["username"])
        notes.append(
            "the mirror has credentials: set the token with `pulumi config set --secret upstreamToken`, and allowFrom, "
            "because whoever reaches the mirror reads what that account may"
        )
    return values


def _storage(service: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    cache = next((mount for mount in _mounts(service) if mount["Target"] == CACHE_TARGET), None)
    if cache is None:
        raise AdoptError(f"nothing is mounted at {CACHE_TARGET}, so the cache goes with each container; there is nothing to keep")
    if cache["Type"] == "volume":
        notes.append("the cache is a volume of one machine; placementConstraints must name that machine")
        return {"cacheVolume": cache["Source"]}
    path = config_path(service)
    if path is None:
        path = f"{cache['Source'].rstrip('/')}-config.yml"
        notes.append(f"the registry's configuration will be {path}, beside the cache")
    return {"cachePath": cache["Source"], "configPath": path}


def _route(labels: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in labels.items():
        if key.startswith("traefik.http.routers.") and key.endswith(".entrypoints"):
            values["entrypoint"] = value.partition(",")[0]
        if key.startswith("traefik.http.routers.") and key.lower().endswith(".tls.certresolver"):
            values["certResolver"] = value
    return values


def _node(machine: Machine, hostname: str, notes: list[str]) -> dict[str, Any]:
    node: dict[str, Any] = {"name": machine.name, "address": machine.address}
    told = [path for path, text in machine.daemon_json.items() if f"https://{hostname}" in text]
    if told and told[0] != "/etc/docker/daemon.json":
        node["daemonJson"] = told[0]
        node["service"] = told[0].split("/")[2]
    if not told:
        notes.append(f"{machine.name} was not told of the mirror until now, and will be")
    return node
