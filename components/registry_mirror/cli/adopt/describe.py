"""From what docker says of a hand-made mirror to a stack's configuration. Pure.

What is there stays as it is: name, cache, configuration file, network, route, open port. What
changes with the first `pulumi up` is what this project does better, and the preview shows it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ... import rules
from ...plain_text import one_line
from ...render.registries import DOCKER_HUB, HUB_HOSTS
from ...render.registry import PORT
from ...render.varnish import front_name
from ...services import ALWAYS_TRUE
from ..errors import DRIFTED, CommandError
from .registry_config import RegistryConfig

REGISTRY_TAG, VARNISH_TAG = "3.1.2", "7.7.0"
"""What the file asks for; the digests are looked up."""
CONFIG_TARGETS = ("/etc/docker/registry/config.yml", "/etc/distribution/config.yml")
_REPOSITORY = re.compile(
    r"(?P<prefix>(?:.*/)?)(?P<name>registry|distribution)(?::(?P<tag>[^@]+))?(?:@.*)?"
)
_TRAEFIK = re.compile(r"(?:.*/)?traefik:v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:[-@].*)?")
_HOST = re.compile(r"\bHost(?::\s*|\(\s*[`'\"])([A-Za-z0-9.-]+)")
_ROUTER = re.compile(r"(?i)traefik\.http\.routers\.([^.]+)\.(.+)")
# What we declare ourselves (traefik.py), and what docker's own `stack deploy` has noted.
_REPLACED = re.compile(
    r"(?i)traefik\.(http\..*|enable|port|protocol|weight|(docker|swarm)\.network|([^.]+\.)?frontend\..*)|com\.docker\.stack\..*"
)


class AdoptError(CommandError):
    """This cannot be taken over; the text says why and what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "nothing has been changed", DRIFTED)


@dataclass(frozen=True)
class Machine:
    """A node of the swarm: as docker knows it, and what its files say."""

    name: str
    """As the swarm knows it: a host name, which may be anything."""
    address: str
    daemon_json: Mapping[str, str] = field(default_factory=dict)
    """Path -> text, of the files that exist."""
    user: str = "root"
    """Account to log in with."""
    id: str = ""
    """In the swarm."""
    hosts_toml: Mapping[str, str] = field(default_factory=dict)
    """Registry -> text of its hosts.toml, of those that exist."""


@dataclass(frozen=True)
class Found:
    """A mirror that can be taken over."""

    service_id: str
    values: dict[str, Any]
    """Configuration key -> value."""
    notes: list[str]
    """What a person should know or do, in sentences, each one plain line."""


def mirror_among(
    services: Sequence[Mapping[str, Any]], wanted: str | None = None
) -> Mapping[str, Any]:
    """The one service that runs a registry (or that has the name `wanted`). Raises AdoptError if it
    is not exactly one."""
    registries = [
        service
        for service in services
        if _REPOSITORY.fullmatch(_container(service).get("Image", ""))
    ]
    if wanted is not None:
        registries = [service for service in services if service["Spec"]["Name"] == wanted]
    if len(registries) == 1:
        return registries[0]
    if not registries:
        names = ", ".join(sorted(service["Spec"]["Name"] for service in services)) or "none"
        raise AdoptError(
            f"no service of this swarm runs a registry (there are: {names}); name yours with"
            " --service"
        )
    names = ", ".join(sorted(service["Spec"]["Name"] for service in registries))
    raise AdoptError(f"several services run a registry: {names}; name the mirror with --service")


def config_target(service: Mapping[str, Any]) -> Sequence[str]:
    """Where in its container the registry reads its configuration: what it was started with, or
    where either version looks."""
    words = [*(_container(service).get("Command") or []), *(_container(service).get("Args") or [])]
    named = [word for word in words if word.startswith("/") and word.endswith((".yml", ".yaml"))]
    return named[-1:] or CONFIG_TARGETS


def config_path(service: Mapping[str, Any]) -> str | None:
    """Where on the machine the registry's configuration lies; None where it is no bind mount, of
    the file or its folder."""
    for target in config_target(service):
        for mount in _mounts(service):
            rest = _below(target, mount["Target"])
            if mount["Type"] == "bind" and rest is not None and mount["Target"] != "/":
                return f"{mount['Source'].rstrip('/')}{rest}"
    return None


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    """The variables of its containers."""
    return {
        name: value
        for name, _, value in (word.partition("=") for word in _container(service).get("Env") or [])
    }


def settings_of(
    service: Mapping[str, Any],
    *,
    config: str,
    services: Sequence[Mapping[str, Any]],
    networks: Mapping[str, str],
    machines: Sequence[Machine],
    manager: str,
    runs_on: Machine | None = None,
) -> Found:
    """What describes `service` and the nodes. Raises AdoptError.

    `config`: the registry's file, empty where it has none of its own. `services`: all of the swarm;
    `networks`: id -> name; `manager`: name of the machine that was asked; `runs_on`: the machine of
    the service's task, as far as it has one.
    """
    spec, name = service["Spec"], service["Spec"]["Name"]
    if front_name(name) in [other["Spec"]["Name"] for other in services]:
        raise AdoptError(
            f"there is a service {front_name(name)} already, and Varnish's will have that name;"
            " rename yours"
        )
    if not re.fullmatch("[a-z0-9]{25}", str(service["ID"])):
        raise AdoptError(
            "docker calls the service by an id that is none; look at `docker service ls`"
        )
    labels: dict[str, str] = {
        **(_container(service).get("Labels") or {}),
        **(spec.get("Labels") or {}),
    }
    notes: list[str] = []
    try:
        registry = RegistryConfig.read(config, environment(service))
    except ValueError as error:
        raise AdoptError(str(error)) from None
    image = _REPOSITORY.fullmatch(_container(service)["Image"])
    prefix = image["prefix"] if image else ""
    names = node_names([machine.name for machine in machines])
    dialect = _dialect(labels, services)
    values: dict[str, Any] = {
        **_route(name, labels, notes),
        "image": f"{prefix}registry:{REGISTRY_TAG}",
        "varnishImage": f"{prefix}varnish:{VARNISH_TAG}",
        "manager": names.get(manager) or node_names([manager])[manager],
        "serviceName": name,
        "network": _network(service, labels, networks),
        "traefik": dialect,
        **_upstream(registry, notes),
        **_way_out(service, notes),
        **_storage(service, registry, notes),
    }
    if len(name) + len(front_name("")) > 63:
        values["coalesce"] = False
        del values["varnishImage"]
        notes.append(
            f"the name {name} has no room for Varnish's, {front_name(name)}; nodes that pull"
            " together are not one download"
        )
    _replicas(service, name, notes)
    _ports(spec, values, notes)
    if kept := _constraints(spec, values, runs_on, notes):
        values["placementConstraints"] = kept
    if own := _own_labels(labels, notes):
        values["traefikLabels"] = own
    _registries(service, services, registry, notes)
    values["nodes"] = _nodes(machines, names, values["hostname"], notes)
    _check(values)
    return Found(service["ID"], values, [one_line(note) for note in notes])


ORDER = (
    "hostname",
    "image",
    "coalesce",
    "varnishImage",
    "nodes",
    "manager",
    "sshPrivateKeyFile",
    "knownHostsFile",
    "upstream",
    "upstreamUsername",
    "upstreamProxy",
    "upstreamNoProxy",
    "ttlHours",
    "serviceName",
    "network",
    "cachePath",
    "cacheNfs",
    "cacheNfsOptions",
    "cacheVolume",
    "configPath",
    "traefik",
    "entrypoint",
    "certResolver",
    "traefikLabels",
    "publishUnencryptedPort5000",
    "placementConstraints",
)
"""Of the keys in a stack's file: what a person looks for first."""


def stack_file(mirror: Found, extra: Mapping[str, Any], project: str) -> str:
    """A stack's file: comments for a person, and the configuration with the keys of this project's
    own program.

    Args:
        mirror: What is there.
        extra: Further keys, which the swarm does not know: how to log in.
        project: Name of the Pulumi project, which stands before each key.
    """
    values = {**mirror.values, **extra}
    config = {f"{project}:{key}": values[key] for key in ORDER if key in values}
    assert len(config) == len(values), set(values) - set(ORDER)
    head = [
        "# Written by `swarm-registry-mirror adopt` from the mirror that was there. A preview shows"
        " what the first `pulumi up` changes.",
        # A line end in a note would begin a line of the file.
        *(f"# Note: {one_line(note)}." for note in mirror.notes),
    ]
    body = yaml.safe_dump({"config": config}, sort_keys=False, allow_unicode=True, width=130)
    return "\n".join(head) + "\n" + body


_FIELDS = {
    "sshPrivateKeyFile": "private_key_file",
    "publishUnencryptedPort5000": "publish_unencrypted_port_5000",
}
"""Keys whose field in the args is not the same name in snake case."""


def program(mirror: Found, extra: Mapping[str, Any], host_keys: Mapping[str, str]) -> str:
    """A Pulumi program in Python with this mirror, for an estate to take over.

    Args:
        mirror: What is there.
        extra: Keys that the swarm does not know; `knownHostsFile` becomes an option of the docker
            provider.
        host_keys: Address of a node -> its host key; one that is missing is left open, and the
            component refuses the program until it is entered.
    """
    values = {**mirror.values, **extra}
    known_hosts = values.pop("knownHostsFile", None)
    nodes, manager = values.pop("nodes"), values.pop("manager")
    options = ["-o", f"UserKnownHostsFile={known_hosts}"] if known_hosts else []
    key = values.get("sshPrivateKeyFile")
    options += ["-i", key] if key else []
    by_name = {node["name"]: node for node in nodes}
    head = by_name[manager]
    lines = [
        '"""A registry mirror that was set up by hand, as a Pulumi program."""',
        "",
        "import pulumi",
        "import pulumi_docker as docker",
        "from swarm_registry_mirror import RegistryMirror, RegistryMirrorArgs, SwarmNode",
        "",
        *(f"# {one_line(note)}." for note in mirror.notes),
        "manager = docker.Provider(",
        '    "manager",',
        f"    host={python_text(_destination(head))},",
        f"    ssh_opts={python_text(options)},",
        ")",
        "mirror = RegistryMirror(",
        '    "registry-mirror",',
        "    RegistryMirrorArgs(",
        *(
            f"        {field_of(name)}={python_text(values[name])},"
            for name in ORDER
            if name in values
        ),
        "        nodes=[",
        *(f"            {_node_call(node, host_keys)}," for node in nodes),
        "        ],",
        f"        manager={python_text(manager)},",
        "    ),",
        "    pulumi.ResourceOptions(providers=[manager]),",
        ")",
        'pulumi.export("nodes", mirror.nodes)',
    ]
    return "\n".join(lines) + "\n"


def _destination(node: Mapping[str, Any]) -> str:
    address = str(node["address"])
    return f"ssh://{node.get('user', 'root')}@{f'[{address}]' if ':' in address else address}"


def _node_call(node: Mapping[str, Any], host_keys: Mapping[str, str]) -> str:
    fields = {**node, "hostKey": host_keys.get(str(node["address"]), "")}
    given = ", ".join(f"{field_of(key)}={python_text(value)}" for key, value in fields.items())
    return f"SwarmNode({given})"


def field_of(key: str) -> str:
    """The name of a key's field in the args."""
    return _FIELDS.get(key) or re.sub("(?<!^)([A-Z])", r"_\1", key).lower()


def python_text(value: object) -> str:
    """A value as Python spells it, texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(python_text, value))}]"
    if isinstance(value, dict):
        items = [f"{python_text(key)}: {python_text(item)}" for key, item in value.items()]
        return f"{{{', '.join(items)}}}"
    return repr(value)


def _container(service: Mapping[str, Any]) -> Mapping[str, Any]:
    container: Mapping[str, Any] = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    return container


def _mounts(service: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        {"Type": "bind", "ReadOnly": False, "Source": "", **mount}
        for mount in _container(service).get("Mounts") or []
    ]


def _below(path: str, folder: str) -> str | None:
    """What of `path` lies below `folder`: empty for the folder itself, `/…` below it, None
    outside."""
    folder = folder.rstrip("/")
    return path[len(folder) :] if path == folder or path.startswith(f"{folder}/") else None


def node_names(hostnames: Sequence[str]) -> dict[str, str]:
    """Host name -> the node's name: its first label where that is nobody else's, and of letters,
    digits, hyphens."""
    shorts = [hostname.partition(".")[0] for hostname in hostnames]
    names: dict[str, str] = {}
    for hostname, short in zip(hostnames, shorts, strict=True):
        text = short if shorts.count(short) == 1 else hostname
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:60].strip("-_") or "node"
        name, number = plain, 1
        while name in names.values():
            number += 1
            name = f"{plain}-{number}"
        names[hostname] = name
    return names


def _own_labels(labels: Mapping[str, str], notes: list[str]) -> dict[str, str]:
    """The labels that stay: those that neither we nor docker's own `stack deploy` write."""
    kept = {}
    for key, value in sorted(labels.items()):
        if _REPLACED.fullmatch(key):
            continue
        if rules.label(key, key, value):
            notes.append(f"the label {key!r} is left out: {rules.label(key, key, value)[0].wrong}")
        else:
            kept[key] = value
    return kept


def _replicas(service: Mapping[str, Any], name: str, notes: list[str]) -> None:
    mode = service["Spec"].get("Mode") or {}
    if "Replicated" not in mode and mode:
        raise AdoptError(
            f"the service {name} runs on every node, and the tasks spoil each other's cache; make"
            " it one replica"
        )
    number = int((mode.get("Replicated") or {}).get("Replicas", 1))
    if number > 1:
        raise AdoptError(
            f"the service {name} has {number} replicas, which spoil each other's cache; scale it to"
            " 1"
        )
    if number == 0:
        notes.append(f"the service {name} is scaled to 0; the first `pulumi up` runs it")


def _ports(spec: Mapping[str, Any], values: dict[str, Any], notes: list[str]) -> None:
    ports = [
        port.get("PublishedPort") for port in (spec.get("EndpointSpec") or {}).get("Ports") or []
    ]
    if ports == [PORT] and "upstreamUsername" not in values:
        values["publishUnencryptedPort5000"] = True
        notes.append(
            "port 5000 is open on every node, without encryption; remove publishUnencryptedPort5000"
            " once nobody uses it"
        )
    elif ports:
        notes.append(
            f"published ports are closed by the first `pulumi up`: {', '.join(map(str, ports))}"
        )


def _constraints(
    spec: Mapping[str, Any], values: Mapping[str, Any], runs_on: Machine | None, notes: list[str]
) -> list[str]:
    """The constraints that stay, and one that ties a volume to its machine."""
    given = [
        str(constraint)
        for constraint in (spec["TaskTemplate"].get("Placement") or {}).get("Constraints") or []
    ]
    kept = [
        constraint
        for constraint in given
        if constraint != ALWAYS_TRUE and rules.constraint(constraint) is None
    ]
    for constraint in given:
        if rules.constraint(constraint) is not None:
            notes.append(
                f"the constraint {constraint!r} is left out: it {rules.constraint(constraint)}"
            )
    if "cacheVolume" in values and not any(map(rules.names_one_machine, kept)):
        if runs_on is None:
            raise AdoptError(
                "the cache is a volume of one machine, and no task says of which; tie the service"
                " to that machine first"
            )
        by_name = f"node.hostname == {runs_on.name}"
        kept.append(
            by_name
            if rules.constraint(by_name) is None and rules.names_one_machine(by_name)
            else f"node.id == {runs_on.id}"
        )
        notes.append(
            f"the cache is a volume of {runs_on.name}; a constraint ties the mirror to that machine"
            " from now on"
        )
    return kept


def _route(name: str, labels: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    """Host name, entrypoint and certificate resolver, all of one router: that with TLS, where there
    are several."""
    routers: dict[str, dict[str, str]] = {}
    for key, value in labels.items():
        if match := _ROUTER.fullmatch(key):
            routers.setdefault(match[1], {})[match[2].lower()] = value
    candidates = [
        (router, settings)
        for router, settings in routers.items()
        if _HOST.search(settings.get("rule", ""))
    ]
    if not candidates:
        rule = next(
            (
                value
                for key, value in labels.items()
                if key.endswith("frontend.rule") and _HOST.search(value)
            ),
            None,
        )
        if rule is None:
            raise AdoptError(
                f"the labels of {name} have no Traefik rule with a Host; nodes could not find the"
                " mirror by a name"
            )
        return {"hostname": _hostname(rule)}

    def rank(settings: Mapping[str, str]) -> int:
        secure = any(
            key.startswith("tls") and value.lower() != "false" for key, value in settings.items()
        )
        return (
            0
            if secure
            else 1
            if re.search("(?i)secure|https|443", settings.get("entrypoints", ""))
            else 2
        )

    chosen, settings = min(candidates, key=lambda candidate: rank(candidate[1]))
    others = [router for router, _ in candidates if router != chosen]
    if others:
        notes.append(
            f"of its routers, {chosen} is taken over; {', '.join(others)} are removed by the first"
            " `pulumi up`"
        )
    if settings.get("middlewares"):
        notes.append(
            f"the middlewares of its router ({settings['middlewares']}) are removed by the first"
            " `pulumi up`"
        )
    values = {"hostname": _hostname(settings["rule"])}
    for key, label in (("entrypoint", "entrypoints"), ("certResolver", "tls.certresolver")):
        value = ",".join(part.strip() for part in settings.get(label, "").split(","))
        fault = (rules.entrypoints if key == "entrypoint" else rules.name)(value)
        if value and fault is None:
            values[key] = value
        elif value:
            notes.append(f"{label} {value!r} is not taken over: {key} {fault}")
    return values


def _hostname(rule: str) -> str:
    match = _HOST.search(rule)
    assert match is not None  # the caller has seen to it
    return match[1].lower().rstrip(".")


def _network(
    service: Mapping[str, Any], labels: Mapping[str, str], networks: Mapping[str, str]
) -> str:
    spec = service["Spec"]
    attached = spec["TaskTemplate"].get("Networks") or spec.get("Networks") or []
    names = [networks.get(network["Target"], str(network["Target"])) for network in attached]
    named = labels.get("traefik.docker.network") or labels.get("traefik.swarm.network")
    if named in names and named is not None:
        return named
    if len(names) == 1:
        return names[0]
    raise AdoptError(
        f"the service is on {len(names)} networks ({', '.join(names)}); label it with"
        " traefik.docker.network"
    )


def _dialect(labels: Mapping[str, str], services: Sequence[Mapping[str, Any]]) -> str:
    """By the version of the Traefik that runs; else by the labels."""
    for service in services:
        if version := _TRAEFIK.fullmatch(_container(service).get("Image", "")):
            major, minor, patch = int(version[1]), int(version[2] or 0), int(version[3] or 0)
            if 1 <= major <= 3:
                return f"v{major}" if major < 3 else "v3.0" if (minor, patch) < (2, 2) else "v3"
    return "v1" if any(key.startswith("traefik.frontend.") for key in labels) else "v3"


def _upstream(registry: RegistryConfig, notes: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {"upstream": registry.upstream}
    if registry.ttl_hours:
        values["ttlHours"] = registry.ttl_hours
        notes.append(
            f"images are forgotten {registry.ttl_hours} hours after their first pull, as the"
            " registry's ttl says"
        )
    if registry.username:
        values["upstreamUsername"] = registry.username
        notes.append(
            "the mirror has credentials: set the token with `pulumi config set --secret"
            " upstreamToken`, and allowFrom, "
            "because whoever reaches the mirror reads what that account may"
        )
    if registry.password_in_environment:
        notes.append(
            "the token stands in the service's environment, where everybody reads it who may use"
            " docker on a manager; "
            "the first `pulumi up` takes it out: make a new one, and revoke the old one"
        )
    return values


def _registries(
    service: Mapping[str, Any],
    services: Sequence[Mapping[str, Any]],
    registry: RegistryConfig,
    notes: list[str],
) -> None:
    """What to know where there is more than a mirror of Docker Hub: one service is taken over, and
    its upstream becomes what nodes get for Docker Hub's names."""
    host = registry.upstream.partition("://")[2].partition("/")[0]
    if host not in HUB_HOSTS:
        notes.append(
            f"its upstream is {registry.upstream}, and nodes will ask the mirror for Docker Hub's"
            " images: if that is no cache of Docker Hub, adopt the mirror that is one, and list"
            f" {host} in registries"
        )
    others = [
        other["Spec"]["Name"]
        for other in services
        if other is not service and _REPOSITORY.fullmatch(_container(other).get("Image", ""))
    ]
    if others:
        notes.append(
            f"other services run a registry, too: {', '.join(sorted(others))}; they stay as they"
            " are. One that caches another registry is replaced by an entry in registries, whose"
            " cache begins empty"
        )


def _way_out(service: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """The proxy of its environment, as Go reads it: in capitals first. What has a password is named
    and never copied."""
    given = environment(service)
    proxies = {
        name: given.get(name) or given.get(name.lower()) or ""
        for name in ("HTTPS_PROXY", "HTTP_PROXY")
    }
    proxy = (proxies["HTTPS_PROXY"] or proxies["HTTP_PROXY"]).rstrip("/")
    if any(value and value.rstrip("/") != proxy for value in proxies.values()):
        notes.append(
            "its HTTP_PROXY is another one than its HTTPS_PROXY; the latter is taken over for both"
        )
    for place in _authorities(service, given):
        notes.append(
            f"it has authorities of its own, it seems ({place}), which are not taken over; put the"
            " file with the "
            "certificate into the checkout, and name it in upstreamCa"
        )
    if not proxy:
        return {}
    if "@" in proxy:
        notes.append(
            "its proxy has a password, which is not taken over: set it with `pulumi config set"
            " --secret upstreamProxy`; "
            "everybody who may use docker on a manager reads it in the service's environment until"
            " the first `pulumi up`"
        )
        values: dict[str, Any] = {}
    elif rules.proxy(proxy) is not None:
        notes.append(f"its proxy {proxy!r} is not taken over: upstreamProxy {rules.proxy(proxy)}")
        return {}
    else:
        values = {"upstreamProxy": proxy}
    entries = [
        entry.strip()
        for entry in (given.get("NO_PROXY") or given.get("no_proxy") or "").split(",")
        if entry.strip()
    ]
    kept = [entry for entry in entries if rules.no_proxy(entry) is None]
    for entry in entries:
        if entry not in kept:
            notes.append(f"{entry!r} of its NO_PROXY is left out: it {rules.no_proxy(entry)}")
    if kept and values:
        values["upstreamNoProxy"] = kept
    elif kept:
        notes.append(f"set upstreamNoProxy with it: {', '.join(kept)}")
    return values


def _authorities(service: Mapping[str, Any], given: Mapping[str, str]) -> list[str]:
    """Where it has certificates from: variables that name some, and what is mounted where an image
    keeps them."""
    container = _container(service)
    files = [*(container.get("Configs") or []), *(container.get("Secrets") or [])]
    targets = [mount["Target"] for mount in _mounts(service)] + [
        str((file.get("File") or {}).get("Name", "")) for file in files
    ]
    places = (
        "/etc/ssl",
        "/etc/pki",
        "/usr/share/ca-certificates",
        "/usr/local/share/ca-certificates",
    )
    named = [
        f"{name}={given[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if given.get(name)
    ]
    return named + [
        target for target in targets if any(_below(target, place) is not None for place in places)
    ]


def _storage(
    service: Mapping[str, Any], registry: RegistryConfig, notes: list[str]
) -> dict[str, Any]:
    """Where the cache and the configuration lie."""
    around = [
        (mount, _below(registry.folder, mount["Target"]))
        for mount in _mounts(service)
        if mount["Target"] != "/"
    ]
    holding = [(mount, rest) for mount, rest in around if rest is not None]
    if not holding:
        raise AdoptError(
            f"nothing is mounted at {registry.folder}, so the cache goes with each container; there"
            " is nothing to keep"
        )
    # The innermost mount is the one that is seen there.
    cache, rest = max(holding, key=lambda item: len(item[0]["Target"]))
    if cache["Type"] == "volume":
        if rest:
            raise AdoptError(
                f"the cache is the folder {rest} in a volume, and must be all of it; move what is"
                " in there up"
            )
        if nfs := _nfs(cache):
            return nfs
        return {"cacheVolume": cache["Source"]}
    if cache["Type"] != "bind":
        raise AdoptError(
            f"the cache is of the kind {cache['Type']}, which is not kept; there is nothing to keep"
        )
    folder = f"{cache['Source'].rstrip('/')}{rest}"
    path = config_path(service)
    if path is None or rules.absolute_path(path) is not None or _below(path, folder) is not None:
        path = f"{folder}-config.yml"
        notes.append(f"the registry's configuration will be {path}, beside the cache")
    return {"cachePath": folder, "configPath": path}


def _nfs(mount: Mapping[str, Any]) -> dict[str, Any] | None:
    """A volume that docker's own driver mounts from an NFS server
    (docs.docker.com/engine/storage/volumes)."""
    driver = (mount.get("VolumeOptions") or {}).get("DriverConfig") or {}
    options = driver.get("Options") or {}
    if options.get("type") not in ("nfs", "nfs4"):
        return None
    settings = [word for word in str(options.get("o", "")).split(",") if word]
    server = next((word.partition("=")[2] for word in settings if word.startswith("addr=")), "")
    path = str(options.get("device", "")).rpartition(":")[2]
    values = {"cacheNfs": f"{f'[{server}]' if ':' in server else server}:{path}"}
    if kept := ",".join(word for word in settings if not word.startswith("addr=")):
        values["cacheNfsOptions"] = kept
    return values


_CHECKS = {
    "hostname": rules.hostname,
    "network": rules.swarm_name,
    "serviceName": rules.swarm_name,
    "upstream": rules.upstream,
    "cachePath": rules.absolute_path,
    "configPath": rules.absolute_path,
    "cacheVolume": rules.name,
    "cacheNfs": rules.nfs,
    "cacheNfsOptions": rules.mount_options,
}


def _check(values: Mapping[str, Any]) -> None:
    """What would be refused in the preview is refused now, while nothing has been written. Raises
    AdoptError."""
    faults = [
        fault
        for key, rule in _CHECKS.items()
        if key in values
        for fault in rules.check(key, values[key], rule)
    ]
    if "upstreamUsername" in values and str(values["upstream"]).startswith("http://"):
        faults.append(
            rules.Fault(
                "upstream",
                values["upstream"],
                "gets the mirror's token unencrypted; that is not taken over",
            )
        )
    if faults:
        raise AdoptError("; ".join(map(str, faults)))


def _nodes(
    machines: Sequence[Machine], names: Mapping[str, str], hostname: str, notes: list[str]
) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = []
    for machine in machines:
        node: dict[str, Any] = {"name": names[machine.name], "address": machine.address}
        if node["name"] != machine.name:
            notes.append(f"the node {machine.name} is called {node['name']} here")
        if machine.user != "root":
            node |= {"user": machine.user, "become": "sudo"}
        url = f"https://{hostname}"
        files = [path for path, text in machine.daemon_json.items() if url in text]
        by_hosts = [name for name, text in sorted(machine.hosts_toml.items()) if url in text]
        if files and files[0] != "/etc/docker/daemon.json":
            node |= {"daemonJson": files[0], "service": files[0].split("/")[2]}
        if others := [name for name in by_hosts if name != DOCKER_HUB]:
            notes.append(
                f"{node['name']} has the mirror in the hosts.toml of {', '.join(others)}, too,"
                " which stays as it is; what is to be cached besides Docker Hub belongs in"
                " registries"
            )
        if not files and DOCKER_HUB not in by_hosts:
            notes.append(
                f"{node['name']} was not configured to use the mirror until now, and will be"
            )
        fault = rules.address(machine.address)
        same = [other["name"] for other in nodes if other["address"] == machine.address]
        if fault is not None or same:
            why = (
                f"it has the address of {same[0]}, too"
                if same
                else f"its address {machine.address!r} {fault}"
            )
            raise AdoptError(
                f"{machine.name}: {why}; remove it from the swarm (docker node rm), or fix that,"
                " and adopt again"
            )
        nodes.append(node)
    return nodes
