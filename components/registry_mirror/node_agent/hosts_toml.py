"""Edits the text of one `hosts.toml` so that everything we do not own stays byte for byte. Pure: no
file is touched here.

WHAT IT OWNS: one table `[host."https://mirror"]` for each of our mirrors. Every other table, key,
comment and blank line is never re-written, because the text is cut at the edges of what is ours and
nowhere else.

WHAT IT REFUSES: text that two readers could read differently, or that dockerd would ignore. dockerd
logs a file that it cannot read and goes on as if there were none (containerd
core/remotes/docker/config/hosts.go `loadHostDir`), so a file is edited only where it is TOML of the
kind that hosts.toml is described in: strings, booleans, lists and tables, one `[host."…"]` header
for each host. The order of the hosts is that of their headers (`getSortedHosts`), and the root's
`server` comes last.
"""

import json
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from .files import Failed

LARGEST = 1 << 20
"""Bytes of a hosts.toml beyond which something else must have been written there; real ones have
some hundred."""
DEEPEST = 4
"""Lists in lists; `client` has two."""

CAPABILITIES = ("pull", "resolve")
"""Of our host. Without the key a host has them all, `push` among them, and a push to a mirror
fails."""
KNOWN_CAPABILITIES = ("pull", "resolve", "push", "referrers")
REFERRERS_SINCE = (29, 1, 0)
"""docker from which on `referrers` is a capability (containerd 2.2); an earlier one ignores a file
that has the word."""

_DURATION = re.compile(r"[-+]?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
"""What Go's time.ParseDuration reads."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[A-Za-z0-9_+.:-]+")
_SPACE = re.compile(r"[ \t]*")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}

_MANAGED = re.compile(
    r"(?i)\b(?:ansible|puppet|chef|salt)[ _-]?managed\b|\bmanaged by (?:ansible|puppet|chef|salt)\b"
)
"""How the usual tools mark a file that they write as a whole (Ansible's `ansible_managed`)."""
_BLOCK = re.compile(r"\b(BEGIN|END) ANSIBLE MANAGED BLOCK\b")
"""How Ansible's blockinfile marks the lines that are its own; the rest of the file is not."""


class Refused(Failed):
    """The file cannot be edited without guessing; the message says what is wrong and what to do.
    Nothing was changed."""


class Host(NamedTuple):
    """One `[host."…"]` table with its subtables."""

    name: str
    start: int
    """Where the line of its header begins."""
    end: int
    """Behind the line of its last value (or header)."""
    values: Dict[str, Any]


class Document(NamedTuple):
    """A parsed hosts.toml."""

    text: str
    root: Dict[str, Any]
    hosts: List[Host]
    """In the order in which dockerd asks them; the root's `server`, or the registry itself, comes
    after them."""
    comments: List[Tuple[int, str]]
    """Where each begins, and its text."""
    tables_start: int
    """Where the line of the first table header begins; the length of the text where it has none."""


def decode(data: Optional[bytes]) -> str:
    """Text of the file; a missing one is like an empty one. Raises Refused."""
    if data is None:
        return ""
    if len(data) > LARGEST:
        raise Refused(
            "it has %d bytes, which no hosts.toml has; put the right file there [RM063]" % len(data)
        )
    if data[:3] == b"\xef\xbb\xbf":
        raise Refused(
            ("it begins with a byte order mark, which is not TOML; save it without [RM064]")
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(
            ("byte %d is not UTF-8; correct the text there [RM021]") % error.start
        ) from None


def hosts(text: str) -> List[str]:
    """The hosts that the text names, in the order in which dockerd asks them. Raises Refused."""
    return [host.name for host in parse(text).hosts]


def contains(names: List[str], url: str) -> bool:
    """Whether a mirror is among some hosts, however it is spelt."""
    return any(same(name, url) for name in names)


def same(one: str, other: str) -> bool:
    """Whether two names of hosts are one to dockerd, which puts https:// before a bare name and /v2
    behind the path."""
    return _normal(one) == _normal(other)


def _normal(name: str) -> Tuple[str, str, str]:
    parts = urlsplit(name if name.startswith("http") else "https://" + name)
    host = parts.netloc.lower()
    port = {"https": ":443", "http": ":80"}.get(parts.scheme, "")
    path = re.sub("/+", "/", parts.path).rstrip("/")
    path = path[: -len("/v2")] if path.endswith("/v2") else path
    return parts.scheme, host[: -len(port)] if port and host.endswith(port) else host, path


def table(url: str, settings: Dict[str, Any], newline: str = "\n") -> str:
    """The text of our table. `settings`: its keys, each a boolean, a string, or a list of strings
    or of lists."""
    header = "[host.%s]" % json.dumps(url)
    return "".join(line + newline for line in [header, *("  " + key for key in lines(settings))])


def lines(settings: Dict[str, Any]) -> List[str]:
    """Keys as TOML has them, one a line."""
    # Booleans and strings of ASCII are spelt in TOML as in JSON, and so are lists of them.
    return ["%s = %s" % (key, json.dumps(value)) for key, value in settings.items()]


def add(text: str, url: str, settings: Dict[str, Any]) -> str:
    """`text` with our table before all other hosts; in its place where it has one. Raises
    Refused."""
    document = parse(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    block = table(url, settings, newline)
    for host in document.hosts:
        if same(host.name, url):
            if text[host.start : host.end] == block or host.values == settings:
                return text
            last = "" if text[: host.end].endswith("\n") else newline
            return (
                text[: host.start] + (block[: -len(newline)] if last else block) + text[host.end :]
            )
    at = _insertion(document)
    if text[at:].strip(" \t\r\n"):
        return text[:at] + block + newline + text[at:]
    if not text:
        return block
    if text.endswith("\n"):
        return text + newline + block
    return text + newline + newline + block[: -len(newline)]


def remove(text: str, url: str) -> str:
    """`text` without the table of `url`, and without the blank line that `add` puts beside it.
    Raises Refused."""
    for host in parse(text).hosts:
        if not same(host.name, url):
            continue
        before, after = text[: host.start], text[host.end :]
        blank = re.match(r"\r?\n", after)
        if blank is not None:
            return before + after[blank.end() :]
        if not after:
            ending = r"\r?\n\Z" if text.endswith("\n") else r"\r?\n\r?\n\Z"
            before = re.sub(r"(?<=\n)" + ending if text.endswith("\n") else ending, "", before)
        return before + after
    return text


def _insertion(document: Document) -> int:
    """Where our table goes: behind the root's keys, before the first table and the comment that
    belongs to it."""
    at = document.tables_start
    if at == len(document.text):
        return at
    starts = dict(document.comments)
    while True:
        line = document.text.rfind("\n", 0, max(at - 1, 0)) + 1
        if at == 0 or line == at:
            return at
        beginning = line + len(document.text[line:at]) - len(document.text[line:at].lstrip(" \t"))
        if beginning not in starts:
            return at
        at = line


def managed_by(document: Document, at: int) -> Optional[str]:
    """Which tool's mark is over the place `at`, so that it would undo an edit there at its next
    run; None if none is."""
    inside = False
    for start, comment in document.comments:
        block = _BLOCK.search(comment)
        if block is not None:
            inside = (block.group(1) == "BEGIN") if start < at else inside
        elif _MANAGED.search(comment):
            return comment.strip("# \t")
    return "BEGIN ANSIBLE MANAGED BLOCK" if inside else None


def entry_point(document: Document, url: str) -> int:
    """The place that `add` would change."""
    return next(
        (host.start for host in document.hosts if same(host.name, url)), _insertion(document)
    )


def ignored_because(document: Document, version: Tuple[int, int, int]) -> Optional[str]:
    """Why dockerd of this version would ignore the whole file; None if it reads it
    (`parseHostConfig`)."""
    for where, values in [
        ("", document.root),
        *((host.name, host.values) for host in document.hosts),
    ]:
        wrong = _wrong(values, version)
        if wrong is not None:
            return wrong + (" (host %s)" % where if where else "")
    return None


def _wrong(values: Dict[str, Any], version: Tuple[int, int, int]) -> Optional[str]:
    kinds = {
        "capabilities": list,
        "skip_verify": bool,
        "override_path": bool,
        "dial_timeout": str,
        "server": str,
        "header": dict,
    }
    for key, kind in kinds.items():
        if key in values and not isinstance(values[key], kind):
            return "%s is of another kind than dockerd wants [RM066]" % key
    for word in values.get("capabilities", []):
        if not isinstance(word, str):
            return "capabilities is of another kind than dockerd wants [RM067]"
        if word.lower() not in KNOWN_CAPABILITIES:
            return "it has the unknown capability %s [RM068]" % json.dumps(word)
        if word.lower() == "referrers" and version < REFERRERS_SINCE:
            return (
                "it has the capability referrers, which docker knows from %d.%d on [RM069]"
                % REFERRERS_SINCE[:2]
            )
    timeout = values.get("dial_timeout")
    if timeout and not _DURATION.fullmatch(timeout):
        return "dial_timeout is %s, which is no duration [RM070]" % json.dumps(timeout)
    for value in values.get("header", {}).values():
        if not _is_text_or_texts(value):
            return "a header is neither a string nor a list of strings [RM071]"
    if "ca" in values and not _is_text_or_texts(values["ca"]):
        return "ca is neither a string nor a list of strings [RM072]"
    pairs = values.get("client", "")
    if not isinstance(pairs, str) and not (
        isinstance(pairs, list) and all(_is_client(pair) for pair in pairs)
    ):
        return "client is neither a string nor a list of strings or pairs [RM073]"
    return None


def _is_text_or_texts(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )


def _is_client(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value)
    )


KEYS = (
    "server",
    "host",
    "capabilities",
    "ca",
    "client",
    "skip_verify",
    "header",
    "override_path",
    "dial_timeout",
)
"""What dockerd knows in the file. It finds them in any case of letters (go-toml), and the order of
hosts in this one only."""


def parse(text: str) -> Document:
    """The parts of a hosts.toml. Raises Refused."""
    bad = _CONTROL.search(text)
    if bad is not None:
        raise _refused(text, bad.start(), "a control character, which is not TOML [RM074]")
    return _Reader(text).document()


class _Reader:
    """Reads a text from its start to its end; `at` is where it is."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.comments: List[Tuple[int, str]] = []

    def document(self) -> Document:
        root: Dict[str, Any] = {}
        found: List[Host] = []
        seen: List[Tuple[str, ...]] = []
        here, tables_start = root, len(self.text)
        other_tables: Dict[Tuple[str, ...], Dict[str, Any]] = {}
        while self.at < len(self.text):
            line = self.at
            self._space()
            if self._ends_line():
                continue
            if self.text[self.at] != "[":
                start = self.at
                key = self._key()
                if here is root and key == "host":
                    raise _refused(
                        self.text,
                        start,
                        (
                            "hosts that are not tables of their own; write each as"
                            ' [host."https://…"]'
                            " [RM075]"
                        ),
                    )
                self._expect("=")
                self._add(here, key, start)
                self._end_of_line()
                if seen and seen[-1][0] == "host" and len(seen[-1]) > 1:
                    found[-1] = found[-1]._replace(end=self.at)
                elif seen and seen[-1] == ("host",):
                    raise _refused(
                        self.text,
                        start,
                        ('a key of [host]; write each host as [host."https://…"] [RM076]'),
                    )
                continue
            tables_start = min(tables_start, line)
            path = self._header()
            if path in seen:
                raise _refused(self.text, line, "a table that was there before [RM220]")
            self._end_of_line()
            if path[0] != "host" or len(path) == 1:
                if path == ("header",) or len(path) > 1 or path[0] not in KEYS:
                    here = self._other_table(root, path, other_tables, line)
                elif path != ("host",):
                    raise _refused(self.text, line, "a table where dockerd wants a value [RM077]")
            elif found and found[-1].name == path[1]:
                found[-1] = found[-1]._replace(end=self.at)
                here = self._subtable(found[-1], path, line)
            else:
                if path[1] in [host.name for host in found]:
                    raise _refused(
                        self.text,
                        line,
                        (
                            "a host in two places, which dockerd asks twice; put its"
                            " tables together"
                            " [RM078]"
                        ),
                    )
                found.append(Host(path[1], line, self.at, {}))
                here = self._subtable(found[-1], path, line)
            seen.append(path)
        return Document(self.text, root, found, self.comments, tables_start)

    def _other_table(
        self,
        root: Dict[str, Any],
        path: Tuple[str, ...],
        others: Dict[Tuple[str, ...], Dict[str, Any]],
        line: int,
    ) -> Dict[str, Any]:
        """A table that is nobody's host: the root's `header`, or one that dockerd does not know."""
        if path == ("header",):
            if "header" in root:
                raise _refused(self.text, line, "header given twice [RM217]")
            root["header"] = {}
            found: Dict[str, Any] = root["header"]
            return found
        if path[0] in root or path[0] in KEYS:
            raise _refused(self.text, line, "a table where dockerd wants a value [RM077]")
        return others.setdefault(path, {})

    def _subtable(self, host: Host, path: Tuple[str, ...], line: int) -> Dict[str, Any]:
        if len(path) == 2:
            if host.values:
                raise _refused(self.text, line, "a table after a table within it [RM080]")
            return host.values
        if path[2:] != ("header",):
            raise _refused(
                self.text,
                line,
                "a table that no host has; is the host's name in quotes, as in"
                ' [host."https://…"]? [RM081]',
            )
        if "header" in host.values:
            raise _refused(self.text, line, "header given twice [RM217]")
        host.values["header"] = {}
        found: Dict[str, Any] = host.values["header"]
        return found

    def _add(self, here: Dict[str, Any], key: str, start: int) -> None:
        if key in here:
            raise _refused(self.text, start, "%s given twice [RM218]" % key)
        here[key] = self._value(0)

    def _header(self) -> Tuple[str, ...]:
        start = self.at
        self.at += 1
        if self.text[self.at : self.at + 1] == "[":
            raise _refused(
                self.text, start, ("a list of tables, which hosts.toml has no use for [RM082]")
            )
        path: List[str] = []
        while True:
            self._space()
            path.append(self._key(quoted_host=path == ["host"]))
            self._space()
            sign = self.text[self.at : self.at + 1]
            self.at += 1
            if sign == "]":
                return tuple(path)
            if sign != ".":
                raise _refused(self.text, start, "a header of a table that is not closed [RM083]")

    def _key(self, quoted_host: bool = False) -> str:
        start, sign = self.at, self.text[self.at : self.at + 1]
        if sign and sign in "\"'":
            key = self._string()
        else:
            bare = _BARE_KEY.match(self.text, self.at)
            if bare is None:
                raise _refused(
                    self.text,
                    start,
                    ("something that is neither a key nor a table nor a comment [RM084]"),
                )
            key, self.at = bare.group(), bare.end()
        if quoted_host:
            # A name that needs more than these is no URL, and what Go's parser makes of it is
            # nobody's business.
            if not re.fullmatch("[!-~]+", key) or set(key) & set("\\\"'%<>^`{|}"):
                raise _refused(self.text, start, "a host whose name is no URL [RM221]")
        elif key.lower() in KEYS and key not in KEYS:
            raise _refused(
                self.text,
                start,
                ("%s, which dockerd may or may not take for %s; write it so [RM085]")
                % (key, key.lower()),
            )
        return key

    def _value(self, depth: int) -> Any:
        start, sign = self.at, self.text[self.at : self.at + 1]
        if depth > DEEPEST:
            raise _refused(self.text, start, "lists within lists without end [RM086]")
        if sign and sign in "\"'":
            return self._string()
        if sign == "[":
            return self._list(depth)
        if sign == "{":
            return self._inline(depth)
        bare = _BARE_VALUE.match(self.text, self.at)
        word = bare.group() if bare is not None else ""
        if word not in ("true", "false"):
            raise _refused(
                self.text, start, "a value that is no string, list, table, true or false [RM087]"
            )
        self.at += len(word)
        return word == "true"

    def _list(self, depth: int) -> List[Any]:
        start = self.at
        found: List[Any] = []
        self.at += 1
        while True:
            self._blank()
            if self.text[self.at : self.at + 1] == "]":
                self.at += 1
                return found
            found.append(self._value(depth + 1))
            self._blank()
            sign = self.text[self.at : self.at + 1]
            if sign == ",":
                self.at += 1
            elif sign != "]":
                raise _refused(self.text, start, "a list that is not closed [RM223]")

    def _inline(self, depth: int) -> Dict[str, Any]:
        start = self.at
        found: Dict[str, Any] = {}
        self.at += 1
        self._space()
        if self.text[self.at : self.at + 1] == "}":
            self.at += 1
            return found
        while True:
            self._space()
            at = self.at
            key = self._key()
            self._expect("=")
            if key in found:
                raise _refused(self.text, at, "%s given twice [RM218]" % key)
            found[key] = self._value(depth + 1)
            self._space()
            sign = self.text[self.at : self.at + 1]
            self.at += 1
            if sign == "}":
                return found
            if sign != ",":
                raise _refused(self.text, start, "a table on one line that is not closed [RM088]")

    def _string(self) -> str:
        start, quote = self.at, self.text[self.at]
        if self.text.startswith(quote * 3, self.at):
            raise _refused(self.text, start, "a string over several lines; write it on one [RM089]")
        self.at += 1
        found: List[str] = []
        while True:
            sign = self.text[self.at : self.at + 1]
            if sign in ("", "\n", "\r"):
                raise _refused(self.text, start, "a string that is not closed [RM222]")
            self.at += 1
            if sign == quote:
                return "".join(found)
            found.append(self._escape(start) if sign == "\\" and quote == '"' else sign)

    def _escape(self, start: int) -> str:
        sign = self.text[self.at : self.at + 1]
        self.at += 1
        if sign in _ESCAPES:
            return _ESCAPES[sign]
        length = {"u": 4, "U": 8}.get(sign, 0)
        digits = self.text[self.at : self.at + length]
        if length and re.fullmatch("[0-9A-Fa-f]{%d}" % length, digits):
            code = int(digits, 16)
            if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:
                self.at += length
                return chr(code)
        raise _refused(self.text, start, "a string with an escape that TOML does not have [RM090]")

    def _expect(self, sign: str) -> None:
        self._space()
        if self.text[self.at : self.at + 1] != sign:
            words = (
                "a key with a dot, which may be a table; write the table [RM091]"
                if self.text[self.at : self.at + 1] == "."
                else ""
            )
            raise _refused(self.text, self.at, words or "a key without a value [RM219]")
        self.at += 1
        self._space()

    def _space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def _blank(self) -> None:
        """Over spaces, line ends and comments."""
        while True:
            self._space()
            if self.at >= len(self.text) or not self._ends_line():
                return

    def _ends_line(self) -> bool:
        """Over a comment and the end of the line, if that is all that is left of it."""
        if self.text[self.at : self.at + 1] == "#":
            end = self.text.find("\n", self.at)
            end = len(self.text) if end < 0 else end
            self.comments.append((self.at, self.text[self.at : end].rstrip("\r")))
            self.at = end
        for ending in ("\n", "\r\n"):
            if self.text.startswith(ending, self.at):
                self.at += len(ending)
                return True
        return self.at >= len(self.text)

    def _end_of_line(self) -> None:
        self._space()
        if not self._ends_line():
            raise _refused(self.text, self.at, "something behind a value or a header [RM092]")


def _refused(text: str, at: int, what: str) -> Refused:
    return Refused("line %d has %s" % (text.count("\n", 0, at) + 1, what))
