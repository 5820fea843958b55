"""The agent's answer is found whatever a machine prints around it, and nothing else is taken for
one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.registry_mirror import answer


@given(st.text(), st.text(), st.text())
def test_an_answer_is_found_between_anything(before: str, said: str, after: str) -> None:
    if answer.BEGIN in before + after:
        return
    printed = answer.marked(said)
    assert printed.isascii()
    assert len(printed.splitlines()) == 1
    assert answer.find(before + printed + after) == said


def test_an_answer_that_quotes_our_marks_is_one_answer() -> None:
    assert answer.find(answer.marked(answer.marked("a"))) == answer.marked("a")


def test_the_last_answer_counts() -> None:
    assert answer.find(answer.marked("first") + "\n" + answer.marked("last")) == "last"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("", "there came nothing"),
        ("Welcome to node1\n", "there came only this: Welcome to node1"),
        ("fish: Unknown command\x1b[2J: id=\n", "only this: fish: Unknown command: id="),
        (answer.marked("cut off")[:-1], "the agent's answer is missing"),
        (f"{answer.BEGIN}\\x{answer.END}", "the agent's answer is missing"),
        ("\udcff\x00", "there came nothing"),
    ],
)
def test_anything_else_is_no_answer_and_is_said_in_plain_text(output: str, words: str) -> None:
    with pytest.raises(answer.NoAnswer) as refused:
        answer.find(output)
    assert words in str(refused.value)
    assert str(refused.value).isprintable()


@given(st.text())
def test_no_output_is_more_than_one_nodes_fault(output: str) -> None:
    assert answer.shown(output).isprintable()
    assert answer.complaint(output, 1, output).isprintable()
    with contextlib.suppress(answer.NoAnswer):
        answer.find(output)


def test_what_a_person_sees_is_the_answer_or_what_an_earlier_version_left() -> None:
    assert answer.shown("Welcome\n" + answer.marked("reloaded")) == "reloaded"
    assert answer.shown("unchanged") == "unchanged"
    assert answer.shown("Welcome\x1b]0;x\x07\nunchanged") == "Welcome unchanged"


@pytest.mark.parametrize(
    ("errors", "code", "output", "words"),
    [
        ("registry mirror: the disk is full\nlogout\n", 1, "", "the disk is full"),
        ("Illegal variable name.\n", 1, "", "Illegal variable name."),
        (
            "",
            1,
            "This account is currently not available.\n",
            "This account is currently not available.",
        ),
        ("", 137, "", "the command ended with 137 and said nothing"),
        ("registry mirror: a\x1b[2Jb\u202ec", 1, "", "abc"),
    ],
)
def test_a_complaint_is_ours_or_else_the_machines_last_word(
    errors: str, code: int, output: str, words: str
) -> None:
    assert answer.complaint(errors, code, output) == words
