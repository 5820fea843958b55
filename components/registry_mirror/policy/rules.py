"""What no stack may do, as functions over the resources that are declared or deployed. Pure;
standard library only.

A resource is a mapping with `type`, `name`, `urn`, `parent` (a URN), `inputs`, `dependencies`
(URNs) and `ignored` (paths), as Pulumi has them. The command's `policy` and `preview` ask these
functions with every backend and every Pulumi; `pack.py` makes a policy pack of them for estates
that enforce one. The component's args refuse most of it already: this is the second lock, for
resources that somebody declares beside the component.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Resource = Mapping[str, Any]

SERVICE = "docker:index/service:Service"
REMOTE = "command:remote:Command"
LOCAL = "command:local:Command"
SECRET = "docker:index/secret:Secret"
_CONFIGURES = re.compile(r"\bnode\.apply\b")
_RESTART = re.compile(
    r"\b(systemctl\s+(\S+\s+)*(restart|stop|kill)\s+(docker|docker-latest)\b|service\s+docker\S*\s+(restart|stop)\b|\breboot\b)"
)
_TRAEFIK = re.compile(r"(.*/)?traefik([:@].*)?")
_ALLOW_LIST = re.compile(r"sourcerange$", re.IGNORECASE)


@dataclass(frozen=True)
class Violation:
    """What is wrong with a resource, and what to do."""

    urn: str
    name: str
    message: str


@dataclass(frozen=True)
class Rule:
    """A policy: a name as policy packs want them, what it demands, and the function that finds
    violations."""

    name: str
    description: str
    find: Callable[[Sequence[Resource]], Iterator[Violation]]


def check(resources: Sequence[Resource]) -> list[str]:
    """Every violation as a sentence that names rule and resource."""
    return [
        f"{violation.name}: {violation.message} [{rule.name}]"
        for rule in RULES
        for violation in rule.find(resources)
    ]


def images_by_digest(resources: Sequence[Resource]) -> Iterator[Violation]:
    """A tag can be moved to another image; a digest cannot."""
    for service in _of(resources, SERVICE):
        image = _container(service).get("image", "")
        if "@sha256:" not in str(image):
            yield _against(
                service,
                f"the image {image} has no digest; `swarm-registry-mirror pin` looks it up",
            )


def no_published_port(resources: Sequence[Resource]) -> Iterator[Violation]:
    """A published port is open on every node of the swarm, past Traefik and its allow-list; that of
    Traefik itself is the way in."""
    for service in _of(resources, SERVICE):
        ports = (service["inputs"].get("endpointSpec") or {}).get("ports") or []
        if ports and not _TRAEFIK.fullmatch(str(_container(service).get("image"))):
            numbers = ", ".join(
                _number(port.get("publishedPort", port.get("targetPort"))) for port in ports
            )
            yield _against(
                service, f"publishes port {numbers} on every node; route it through Traefik instead"
            )


def host_keys_present(resources: Sequence[Resource]) -> Iterator[Violation]:
    """Without a host key pulumi-command trusts any machine that answers, and sends it the request;
    our own ssh reaches nobody."""
    message = "its connection has no hostKey; enter the node's own, or use knownHostsFile"
    for command in _of(resources, REMOTE):
        connection = command["inputs"].get("connection")
        if isinstance(connection, Mapping) and not connection.get("hostKey"):
            yield _against(command, message)
    for command in _of(resources, LOCAL):
        variables = command["inputs"].get("environment")
        if (
            isinstance(variables, Mapping)
            and "MIRROR_SSH" in variables
            and not variables.get("MIRROR_HOST_KEY")
        ):
            yield _against(command, message)


def credentials_need_an_allow_list(resources: Sequence[Resource]) -> Iterator[Violation]:
    """Anybody who reaches a mirror with credentials can read what its account can read."""
    services = _of(resources, SERVICE)
    with_secrets = [
        service
        for service in services
        if any(map(_may_be_credentials, _container(service).get("secrets") or []))
    ]
    for service in with_secrets:
        own = str(service["inputs"].get("name", service["name"]))
        # The way in may be Varnish's service, which has the name of each registry behind it.
        family = [
            other
            for other in services
            if str(other["inputs"].get("name", other["name"])) == own
            or f"REGISTRY={own}" in (_container(other).get("commands") or [])
        ]
        routed = [
            other
            for other in family
            if _label(other, re.compile(r"^traefik\.(http\.routers\..*\.rule|frontend\.rule)$"))
        ]
        for other in routed:
            if not _label(other, _ALLOW_LIST):
                yield _against(
                    other,
                    "leads to a registry with credentials and has no list of source addresses; set"
                    " allowFrom",
                )


def _may_be_credentials(secret: Mapping[str, Any]) -> bool:
    """Whether a secret of a service may open a registry; the password of the proxy on the way there
    opens none."""
    return secret.get("fileName") != "upstream-proxy"


def _cache(service: Resource, source: str) -> str:
    """What a service writes to: a folder of the storage, where it has one of its own."""
    words = [str(word) for word in _container(service).get("commands") or []]
    folders = [word.partition("=")[2] for word in words if word.startswith("FOLDER=")]
    return "/".join([source, *folders])


def one_writer_per_cache(resources: Sequence[Resource]) -> Iterator[Violation]:
    """Two registries that write to one cache overwrite each other's state."""
    writers: dict[str, list[Resource]] = {}
    for service in _of(resources, SERVICE):
        for mount in _container(service).get("mounts") or []:
            # A volume without a name is the task's own, and nobody else's.
            if not mount.get("readOnly") and mount.get("source"):
                writers.setdefault(_cache(service, str(mount["source"])), []).append(service)
    for source, services in writers.items():
        services = sorted(
            services, key=lambda service: str(service["name"])
        )  # the order of declarations is an accident
        for other in services[1:]:
            yield _against(
                other,
                f"writes to {source}, as {services[0]['name']} does; give each mirror a cache of"
                " its own",
            )
        for service in services:
            replicas = ((service["inputs"].get("mode") or {}).get("replicated") or {}).get(
                "replicas", 1
            )
            order = (service["inputs"].get("updateConfig") or {}).get("order", "stop-first")
            if replicas != 1 or order != "stop-first":
                how = f"{_number(replicas)} replicas, {order}"
                yield _against(
                    service,
                    f"would have two tasks write to {source} ({how}); one replica and stop-first",
                )


def network_by_id(resources: Sequence[Resource]) -> Iterator[Violation]:
    """A service that is attached by the network's name is replaced, that is stopped, by each `up`
    after a refresh, if it does not ignore what the refresh finds.
    """
    for service in _of(resources, SERVICE):
        if "taskSpec.networksAdvanceds" in service["ignored"]:
            continue
        for network in (service["inputs"].get("taskSpec") or {}).get("networksAdvanceds") or []:
            if not network.get("id"):
                remedy = "use its id, or ignore changes of taskSpec.networksAdvanceds"
                yield _against(
                    service, f"is attached to the network {network.get('name')} by name; {remedy}"
                )


def restarts_only_in_waves(resources: Sequence[Resource]) -> Iterator[Violation]:
    """One canary, then waves; and only the rolling restart, which keeps quorum and drains, restarts
    docker."""
    commands = [*_of(resources, REMOTE), *_of(resources, LOCAL)]
    for command in commands:
        for when in ("create", "update", "delete"):
            if _RESTART.search(str(command["inputs"].get(when) or "")):
                yield _against(
                    command,
                    f"its {when} stops or restarts docker by itself; enter the key in daemonKeys,"
                    " with restart: when-needed",
                )
    by_urn = {resource["urn"]: resource for resource in resources}
    nodes = [
        command
        for command in commands
        if _CONFIGURES.search(str(command["inputs"].get("create") or ""))
    ]
    first: dict[str, Resource] = {}
    for node in nodes:
        before = _all_before(node, by_urn)
        if any(other["urn"] in before for other in nodes if other is not node):
            continue
        mirror = str(node.get("parent"))
        if mirror in first:
            yield _against(
                node,
                f"is configured at the same time as the canary {first[mirror]['name']}; it must"
                " wait for it",
            )
        first.setdefault(mirror, node)


RULES = tuple(
    Rule(find.__name__.replace("_", "-"), str(find.__doc__), find)
    for find in (
        images_by_digest,
        no_published_port,
        host_keys_present,
        credentials_need_an_allow_list,
        one_writer_per_cache,
        network_by_id,
        restarts_only_in_waves,
    )
)


def configures_a_node(inputs: Mapping[str, Any]) -> bool:
    """Whether a command with these inputs runs the node agent's action that configures a node."""
    return bool(_CONFIGURES.search(str(inputs.get("create") or "")))


def _of(resources: Sequence[Resource], kind: str) -> list[Resource]:
    return [resource for resource in resources if resource["type"] == kind]


def _number(value: object) -> str:
    """A number as a person writes it: a policy pack gets every number as a float."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _container(service: Resource) -> Mapping[str, Any]:
    container: Mapping[str, Any] = (service["inputs"].get("taskSpec") or {}).get(
        "containerSpec"
    ) or {}
    return container


def _label(service: Resource, pattern: "re.Pattern[str]") -> bool:
    return any(
        pattern.search(str(label.get("label"))) for label in service["inputs"].get("labels") or []
    )


def _all_before(resource: Resource, by_urn: Mapping[str, Resource]) -> set[str]:
    """URNs of everything that a resource waits for, directly or not."""
    before: set[str] = set()
    waiting = list(resource["dependencies"])
    while waiting:
        urn = waiting.pop()
        if urn not in before:
            before.add(urn)
            waiting += by_urn[urn]["dependencies"] if urn in by_urn else []
    return before


def _against(resource: Resource, message: str) -> Violation:
    return Violation(str(resource["urn"]), str(resource["name"]), message)
