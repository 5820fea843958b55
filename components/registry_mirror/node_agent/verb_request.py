"""The typed requests of what only verbs and the list `warm` ask for; as those in `request.py`,
which says how versions agree. Apart, so that the programs of every `pulumi up` do not carry them.
Standard library only.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, List, Mapping

_AS_IN_A_NODES_REQUEST = {"mirror_url": "mirror", "path": "daemon_json", "unit": "service"}
"""Field -> its name on the wire, the same as in `NodeRequest`, from which it is taken."""


@dataclass(frozen=True)
class WarmImage:
    """An image that is to be in the cache."""

    name: str
    """For a person."""
    repository: str
    """Its path at the mirror, without `/v2/`."""
    reference: str
    """Tag or digest."""
    root: bool = True
    """Whether it is of the registry at the mirror's root."""


@dataclass(frozen=True)
class WarmRequest:
    """Images that are to be in the cache (`warm.*`)."""

    WIRE: ClassVar[Mapping[str, str]] = _AS_IN_A_NODES_REQUEST
    mirror_url: str
    path: str
    unit: str
    images: List[WarmImage]
    seconds: int
    """For all of them."""
    bandwidth: int = 0
    """Bytes a second on average; 0 for as fast as the line is."""
    hub: bool = False
    """Whether the registry at the root is Docker Hub, asked without an account: then its quota is
    looked at."""
    reserve: int = 0
    """Pulls of that quota that are left for others."""
    required: bool = False
    """Whether an image that could not be warmed is a failure (`warm.apply`)."""


@dataclass(frozen=True)
class RunningRequest:
    """The images that the swarm's services have now (`warm.running`)."""


@dataclass(frozen=True)
class PrepullRequest:
    """Images that a node's docker is to pull (`prepull.run`)."""

    images: List[str]
    """By digest: `traefik@sha256:…`."""
    seconds: int
    """For all of them."""


@dataclass(frozen=True)
class PurgeRequest:
    """An image that is to leave the cache (`purge.look`, `purge.run`)."""

    service: str
    """The registry's."""
    folder: str
    """Of its cache, below the mirror's, like `registries/ghcr.io`; empty for the one at the
    root."""
    repository: str
    """As the registry itself has it."""
    reference: str
    """Tag or digest."""


@dataclass(frozen=True)
class BanRequest:
    """A repository that is to leave Varnish (`purge.ban`)."""

    front: str
    """Varnish's service."""
    repository: str
    """Its path at the mirror."""


@dataclass(frozen=True)
class RouteRequest:
    """An image whose way to a node is asked for (`route.look`)."""

    WIRE: ClassVar[Mapping[str, str]] = _AS_IN_A_NODES_REQUEST
    mirror_url: str
    path: str
    unit: str
    repository: str
    """Its path at the mirror."""
    reference: str
    """Tag or digest."""
    names: List[str]
    """Under which docker may have it."""


@dataclass(frozen=True)
class CountedService:
    """A registry's service."""

    registry: str
    """Path of the registry at the mirror; empty for the one at the root."""
    service: str
    folder: str
    """Of its cache, below the mirror's; empty for the one at the root."""


@dataclass(frozen=True)
class UsageRequest:
    """What the registries noted of each hour and day (`usage.look`)."""

    services: List[CountedService]
    metrics: str
    """Where a registry's container answers with its counters."""
    days: int
    top: int = dataclasses.field(default=10)
    """How many of the images that were pulled most."""
