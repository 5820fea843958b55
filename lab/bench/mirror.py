"""`make bench-mirror`: what the mirror saves, costs and survives, on the lab's machines. Prints
numbers, asserts none.

Bytes over the internet for many clients, together and one before the others; seconds against the
upstream itself; bytes a second against nginx with the same layers; memory and processor time
meanwhile; and how long docker takes with an unhealthy mirror (`sick_mirror.py`). Client, mirror
and upstream share this computer's cores, so ratios say more than seconds.

    python -m lab.bench.mirror [bytes] [latency] [throughput] [large] [sick]
"""

import math
import os
import platform
import statistics
import sys
import time

from components.registry_mirror.cli.console import table
from lab import deployed
from lab.bench import large, nginx, sick_mirror
from lab.bench.lab import BenchLab
from lab.clients import fetch, pour
from lab.images import proof_image_bytes, publish_at_hub, random_image
from lab.internet import BANDWIDTH, behave, counters, lengthen_line, limit_line, reset_counters
from lab.machines import run_on
from lab.plan import INTERNET, MANAGER, MIRROR_HOST, NODES
from lab.sandbox import Sandbox
from tools import plugins
from tools.progress import StageError, main_guard, stage

SICK = "sick"
CLIENTS = (1, 2, 4, 8, 16, 32)
RUNS = int(os.environ.get("ROUNDS", "5"))
LARGE = "bench-large:1"
LARGE_LAYERS = (16 << 20,) * 6
"""Bytes of each layer of the latency table's image."""
RATE, DELAY = "100mbit", 40
"""The internet of the latency table: megabits a second, and milliseconds for each connection and
each request."""
MIRROR = f"https://{MIRROR_HOST}"
NODE = NODES[1]
"""On which the clients are."""


def bench(names: list[str]) -> None:
    """Measure and print the named tables, or all. Raises StageError for a name that is none."""
    tables = {
        "bytes": _bytes,
        "latency": _latency,
        "throughput": _throughput,
        "large": large.bench,
        SICK: sick_mirror.bench,
    }
    unknown = set(names) - set(tables)
    if unknown:
        raise StageError(
            f"{', '.join(sorted(unknown))}: no such table", f"name some of {', '.join(tables)}"
        )
    lab = BenchLab()
    wanted = [name for name in tables if name in names or not names]
    if wanted != [SICK]:
        with stage("pulumi up"):
            lab.up()
    for name in wanted:
        if name == SICK:
            # Its mirror is another one.
            with stage("pulumi destroy"):
                lab.destroy()
        tables[name](lab)
    lab.remove()
    print(
        f"  {os.cpu_count()} cores, shared with everything; Linux {platform.release()}."
        f" {plugins.in_words()}.\n"
    )


# -------------------------------------------------------------------------------- over the internet


def _bytes(lab: BenchLab) -> None:
    rows: dict[int, list[str]] = {number: [str(number)] for number in CLIENTS}
    for coalesce in (True, False):
        lab.configure(coalesce=coalesce)
        with stage(f"bytes over the internet, coalesce: {str(coalesce).lower()}"):
            lab.up()
            for number in CLIENTS:
                deployed.empty(lab.sandbox)
                rows[number].append(_share(lab.sandbox, number))
    with stage("bytes over the internet, one client before the others"):
        for number in CLIENTS:
            deployed.empty(lab.sandbox)
            fetch(lab.sandbox, NODE, 1)
            rows[number].append(
                _share(lab.sandbox, number - 1) if number > 1 else _share_now(lab.sandbox)
            )
    lab.configure()
    lab.up()
    head = (
        "clients",
        "together",
        "together, coalesce: false",
        "one before the others, coalesce: false",
    )
    print("\n  What left the upstream, in sizes of the image\n")
    print(table(head, list(rows.values())) + "\n")


def _share(sandbox: Sandbox, number: int) -> str:
    found = fetch(sandbox, NODE, number)
    return _share_now(sandbox) + (
        "" if found.whole == number else f", {number - found.whole} CLIENTS FAILED"
    )


def _share_now(sandbox: Sandbox) -> str:
    return f"{int(str(counters(sandbox)['bytes'])) / proof_image_bytes(sandbox):.2f}"


# --------------------------------------------------------------------------------------------- time


def _latency(lab: BenchLab) -> None:
    taken: dict[str, list[float]] = {
        "the upstream itself": [],
        "cold mirror": [],
        "warm mirror": [],
    }
    deployed.wait_until_it_answers(lab.sandbox, NODE)
    publish_at_hub(lab.sandbox, random_image("bench-large", LARGE_LAYERS), f"library/{LARGE}")
    image = f"library/{LARGE}"
    asked: dict[str, int] = {}
    with stage(f"seconds, with {RATE} and {DELAY} ms to the upstream"):
        limit_line(lab.sandbox, RATE)
        lengthen_line(lab.sandbox, DELAY)
        behave(lab.sandbox, "hub")
        for _ in range(RUNS):
            deployed.empty(lab.sandbox)
            time.sleep(1)
            for name, url in (
                ("the upstream itself", f"http://{INTERNET}"),
                *((name, MIRROR) for name in list(taken)[1:]),
            ):
                reset_counters(lab.sandbox)
                got = fetch(lab.sandbox, NODE, 1, url, image)
                taken[name].append(got.seconds if got.whole else math.inf)
                asked[name] = int(str(counters(lab.sandbox)["requests"]))
        limit_line(lab.sandbox, BANDWIDTH)
        lengthen_line(lab.sandbox, 0)
        behave(lab.sandbox, "well")
    direct = statistics.median(taken["the upstream itself"])
    rows = []
    for name, found in taken.items():
        middle = statistics.median(found)
        ratios = [f"{middle / direct:.2f}", f"{direct / middle:.1f}"]
        rows.append((name, f"{middle:.2f} s", f"{max(found):.2f} s", *ratios, str(asked[name])))
    size = sum(LARGE_LAYERS) / 1e6
    print(
        f"\n  One client that fetches {size:.0f} MB and checks every digest; {RATE}, {DELAY} ms to"
        f" the upstream; {RUNS} runs\n"
    )
    print(
        table(
            ("from", "median", "slowest", "× the upstream", "times faster", "requests there"), rows
        )
        + "\n"
    )


# ----------------------------------------------------------------------------------- bytes a second


def _throughput(lab: BenchLab) -> None:
    fetch(lab.sandbox, NODE, 1)
    listing = run_on(
        lab.sandbox,
        MANAGER,
        f"cd {deployed.CACHE}/docker/registry/v2/blobs/sha256; ls -S */*/data | head -3",
    )
    digests = ["sha256:" + line.split("/")[1] for line in listing.split()]
    taken: dict[str, list[float]] = {"nginx": [], "mirror": []}
    with stage("bytes a second, beside nginx"), nginx.alone(lab.sandbox) as address:
        urls = {"nginx": address, "mirror": MIRROR}
        before = deployed.held(lab.sandbox)
        for _ in range(RUNS):
            for name, url in urls.items():
                taken[name].append(pour(lab.sandbox, NODE, url, digests, number=8, times=4))
        after = deployed.held(lab.sandbox)
    by_nginx = statistics.median(taken["nginx"])
    rows = [
        (
            name,
            f"{statistics.median(found) / 1e6:.0f} MB/s",
            f"{min(found) / 1e6:.0f} MB/s",
            f"{statistics.median(found) / by_nginx:.2f}",
        )
        for name, found in taken.items()
    ]
    print(f"\n  Warm layers over TLS to 8 clients on another machine; {RUNS} runs\n")
    print(table(("from", "median", "slowest", "× nginx"), rows) + "\n")
    poured = RUNS * 8 * 4 * sum(_size(lab.sandbox, digest) for digest in digests) / 1e9
    rows_held = [
        (name, f"{memory:.0f} MiB", f"{(seconds - before.get(name, (0, 0))[1]) / poured:.2f} s")
        for name, (memory, seconds) in after.items()
    ]
    print(table(("container", "memory at most", "processor time per GB"), rows_held) + "\n")
    reset_counters(lab.sandbox)


def _size(sandbox: Sandbox, digest: str) -> int:
    name = digest.partition(":")[2]
    return int(
        run_on(
            sandbox,
            MANAGER,
            f"stat -c %s {deployed.CACHE}/docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data",
        )
    )


if __name__ == "__main__":
    sys.exit(main_guard(lambda: bench(sys.argv[1:])))
