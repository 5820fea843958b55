"""The Makefile's names for the command's verbs: which stack is meant, and what is refused before
anything is made."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.registry_mirror.cli import __main__ as command
from lab import run, tryout
from lab.stack import Stack
from tools import toolchain
from tools.progress import StageError

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_A_TARGET = {"hostkeys", "completion", "policy", "up"}
"""Verbs whose target has another name or another way: `make hostkeys` has the file that the keys
belong in, `make policies` is `policy`, `make up` makes a lab, too."""


def make(*words: str) -> "subprocess.CompletedProcess[str]":
    """What make would run; nothing is run."""
    environment = {name: value for name, value in os.environ.items() if name != "SSH_USER"}
    return subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *words],
        cwd=ROOT,
        env={**environment, "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_verb_has_a_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?m)^([a-z-]+):", text))
    assert {verb.name for verb in command.VERBS} - WITHOUT_A_TARGET <= targets
    assert {"hostkeys", "policies", "up", "save-state"} <= targets


@pytest.mark.parametrize("verb", run.VERBS)
def test_a_target_gives_the_stack_that_is_named(verb: str) -> None:
    target = "policies" if verb == "policy" else verb
    done = make(target, "ENV=prod", "NODE=n1", "MANAGER=root@m1")
    assert f'lab.run {verb} "prod"' in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("target", ["up", "down"])
def test_nobody_is_asked_where_the_user_says_so(target: str) -> None:
    assert f'lab.tryout {target} "prod"' in make(target, "ENV=prod").stdout
    assert "--yes" not in make(target, "ENV=prod").stdout
    assert "--yes" in make(target, "ENV=prod", "YES=1").stdout
    assert make("repair", "ENV=prod", "YES=1").returncode == 0, "it asks nobody anyway"


@pytest.mark.parametrize("word", ["env=prod", "node=n1", "yes=1"])
def test_a_variable_in_small_letters_is_not_passed_over(word: str) -> None:
    done = make("status", word)
    assert done.returncode == 2
    assert f"say it in capitals: {word.partition('=')[0].upper()}=" in done.stderr


def test_rules_for_sudo_need_a_user() -> None:
    done = make("sudoers")
    assert "say SSH_USER=" in done.stdout
    assert done.stdout.index("say SSH_USER=") < done.stdout.index("cli sudoers")


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that knows no stack, and tools that are there."""
    monkeypatch.setattr(Stack, "exists", lambda self: False)
    monkeypatch.setattr(toolchain, "bring", lambda **_: None)
    monkeypatch.setattr(toolchain, "crane", lambda: None)


WAYS: dict[str, Callable[[str], object]] = {
    **{verb: lambda name, verb=verb: run.operate(verb, name, []) for verb in run.VERBS},  # type: ignore[misc]
    "up": lambda name: tryout.up(name, yes=True),
    "down": lambda name: tryout.down(name, yes=True),
}


@pytest.mark.usefixtures("unknown")
@pytest.mark.parametrize("verb", WAYS)
@pytest.mark.parametrize(
    ("name", "question"),
    [("prd", "did you mean prod?"), ("x", "there are dev, prod, staging")],
)
def test_a_stack_that_nobody_knows_is_a_question_and_makes_nothing(
    verb: str, name: str, question: str
) -> None:
    before = sorted(ROOT.glob("Pulumi.*"))
    with pytest.raises(StageError) as refused:
        WAYS[verb](name)
    assert f"there is no stack {name}; {question}" in refused.value.reason
    assert sorted(ROOT.glob("Pulumi.*")) == before


@pytest.mark.parametrize("change", [tryout.up, tryout.down])
def test_where_nobody_can_answer_pulumis_question_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[str], int]
) -> None:
    monkeypatch.setattr(toolchain, "bring", lambda **_: None)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(StageError, match="no terminal") as refused:
        change("prod")
    assert refused.value.remedy == "say YES=1 if it may"


def test_after_down_it_is_said_that_nothing_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.sandbox.Sandbox.init_pid", None)
    with pytest.raises(StageError, match="nothing is up in the stack dev") as refused:
        run.operate("status", "dev", [])
    assert refused.value.remedy == "`make up` starts it"


@pytest.mark.parametrize("verb", ["adopt", "pin"])
def test_the_labs_stack_is_nobody_elses(verb: str) -> None:
    with pytest.raises(StageError, match="the lab"):
        run.operate(verb, "dev", ["root@m1"])
