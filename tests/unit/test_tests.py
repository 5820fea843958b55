"""What holds of the tests themselves: which module imports which, what a plain `pytest` runs, where
a story ends, and which chance can be had again."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import chance
from tests.conftest import DURATIONS, LAB_SUITES

TESTS = Path(__file__).resolve().parents[1]
MODULES = sorted(TESTS.rglob("*.py"))
ROOT = TESTS.parent
SEED_ITSELF = "random.SystemRandom().randrange(10 ** 9)"


def imported(path: Path) -> set[str]:
    """Absolute names of the modules that a module imports, and of what it takes from them."""
    found = set()
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.Import):
            found |= {alias.name for alias in item.names}
        elif isinstance(item, ast.ImportFrom) and item.module:
            found |= {item.module, *(f"{item.module}.{alias.name}" for alias in item.names)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_module_imports_a_test_module(path: Path) -> None:
    """What several need is a module with a noun for a name: `tests/builders.py`, `tests/lab/`."""
    tests = {
        name
        for name in imported(path)
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
    }
    assert tests == set()


def test_what_is_drawn_by_lot_can_be_drawn_again() -> None:
    """Only `random.Random` with a seed; `random.uniform` and its like have none that is known."""
    drawn = {
        (path.name, ast.unparse(call))
        for path in MODULES
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("random.")
    }
    assert {
        (name, call) for name, call in drawn if not call.startswith(("random.Random(seed)",))
    } == {("chance.py", "random.SystemRandom()"), ("chance.py", SEED_ITSELF)}


def test_the_same_seed_and_test_have_the_same_chance_and_it_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    delays = [chance.Chance("1", "a").wait(0, 0.001) for _ in range(2)]
    assert delays[0] == delays[1]
    assert f"after {delays[0]:.4f} s (FAULT_SEED=1)" in capsys.readouterr().out
    assert chance.Chance("2", "a").uniform(0, 0.001) != delays[0]
    assert chance.Chance("1", "b").uniform(0, 0.001) != delays[0]


def test_every_file_of_the_labs_suites_is_in_the_table_of_durations() -> None:
    """A file that is not would come last, and one lab would be alone with it at the end."""
    there = {
        str(path.relative_to(ROOT))
        for suite in LAB_SUITES - {"soak"}
        for path in (TESTS / suite).glob("test_*.py")
    }
    table = json.loads(DURATIONS.read_text())
    assert there - set(table) == set(), "RECORD_DURATIONS=1 make test"
    assert {name for name in table if not (ROOT / name).exists()} == set()


def run_pytest(folder: Path, *words: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if "XDIST" not in name},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def test_a_plain_pytest_needs_no_lab() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("testpaths")]
    folders = ast.literal_eval(line.partition("=")[2].strip())
    assert set(folders) == {"tests/unit", "tests/component", "tests/program"}


STORY = """
import pytest
pytestmark = pytest.mark.story
def test_it_begins(): pass
def test_it_breaks(): assert False
def test_it_would_go_on(): pass
"""


def test_a_story_ends_with_its_first_failure_which_is_named_and_others_go_on(
    tmp_path: Path,
) -> None:
    (tmp_path / "conftest.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.conftest import pytest_runtest_makereport, pytest_runtest_setup\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = story: x\n")
    (tmp_path / "test_story.py").write_text(STORY)
    (tmp_path / "test_other.py").write_text(
        STORY.replace("pytestmark = pytest.mark.story", "").replace("assert False", "pass")
    )
    text = run_pytest(tmp_path, "-rs", "test_story.py", "test_other.py")
    assert "1 failed, 4 passed, 1 skipped" in text, text
    assert "it builds on test_it_breaks, which failed" in text
