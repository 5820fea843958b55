"""`make bench-up`: how long the main job takes on this computer. Prints numbers, asserts none.

A lab of its own (`bench`), so nobody's `make up` is disturbed. Each row says what it measures;
medians of RUNS runs.
"""

import json
import os
import platform
import re
import statistics
import sys

from components.registry_mirror.cli.console import table
from lab import control, machines
from lab.bench.lab import NAME, BenchLab, median
from lab.plan import NODES, lab_folder
from lab.proof import prove
from lab.sandbox import Sandbox
from lab.stack import Stack
from tools import plugins, toolchain
from tools.progress import main_guard

RUNS = 3


def bench() -> None:
    """Measure and print."""
    lab = BenchLab()
    sandbox, stack = lab.sandbox, lab.stack

    def from_lab_to_table() -> None:
        toolchain.bring()
        control.up(NAME)
        lab.up()
        prove(sandbox)

    rows = [
        ("tools, second run", "2", median(RUNS, toolchain.bring)),
        (
            "tools and lab present: `make up` to table",
            "60",
            median(RUNS, from_lab_to_table, before=lab.destroy),
        ),
    ]
    applies = _seconds(stack.log.read_text(), r"registry-mirror-node-\w+ created \(([\d.]+)s\)")
    rows += [
        ("unchanged `pulumi up`", "5", median(RUNS, lab.up)),
        ("a node's whole apply, connection included", "2", statistics.median(applies)),
        ("of which the agent, on the node", "0.5", statistics.median(_agent(sandbox, stack))),
    ]
    for node in NODES:
        machines.power_off(sandbox, node)
    rows.append(
        ("preview with every node powered off", "4", median(RUNS, lambda: stack.run("preview")))
    )
    lab.remove()

    python = (toolchain.CHECKOUT / "components").rglob("*.py")
    lines = sum(len(path.read_text().splitlines()) for path in python)
    shown = [(what, f"{seconds:.2f} s", f"{goal} s") for what, goal, seconds in rows]
    print(
        "\n"
        + table(
            ("what", "median", "goal"), [*shown, ("component and agent, lines", str(lines), "1500")]
        )
    )
    print(
        f"\n  {os.cpu_count()} cores, Linux {platform.release()}, Python"
        f" {platform.python_version()}; {RUNS} runs each."
    )
    print(f"  {plugins.in_words()}.\n")


def _seconds(text: str, pattern: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, text)]


def _agent(sandbox: Sandbox, stack: Stack) -> list[float]:
    """Seconds that the agent itself takes on a node which it changes: exactly the command and the
    request of the stack."""
    script = (
        "python3 - <<'E'\nimport json,time\nfrom subprocess import DEVNULL,run\n"
        "for c in json.load(open('/var/data/bench.json')):\n"
        " t=time.monotonic(); run(c[0],shell=True,input=c[1],text=True,check=True,stdout=DEVNULL);"
        " print(time.monotonic()-t)\nE"
    )
    export = json.loads(stack.quietly("stack", "export"))
    resources = export["deployment"]["resources"]
    found = next(r for r in resources if r["urn"].endswith("::registry-mirror-node-node2"))[
        "inputs"
    ]
    runs = [[found[action], found["stdin"]] for _ in range(RUNS) for action in ("delete", "create")]
    (lab_folder(NAME).shared_storage / "bench.json").write_text(json.dumps(runs))
    taken = [float(line) for line in machines.run_on(sandbox, NODES[1], script).split()]
    return taken[1::2]


if __name__ == "__main__":
    sys.exit(main_guard(bench))
