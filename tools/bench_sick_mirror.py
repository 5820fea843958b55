"""How long docker takes with a mirror that is ill, on both engines of the lab: part of `make bench-mirror`. Prints only.

Docker Hub is played by the lab's hub under its real name, with a certificate of the lab's authority, so that docker goes there by
itself when the mirror does not serve it, as it does everywhere.
"""

import json
import time
from collections.abc import Mapping

from lab import internet, swarm
from lab.images import publish_at_hub, random_image
from lab.internet import SICK_MIRROR
from lab.machines import run_on
from lab.plan import HUB_HOST, INTERNET, NODES, SICK, SICK_HOST, LabNode
from lab.sandbox import Sandbox, SandboxError
from tools.bench_lab import BenchLab
from tools.progress import stage
from tools.table import table

IMAGE = "bench-small:1"
LAYERS = (64 << 10,) * 6
"""Bytes of each layer: so small that 10 KB a second still ends."""
ILL: Mapping[str, str] = {
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
LIMIT = 600
"""Seconds after which a pull is called off."""
ENGINES = NODES[:2]

SET = """
import json, subprocess, sys
path, mirrors = "/etc/docker/daemon.json", sys.argv[1:]
try: text = json.load(open(path))
except FileNotFoundError: text = {}
text["registry-mirrors"] = mirrors
json.dump(text, open(path, "w"))
subprocess.run(["systemctl", "reload", "docker"], check=True)
"""
PULL = f"docker image rm --force {IMAGE} >/dev/null 2>&1; timeout {LIMIT} docker pull --quiet {IMAGE} >/dev/null 2>&1"


def bench(lab: BenchLab) -> None:
    """Measure and print; leaves the nodes of the lab with another mirror."""
    swarm.make_certificate(lab.folder, "sick", f"DNS:{SICK_HOST},IP:{SICK}")
    internet.start_sick_mirror(lab.sandbox, lab.folder)
    publish_at_hub(lab.sandbox, random_image("bench-small", LAYERS), f"library/{IMAGE}")
    rows = [[words or "is well"] for words in ILL.values()]
    engines = []
    for node in ENGINES:
        engine = run_on(lab.sandbox, node, "docker version --format '{{.Server.Version}}'").strip().partition("+")[0]
        engines.append(f"docker {engine}")
        run_on(lab.sandbox, node, f"printf '{INTERNET} {HUB_HOST}\\n{SICK} {SICK_HOST}\\n' >> /etc/hosts")
        _use(lab.sandbox, node)
        _pull(lab.sandbox, node)
        direct = min(_pull(lab.sandbox, node)[0] for _ in range(3))
        right = _identity(lab.sandbox, node)
        for row, mode in zip(rows, ILL, strict=True):
            with stage(f"{engines[-1]}, a mirror that {ILL[mode] or 'is well'}") as running:
                internet.behave(lab.sandbox, "well" if mode == "refused" else mode, SICK_MIRROR)
                _use(lab.sandbox, node, f"https://{SICK_HOST}" + (":444" if mode == "refused" else ""))
                taken, well = _pull(lab.sandbox, node)
                running.note(f"{taken:.1f} s")
            outcome = "" if well else ", NO IMAGE"
            if well and _identity(lab.sandbox, node) != right:
                outcome = ", WRONG BYTES ACCEPTED"
            row.append(f"{max(0.0, taken - direct):+.1f} s{outcome}")
        _use(lab.sandbox, node)
        internet.behave(lab.sandbox, "well", SICK_MIRROR)
    print(f"\n  Extra time of a pull of {len(LAYERS)} layers over one without a mirror\n")
    print(table(("a mirror that", *engines), rows) + "\n")


def _use(sandbox: Sandbox, node: LabNode, *mirrors: str) -> None:
    """Have a node's docker use these mirrors and no others, by hand."""
    run_on(sandbox, node, f'python3 -c "$(cat)" {" ".join(mirrors)}', stdin=SET.encode())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = json.loads(run_on(sandbox, node, "docker info --format '{{json .RegistryConfig.Mirrors}}'")) or []
        if [mirror.rstrip("/") for mirror in found] == list(mirrors):
            return
        time.sleep(0.1)


def _pull(sandbox: Sandbox, node: LabNode) -> tuple[float, bool]:
    begun = time.monotonic()
    try:
        run_on(sandbox, node, PULL, timeout=LIMIT + 60)
    except SandboxError:
        return time.monotonic() - begun, False
    return time.monotonic() - begun, True


def _identity(sandbox: Sandbox, node: LabNode) -> str:
    return run_on(sandbox, node, f"docker image inspect --format '{{{{.Id}}}}' {IMAGE}")
