"""How Prometheus finds a mirror's metrics. Pure."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import yaml

JOB = "registry-mirror"
INTERVAL = "30s"
"""A registry's metrics are some 30 kB, and one client is answered at a time."""


def configuration(urls: Sequence[str]) -> str:
    """The entry for `scrape_configs` that asks `urls`, all of one mirror; the first is that of the
    registry at the root.

    Each series has the labels `mirror` (its hostname) and `part`: a registry's name, `varnish`, or
    `root`.
    """
    targets = []
    for url in urls:
        parts = urlsplit(url)
        labels = {
            "__metrics_path__": parts.path,
            "mirror": parts.hostname,
            "part": parts.path.removeprefix("/metrics").strip("/") or "root",
        }
        targets.append({"targets": [f"{parts.hostname}:{parts.port or 443}"], "labels": labels})
    job = {
        "job_name": JOB,
        "scheme": "https",
        "scrape_interval": INTERVAL,
        "static_configs": targets,
    }
    return yaml.safe_dump([job], sort_keys=False)
