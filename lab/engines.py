"""The docker engines that a lab's machines can have: which base system each is on, and what decides
where it keeps its images.

Pure data. The name is the version; what follows it is the image store, where that is not the one
that a fresh installation of this version has (graphdriver before 29, containerd since), or an init
that is not systemd.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Engine:
    """One engine: `base` is its base system (`base_systems.py`), `daemon_json` the keys that it is
    started with."""

    base: str
    containerd_store: bool = False
    daemon_json: Mapping[str, Any] = field(default_factory=dict)


_STORE = "containerd-snapshotter"

ENGINES = {
    "20.10": Engine("bookworm"),
    "20.10-sysv": Engine("bookworm-sysv"),
    "26.1": Engine("trixie"),
    "28.5": Engine("docker-28"),
    "28.5-containerd": Engine(
        "docker-28", containerd_store=True, daemon_json={"features": {_STORE: True}}
    ),
    "29": Engine("docker-29", containerd_store=True),
    "29-graphdriver": Engine("docker-29", daemon_json={"features": {_STORE: False}}),
}
