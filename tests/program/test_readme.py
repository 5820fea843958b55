"""The program of the README, word for word: under mocks, and previewed by the real CLI from the
wheel alone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pulumi
import pytest
import yaml
from pulumi.runtime.config import set_all_config

import components.registry_mirror
from tests.builders import DIGEST, ED25519
from tests.recorder import COMMAND, COMPONENT, SERVICE, Recorder, run
from tools import toolchain

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PLACEHOLDERS = {"sha256:<64 hex digits>": DIGEST, "ssh-ed25519 AAAA…": ED25519}
"""What a reader has to look up, and what it is here."""


def block(language: str) -> str:
    """The only block of the README in a language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(text)


def stack() -> str:
    """The README's stack, with what a reader has looked up."""
    text = block("yaml")
    for placeholder, value in PLACEHOLDERS.items():
        assert placeholder in text
        text = text.replace(placeholder, value)
    return text


def preview(values: str, folder: Path) -> Recorder:
    """The README's program under mocks, in a project with the name that its stack's keys have."""
    config = yaml.safe_load(values)["config"]
    (project,) = {key.partition(":")[0] for key in config}
    set_all_config(
        {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in config.items()
        }
    )
    program = folder / "__main__.py"
    program.write_text(block("python"))
    code = compile(program.read_text(), str(program), "exec")
    with mock.patch.dict(sys.modules, {"swarm_registry_mirror": components.registry_mirror}):
        return run(
            lambda: exec(code, {"__name__": "__main__"}),
            preview=True,
            docker_host=None,
            project=project,
        )


def test_the_program_declares_a_mirror_and_every_node(tmp_path: Path) -> None:
    made = preview(stack(), tmp_path)
    assert len(made.of(COMPONENT)) == 1
    assert sorted(service.name for service in made.of(SERVICE)) == [
        "mirror-front",
        "mirror-service",
    ]
    nodes = [command.name for command in made.of(COMMAND) if "-node-" in command.name]
    assert sorted(nodes) == ["mirror-node-manager1", "mirror-node-worker1"]
    assert made.named("swarm").inputs["host"] == "ssh://root@10.0.0.11"
    assert "mirror-node-worker1" in str(made.named("mirror-node-manager1").depends_on), (
        "the canary is no manager"
    )


def test_what_has_not_been_looked_up_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(pulumi.RunError) as refused:
        preview(block("yaml"), tmp_path)
    for key in ("image", "varnish_image", "nodes[0].host_key", "nodes[1].host_key"):
        assert re.search(rf"- {re.escape(key)}:", str(refused.value)), key


def test_the_program_fits_on_a_screen() -> None:
    assert len(README.splitlines()) <= 120
    assert len(block("python").splitlines()) <= 24
    assert [
        line for line in README.splitlines() if len(line) > 100 and not line.startswith(("|", "!["))
    ] == []


def test_the_real_cli_previews_it_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "state").mkdir()
    name = block("yaml").partition("config:\n  ")[2].partition(":")[0]
    (project / "venv").symlink_to(installed)
    options = {"name": "python", "options": {"toolchain": "pip", "virtualenv": "venv"}}
    (project / "Pulumi.yaml").write_text(yaml.safe_dump({"name": name, "runtime": options}))
    (project / "Pulumi.prod.yaml").write_text(stack())
    (project / "__main__.py").write_text(block("python"))
    own = {
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "HOME": str(tmp_path),
        # The environment of the wheel first, so that nothing of the checkout's is imported.
        "PATH": f"{installed / 'bin'}:{toolchain.environment()['PATH']}",
        "VIRTUAL_ENV": str(installed),
    }
    environment = {**os.environ, **toolchain.environment(), **own}
    for words in (["stack", "init", "prod"], ["preview", "--stack", "prod", "--non-interactive"]):
        done = subprocess.run(
            ["pulumi", *words],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\+ \d+ to create", done.stdout)
    assert "mirror-node-worker1" in done.stdout
    assert "https://mirror.example.com" in done.stdout
