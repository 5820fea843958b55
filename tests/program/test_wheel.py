"""The component as others install it: a wheel in an environment that has never seen this checkout."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tools.toolchain import CHECKOUT, VENV

EXAMPLES = CHECKOUT / "examples"


def run(*argv: "str | Path", cwd: Path, **environment: str) -> str:
    """Output of a program that must succeed, started where nothing of the checkout can be imported."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in argv], cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # A copy, because a build leaves folders behind, out of which the next one would take what is no longer there.
    shutil.copytree(CHECKOUT / "components", source / "components", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(CHECKOUT / name, source / name)
    run(VENV / "bin" / "uv", "build", "--quiet", "--wheel", "--no-build-isolation", "--python", VENV / "bin" / "python",
        "--out-dir", folder, source, cwd=folder)  # fmt: skip
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    uv = VENV / "bin" / "uv"
    run(uv, "venv", "--quiet", "--python", VENV / "bin" / "python", folder, cwd=wheel.parent)
    pins = CHECKOUT / "requirements.txt"
    run(uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", "--constraint", pins, wheel, cwd=wheel.parent)
    return folder


def test_the_wheel_has_the_component_its_licence_and_nothing_of_the_program(wheel: Path) -> None:
    assert wheel.name.startswith("swarm_registry_mirror-")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"swarm_registry_mirror"}
    assert "swarm_registry_mirror/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name or "config/" in name]


@pytest.mark.parametrize("name", ["minimal", "estate"])
def test_an_example_is_correctly_typed_against_what_is_installed(installed: Path, name: str) -> None:
    argv = [VENV / "bin" / "mypy", "--strict", "--python-executable", installed / "bin" / "python", "--cache-dir", os.devnull]
    run(*argv, "__main__.py", cwd=EXAMPLES / name)


def test_the_installed_agent_is_the_one_of_this_checkout(installed: Path, tmp_path: Path) -> None:
    text = "from swarm_registry_mirror import ship; print(ship.program('node'), ship.program('rolling_restart'))"
    here = run(VENV / "bin" / "python", "-c", text.replace("swarm_registry_mirror", "components.registry_mirror"), cwd=CHECKOUT)
    assert run(installed / "bin" / "python", "-c", text, cwd=tmp_path) == here
