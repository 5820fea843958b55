"""`make bench-preview`: how long a preview takes for 1, 50 and 200 nodes, beside an empty program,
and what it connects to.

    python -m lab.bench.preview [NODES …]

Connections are counted by strace: every connect(2) of Pulumi, its plugins and the program to
anything but loopback or a socket of this computer. Medians of RUNS runs, in a copy of the project
whose state is a file.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from components.registry_mirror.cli.console import table
from tools import plugins, toolchain
from tools.progress import StageError, main_guard, stage
from tools.toolchain import CHECKOUT

RUNS = 3
SIZES = (1, 50, 200)
DIGEST = "sha256:" + "0" * 64
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUBGpFLVLD3QQHbKCVV8GyGS8WkFRFTLxJ0XQxTSCYX"
_ELSEWHERE = re.compile(
    r"connect\(\d+, \{sa_family=AF_INET6?, .*(?:sin_addr=inet_addr|inet_pton\(AF_INET6,"
    r" )\(?\"([^\"]+)\""
)
_LOOPBACK = re.compile(r"(::ffff:)?127\.|::1$")


def bench(sizes: list[int]) -> None:
    """Measure and print. Raises StageError."""
    toolchain.bring(with_lab=False)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        empty = _seconds(_project(Path(name, "empty"), None))
        rows.append(("an empty program", f"{empty:.2f} s", "", ""))
        for size in sizes:
            folder = _project(Path(name, str(size)), size)
            with stage(f"{size} nodes"):
                seconds = _seconds(folder)
                connections = _connections(folder)
            share = f"{(seconds - empty) / size * 1000:.1f} ms" if size > 1 else ""
            rows.append((f"{size} nodes", f"{seconds:.2f} s", share, connections))
    print("\n" + table(("preview of", "time", "more per node", "connections elsewhere"), rows))
    print(f"\n  Medians of {RUNS} runs, {os.cpu_count()} cores. {plugins.in_words()}.\n")


def _project(folder: Path, size: int | None) -> Path:
    """A project with a stack `bench`: ours with `size` nodes, or one whose program is empty."""
    folder.mkdir()
    (folder / "state").mkdir()
    if size is None:
        (folder / "Pulumi.yaml").write_text("name: empty\nruntime: python\n")
        (folder / "__main__.py").write_text("")
        (folder / "Pulumi.bench.yaml").write_text("config: {}\n")
    else:
        for entry in CHECKOUT.iterdir():
            if not entry.match("Pulumi.*.yaml") and entry.name not in (".git", ".lab"):
                (folder / entry.name).symlink_to(entry)
        frame = "-----{} PRIVATE KEY-----\\n"
        values = {
            "hostname": "mirror.example.com",
            "image": f"registry:3.1.2@{DIGEST}",
            "varnishImage": f"varnish:7.7.0@{DIGEST}",
            "sshPrivateKey": f'"{frame.format("BEGIN")}{frame.format("END")}"',
            "nodes": "".join(
                f"\n    - {{name: node{number}, address: node{number}.example.com, hostKey: {KEY}}}"
                for number in range(size)
            ),
        }
        lines = [f"  swarm-registry-mirror:{key}: {value}\n" for key, value in values.items()]
        (folder / "Pulumi.bench.yaml").write_text("config:\n" + "".join(lines))
    _run(folder, "stack", "init")
    return folder


def _seconds(folder: Path) -> float:
    taken = []
    for _ in range(RUNS):
        started = time.monotonic()
        _run(folder, "preview")
        taken.append(time.monotonic() - started)
    return statistics.median(taken)


def _connections(folder: Path) -> str:
    """How many connections a preview opened to other machines; said where nobody can count."""
    if shutil.which("strace") is None:
        return "not counted: no strace"
    trace = folder / "trace"
    _run(
        folder,
        "preview",
        before=["strace", "--follow-forks", "--trace=connect", "--output", str(trace)],
    )
    addresses = [
        found[1] for line in trace.read_text().splitlines() if (found := _ELSEWHERE.search(line))
    ]
    return str(len([address for address in addresses if not _LOOPBACK.match(address)]))


def _run(folder: Path, *words: str, before: list[str] | None = None) -> None:
    argv = [*(before or []), "pulumi", *words, "--stack", "bench", "--non-interactive"]
    environment = {
        **os.environ,
        **toolchain.environment(),
        "PULUMI_BACKEND_URL": f"file://{folder}/state",
        "PULUMI_CONFIG_PASSPHRASE": "",
    }
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise StageError((done.stdout + done.stderr).strip().splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main_guard(lambda: bench([int(word) for word in sys.argv[1:]] or list(SIZES))))
