"""Makes the Grafana dashboard of `monitoring/panels.py` with Grafana's own foundation SDK.

Runs in an environment of its own (`make dashboard`), because the SDK needs Python 3.11.
"""

import string
from pathlib import Path

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from components.registry_mirror.monitoring.panels import ROWS, Panel

TARGET = Path("components/registry_mirror/monitoring/dashboard.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WHOLE, HEIGHT, NUMBER_HEIGHT = 24, 8, 4
"""Grafana's width of a row, and heights in its units."""


def made(panel: Panel, span: int) -> stat.Panel | timeseries.Panel:
    """A panel, as wide as `span` of Grafana's 24 columns."""
    builder = stat.Panel() if panel.is_number else timeseries.Panel()
    builder = (
        builder.title(panel.title)
        .description(panel.meaning)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(span)
        .height(NUMBER_HEIGHT if panel.is_number else HEIGHT)
    )
    if not panel.is_number:
        builder = (
            builder.min(0)
            .fill_opacity(10)
            .legend(
                common.VizLegendOptions().show_legend(True).placement("bottom").display_mode("list")
            )
        )
    for letter, query in zip(string.ascii_uppercase, panel.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
        builder = builder.with_target(target.instant() if panel.is_number else target.range())
    return builder


def main() -> None:
    """Write the dashboard."""
    whole = (
        dashboard.Dashboard("Registry mirror")
        .uid("swarm-registry-mirror")
        .description("What the mirror saves, how it is, and how the nodes see it")
        .tags(["docker", "registry"])
        .refresh("1m")
        .time("now-24h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(
            dashboard.QueryVariable("mirror")
            .label("Mirror")
            .datasource(SOURCE)
            .query("label_values(registry_proxy_requests_total, mirror)")
            .include_all(True)
            .all_value(".*")
            .multi(True)
        )
    )
    for row in ROWS:
        whole = whole.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            whole = whole.with_panel(made(panel, WHOLE // len(row.panels)))
    text = JSONEncoder(sort_keys=True, indent=1).encode(whole.build())
    TARGET.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
