"""Clients that pull images as often as people do (Zipf), against a cache that has a limit: what is
measured meanwhile, and what an ideal cache would have done with the same requests.

Runs on a Chain whose registry is in its container. Time runs faster than in life: the evictor's
hour is some seconds, and so is the time that Varnish keeps a layer, without which it would hide
from the registry what is used.
"""

import bisect
import itertools
import os
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.chain import DOCKERS_ACCEPT, Chain, Upstream, random_bytes

IDLE_SECONDS = 3
"""The evictor's hour."""
MIB = 1 << 20


def quick_varnish(text: str) -> str:
    """Varnish's configuration, with which it keeps a layer for a second and not for ten minutes."""
    kept = "beresp.ttl = 10m + 1s * (std.real(beresp.http.Content-Length, 0.0) / 262144.0)"
    return text.replace(kept, "beresp.ttl = 1s")


@dataclass(frozen=True)
class Image:
    """One that the upstream has; its layers are path -> (digest, bytes)."""

    name: str
    layers: Mapping[str, tuple[str, int]]


@dataclass
class Report:
    """What a run has shown. Bytes, unless named otherwise."""

    images: int
    whole: int
    limit: int
    pulls: int = 0
    layer_requests: int = 0
    peak: int = 0
    fetches: float = 0.0
    ideal_fetches: int = 0
    evicted_layers: int = 0
    evicted: int = 0
    wrong: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def over(self) -> float:
        """Percent by which the limit was exceeded at the worst moment; negative for below."""
        return 100.0 * (self.peak - self.limit) / self.limit

    @property
    def hit_rate(self) -> float:
        """Percent of the layers' requests that the upstream was not asked for."""
        return 100.0 * (1 - self.fetches / self.layer_requests)

    @property
    def ideal_hit_rate(self) -> float:
        """The same of a cache that evicts exactly at its limit, and exactly what was used
        longest ago."""
        return 100.0 * (1 - self.ideal_fetches / self.layer_requests)


def publish(chain: Chain, number: int, seed: int = 1) -> list[Image]:
    """So many images, of two layers each: one of their own, and one that ten of them share."""
    chance = random.Random(seed)
    shared = [random_bytes(2 * MIB, seed * 1000 + index) for index in range(-(-number // 10))]
    images = []
    for index in range(number):
        name = f"library/load{index}"
        own = random_bytes(chance.randrange(MIB + 4096, 3 * MIB), seed * 100_000 + index)
        layers = [own, shared[index // 10]]
        _, blobs = chain.content.image(name, layers)
        images.append(
            Image(
                name,
                {
                    f"/v2/{name}/blobs/{digest}": (digest, len(layer))
                    for digest, layer in zip(blobs, layers, strict=False)
                },
            )
        )
    return images


def whole_size(images: Sequence[Image]) -> int:
    """Bytes of all layers, each once."""
    return sum(dict(layer for image in images for layer in image.layers.values()).values())


def zipf(number: int, pulls: int, seed: int = 2) -> list[int]:
    """Which images are pulled: the k-th most popular one with a weight of 1/k, in no order of
    their names."""
    chance = random.Random(seed)
    order = list(range(number))
    chance.shuffle(order)
    bounds = list(itertools.accumulate(1 / rank for rank in range(1, number + 1)))
    return [order[bisect.bisect_left(bounds, chance.random() * bounds[-1])] for _ in range(pulls)]


def ideal_fetches(images: Sequence[Image], sequence: Sequence[int], limit: int) -> int:
    """Fetches of a cache that evicts at its limit, byte for byte, what was used longest ago.

    As the registry does, it fetches a layer for each repository the first time that it is asked
    there, though it has the same layer from another one (distribution
    registry/storage/linkedblobstore.go).
    """
    cache: OrderedDict[str, int] = OrderedDict()
    linked: set[str] = set()
    held = fetches = 0
    for index in sequence:
        for path, (digest, size) in images[index].layers.items():
            if digest in cache and path in linked:
                cache.move_to_end(digest)
                continue
            linked.add(path)
            fetches += 1
            held += size - cache.pop(digest, 0)
            cache[digest] = size
            while held > limit:
                held -= cache.popitem(last=False)[1]
    return fetches


def run(
    chain: Chain,
    images: Sequence[Image],
    sequence: Sequence[int],
    limit: int,
    *,
    pulls_per_second: float,
    clients: int = 4,
) -> Report:
    """Pull, and watch the cache meanwhile. `limit` is the evictor's (bytes)."""
    report = Report(len(images), whole_size(images), limit)
    chain.reset()
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(chain, report, over))
    watcher.start()
    begun = time.monotonic()
    lock = threading.Lock()

    def pull(number: int) -> None:
        pause = begun + number / pulls_per_second - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        image = images[sequence[number]]
        answer = chain.get(f"/v2/{image.name}/manifests/latest", DOCKERS_ACCEPT)
        with lock:
            report.pulls += 1
            if answer.status != 200:
                report.failed.append(f"{image.name}: {answer.status}")
        for path, (digest, _) in image.layers.items():
            received = chain.receive(path)
            with lock:
                report.layer_requests += 1
                if received.status != 200:
                    report.failed.append(f"{path}: {received.status}")
                elif not received.complete:
                    report.cut.append(path)
                elif received.digest != digest:
                    report.wrong.append(path)

    try:
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(pull, range(len(sequence))))
    finally:
        report.seconds = time.monotonic() - begun
        over.set()
        watcher.join()
    sizes = {path: size for image in images for path, (_, size) in image.layers.items()}
    report.fetches = sum(Upstream.sent[path] / size for path, size in sizes.items())
    report.ideal_fetches = ideal_fetches(images, sequence, limit)
    time.sleep(3)
    values = metrics(chain)
    report.evicted_layers = values["registry_mirror_evicted_layers_total"]
    report.evicted = values["registry_mirror_evicted_bytes_total"]
    return report


def metrics(chain: Chain) -> dict[str, int]:
    """`.usage/metrics` of the registry at the root."""
    lines = (chain.folder / "cache/.usage/metrics").read_text().splitlines()
    return {line.split()[0]: int(line.split()[1]) for line in lines if not line.startswith("#")}


def cached(chain: Chain) -> int:
    """Bytes of what is cached, and of downloads under way."""
    return sum(_files(str(chain.folder / "cache")))


def _files(folder: str) -> "list[int]":
    found = []
    for path, _, names in os.walk(folder):
        if Path(path).name != ".usage" and "data" in names:
            try:
                found.append(os.lstat(f"{path}/data").st_size)
            except OSError:
                continue
    return found


def _watch(chain: Chain, report: Report, over: threading.Event) -> None:
    while not over.wait(0.5):
        report.peak = max(report.peak, cached(chain))
