"""No decision hangs on prose: with `x` for every sentence, what is done stays what it was."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import without_words

ROOT = Path(__file__).resolve().parents[2]
BEHAVIOUR = (
    "plan",
    "node_agent",
    "hosts",
    "guard",
    "record",
    "swarm",
    "claim",
    "ready",
    "rolling_restart",
    "request",
    "deployed",
    "command",
)
"""Tests of what is done to nodes, and of what is concluded from a state."""
OPTIONS = "-q -rf -p tests.without_words -p no:cacheprovider --import-mode=importlib"
ABOUT_WORDS = ROOT / "tests" / "unit" / "cases" / "about-words.txt"
"""Tests that ask for a sentence elsewhere than in an assertion (in a table of cases, through a
helper): no decision hangs on those sentences, and each was looked at."""


def listed() -> set[str]:
    return {
        line for line in ABOUT_WORDS.read_text().splitlines() if line and not line.startswith("#")
    }


def test_with_x_for_every_sentence_everything_is_done_as_before() -> None:
    files = [f"tests/unit/test_{name}.py" for name in BEHAVIOUR]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS.split(), "-k", "not killed", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    failed = {
        re.sub(r"\[.*", "", name) for name in re.findall(r"(?m)^FAILED (\S+?::\w+)", done.stdout)
    }
    assert "error" not in done.stdout.splitlines()[-1], done.stdout[-3000:]
    assert failed == listed(), "\n".join(
        ["not listed:", *sorted(failed - listed()), "pass without:", *sorted(listed() - failed)]
    )


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("docker does not use %s yet", "x%sx"),
        ("%s is %s and becomes %s", "x%sx%sx%sx"),
        (", which needs a restart", "x"),
    ],
)
def test_a_sentence_keeps_its_placeholders_only(text: str, becomes: str) -> None:
    assert without_words.is_sentence(text)
    assert without_words.without_words(text) == becomes


@pytest.mark.parametrize("text", ["written-and-reloaded", "log-driver", "deadline exceeded", "id"])
def test_a_typed_word_and_what_others_say_stay(text: str) -> None:
    assert not without_words.is_sentence(text)


def test_the_sentences_of_the_agent_are_changed_and_its_program_is_not() -> None:
    source = (ROOT / "components/registry_mirror/node_agent/plan.py").read_text()
    changed = ast.unparse(without_words._Code().visit(ast.parse(source)))
    assert ", which needs a restart" in source
    assert ", which needs a restart" not in changed
    assert "'restart'" in changed
