"""What becomes of a daemon.json's text: one JSON file per claim under cases/, and two laws that
hold for every text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.registry_mirror.node_agent import daemon_json

CASES = Path(__file__).parent / "cases" / "daemon_json"
ACTIONS: dict[str, Callable[[str, str], str]] = {
    "add": daemon_json.add_mirror,
    "remove": daemon_json.remove_mirror,
    "empty-list": lambda text, url: daemon_json.add_empty_list(text),
    "no-empty-list": lambda text, url: daemon_json.remove_empty_list(text),
}
URL = "https://mirror.example.com"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_text(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    data = None if case["text"] is None else case["text"].encode()
    act = ACTIONS[case["action"]]
    if "refused" in case:
        with pytest.raises(daemon_json.Refused, match=case["refused"]):
            act(daemon_json.decode(data), case["url"])
    else:
        assert act(daemon_json.decode(data), case["url"]) == case["expect"]


def test_bytes_that_are_no_utf8_are_refused_with_their_place() -> None:
    with pytest.raises(daemon_json.Refused, match="byte 7 is not UTF-8"):
        daemon_json.decode(b'{"a": "\xff"}')


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_refused_with_the_command_that_converts_it(encoding: str) -> None:
    with pytest.raises(daemon_json.Refused, match="iconv"):
        daemon_json.decode("\ufeff{}".encode(encoding))


def test_a_file_of_ten_megabytes_is_refused() -> None:
    with pytest.raises(daemon_json.Refused, match="10000000 bytes"):
        daemon_json.decode(b" " * 10_000_000)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
urls = st.from_regex(r"https://[a-z]{1,8}\.test", fullmatch=True)
documents = st.builds(
    lambda before, mirrors, after, indent, ascii_only: json.dumps(
        {**before, **({"registry-mirrors": mirrors} if mirrors is not None else {}), **after},
        indent=indent,
        ensure_ascii=ascii_only,
    ),
    st.dictionaries(
        st.text().filter(lambda key: key != "registry-mirrors"), json_values, max_size=4
    ),
    st.none() | st.lists(urls, min_size=1, max_size=4),
    st.dictionaries(
        st.text().filter(lambda key: key != "registry-mirrors"), json_values, max_size=4
    ),
    st.sampled_from([None, 0, 1, 4, "\t"]),
    st.booleans(),
)


@given(documents)
def test_adding_gives_what_a_json_library_would_and_touches_nothing_else(text: str) -> None:
    before, after = json.loads(text), json.loads(daemon_json.add_mirror(text, URL))
    mirrors = before.pop("registry-mirrors", [])
    assert after.pop("registry-mirrors") == [URL, *mirrors]
    assert list(after.items()) == list(before.items())


@given(documents)
def test_removing_what_was_added_gives_the_same_bytes(text: str) -> None:
    added = daemon_json.add_mirror(text, URL)
    removed = daemon_json.remove_mirror(added, URL)
    if "registry-mirrors" not in json.loads(text):
        removed = daemon_json.remove_empty_list(removed)
    assert removed == text
