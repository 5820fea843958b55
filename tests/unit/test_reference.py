"""Keys stand in three places; all are the same."""

import dataclasses
from pathlib import Path

import yaml

from components.registry_mirror import RegistryMirrorArgs, SwarmNode
from config.keys import KEYS, NODE_KEYS
from config.reference import BEGIN, END, project_config, readme_tables

ROOT = Path(__file__).resolve().parents[2]


def test_pulumi_yaml_declares_the_keys_with_the_args_defaults() -> None:
    assert yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"] == project_config()


def test_the_readme_shows_the_keys() -> None:
    shown = (ROOT / "README.md").read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == readme_tables()


def test_every_arg_has_a_key() -> None:
    fields = {field.name for field in dataclasses.fields(RegistryMirrorArgs)} - {"private_key"}
    assert {key.field for key in KEYS.values() if key.field} == fields
    fields = {field.name for field in dataclasses.fields(SwarmNode)} - {"private_key"}
    assert {key.field for key in NODE_KEYS.values()} == fields
