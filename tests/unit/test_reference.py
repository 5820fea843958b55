"""Keys stand in three places; all are the same."""

import dataclasses
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from components.registry_mirror import RegistryMirrorArgs, SwarmNode
from config import parse_files
from config.keys import KEYS, NODE_KEYS
from config.reference import (
    BEGIN,
    DERIVED,
    END,
    REFERENCE,
    SCHEMA,
    default_of,
    project_config,
    reference_tables,
    schema,
    schema_text,
)
from tests.builders import DIGEST, ED25519

ROOT = Path(__file__).resolve().parents[2]


def test_pulumi_yaml_declares_the_keys_with_the_args_defaults() -> None:
    assert yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"] == project_config()


def test_the_reference_shows_the_keys() -> None:
    shown = (ROOT / REFERENCE).read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == reference_tables()


def test_only_a_key_without_a_default_has_one_that_is_derived() -> None:
    for name in DERIVED:
        key, owner = (
            (KEYS[name], RegistryMirrorArgs) if name in KEYS else (NODE_KEYS[name], SwarmNode)
        )
        assert not key.required
        assert default_of(key, owner) in (None, []), name


def test_the_smallest_stack_of_the_reference_is_complete_and_is_as_the_reference_says() -> None:
    (text,) = re.findall(r"```yaml\n(config:.*?)```", (ROOT / REFERENCE).read_text(), re.DOTALL)
    assert len(text.splitlines()) <= 10
    for placeholder, value in {
        "sha256:<64 hex digits>": DIGEST,
        "ssh-ed25519 AAAA…": ED25519,
    }.items():
        assert placeholder in text
        text = text.replace(placeholder, value)
    values = {
        key.partition(":")[2]: value if isinstance(value, str) else json.dumps(value)
        for key, value in yaml.safe_load(text)["config"].items()
    }
    mirror = parse_files(values).mirror
    assert mirror.manager_node == mirror.nodes[0]
    for name, key in KEYS.items():
        if key.field and name not in values:
            value = getattr(mirror, key.field)
            shown = default_of(key, RegistryMirrorArgs) or None
            assert ((list(value) if isinstance(value, tuple) else value) or None) == shown, name


def test_the_schema_for_editors_is_that_of_the_keys() -> None:
    assert (ROOT / SCHEMA).read_text() == schema_text()


@pytest.mark.parametrize("path", sorted(ROOT.glob("Pulumi.*.yaml")), ids=lambda path: path.name)
def test_every_stack_follows_the_schema_and_names_it(path: Path) -> None:
    text = path.read_text()
    jsonschema.validate(yaml.safe_load(text), schema())
    assert text.startswith(f"# yaml-language-server: $schema={SCHEMA}\n")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hostnam", "mirror.example.com"),
        ("maxParallel", "ten"),
        ("traefik", "v4"),
        ("restart", "always"),
        ("nodes", [{"name": "n"}]),
        ("nodes", [{"name": "n", "address": "a", "adress": "b"}]),
        ("nodes", []),
        ("upstreamToken", {"secret": "x"}),
    ],
)
def test_an_editor_underlines_what_the_settings_would_refuse(key: str, value: object) -> None:
    stack = yaml.safe_load((ROOT / "Pulumi.prod.yaml").read_text())
    stack["config"][f"swarm-registry-mirror:{key}"] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(stack, schema())


def test_every_arg_has_a_key() -> None:
    fields = {field.name for field in dataclasses.fields(RegistryMirrorArgs)} - {
        "private_key",
        "upstream_ca",
        "network_id",
        "daemon_keys_are_secret",
    }
    assert {key.field for key in KEYS.values() if key.field} == fields
    fields = {field.name for field in dataclasses.fields(SwarmNode)} - {"private_key"}
    assert {key.field for key in NODE_KEYS.values()} == fields
