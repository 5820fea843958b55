"""What a stack's state says of its mirrors: nodes, how each is reached, what it was asked for, and in which order. Pure.

A mirror is found by the component's type, a command by the action that it runs (`node.apply`) and not by its name, so programs in
any language and components inside components are read alike. Source of the shapes: pulumi sdk/go/common/apitype/core.go.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..plain_text import one_line

COMPONENT = "swarm-registry-mirror:index:RegistryMirror"
_LOCAL, _REMOTE = "command:local:Command", "command:remote:Command"
_SECRET = "4dabf18193072939515e22adb298388d"
"""The key that marks a secret in a state (pulumi sdk/go/common/resource/sig/sig.go)."""
_ACTION = re.compile(r' exec sh "\$f" ([a-z_]+\.[a-z_]+)$')
"""The end of what `runner.command` makes."""
_ON_MANAGER = ("claim.take", "ready.wait", "storage.apply", "guard.apply")
_PREFIX = "MIRROR_"
"""Of the variables that `runner.sh` reads; nothing else of a state gets into a process."""


class StateError(Exception):
    """The state does not say what is asked for; `remedy` is what to do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class Machine:
    """A machine, and how `runner.sh` reaches it. The environment may have a private key, so it is never shown."""

    name: str
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Node(Machine):
    """A machine of the swarm that the last `pulumi up` has configured."""

    request: str = field(repr=False)
    """The settings that the agent got there, as JSON; a key of daemon.json among them may be a secret."""
    urn: str = ""
    wave: int = 0
    """0 for the canary."""

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
    runners: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Text of `runner.py` by its digest, as far as the state has it."""

    @property
    def at_once(self) -> int:
        """Nodes that were changed at the same time: the size of the largest wave."""
        sizes = [sum(node.wave == wave for node in self.nodes) for wave in {node.wave for node in self.nodes}]
        return max(sizes)

    @property
    def service(self) -> str:
        """Name of the registry's service. Raises StateError."""
        return str(self._services()[0])

    @property
    def front(self) -> str:
        """Name of Varnish's service; empty without it. Raises StateError."""
        return str(self.claim["front"]) if self.claim.get("front") in self._services() else ""

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
        found = {"varnish" if entry.get("service") == self.front else "registry": entry.get("image") for entry in services}
        return {component: image for component, image in found.items() if isinstance(image, str)}

    def _services(self) -> list[Any]:
        services = self.claim.get("services")
        if not isinstance(services, list) or not services:
            raise _unread(f"the claim of the mirror {self.name} names no services")
        return services


def mirrors(state: object, name: str | None = None) -> list[Mirror]:
    """The mirrors in an exported state whose secrets are shown; of this name only, if one is given. Raises StateError.

    Args:
        state: What `pulumi stack export --show-secrets` prints, parsed.
        name: The name that the program has given the component.
    """
    resources = list(_resources(state))
    if not resources:
        raise StateError("nothing has been deployed with this stack yet", "run `pulumi up` first")
    found = {resource["urn"]: _name(resource) for resource in resources if resource["type"] == COMPONENT}
    if not found:
        raise StateError("there is no registry mirror in this stack", f"name the stack that has one (a {COMPONENT})")
    wanted = {urn: each for urn, each in found.items() if name in (None, each)}
    if not wanted:
        raise StateError(
            f"there is no mirror {one_line(name, 80)} in this stack", f"name one of: {', '.join(sorted(set(found.values())))}"
        )
    return [_mirror(urn, each, resources) for urn, each in wanted.items()]


def without(state: dict[str, Any], struck: Sequence[str]) -> dict[str, Any]:
    """An exported state without the commands of these URNs, and without the edges to them from later waves.

    `pulumi state delete` would refuse because of those edges, or take the later waves along.
    """
    resources = [_loose(resource, struck) for resource in state["deployment"]["resources"] if resource["urn"] not in struck]
    return {**state, "deployment": {**state["deployment"], "resources": resources}}


def _loose(resource: dict[str, Any], struck: Sequence[str]) -> dict[str, Any]:
    """A resource without its edges to others."""
    by_property = resource.get("propertyDependencies") or {}
    edges = {
        "dependencies": [urn for urn in resource.get("dependencies") or [] if urn not in struck],
        "propertyDependencies": {key: [urn for urn in urns or [] if urn not in struck] for key, urns in by_property.items()},
    }
    return {**resource, **{name: edge for name, edge in edges.items() if name in resource}}


def _resources(state: object) -> Iterator[dict[str, Any]]:
    """What is there, without what only waits to be deleted. Raises StateError for something that is no state."""
    deployment = state.get("deployment") if isinstance(state, dict) else None
    if not isinstance(deployment, dict):
        raise _unread("it has no deployment")
    resources = deployment.get("resources") or []
    if not isinstance(resources, list):
        raise _unread("its resources are no list")
    for resource in resources:
        if not isinstance(resource, dict) or not all(isinstance(resource.get(key), str) for key in ("urn", "type")):
            raise _unread("a resource has no type or no URN")
        if not resource.get("delete"):
            yield resource


def _mirror(urn: str, name: str, resources: Sequence[dict[str, Any]]) -> Mirror:
    children = [resource for resource in resources if resource.get("parent") == urn]
    if any(child["type"] == _REMOTE for child in children):
        raise StateError(f"version 0.1 has made the mirror {name}", "run `pulumi up` with this version first")
    commands = {child["urn"]: child for child in children if child["type"] == _LOCAL}
    levels = _levels(commands, resources)
    nodes = [
        Node(*_reached(commands[node]), request=_text(commands[node], "stdin"), urn=node, wave=level)
        for node, level in levels.items()
    ]
    by_action = {_action(command): command for command in commands.values() if _action(command) is not None}
    if not nodes:
        raise StateError(f"the mirror {name} has no node yet: its last `pulumi up` did not get there", "run `pulumi up` again")
    on_manager = next((by_action[action] for action in _ON_MANAGER if action in by_action), None)
    if on_manager is None or "claim.take" not in by_action or "ready.wait" not in by_action:
        raise _unread(f"the mirror {name} has no claim or no gate")
    gate = by_action["ready.wait"]
    upstream, credentials_id, *_ = [*_list(_input(gate, "triggers")), None, None]  # as `component.py` gives them
    restart = by_action.get("run.run")
    return Mirror(
        name=name,
        urn=urn,
        nodes=sorted(nodes, key=lambda node: node.wave),  # stable: within a wave as they are in the state
        manager=Machine(*_reached(on_manager)),
        claim=_object(_text(by_action["claim.take"], "stdin"), f"the settings of {name}'s claim"),
        gate=_object(_text(gate, "stdin"), f"the settings of {name}'s gate"),
        upstream=upstream if isinstance(upstream, str) else "",
        has_credentials=bool(credentials_id),
        restart=None if restart is None else Restart(_variables(restart), _text(restart, "stdin")),
        runners=_runners(commands.values()),
    )


def _levels(commands: Mapping[str, dict[str, Any]], resources: Sequence[dict[str, Any]]) -> dict[str, int]:
    """URN of each node's command -> its wave: how many waves there are before it. A state lists what depends behind what it
    depends on (pulumi pkg/resource/deploy/snapshot.go, VerifyIntegrity), so once through it is enough."""
    depth: dict[str, int] = {}
    for resource in resources:
        before = max((depth.get(urn, 0) for urn in _list(resource.get("dependencies"))), default=0)
        is_node = resource["urn"] in commands and _action(resource) == "node.apply"
        depth[resource["urn"]] = before + is_node
    nodes = [urn for urn, command in commands.items() if _action(command) == "node.apply"]
    waves = {level: number for number, level in enumerate(sorted({depth[urn] for urn in nodes}))}
    return {urn: waves[depth[urn]] for urn in nodes}


def _runners(commands: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Each runner that the state keeps, for what it was used for (`node.keep_runner`): it alone has nothing that creates."""
    found = {}
    for command in commands:
        digest = _variables(command).get("MIRROR_RUNNER")
        if digest and _input(command, "create") is None and isinstance(_input(command, "stdin"), str):
            found[digest] = _text(command, "stdin")
    return found


def _action(resource: dict[str, Any]) -> str | None:
    """The action that a command runs, like `node.apply`; None for one that runs none."""
    create = _input(resource, "create")
    found = _ACTION.search(create) if isinstance(create, str) else None
    return found[1] if found else None


def _reached(command: dict[str, Any]) -> tuple[str, Mapping[str, str]]:
    """Name and environment of the machine that a command goes to. Raises StateError."""
    variables = _variables(command)
    missing = [name for name in ("MIRROR_NODE", "MIRROR_SSH", "MIRROR_HOST_KEY") if not variables.get(name)]
    if missing:
        raise _unread(f"{_name(command)} has no {', '.join(missing)}")
    return variables["MIRROR_NODE"], variables


def _variables(command: dict[str, Any]) -> dict[str, str]:
    environment = _input(command, "environment")
    values = environment if isinstance(environment, dict) else {}
    return {name: value for name, value in values.items() if name.startswith(_PREFIX) and isinstance(value, str)}


def _text(command: dict[str, Any], name: str) -> str:
    value = _input(command, name)
    if not isinstance(value, str):
        raise _unread(f"{_name(command)} has no {name}")
    return value


def _input(resource: dict[str, Any], name: str) -> Any:
    inputs = resource.get("inputs")
    return _revealed(inputs.get(name)) if isinstance(inputs, dict) else None


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
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _unread(f"{what} are no JSON object")
    return found


def _name(resource: dict[str, Any]) -> str:
    return one_line(resource["urn"].rpartition("::")[2], 200)


def _unread(what: str) -> StateError:
    return StateError(
        f"this version cannot read the state: {what}",
        "use the version of the command that ran the last `pulumi up`, or run `pulumi up` with this one",
    )
