"""The parts of a lab: its nodes, names and addresses. Pure data; nothing here touches the
computer.

Every lab lives in namespaces of its own (`sandbox.py`), so the addresses are the same in each and
cannot collide. 198.18.0.0/15 is set aside for benchmarks (RFC 2544), so no real network that a
person works in uses it.
"""

from dataclasses import dataclass
from pathlib import Path

from lab.engines import ENGINES, Engine

CHECKOUT = Path(__file__).resolve().parent.parent
LABS = CHECKOUT / ".lab"
"""Git-ignored: base systems and images that labs share (`.lab/base`, `.lab/images`) and one folder
per lab."""

NETWORK = "198.18.0.0/24"
GATEWAY = "198.18.0.1"
"""The sandbox's own address on the bridge: where a person's commands come from."""
INTERNET = "198.18.0.2"
"""Where the registry that plays Docker Hub answers, behind a bandwidth limit."""
IMAGES = "198.18.0.3"
"""Where `images.lab.test` answers: the place for the swarm's own images, as a company would have
one."""

SICK = "198.18.0.4"
"""Address of a mirror that can be made unhealthy; it runs on request."""
WAY_OUT = "198.18.0.5"
"""Address of a company's proxy; it runs on request."""
NAME_SERVER = "198.18.0.6"
"""Address of a name server that knows the registries of `other_registries.py` (198.18.0.20 and
following); it runs on request."""
MOVING = "198.18.0.10"
"""An address that moves between managers, for tests that run keepalived."""

MIRROR_HOST = "mirror.lab.test"
SECOND_HOST = "second.lab.test"
"""For whoever tries two mirrors."""
HUB_HOST = "registry-1.docker.io"
"""What docker calls Docker Hub. No node of a lab knows this name unless a benchmark lets it."""
SICK_HOST = "sick.lab.test"
IMAGES_HOST = "images.lab.test"
STRANGERS_MIRROR = "https://mirror-of-somebody-else.lab.test"
"""A mirror that node 2's administrator has configured by hand. Nothing listens there, so dockerd
passes it at once."""

TRAEFIK_NETWORK = "traefik_public"


@dataclass(frozen=True)
class LabNode:
    """One machine: `engine` is a name of `engines.ENGINES`, which decides what is on it."""

    name: str
    address: str
    engine: str
    user: str = "root"

    @property
    def has(self) -> Engine:
        """The engine itself."""
        return ENGINES[self.engine]


NODES = (
    LabNode("node1", "198.18.0.11", "26.1"),
    LabNode("node2", "198.18.0.12", "20.10"),
    LabNode("node3", "198.18.0.13", "29", user="ops"),
)
"""A manager that keeps its images as nearly all managers do that were installed before 29, the
oldest engine that there is still much of, and what is installed today."""
MANAGER = NODES[0]

NODE2_DAEMON_JSON = (
    '{\n     "log-driver": "journald",\n   "registry-mirrors" : [ "' + STRANGERS_MIRROR + '" ],\n'
    '     "labels": ["rack=b",   "höhe=2"]\n }\n'
)
"""Odd on purpose: three kinds of indentation, spaces before a colon, a stranger's mirror, letters
outside ASCII."""

BASES = tuple(sorted({node.has.base for node in NODES}))


@dataclass(frozen=True)
class LabFolder:
    """Where the files of one lab are; `name` distinguishes the labs of one checkout (`dev` for
    people, `test` for tests)."""

    root: Path

    @property
    def ssh_key(self) -> Path:
        return self.root / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.root / "ssh" / "known_hosts"

    @property
    def ca(self) -> Path:
        return self.root / "tls" / "ca.crt"

    @property
    def shared_storage(self) -> Path:
        return self.root / "shared"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def node(self, name: str) -> Path:
        return self.root / "nodes" / name


def lab_folder(name: str) -> LabFolder:
    return LabFolder(LABS / name)
