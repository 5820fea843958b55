"""The table `large` of `make bench-mirror`: images with layers of hundreds of megabytes, as
GitLab's and CUDA's are.

Random bytes, made on the spot and written where the hub keeps its own. Owns the images' shapes and
what is measured with them.

Environment: LARGE names shapes, each with Varnish's `coalesceDisk` and how many clients there are
at once, like `gitlab:4096:1:3 cuda:8192:8`; LINE is the width of the line to the internet, ROUNDS
how often the throughput is measured.
"""

import functools
import hashlib
import json
import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.registry_mirror.cli.console import table
from lab import deployed
from lab.bench import nginx
from lab.bench.lab import BenchLab
from lab.clients import fetch, first_bytes, pour
from lab.internet import BANDWIDTH, counters, limit_line, reset_counters
from lab.machines import run_on
from lab.plan import INTERNET, MIRROR_HOST, NODES
from lab.sandbox import Sandbox
from tools.progress import stage

MB = 1_000_000
SHAPES = {"gitlab": [30, 5, 1200, *[1] * 20], "cuda": [300, 400, 500, 600, 700, 800, 900]}
"""MB of each layer."""
WHICH = os.environ.get("LARGE", "gitlab:4096:1:3:8:32 cuda:4096:1:3:8:32 cuda:8192:8").split()
LINE = os.environ.get("LINE", "1gbit")
"""Of the internet: so wide that these layers arrive in minutes."""
RUNS = int(os.environ.get("ROUNDS", "5"))
MIRROR = f"https://{MIRROR_HOST}"
AT_ONCE = 8
"""Clients of the warm layer and of the first bytes."""
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
"""  # noqa: E501
"""MiB of the cache, the same from each node, because it is on shared storage; bytes in Varnish's
store, where its task is."""


def bench(lab: BenchLab) -> None:
    """Measure and print."""
    limit_line(lab.sandbox, LINE)
    for words in WHICH:
        name, disk, *numbers = words.split(":")
        _bench(lab, name, int(disk), [int(number) for number in numbers])
    limit_line(lab.sandbox, BANDWIDTH)
    lab.configure()
    lab.up()
    reset_counters(lab.sandbox)


def _bench(lab: BenchLab, name: str, disk: int, numbers: Sequence[int]) -> None:
    sandbox, shape = lab.sandbox, SHAPES[name]
    image, size = f"library/bench-{name}:1", sum(shape) * MB
    lab.configure(coalesceDisk=disk)
    with stage(f"{name}, coalesceDisk {disk}: an image of {size / 1e9:.2f} GB"):
        lab.up()
        largest = _published(lab.folder.root / "hub-registry", name)
    with stage(f"{name}: from the upstream itself"):
        direct = fetch(sandbox, NODE, 1, f"http://{INTERNET}", image, seconds=SECONDS).seconds
    rows = []
    for number in numbers:
        deployed.empty(sandbox)
        before = deployed.tasks(sandbox)
        with stage(f"{name}: {number} clients at once"):
            got = fetch(sandbox, NODE, number, image=image, seconds=SECONDS)
        rows.append(
            [
                f"{number} at once",
                *_row(
                    sandbox,
                    size,
                    got.seconds,
                    direct,
                    _failures(sandbox, number - got.whole, before),
                ),
            ]
        )
    deployed.empty(sandbox)
    before = deployed.tasks(sandbox)
    with stage(f"{name}: one before the others"):
        fetch(sandbox, NODE, 1, image=image, seconds=SECONDS)
        got = fetch(sandbox, NODE, 2, image=image, seconds=SECONDS)
    rows.append(
        [
            "2 after another one",
            *_row(sandbox, size, got.seconds, direct, _failures(sandbox, 2 - got.whole, before)),
        ]
    )
    with stage(f"{name}: bytes a second of the largest layer, beside nginx"):
        poured = _pour(sandbox, f"library/bench-{name}", largest)
    deployed.empty(sandbox)
    with stage(f"{name}: first bytes"):
        first = first_bytes(
            sandbox, NODE, f"{MIRROR}/v2/library/bench-{name}/blobs/{largest}", AT_ONCE
        )
    head = (
        "clients",
        "sizes over the internet",
        "seconds",
        "× the upstream itself",
        *_heads(sandbox, disk),
    )
    print(
        f"\n  {name}: {len(shape)} layers, {size / 1e9:.2f} GB; the upstream itself {direct:.1f} s;"
        f" line {LINE}\n"
    )
    print(table(head, rows))
    print(
        f"\n  The largest layer, warm, to {AT_ONCE} clients, over the same Traefik; {RUNS} runs\n"
    )
    print(table(("from", "median", "slowest", "× nginx"), poured))
    print(
        f"\n  First byte of the largest layer, cold, {AT_ONCE} clients at once: after"
        f" {first.leader * 1000:.0f} ms;",
        end=" ",
    )
    print(
        f"the last of the others {first.followers * 1000:.0f} ms later; a second later for another"
        " one",
        end=" ",
    )
    print(f"after {first.late * 1000:.0f} ms\n  Load {os.getloadavg()[0]:.1f}\n", flush=True)


def _failures(sandbox: Sandbox, clients: int, before: set[str]) -> str:
    """What went wrong, to be read in the table; `before` are the mirror's containers at the row's
    start."""
    ended = before - deployed.tasks(sandbox)
    return (f", {clients} CLIENTS FAILED" if clients else "") + (
        f", ENDED: {', '.join(sorted(ended))}" if ended else ""
    )


def _pour(sandbox: Sandbox, repository: str, digest: str) -> list[list[str]]:
    """Rows of a table: how fast nginx and the mirror give one layer that both have."""
    taken: dict[str, list[float]] = {"nginx": [], "mirror": [], "mirror, nothing in Varnish": []}
    with nginx.behind_traefik(sandbox, digest) as address:
        for _ in range(RUNS):
            for name, found in taken.items():
                if name.endswith("Varnish"):
                    deployed.kill(sandbox)
                url = address if name == "nginx" else MIRROR
                found.append(
                    pour(
                        sandbox, NODE, url, [digest], number=AT_ONCE, times=1, repository=repository
                    )
                )
    by_nginx = statistics.median(taken["nginx"])
    return [
        [
            name,
            *(f"{speed / 1e6:.0f} MB/s" for speed in (statistics.median(found), min(found))),
            f"{statistics.median(found) / by_nginx:.2f}",
        ]
        for name, found in taken.items()
    ]


def _heads(sandbox: Sandbox, disk: int) -> Iterator[str]:
    limits = deployed.limits(sandbox)
    for part, name in PARTS.items():
        yield f"{name} MiB" + (f" of {limits[part]}" if part in limits else "")
    yield "cache MiB"
    yield f"Varnish's disk MiB of {disk}"


def _row(sandbox: Sandbox, size: int, seconds: float, direct: float, failures: str) -> list[str]:
    crossed = int(str(counters(sandbox)["bytes"])) / size
    memory = {name: found[0] for name, found in deployed.held(sandbox).items()}
    disks = [[int(line) for line in run_on(sandbox, node, ON_DISK).splitlines()] for node in NODES]
    cache = max(found[0] for found in disks)
    front = max(found[1] for found in disks if len(found) > 1) >> 20
    parts = [
        f"{max((mib for name, mib in memory.items() if name == part), default=0):.0f}"
        for part in PARTS
    ]
    return [
        f"{crossed:.2f}{failures}",
        f"{seconds:.1f}",
        f"{seconds / direct:.2f}",
        *parts,
        str(cache),
        str(front),
    ]


@functools.cache
def _published(store: Path, name: str) -> str:
    return publish(store, f"library/bench-{name}", SHAPES[name])


def publish(store: Path, name: str, shape: Sequence[int]) -> str:
    """Write an image under the tag 1 where a registry keeps its own (distribution
    registry/storage/paths.go).

    Returns the digest of its largest layer.
    """
    root = store / "docker/registry/v2"
    folder = root / "repositories" / name
    layers = []
    for size in shape:
        digest = _random_blob(root, size * MB)
        _link(folder / "_layers/sha256" / digest, digest)
        layers.append({"mediaType": LAYER, "digest": f"sha256:{digest}", "size": size * MB})
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/none"]}, "of": name}
    ).encode()
    config_digest = _blob(root, config)
    _link(folder / "_layers/sha256" / config_digest, config_digest)
    what = {"mediaType": CONFIG, "digest": f"sha256:{config_digest}", "size": len(config)}
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": what, "layers": layers}
    ).encode()
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
