"""The typed requests: what an action is asked for, one definition for both ends. Standard library
only.

The program on the computer of `pulumi up` builds them, the agent decodes them: a field that is
unknown or missing, or of another type, is refused by name. On the wire they are JSON; where a key
there is older than the name of a field, the class says so (`WIRE`).

HOW VERSIONS AGREE: the request of an earlier version comes from a state, and is undone or repaired
by the program of that version, or read by this one (`status`; `destroy` where that program is
lost). So a field that is added has a default, which is what a version without it meant, and a field
that is given up stays here until no state can have it. A field that is unknown is a newer
version's; what it means cannot be guessed, so it is refused.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Type, TypeVar, Union

T = TypeVar("T")

LABELS_HEADER = "Mirror-Labels"
"""Header in which each answer through Traefik says by which labels Traefik leads to the mirror
(`ReadyRequest.labels_mark`)."""


class BadRequest(ValueError):
    """The request is none of this version's; the message names the field."""


@dataclass(frozen=True)
class NodeRegistry:
    """A registry besides Docker Hub whose images docker is to ask the mirror for."""

    name: str
    """As images have it, like ghcr.io."""
    path: str
    """First element of its paths at the mirror; empty for the registry at the mirror's root."""
    fallback: bool = True
    """Whether docker may ask the registry itself where the mirror does not answer."""


@dataclass(frozen=True)
class NodeRequest:
    """What a node is to be like (`node.*`, `restart.*`)."""

    WIRE: ClassVar[Mapping[str, str]] = {
        "mirror_url": "mirror",
        "path": "daemon_json",
        "unit": "service",
        "managed_keys": "keys",
        "shared_path": "shared",
    }
    owner: str
    """Of our entries: the name of the mirror's service, with the suffix of this generation."""
    mirror_url: str
    check_image: str
    """An image that must pass through the mirror, like library/hello-world:latest."""
    path: str
    unit: str
    """dockerd's own systemd unit (or other service)."""
    managed_keys: Dict[str, Any] = dataclasses.field(repr=False)
    """Keys of daemon.json that are ours, with their values."""
    restart: str
    """`never` or `when-needed`."""
    former: Optional[str] = None
    """The owner of the entries that an earlier version made, which are this one's from now on."""
    accept_broken_host_gateway: bool = False
    """Whether docker may be reloaded where that harms it (`preflight.reload_hurts`)."""
    guard: bool = False
    allow_from: List[str] = dataclasses.field(default_factory=list)
    """Not read on a node: a changed list is a reason to ask every node again whether it is still
    let in."""
    shared_path: Optional[str] = None
    """The cache on shared storage, where every node may run the registry; None where not."""
    fallback: bool = True
    """Whether docker may ask Docker Hub itself where the mirror does not answer."""
    registries: List[NodeRegistry] = dataclasses.field(default_factory=list)
    """Those that docker asks the mirror for where it goes by hosts.toml."""


@dataclass(frozen=True)
class StorageRequest:
    """The registry's configuration and cache on shared storage (`storage.*`)."""

    owner: str
    config_path: str
    cache_path: str
    marker: str
    """What a configuration of ours begins with."""
    config: str
    identity: str = ""
    """The mirror's own number; empty in requests of early versions."""
    former: Optional[str] = None
    """The number under which an earlier version marked the cache."""


@dataclass(frozen=True)
class Nfs:
    """An NFS export, as docker's volume options say it."""

    addr: str
    device: str


@dataclass(frozen=True)
class Cache:
    """Where the cache is: one of `path`, `nfs` and `volume`."""

    path: Optional[str] = None
    nfs: Optional[Nfs] = None
    volume: Optional[str] = None
    constraints: Optional[List[str]] = None
    """Which machines' volume."""


@dataclass(frozen=True)
class ClaimRequest:
    """What only one mirror can have (`claim.*`)."""

    identity: str
    stack: str
    """Project, stack and component, for a person."""
    hostname: str
    entrypoint: str
    services: List[str]
    front: str
    routers: List[str]
    cache: Cache
    cache_target: str
    config_path: Optional[str]
    marker: str
    """What a configuration of ours begins with."""
    network: Optional[str] = None
    """The overlay network that must be there."""
    former: Optional[str] = None
    """The identity under which an earlier version made these claims."""


@dataclass(frozen=True)
class ExpectedTask:
    """A service whose newest task must have this configuration."""

    service: str
    word: str
    """The last word of the task's command, which has the configuration's digest."""
    image: str


@dataclass(frozen=True)
class CachedRegistry:
    """A registry besides the one at the mirror's root, which the mirror is to reach."""

    name: str
    """As images have it, like ghcr.io."""
    path: str
    """First element of its paths at the mirror."""
    upstream: str
    """URL at which it is asked."""
    repository: str
    """In which it is asked for a layer that nobody has, like owner/image."""
    is_known: bool
    """Whether that repository is there, and may be pulled by the mirror; False for a name that was
    made up."""
    required: bool = False
    """Whether the mirror is not ready without it."""


@dataclass(frozen=True)
class ReadyRequest:
    """What must be so before any node is configured (`ready.*`)."""

    WIRE: ClassVar[Mapping[str, str]] = {
        "mirror_url": "mirror",
        "path": "daemon_json",
    }
    mirror_url: str
    services: List[ExpectedTask]
    check_image: str
    network: str
    allow_from: List[str]
    disk: int
    """MiB of disk that Varnish is to take; 0 without Varnish."""
    unit: str
    path: str
    labels: List[Dict[str, str]]
    """Of each service, for Traefik's constraints."""
    timeout: int
    """Seconds."""
    registries: List[CachedRegistry] = dataclasses.field(default_factory=list)
    """Those besides the one at the root."""
    labels_mark: str = ""
    """What LABELS_HEADER says once Traefik goes by these labels; empty where it never says
    anything."""


@dataclass(frozen=True)
class GuardRequest:
    """The guard's service (`guard.*`)."""

    name: str
    owner: str
    image: str
    script: str
    arguments: List[str]


@dataclass(frozen=True)
class StatsRequest:
    """What is to be counted (`stats.look`)."""

    service: str
    front: str
    """Varnish's service; empty without it."""
    metrics: str
    """Where the registry's container answers with its counters."""
    hub: bool
    """Whether the upstream is Docker Hub, asked without an account."""
    cache_path: Optional[str] = None
    """A folder whose size is asked for."""


@dataclass(frozen=True)
class UpgradeRequest:
    """A version of docker that a node might get (`upgrade.look`)."""

    WIRE: ClassVar[Mapping[str, str]] = {
        "unit": "service",
        "path": "daemon_json",
    }
    unit: str
    path: str
    to: str


@dataclass(frozen=True)
class ViewRequest:
    """The swarm as a manager sees it (`swarm.view`)."""


@dataclass(frozen=True)
class MembersRequest:
    """The swarm's nodes with what tells them apart (`members.view`)."""

    guard: str = ""
    """The guard's service; empty where there is none."""


@dataclass(frozen=True)
class MemberRequest:
    """One node of the swarm (`swarm.drain`, `swarm.await_ready`, `swarm.give_back`)."""

    id: str
    after: int = 0
    """Version of the node from before its restart; 0 where nothing was restarted."""


@dataclass(frozen=True)
class NodeToRestart:
    """A node, as the rolling restart reaches it."""

    name: str
    environment: Dict[str, str]
    """For `runner.sh`, without keys."""
    settings: NodeRequest


@dataclass(frozen=True)
class RestartsRequest:
    """The rolling restart (`run.*`)."""

    restart: str
    """`never` or `when-needed`."""
    restart_keys: List[str]
    """Managed keys that dockerd reads at its start only."""
    allow_quorum_loss: bool
    manager: str
    """The node that is asked about the swarm first."""
    told: Dict[str, Any]
    """Node -> what its last change came to (`outcome.py`)."""
    nodes: List[NodeToRestart]


def encode(request: Any) -> Dict[str, Any]:
    """A request as JSON has it, in the order of its fields."""
    return {
        key: _plain(getattr(request, field.name)) for key, field in _fields(type(request)).items()
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {key: item for key, item in encode(value).items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def decode(kind: Type[T], data: object, place: str = "") -> T:
    """The request of this kind that JSON has; `place`: the field that it is in. Raises
    BadRequest."""
    fields = _fields(kind)
    if not isinstance(data, dict):
        raise BadRequest("the request%s is no object [RM003]" % _at(place))
    unknown = [key for key in data if key not in fields]
    if unknown:
        raise BadRequest(
            "the request%s has a field that this version does not know: %s; use the version of the"
            " program that made it [RM004]" % (_at(place), ", ".join(map(str, unknown)))
        )
    missing = [key for key, field in fields.items() if key not in data and _is_required(field)]
    if missing:
        raise BadRequest(
            "the request%s has no %s; use the version of the program that made it [RM005]"
            % (_at(place), ", ".join(missing))
        )
    return kind(
        **{
            field.name: _typed(data[key], field.type, "%s.%s" % (place, key) if place else key)
            for key, field in fields.items()
            if key in data
        }
    )


def _fields(kind: Any) -> "Dict[str, dataclasses.Field[Any]]":
    """Key on the wire -> field."""
    wire: Mapping[str, str] = getattr(kind, "WIRE", {})
    return {wire.get(field.name, field.name): field for field in dataclasses.fields(kind)}


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    nothing = dataclasses.MISSING
    return field.default is nothing and field.default_factory is nothing


def _at(place: str) -> str:
    return "'s field %s" % place if place else ""


def _typed(value: Any, kind: Any, place: str) -> Any:
    """`value`, which must be of the type that a field has. Raises BadRequest."""
    origin: Any = getattr(kind, "__origin__", None)
    inner: Any = getattr(kind, "__args__", ())
    if kind is Any:
        return value
    if origin is Union:
        return None if value is None else _typed(value, inner[0], place)
    if dataclasses.is_dataclass(kind):
        return decode(kind, value, place)  # type: ignore[arg-type]
    if origin is list and isinstance(value, list):
        return [_typed(item, inner[0], place) for item in value]
    if origin is dict and isinstance(value, dict):
        return {key: _typed(item, inner[1], place) for key, item in value.items()}
    if (
        isinstance(kind, type)
        and isinstance(value, kind)
        and (kind is bool) == (value is True or value is False)
    ):
        return value
    raise BadRequest(
        "the request's field %s is of another type than this version takes; use the version of the"
        " program that made it [RM006]" % place
    )
