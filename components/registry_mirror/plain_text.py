"""Makes text that came from elsewhere (a node, a registry, a user's file) safe to show: on a
terminal, in Markdown, in a fault.

Owns what counts as unsafe: control characters and escape sequences, characters that reorder or hide
text, Markdown's and HTML's own marks, and credentials in URLs. Pure; standard library only and
Python 3.8, because the node agent carries it along.
"""

import re
import unicodedata

LIMIT = 2000
"""Characters of a line that are shown; nobody reads more, and a node could send a billion."""

HIDDEN = "[hidden]"
"""Stands where credentials were."""

# ECMA-48: CSI with its parameters, the strings (OSC, DCS, SOS, PM, APC) up to their end, and any
# other two-character sequence.
_ESCAPE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"
    "|(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?"
    "|\x1b[ -/]*[0-~]?"
)
_WORD = re.compile("[^\\s'\"`<>]+")
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")
_QUERY = re.compile("[?#](?=.)")


def one_line(text: object, limit: int = LIMIT) -> str:
    """`text` as one line: no escape sequence, no control character, nothing that hides or reorders;
    cut at `limit` characters.

    Line ends and tabs become single spaces. A cut is shown by `…`, which counts.
    """
    # Cut before the work is done, with room for what is taken out; the text may be of any length.
    source = str(text)[: 4 * limit + 1024]
    plain = " ".join("".join(map(_shown, _ESCAPE.sub("", source))).split())
    return plain if len(plain) <= limit else plain[: max(limit - 1, 0)] + "…"


def lines(text: object, limit: int = LIMIT, at_most: int = 200) -> "list[str]":
    """The lines of `text` that have something in them, each as `one_line` leaves it; the last
    `at_most` of them."""
    plain = [
        one_line(line, limit)
        for line in re.split("\r\n|\r|\n", str(text)[-at_most * (limit + 2) :])
    ]
    return [line for line in plain if line][-at_most:]


def markdown_code(text: object, limit: int = LIMIT) -> str:
    """`text` as a span of code, also within a table: no markup, link, HTML or mention in it works.
    Empty stays empty.

    A fence longer than any run of backticks inside cannot be ended by what is inside (CommonMark
    6.1).
    """
    plain = one_line(text, limit)
    if not plain:
        return ""
    fence = "`" * (1 + _longest_run(plain))
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    # A table's cell ends at a bar even within code (GFM 4.10).
    return fence + pad + plain.replace("|", "\\|") + pad + fence


def markdown_block(text: object, limit: int = LIMIT) -> str:
    """`text` as a fenced block of code, line for line."""
    plain = lines(text, limit)
    fence = "`" * max(3, 1 + max([_longest_run(line) for line in plain] or [0]))
    return "\n".join([fence + "text", *plain, fence])


def without_credentials(text: str) -> str:
    """`text` with what URLs in it may hold of secrets hidden wholly: user and password, query,
    fragment.

    A password may itself have slashes or an @ in it, so everything up to a word's last @ is hidden,
    with or without a scheme in front. The @ of a digest is none.
    """
    return _WORD.sub(lambda word: _hidden(word[0]), text)


def _hidden(word: str) -> str:
    scheme = _SCHEME.match(word)
    start = scheme.end() if scheme else 0
    place = max((found.end() for found in re.finditer("@(?!sha256:)", word[start:])), default=0)
    rest = HIDDEN + "@" + word[start:][place:] if place else word[start:]
    query = _QUERY.search(rest) if scheme or "/" in rest else None
    return word[:start] + (rest if query is None else rest[: query.end()] + HIDDEN)


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _shown(character: str) -> str:
    kind = unicodedata.category(character)
    if character in "\t\n\r\v\f\x85\u2028\u2029":
        return " "
    # Cc: controls. Cf: marks that reorder (U+202E) or hide. Cs: halves of characters, which cannot
    # be written. Co, Cn: unknown.
    return "" if kind in ("Cc", "Cf", "Cs", "Co", "Cn") else character
