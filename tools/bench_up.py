"""`make bench-up`: how long the main job takes on this computer. Prints numbers, asserts none.

A lab of its own (`bench`), so nobody's `make up` is disturbed. Each row says what it measures; medians of RUNS runs.
"""

import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable

from lab import control, machines
from lab.plan import NODES, lab_folder
from lab.proof import prove
from lab.sandbox import Sandbox
from tools import toolchain
from tools.progress import main_guard
from tools.stack import Stack
from tools.table import table

NAME = "bench"
RUNS = 3


def bench() -> None:
    """Measure and print."""
    folder = lab_folder(NAME)
    sandbox = Sandbox(folder.root)
    control.down(NAME)
    control.up(NAME)
    config = folder.root / "Pulumi.bench.yaml"
    text = (toolchain.CHECKOUT / "Pulumi.dev.yaml").read_text()
    config.write_text(text.replace(".lab/dev/", f".lab/{NAME}/"))
    stack = Stack("dev", lab=NAME, config_file=config)
    stack.select()

    def from_lab_to_table() -> None:
        toolchain.bring()
        control.up(NAME)
        stack.run("up", "--yes", "--skip-preview")
        prove(sandbox)

    def fresh_mirror() -> None:
        stack.run("destroy", "--yes", "--skip-preview")

    rows = [
        ("tools, second run", "2", _median(toolchain.bring)),
        ("tools and lab present: `make up` to table", "60", _median(from_lab_to_table, before=fresh_mirror)),
    ]
    applies = _seconds(stack.log.read_text(), r"registry-mirror-node-\w+ created \(([\d.]+)s\)")
    rows += [
        ("unchanged `pulumi up`", "5", _median(lambda: stack.run("up", "--yes", "--skip-preview"))),
        ("a node's whole apply, connection included", "2", statistics.median(applies)),
        ("of which the agent, on the node", "0.5", statistics.median(_agent(sandbox, stack))),
    ]
    for node in NODES:
        machines.power_off(sandbox, node)
    rows.append(("preview with every node powered off", "4", _median(lambda: stack.run("preview"))))
    control.down(NAME)

    python = (toolchain.CHECKOUT / "components").rglob("*.py")
    lines = sum(len(path.read_text().splitlines()) for path in python)
    shown = [(what, f"{seconds:.2f} s", f"{goal} s") for what, goal, seconds in rows]
    print("\n" + table(("what", "median", "goal"), [*shown, ("component and agent, lines", str(lines), "1500")]))
    print(f"\n  {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}; {RUNS} runs each.\n")


def _median(work: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    taken = []
    for _ in range(RUNS):
        before()
        started = time.monotonic()
        work()
        taken.append(time.monotonic() - started)
    return statistics.median(taken)


def _seconds(text: str, pattern: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, text)]


def _agent(sandbox: Sandbox, stack: Stack) -> list[float]:
    """Seconds that the agent itself takes on a node which it changes: exactly the command and the request of the stack."""
    script = (
        "python3 - <<'E'\nimport json,time\nfrom subprocess import DEVNULL,run\n"
        "for c in json.load(open('/var/data/bench.json')):\n"
        " t=time.monotonic(); run(c[0],shell=True,input=c[1],text=True,check=True,stdout=DEVNULL); print(time.monotonic()-t)\nE"
    )
    export = json.loads(stack.quietly("stack", "export"))
    resources = export["deployment"]["resources"]
    found = next(r for r in resources if r["urn"].endswith("::registry-mirror-node-node2"))["inputs"]
    runs = [[found[action], found["stdin"]] for _ in range(RUNS) for action in ("delete", "create")]
    (lab_folder(NAME).shared_storage / "bench.json").write_text(json.dumps(runs))
    taken = [float(line) for line in machines.run_on(sandbox, NODES[1], script).split()]
    return taken[1::2]


if __name__ == "__main__":
    sys.exit(main_guard(bench))
