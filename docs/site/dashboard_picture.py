"""Draws the dashboard from the data that a real Prometheus had.

    DASHBOARD_DATA=/tmp/panels.json make soak    # tests/soak/test_prometheus.py leaves them there
    .tools/dashboard/bin/python docs/site/dashboard_picture.py /tmp/panels.json \\
        docs/assets/dashboard.svg

The panels, queries and units are those of the dashboard; Grafana's own drawing of them differs.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator

UNITS = {
    "bytes": lambda value: _large(value, "B"),
    "binBps": lambda value: _large(value, "B/s"),
    "reqps": lambda value: f"{value:.3g}/s",
    "percentunit": lambda value: f"{value:.0%}",
    "s": lambda value: f"{value:.0f} s",
    "short": lambda value: f"{value:.3g}",
}
COLUMNS = 12
WIDTH, ROW_HEIGHT, NUMBER_HEIGHT = 15, 3.2, 1.3
"""Inches."""


def _large(value: float, unit: str) -> str:
    for size, prefix in ((2**30, "Gi"), (2**20, "Mi"), (2**10, "Ki")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def legend(series: dict[str, Any]) -> str:
    """Grafana's template with the series' labels."""
    text: str = series["legend"]
    for name, value in series["labels"].items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def draw(panel: dict[str, Any], axes: Any) -> None:
    """A number, or lines over time."""
    shown = UNITS[panel["unit"]]
    axes.set_title(panel["title"], loc="left", fontsize=10)
    if panel["number"]:
        axes.axis("off")
        last = shown(panel["series"][0]["values"][-1][1]) if panel["series"] else "not known"
        axes.text(0, 0.45, last, fontsize=24, color="#3274d9", va="center")
        return
    for series in panel["series"]:
        begun = panel["series"][0]["values"][-1][0]
        points = series["values"][:: max(1, len(series["values"]) // 40)]
        times = [(at - begun) / 60 for at, _ in points]
        axes.plot(times, [value for _, value in points], label=legend(series), lw=1.6)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} min"))
    axes.tick_params(labelsize=8)
    low, high = axes.get_ylim()
    axes.set_ylim(min(0, low), high if high <= 0 else high * 1.3)  # room for the legend
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if panel["series"]:
        axes.legend(fontsize=7, frameon=False, loc="upper left", ncols=2)
    else:
        axes.text(0.5, 0.5, "no data yet", transform=axes.transAxes, ha="center", color="grey")


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    panels = json.loads(options.data.read_text())
    rows = list(dict.fromkeys(panel["row"] for panel in panels))
    of_row = {row: [panel for panel in panels if panel["row"] == row] for row in rows}
    heights = [NUMBER_HEIGHT if of_row[row][0]["number"] else ROW_HEIGHT for row in rows]
    mpl.rcParams.update({"svg.hashsalt": "dashboard", "svg.fonttype": "none"})
    figure = plt.figure(figsize=(WIDTH, sum(heights) + 0.3 * len(rows)), layout="constrained")
    for row, part in zip(rows, figure.subfigures(len(rows), 1, height_ratios=heights), strict=True):
        part.suptitle(row, x=0.01, ha="left", fontsize=12, fontweight="bold")
        axes = part.subplots(1, len(of_row[row]), squeeze=False)[0]
        for panel, place in zip(of_row[row], axes, strict=True):
            draw(panel, place)
    figure.savefig(options.picture, metadata=dict.fromkeys(["Date", "Creator", "Format", "Type"]))
    options.picture.write_text(small(options.picture.read_text()))


def small(text: str) -> str:
    """The picture without what a browser does not need: a tenth of a point is enough."""
    text = re.sub(r"<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", text)
    text = re.sub(
        r"(?<!version=\")\d+\.\d+",
        lambda number: f"{float(number[0]):.1f}".removesuffix(".0"),
        text,
    )
    return re.sub(r"\s*\n\s*", "\n", text)


if __name__ == "__main__":
    main()
