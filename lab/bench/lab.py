"""A lab of the benchmarks' own (`bench`), with a stack in it; nobody's `make up` is disturbed. Owns
no measurement."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import control
from lab.plan import LabFolder, lab_folder
from lab.sandbox import Sandbox
from lab.stack import Stack
from tools.toolchain import CHECKOUT

NAME = "bench"


class BenchLab:
    """The lab, fresh, with the lab's own stack in it; not applied yet."""

    def __init__(self) -> None:
        control.anew(NAME)
        self.folder: LabFolder = lab_folder(NAME)
        self.sandbox = Sandbox(self.folder.root)
        self._config: Path = self.folder.root / "Pulumi.bench.yaml"
        self.configure()
        self.stack = Stack("dev", lab=NAME, config_file=self._config)
        self.stack.select()

    def configure(self, **changes: Any) -> None:
        """Write the stack's configuration: that of the lab's stack, with `changes`."""
        text = (CHECKOUT / "Pulumi.dev.yaml").read_text().replace(".lab/dev/", f".lab/{NAME}/")
        # Every JSON is YAML, and this runs on the computer's own Python, which may have no other
        # way to write it.
        lines = [
            f"  swarm-registry-mirror:{key}: {json.dumps(value)}\n"
            for key, value in changes.items()
        ]
        self._config.write_text(text.replace("config:\n", "config:\n" + "".join(lines), 1))

    def up(self) -> None:
        """`pulumi up`."""
        self.stack.run("up", "--yes", "--skip-preview")

    def destroy(self) -> None:
        """`pulumi destroy`."""
        self.stack.run("destroy", "--yes", "--skip-preview")

    def remove(self) -> None:
        """End the lab and remove its folder."""
        control.down(NAME)


def seconds(work: Callable[[], object]) -> float:
    """How long that takes."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def median(
    runs: int, work: Callable[[], object], before: Callable[[], object] = lambda: None
) -> float:
    """Median seconds of `work`; `before` prepares each run and is not counted."""
    taken = []
    for _ in range(runs):
        before()
        taken.append(seconds(work))
    return statistics.median(taken)
