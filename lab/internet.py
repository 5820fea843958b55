"""The lab's outside world: what plays Docker Hub behind one slow line, and the registry with the
swarm's own images.

Owns two registries and the network namespace of the "internet"; and, on request, the other
registries on it (`other_registries.py`), and a place with a mirror that can be made unhealthy.
Docker Hub itself is out of reach in a lab, so a node that pulls
`library/x` by its plain name can only have got it through the mirror.
"""

import json
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import other_registries
from lab.machines import BRIDGE, run_on
from lab.plan import (
    CHECKOUT,
    HUB_HOST,
    IMAGES,
    INTERNET,
    NAME_SERVER,
    SICK,
    WAY_OUT,
    LabFolder,
    LabNode,
)
from lab.sandbox import Sandbox

BANDWIDTH = "200mbit"
"""Of the line between the internet and the swarm: fast enough for short tests, slow enough that the
first pull shows."""

HUB_PORT = 5001
"""Loopback port of the hub's registry inside the internet's namespace; nodes only reach the
counting proxy before it."""

NAMESPACE = "internet"

RESOLVER_SECONDS = 6
"""A program in Go looks for another resolv.conf with a lookup, and 5 s after the last time at the
earliest (go net dnsclient_unix.go tryUpdate); dockerd 20.10 goes by the old one for one lookup
more."""


@dataclass(frozen=True)
class Place:
    """A network namespace on the lab's bridge in which one `lab/upstream.py` serves."""

    namespace: str
    address: str
    interface: str


HUB = Place(NAMESPACE, INTERNET, "hub0")
"""Plays Docker Hub."""
SICK_MIRROR = Place("sick", SICK, "sick0")
"""A mirror of somebody's that serves what the hub has, unless it is made unhealthy."""
COMPANY_PROXY = Place("way-out", WAY_OUT, "wayout0")
"""The proxy of a company, which alone leads out of it while the hub is a black hole to the
nodes."""

NETWORK = """
[ ! -e /run/{place.namespace} ] || exit 0
ip netns del {place.namespace} 2>/dev/null || true
ip netns add {place.namespace}
ip link add {place.interface} type veth peer name eth0 netns {place.namespace}
ip link set {place.interface} master {bridge} up
ip -n {place.namespace} link set lo up
ip -n {place.namespace} addr add {place.address}/24 dev eth0
ip -n {place.namespace} link set eth0 up
touch /run/{place.namespace}
"""
LINE = (
    "tc -n {place.namespace} qdisc replace dev eth0 root tbf rate {rate} burst 256k latency 400ms"
)

CONFIG = """version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {store}}}
http:
  addr: {address}
{tls}"""


def start_internet(sandbox: Sandbox, folder: LabFolder, registry: Path) -> None:
    """Start both registries unless they run; `registry` is the registry's program."""
    _make_place(sandbox, HUB)
    limit_line(sandbox, BANDWIDTH)
    inside = ["ip", "netns", "exec", NAMESPACE]
    tls = (
        f"  tls: {{certificate: {folder.root}/tls/images.crt, key: {folder.root}/tls/images.key}}\n"
    )
    _start_registry(sandbox, folder, registry, "hub", f"127.0.0.1:{HUB_PORT}", inside=inside)
    _start_registry(sandbox, folder, registry, "images", f"{IMAGES}:443", tls=tls)
    _serve(sandbox, folder, HUB, f"127.0.0.1:{HUB_PORT}", "hub")


def at(name: str) -> Place:
    """Where the registry of this name is (`other_registries.REGISTRIES`); Docker Hub's place for
    its own name."""
    if name == HUB_HOST:
        return HUB
    return Place(NAMESPACE, other_registries.named(name).address, HUB.interface)


def start_other_registries(sandbox: Sandbox, folder: LabFolder) -> None:
    """Start the registries besides Docker Hub, and the name server, with the certificate
    `tls/registries.crt`, unless they run. They share the line of the hub."""
    if _runs(sandbox, "lab.other_registries"):
        return
    addresses = [NAME_SERVER, *(item.address for item in other_registries.REGISTRIES)]
    add = [f"ip -n {NAMESPACE} addr replace {item}/24 dev eth0" for item in addresses]
    sandbox.run(["sh", "-ec", "\n".join(add)])
    tls = folder.ca.parent
    inside = ["ip", "netns", "exec", NAMESPACE, "env", f"PYTHONPATH={CHECKOUT}"]
    words = [NAME_SERVER, f"127.0.0.1:{HUB_PORT}", f"{tls}/registries.crt", f"{tls}/registries.key"]
    argv = [*inside, "python3", "-m", "lab.other_registries", *words]
    sandbox.spawn(argv, folder.logs / "other-registries.log")


def know_other_registries(sandbox: Sandbox, nodes: Iterable[LabNode]) -> None:
    """Have nodes, and what runs in their containers, find the registries besides Docker Hub under
    their own names, as they do everywhere."""
    line, file = f"nameserver {NAME_SERVER}", "/etc/resolv.conf"
    script = f"grep -qx '{line}' {file} || {{ echo '{line}' > {file}; echo changed; }}"
    changed = [node for node in nodes if run_on(sandbox, node, script)]
    ask = "docker pull --quiet registry.k8s.io/nothing:1 >/dev/null 2>&1 || true"
    for _ in range(2 if changed else 0):
        for node in changed:
            run_on(sandbox, node, ask)
        time.sleep(RESOLVER_SECONDS)


def start_sick_mirror(sandbox: Sandbox, folder: LabFolder) -> None:
    """Start the mirror that can be made unhealthy, with the certificate `tls/sick.crt`, unless it
    runs."""
    _make_place(sandbox, SICK_MIRROR)
    _serve(sandbox, folder, SICK_MIRROR, f"{INTERNET}:80", "sick")


def start_company_proxy(sandbox: Sandbox, folder: LabFolder) -> None:
    """Start the proxy that leads to the hub by its own name, unless it runs (`lab/way_out.py`)."""
    _make_place(sandbox, COMPANY_PROXY)
    if not _runs(sandbox, "lab.way_out"):
        words = ["python3", "-m", "lab.way_out", WAY_OUT, HUB_HOST, INTERNET]
        inside = ["ip", "netns", "exec", COMPANY_PROXY.namespace, "env", f"PYTHONPATH={CHECKOUT}"]
        sandbox.spawn([*inside, *words], folder.logs / f"{COMPANY_PROXY.namespace}.log")


def way_out_counters(sandbox: Sandbox) -> dict[str, int]:
    """How often the company's proxy was asked: by `host:port` where it led there, by the status
    where it refused."""
    report: dict[str, int] = json.loads(_control(sandbox, COMPANY_PROXY, "counters", "GET"))
    return report


def reset_way_out_counters(sandbox: Sandbox) -> None:
    """Set them to zero."""
    _control(sandbox, COMPANY_PROXY, "reset")


def limit_line(sandbox: Sandbox, rate: str) -> None:
    """How fast the line to the internet is, like `100mbit`."""
    sandbox.run(["sh", "-ec", LINE.format(place=HUB, rate=rate)])


def lengthen_line(sandbox: Sandbox, milliseconds: int) -> None:
    """How long each connection to the upstream, and each request, takes on the way."""
    _control(sandbox, HUB, f"delay/{milliseconds}")


def _make_place(sandbox: Sandbox, place: Place) -> None:
    sandbox.run(["sh", "-ec", NETWORK.format(place=place, bridge=BRIDGE)])


def _serve(
    sandbox: Sandbox, folder: LabFolder, place: Place, registry: str, certificate: str
) -> None:
    if _runs(sandbox, f"lab.upstream {place.address}"):
        return
    tls = folder.ca.parent
    sandbox.spawn(
        [
            "ip",
            "netns",
            "exec",
            place.namespace,
            "env",
            f"PYTHONPATH={CHECKOUT}",
            "python3",
            "-m",
            "lab.upstream",
            place.address,
            registry,
            f"{tls}/{certificate}.crt",
            f"{tls}/{certificate}.key",
        ],
        folder.logs / f"{place.namespace}-upstream.log",
    )


def _start_registry(
    sandbox: Sandbox,
    folder: LabFolder,
    registry: Path,
    name: str,
    address: str,
    *,
    inside: Sequence[str] = (),
    tls: str = "",
) -> None:
    config = folder.root / f"{name}-registry.yml"
    if _runs(sandbox, str(config)):
        return
    config.write_text(
        CONFIG.format(store=folder.root / f"{name}-registry", address=address, tls=tls)
    )
    folder.logs.mkdir(parents=True, exist_ok=True)
    argv = [*inside, "env", "OTEL_TRACES_EXPORTER=none", str(registry), "serve", str(config)]
    sandbox.spawn(argv, folder.logs / f"{name}-registry.log")


def _runs(sandbox: Sandbox, words: str) -> bool:
    return any(words in " ".join(found) for _, found in sandbox.processes())


def counters(sandbox: Sandbox, place: Place = HUB) -> dict[str, object]:
    """What left the upstream since the last reset: `requests`, `bytes`, and both per client
    address (`clients`)."""
    report: dict[str, object] = json.loads(_control(sandbox, place, "counters", "GET"))
    return report


def headers(sandbox: Sandbox, place: Place = HUB) -> list[dict[str, Any]]:
    """What a place, its token server included, was asked for since the last reset: `method`,
    `path`, `headers`, and `basic`, the account in clear text."""
    asked: list[dict[str, Any]] = json.loads(_control(sandbox, place, "headers", "GET"))
    return asked


def requests(sandbox: Sandbox, place: Place = HUB) -> list[tuple[str, str, str]]:
    """Client, method and path of what a place was asked for since the last reset, oldest first."""
    return [
        (client, method, path)
        for client, method, path in json.loads(_control(sandbox, place, "requests", "GET"))
    ]


def reset_counters(sandbox: Sandbox, place: Place = HUB) -> None:
    """Set a place's counters to zero, and forget what it was asked for."""
    _control(sandbox, place, "reset")


def behave(sandbox: Sandbox, mode: str, place: Place = HUB) -> None:
    """Have a place behave as `lab/upstream.py` knows it: `well`, `silent`, `429`, … `black-hole`:
    it answers no packet."""
    hole = mode == "black-hole"
    rule = f"from {place.address} to {SWARM} blackhole"
    sandbox.run(["sh", "-c", f"ip -n {place.namespace} rule del {rule} 2>/dev/null || true"])
    if hole:
        sandbox.run(["sh", "-c", f"ip -n {place.namespace} rule add {rule}"])
    _control(sandbox, place, f"behave/{'well' if hole else mode}")


def forget_tag(folder: LabFolder, reference: str) -> None:
    """Delete a tag at the hub, like `library/x:1`, as its owner would; what it named stays
    there."""
    repository, _, tag = reference.rpartition(":")
    shutil.rmtree(
        folder.root
        / "hub-registry/docker/registry/v2/repositories"
        / repository
        / "_manifests/tags"
        / tag
    )


def _control(sandbox: Sandbox, place: Place, path: str, method: str = "POST") -> str:
    return sandbox.run(["python3", "-c", _ASK, f"http://{place.address}/_lab/{path}", method])


SWARM = "198.18.0.8/29"
"""The addresses of the nodes, and not those of the lab itself, which must still reach the
upstream's controls."""


_ASK = (
    "import sys,urllib.request as"
    " u;print(u.urlopen(u.Request(sys.argv[1],method=sys.argv[2]),timeout=10).read().decode())"
)
