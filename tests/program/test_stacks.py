"""The whole program, as each stack's file has it, under mocks; and with a stack's file that is full of mistakes."""

import json
import runpy
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime.config import set_all_config

from tests.recorder import COMMAND, COMPONENT, SERVICE, run
from tests.unit.test_rules import DIGEST, ED25519
from tests.unit.test_settings import KEY

ROOT = Path(__file__).resolve().parents[2]
STACKS = sorted(ROOT.glob("Pulumi.*.yaml"))


def load(values: dict[str, Any]) -> None:
    """Hand the configuration over as the CLI does: text, and JSON text for what is no string."""
    set_all_config({key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()})


def program() -> None:
    runpy.run_path(str(ROOT / "__main__.py"))


@pytest.fixture
def lab_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `make lab` leaves for the dev stack, without a lab."""
    folder = tmp_path / ".lab" / "dev"
    (folder / "ssh").mkdir(parents=True)
    (folder / "ssh" / "id_ed25519").write_text(KEY)
    (folder / "ssh" / "known_hosts").write_text("".join(f"198.18.0.{n} {ED25519}\n" for n in (11, 12, 13)))
    (folder / "registry.digest").write_text(f"{DIGEST}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("lab_files")
@pytest.mark.parametrize("path", STACKS, ids=lambda path: path.name)
def test_every_stack_builds(path: Path) -> None:
    values = yaml.safe_load(path.read_text())["config"]
    load(values)
    found = run(program)
    assert len(found.of(COMPONENT)) == 1
    assert len(found.of(SERVICE)) == 1
    assert len(found.of(COMMAND)) == 3 + len(values["swarm-registry-mirror:nodes"])
    (provider,) = found.of("pulumi:providers:docker")
    assert provider.inputs["host"].startswith("ssh://")


def test_there_is_a_stack() -> None:
    assert [path.name for path in STACKS] == ["Pulumi.dev.yaml"]


@pytest.mark.usefixtures("lab_files")
def test_a_stack_full_of_mistakes_is_refused_in_one_message_and_declares_nothing() -> None:
    values = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["config"]
    values["swarm-registry-mirror:hostname"] = "https://mirror.lab.test"
    values["swarm-registry-mirror:nodez"] = []
    load(values)
    with pytest.raises(pulumi.RunError) as refused:
        run(program)
    assert "2 faults" in str(refused.value)
    assert "- hostname: must be a host name" in str(refused.value)
    assert "- nodez: is not a key of this program; did you mean nodes?" in str(refused.value)
