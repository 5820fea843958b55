"""`metrics`: how the nodes are, and Docker Hub's quota, as Prometheus reads them.

For node_exporter's textfile collector or a Pushgateway, run by a timer: Prometheus itself has no
way into a node, and nothing of ours listens on one.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..monitoring.metrics import exposition
from . import deployed, nodes, stack, status, verdict
from .console import Verb, progress, worst
from .errors import UNKNOWN, CommandError
from .gathered import Stats
from .look import Look

Sample = tuple[str, dict[str, str], float]
READABLE = 0o644
"""For node_exporter, which runs as a user of its own."""


def run(options: argparse.Namespace) -> int:
    """Ask all nodes of all mirrors; print, or write the file as a whole."""
    state = stack.chosen(options).state()
    mirrors = deployed.mirrors(state, options.mirror)
    samples: list[Sample] = []
    codes = []
    for mirror in mirrors:
        looks = status.looks(mirror)
        with progress(f"asking {mirror.name} what it did"):
            stats = nodes.stats(mirror, [*mirror.nodes, mirror.manager])
        host = mirror.url.removeprefix("https://")
        samples += of_a_mirror(host, looks, stats, time.time())
        codes.append(verdict.exit_code(looks))
    text = exposition(samples)
    if options.output is None:
        sys.stdout.write(text)
    else:
        write(options.output, text)
    return worst(codes)


def of_a_mirror(mirror: str, looks: Sequence[Look], stats: Stats, now: float) -> list[Sample]:
    """What is known of a mirror's nodes. Of a node that could not be asked nothing is said but
    that."""
    of_all = {"mirror": mirror}
    samples: list[Sample] = [("registry_mirror_status_timestamp_seconds", of_all, int(now))]
    for look in looks:
        values = {"reachable": look.reachable}
        if look.reachable:
            values |= {
                "uses_mirror": look.used,
                "drifted": look.drifted,
                "in_swarm": not look.swarm_faults,
                "mirror_answers": not look.mirror_faults,
                "guard_out": look.guard_out,
            }
        labels = {**of_all, "node": look.node}
        samples += [
            (f"registry_mirror_node_{name}", labels, value) for name, value in values.items()
        ]
        if look.reachable:
            pending = len(look.due)
            samples.append(("registry_mirror_node_pending_restart_keys", labels, pending))
    if stats.quota is not None:
        samples += [
            ("registry_mirror_quota_remaining", of_all, stats.quota["left"]),
            ("registry_mirror_quota_limit", of_all, stats.quota["of"]),
        ]
    return samples


def write(path: Path, text: str) -> None:
    """Put the file in its place as a whole: who reads it has the old one or the new one. Raises
    CommandError."""
    # Beside it, because only within a file system does one file take another's place at once.
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            new.write_text(text, encoding="utf-8")
            new.chmod(READABLE)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written: {error.strerror}",
            "name a file in a folder that is there and that you may write to",
            code=UNKNOWN,
        ) from None


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        metavar="FILE",
        help="write this file, as a whole, in place of printing",
    )


VERB = Verb(
    "metrics",
    "how the nodes are and what Docker Hub still grants, for Prometheus",
    "swarm-registry-mirror metrics -o /var/lib/prometheus/node-exporter/registry-mirror.prom",
    run,
    _arguments,
)
