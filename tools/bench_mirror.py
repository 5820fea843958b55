"""`make bench-mirror`: what the mirror saves and costs, on a lab of its own. Prints, asserts nothing.

    python3 -m tools.bench_mirror

Bytes that leave the upstream when 1 to 32 clients want the same new image, together and one after the other, with and without
Varnish; a cold and a warm pull against one straight from the upstream behind a line of 100 Mb/s and 40 ms; a warm mirror's
throughput. Clients, nodes and upstream share this computer's cores.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

import lab.internet as internet
from lab import control
from lab.clients import run_clients
from lab.images import proof_image_bytes
from lab.machines import run_on
from lab.plan import INTERNET, MIRROR_HOST, NODES, lab_folder
from lab.sandbox import Sandbox, SandboxError
from tools import toolchain
from tools.progress import StageError, main_guard, stage
from tools.stack import LAB_STACK, Stack
from tools.table import table
from tools.toolchain import CHECKOUT

NAME = "bench"
CLIENTS = (1, 2, 8, 32)
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SLOW_LINE = "tc qdisc replace dev eth0 root netem rate 100mbit delay 40ms limit 100000"
CACHE = "/var/data/registry/registry-mirror-data"


class Bench:
    """A lab with the mirror in it."""

    def __init__(self) -> None:
        self.folder = lab_folder(NAME)
        self.sandbox = Sandbox(self.folder.root)
        self.file = self.folder.root / "Pulumi.bench.yaml"
        self.stack = Stack(LAB_STACK, lab=NAME, config_file=self.file)
        self.mirror, self.upstream = f"https://{MIRROR_HOST}", f"http://{INTERNET}"

    def up(self, *, coalesce: bool) -> None:
        """Bring the mirror up, with Varnish or without."""
        text = (CHECKOUT / "Pulumi.dev.yaml").read_text().replace(f".lab/{LAB_STACK}/", f".lab/{NAME}/")
        self.file.write_text(
            text.replace("config:\n", f"config:\n  swarm-registry-mirror:coalesce: {str(coalesce).lower()}\n", 1)
        )
        self.stack.select()
        self.stack.run("up", "--yes", "--skip-preview")

    def cold(self) -> None:
        """Nothing cached anywhere: new containers on an empty cache."""
        run_on(self.sandbox, NODES[0], f"rm -rf {CACHE}/docker")
        for node in NODES:
            run_on(self.sandbox, node, "docker ps --quiet --filter name=registry-mirror | xargs -r docker kill >/dev/null")
        deadline = time.monotonic() + 90
        while True:
            try:
                self.clients(0)
            except SandboxError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                break
        internet.reset_counters(self.sandbox)

    def clients(self, number: int, url: str = "") -> list[float]:
        """Seconds of each; with none it is only asked whether the mirror answers."""
        if number == 0:
            ask = f"import urllib.request as u; u.urlopen('{self.mirror}/v2/', timeout=5)"
            run_on(self.sandbox, NODES[1], f'python3 -c "{ask}"')
            return []
        found = run_clients(self.sandbox, NODES[1], url or self.mirror, number)
        if len(found) != number:
            raise StageError(f"{number - len(found)} of {number} clients got wrong bytes", "that is a defect; please report it")
        return found

    def share(self) -> float:
        """Bytes that left the upstream, in sizes of the image."""
        return int(str(internet.counters(self.sandbox)["bytes"])) / proof_image_bytes(self.sandbox)

    def line(self, command: str) -> None:
        """Change the line between upstream and swarm."""
        self.sandbox.run(["ip", "netns", "exec", internet.NAMESPACE, "sh", "-c", command])


def bench() -> None:
    """Measure and print."""
    toolchain.bring()
    control.down(NAME)
    control.up(NAME)
    try:
        found = Bench()
        rows = {number: [str(number)] for number in CLIENTS}
        for coalesce in (True, False):
            with stage(f"mirror {'with' if coalesce else 'without'} Varnish"):
                found.up(coalesce=coalesce)
            for number in CLIENTS:
                for together in (True, False):
                    rows[number].append(_bytes(found, number, together=together, coalesce=coalesce))
        size = proof_image_bytes(found.sandbox)
        head = ("clients", "together", "one after the other", "together, no Varnish", "one after the other, no Varnish")
        print(
            f"\n  Bytes that left the upstream for an image of {size / 1e6:.1f} MB, in sizes of it:\n\n"
            + table(head, list(rows.values()))
        )
        found.up(coalesce=True)
        _latency(found, size)
    finally:
        control.down(NAME)
    print(f"\n  {os.cpu_count()} cores shared by all, Linux {platform.release()}, medians of {ROUNDS}.\n")


def _bytes(found: Bench, number: int, *, together: bool, coalesce: bool) -> str:
    with stage(f"{number} clients {'together' if together else 'in turn'}{'' if coalesce else ', no Varnish'}") as running:
        found.cold()
        for count in [number] if together else [1] * number:
            found.clients(count)
        running.note(f"{found.share():.2f}")
        return f"{found.share():.2f}"


def _latency(found: Bench, size: int) -> None:
    found.line(SLOW_LINE)
    ways: dict[str, Callable[[], float]] = {
        "straight from the upstream": lambda: found.clients(1, found.upstream)[0],
        "cold, through the mirror": lambda: found.clients(1)[0],
        "warm, through the mirror": lambda: found.clients(1)[0],
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(1, ROUNDS + 1):
        with stage(f"round {number}: upstream behind 100 Mb/s and 40 ms"):
            found.cold()
            for way, pull in ways.items():
                seconds[way].append(pull())
    direct = statistics.median(seconds["straight from the upstream"])
    rows = [(way, f"{statistics.median(s):.2f} s", f"{statistics.median(s) / direct:.2f}") for way, s in seconds.items()]
    started = time.monotonic()
    found.clients(16)
    rate = 16 * size / (time.monotonic() - started) / 1e6
    print("\n" + table(("one client", "time", "× straight"), rows))
    print(f"\n  16 clients on a warm mirror: {rate:.0f} MB/s together, over TLS and with every digest checked.")


if __name__ == "__main__":
    sys.exit(main_guard(bench))
