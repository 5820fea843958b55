"""The plugin as it is installed, and as Pulumi finds it in a checkout."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from components.registry_mirror.provider import schema
from tests.builders import tomllib
from tests.installed import run
from tools.toolchain import CHECKOUT, environment

FOLDER = CHECKOUT / "components"


def test_the_real_cli_reads_the_schema_out_of_the_installed_plugin(
    installed: Path, wheel: Path, tmp_path: Path
) -> None:
    plugin = installed / "bin" / f"pulumi-resource-{schema.NAME}"
    done = subprocess.run(
        [shutil.which("pulumi", path=environment()["PATH"]) or "", "package", "get-schema", plugin],
        cwd=tmp_path,
        env={**environment(), "HOME": str(tmp_path), "PULUMI_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    described = json.loads(done.stdout)
    assert set(described["resources"]) == {schema.COMPONENT}
    numbers = re.match(r"\d+\.\d+\.\d+", wheel.name.split("-")[1])
    assert numbers is not None
    assert described["version"].startswith(numbers[0])


def test_the_folder_that_is_added_as_a_package_starts_the_same_plugin(tmp_path: Path) -> None:
    plugin = yaml.safe_load((FOLDER / "PulumiPlugin.yaml").read_text())
    assert plugin["name"] == schema.NAME
    assert plugin["runtime"]["name"] == "python"
    # Started as Pulumi's language host does, by the folder's name; an engine that is not there is
    # of no matter before the first question.
    text = (
        "import runpy, sys; from unittest import mock; sys.argv = ['plugin', '127.0.0.1:1']\n"
        f"with mock.patch('pulumi.provider.main') as main: runpy.run_path({str(FOLDER)!r},"
        " run_name='__main__')\n"
        "print(main.call_args.args[0].schema)"
    )
    described = json.loads(run(CHECKOUT / ".tools/venv/bin/python", "-c", text, cwd=tmp_path))
    assert set(described["resources"]) == {schema.COMPONENT}


def test_its_environment_is_made_outside_the_folder_that_is_published() -> None:
    options = yaml.safe_load((FOLDER / "PulumiPlugin.yaml").read_text())["runtime"]["options"]
    place = (FOLDER / options["virtualenv"]).resolve()
    assert place.is_relative_to(CHECKOUT / ".tools")


def test_a_checkout_asks_for_what_the_wheel_asks_for() -> None:
    wanted = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    # Without what only the command needs.
    assert (FOLDER / "requirements.txt").read_text().splitlines() == [
        line for line in wanted if not line.startswith("pyyaml")
    ]
