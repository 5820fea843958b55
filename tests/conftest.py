"""What all tests have in common: fixtures, the mark `lab`, the order of files, the end of a story,
and the lists that are printed at the end."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.chance import chance as chance
from tests.installed import installed as installed
from tests.installed import wheel as wheel
from tests.lab.lab import lab as lab
from tests.lab.lab import running_lab as running_lab

settings.register_profile("fast", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("thorough" if "FAULT_REPEATS" in os.environ else "fast")

LAB_SUITES = {"contract", "e2e", "faults", "soak"}
DURATIONS = Path(__file__).parent / "durations.json"
"""Seconds that each file of the lab's suites takes. `RECORD_DURATIONS=1 make test` brings it up to
date."""

FAULTS: dict[tuple[str, str], list[bool]] = {}
"""(number, title) -> whether each test of it passed."""
SECONDS: dict[str, float] = {}
"""File -> seconds that its tests took in this run."""
STORIES: dict[str, str] = {}
"""File whose tests build on each other -> the first of them that failed in this run."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Mark the report of every test that stands for a fault of the project's list; it may be made
    by a worker of xdist. Keep the first failure of a story."""
    outcome: Any = yield
    report = outcome.get_result()
    report.user_properties += [("fault", list(mark.args)) for mark in item.iter_markers("fault")]
    if report.failed and item.get_closest_marker("story"):
        STORIES.setdefault(item.nodeid.partition("::")[0], item.name)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what a story's first failure has taken the ground from."""
    failed = STORIES.get(item.nodeid.partition("::")[0])
    if failed is not None and item.get_closest_marker("story"):
        pytest.skip(f"it builds on {failed}, which failed")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of the fault tests and the seconds of each file; a fixture that fails before
    its test is no outcome of the fault."""
    file = report.nodeid.partition("::")[0]
    SECONDS[file] = SECONDS.get(file, 0) + report.duration
    if report.when == "call":
        for name, value in report.user_properties:
            if name == "fault":
                FAULTS.setdefault(tuple(value), []).append(report.passed)  # type: ignore[arg-type]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The list: fault, outcome."""
    if FAULTS:
        terminalreporter.section("faults")
        repeats = os.environ.get("FAULT_REPEATS", "2")
        for (number, title), passed in sorted(
            FAULTS.items(), key=lambda fault: (int(fault[0][0][1:]), fault[0][1])
        ):
            outcome = "survived" if all(passed) else "NOT SURVIVED"
            terminalreporter.write_line(
                f"  {number:<4} {title:<84} {outcome} ({len(passed)} tests)"
            )
        terminalreporter.write_line(
            f"  What has randomness in it was repeated {repeats} times; FAULT_REPEATS changes that."
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Bring the table of durations up to date where that is asked for."""
    if os.environ.get("RECORD_DURATIONS") and not hasattr(session.config, "workerinput"):
        table = json.loads(DURATIONS.read_text()) | {
            file: round(seconds) for file, seconds in SECONDS.items()
        }
        DURATIONS.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests in `contract`, `e2e`, `faults` and `soak` need the lab's machines; a story stays whole.

    Where several workers share the files, the longest come first, so that no worker is alone with a
    long one at the end; before them what one worker is to have from its beginning (`together`),
    because workers take work from the end of each other's lists. Every worker must collect in the
    same order.
    """
    for item in items:
        if LAB_SUITES & set(item.path.parts):
            item.add_marker(pytest.mark.lab)
    if hasattr(config, "workerinput"):
        table: dict[str, float] = json.loads(DURATIONS.read_text())
        items.sort(
            key=lambda item: (
                item.get_closest_marker("together") is None,
                -table.get(item.nodeid.partition("::")[0], 0),
            )
        )


@pytest.fixture(scope="session")
def users_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder in place of the developer's own cache."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def no_ambient_stack(monkeypatch: pytest.MonkeyPatch, users_cache: str) -> None:
    """A developer's own Pulumi settings must not leak into the tests, nor what these write into
    their cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", users_cache)
    for name in [
        name
        for name in os.environ
        if name.startswith("PULUMI_CONFIG") and name != "PULUMI_CONFIG_PASSPHRASE"
    ]:
        monkeypatch.delenv(name)
