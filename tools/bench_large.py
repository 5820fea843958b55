"""The table `large` of `make bench-mirror`: images with layers of hundreds of megabytes, as GitLab's and CUDA's are.

Random bytes, made on the spot and written where the hub keeps its own. Owns the images' shapes and what is measured with them.

Environment: CLIENTS_LARGE is how many clients there are at once, for each of the two shapes, like `1,3,8,32 1,3,8`.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab import deployed
from lab.clients import fetch, first_bytes
from lab.internet import BANDWIDTH, counters, limit_line, reset_counters
from lab.machines import run_on
from lab.plan import INTERNET, MIRROR_HOST, NODES
from lab.sandbox import Sandbox
from tools.bench_lab import BenchLab
from tools.progress import stage
from tools.table import table

MB = 1_000_000
SHAPES = {"gitlab": [30, 5, 1200, *[1] * 20], "cuda": [300, 400, 500, 600, 700, 800, 900]}
"""MB of each layer."""
CLIENTS = [[int(number) for number in word.split(",")] for word in os.environ.get("CLIENTS_LARGE", "1,3,8,32 1,3,8").split()]
LINE = "1gbit"
"""Of the internet: so wide that these layers arrive in minutes."""
NODE = NODES[1]
SECONDS = 1500
PARTS = {"registry-mirror": "registry", "registry-mirror-front": "Varnish", "traefik": "Traefik"}
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"

ON_DISK = f"""
du -sm {deployed.CACHE}/docker 2>/dev/null | cut -f 1
front=$(docker ps --quiet --filter name={deployed.SERVICE}-front)
[ -z "$front" ] || docker exec $front varnishstat -n /tmp/varnish -1 -f SMF.disk.g_bytes | tr -s ' ' | cut -d ' ' -f 2
"""
"""MiB of the cache, the same from each node, because it is on shared storage; bytes in Varnish's store, where its task is."""


def bench(lab: BenchLab) -> None:
    """Measure and print."""
    sandbox = lab.sandbox
    limit_line(sandbox, LINE)
    for (name, shape), numbers in zip(SHAPES.items(), CLIENTS, strict=True):
        image, size = f"library/bench-{name}:1", sum(shape) * MB
        with stage(f"{name}: an image of {size / 1e9:.2f} GB"):
            largest = publish(lab.folder.root / "hub-registry", f"library/bench-{name}", shape)
        with stage(f"{name}: from the upstream itself"):
            direct = fetch(sandbox, NODE, 1, f"http://{INTERNET}", image, seconds=SECONDS).seconds
        rows = []
        for number in numbers:
            deployed.empty(sandbox)
            with stage(f"{name}: {number} clients at once"):
                got = fetch(sandbox, NODE, number, image=image, seconds=SECONDS)
            rows.append([f"{number} at once", *_row(sandbox, size, got.seconds, direct, number - got.whole)])
        deployed.empty(sandbox)
        with stage(f"{name}: one before the others"):
            fetch(sandbox, NODE, 1, image=image, seconds=SECONDS)
            got = fetch(sandbox, NODE, 2, image=image, seconds=SECONDS)
        rows.append(["2 after another one", *_row(sandbox, size, got.seconds, direct, 2 - got.whole)])
        deployed.empty(sandbox)
        with stage(f"{name}: first bytes"):
            leader, follower = first_bytes(sandbox, NODE, f"https://{MIRROR_HOST}/v2/library/bench-{name}/blobs/{largest}")
        head = ("clients", "sizes over the internet", "seconds", "× the upstream itself", *_heads())
        print(f"\n  {name}: {len(shape)} layers, {size / 1e9:.2f} GB; the upstream itself {direct:.1f} s; line {LINE}\n")
        print(table(head, rows))
        print(
            f"\n  First byte of the largest layer, cold: after {leader * 1000:.0f} ms, a second later for another one after ",
            end="",
        )
        print(f"{follower * 1000:.0f} ms; load {os.getloadavg()[0]:.1f}\n", flush=True)
    limit_line(sandbox, BANDWIDTH)
    reset_counters(sandbox)


def _heads() -> Iterator[str]:
    for name in PARTS.values():
        yield f"{name} MiB"
    yield "cache MiB"
    yield "Varnish's disk MiB"


def _row(sandbox: Sandbox, size: int, seconds: float, direct: float, failed: int) -> list[str]:
    crossed = int(str(counters(sandbox)["bytes"])) / size
    memory = {name: found[0] for name, found in deployed.held(sandbox).items()}
    disks = [[int(line) for line in run_on(sandbox, node, ON_DISK).splitlines()] for node in NODES]
    cache = max(found[0] for found in disks)
    front = max(found[1] for found in disks if len(found) > 1) >> 20
    sizes = f"{crossed:.2f}" + (f", {failed} CLIENTS FAILED" if failed else "")
    parts = [f"{max((mib for name, mib in memory.items() if name == part), default=0):.0f}" for part in PARTS]
    return [sizes, f"{seconds:.1f}", f"{seconds / direct:.2f}", *parts, str(cache), str(front)]


def publish(store: Path, name: str, shape: Sequence[int]) -> str:
    """Write an image under the tag 1 where a registry keeps its own (distribution registry/storage/paths.go).

    Returns the digest of its largest layer.
    """
    root = store / "docker/registry/v2"
    folder = root / "repositories" / name
    layers = []
    for size in shape:
        digest = _random_blob(root, size * MB)
        _link(folder / "_layers/sha256" / digest, digest)
        layers.append({"mediaType": LAYER, "digest": f"sha256:{digest}", "size": size * MB})
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/none"]}, "of": name}).encode()
    config_digest = _blob(root, config)
    _link(folder / "_layers/sha256" / config_digest, config_digest)
    what = {"mediaType": CONFIG, "digest": f"sha256:{config_digest}", "size": len(config)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": what, "layers": layers}).encode()
    digest = _blob(root, manifest)
    _link(folder / "_manifests/revisions/sha256" / digest, digest)
    _link(folder / "_manifests/tags/1/current", digest)
    _link(folder / "_manifests/tags/1/index/sha256" / digest, digest)
    return str(layers[max(range(len(shape)), key=lambda index: shape[index])]["digest"])


def _random_blob(root: Path, size: int) -> str:
    found, fresh = hashlib.sha256(), root / "being-made"
    fresh.parent.mkdir(parents=True, exist_ok=True)
    with fresh.open("wb") as out:
        for start in range(0, size, MB):
            piece = os.urandom(min(MB, size - start))
            found.update(piece)
            out.write(piece)
    place = _place(root, found.hexdigest())
    fresh.rename(place)
    return found.hexdigest()


def _blob(root: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    _place(root, digest).write_bytes(content)
    return digest


def _place(root: Path, digest: str) -> Path:
    place = root / "blobs/sha256" / digest[:2] / digest / "data"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _link(folder: Path, digest: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "link").write_text(f"sha256:{digest}")
