"""Edits the text of `daemon.json` so that everything we do not own stays byte for byte. Pure: no
file is touched here.

WHAT IT OWNS: one entry of the list `registry-mirrors`, and the values of managed keys. Everything
else, other mirrors, the order, the indentation, number and string spellings (1e400, \\u00e9) are
never re-written, because the text is cut at the edges of what is ours and nowhere else.

WHAT IT REFUSES: text of which two readers could think differently (not JSON, keys given twice, NaN,
a byte order other than UTF-8). dockerd would refuse most of it too, but silently, in a reload that
exits 0.
"""

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # public for decades, unknown to the type stubs
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .files import Failed

KEY = "registry-mirrors"
LARGEST = 1 << 20
"""Bytes of a daemon.json beyond which something else must have been written there; real ones have
some hundred."""

BOM = "\ufeff"
WHITESPACE = re.compile(r"[ \t\r\n]*")


class Refused(Failed):
    """The file cannot be edited without guessing; the message says what is wrong and what to do.
    Nothing was changed."""


class Member(NamedTuple):
    """One `"key": value` of the top-level object, with the places in the text where its parts begin
    and end."""

    key: str
    start: int
    value_start: int
    value_end: int
    value: Any


class Document(NamedTuple):
    """A parsed daemon.json: its text and where its parts are."""

    text: str
    opening: int
    closing: int
    members: List[Member]


def decode(data: Optional[bytes]) -> str:
    """Text of the file; a missing or blank one is an empty object to dockerd (moby
    daemon/config/config.go). Raises Refused."""
    if data is None:
        return ""
    if len(data) > LARGEST:
        raise Refused(
            ("it has %d bytes, which no daemon.json has; put the right file there [RM019]")
            % len(data)
        )
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Refused("it is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 [RM020]")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(
            ("byte %d is not UTF-8; correct the text there [RM021]") % error.start
        ) from None


def values(text: str) -> Dict[str, Any]:
    """The top-level keys and what they hold; numbers are not to be relied on. Raises Refused."""
    return {member.key: member.value for member in _parse(text).members}


def mirrors(text: str) -> List[str]:
    """The mirrors that the text configures, as written. Raises Refused."""
    member = _mirrors_member(_parse(text))
    return [] if member is None or member.value is None else list(member.value)


def has_list(text: str) -> bool:
    """Whether the text says anything about mirrors: only then does a reload of dockerd look at them
    (moby daemon/reload.go)."""
    return _mirrors_member(_parse(text)) is not None


def same(one: str, other: str) -> bool:
    """Whether two mirror URLs are one to dockerd, which puts a slash behind each."""
    return one.rstrip("/") == other.rstrip("/")


def contains(urls: List[str], url: str) -> bool:
    """Whether `url` is among the mirrors, whichever way it is spelt."""
    return any(same(listed, url) for listed in urls)


def add_mirror(text: str, url: str) -> str:
    """`text` with `url` as the first mirror, or as it is where `url` is listed already. Raises
    Refused.

    First, because dockerd asks mirrors in the order of the list, and a cache that is asked last
    saves nothing.
    """
    document = _parse(text)
    member = _mirrors_member(document)
    entry = json.dumps(url)
    if member is None:
        return _append(document, '"%s": [%s]' % (KEY, entry))
    if member.value is None:  # `null`: to dockerd the same as an empty list
        return text[: member.value_start] + "[" + entry + "]" + text[member.value_end :]
    if contains(member.value, url):
        return text
    after_bracket = member.value_start + 1
    if not member.value:
        return text[: member.value_start] + "[" + entry + "]" + text[member.value_end :]
    gap = _white(text, after_bracket)
    before_next = gap if "\n" in gap else " "
    return text[:after_bracket] + gap + entry + "," + before_next + text[after_bracket + len(gap) :]


def remove_mirror(text: str, url: str) -> str:
    """`text` without `url`, whichever way it is spelt; the list itself stays, empty if need be.
    Raises Refused."""
    member = _mirrors_member(_parse(text))
    if member is None or not member.value:
        return text
    while True:
        items = _items(text, member.value_start)
        index = next((n for n, item in enumerate(items) if same(item.value, url)), None)
        if index is None:
            return text
        if index + 1 < len(items):
            text = text[: items[index].start] + text[items[index + 1].start :]
        elif index > 0:
            text = text[: items[index - 1].value_end] + text[items[index].value_end :]
        else:
            text = text[: member.value_start] + "[]" + text[_skip(text, items[0].value_end) + 1 :]


def spelling(text: str, key: str) -> Optional[str]:
    """The value of a top-level key as it is spelt; None where the key is absent. Raises Refused."""
    document = _parse(text)
    return next((text[m.value_start : m.value_end] for m in document.members if m.key == key), None)


def set_key(text: str, key: str, spelt: str) -> str:
    """`text` with `key` at the value `spelt` (JSON); where the key has that value, however spelt,
    as it is. Raises Refused."""
    document = _parse(text)
    for member in document.members:
        if member.key == key:
            if json.loads(text[member.value_start : member.value_end]) == json.loads(spelt):
                return text
            return text[: member.value_start] + spelt + text[member.value_end :]
    return _append(document, "%s: %s" % (json.dumps(key), spelt))


def drop_key(text: str, key: str) -> str:
    """`text` without a top-level key. Raises Refused."""
    document = _parse(text)
    index = next((n for n, member in enumerate(document.members) if member.key == key), None)
    return text if index is None else _cut(document, index)


def add_empty_list(text: str) -> str:
    """`text` with `"registry-mirrors": []`, unless it says something about mirrors already.

    Without the key a reload keeps the mirrors that the daemon has; with an empty list it drops
    them.
    """
    document = _parse(text)
    return text if _mirrors_member(document) is not None else _append(document, '"%s": []' % KEY)


def remove_empty_list(text: str) -> str:
    """`text` without the key `registry-mirrors` if its list is empty. Raises Refused."""
    document = _parse(text)
    member = _mirrors_member(document)
    if member is None or member.value:
        return text
    return _cut(document, document.members.index(member))


def _cut(document: Document, index: int) -> str:
    """The text without one member, and without the comma and the space that it needed."""
    text, members = document.text, document.members
    if index + 1 < len(members):
        return text[: members[index].start] + text[members[index + 1].start :]
    if index > 0:
        return text[: members[index - 1].value_end] + text[members[index].value_end :]
    return text[: document.opening + 1] + text[document.closing :]


def _append(document: Document, member: str) -> str:
    """Put a member behind the last one, with the line breaks and indentation that the text already
    uses."""
    text = document.text
    if document.closing < 0:
        return (
            text + "{\n  " + member + "\n}\n" if text in ("", BOM) else "{\n  " + member + "\n}\n"
        )
    newline = "\r\n" if "\r\n" in text else "\n"
    if not document.members:
        inside = text[document.opening + 1 : document.closing]
        if "\n" in inside:
            return (
                text[: document.opening + 1]
                + newline
                + "  "
                + member
                + newline
                + text[document.closing :]
            )
        return text[: document.opening + 1] + member + text[document.closing :]
    last = document.members[-1]
    line_start = text.rfind("\n", 0, last.start) + 1
    indentation = text[line_start : last.start]
    own_line = line_start > document.opening and not indentation.strip()
    return (
        text[: last.value_end]
        + ","
        + (newline + indentation if own_line else " ")
        + member
        + text[last.value_end :]
    )


def _mirrors_member(document: Document) -> Optional[Member]:
    member = next((member for member in document.members if member.key == KEY), None)
    if member is None or member.value is None:
        return member
    if not isinstance(member.value, list) or not all(
        isinstance(item, str) for item in member.value
    ):
        found = document.text[member.value_start : member.value_end]
        raise Refused(
            '"%s" is %s, not a list of URLs; make it one, or remove it [RM022]' % (KEY, found[:60])
        )
    return member


def _parse(text: str) -> Document:
    start = len(BOM) if text.startswith(BOM) else 0
    position = _skip(text, start)
    if position == len(text):
        return Document(text, -1, -1, [])
    try:
        if text[position] != "{":
            _scan(text, position)
            raise Refused("it is JSON, but not an object; it must begin with { [RM023]")
        return _parse_object(text, position)
    except RecursionError:
        raise Refused("it is nested too deeply; put the right file there [RM024]") from None
    except ValueError as error:
        raise Refused("it is not JSON: %s; correct it there [RM025]" % error) from None


def _parse_object(text: str, opening: int) -> Document:
    members: List[Member] = []
    position = _skip(text, opening + 1)
    while position < len(text) and text[position] != "}":
        if members:
            _expect(text, position, ",")
            position = _skip(text, position + 1)
        _expect(text, position, '"')
        start = position
        key, position = scanstring(text, position + 1, True)
        position = _skip(text, position)
        _expect(text, position, ":")
        value_start = _skip(text, position + 1)
        value, value_end = _scan(text, value_start)
        if any(member.key == key for member in members):
            raise Refused('"%s" is given twice; remove one of them [RM026]' % key)
        members.append(Member(key, start, value_start, value_end, value))
        position = _skip(text, value_end)
    _expect(text, position, "}")
    if text[position + 1 :].strip(" \t\r\n"):
        raise json.JSONDecodeError(
            ("something follows the closing brace [RM027]"), text, position + 1
        )
    return Document(text, opening, position, members)


def _no_duplicates(pairs: "List[Any]") -> "dict[str, Any]":
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise Refused(
            '"%s" is given twice; remove one of them [RM026]'
            % next(key for key in keys if keys.count(key) > 1)
        )
    return found


def _no_constant(name: str) -> None:
    raise ValueError("%s is no JSON number" % name)


def _number(spelling: str) -> Tuple[str]:
    return (spelling,)


# Numbers are not read: 1e400 or 2^63 mean nothing to us and must not be judged by what a Python
# number can hold. What stands for them is no text, or a number in the list of mirrors would pass
# for a URL.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates,
    parse_constant=_no_constant,
    parse_float=_number,
    parse_int=_number,
)


def _scan(text: str, position: int) -> "tuple[Any, int]":
    if position >= len(text):
        raise json.JSONDecodeError("a value is missing", text, position)
    return _DECODER.raw_decode(text, position)


def _items(text: str, bracket: int) -> List[Member]:
    """The strings of the list that opens at `bracket`."""
    items: List[Member] = []
    position = _skip(text, bracket + 1)
    while text[position] != "]":
        value, end = _scan(text, position)
        items.append(Member("", position, position, end, value))
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return items


def _white(text: str, position: int) -> str:
    return text[position : _skip(text, position)]


def _skip(text: str, position: int) -> int:
    match = WHITESPACE.match(text, position)
    return match.end() if match else position


def _expect(text: str, position: int, character: str) -> None:
    if text[position : position + 1] != character:
        raise json.JSONDecodeError("%r is missing" % character, text, position)
