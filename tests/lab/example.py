"""A program of `examples/`, as somebody runs it who has installed the wheel."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from lab.plan import CHECKOUT
from lab.stack import Stack
from tests.lab.lab import NAME, Lab


class Example:
    """A program of `examples/`, as somebody runs it who has installed the wheel: its own folder,
    environment and state."""

    def __init__(self, lab: Lab, name: str, installed: Path, folder: Path) -> None:
        self.lab = lab
        self.name = name
        self.folder = folder / name
        shutil.copytree(
            CHECKOUT / "examples" / name,
            self.folder,
            ignore=shutil.ignore_patterns("venv", "Pulumi.*.yaml"),
        )
        # Where its Pulumi.yaml says that its environment is: a current language host takes no other
        # Python.
        (self.folder / "venv").symlink_to(installed)
        (self.folder / "state").mkdir()
        usual = Stack("t", lab=NAME).environment
        self.environment = {
            **usual,
            "PULUMI_BACKEND_URL": f"file://{self.folder}/state",
            # The environment of the wheel first, so that nothing of the checkout's is imported.
            "PATH": f"{installed / 'bin'}:{usual['PATH']}",
            "VIRTUAL_ENV": str(installed),
        }
        self("stack", "init")

    def configure(self, **values: Any) -> None:
        """Set the stack's values; the SSH key is a secret in all of them."""
        file = self.folder / "Pulumi.t.yaml"
        config = yaml.safe_load(file.read_text())
        config["config"] = {f"{self.name}:{key}": value for key, value in values.items()}
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        self("config", "set", "--secret", "sshPrivateKey", stdin=self.lab.private_key())

    def __call__(self, *words: str, stdin: str = "") -> str:
        argv = self.lab.sandbox.command(
            ["pulumi", *words, "--stack", "t", "--non-interactive"], network_only=True
        )
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, verb: str, *words: str) -> tuple[int, str]:
        """Exit code and output of the installed `swarm-registry-mirror`."""
        argv = ["swarm-registry-mirror", verb, "--stack", "t", *words]
        done = subprocess.run(
            self.lab.sandbox.command(argv, network_only=True),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def outputs(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("stack", "output", "--json"))
        return found
