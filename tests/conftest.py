"""What several kinds of tests need."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.installed import installed as installed
from tests.installed import wheel as wheel
from tests.lab_fixture import lab as lab

settings.register_profile("ours", deadline=None, max_examples=200)
settings.load_profile("ours")


FAULTS: dict[tuple[str, str], list[bool]] = {}
"""(number, title) -> whether each test of it passed."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Mark the report of every test that stands for a fault of the project's list; it may be made by a worker of xdist."""
    outcome: Any = yield
    outcome.get_result().user_properties += [("fault", list(mark.args)) for mark in item.iter_markers("fault")]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of those tests; a fixture that fails before its test is no outcome of the fault."""
    if report.when == "call":
        for name, value in report.user_properties:
            if name == "fault":
                FAULTS.setdefault(tuple(value), []).append(report.passed)  # type: ignore[arg-type]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The list: fault, outcome."""
    if FAULTS:
        terminalreporter.section("faults")
        repeats = os.environ.get("FAULT_REPEATS", "2")
        for (number, title), passed in sorted(FAULTS.items(), key=lambda fault: (int(fault[0][0][1:]), fault[0][1])):
            outcome = "survived" if all(passed) else "NOT SURVIVED"
            terminalreporter.write_line(f"  {number:<4} {title:<84} {outcome} ({len(passed)} tests)")
        terminalreporter.write_line(f"  What has randomness in it was repeated {repeats} times; FAULT_REPEATS changes that.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in `contract`, `e2e`, `faults` and `soak` need the lab's machines."""
    for item in items:
        if {"contract", "e2e", "faults", "soak"} & set(item.path.parts):
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def users_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder in place of the developer's own cache."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def no_ambient_stack(monkeypatch: pytest.MonkeyPatch, users_cache: str) -> None:
    """A developer's own Pulumi settings must not leak into the tests, nor what these write into their cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", users_cache)
    for name in [name for name in os.environ if name.startswith("PULUMI_CONFIG") and name != "PULUMI_CONFIG_PASSPHRASE"]:
        monkeypatch.delenv(name)
