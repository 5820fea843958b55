"""The configuration's keys as `Pulumi.yaml` declares them, the reference shows them and editors
check them (a JSON schema).

Tests compare, `make reference` writes.

Pulumi asks for every declared key that has no default, so optional keys without one of their own
get an empty default, which `settings.py` reads as "not given".
"""

import dataclasses
import json
import sys
from pathlib import Path

import yaml

from components.registry_mirror import Bastion, Registry, RegistryMirrorArgs, SwarmNode
from components.registry_mirror.monitoring.metrics import METRICS
from config.keys import BASTION_KEYS, KEYS, NODE_KEYS, REGISTRY_KEYS, Key
from config.settings import MIRROR_NAME

BEGIN, END = "<!-- reference: written by `make reference` -->", "<!-- end of reference -->"
REFERENCE = "docs/reference/configuration.md"
METRICS_PAGE = "docs/reference/metrics.md"
SCHEMA = "config/stack.schema.json"
DERIVED = {
    "imageDigestFile": "none: the digest is in `image`",
    "varnishImage": "none; **required** with `coalesce`",
    "varnishDigestFile": "none: the digest is in `varnishImage`",
    "manager": "the first of `nodes`",
    "sshPrivateKeyFile": "none: the agent's keys, then `~/.ssh/id_*`",
    "sshConfig": "none: no such file is read",
    "knownHostsFile": "none: each node has a `hostKey`",
    "upstreamUsername": "none: as anybody",
    "upstreamProxy": "none: directly",
    "upstreamCa": "none: those of the image",
    "serviceName": f"`{MIRROR_NAME}`; in Python, the component's name",
    "cacheNfs": "none: `cachePath`",
    "cacheVolume": "none: `cachePath`",
    "cacheLimit": "none: the cache grows",
    "cacheFreeFloor": "none: the cache may fill it",
    "certResolver": "none: Traefik's default certificate",
    "allowFrom": "everybody",
    "metricsFrom": "nobody",
    "placementConstraints": "any machine",
    "hostKey": "that in `knownHostsFile`",
    "become": "none: the user is root",
}
"""Keys without a default of their own -> what holds where they are left out."""

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
            objects = ("nodes", "registries")
            entry["items"] = {"type": "object" if name in objects else "string"}
        entry["description"] = key.meaning
        if not key.required:
            default = default_of(key, RegistryMirrorArgs)
            entry["default"] = _EMPTY[key.kind] if default is None else default
        declared[name] = entry
    return declared


def schema() -> dict[str, object]:
    """A JSON schema of a stack's file: what an editor completes and underlines while somebody
    types."""
    name = "swarm-registry-mirror:"
    nodes = {
        "type": "object",
        "properties": {key: _schema_of(entry, SwarmNode) for key, entry in NODE_KEYS.items()},
        "required": [key for key, entry in NODE_KEYS.items() if entry.required],
        "additionalProperties": False,
    }
    registries = {
        "type": "object",
        "properties": {key: _schema_of(entry, Registry) for key, entry in REGISTRY_KEYS.items()},
        "required": [key for key, entry in REGISTRY_KEYS.items() if entry.required],
        "additionalProperties": False,
    }
    keys = {name + key: _schema_of(entry, RegistryMirrorArgs) for key, entry in KEYS.items()}
    keys[f"{name}nodes"] |= {"items": nodes, "minItems": 1}
    keys[f"{name}registries"] |= {"items": registries}
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
        encrypted = {
            "type": "object",
            "properties": {"secure": {"type": "string"}},
            "required": ["secure"],
        }
        return found | {"anyOf": [{"type": "string"}, encrypted]}
    items = {"items": {"type": "string"}} if key.kind == "array" else {}
    return found | {"type": key.kind} | items


def reference_tables() -> str:
    """The tables of the reference."""
    return "\n".join(
        [
            *_table("key", KEYS, RegistryMirrorArgs),
            "",
            "Each entry of `nodes`:",
            "",
            *_table("key", NODE_KEYS, SwarmNode),
            "",
            "A `bastion`:",
            "",
            *_table("key", BASTION_KEYS, Bastion),
            "",
            "Each entry of `registries`:",
            "",
            *_table("key", REGISTRY_KEYS, Registry),
        ]
    )


def _table(title: str, keys: dict[str, Key], owner: type) -> list[str]:
    rows = [f"| {title} | type | default | meaning |", "|---|---|---|---|"]
    for name, key in keys.items():
        default = default_of(key, owner)
        shown = (
            "**required**"
            if key.required
            else DERIVED.get(name, "none")
            if default in (None, [])
            else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        )
        rows.append(f"| `{name}` | {key.kind} | {shown} | {key.meaning} |")
    return rows


def metrics_table() -> str:
    """The table of the metrics' page."""
    rows = ["| metric | kind | of | labels | meaning |", "|---|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(
            f"| `{metric.name}` | {metric.kind} | {metric.source} | {labels} | {metric.meaning} |"
        )
    return "\n".join(rows)


def schema_text() -> str:
    """The schema as its file has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """Bring Pulumi.yaml, the schema and the reference up to date."""
    project = folder / "Pulumi.yaml"
    head = project.read_text().partition("config:\n")[0]
    body = yaml.safe_dump(
        {"config": project_config()}, sort_keys=False, allow_unicode=True, width=130
    )
    project.write_text(head + body)
    (folder / SCHEMA).write_text(schema_text())
    for page, text in ((REFERENCE, reference_tables()), (METRICS_PAGE, metrics_table())):
        path = folder / page
        before, after = path.read_text().split(BEGIN)[0], path.read_text().split(END)[1]
        path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
