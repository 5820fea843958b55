"""`make test`: lint, strict types, unit, component, whole program, contract, and the lab end to
end.

    python -m lab.test [check] [unit] [component] [program] [contract] [e2e] [faults] [soak]
    python -m lab.test coverage

Where unit, component and program run together it is measured which lines and branches of
components/ they reach, and too few are a failure; `coverage` runs these three and prints the table.

Without names it runs all but `soak`, which needs more time and more of the network, and all but the
tests that are marked `long`, whose like is run in any case: they are for `make faults`. Where no
lab can be (no root, no Debian) those from `contract` on are left out, and that is said in one line;
in CI (CI=true) they are mandatory. FAULT_REPEATS says how often what has randomness in it is
repeated, LABS how many labs are at work at the same time.
"""

import os
import shutil
import subprocess
import sys
import time

from lab import control
from tools.progress import StageError, main_guard
from tools.toolchain import CHECKOUT, TOOLS, VENV, environment

CHECKS = (
    ("format", ["ruff", "format", "--check", "--quiet", "."]),
    ("lint", ["ruff", "check", "--quiet", "."]),
    ("spelling", ["codespell"]),
    ("types", ["mypy"]),
    ("types of the program", ["mypy", "__main__.py"]),
)
FAST = ("unit", "component", "program")
LAB = ("contract", "e2e", "faults")
SOAK = "soak"
COVERAGE = "coverage"
WORKERS = 2 * (os.cpu_count() or 1)
"""For the fast tests: half of their time is waiting, for a time-out that is tested or a process."""
FAILURES = 8
"""After so many failures it is no single fault any more, and the rest would only cost time."""
BYTECODE = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(TOOLS / "pycache")}
"""For the fast tests: some hundred processes read what one of them has compiled, and nothing of it
lies in the checkout. (An empty variable is one that is not set, to Python.)"""
LABS_AT_ONCE = int(os.environ.get("LABS", "2"))
"""Most of a lab's time is waiting; two keep two cores busy, and more would make what is timed in
them late."""


def test(names: list[str]) -> None:
    """Run the named suites, or all. Raises StageError at the first that fails."""
    wanted = names or ["check", *FAST, *LAB]
    unknown = set(wanted) - {"check", *FAST, *LAB, SOAK, COVERAGE}
    if unknown:
        raise StageError(
            f"{', '.join(sorted(unknown))}: no such suite",
            f"name some of check, {', '.join((*FAST, *LAB, SOAK, COVERAGE))}",
        )
    if "check" in wanted:
        for title, command in CHECKS:
            _run(title, [str(VENV / "bin" / command[0]), *command[1:]])
    in_lab = [name for name in (*LAB, SOAK) if name in wanted]
    missing = _prepared() if in_lab else None
    fast = FAST if COVERAGE in wanted else tuple(name for name in FAST if name in wanted)
    if fast:
        _fast_tests(fast, show_table=COVERAGE in wanted)
    if missing:
        print(f"\nNot run here: {' and '.join(in_lab)}, because {missing}.")
    elif in_lab:
        # A file's tests build on each other, so a file stays in one lab.
        at_once = (
            [
                *("--numprocesses", str(LABS_AT_ONCE), "--dist", "loadfile"),
                "--no-loadscope-reorder",  # the longest files first (tests/durations.json)
            ]
            if LABS_AT_ONCE > 1
            else ["--capture=no"]
        )
        chosen = [] if names else ["-m", "not long"]
        _pytest(
            " and ".join(in_lab),
            f"--maxfail={FAILURES}",
            "-vv",
            *chosen,
            *at_once,
            *(f"tests/{name}" for name in in_lab),
        )


def _prepared() -> str | None:
    """Make what the labs share, before two of them want it at the same time, and before the fast
    tests: those of the container's scripts need the busybox of a base system, and are skipped
    without it. Returns why there can be no lab here, or None. Raises StageError for that in CI."""
    try:
        control.check_computer()
    except StageError as error:
        if os.environ.get("CI"):
            raise
        return error.reason
    control.prepare()
    return None


def _fast_tests(names: tuple[str, ...], *, show_table: bool) -> None:
    """Run the suites that need no lab; all three together are measured, with a gate on the total
    (pyproject.toml, fail_under)."""
    python = str(VENV / "bin" / "python")
    measured = names == FAST
    data = CHECKOUT / ".tools" / "coverage"
    if measured:
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
    workers = ["--numprocesses", str(WORKERS), "--dist", "worksteal"]
    folders = [f"tests/{name}" for name in names]
    _run(
        ", ".join(names),
        [
            *(python, "-m"),
            *(("coverage", "run", "-m") if measured else ()),
            *("pytest", "--durations=10", *workers, *folders),
        ],
        **BYTECODE,
    )
    if measured:
        subprocess.run([python, "-m", "coverage", "combine", "--quiet"], cwd=CHECKOUT, check=True)
        _run(
            "coverage of components/ by these, in percent",
            [python, "-m", "coverage", "report", *(() if show_table else ("--format=total",))],
        )


def _pytest(title: str, *arguments: str) -> None:
    _run(title, [str(VENV / "bin" / "python"), "-m", "pytest", "--durations=10", *arguments])


def _run(title: str, command: list[str], **variables: str) -> None:
    print(f"\n── {title} " + "─" * max(0, 70 - len(title)), flush=True)
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **environment(), **variables}, check=False
    )
    print(f"   {time.monotonic() - started:.1f} s", flush=True)
    if done.returncode != 0:
        raise StageError(
            f"{title}: the reason stands above",
            f"run it alone: {' '.join(command[:1])} {' '.join(command[1:])}",
        )


if __name__ == "__main__":
    sys.exit(main_guard(lambda: test(sys.argv[1:])))
