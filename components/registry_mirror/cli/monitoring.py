"""`monitoring`: what Prometheus and Grafana need to watch the mirror. Printed only."""

import argparse
import sys
from importlib import resources

from ..monitoring import scrape
from . import stack
from .console import Verb
from .errors import OK, UNKNOWN, CommandError

FILES = {"rules": "rules.yml", "dashboard": "dashboard.json"}
"""The same for every stack."""


def run(options: argparse.Namespace) -> int:
    """Print what was asked for. Raises CommandError for a mirror that nobody may scrape."""
    if options.part in FILES:
        folder = resources.files(__package__.rpartition(".")[0]) / "monitoring"
        sys.stdout.write((folder / FILES[options.part]).read_text(encoding="utf-8"))
        return OK
    mirrors = stack.mirrors(options)
    closed = [mirror.name for mirror in mirrors if not mirror.metrics]
    if closed:
        raise CommandError(
            f"nobody may read the metrics of {', '.join(closed)}",
            "set metricsFrom to the networks of your Prometheus, like 10.0.0.5/32, and run"
            " `pulumi up`",
            code=UNKNOWN,
        )
    for mirror in mirrors:
        sys.stdout.write(scrape.configuration(mirror.metrics))
    return OK


VERB = Verb(
    "monitoring",
    "what Prometheus and Grafana need: scrape configuration, rules, dashboard",
    "swarm-registry-mirror monitoring scrape --stack prod",
    run,
    lambda parser: parser.add_argument(
        "part",
        choices=("scrape", *FILES),
        help="scrape: an entry for scrape_configs; rules: a file for rule_files; dashboard: a file"
        " for Grafana",
    ),
)
