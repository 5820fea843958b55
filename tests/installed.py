"""The component installed as others install it: a wheel, in an environment that has never seen this checkout."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.toolchain import CHECKOUT, VENV


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
    run(uv, "venv", "--quiet", "--seed", "--python", VENV / "bin" / "python", folder, cwd=wheel.parent)
    pins = CHECKOUT / "requirements.txt"
    run(uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", "--constraint", pins, wheel, cwd=wheel.parent)
    return folder
