"""Proves on the lab that every image crosses the internet once: each node pulls the same one twice,
and the upstream counts."""

import time
from dataclasses import dataclass

from lab.images import PROOF, proof_image_bytes
from lab.internet import counters, reset_counters
from lab.machines import run_on
from lab.plan import NODES, LabNode
from lab.sandbox import Sandbox


@dataclass(frozen=True)
class Pulls:
    """What one node saw: its engine, and seconds for a pull without and again after the image was
    removed."""

    node: LabNode
    engine: str
    first: float
    second: float


@dataclass(frozen=True)
class Proof:
    """All nodes' pulls, and the bytes that left the upstream against the image's own."""

    pulls: list[Pulls]
    upstream_bytes: int
    image_bytes: int


def prove(sandbox: Sandbox) -> Proof:
    """Pull on one node after the other, by the image's plain name. Raises SandboxError if a pull
    fails."""
    reset_counters(sandbox)
    pulls = []
    for node in NODES:
        engine = (
            run_on(sandbox, node, "docker version --format '{{.Server.Version}}'")
            .strip()
            .partition("+")[0]
        )
        pulls.append(Pulls(node, engine, _pull(sandbox, node), _pull(sandbox, node)))
    return Proof(pulls, int(str(counters(sandbox)["bytes"])), proof_image_bytes(sandbox))


def _pull(sandbox: Sandbox, node: LabNode) -> float:
    run_on(sandbox, node, f"docker image rm --force {PROOF} >/dev/null 2>&1 || true")
    started = time.monotonic()
    run_on(sandbox, node, f"docker pull --quiet {PROOF}", timeout=120)
    return time.monotonic() - started
