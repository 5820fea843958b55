"""`make bench-fleet`: seconds until N nodes have a new image, on lines of a known width. Prints
numbers, asserts none.

Each node, the mirror and the upstream are network namespaces on one bridge. `tc` gives the
upstream's line, the mirror's card and every node's card their width, narrow enough for the
processors of one computer to be no part of the answer. Varnish and the registry are the real ones
(tests/chain.py), without Traefik and TLS; a node is a client that fetches three layers at a time,
as docker does, and checks every digest. Each cell is an image that nobody has had.

    python3 -m tests.bench_fleet [NODES …]

Environment: INTERNET, MIRROR and NODE are widths in Mbit/s, IMAGE the image's size in MB.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from components.registry_mirror.cli.console import table
from components.registry_mirror.render import registry, varnish
from lab.clients import PROGRAM
from tests.chain import (
    OCI_MANIFEST,
    REGISTRY,
    UPSTREAM,
    VARNISH,
    Chain,
    Long,
    in_network,
    own_network,
)
from tools.progress import StageError, main_guard, stage

NODES = (1, 4, 8, 16)
INTERNET_MBIT = int(os.environ.get("INTERNET", "40"))
MIRROR_MBIT = int(os.environ.get("MIRROR", "200"))
NODE_MBIT = int(os.environ.get("NODE", "100"))
IMAGE_MB = int(os.environ.get("IMAGE", "20"))
SHARES = (40, 30, 20, 10)
"""Of the image's size that each of its layers has, in percent."""
NAME = f"fleet{os.getpid()}"
SOURCES = {
    "direct": f"http://{UPSTREAM}",
    "bare registry": f"http://{REGISTRY}:{registry.PORT}",
    "mirror": f"http://{VARNISH}:{varnish.PORT}",
}
GATE = """
import hashlib, json, sys, threading, time, urllib.request as u
from concurrent.futures import ThreadPoolExecutor
print("ready", flush=True)
sys.stdin.readline()
"""
NARROW = (
    "tc -n {place} qdisc replace dev {device} root tbf rate {rate}mbit burst 256k latency 400ms"
)


def limit(nodes: int) -> float:
    """Seconds that no way of distributing through one mirror can beat: what each line has to carry
    at least."""
    bits = IMAGE_MB * 8
    return max(bits / INTERNET_MBIT, nodes * bits / MIRROR_MBIT, bits / NODE_MBIT)


def bench(words: list[str]) -> None:
    """Measure and print. Raises StageError for what is no number of nodes."""
    if not all(word.isdigit() and 0 < int(word) <= 200 for word in words):
        raise StageError(
            f"{' '.join(words)}: numbers of nodes are wanted", "like 1 4 8 16, at most 200 of them"
        )
    numbers = [int(word) for word in words] or list(NODES)
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-fleet-") as folder,
        own_network(),
        _fleet(max(numbers)),
        FleetChain(Path(folder)) as chain,
    ):
        chain.wait_until_ready()
        for number in numbers:
            cells = [str(number)]
            for source, url in SOURCES.items():
                with stage(f"{number} nodes, {source}") as running:
                    seconds = _pull(chain, number, url, f"library/{source.split()[0]}{number}")
                    crossed = chain.sent() / IMAGE_MB / 1e6
                    running.note(
                        f"{seconds:.1f} s, {crossed:.2f} sizes of the image over the internet"
                    )
                cells += [f"{seconds:.1f} s", f"{crossed:.2f}"]
            rows.append([*cells, f"{limit(number):.1f} s"])
    widths = f"internet {INTERNET_MBIT}, mirror {MIRROR_MBIT}, each node {NODE_MBIT} Mbit/s"
    print(
        f"\n  Seconds until all nodes have a new image of {IMAGE_MB} MB, and its sizes over the"
        f" internet; {widths}\n"
    )
    print(
        table(
            (
                "nodes",
                *(head for source in SOURCES for head in (source, "sizes")),
                "no way is faster",
            ),
            rows,
        )
        + "\n"
    )
    print(f"  {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end.\n")


class FleetChain(Chain):
    """The chain with its upstream behind the line to the internet."""

    def serve(self, address: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        """In the upstream's network."""
        with in_network(f"{NAME}-up"):
            super().serve(address, port, handler)


@contextlib.contextmanager
def _fleet(number: int) -> Iterator[None]:
    """The calling thread's network becomes the mirror's machine, on a bridge with the upstream and
    so many nodes."""
    switch, upstream = f"{NAME}-sw", f"{NAME}-up"
    names = [switch, upstream, *(_node(index) for index in range(number))]

    def ip(*commands: str) -> None:
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True)

    def join(name: str, address: str, width: int) -> None:
        """A machine on the switch: its card is as wide in both directions."""
        port = f"p{name.removeprefix(NAME)}"
        ip(
            f"-n {switch} link add {port} type veth peer name card netns {name}",
            f"-n {switch} link set {port} master br0 up",
        )
        ip(
            f"-n {name} link set lo up",
            f"-n {name} address add {address}/16 dev card",
            f"-n {name} link set card up",
        )
        for place, device in ((switch, port), (name, "card")):
            subprocess.run(
                NARROW.format(place=place, device=device, rate=width).split(), check=True
            )

    try:
        for name in names:
            ip(f"netns add {name}")
        ip(f"-n {switch} link add br0 type bridge", f"-n {switch} link set br0 up")
        # The far end of the chain's own network is the cable to the switch.
        ip(
            f"address del {UPSTREAM}/24 dev chain",
            f"link set far netns {switch}",
            f"-n {switch} link set far master br0 up",
        )
        ip("route add 10.77.0.0/16 dev chain")
        subprocess.run(
            NARROW.replace("-n {place} ", "").format(device="chain", rate=MIRROR_MBIT).split(),
            check=True,
        )
        subprocess.run(
            NARROW.format(place=switch, device="far", rate=MIRROR_MBIT).split(), check=True
        )
        join(upstream, UPSTREAM, INTERNET_MBIT)
        for index in range(number):
            join(_node(index), f"10.77.{1 + index // 250}.{1 + index % 250}", NODE_MBIT)
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def _node(index: int) -> str:
    return f"{NAME}-{index}"


def _pull(chain: Chain, number: int, url: str, name: str) -> float:
    """Seconds until the last of so many nodes has a new image; raises StageError if one does not
    get it whole."""
    layers = [
        Long(IMAGE_MB * 10_000 * share, int.from_bytes(os.urandom(4), "big")) for share in SHARES
    ]
    described = [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": chain.content.blob(name, layer),
            "size": len(layer),
        }
        for layer in layers
    ]
    config = json.dumps({"architecture": "amd64", "os": "linux", "name": name}).encode()
    what = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": chain.content.blob(name, config),
        "size": len(config),
    }
    chain.content.manifest(name, OCI_MANIFEST, {"config": what, "layers": described}, "latest")
    argv = ["python3", "-c", GATE + PROGRAM, url, f"{name}:latest", "1"]
    nodes = [
        subprocess.Popen(
            ["ip", "netns", "exec", _node(index), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(number)
    ]
    for node in nodes:
        assert node.stdout is not None
        node.stdout.readline()
    chain.reset()
    found: list[dict[str, float]] = []

    def wait(node: "subprocess.Popen[str]") -> None:
        output, _ = node.communicate("go\n")
        found.append(json.loads(output or '{"whole": 0, "seconds": 0}'))

    threads = [threading.Thread(target=wait, args=[node]) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if sum(one["whole"] for one in found) != number:
        raise StageError(
            f"{name}: not every node got the whole image",
            f"ask for it by hand: {url}/v2/{name}/manifests/latest",
        )
    return max(one["seconds"] for one in found)


if __name__ == "__main__":
    sys.exit(main_guard(lambda: bench(sys.argv[1:])))
