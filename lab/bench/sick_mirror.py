"""How long docker takes with an unhealthy mirror, on each engine with each store: part of `make
bench-mirror`. Prints only.

Docker Hub is played by the lab's hub under its real name, with a certificate of the lab's
authority, so that docker asks it by itself when the mirror does not serve it, as it does
everywhere. ENGINES="29 28.5-containerd" leaves the others out.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import replace

from components.registry_mirror.cli.console import table
from lab import by_hand, control, internet, swarm
from lab.bench.lab import NAME, BenchLab
from lab.by_hand import HOSTS_TOML, REGISTRY_MIRRORS
from lab.images import publish_at_hub, random_image
from lab.internet import SICK_MIRROR
from lab.machines import run_on
from lab.plan import NODES, SICK, SICK_HOST, LabNode
from lab.sandbox import Sandbox, SandboxError
from tools.progress import stage

IMAGE = "bench-small:1"
LAYERS = (64 << 10,) * 6
"""Bytes of each layer: so small that 10 KB a second still ends."""
FAULTS: Mapping[str, str] = {
    "well": "",
    "refused": "refuses connections",
    "500": "answers 500",
    "503": "answers 503",
    "429": "answers 429",
    "404": "answers 404",
    "truncated": "cuts every body off",
    "wrong": "sends layers with a wrong byte",
    "slow": "sends 10 KB a second",
    "silent": "accepts and never answers",
    "black-hole": "swallows packets",
}
"""How the mirror may be, by the lab's upstream's words but for `refused`."""
LIMIT = 180
"""Seconds after which a pull is called off."""
WAYS = {
    "26.1": REGISTRY_MIRRORS,
    "20.10": REGISTRY_MIRRORS,
    "28.5": REGISTRY_MIRRORS,
    "28.5-containerd": HOSTS_TOML,
    "29-graphdriver": REGISTRY_MIRRORS,
    "29": HOSTS_TOML,
}
"""Engine -> how it is pointed at a mirror, as the agent does it. The last machine of the lab has
those that no other one has."""
ENGINES = os.environ.get("ENGINES", " ".join(WAYS)).split()

PULL = (
    f"docker image rm --force {IMAGE} >/dev/null 2>&1; timeout {LIMIT} docker pull --quiet"
    f" {IMAGE} >/dev/null 2>&1"
)


def bench(lab: BenchLab) -> None:
    """Measure and print; leaves the nodes of the lab with another mirror."""
    swarm.make_certificate(lab.folder, "sick", f"DNS:{SICK_HOST},IP:{SICK}")
    internet.start_sick_mirror(lab.sandbox, lab.folder)
    publish_at_hub(lab.sandbox, random_image("bench-small", LAYERS), f"library/{IMAGE}")
    rows = [[words or "is healthy"] for words in FAULTS.values()]
    for engine in ENGINES:
        node = _machine(engine)
        by_hand.know_docker_hub(lab.sandbox, node)
        run_on(
            lab.sandbox,
            node,
            f"grep -q {SICK_HOST} /etc/hosts || echo '{SICK} {SICK_HOST}' >> /etc/hosts",
        )
        way = WAYS[engine]
        by_hand.use(lab.sandbox, node, way)
        _pull(lab.sandbox, node)
        direct = min(_pull(lab.sandbox, node)[0] for _ in range(3))
        right = _identity(lab.sandbox, node)
        for row, mode in zip(rows, FAULTS, strict=True):
            with stage(f"docker {engine}, a mirror that {FAULTS[mode] or 'is healthy'}") as running:
                internet.behave(lab.sandbox, "well" if mode == "refused" else mode, SICK_MIRROR)
                by_hand.use(
                    lab.sandbox,
                    node,
                    way,
                    f"https://{SICK_HOST}" + (":444" if mode == "refused" else ""),
                )
                taken, pulled = _pull(lab.sandbox, node)
                running.note(f"{taken:.1f} s")
            outcome = "" if pulled else ", NO IMAGE"
            if pulled and _identity(lab.sandbox, node) != right:
                outcome = ", WRONG BYTES ACCEPTED"
            row.append(f"{max(0.0, taken - direct):+.1f} s{outcome}")
        by_hand.use(lab.sandbox, node, way)
        internet.behave(lab.sandbox, "well", SICK_MIRROR)
    print(f"\n  Extra time of a pull of {len(LAYERS)} layers over one without a mirror\n")
    print(table(("a mirror that", *(f"docker {engine}" for engine in ENGINES)), rows) + "\n")


def _machine(engine: str) -> LabNode:
    """A machine of the lab with that engine."""
    usual = [node for node in NODES if node.engine == engine]
    control.exchange(NAME, {} if usual else {NODES[-1].name: engine})
    return usual[0] if usual else replace(NODES[-1], engine=engine)


def _pull(sandbox: Sandbox, node: LabNode) -> tuple[float, bool]:
    begun = time.monotonic()
    try:
        run_on(sandbox, node, PULL, timeout=LIMIT + 60)
    except SandboxError:
        return time.monotonic() - begun, False
    return time.monotonic() - begun, True


def _identity(sandbox: Sandbox, node: LabNode) -> str:
    return run_on(sandbox, node, f"docker image inspect --format '{{{{.Id}}}}' {IMAGE}")
