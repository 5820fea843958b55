"""What a stack's state says of its mirrors: nodes, how each is reached, what it was asked for, and
in which order. Pure.

A mirror is found by the component's type, a command by the action that it runs (`node.apply`) and
not by its name, so programs in any language and components inside components are read alike. Source
of the shapes: pulumi sdk/go/common/apitype/core.go.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..plain_text import one_line
from ..render.clients import Served
from ..render.common import guard_name
from ..render.registries import DOCKER_HUB, HUB_URL, folder_of, suffix_of
from .errors import StateError

COMPONENT = "swarm-registry-mirror:index:RegistryMirror"
_LOCAL, _REMOTE = "command:local:Command", "command:remote:Command"
_SECRET = "4dabf18193072939515e22adb298388d"
"""The key that marks a secret in a state (pulumi sdk/go/common/resource/sig/sig.go)."""
_ACTION = re.compile(r' exec sh "\$f" ([a-z_]+\.[a-z_]+)$')
"""The end of what `runner.command` makes."""
_ON_MANAGER = ("claim.take", "ready.wait", "storage.apply", "guard.apply")
_URL = re.compile(r"https://[a-z0-9.-]+")
_METRICS = re.compile(r"https://[a-z0-9.-]+/metrics(/[a-z0-9][a-z0-9._-]*)?")
_REGISTRY = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?")
"""A registry's name, which is printed and becomes a folder."""
_IMAGES = re.compile(r"[a-z0-9.-]+(/[a-z0-9][a-z0-9._-]*)?")
"""What a registry's images begin with at the mirror."""
_PREFIX = "MIRROR_"
"""Of the variables that `runner.sh` reads; nothing else of a state gets into a process."""


@dataclass(frozen=True)
class Machine:
    """A machine, and how `runner.sh` reaches it. The environment may have a private key, so it is
    never shown."""

    name: str
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Node(Machine):
    """A machine of the swarm that the last `pulumi up` has configured."""

    request: str = field(repr=False)
    """The settings that the agent got there, as JSON; a key of daemon.json among them may be a
    secret."""
    urn: str = ""
    wave: int = 0
    """0 for the canary."""
    is_secret: bool = False
    """Whether Pulumi keeps the request as a secret, because a managed key in it is one."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The request, parsed. Raises StateError."""
        return _object(self.request, f"the settings of the node {one_line(self.name, 80)}")


@dataclass(frozen=True)
class Restart:
    """The rolling restart of the last `pulumi up`."""

    environment: Mapping[str, str] = field(repr=False)
    request: str = field(repr=False)


@dataclass(frozen=True)
class Cache:
    """A registry of the mirror, with a store of its own."""

    path: str
    """First element of its paths at the mirror; empty for the one at the root."""
    service: str
    folder: str
    """Of its store, below the mirror's cache; empty for the one at the root."""


@dataclass(frozen=True)
class Mirror:
    """A mirror of the stack."""

    name: str
    urn: str
    nodes: Sequence[Node]
    """In the order of the roll-out."""
    manager: Machine
    """The node of the swarm that is asked about the swarm; it need not be one of `nodes`."""
    claim: Mapping[str, Any] = field(repr=False)
    """Settings of `claim.take` (node_agent/claim.py)."""
    gate: Mapping[str, Any] = field(repr=False)
    """Settings of `ready.wait` (node_agent/ready.py)."""
    upstream: str
    has_credentials: bool
    restart: Restart | None = None
    """None where the last `pulumi up` declared none."""
    registries: Sequence[Served] = ()
    """What the outputs say that it serves; empty where an earlier version has written the state."""
    metrics: Sequence[str] = ()
    """URLs that Prometheus may ask; empty where nobody may."""
    runners: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Text of `runner.py` by its digest, as far as the state has it."""

    @property
    def at_once(self) -> int:
        """Nodes that were changed at the same time: the size of the largest wave."""
        sizes = [
            sum(node.wave == wave for node in self.nodes)
            for wave in {node.wave for node in self.nodes}
        ]
        return max(sizes)

    @property
    def url(self) -> str:
        """Where clients find it: https and a host. Raises StateError."""
        url = self.gate.get("mirror")
        if not isinstance(url, str) or not _URL.fullmatch(url):
            raise _unread(f"the gate of the mirror {self.name} names no mirror")
        return url

    @property
    def allow_from(self) -> list[str]:
        """The networks that it answers; empty for all."""
        return [entry for entry in _list(self.gate.get("allow_from")) if isinstance(entry, str)]

    @property
    def served(self) -> list[Served]:
        """Docker Hub, and every registry and alias besides it. Raises StateError."""
        return [*self.registries] or [Served(DOCKER_HUB, self.url.removeprefix("https://"))]

    @property
    def service(self) -> str:
        """Name of the registry's service. Raises StateError."""
        return str(self._services()[0])

    @property
    def front(self) -> str:
        """Name of Varnish's service; empty without it. Raises StateError."""
        return str(self.claim["front"]) if self.claim.get("front") in self._services() else ""

    @property
    def caches(self) -> list[Cache]:
        """The registries that have a store, the one at the root first. Raises StateError."""
        paths = dict.fromkeys(each.prefix.partition("/")[2] for each in self.served)
        return [Cache("", self.service, "")] + [
            Cache(path, self.service + suffix_of(path), folder_of(path)) for path in paths if path
        ]

    @property
    def docker_of_manager(self) -> dict[str, str]:
        """`path` of the manager's daemon.json and `unit` of its docker."""
        given = {"path": self.gate.get("daemon_json"), "unit": self.gate.get("unit")}
        usual = {"path": "/etc/docker/daemon.json", "unit": "docker"}
        return {
            name: value if isinstance(value, str) else usual[name] for name, value in given.items()
        }

    @property
    def asks_hub_without_account(self) -> bool:
        """Whether Docker Hub counts its pulls by the address of the machine."""
        return self.upstream == HUB_URL and not self.has_credentials

    @property
    def guard(self) -> str:
        """Name of the guard's service; empty without it. Raises StateError."""
        guarded = any(node.settings.get("guard") for node in self.nodes)
        return guard_name(self.service) if guarded else ""

    @property
    def cache_path(self) -> str | None:
        """Where the cache lies on shared storage; None where it does not."""
        cache = self.claim.get("cache")
        path = cache.get("path") if isinstance(cache, dict) else None
        return path if isinstance(path, str) else None

    @property
    def disk(self) -> int | None:
        """MiB of disk that Varnish is to take; None without Varnish. Raises StateError."""
        size = self.gate.get("disk")
        return size if self.front and isinstance(size, int) else None

    @property
    def images(self) -> dict[str, str]:
        """`registry` and, where there is one, `varnish` -> image. Raises StateError."""
        services = self.gate.get("services")
        if not isinstance(services, list) or not all(isinstance(entry, dict) for entry in services):
            raise _unread(f"the gate of the mirror {self.name} names no services")
        images = {
            "varnish" if entry.get("service") == self.front else "registry": entry.get("image")
            for entry in services
        }
        return {component: image for component, image in images.items() if isinstance(image, str)}

    def _services(self) -> list[Any]:
        services = self.claim.get("services")
        if not isinstance(services, list) or not services:
            raise _unread(f"the claim of the mirror {self.name} names no services")
        return services


def mirrors(state: object, name: str | None = None) -> list[Mirror]:
    """The mirrors in an exported state whose secrets are shown; of this name only, if one is given.
    Raises StateError.

    Args:
        state: What `pulumi stack export --show-secrets` prints, parsed.
        name: The name that the program has given the component.
    """
    resources = list(_resources(state))
    if not resources:
        raise StateError(
            "nothing is up in this stack: no `pulumi up` has run yet, or it was destroyed",
            "run `pulumi up` first",
        )
    names = {
        resource["urn"]: _name(resource) for resource in resources if resource["type"] == COMPONENT
    }
    if not names:
        raise StateError(
            "there is no registry mirror in this stack",
            f"name the stack that has one (a {COMPONENT})",
        )
    wanted = {urn: each for urn, each in names.items() if name in (None, each)}
    if not wanted:
        raise StateError(
            f"there is no mirror {one_line(name, 80)} in this stack",
            f"name one of: {', '.join(sorted(set(names.values())))}",
        )
    return [_mirror(urn, each, resources) for urn, each in wanted.items()]


def planned(state: object, plan: Mapping[str, Any]) -> list[Node]:
    """The nodes that a program wants, as its plan (`pulumi preview --save-plan`, secrets shown) has
    them. Raises StateError.

    A plan has of each resource what differs from the state (pulumi pkg/resource/deploy/plan.go).
    """
    before = {
        resource["urn"]: resource.get("inputs") or {}
        for resource in (_resources(state) if _has_resources(state) else ())
    }
    nodes = []
    for urn, entry in (plan.get("resourcePlans") or {}).items():
        goal = entry.get("goal") or {}
        if goal.get("type") != _LOCAL:
            continue
        change = goal.get("inputDiff") or {}
        inputs = {
            **{
                key: value
                for key, value in before.get(urn, {}).items()
                if key not in (change.get("deletes") or [])
            },
            **(change.get("adds") or {}),
            **(change.get("updates") or {}),
        }
        command = {"urn": urn, "type": _LOCAL, "inputs": inputs}
        if action(command) == "node.apply":
            nodes.append(Node(*_reached(command), request=_text(command, "stdin"), urn=urn))
    return nodes


def as_declared(state: object) -> list[dict[str, Any]]:
    """What is deployed, as the policies want it (policy/rules.py). Raises StateError."""
    return [
        {
            "type": resource["type"],
            "name": _name(resource),
            "urn": resource["urn"],
            "parent": str(resource.get("parent") or ""),
            "inputs": _revealed(resource.get("inputs") or {}),
            "dependencies": _list(resource.get("dependencies")),
            "ignored": _list(resource.get("ignoreChanges")),
        }
        for resource in _resources(state)
    ]


def urns(state: object) -> set[str]:
    """What a state knows. Raises StateError."""
    return {resource["urn"] for resource in _resources(state)} if _has_resources(state) else set()


def changed_at(state: object) -> dict[str, str]:
    """Name of each node in a state -> when its command was last run, as Pulumi has noted it. Raises
    StateError."""
    return {
        _variables(resource).get("MIRROR_NODE", ""): str(resource.get("modified"))
        for resource in (_resources(state) if _has_resources(state) else ())
        if action(resource) == "node.apply"
    }


def _has_resources(state: object) -> bool:
    """Whether anything has been deployed: a stack that was just made has no deployment."""
    deployment = state.get("deployment") if isinstance(state, dict) else None
    return isinstance(deployment, dict) and bool(deployment.get("resources"))


def without(state: dict[str, Any], struck: Sequence[str]) -> dict[str, Any]:
    """An exported state without the commands of these URNs, and without the edges to them from
    later waves.

    `pulumi state delete` would refuse because of those edges, or take the later waves along.
    """
    resources = [
        _loose(resource, struck)
        for resource in state["deployment"]["resources"]
        if resource["urn"] not in struck
    ]
    return {**state, "deployment": {**state["deployment"], "resources": resources}}


def _loose(resource: dict[str, Any], struck: Sequence[str]) -> dict[str, Any]:
    """A resource without its edges to others."""
    by_property = resource.get("propertyDependencies") or {}
    edges = {
        "dependencies": [urn for urn in resource.get("dependencies") or [] if urn not in struck],
        "propertyDependencies": {
            key: [urn for urn in urns or [] if urn not in struck]
            for key, urns in by_property.items()
        },
    }
    return {**resource, **{name: edge for name, edge in edges.items() if name in resource}}


def _resources(state: object) -> Iterator[dict[str, Any]]:
    """What is there, without what only waits to be deleted. Raises StateError for something that is
    no state."""
    deployment = state.get("deployment") if isinstance(state, dict) else None
    if not isinstance(deployment, dict):
        raise _unread("it has no deployment")
    resources = deployment.get("resources") or []
    if not isinstance(resources, list):
        raise _unread("its resources are no list")
    for resource in resources:
        if not isinstance(resource, dict) or not all(
            isinstance(resource.get(key), str) for key in ("urn", "type")
        ):
            raise _unread("a resource has no type or no URN")
        if not resource.get("delete"):
            yield resource


def _mirror(urn: str, name: str, resources: Sequence[dict[str, Any]]) -> Mirror:
    children = [resource for resource in resources if resource.get("parent") == urn]
    if any(child["type"] == _REMOTE for child in children):
        raise StateError(
            f"version 0.1 has made the mirror {name}", "run `pulumi up` with this version first"
        )
    commands = {child["urn"]: child for child in children if child["type"] == _LOCAL}
    levels = _levels(commands, resources)
    nodes = [
        Node(
            *_reached(commands[node]),
            request=_text(commands[node], "stdin"),
            urn=node,
            wave=level,
            is_secret=_is_secret(commands[node], "stdin"),
        )
        for node, level in levels.items()
    ]
    by_action = {
        action(command): command for command in commands.values() if action(command) is not None
    }
    if not nodes:
        raise StateError(
            f"the mirror {name} has no node yet: its last `pulumi up` did not get there",
            "run `pulumi up` again",
        )
    on_manager = next((by_action[action] for action in _ON_MANAGER if action in by_action), None)
    if on_manager is None or "claim.take" not in by_action or "ready.wait" not in by_action:
        raise _unread(f"the mirror {name} has no claim or no gate")
    gate = by_action["ready.wait"]
    component = next(each for each in resources if each["urn"] == urn)
    upstream, credentials_id, *_ = [
        *_list(_input(gate, "triggers")),
        None,
        None,
    ]  # as `component.py` gives them
    restart = by_action.get("run.run")
    return Mirror(
        name=name,
        urn=urn,
        nodes=sorted(
            nodes, key=lambda node: node.wave
        ),  # stable: within a wave as they are in the state
        manager=Machine(*_reached(on_manager)),
        claim=_object(_text(by_action["claim.take"], "stdin"), f"the settings of {name}'s claim"),
        gate=_object(_text(gate, "stdin"), f"the settings of {name}'s gate"),
        upstream=upstream if isinstance(upstream, str) else "",
        has_credentials=bool(credentials_id),
        restart=None if restart is None else Restart(_variables(restart), _text(restart, "stdin")),
        registries=_registries(name, component),
        metrics=_metrics(name, component),
        runners=_runners(commands.values()),
    )


def _registries(name: str, component: Mapping[str, Any]) -> list[Served]:
    """What the component's outputs say of the registries that it serves. Raises StateError."""
    outputs = component.get("outputs")
    entries = _revealed(outputs.get("registries")) if isinstance(outputs, dict) else None
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(map(_is_registry, entries)):
        raise _unread(f"the outputs of the mirror {name} have registries of another shape")
    return [Served(**entry) for entry in entries]


def _metrics(name: str, component: Mapping[str, Any]) -> list[str]:
    """What the component's outputs say of its metrics. Raises StateError."""
    outputs = component.get("outputs")
    urls = _revealed(outputs.get("metrics")) if isinstance(outputs, dict) else None
    if urls is None:
        return []
    if not isinstance(urls, list) or not all(map(_is_metrics_url, urls)):
        raise _unread(f"the outputs of the mirror {name} have metrics of another shape")
    return list(urls)


def _is_metrics_url(url: object) -> bool:
    return isinstance(url, str) and _METRICS.fullmatch(url) is not None


def _is_registry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == {"name", "prefix", "fallback"}
        and all(isinstance(entry[key], str) for key in ("name", "prefix"))
        and isinstance(entry["fallback"], bool)
        and _REGISTRY.fullmatch(entry["name"]) is not None
        and _IMAGES.fullmatch(entry["prefix"]) is not None
    )


def _levels(
    commands: Mapping[str, dict[str, Any]], resources: Sequence[dict[str, Any]]
) -> dict[str, int]:
    """URN of each node's command -> its wave: how many waves there are before it. A state lists
    what depends behind what it depends on (pulumi pkg/resource/deploy/snapshot.go,
    VerifyIntegrity), so once through it is enough."""
    depth: dict[str, int] = {}
    for resource in resources:
        before = max((depth.get(urn, 0) for urn in _list(resource.get("dependencies"))), default=0)
        is_node = resource["urn"] in commands and action(resource) == "node.apply"
        depth[resource["urn"]] = before + is_node
    nodes = [urn for urn, command in commands.items() if action(command) == "node.apply"]
    waves = {level: number for number, level in enumerate(sorted({depth[urn] for urn in nodes}))}
    return {urn: waves[depth[urn]] for urn in nodes}


def _runners(commands: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Each runner that the state keeps, for what it was used for (`node.keep_runner`): it alone has
    nothing that creates."""
    runners = {}
    for command in commands:
        digest = _variables(command).get("MIRROR_RUNNER")
        if (
            digest
            and _input(command, "create") is None
            and isinstance(_input(command, "stdin"), str)
        ):
            runners[digest] = _text(command, "stdin")
    return runners


def action(resource: Mapping[str, Any]) -> str | None:
    """The action that a command runs, like `node.apply`; None for one that runs none."""
    create = _input(resource, "create")
    match = _ACTION.search(create) if isinstance(create, str) else None
    return match[1] if match else None


def _reached(command: dict[str, Any]) -> tuple[str, Mapping[str, str]]:
    """Name and environment of the machine that a command goes to. Raises StateError."""
    variables = _variables(command)
    missing = [
        name for name in ("MIRROR_NODE", "MIRROR_SSH", "MIRROR_HOST_KEY") if not variables.get(name)
    ]
    if missing:
        raise _unread(f"{_name(command)} has no {', '.join(missing)}")
    return variables["MIRROR_NODE"], variables


def _variables(command: Mapping[str, Any]) -> dict[str, str]:
    environment = _input(command, "environment")
    values = environment if isinstance(environment, dict) else {}
    return {
        name: value
        for name, value in values.items()
        if name.startswith(_PREFIX) and isinstance(value, str)
    }


def _text(command: dict[str, Any], name: str) -> str:
    value = _input(command, name)
    if not isinstance(value, str):
        raise _unread(f"{_name(command)} has no {name}")
    return value


def _input(resource: Mapping[str, Any], name: str) -> Any:
    inputs = resource.get("inputs")
    return _revealed(inputs.get(name)) if isinstance(inputs, dict) else None


def _is_secret(resource: Mapping[str, Any], name: str) -> bool:
    value = (resource.get("inputs") or {}).get(name)
    return isinstance(value, dict) and _SECRET in value


def _revealed(value: Any) -> Any:
    """A value with its secrets in the clear; one that is encrypted is None."""
    if isinstance(value, dict):
        if _SECRET in value:
            try:
                return _revealed(json.loads(value["plaintext"]))
            except (KeyError, TypeError, ValueError, RecursionError):
                return None
        return {key: _revealed(entry) for key, entry in value.items()}
    return [_revealed(entry) for entry in value] if isinstance(value, list) else value


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _unread(f"{what} are no JSON object")
    return value


def _name(resource: dict[str, Any]) -> str:
    return one_line(resource["urn"].rpartition("::")[2], 200)


def _unread(what: str) -> StateError:
    return StateError(
        f"this version cannot read the state: {what}",
        "use the version of the command that ran the last `pulumi up`, or run `pulumi up` with this"
        " one",
    )
