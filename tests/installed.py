"""The component installed as others install it: a wheel, in an environment that has never seen this
checkout."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.toolchain import CHECKOUT, REQUIREMENTS, VENV


def run(*argv: "str | Path", cwd: Path, **environment: str) -> str:
    """Output of a program that must succeed, started where nothing of the checkout can be
    imported."""
    clean = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills once, also where several workers of pytest-xdist want it."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_TESTRUNUID" in os.environ:
        shared = shared.parent
    folder = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (found,) = once(tmp_path_factory, "wheel", _build).glob("*.whl")
    return found


def _build(folder: Path) -> None:
    source = folder / "source"
    # A copy, because a build leaves folders behind, out of which the next one would take what is no
    # longer there.
    shutil.copytree(
        CHECKOUT / "components", source / "components", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(CHECKOUT / name, source / name)
    run(
        VENV / "bin" / "uv",
        "build",
        "--quiet",
        "--wheel",
        "--no-build-isolation",
        "--python",
        VENV / "bin" / "python",
        "--out-dir",
        folder,
        source,
        cwd=folder,
    )


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but the wheel and what it asks for."""
    return once(tmp_path_factory, "clean", lambda folder: _install(wheel, folder / "venv")) / "venv"


def _install(wheel: Path, folder: Path) -> None:
    uv = VENV / "bin" / "uv"
    run(
        uv,
        "venv",
        "--quiet",
        "--seed",
        "--python",
        VENV / "bin" / "python",
        folder,
        cwd=wheel.parent,
    )
    pins = REQUIREMENTS / "program.txt"
    run(
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        folder / "bin" / "python",
        "--constraint",
        pins,
        wheel,
        cwd=wheel.parent,
    )
