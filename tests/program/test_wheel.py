"""The component as others install it: a wheel in an environment that has never seen this
checkout."""

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

from components.registry_mirror import ship
from components.registry_mirror.cli.__main__ import VERBS
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


def test_the_wheel_is_built_without_a_warning(wheel: Path, tmp_path: Path) -> None:
    source = wheel.parent / "source"
    python = VENV / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "build", "--wheel", "-nx", "--outdir", tmp_path, source],
        cwd=tmp_path,
        # setuptools warns of this setting of a developer's.
        env={key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
        capture_output=True,
        text=True,
        check=True,
    )
    output = done.stdout + done.stderr
    assert [line for line in output.splitlines() if re.search("(?i)warning|absent", line)] == []
    built = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert "swarm_registry_mirror/container/mirror.vcl" in built


RUN_EACH = """
import contextlib, io, json, sys
import swarm_registry_mirror.cli.__main__ as command
outputs = {}
for arguments in json.loads(sys.argv[1]):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        command.main(arguments)
    outputs[" ".join(arguments)] = output.getvalue()
print(json.dumps({"file": command.__file__, "outputs": outputs}))
"""
"""Runs the command with each list of arguments, in one process, and prints what it printed."""


def test_the_wheel_alone_has_the_command_with_every_verb(
    installed: Path, wheel: Path, tmp_path: Path
) -> None:
    verbs = [verb.name for verb in VERBS]
    helps = [["--help"], *([verb, "--help"] for verb in verbs)]
    others = [["completion", "bash"], ["policy", "--pack", str(tmp_path / "pack")]]
    python = installed / "bin" / "python"
    answer = json.loads(run(python, "-c", RUN_EACH, json.dumps([*helps, *others]), cwd=tmp_path))
    assert answer["file"].startswith(str(installed)), "or the checkout's own was asked"
    outputs = answer["outputs"]
    for verb in verbs:
        assert f"\n    {verb}" in outputs["--help"]
        assert "example:" in outputs[f"{verb} --help"]
    assert "_swarm_registry_mirror" in outputs["completion bash"]
    version = (tmp_path / "pack" / "requirements.txt").read_text().partition("\n")[0]
    assert version == f"swarm-registry-mirror=={wheel.name.split('-')[1]}"
    command = installed / "bin" / "swarm-registry-mirror"
    assert "ops ALL=(root) NOPASSWD" in run(command, "sudoers", "ops", cwd=tmp_path)


def test_the_examples_are_correctly_typed_against_what_is_installed(
    installed: Path, tmp_path: Path
) -> None:
    argv: list[str | Path] = [
        VENV / "bin" / "mypy",
        "--strict",
        "--python-executable",
        installed / "bin" / "python",
        "--cache-dir",
        tmp_path,
    ]
    for name in ("minimal", "estate"):
        run(*argv, "__main__.py", cwd=EXAMPLES / name)


def test_the_installed_agent_is_the_one_of_this_checkout(installed: Path, tmp_path: Path) -> None:
    names = ["node", "rolling_restart"]
    text = f"from swarm_registry_mirror import ship; print(*map(ship.program, {names}))"
    there = run(installed / "bin" / "python", "-c", text, cwd=tmp_path)
    assert there.split() == [ship.program(name) for name in names]
