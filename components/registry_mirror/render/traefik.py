"""The labels by which Traefik finds the mirror, exactly as each generation of Traefik reads them.
Pure.

Reading only, and never the catalogue: a pull needs GET and HEAD of named images, and the list of
everything that was ever pulled is nobody's business. Owns labels; which port they lead to is the
caller's.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..node_agent.request import LABELS_HEADER
from . import common

DIALECTS = ("v1", "v2", "v3.0", "v3")
"""v3.0: up to 3.2.1, which does not know `traefik.swarm.*` yet. v3 from 3.2.2 on, where
`traefik.docker.*` is deprecated, and both together make Traefik refuse the service (traefik
pkg/provider/docker/shared_labels.go)."""

METRICS_PATH = "/metrics"
"""Of the registry at the root. Below it are those of the others, by `registries.path_of`, and
Varnish's (`varnish.METRICS_PATH`)."""

_ROUTER = re.compile(r"traefik\.http\.routers\.[^.]+(?=\.)", re.IGNORECASE)
_LB_SWARM = re.compile(r"traefik\.(?:docker|swarm)\.lbswarm")
_OF_ONE_SERVICE = ("traefik.http.", "traefik.tcp.", "traefik.udp.")

_SAFE = (
    "Host(`{host}`) && PathPrefix(`/v2/`) && (Method(`GET`) || Method(`HEAD`)) &&"
    " !PathPrefix(`/v2/_`)"
)
# Not every Traefik 2 may know `!`, so what a pull asks for is listed instead.
_SAFE_V2 = (
    "Host(`{host}`) && Method(`GET`, `HEAD`) && "
    "(Path(`/v2/`) ||"
    " Path(`/v2/{{name:.+}}/{{kind:(?:manifests|blobs|tags|referrers)}}/{{reference:[^/]+}}`))"
)


@dataclass(frozen=True, kw_only=True)
class Route:
    """A way in through Traefik."""

    dialect: str
    hostname: str
    network: str
    entrypoint: str
    """Name of the entrypoint, or several with commas between them."""
    cert_resolver: str | None = None
    allow_from: Sequence[str] = ()
    """Networks that may use it; empty means everybody who reaches Traefik."""


HEALTH_SECONDS = 5
"""How often Traefik asks whether a container answers, and how long it waits. Without it a container
that accepts and does not answer leaves clients waiting until swarm has replaced it; Traefik has no
limit of its own for the first byte of an answer, and none that a label could set. With it they are
answered 503 at once, and docker asks the upstream."""


def mirror_labels(service: str, port: int, route: Route, health: str = "/v2/") -> dict[str, str]:
    """Labels that route `https://<hostname>/v2/` to `port` of `service`, where `health` is a path
    that it answers by itself."""
    if route.dialect == "v1":
        return _recipe_labels(port, route)
    rule = (_SAFE_V2 if route.dialect == "v2" else _SAFE).format(host=route.hostname)
    check = f"traefik.http.services.{service}.loadbalancer.healthcheck"
    seconds = f"{HEALTH_SECONDS}s"
    checks = {f"{check}.path": health, f"{check}.interval": seconds, f"{check}.timeout": seconds}
    own = _labels(service, port, route, rule, route.allow_from)
    middlewares = f"traefik.http.routers.{service}.middlewares"
    names = filter(None, [f"{service}-labels", own.get(middlewares)])
    return own | checks | {middlewares: ",".join(names), _mark(service): ""}


def joined(own: Mapping[str, str], further: Mapping[str, str], service: str) -> dict[str, str]:
    """Our labels and a user's, for `service`, which the mirror is for Traefik, with the mark that
    all of them together have (`mark_in`).

    Middlewares are the only label that both may have (`args.py`): theirs come behind ours, or a
    client that is not on the allow-list would reach theirs. A router of theirs for which no service
    is named leads to the mirror: where labels define two services, and with metrics they do,
    Traefik leaves such a router out (traefik pkg/provider/configuration.go).
    Traefik ignores case in a label's name.
    """
    names = {key.lower(): key for key in own}
    found = dict(own)
    for key, value in further.items():
        mine = names.get(key.lower())
        found[mine or key] = value if mine is None else f"{own[mine]},{value}"
    has = {key.lower() for key in found}
    for key in further:
        router = _ROUTER.match(key)
        if router and f"{router[0]}.service".lower() not in has:
            found[f"{router[0]}.service"] = service
            has.add(f"{router[0]}.service".lower())
    if _mark(service) in found:
        found[_mark(service)] = common.digest(json.dumps(sorted(found.items())))[-16:]
    return found


def mark_in(labels: Mapping[str, str], service: str) -> str:
    """What Traefik's answers say once it goes by these labels; empty with Traefik 1, where they say
    nothing.

    Traefik takes changed labels over when it looks again, 15 seconds later unless it is told
    otherwise, and answers by the earlier ones until then: the mark is how the gate tells.
    """
    return labels.get(_mark(service), "")


def _mark(service: str) -> str:
    """The label of the middleware that adds the mark to each answer, also to one that refuses."""
    return (
        f"traefik.http.middlewares.{service}-labels.headers.customresponseheaders.{LABELS_HEADER}"
    )


def hidden_by(dialect: str, name: str, value: str) -> str | None:
    """Why Traefik would leave the mirror out for a user's label; None if it would not.

    It says nothing of the one and logs the other (traefik pkg/provider/docker/pswarm.go
    `parseService`, shared_labels.go `extractSwarmLabels`; the first seen with 3.7).
    """
    name = name.lower()
    if _LB_SWARM.fullmatch(name) and dialect != "v1" and value.lower() not in ("false", "f", "0"):
        return (
            "hides the mirror from Traefik, which goes to the virtual address of a service only"
            " where its endpoint mode is written down; remove it"
        )
    if name.startswith("traefik.docker.") and dialect == "v3":
        return (
            "hides the mirror from Traefik, which leaves out a service that has labels of"
            " traefik.docker beside those of traefik.swarm; remove it"
        )
    return None


def about_the_service(further: Mapping[str, str]) -> dict[str, str]:
    """Those of a user's labels that are about a service as such, like the label of a constraint,
    and may stand on several: a router or middleware that two services define differently is one
    that Traefik leaves out."""
    return {
        key: value for key, value in further.items() if not key.lower().startswith(_OF_ONE_SERVICE)
    }


def metrics_labels(
    service: str, port: int, route: Route, scrapers: Sequence[str], path: str = METRICS_PATH
) -> dict[str, str]:
    """Labels that route `https://<hostname><path>` to `port` of `service`, for the addresses of
    `scrapers` only."""
    method = "Method(`GET`)"
    return _labels(
        f"{service}-metrics",
        port,
        route,
        f"Host(`{route.hostname}`) && Path(`{path}`) && {method}",
        scrapers,
    )


def hidden_labels() -> dict[str, str]:
    """For a service that Traefik must not route to, even where it exposes everything by default."""
    return {"traefik.enable": "false"}


def _labels(
    router_name: str, port: int, route: Route, rule: str, sources: Sequence[str]
) -> dict[str, str]:
    router = f"traefik.http.routers.{router_name}"
    labels = {
        "traefik.enable": "true",
        f"traefik.{'swarm' if route.dialect == 'v3' else 'docker'}.network": route.network,
        f"{router}.rule": rule,
        f"{router}.entrypoints": route.entrypoint,
        f"{router}.service": router_name,
        f"traefik.http.services.{router_name}.loadbalancer.server.port": str(port),
    }
    if route.cert_resolver:
        labels[f"{router}.tls.certresolver"] = route.cert_resolver
    else:
        labels[f"{router}.tls"] = "true"
    if sources:
        middleware = "ipwhitelist" if route.dialect == "v2" else "ipallowlist"
        labels[f"traefik.http.middlewares.{router_name}-from.{middleware}.sourcerange"] = ",".join(
            sources
        )
        labels[f"{router}.middlewares"] = f"{router_name}-from"
    return labels


def _recipe_labels(port: int, route: Route) -> dict[str, str]:
    """The recipe's own three; Traefik 1 takes entrypoint and certificate from its own
    configuration."""
    labels = {
        "traefik.frontend.rule": f"Host:{route.hostname}",
        "traefik.docker.network": route.network,
        "traefik.port": str(port),
    }
    if route.allow_from:
        labels["traefik.frontend.whiteList.sourceRange"] = ",".join(route.allow_from)
    return labels
