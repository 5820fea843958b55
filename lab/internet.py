"""The lab's outside world: what plays Docker Hub behind one slow line, and the registry with the swarm's own images.

Owns two registries and the network namespace of the "internet". Docker Hub itself is out of reach in a lab, so a node
that pulls `library/x` by its plain name can only have got it through the mirror.
"""

import json
from pathlib import Path

from lab.machines import BRIDGE
from lab.plan import CHECKOUT, IMAGES, INTERNET, LabFolder
from lab.sandbox import Sandbox

BANDWIDTH = "200mbit"
"""Of the line between the internet and the swarm: fast enough for short tests, slow enough that the first pull shows."""

HUB_PORT = 5001
"""Loopback port of the hub's registry inside the internet's namespace; nodes only reach the counting proxy before it."""

NAMESPACE = "internet"

NETWORK = f"""
[ ! -e /run/internet ] || exit 0
ip netns del {NAMESPACE} 2>/dev/null || true
ip netns add {NAMESPACE}
ip link add hub0 type veth peer name eth0 netns {NAMESPACE}
ip link set hub0 master {BRIDGE} up
ip -n {NAMESPACE} link set lo up
ip -n {NAMESPACE} addr add {INTERNET}/24 dev eth0
ip -n {NAMESPACE} link set eth0 up
ip netns exec {NAMESPACE} tc qdisc add dev eth0 root tbf rate {BANDWIDTH} burst 256k latency 400ms
touch /run/internet
"""

CONFIG = """version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {store}}}
http:
  addr: {address}
{tls}"""


def start_internet(sandbox: Sandbox, folder: LabFolder, registry: Path) -> None:
    """Start both registries unless they run; `registry` is the registry's program."""
    sandbox.run(["sh", "-ec", NETWORK])
    inside = ["ip", "netns", "exec", NAMESPACE]
    tls = f"  tls: {{certificate: {folder.root}/tls/images.crt, key: {folder.root}/tls/images.key}}\n"
    _start_registry(sandbox, folder, registry, "hub", f"127.0.0.1:{HUB_PORT}", inside)
    _start_registry(sandbox, folder, registry, "images", f"{IMAGES}:443", [], tls)
    if not _runs(sandbox, "lab.upstream"):
        sandbox.spawn(
            [*inside, "env", f"PYTHONPATH={CHECKOUT}", "python3", "-m", "lab.upstream", INTERNET, str(HUB_PORT)],
            folder.logs / "upstream.log",
        )


def _start_registry(
    sandbox: Sandbox, folder: LabFolder, registry: Path, name: str, address: str, inside: list[str], tls: str = ""
) -> None:
    config = folder.root / f"{name}-registry.yml"
    if _runs(sandbox, str(config)):
        return
    config.write_text(CONFIG.format(store=folder.root / f"{name}-registry", address=address, tls=tls))
    folder.logs.mkdir(parents=True, exist_ok=True)
    argv = [*inside, "env", "OTEL_TRACES_EXPORTER=none", str(registry), "serve", str(config)]
    sandbox.spawn(argv, folder.logs / f"{name}-registry.log")


def _runs(sandbox: Sandbox, word: str) -> bool:
    return any(word in words for _, words in sandbox.processes())


def counters(sandbox: Sandbox) -> dict[str, object]:
    """What left the upstream since the last reset: `requests`, `bytes`, and both per client address."""
    text = sandbox.run(["python3", "-c", _ASK, f"http://{INTERNET}/_lab/counters", "GET"])
    report: dict[str, object] = json.loads(text)
    return report


def reset_counters(sandbox: Sandbox) -> None:
    """Set the upstream's counters to zero."""
    sandbox.run(["python3", "-c", _ASK, f"http://{INTERNET}/_lab/reset", "POST"])


def behave(sandbox: Sandbox, mode: str) -> None:
    """Have the upstream behave as `lab/upstream.py` knows it: `well`, `silent`, `429`, … `black-hole`: it answers no packet."""
    hole = mode == "black-hole"
    swallow = f"ip -n {NAMESPACE} route {'replace' if hole else 'del'} blackhole {SWARM} 2>/dev/null || true"
    sandbox.run(["sh", "-c", swallow])
    sandbox.run(["python3", "-c", _ASK, f"http://{INTERNET}/_lab/behave/{'well' if hole else mode}", "POST"])


SWARM = "198.18.0.8/29"
"""The addresses of the nodes, and not those of the lab itself, which must still reach the upstream's controls."""


_ASK = "import sys,urllib.request as u;print(u.urlopen(u.Request(sys.argv[1],method=sys.argv[2]),timeout=10).read().decode())"
