"""The panels of the dashboard: what each asks Prometheus, in its rows. Pure data.

`docs/site/dashboard.py` makes `dashboard.json` of it, and the documentation's picture is drawn from
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MIRROR = 'mirror=~"$mirror"'
"""The dashboard's variable: one mirror, or all."""
ROOT = f'{MIRROR},part="root"'
"""The registry at the root, which measures the whole cache."""

Unit = Literal["short", "bytes", "binBps", "percentunit", "s", "reqps"]
"""Grafana's names of units."""


@dataclass(frozen=True)
class Query:
    """One line of a panel."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A panel: a graph over time, or one number now."""

    title: str
    meaning: str
    unit: Unit
    queries: Sequence[Query]
    is_number: bool = False


@dataclass(frozen=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: Sequence[Panel]


ROWS: Sequence[Row] = (
    Row(
        "Is it there",
        (
            Panel(
                "Parts that answer",
                "Registries and Varnish, as Prometheus reaches them",
                "short",
                (Query(f'sum(up{{job="registry-mirror",{MIRROR}}})', "of the mirror"),),
                is_number=True,
            ),
            Panel(
                "Upstreams that answer",
                "As the registries see them, once a minute",
                "short",
                (Query(f"sum(registry_mirror_upstream_answers{{{MIRROR}}})", "upstreams"),),
                is_number=True,
            ),
            Panel(
                "Nodes that use the mirror",
                "When they were asked last",
                "short",
                (Query(f"sum(registry_mirror_node_uses_mirror{{{MIRROR}}})", "nodes"),),
                is_number=True,
            ),
            Panel(
                "Nodes that have drifted",
                "Not as the last `pulumi up` left them",
                "short",
                (Query(f"sum(registry_mirror_node_drifted{{{MIRROR}}})", "nodes"),),
                is_number=True,
            ),
            Panel(
                "Nodes whose guard is active",
                "The mirror is out of their hosts.toml, because it did not answer from there",
                "short",
                (Query(f"sum(registry_mirror_node_guard_out{{{MIRROR}}})", "nodes"),),
                is_number=True,
            ),
            Panel(
                "Docker Hub pulls left",
                "Of those that it grants the mirror's address",
                "short",
                (Query(f"min(registry_mirror_quota_remaining{{{MIRROR}}})", "pulls"),),
                is_number=True,
            ),
        ),
    ),
    Row(
        "What it saves",
        (
            Panel(
                "Bytes",
                "To clients, and from the upstreams",
                "binBps",
                (
                    Query(f"sum(registry_mirror:served_bytes:rate5m{{{MIRROR}}})", "to clients"),
                    Query(
                        f"sum(registry_mirror:fetched_bytes:rate5m{{{MIRROR}}})",
                        "over the internet",
                    ),
                ),
            ),
            Panel(
                "Share that did not cross the internet",
                "Of the bytes of the last hour",
                "percentunit",
                (Query(f"registry_mirror:saved:ratio1h{{{MIRROR}}}", "{{mirror}}"),),
            ),
            Panel(
                "Layers and manifests",
                "Where a request was answered: by Varnish alone, from the cache, or by an upstream",
                "reqps",
                (
                    Query(
                        f"sum(rate(registry_mirror_varnish_hits_total{{{MIRROR}}}[5m]))",
                        "Varnish",
                    ),
                    Query(
                        f"sum(rate(registry_proxy_hits_total{{{MIRROR}}}[5m]))",
                        "from the cache",
                    ),
                    Query(
                        f"sum(rate(registry_proxy_misses_total{{{MIRROR}}}[5m]))",
                        "from an upstream",
                    ),
                ),
            ),
            Panel(
                "Answers of the registries",
                "By status",
                "reqps",
                (
                    Query(
                        f"sum by (part, code) (rate(registry_http_requests_total{{{MIRROR}}}[5m]))",
                        "{{part}} {{code}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "The cache",
        (
            Panel(
                "Disk",
                "Of the cache's file system",
                "bytes",
                (
                    Query(
                        f"registry_mirror_disk_free_bytes{{{ROOT}}}",
                        "free {{mirror}}",
                    ),
                    Query(
                        f"registry_mirror_disk_size_bytes{{{ROOT}}}",
                        "size {{mirror}}",
                    ),
                ),
            ),
            Panel(
                "Layers in the cache",
                "Where it has a limit",
                "bytes",
                (
                    Query(f"registry_mirror_cache_bytes{{{ROOT}}}", "used {{mirror}}"),
                    Query(f"registry_mirror_cache_limit_bytes{{{ROOT}}}", "limit {{mirror}}"),
                ),
            ),
            Panel(
                "Thrown out",
                "Least recently used layers, for want of room",
                "binBps",
                (Query(f"rate(registry_mirror_evicted_bytes_total{{{ROOT}}}[5m])", "{{mirror}}"),),
            ),
            Panel(
                "Unused for so long when thrown out",
                "The most recently used layer of the last eviction; less than a day: the limit is"
                " too small",
                "s",
                (
                    Query(
                        f"registry_mirror_youngest_evicted_seconds{{{ROOT}}}",
                        "{{mirror}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Varnish",
        (
            Panel(
                "Stores",
                "What is being pulled, or was within ten minutes",
                "bytes",
                (
                    Query(
                        f"registry_mirror_varnish_store_bytes{{{MIRROR}}}", "{{store}} {{mirror}}"
                    ),
                ),
            ),
            Panel(
                "On their way",
                "Bodies that arrive or are sent at this moment",
                "bytes",
                (
                    Query(
                        f"registry_mirror_varnish_leased_bytes{{{MIRROR}}}",
                        "{{store}} {{mirror}}",
                    ),
                ),
            ),
            Panel(
                "No room",
                "Layers that were passed on, and clients that were sent to the upstream",
                "reqps",
                (
                    Query(
                        f"sum(rate(registry_mirror_varnish_passed_on_total{{{MIRROR}}}[5m]))",
                        "passed on",
                    ),
                    Query(
                        f"sum(rate(registry_mirror_varnish_sent_away_total{{{MIRROR}}}[5m]))",
                        "sent away",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Nodes",
        (
            Panel(
                "The mirror as seen from each node",
                "1 where it and its upstream answer",
                "short",
                (Query(f"registry_mirror_node_mirror_answers{{{MIRROR}}}", "{{node}}"),),
            ),
            Panel(
                "Uses the mirror",
                "1 where docker does",
                "short",
                (Query(f"registry_mirror_node_uses_mirror{{{MIRROR}}}", "{{node}}"),),
            ),
        ),
    ),
)
