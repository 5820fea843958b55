"""The table of the mirror's metrics. Pure.

Rules and dashboard ask for these and no others, and `docs/reference/metrics.md` shows them; tests
hold all of them equal to what is really answered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge"]
Source = Literal["registry", "container", "cache", "varnish", "nodes"]
"""Who says it: the registry itself; the script that starts it; the notes of the cache, where it has
a limit; Varnish; or the command `swarm-registry-mirror metrics`, which asks the nodes."""


@dataclass(frozen=True)
class Metric:
    """One name that Prometheus has."""

    name: str
    kind: Kind
    source: Source
    meaning: str
    labels: Sequence[str] = ()
    """Besides those of the scrape, `mirror` and `part`."""


_NODE = ("node",)
_STORE = ("store",)
METRICS: Sequence[Metric] = (
    Metric(
        "registry_proxy_requests_total",
        "counter",
        "registry",
        "layers and manifests that the registry was asked for",
        ("type",),
    ),
    Metric("registry_proxy_hits_total", "counter", "registry", "of them from the cache", ("type",)),
    Metric(
        "registry_proxy_misses_total",
        "counter",
        "registry",
        "of them from the upstream",
        ("type",),
    ),
    Metric(
        "registry_proxy_pulled_bytes_total",
        "counter",
        "registry",
        "bytes fetched from the upstream",
        ("type",),
    ),
    Metric(
        "registry_proxy_pushed_bytes_total",
        "counter",
        "registry",
        "bytes that the registry has given to Varnish, or to clients without it",
        ("type",),
    ),
    Metric(
        "registry_http_requests_total",
        "counter",
        "registry",
        "the registry's answers",
        ("code", "handler", "method"),
    ),
    Metric(
        "registry_mirror_disk_size_bytes",
        "gauge",
        "container",
        "of the file system that the cache is on",
    ),
    Metric(
        "registry_mirror_disk_free_bytes",
        "gauge",
        "container",
        "free there",
    ),
    Metric(
        "registry_mirror_upstream_answers",
        "gauge",
        "container",
        "1 where the upstream answered the registry at the last look, once a minute; from the"
        " first tag on that it has confirmed",
    ),
    Metric("registry_mirror_cache_bytes", "gauge", "cache", "bytes of layers in the cache"),
    Metric("registry_mirror_cache_limit_bytes", "gauge", "cache", "`cacheLimit`"),
    Metric(
        "registry_mirror_cache_free_bytes",
        "gauge",
        "cache",
        "free on the cache's file system when the evictor looked last",
    ),
    Metric("registry_mirror_evicted_layers_total", "counter", "cache", "layers thrown out"),
    Metric("registry_mirror_evicted_bytes_total", "counter", "cache", "their bytes"),
    Metric(
        "registry_mirror_youngest_evicted_seconds",
        "gauge",
        "cache",
        "how long the most recently used layer of the last eviction had not been used",
    ),
    Metric(
        "registry_mirror_cache_over_limit",
        "gauge",
        "cache",
        "1 where the cache is larger than its limit, because all of it was used within the hour",
    ),
    Metric(
        "registry_mirror_varnish_uptime_seconds",
        "gauge",
        "varnish",
        "since Varnish's child was started; its counters begin at 0 then",
    ),
    Metric("registry_mirror_varnish_requests_total", "counter", "varnish", "requests of clients"),
    Metric(
        "registry_mirror_varnish_hits_total",
        "counter",
        "varnish",
        "answered from what another client's request had just fetched",
    ),
    Metric("registry_mirror_varnish_misses_total", "counter", "varnish", "begun at the registry"),
    Metric("registry_mirror_varnish_sent_bytes_total", "counter", "varnish", "sent to clients"),
    Metric(
        "registry_mirror_varnish_failed_fetches_total",
        "counter",
        "varnish",
        "answers of a registry that did not begin or broke off",
    ),
    Metric(
        "registry_mirror_varnish_registry_requests_total",
        "counter",
        "varnish",
        "requests to the registries",
    ),
    Metric("registry_mirror_varnish_objects", "gauge", "varnish", "answers that it holds"),
    Metric("registry_mirror_varnish_threads", "gauge", "varnish", "of it"),
    Metric(
        "registry_mirror_varnish_threads_limited_total",
        "counter",
        "varnish",
        "requests that waited for a thread",
    ),
    Metric("registry_mirror_varnish_store_bytes", "gauge", "varnish", "used of a store", _STORE),
    Metric("registry_mirror_varnish_store_free_bytes", "gauge", "varnish", "free in it", _STORE),
    Metric(
        "registry_mirror_varnish_leased_bytes",
        "gauge",
        "varnish",
        "bodies that arrive or are sent at this moment, and so cannot make room",
        _STORE,
    ),
    Metric(
        "registry_mirror_varnish_passed_on_total",
        "counter",
        "varnish",
        "layers that there was no room for: a download for each client",
    ),
    Metric(
        "registry_mirror_varnish_sent_away_total",
        "counter",
        "varnish",
        "clients that were sent to the upstream, because too many layers were passed on",
    ),
    Metric("registry_mirror_node_reachable", "gauge", "nodes", "1 where it could be asked", _NODE),
    Metric(
        "registry_mirror_node_uses_mirror",
        "gauge",
        "nodes",
        "1 where its docker uses the mirror",
        _NODE,
    ),
    Metric(
        "registry_mirror_node_drifted",
        "gauge",
        "nodes",
        "1 where it is not as the last `pulumi up` left it",
        _NODE,
    ),
    Metric(
        "registry_mirror_node_in_swarm",
        "gauge",
        "nodes",
        "1 where nothing is wrong with its place in the swarm",
        _NODE,
    ),
    Metric(
        "registry_mirror_node_mirror_answers",
        "gauge",
        "nodes",
        "1 where the mirror and its upstream answer as seen from there",
        _NODE,
    ),
    Metric(
        "registry_mirror_node_guard_out",
        "gauge",
        "nodes",
        "1 where the guard has the mirror out of hosts.toml",
        _NODE,
    ),
    Metric(
        "registry_mirror_node_pending_restart_keys",
        "gauge",
        "nodes",
        "keys of its daemon.json that wait for a restart",
        _NODE,
    ),
    Metric(
        "registry_mirror_quota_remaining",
        "gauge",
        "nodes",
        "pulls that Docker Hub still grants the mirror's address",
    ),
    Metric("registry_mirror_quota_limit", "gauge", "nodes", "of how many"),
    Metric(
        "registry_mirror_status_timestamp_seconds", "gauge", "nodes", "when the nodes were asked"
    ),
)
"""Every metric that rules or dashboard ask for. A registry has more: Go's own, and histograms."""

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


def exposition(samples: Sequence[tuple[str, Mapping[str, str], float]]) -> str:
    """Samples (name, labels, value) as Prometheus reads them, those of a name together.

    Raises KeyError for a name that is in no table.
    """
    lines = []
    for name in dict.fromkeys(name for name, _, _ in samples):
        metric = BY_NAME[name]
        lines += [f"# HELP {name} {metric.meaning}", f"# TYPE {name} {metric.kind}"]
        for sample, labels, value in samples:
            if sample == name:
                pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
                number = int(value) if value == int(value) else value
                lines.append(f"{name}{{{pairs}}} {number}")
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
