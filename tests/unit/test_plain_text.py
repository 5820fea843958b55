"""What came from elsewhere is shown without being able to do anything: to a terminal, in Markdown,
in a fault."""

import ast
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.registry_mirror import plain_text

HOSTILE = st.text(st.one_of(st.characters(), st.sampled_from("\x1b[]\x07\x9b\u202e\u2028`|<@\n\\")))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;pwned\x07\x1b[2Jdocker", "docker"),
        ("\x1b[1;31mred\x1b[0m and \x9b32mgreen", "red and green"),
        ("\x1b]8;;https://evil.test\x1b\\a link\x1b]8;;\x1b\\", "a link"),
        ("\x1bP1$r0m\x1b\\after a device string", "after a device string"),
        ("\x1b(Bcharset", "charset"),
        ("cut off\x1b", "cut off"),
        ("one\r\ntwo\tthree\u2028four", "one two three four"),
        ("user\u202egnp.exe", "usergnp.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("half \ud800 character", "half character"),
        ("\x00nul\x08\x7f", "nul"),
        ("Zürich 東京", "Zürich 東京"),
        (None, "None"),
    ],
)
def test_a_line_has_no_power_over_a_terminal(text: object, shown: str) -> None:
    assert plain_text.one_line(text) == shown


@given(HOSTILE, st.integers(1, 50))
def test_no_text_has(text: str, limit: int) -> None:
    shown = plain_text.one_line(text, limit)
    assert len(shown) <= limit
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert plain_text.one_line(shown, limit) == shown


def test_a_line_that_was_cut_says_so() -> None:
    assert plain_text.one_line("x" * 10_000_000, 10) == "x" * 9 + "…"


def test_lines_are_the_last_ones_and_none_is_empty() -> None:
    assert plain_text.lines("a\r\n\n \x1b[2J\nb\rc") == ["a", "b", "c"]
    assert plain_text.lines("\n".join(map(str, range(1000))), at_most=2) == ["998", "999"]


@given(HOSTILE)
def test_code_in_markdown_ends_where_we_end_it(text: str) -> None:
    shown = plain_text.markdown_code(text)
    if not shown:
        return
    opening = re.match("`+", shown)
    assert opening is not None
    fence = opening[0]
    body = shown[len(fence) : -len(fence)]
    assert shown.endswith(fence)
    assert fence not in body
    assert not re.search(r"(?<!\\)\|", body)


@given(HOSTILE)
def test_a_block_in_markdown_ends_where_we_end_it(text: str) -> None:
    first, *body, last = plain_text.markdown_block(text).split("\n")
    assert first == last + "text"
    assert len(last) >= 3
    assert not [line for line in body if last in line]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pw@h.test/x", "https://[hidden]@h.test/x"),
        ("https://user:pa/ss@h.test", "https://[hidden]@h.test"),
        ("https://user:p@ss/w@h.test", "https://[hidden]@h.test"),
        ("https://TOKEN@h.test", "https://[hidden]@h.test"),
        ("'https://h.test/?token=CANARY'", "'https://h.test/?[hidden]'"),
        ("https://h.test/#CANARY", "https://h.test/#[hidden]"),
        ("h.test/v2/?token=CANARY", "h.test/v2/?[hidden]"),
        ("user:pa/ss@mirror.test", "[hidden]@mirror.test"),
        ("h.test/registry:3.1.1@sha256:abc", "h.test/registry:3.1.1@sha256:abc"),
        ("u:pw@h.test/registry@sha256:abc", "[hidden]@h.test/registry@sha256:abc"),
        ("is it well?", "is it well?"),
    ],
)
def test_credentials_in_urls_are_hidden_wholly(text: str, shown: str) -> None:
    assert plain_text.without_credentials(text) == shown


def test_a_node_can_carry_it_along() -> None:
    path = Path(plain_text.__file__)
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported == {"re", "unicodedata"}
