"""From Pulumi's own JSON of a preview to a few lines that a person reads: which key changes from what to what. Pure.

Pulumi's diff of a node would show the packed program that goes there; here it is a word. Secrets are not this module's business:
it shows what it is given, and is given placeholders (`state.py`, `room.py`). But what it is given may come from a pull request:
no control character of it reaches a terminal, nothing of it is markup in a comment, and of URLs it hides what they may hold of
credentials.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.registry_mirror.plain_text import markdown_code, one_line, without_credentials
from review.state import SECRET, SIGNATURE, UNKNOWN

_OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
"""How a value is marked of which more than itself is known (pulumi sdk/go/common/resource/sig, OutputValue)."""
_ENDED = frozenset({"preview failed", "update failed"})
"""What Pulumi adds to a failure that it has told, or that a policy pack is."""
KINDS = {
    "docker:index/service:Service": "swarm service",
    "docker:index/serviceConfig:ServiceConfig": "swarm config",
    "docker:index/secret:Secret": "swarm secret",
    "docker:index/network:Network": "network",
    "command:remote:Command": "command over SSH",
    "command:local:Command": "command here",  # or over SSH, see `_kind`
    "pulumi:providers:docker": "docker provider",
}
SIGNS = {"create": "+", "update": "~", "replace": "±", "delete": "-", "import": "=", "refresh": "~"}
VERBS = {"create": "new", "update": "changes", "replace": "is replaced", "delete": "goes", "import": "is taken over"}
COUNTED = {"create": "new", "import": "taken over", "update": "to change", "replace": "to replace", "delete": "to go"}
_ENOUGH = 12
"""Lines of a long text's difference: more of them are read in the pull request itself."""
_KEYED_BY = ("label", "target", "fileName", "targetPort", "name")
_REPEATED = re.compile(r"labels\[\d+\]\.")
"""The gate is told the services' labels, as a reason to look again; they are shown with the services."""
_ONLY_ORDERS = re.compile(r"-wave-\d+$")
"""The name of what stands between two waves of the roll-out, and does nothing (components/registry_mirror/node.py)."""
_PINNED = re.compile('(?<==")[0-9a-f]{64}(?="or\\()')
"""In a command on a node, the digest of the agent's program (components/registry_mirror/ship.py)."""
_SHELLS = ("taskSpec.containerSpec.", "taskSpec.")
_WIDTH = 160
"""Characters of a value that are shown."""


@dataclass(frozen=True)
class Change:
    """What happens to one resource. `lines` say which of its properties change."""

    op: str
    kind: str
    name: str
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What a preview says."""

    stack: str
    changes: list[Change]
    unchanged: int
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def headline(self) -> str:
        """One line: `prod: 2 change, 1 new, 12 stay as they are`."""
        if self.faults:
            return f"{self.stack}: this cannot be applied"
        numbers = {op: sum(change.op == op for change in self.changes) for op in COUNTED}
        counts = [f"{number} {COUNTED[op]}" for op, number in numbers.items() if number]
        same = f"; {self.unchanged} stay as they are" if self.unchanged else ""
        return f"{self.stack}: {', '.join(counts) or 'nothing changes'}{same}"


def read(stack: str, preview: Mapping[str, Any]) -> Report:
    """The report of `pulumi preview --json`. Steps that only wrap others (the stack, the component) are left out."""
    changes, unchanged = [], 0
    for step in preview.get("steps") or []:
        kind, name = _type_and_name(step["urn"])
        if kind not in KINDS or _ONLY_ORDERS.search(name):
            continue
        name = one_line(name)
        op = str(step["op"])
        if op in ("same", "read"):
            unchanged += 1
        elif op in ("create-replacement", "delete-replaced", "discard-replaced", "read-replacement"):
            continue  # halves of a replacement, which has a step of its own
        else:
            changes.append(Change(op, _kind(kind, name, step), name, list(_lines(op, step))))
    errors, notes = _diagnostics(preview.get("diagnostics") or [])
    return Report(stack, changes, unchanged, errors, notes)


def _kind(kind: str, name: str, step: Mapping[str, Any]) -> str:
    """What a resource is to a person; one of our commands goes to a machine if it is told of one."""
    if not kind.startswith("command:"):
        return KINDS[kind]
    inputs = (step.get("newState") or step.get("oldState") or {}).get("inputs") or {}
    there = kind == "command:remote:Command" or "MIRROR_SSH" in (unmarked(inputs).get("environment") or {})
    return "node" if there and "-node-" in name else KINDS["command:remote:Command"] if there else KINDS[kind]


def as_text(report: Report) -> str:
    """For a terminal."""
    blocks = [report.headline]
    blocks += [_blocks(report.changes)] if report.changes else []
    blocks += [_list("Against the policy:", report.violations)] if report.violations else []
    blocks += ["\n".join(report.faults)] if report.faults else []
    blocks += ["\n".join(f"  note: {note}" for note in report.notes)] if report.notes else []
    return "\n\n".join(blocks) + "\n"


def as_markdown(report: Report) -> str:
    """For a comment on a pull request; its first line lets the next run find it again."""
    body = _fenced(_blocks(report.changes))
    faults = _fenced("\n".join(report.faults))
    parts = [f"{marker(report.stack)}\n### Preview of {report.headline}"]
    # What changes is `!` there: a line of a diff that begins with `~` has no colour.
    parts += [f"```diff\n{re.sub(r'(?m)^~', '!', body)}\n```"] if body else []
    parts += [_list("**Against the policy:**", map(markdown_code, report.violations))] if report.violations else []
    parts += [f"```\n{faults}\n```"] if report.faults else []
    parts += ["\n".join(f"> {markdown_code(note)}" for note in report.notes)] if report.notes else []
    return "\n\n".join(parts) + "\n"


def marker(stack: str) -> str:
    """A line that GitHub and GitLab do not show."""
    return f"<!-- swarm-registry-mirror preview of {stack} -->"


def resources(preview: Mapping[str, Any], planned: Mapping[str, Mapping[str, Any]] | None = None) -> list[dict[str, Any]]:
    """What will be there afterwards: each resource as the policies want it (policy/rules.py).

    `planned`: URN -> inputs, where more is known of them than a preview shows.
    """
    found = []
    for step in preview.get("steps") or []:
        after = step.get("newState")
        if step["op"] in ("delete", "delete-replaced", "discard-replaced") or not after:
            continue
        kind, name = _type_and_name(step["urn"])
        found.append(
            {
                "type": kind,
                "name": name,
                "urn": step["urn"],
                "inputs": unmarked((planned or {}).get(step["urn"]) or after.get("inputs") or {}),
                "dependencies": after.get("dependencies") or [],
                "ignored": after.get("ignoreChanges") or [],
            }
        )
    return list({resource["urn"]: resource for resource in found}.values())


def unmarked(value: Any) -> Any:
    """Values without the marks of secrets and outputs around them, also where one is within another."""
    if isinstance(value, list):
        return [unmarked(item) for item in value]
    if not isinstance(value, dict):
        return value
    mark = value.get(SIGNATURE)
    if mark == SECRET:
        return unmarked(json.loads(value["plaintext"])) if "plaintext" in value else unmarked(value.get("value", UNKNOWN))
    if mark == _OUTPUT:
        return unmarked(value.get("value", UNKNOWN))
    return {key: unmarked(item) for key, item in value.items()}


def _type_and_name(urn: str) -> tuple[str, str]:
    _, _, kinds, name = urn.split("::", 3)
    return kinds.rpartition("$")[2], name


def _blocks(changes: Sequence[Change]) -> str:
    lines = []
    for change in changes:
        lines.append(f"{SIGNS.get(change.op, '~')} {change.name} ({change.kind}) {VERBS.get(change.op, change.op)}")
        lines += [f"    {line}" for line in change.lines]
    return "\n".join(lines)


def _list(title: str, items: Iterable[str]) -> str:
    return "\n".join([title, "", *(f"- {item}" for item in items)])


def _fenced(text: str) -> str:
    """Text that cannot end the block of code that it stands in."""
    return text.replace("```", "'''")


def _lines(op: str, step: Mapping[str, Any]) -> Iterator[str]:
    before, after = (flatten(unmarked((step.get(side) or {}).get("inputs") or {})) for side in ("oldState", "newState"))
    if op in ("create", "import", "delete"):
        # A new or disappearing resource is its name; of a node, what it is told is worth a line.
        told = after if op != "delete" else before
        yield from (
            f"{key}: {_shown(told[key])}"
            for key in ("mirror", "image", "environment.MIRROR_SSH", "connection.host")
            if key in told
        )
        yield from (f"{plain(key)}: {_shown(value)}" for key, value in told.items() if key.startswith("keys."))
        return
    for path in [*before, *(path for path in after if path not in before)]:
        old, new = before.get(path), after.get(path)
        if old == new or _REPEATED.match(path):
            continue
        if path == "environment.MIRROR_RUNNER":
            yield "the node agents: another version"
            continue
        if path in ("stdin", "triggers") and before.get("environment.MIRROR_RUNNER") != after.get("environment.MIRROR_RUNNER"):
            continue  # the same, once more
        key = plain(path)
        if key in ("create", "delete") and _PINNED.sub("", str(old)) == _PINNED.sub("", str(new)):
            continue  # the program's digest, which is said in a line of its own
        if key == "program":
            yield "the agent's program: another version"
        elif _is_long(old) or _is_long(new):
            yield f"{key}:"
            yield from (f"  {line}" for line in _text_difference(str(old or ""), str(new or "")))
        elif isinstance(old, list) and isinstance(new, list):
            without, added = ([_shown(item) for item in one if item not in other] for one, other in ((old, new), (new, old)))
            items = [*(f"without {item}" for item in without), *(f"with {item}" for item in added)]
            yield f"{key}: {', '.join(items) or 'in another order'}{_ALIKE if set(without) & set(added) else ''}"
        elif old is None:
            yield f"{key}: {_shown(new)} (new)"
        elif new is None:
            yield f"{key}: {_shown(old)} (goes)"
        else:
            yield f"{key}: {_difference(old, new)}"


def flatten(value: object, place: str = "") -> dict[str, object]:
    """Every leaf by its path. Lists of named things go by name, JSON in a text is opened, a packed program is a digest."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            opened = json.loads(value)
        except ValueError:
            return {place: value}
        # What an agent is told: its keys stand for themselves, whatever property carries them.
        return flatten(opened, "" if place == "stdin" else place)
    if isinstance(value, dict):
        found: dict[str, object] = {}
        for key, item in value.items():
            if str(key).startswith("__"):
                continue  # the engine's own remarks, like a bridged provider's `__defaults`
            path = f"{place}.{key}" if place else str(key)
            if key == "program" and isinstance(item, str):
                found["program"] = hashlib.sha256(item.encode()).hexdigest()
            else:
                found |= flatten(item, path)
        return {_short(path): leaf for path, leaf in found.items()}
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        by = next((key for key in _KEYED_BY if all(key in item for item in value)), None)
        found = {}
        for index, item in enumerate(value):
            name = item[by] if by else index
            rest = {key: leaf for key, leaf in item.items() if key != by}
            only = rest["value"] if set(rest) == {"value"} else rest
            found |= flatten(only, f"{place}[{name}]")
        return {_short(path): leaf for path, leaf in found.items()}
    return {place: value}


def _short(path: str) -> str:
    for shell in _SHELLS:
        path = path.removeprefix(shell)
    return path


def _is_long(value: object) -> bool:
    return isinstance(value, str) and "\n" in value.strip()


_ALIKE = " (they differ in what is not shown)"


def _shown(value: object) -> str:
    text = _whole(value)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "…"


def _difference(old: object, new: object) -> str:
    """Two values that are not the same, and do not look so: of long ones the part where they begin to differ."""
    texts = _whole(old), _whole(new)
    if max(map(len, texts)) <= _WIDTH:
        return f"{texts[0]} → {texts[1]}{_ALIKE if texts[0] == texts[1] else ''}"
    same = next((at for at, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), min(map(len, texts)))
    start = max(same - _WIDTH // 4, 0) if same > _WIDTH // 2 else 0
    parts = ["…" * (start > 0) + text[start : start + _WIDTH] + "…" * (len(text) > start + _WIDTH) for text in texts]
    return f"{parts[0]} → {parts[1]}{_ALIKE if parts[0] == parts[1] else ''}"


def _whole(value: object) -> str:
    """A value on one line, however long."""
    if value == UNKNOWN:
        return "(known afterwards)"
    text = ", ".join(map(str, value)) if isinstance(value, list) else json.dumps(value) if isinstance(value, bool) else str(value)
    return re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1…", plain(text))


def plain(text: str) -> str:
    """A text, however long, on one line, without what must not reach a terminal and without credentials in URLs."""
    return without_credentials(one_line(text, limit=max(len(text), 1)))


def plain_lines(text: str) -> str:
    """A text of several lines as `plain` leaves each, indented as before."""
    return "\n".join(_indentation(line) + plain(line) for line in text.strip().splitlines())


def _text_difference(old: str, new: str) -> Iterator[str]:
    lines = [
        line.rstrip()
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]
    yield from (line[0] + _indented(line[1:]) for line in lines[:_ENOUGH])
    if len(lines) > _ENOUGH:
        yield f"… and {len(lines) - _ENOUGH} lines more"


def _indented(line: str) -> str:
    """A line of a text, with its indentation and at most as wide as a value."""
    return _indentation(line) + _shown(line)


def _indentation(line: str) -> str:
    return " " * (len(line) - len(line.lstrip(" ")))


def _diagnostics(found: Sequence[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """Errors and notes, each once, without Pulumi's own noise."""
    errors: list[str] = []
    notes: list[str] = []
    for diagnostic in found:
        text = plain_lines(diagnostic.get("message", ""))
        if diagnostic.get("severity") == "error":
            text = text.removeprefix("error: ")
            if "an unhandled error occurred" not in text and text not in _ENDED:
                errors.append(text)
        elif "from $PATH" not in text and "STAND-IN" not in text and text:
            notes.append(text.removeprefix("warning: "))
    return list(dict.fromkeys(errors)), list(dict.fromkeys(notes))
