"""Finds in what Pulumi prints why a run failed: each reason once, with the name of the machine or
resource. Pure.

Pulumi prints a reason up to three times, plugins put several lines around theirs, and one manager
that does not answer is the same reason for every service. These texts are only shown; nothing
is decided by it.
"""

import re
from collections.abc import Iterator

OURS = "registry mirror: "
"""The node agent's own sentences begin with this."""
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?")
_HEAD = re.compile(r"  \S+:\S+ \((\S+)\):$")
_SEVERITY = re.compile(r" {0,4}(error|warning|info|debug): ?")
_FAULTS = re.compile(r"\d+ faults? in the configuration")
_NAMED = 3
"""Resources that are named of those with the same reason."""


def reason(output: str) -> str:
    """The lines that matter of a failed run: the configuration's faults, else each error's own
    words, once."""
    lines = [_printable(line) for line in output.splitlines()]
    found: dict[str, list[str]] = {}
    for name, block in _blocks(lines):
        for entry in _errors(block):
            if _FAULTS.match(entry[0]):
                return "\n  ".join(
                    [
                        entry[0].strip(),
                        *dict.fromkeys(
                            line.strip() for line in entry if line.strip().startswith("- ")
                        ),
                    ]
                )
        for words in _matters(block):
            names = found.setdefault(words, [])
            if name not in names:
                names.append(name)
    if found:
        return "\n        ".join(
            _named(words, [name for name in names if name]) for words, names in found.items()
        )
    return next(
        (line.strip() for line in reversed(lines) if line.strip()), "pulumi failed without a word"
    )


def _printable(line: str) -> str:
    text = _ESCAPE.sub("", line).replace("\t", "    ")
    return "".join(character for character in text if character.isprintable())


def _blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Short name and lines of each resource in Pulumi's diagnostics; all lines, without a name,
    where there are none."""
    if "Diagnostics:" not in lines:
        yield "", lines
        return
    rest = lines[lines.index("Diagnostics:") + 1 :]
    name, block = "", list[str]()
    for line in rest:
        if line and not line.startswith(" "):
            break  # `Outputs:` or `Resources:`, which end them
        head = _HEAD.match(line)
        if head:
            yield name, block
            name, block = _short(head[1]), []
        else:
            block.append(line)
    yield name, block


def _short(name: str) -> str:
    """A node is called by its own name; commands on the manager have none, because its sentences
    speak for themselves."""
    _, separator, node = name.partition("-node-")
    if separator:
        return node
    return "" if name.endswith(("-claim", "-ready", "-storage", "-network", "-restarts")) else name


def _errors(block: list[str]) -> Iterator[list[str]]:
    """The errors of a block, each with the lines that belong to it, but not that Pulumi has
    failed."""
    entry: list[str] | None = None
    for line in block:
        severity = _SEVERITY.match(line)
        if severity:
            if entry:
                yield entry
            words = line[severity.end() :]
            ended = words.strip() in ("update failed", "preview failed") or words.startswith(
                "an unhandled error occurred"
            )
            entry = [words] if severity[1] == "error" and not ended else None
        elif entry is not None:
            entry.append(line)
    if entry:
        yield entry


def _matters(block: list[str]) -> list[str]:
    """Of a resource's block the node agent's own sentences, else what its errors come to."""
    ours = [line.strip().removeprefix(OURS) for line in block if line.strip().startswith(OURS)]
    if ours:
        return list(dict.fromkeys(ours))
    errors = list(_errors(block))
    # The bridge's list of errors; the points that name a URN only say that there is a list in them.
    points = [
        line.strip()[2:]
        for entry in errors
        for line in entry
        if line.strip().startswith("* ") and "urn:pulumi:" not in line
    ]
    if points:
        return list(dict.fromkeys(map(_last_word, points)))
    return list(dict.fromkeys(_last_line(entry) for entry in errors if any(map(str.strip, entry))))


def _last_word(point: str) -> str:
    """Of a connection that failed what ssh said itself, which docker puts last, behind a command
    line and advice."""
    _, separator, said = point.rpartition("stderr=")
    return said if separator and said.strip() else point


def _last_line(entry: list[str]) -> str:
    """An error is its first line; that of a command is the last line that the command has said."""
    lines = [line.strip() for line in entry if line.strip()]
    return lines[-1] if lines[0].endswith(":") else lines[0]


def _named(words: str, names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    if not names or any(
        words.startswith(f"{name}: ") for name in names
    ):  # our own sentence may name it already
        return words
    return f"{', '.join(names[:_NAMED])}{more}: {words}"
