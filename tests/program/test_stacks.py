"""The whole program, as each stack's file has it, under mocks; and with a stack's file that is full
of mistakes."""

import json
import runpy
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pulumi
import pytest
import yaml
from pulumi.runtime.config import set_all_config

from components.registry_mirror.cli.pin import pin
from config.keys import KEYS
from tests.builders import DIGEST, ED25519, KEY
from tests.recorder import COMMAND, COMPONENT, SERVICE, run

ROOT = Path(__file__).resolve().parents[2]
STACKS = sorted(ROOT.glob("Pulumi.*.yaml"))
EXAMPLES = [ROOT / "Pulumi.staging.yaml", ROOT / "Pulumi.prod.yaml"]


def load(values: dict[str, Any]) -> None:
    """Hand the configuration over as the CLI does: text, and JSON text for what is no string."""
    set_all_config(
        {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in values.items()
        }
    )


def program() -> Awaitable[Any]:
    """What the program hands to Pulumi to be run. The stack of the mocks has ended before it
    begins, so it is run here."""
    given: list[Callable[[], Awaitable[Any]]] = []
    with mock.patch("pulumi.run", given.append):
        runpy.run_path(str(ROOT / "__main__.py"))
    (run_it,) = given
    return run_it()


def values_of(path: Path, folder: Path) -> dict[str, Any]:
    """A stack's values, with files of the test's in place of those that lie on somebody's own
    computer."""
    text = path.read_text()
    if path in EXAMPLES:
        text, _ = pin(text, lambda image: DIGEST)
    values: dict[str, Any] = yaml.safe_load(text)["config"]
    hosts = [str(node["address"]) for node in values["swarm-registry-mirror:nodes"]]
    files = {
        "sshPrivateKeyFile": KEY,
        **(
            {}
            if path in EXAMPLES
            else {"knownHostsFile": "".join(f"{host} {ED25519}\n" for host in hosts)}
        ),
        "imageDigestFile": f"{DIGEST}\n",
        "varnishDigestFile": f"{DIGEST}\n",
    }
    for key, text in files.items():
        if values.get(f"swarm-registry-mirror:{key}"):
            (folder / key).write_text(text)
            values[f"swarm-registry-mirror:{key}"] = str(folder / key)
    return values


@pytest.mark.parametrize("path", STACKS, ids=lambda path: path.name)
def test_every_stack_builds(path: Path, tmp_path: Path) -> None:
    values = values_of(path, tmp_path)
    load(values)
    declared = run(program)
    assert len(declared.of(COMPONENT)) == 1
    assert len(declared.of(SERVICE)) == 2
    nodes = [
        command.name.partition("-node-")[2]
        for command in declared.of(COMMAND)
        if "-node-" in command.name
    ]
    assert sorted(nodes) == sorted(node["name"] for node in values["swarm-registry-mirror:nodes"])
    (provider,) = declared.of("pulumi:providers:docker")
    assert provider.inputs["host"].startswith("ssh://")


def keys_of(path: Path) -> list[str]:
    return [key.partition(":")[2] for key in yaml.safe_load(path.read_text())["config"]]


def test_the_labs_stack_and_the_examples_are_among_them() -> None:
    assert {ROOT / "Pulumi.dev.yaml", *EXAMPLES} == set(STACKS)


def test_staging_and_production_differ_in_values_only() -> None:
    staging, prod = map(keys_of, EXAMPLES)
    assert staging == prod


@pytest.mark.parametrize("path", STACKS, ids=lambda path: path.name)
def test_keys_stand_in_the_order_of_the_reference(path: Path) -> None:
    assert keys_of(path) == [key for key in KEYS if key in keys_of(path)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_refused_until_its_images_are_pinned_and_says_how(
    path: Path, tmp_path: Path
) -> None:
    values = values_of(path, tmp_path)
    values["swarm-registry-mirror:image"] = "registry:3.1.2"
    load(values)
    with pytest.raises(
        pulumi.RunError, match=r"1 fault in the configuration:\n  - image: .*imagetools inspect"
    ):
        run(program)


def test_a_stack_full_of_mistakes_is_refused_in_one_message_and_declares_nothing(
    tmp_path: Path,
) -> None:
    values = values_of(ROOT / "Pulumi.dev.yaml", tmp_path)
    values["swarm-registry-mirror:hostname"] = "https://mirror.lab.test"
    values["swarm-registry-mirror:nodez"] = []
    load(values)
    with pytest.raises(pulumi.RunError) as refused:
        run(program)
    assert "2 faults" in str(refused.value)
    assert "- hostname: must be a host name" in str(refused.value)
    assert "- nodez: is not a key of this program; did you mean nodes?" in str(refused.value)
