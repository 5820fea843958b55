"""From Pulumi's own JSON of a preview to a few lines that a person reads: which key changes from
what to what, and what that does to the swarm. Pure.

Pulumi's diff of a node would show the packed program that goes there; here it is a word. Secrets
are not this module's business: it shows what it is given, and is given placeholders (`redact.py`,
`sandbox.py`). But what it is given may come from a pull request: no control character of it reaches
a terminal, nothing of it is markup in a comment, and of URLs it hides what they may hold of
credentials.
"""

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...node_agent import daemon_keys
from ...plain_text import markdown_code, one_line, without_credentials
from ...policy import rules
from .redact import SECRET, SIGNATURE, UNKNOWN

_OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
"""The mark of a value of which more than itself is known (pulumi sdk/go/common/resource/sig,
OutputValue)."""
_ENDED = frozenset({"preview failed", "update failed"})
"""Messages of Pulumi's that only repeat a failure which it, or a policy pack, has reported."""
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
VERBS = {
    "create": "new",
    "update": "changes",
    "replace": "is replaced",
    "delete": "will be deleted",
    "import": "is taken over",
}
COUNTED = {
    "create": "new",
    "import": "taken over",
    "update": "to change",
    "replace": "to replace",
    "delete": "to delete",
}
_ENOUGH = 12
"""Lines of a long text's difference: more of them are read in the pull request itself."""
_KEYED_BY = ("label", "target", "fileName", "targetPort", "name")
_REPEATED = re.compile(r"labels\[\d+\]\.")
"""The gate's request has the services' labels, as a reason to ask again; they are shown with the
services."""
_PINNED = re.compile('(?<==")[0-9a-f]{64}(?="or\\()')
"""In a command on a node, the digest of the agent's program
(components/registry_mirror/ship.py)."""
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

    reloads: int = 0
    """Nodes whose docker may be reloaded; one that reads mirrors from hosts.toml is not."""
    restarts: int = 0
    """Nodes whose docker is restarted."""
    mirror_restarts: bool = False
    """Whether tasks of the mirror are replaced by others."""
    compared_with: str = ""
    """When the state was written that this was compared with; empty where there is none."""

    @property
    def headline(self) -> str:
        """One line: `prod: 2 change, 1 new, 12 stay as they are`."""
        return f"{self.stack}: {self.counts}"

    @property
    def counts(self) -> str:
        """How many resources change, and how."""
        if self.faults:
            return "this cannot be applied"
        numbers = {op: sum(change.op == op for change in self.changes) for op in COUNTED}
        counts = [f"{number} {COUNTED[op]}" for op, number in numbers.items() if number]
        same = f"; {self.unchanged} stay as they are" if self.unchanged else ""
        return f"{', '.join(counts) or 'nothing changes'}{same}"

    @property
    def verdict(self) -> str:
        """Whether it can be applied."""
        if self.faults:
            return "cannot be applied"
        number = len(self.violations)
        if number:
            return f"{number} policy violation{'s' if number > 1 else ''}"
        return "can be applied"

    @property
    def impact(self) -> str:
        """What it does to the swarm: `the mirror restarts, docker reloads on up to 2 nodes`."""
        if self.faults:
            return "nothing is changed"
        parts = ["the mirror restarts"] if self.mirror_restarts else []
        for verb, number, at_most in (
            ("reloads", self.reloads, "up to "),
            ("restarts", self.restarts, ""),
        ):
            if number:
                parts.append(f"docker {verb} on {at_most}{number} node{'s' if number > 1 else ''}")
        return ", ".join(parts) or "no docker is touched"

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            **dataclasses.asdict(self),
            "headline": self.headline,
            "verdict": self.verdict,
            "impact": self.impact,
        }


def read(stack: str, preview: Mapping[str, Any]) -> Report:
    """The report of `pulumi preview --json`. Steps that only wrap others (the stack, the component)
    are left out."""
    changes, unchanged, reloads, restarts, mirror_restarts = [], 0, 0, 0, False
    for step in preview.get("steps") or []:
        kind, name = _type_and_name(step["urn"])
        if kind not in KINDS or (kind == rules.LOCAL and _does_nothing(step)):
            continue
        name = one_line(name)
        op = str(step["op"])
        if op in ("same", "read"):
            unchanged += 1
        elif op in (
            "create-replacement",
            "delete-replaced",
            "discard-replaced",
            "read-replacement",
        ):
            continue  # halves of a replacement, which has a step of its own
        else:
            changes.append(Change(op, _kind(kind, step), name, list(_lines(op, step))))
            effects = _effects(op, step)
            reloads += "reload" in effects
            restarts += "restart" in effects
            mirror_restarts = mirror_restarts or (
                kind == rules.SERVICE and op in ("update", "replace")
            )
    errors, notes = _diagnostics(preview.get("diagnostics") or [])
    return Report(
        stack,
        changes,
        unchanged,
        errors,
        notes,
        reloads=reloads,
        restarts=restarts,
        mirror_restarts=mirror_restarts,
    )


def violations(declared: Sequence[Mapping[str, Any]]) -> list[str]:
    """What of `resources` is against a policy, in sentences."""
    return rules.check(declared)


def time_of(state: Mapping[str, Any] | None) -> str:
    """When a state was written, as a person reads it; empty where it does not say."""
    manifest = ((state or {}).get("deployment") or {}).get("manifest")
    text = str(manifest.get("time")) if isinstance(manifest, Mapping) else ""
    match = re.match(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[0-9:.]*(Z|[+-]\d\d:\d\d)$", text)
    return f"{match[1]} {match[2]} {'UTC' if match[3] == 'Z' else match[3]}" if match else ""


def _inputs(step: Mapping[str, Any], side: str) -> dict[str, Any]:
    inputs: dict[str, Any] = unmarked((step.get(side) or {}).get("inputs") or {})
    return inputs


def _is_node(step: Mapping[str, Any]) -> bool:
    """Whether a command configures a node."""
    return any(rules.configures_a_node(_inputs(step, side)) for side in ("newState", "oldState"))


def _does_nothing(step: Mapping[str, Any]) -> bool:
    """Whether a command only stands between two waves of the roll-out (nodes.py)."""
    sides = [_inputs(step, side) for side in ("newState", "oldState") if step.get(side)]
    return bool(sides) and not any(
        inputs.get(key) for inputs in sides for key in ("create", "update", "delete")
    )


_CONFIGURES = ("mirror", "daemon_json", "service", "owner")
"""Settings of a node whose change has its docker read its configuration again."""


def _effects(op: str, step: Mapping[str, Any]) -> set[str]:
    """What a step does to the docker of a node, at most: `reload`, `restart`."""
    if not _is_node(step):
        return set()
    before, after = (_request(_inputs(step, side)) for side in ("oldState", "newState"))
    old, new = (side.get("keys") or {} for side in (before, after))
    changed = {
        key
        for key in {*old, *new}
        if (key in old, old.get(key)) != (key in new, new.get(key)) and key in daemon_keys.KEYS
    }
    effects = set()
    if (
        op in ("create", "delete", "replace")
        or any(before.get(name) != after.get(name) for name in _CONFIGURES)
        or any(daemon_keys.KEYS[key].reloads for key in changed)
    ):
        effects.add("reload")
    restarting = {key for key in changed if not daemon_keys.KEYS[key].reloads}
    if restarting and (after or before).get("restart") == "when-needed":
        effects.add("restart")
    return effects


def _request(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A node's settings; empty where they are not known."""
    try:
        settings = json.loads(inputs.get("stdin") or "{}")
    except (TypeError, ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _kind(kind: str, step: Mapping[str, Any]) -> str:
    """What a resource is to a person. A command goes to a machine if its environment names one."""
    if _is_node(step):
        return "node"
    there = kind == rules.REMOTE or any(
        "MIRROR_SSH" in (_inputs(step, side).get("environment") or {})
        for side in ("newState", "oldState")
    )
    return KINDS["command:remote:Command"] if there else KINDS[kind]


def as_text(report: Report) -> str:
    """For a terminal."""
    blocks = [f"{report.headline}\n{report.verdict}: {report.impact}{_compared(report)}"]
    blocks += [_blocks(report.changes)] if report.changes else []
    blocks += [_list("Against the policy:", report.violations)] if report.violations else []
    blocks += ["\n".join(report.faults)] if report.faults else []
    blocks += ["\n".join(f"  note: {note}" for note in report.notes)] if report.notes else []
    return "\n\n".join(blocks) + "\n"


def as_markdown(report: Report) -> str:
    """For a comment on a pull request; its first line lets the next run find it again."""
    body = _fenced(_blocks(report.changes))
    faults = _fenced("\n".join(report.faults))
    heading = f"### Preview of {report.stack}: {report.verdict}; {report.impact}"
    parts = [f"{marker(report.stack)}\n{heading}\n\n{report.counts}{_compared(report)}"]
    # What changes is `!` there: a line of a diff that begins with `~` has no colour.
    parts += [f"```diff\n{re.sub(r'(?m)^~', '!', body)}\n```"] if body else []
    parts += (
        [_list("**Against the policy:**", map(markdown_code, report.violations))]
        if report.violations
        else []
    )
    parts += [f"```\n{faults}\n```"] if report.faults else []
    parts += (
        ["\n".join(f"> {markdown_code(note)}" for note in report.notes)] if report.notes else []
    )
    return "\n\n".join(parts) + "\n"


def _compared(report: Report) -> str:
    return f" (compared with the state of {report.compared_with})" if report.compared_with else ""


def marker(stack: str) -> str:
    """A line that GitHub and GitLab do not show."""
    return f"<!-- swarm-registry-mirror preview of {stack} -->"


def resources(
    preview: Mapping[str, Any], planned: Mapping[str, Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """What will be there afterwards: each resource as the policies want it (policy/rules.py).

    `planned`: URN -> inputs, where more is known of them than a preview shows.
    """
    declared = []
    for step in preview.get("steps") or []:
        after = step.get("newState")
        if step["op"] in ("delete", "delete-replaced", "discard-replaced") or not after:
            continue
        kind, name = _type_and_name(step["urn"])
        declared.append(
            {
                "type": kind,
                "name": name,
                "urn": step["urn"],
                "parent": after.get("parent") or "",
                "inputs": unmarked((planned or {}).get(step["urn"]) or after.get("inputs") or {}),
                "dependencies": after.get("dependencies") or [],
                "ignored": after.get("ignoreChanges") or [],
            }
        )
    return list({resource["urn"]: resource for resource in declared}.values())


def unmarked(value: Any) -> Any:
    """Values without the marks of secrets and outputs around them, also where one is within
    another."""
    if isinstance(value, list):
        return [unmarked(item) for item in value]
    if not isinstance(value, dict):
        return value
    mark = value.get(SIGNATURE)
    if mark == SECRET:
        return (
            unmarked(json.loads(value["plaintext"]))
            if "plaintext" in value
            else unmarked(value.get("value", UNKNOWN))
        )
    if mark == _OUTPUT:
        return unmarked(value.get("value", UNKNOWN))
    return {key: unmarked(item) for key, item in value.items()}


def _type_and_name(urn: str) -> tuple[str, str]:
    _, _, kinds, name = urn.split("::", 3)
    return kinds.rpartition("$")[2], name


def _blocks(changes: Sequence[Change]) -> str:
    lines = []
    for change in changes:
        lines.append(
            f"{SIGNS.get(change.op, '~')} {change.name} ({change.kind})"
            f" {VERBS.get(change.op, change.op)}"
        )
        lines += [f"    {line}" for line in change.lines]
    return "\n".join(lines)


def _list(title: str, items: Iterable[str]) -> str:
    return "\n".join([title, "", *(f"- {item}" for item in items)])


def _fenced(text: str) -> str:
    """Text that cannot end the block of code that it stands in."""
    return text.replace("```", "'''")


def _lines(op: str, step: Mapping[str, Any]) -> Iterator[str]:
    before, after = (
        flatten(unmarked((step.get(side) or {}).get("inputs") or {}))
        for side in ("oldState", "newState")
    )
    if op in ("create", "import", "delete"):
        # A new or disappearing resource is its name; of a node, its settings are worth a line.
        settings = after if op != "delete" else before
        yield from (
            f"{key}: {_shown(settings[key])}"
            for key in ("mirror", "image", "environment.MIRROR_SSH", "connection.host")
            if key in settings
        )
        yield from (
            f"{plain(key)}: {_shown(value)}"
            for key, value in settings.items()
            if key.startswith("keys.")
        )
        return
    for path in [*before, *(path for path in after if path not in before)]:
        old, new = before.get(path), after.get(path)
        if old == new or _REPEATED.match(path):
            continue
        if path == "environment.MIRROR_RUNNER":
            yield "the node agents: another version"
            continue
        if path in ("stdin", "triggers") and before.get("environment.MIRROR_RUNNER") != after.get(
            "environment.MIRROR_RUNNER"
        ):
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
            without, added = (
                [_shown(item) for item in one if item not in other]
                for one, other in ((old, new), (new, old))
            )
            items = [*(f"without {item}" for item in without), *(f"with {item}" for item in added)]
            yield f"{key}: {', '.join(items) or 'in another order'}{_ALIKE if set(without) & set(added) else ''}"  # noqa: E501
        elif old is None:
            yield f"{key}: {_shown(new)} (new)"
        elif new is None:
            yield f"{key}: {_shown(old)} (removed)"
        else:
            yield f"{key}: {_difference(old, new)}"


def flatten(value: object, place: str = "") -> dict[str, object]:
    """Every leaf by its path. Lists of named things go by name, JSON in a text is opened, a packed
    program is a digest."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            opened = json.loads(value)
        except ValueError:
            return {place: value}
        # The settings of an agent: its keys stand for themselves, whatever property carries them.
        return flatten(opened, "" if place == "stdin" else place)
    if isinstance(value, dict):
        leaves: dict[str, object] = {}
        for key, item in value.items():
            if str(key).startswith("__"):
                continue  # the engine's own remarks, like a bridged provider's `__defaults`
            path = f"{place}.{key}" if place else str(key)
            if key == "program" and isinstance(item, str):
                leaves["program"] = hashlib.sha256(item.encode()).hexdigest()
            else:
                leaves |= flatten(item, path)
        return {_short(path): leaf for path, leaf in leaves.items()}
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        by = next((key for key in _KEYED_BY if all(key in item for item in value)), None)
        leaves = {}
        for index, item in enumerate(value):
            name = item[by] if by else index
            rest = {key: leaf for key, leaf in item.items() if key != by}
            only = rest["value"] if set(rest) == {"value"} else rest
            leaves |= flatten(only, f"{place}[{name}]")
        return {_short(path): leaf for path, leaf in leaves.items()}
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
    """Two values that are not the same, and do not look so: of long ones the part where they begin
    to differ."""
    texts = _whole(old), _whole(new)
    if max(map(len, texts)) <= _WIDTH:
        return f"{texts[0]} → {texts[1]}{_ALIKE if texts[0] == texts[1] else ''}"
    same = next(
        (at for at, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]),
        min(map(len, texts)),
    )
    start = max(same - _WIDTH // 4, 0) if same > _WIDTH // 2 else 0
    parts = [
        "…" * (start > 0) + text[start : start + _WIDTH] + "…" * (len(text) > start + _WIDTH)
        for text in texts
    ]
    return f"{parts[0]} → {parts[1]}{_ALIKE if parts[0] == parts[1] else ''}"


def _whole(value: object) -> str:
    """A value on one line, however long."""
    if value == UNKNOWN:
        return "(known afterwards)"
    text = (
        ", ".join(map(str, value))
        if isinstance(value, list)
        else json.dumps(value)
        if isinstance(value, bool)
        else str(value)
    )
    return re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1…", plain(text))


def plain(text: str) -> str:
    """A text, however long, on one line, without what must not reach a terminal and without
    credentials in URLs."""
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


def _diagnostics(diagnostics: Sequence[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """Errors and notes, each once, without Pulumi's own noise."""
    errors: list[str] = []
    notes: list[str] = []
    for diagnostic in diagnostics:
        text = plain_lines(diagnostic.get("message", ""))
        if diagnostic.get("severity") == "error":
            text = text.removeprefix("error: ")
            if "an unhandled error occurred" not in text and text not in _ENDED:
                errors.append(text)
        elif "from $PATH" not in text and "STAND-IN" not in text and text:
            notes.append(text.removeprefix("warning: "))
    return list(dict.fromkeys(errors)), list(dict.fromkeys(notes))
