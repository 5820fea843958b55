"""`make bench-cache`: whether a cache keeps its limit under load, what it costs in hits beside an
ideal cache of the same size, what the notes about each pull cost, and what warming costs and saves.
Prints numbers, asserts none.

Real Varnish and registry (tests/chain.py), no lab. 1,000 images, pulled by Zipf's law, with a limit
at a fifth of the whole.

    python -m tests.bench_cache [load] [notes] [walk] [warm]
"""

import hashlib
import os
import platform
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from components.registry_mirror.cli.console import table
from components.registry_mirror.node_agent import probe
from components.registry_mirror.node_agent.verb_request import WarmImage, WarmRequest
from components.registry_mirror.node_agent.warm import Reader
from components.registry_mirror.render import registry
from tests import cache_load
from tests.chain import (
    DOCKERS_ACCEPT,
    REGISTRY,
    Chain,
    Upstream,
    own_network,
    random_bytes,
    to_varnish,
)
from tests.container_root import ContainerRoot
from tests.registry_container import BUSYBOX
from tools.toolchain import BIN

IMAGES = int(os.environ.get("IMAGES", "1000"))
PULLS = int(os.environ.get("PULLS", "2400"))
PULLS_PER_SECOND = float(os.environ.get("PULLS_PER_SECOND", "5"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
LAYERS = 100_000
WARM_IMAGES = 40
UPSTREAM_RATE = 12_500_000
"""Bytes a second for each connection: 100 Mbit/s."""
BANDWIDTH = 5_000_000
"""Bytes a second that the bounded run of `warm` may take."""


def load() -> None:
    """The limit under load."""
    with tempfile.TemporaryDirectory() as folder, own_network():
        report = loaded(Path(folder), IMAGES, PULLS, PULLS_PER_SECOND)
    rows = [
        ("images", f"{report.images}, {report.whole / 1e6:.0f} MB"),
        ("limit", f"{report.limit / 1e6:.0f} MB"),
        ("pulls", f"{report.pulls} in {report.seconds:.0f} s"),
        ("the most that was cached", f"{report.peak / 1e6:.1f} MB, {report.over:+.1f} %"),
        ("evicted", f"{report.evicted_layers} layers, {report.evicted / 1e6:.0f} MB"),
        ("hit rate", f"{report.hit_rate:.1f} %"),
        ("hit rate of an ideal LRU", f"{report.ideal_hit_rate:.1f} %"),
        ("wrong bodies", str(len(report.wrong))),
        ("bodies that broke off", str(len(report.cut))),
        ("refused", str(len(report.failed))),
    ]
    print("\n  A cache with a limit, under load\n")
    print(table(("what", "measured"), rows) + "\n")


def loaded(
    folder: Path,
    number: int,
    pulls: int,
    pulls_per_second: float,
    program: Path = BIN / "registry",
) -> cache_load.Report:
    """A run with a limit at a fifth of all images."""
    words = [f"IDLE={cache_load.IDLE_SECONDS}", f"ROUND={registry.ROUND_SECONDS}"]
    chain = Chain(
        folder, registry_words=words, registry_program=program, edit=cache_load.quick_varnish
    )
    images = cache_load.publish(chain, number)
    limit = cache_load.whole_size(images) // 5
    words.append(f"LIMIT={limit}")
    with chain:
        chain.wait_until_ready()
        sequence = cache_load.zipf(number, pulls)
        return cache_load.run(chain, images, sequence, limit, pulls_per_second=pulls_per_second)


def notes() -> None:
    """Layers a second out of a registry with and without the notes, at the registry itself."""
    taken: dict[str, list[float]] = {"without": [], "with": []}
    for number in range(2 * ROUNDS):
        name = ("without", "with")[number % 2]
        with tempfile.TemporaryDirectory() as folder, own_network():
            taken[name].append(_requests_a_second(Path(folder), with_usage=name == "with"))
    rows = [
        (name, f"{statistics.median(found):.0f}/s", f"{min(found):.0f} to {max(found):.0f}")
        for name, found in taken.items()
    ]
    print(f"\n  Warm layers of 64 KiB from the registry alone, 4 clients; {ROUNDS} runs\n")
    print(table(("notes", "median", "range"), rows) + "\n")


def _requests_a_second(folder: Path, *, with_usage: bool) -> float:
    number = 2000
    with Chain(folder, registry_words=[], with_usage=with_usage) as chain:
        chain.wait_until_ready()
        _, blobs = chain.content.image("library/warm", [random_bytes(65536)])
        path = f"/v2/library/warm/blobs/{blobs[0]}"
        assert chain.get(path).digest == blobs[0]
        begun = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(
                lambda _: chain.get(path, address=REGISTRY, port=registry.PORT).digest,
                range(number),
            )
            assert set(answers) == {blobs[0]}
        return number / (time.monotonic() - begun)


def walk() -> None:
    """Seconds and memory of one look at a cache of 100,000 layers, on this computer's disk."""
    with tempfile.TemporaryDirectory() as folder:
        root = ContainerRoot(Path(folder) / "root", BUSYBOX)
        layers = root.folder / "var/lib/registry/docker/registry/v2/blobs/sha256"
        for number in range(LAYERS):
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            data = layers / digest[:2] / digest / "data"
            data.parent.mkdir(parents=True)
            with data.open("wb") as file:
                file.truncate((1 + number % 40) << 20)
            old = time.time() - 7200 - number * 60
            os.utime(data, (old, old))
            os.utime(data.parent, (old, old))
        functions = registry.script("evict.sh").partition("\ntotal=0 walked=0")[0]
        (root.folder / "own/evict").write_text(functions)
        (root.folder / "own/measure").write_text(MEASURE)
        for wanted, what in ((0, "a look"), (40 << 30, "a look for 43 GB to evict")):
            running = root.start("/bin/sh", "/own/measure", str(wanted))
            output, _ = running.communicate(timeout=600)
            seconds, lines, kilobytes = output.split()
            print(
                f"  {what} at {LAYERS:,} layers: {float(seconds):.1f} s, {lines} lines,"
                f" at most {int(kilobytes) / 1024:.1f} MiB in a process"
            )


MEASURE = """
cd /var/lib/registry
wanted=$1
set -- /tmp
. /own/evict
begun=$(cut -d ' ' -f 1 /proc/uptime)
walk "$wanted" > /tmp/list &
while kill -0 $! 2> /dev/null; do
  grep -h VmHWM /proc/[0-9]*/status 2> /dev/null
done | tr -s '\t ' ' ' | cut -d ' ' -f 2 | sort -n | tail -n 1 > /tmp/most
awk -v a=$begun -v b=$(cut -d ' ' -f 1 /proc/uptime) 'BEGIN { print b - a }'
wc -l < /tmp/list
cat /tmp/most
"""


def warm() -> None:
    """What the verb `warm` does at the mirror, and how long a pull takes before and after it, with
    an upstream at the rate of an ordinary line."""
    with tempfile.TemporaryDirectory() as folder, own_network():
        first = _Pulled(Path(folder) / "cold")
        cold = first.pull()
        first.end()
        mirror = _Pulled(Path(folder) / "warm")
        with mock.patch.object(probe, "connection_to", to_varnish):
            warmed, again = mirror.warm(), mirror.warm()
        then = mirror.pull()
        mirror.end()
        bounded = _Pulled(Path(folder) / "bounded")
        with mock.patch.object(probe, "connection_to", to_varnish):
            slow = bounded.warm(BANDWIDTH)
        bounded.end()
    title = f"{WARM_IMAGES} images of {mirror.size / 1e6:.0f} MB in all, upstream at"
    print(f"\n  {title} {UPSTREAM_RATE / 1e6:.0f} MB/s for each layer\n")
    rows = [
        ("pulled, nothing is cached", cold),
        ("warmed", warmed),
        ("warmed again", again),
        ("pulled, warmed before", then),
        (f"warmed at {BANDWIDTH / 1e6:.0f} MB/s at most", slow),
    ]
    heading = ("what", "seconds", "MB/s", "from the upstream")
    print(
        table(
            heading,
            [
                (
                    what,
                    f"{seconds:.1f}",
                    f"{sent / seconds / 1e6:.1f}",
                    f"{sent / 1e6:.2f} MB, {sent / mirror.size:.3f} x",
                )
                for what, (seconds, sent) in rows
            ],
        )
        + "\n"
    )


class _Pulled:
    """A mirror with nothing in it, and images at its upstream."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._chain = Chain(folder, registry_words=[])
        self._images = cache_load.publish(self._chain, WARM_IMAGES)
        # A layer that two repositories share is fetched for each of them.
        self.size = sum(size for image in self._images for _, size in image.layers.values())
        self._chain.__enter__()
        self._chain.wait_until_ready()
        Upstream.rate = UPSTREAM_RATE

    def end(self) -> None:
        """Stop it."""
        self._chain.__exit__(None, None, None)

    def pull(self) -> tuple[float, int]:
        """Have one client pull every image, three layers at a time as docker does; seconds, and
        bytes that the upstream sent."""
        self._chain.reset()
        begun = time.monotonic()
        with ThreadPoolExecutor(3) as pool:
            for image in self._images:
                manifest = self._chain.get(f"/v2/{image.name}/manifests/latest", DOCKERS_ACCEPT)
                assert manifest.status == 200
                for (digest, _), received in zip(
                    image.layers.values(), pool.map(self._chain.receive, image.layers), strict=True
                ):
                    assert received.digest == digest
        return time.monotonic() - begun, self._chain.sent()

    def warm(self, bandwidth: int = 0) -> tuple[float, int]:
        """Warm every image for one platform; seconds, and bytes that the upstream sent."""
        images = [WarmImage(image.name, image.name, "latest") for image in self._images]
        request = WarmRequest(
            "https://mirror", "/d.json", "docker", images, seconds=600, bandwidth=bandwidth
        )
        reader = Reader(request, None, ["linux/amd64"])
        self._chain.reset()
        begun = time.monotonic()
        assert {reader.warm(image).outcome for image in images} == {"warm"}
        return time.monotonic() - begun, self._chain.sent()


def bench(names: list[str]) -> None:
    """Measure and print the named tables, or all."""
    tables = {"load": load, "notes": notes, "walk": walk, "warm": warm}
    for name in names or tables:
        if name not in tables:
            raise SystemExit(f"{name}: no such table; name some of {', '.join(tables)}")
    for name in names or tables:
        tables[name]()
    print(f"  {os.cpu_count()} cores, shared with everything; Linux {platform.release()}.\n")


if __name__ == "__main__":
    bench(sys.argv[1:])
