"""Keys stand in three places; all are the same."""

import dataclasses
from pathlib import Path

import jsonschema
import pytest
import yaml

from components.registry_mirror import RegistryMirrorArgs, SwarmNode
from config.keys import KEYS, NODE_KEYS
from config.reference import BEGIN, END, REFERENCE, SCHEMA, project_config, reference_tables, schema, schema_text

ROOT = Path(__file__).resolve().parents[2]


def test_pulumi_yaml_declares_the_keys_with_the_args_defaults() -> None:
    assert yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"] == project_config()


def test_the_reference_shows_the_keys() -> None:
    shown = (ROOT / REFERENCE).read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == reference_tables()


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
