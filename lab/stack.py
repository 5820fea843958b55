"""Runs the Pulumi CLI on a stack with the project's own tools, and finds the line that matters when
it fails.

Owns the environment of such a run: where the state is, which network it happens in. For the lab's
stack both are the lab's. For other stacks they are the user's own, and Pulumi asks before it
changes anything.
"""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.plan import LABS, lab_folder
from lab.reason import reason
from lab.sandbox import Sandbox
from tools import plugins
from tools.progress import StageError
from tools.toolchain import BIN, CHECKOUT, environment

LAB_STACK = "dev"
_WITH_PLUGINS = frozenset({"up", "destroy", "refresh", "preview", "import"})
"""What of the CLI runs provider plugins."""


class Stack:
    """One stack of the program. `lab` is the name of the lab that it lives in, or None for a real
    swarm."""

    def __init__(self, name: str, lab: str | None = None, config_file: Path | None = None) -> None:
        self.name = name
        self.lab = lab
        self.config_file = config_file
        self.log = (
            lab_folder(lab).logs / "pulumi.log" if lab else LABS / "logs" / f"pulumi-{name}.log"
        )
        self.environment = {**os.environ, **environment(stand_ins=lab is not None)}
        if lab:
            self.state = lab_folder(lab).root / "state"
            # The lab's state goes with the lab and guards nothing, so its passphrase is empty.
            self.environment |= {
                "PULUMI_BACKEND_URL": f"file://{self.state}",
                "PULUMI_CONFIG_PASSPHRASE": "",
            }

    def command(self, *words: str) -> list[str]:
        """The command line of a run: in the lab's network where there is a lab."""
        program = str(BIN / "pulumi") if (BIN / "pulumi").exists() else "pulumi"
        argv = [program, *words]
        if words[:2] != ("stack", "ls"):
            argv += ["--stack", self.name]
        if self.config_file and words[0] not in ("stack", "cancel"):
            argv += ["--config-file", str(self.config_file)]
        return self.inside(argv if self.lab is None else [*argv, "--non-interactive"])

    def inside(self, argv: list[str]) -> list[str]:
        """`argv` where the nodes can be reached: in the lab's network, if there is a lab."""
        return (
            argv
            if self.lab is None
            else Sandbox(lab_folder(self.lab).root).command(argv, network_only=True)
        )

    def select(self) -> None:
        """Make the stack unless it is there."""
        if self.lab:
            self.state.mkdir(parents=True, exist_ok=True)
        if not self.exists():
            self.run("stack", "init")

    def exists(self) -> bool:
        """Whether the backend has it. Raises StageError where the backend cannot be asked."""
        if self.lab and not self.state.exists():
            return False
        return self.name in self._stacks()

    def run(self, *words: str) -> str:
        """Run to the end and return the output, which also goes to the log. Raises StageError with
        the line that matters."""
        self._check_plugins(words)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            self.command(*words),
            cwd=CHECKOUT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        with self.log.open("a") as log:
            log.write(f"\n$ pulumi {' '.join(words)} --stack {self.name}\n{done.stdout}")
        if done.returncode != 0:
            raise StageError(reason(done.stdout), remedy(done.stdout, self.name), self.log)
        return done.stdout

    def run_attached(self, *words: str) -> None:
        """Run on the user's own terminal, so that Pulumi can ask. Raises StageError if it fails."""
        self._check_plugins(words)
        done = subprocess.run(self.command(*words), cwd=CHECKOUT, env=self.environment, check=False)
        if done.returncode != 0:
            raise StageError(
                f"pulumi {words[0]} ended with {done.returncode}; the reason stands above"
            )

    def quietly(self, *words: str, stdin: str = "") -> str:
        """Run to the end and return stdout, without a trace in the log: for what may hold secrets.
        Raises StageError."""
        done = subprocess.run(
            self.command(*words),
            cwd=CHECKOUT,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            output = done.stdout + done.stderr
            raise StageError(reason(output), remedy(output, self.name))
        return done.stdout

    def check_plugins(self) -> None:
        """Raises StageError where a plugin is missing, a stand-in for a real swarm, or of a version
        that will not do."""
        plugins.check(self.name, in_lab=self.lab is not None)

    def _check_plugins(self, words: Sequence[str]) -> None:
        if words[0] in _WITH_PLUGINS:
            self.check_plugins()

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs; empty where nothing is deployed."""
        try:
            outputs: dict[str, Any] = json.loads(self.quietly("stack", "output", "--json"))
        except StageError:
            return {}
        return outputs

    def configuration(self) -> dict[str, str]:
        """The stack's configuration, secrets in the clear. Raises StageError."""
        entries = json.loads(self.quietly("config", "--json", "--show-secrets"))
        return {key: entry["value"] for key, entry in entries.items() if "value" in entry}

    def _stacks(self) -> list[str]:
        try:
            entries = json.loads(self.quietly("stack", "ls", "--json"))
        except StageError as error:
            raise StageError(
                error.reason, "`pulumi login` to your backend, or set PULUMI_BACKEND_URL"
            ) from error
        return [entry["name"].rpartition("/")[2] for entry in entries]


def stack_named(name: str) -> Stack:
    """The stack that a person means by ENV=…: the lab's, or one of a real swarm."""
    return Stack(name, lab=LAB_STACK if name == LAB_STACK else None)


_NEWER = "a newer Pulumi has written this state: install that one, or `rm -rf .tools && make tools`"
_REMEDIES = {
    "the stack is currently locked": "if no other run is at work, one was killed: `make unlock"
    " ENV={name}`, then run this again",
    "passphrase must be set": "export PULUMI_CONFIG_PASSPHRASE, or PULUMI_CONFIG_PASSPHRASE_FILE"
    " with a file's name",
    "incorrect passphrase": "the secrets were encrypted with another one; export that as"
    " PULUMI_CONFIG_PASSPHRASE",
    "unsupported checkpoint version": _NEWER,
    "newer version of the Pulumi CLI": _NEWER,
    "no resource plugin": "`make tools` brings it where it can be downloaded",
    "no stack named": "`make up ENV={name}` makes it",
    "missing configuration value": "enter them in Pulumi.{name}.yaml;"
    " docs/reference/configuration.md says what they mean",
    "PULUMI_ACCESS_TOKEN must be set": "`pulumi login` to your backend, or set PULUMI_BACKEND_URL",
}
"""Words of the Pulumi CLI, and the command that repairs what they say."""


def remedy(output: str, name: str) -> str:
    """What to do about a failed run."""
    for words, what in _REMEDIES.items():
        if words in output:
            return what.format(name=name)
    return "fix that, then run the same command again"


def changes(output: str) -> str:
    """Pulumi's own count of what it did, on one line: `10 created`."""
    after = output.rpartition("Resources:")[2].splitlines()
    counts = [
        line.strip(" +-~")
        for line in after
        if re.match(r"\s+(?:[+~-]{1,2} )?\d+ (created|updated|replaced|deleted|unchanged)", line)
    ]
    return ", ".join(counts)
