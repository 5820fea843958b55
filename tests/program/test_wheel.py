"""The component as others install it: a wheel in an environment that has never seen this checkout."""

import os
import zipfile
from pathlib import Path

import pytest

from tests.installed import run
from tools.toolchain import CHECKOUT, VENV

EXAMPLES = CHECKOUT / "examples"


def test_the_wheel_has_the_component_its_licence_and_nothing_of_the_program(wheel: Path) -> None:
    assert wheel.name.startswith("swarm_registry_mirror-")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"swarm_registry_mirror"}
    assert "swarm_registry_mirror/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name or "config/" in name]
    assert "swarm_registry_mirror/cli/__main__.py" in names


def test_the_wheel_alone_has_the_command_with_every_verb(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / "swarm-registry-mirror"
    text = run(command, "--help", cwd=tmp_path)
    for verb in ("status", "repair", "stats", "engines", "advisories", "hostkeys", "forget", "unlock", "sudoers"):
        assert f"\n    {verb}" in text
        assert "example:" in run(command, verb, "--help", cwd=tmp_path)
    assert "ops ALL=(root) NOPASSWD" in run(command, "sudoers", "ops", cwd=tmp_path)
    where = "import swarm_registry_mirror.cli.__main__ as m, sys; print(m.__file__, [p for p in sys.path if 'registry' in p])"
    assert str(CHECKOUT / "components") not in run(installed / "bin" / "python", "-c", where, cwd=tmp_path)


@pytest.mark.parametrize("name", ["minimal", "estate"])
def test_an_example_is_correctly_typed_against_what_is_installed(installed: Path, name: str) -> None:
    argv: list[str | Path] = [
        VENV / "bin" / "mypy",
        "--strict",
        "--python-executable",
        installed / "bin" / "python",
        "--cache-dir",
        os.devnull,
    ]
    run(*argv, "__main__.py", cwd=EXAMPLES / name)


def test_the_installed_agent_is_the_one_of_this_checkout(installed: Path, tmp_path: Path) -> None:
    text = "from swarm_registry_mirror import ship; print(ship.program('node'), ship.program('rolling_restart'))"
    here = run(VENV / "bin" / "python", "-c", text.replace("swarm_registry_mirror", "components.registry_mirror"), cwd=CHECKOUT)
    assert run(installed / "bin" / "python", "-c", text, cwd=tmp_path) == here
