"""The configuration's keys as `Pulumi.yaml` declares them, the reference shows them and editors check them (a JSON schema).

Tests compare, `make reference` writes.

Pulumi asks for every declared key that has no default, so optional keys without one of their own get an empty default, which
`settings.py` reads as "not given".
"""

import dataclasses
import json
import re
import sys
from pathlib import Path

import yaml

from components.registry_mirror import RegistryMirrorArgs, SwarmNode
from config.keys import KEYS, NODE_KEYS, Key

BEGIN, END = "<!-- reference: written by `make reference` -->", "<!-- end of reference -->"
REFERENCE = "docs/configuration.md"
SCHEMA = "config/stack.schema.json"
_EMPTY = {"string": "", "array": [], "boolean": False, "integer": 0, "object": {}}


def default_of(key: Key, owner: type) -> object:
    """The default of a key: that of its field, or None."""
    for field in dataclasses.fields(owner):
        if field.name == key.field and field.default is not dataclasses.MISSING:
            return list(field.default) if isinstance(field.default, tuple) else field.default
    return None


def project_config() -> dict[str, dict[str, object]]:
    """The mapping `config:` of Pulumi.yaml."""
    declared: dict[str, dict[str, object]] = {}
    for name, key in KEYS.items():
        entry: dict[str, object] = {"type": key.kind}
        if key.kind == "array":
            entry["items"] = {"type": "object" if name == "nodes" else "string"}
        entry["description"] = key.meaning
        if not key.required:
            default = default_of(key, RegistryMirrorArgs)
            entry["default"] = _EMPTY[key.kind] if default is None else default
        declared[name] = entry
    return declared


def schema() -> dict[str, object]:
    """A JSON schema of a stack's file: what an editor completes and underlines while somebody types."""
    name = "swarm-registry-mirror:"
    nodes = {
        "type": "object",
        "properties": {key: _schema_of(entry, SwarmNode) for key, entry in NODE_KEYS.items()},
        "required": [key for key, entry in NODE_KEYS.items() if entry.required],
        "additionalProperties": False,
    }
    keys = {name + key: _schema_of(entry, RegistryMirrorArgs) for key, entry in KEYS.items()}
    keys[f"{name}nodes"] |= {"items": nodes, "minItems": 1}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A stack of the swarm registry mirror: Pulumi.<stack>.yaml",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "properties": keys,
                "required": [name + key for key, entry in KEYS.items() if entry.required],
                # Keys of other programs and providers are not ours to judge.
                "patternProperties": {f"^(?!{name})": True},
                "additionalProperties": False,
            }
        },
        "required": ["config"],
    }


def _schema_of(key: Key, owner: type) -> dict[str, object]:
    found: dict[str, object] = {"description": key.meaning}
    default = default_of(key, owner)
    if default is not None:
        found["default"] = default
    if key.choices:
        return found | {"enum": list(key.choices)}
    if key.secret or (key.may_be_secret and key.kind == "string"):
        encrypted = {"type": "object", "properties": {"secure": {"type": "string"}}, "required": ["secure"]}
        return found | {"anyOf": [{"type": "string"}, encrypted]}
    items = {"items": {"type": "string"}} if key.kind == "array" else {}
    return found | {"type": key.kind} | items


def reference_tables() -> str:
    """The tables of the reference."""
    return "\n".join(
        [*_table("key", KEYS, RegistryMirrorArgs), "", "Each entry of `nodes`:", "", *_table("key", NODE_KEYS, SwarmNode)]
    )


def _table(title: str, keys: dict[str, Key], owner: type) -> list[str]:
    rows = [f"| {title} | type | default | meaning |", "|---|---|---|---|"]
    for name, key in keys.items():
        default = default_of(key, owner)
        shown = (
            "**required**"
            if key.required
            else ""
            if default in (None, [])
            else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        )
        rows.append(f"| `{name}` | {key.kind} | {shown} | {key.meaning} |")
    return rows


def schema_text() -> str:
    """The schema as its file has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """Bring Pulumi.yaml, the schema and the reference up to date."""
    project = folder / "Pulumi.yaml"
    head = project.read_text().partition("config:\n")[0]
    body = yaml.safe_dump({"config": project_config()}, sort_keys=False, allow_unicode=True, width=130)
    project.write_text(head + body)
    (folder / SCHEMA).write_text(schema_text())
    reference = folder / REFERENCE
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    reference.write_text(pattern.sub(lambda _: f"{BEGIN}\n{reference_tables()}\n{END}", reference.read_text()))


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
