"""Runs the Pulumi CLI on a stack, with the user's own backend and passphrase.

What it prints may hold secrets: it is kept in memory only, and an error shows nothing but the CLI's own last words.
"""

import argparse
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..plain_text import lines, without_credentials
from . import deployed
from .console import CommandError, progress

SECONDS = 300
"""For a run of the CLI; a backend far away with a large state takes a few."""


@dataclass(frozen=True)
class Stack:
    """A stack; without a name the one that is selected in the folder."""

    name: str | None
    folder: Path

    def state(self) -> Any:
        """The state with its secrets in the clear. Raises CommandError."""
        return self._export("--show-secrets")

    def sealed_state(self) -> dict[str, Any]:
        """The state with its secrets encrypted. Raises CommandError."""
        found: dict[str, Any] = self._export()
        return found

    def replace(self, state: dict[str, Any]) -> None:
        """Have the stack have another state. Raises CommandError."""
        self._run("stack", "import", stdin=json.dumps(state))

    def unlock(self) -> None:
        """Take away the lock of a run that was killed. Raises CommandError."""
        self._run("cancel", "--yes")

    def _export(self, *flags: str) -> Any:
        text = self._run("stack", "export", *flags)
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise CommandError("`pulumi stack export` has printed no JSON", "try another version of the Pulumi CLI") from None

    def _run(self, *words: str, stdin: str = "") -> str:
        argv = ["pulumi", *words, *(["--stack", self.name] if self.name else []), "--non-interactive"]
        try:
            with progress(f"pulumi {words[0]} {words[1] if len(words) > 1 else ''}".rstrip()):
                done = subprocess.run(
                    argv, cwd=self.folder, input=stdin, capture_output=True, text=True, errors="replace", timeout=SECONDS,
                    check=False,
                )  # fmt: skip
        except FileNotFoundError:
            raise CommandError(
                "there is no `pulumi` on this computer", "install the Pulumi CLI, or add its folder to PATH"
            ) from None
        except OSError as error:
            raise CommandError(f"pulumi cannot be run in {self.folder}: {error.strerror}", "name a folder with --cwd") from None
        except subprocess.TimeoutExpired:
            raise CommandError(f"`pulumi {words[0]}` has not ended within {SECONDS} s", "is the backend there?") from None
        if done.returncode != 0:
            said = lines(done.stderr)
            reason = next((line for line in said if line.startswith("error: ")), said[-1] if said else "it has not said why")
            raise CommandError(without_credentials(reason.removeprefix("error: ")), self._remedy(done.stderr))
        return done.stdout

    def _remedy(self, output: str) -> str:
        """What to do about a failed run. By the CLI's own words, as 3.259.0 has them; nothing else hangs on them."""
        name = f" --stack {self.name}" if self.name else ""
        remedies = {
            "the stack is currently locked": f"if no other run is at work, one was killed: swarm-registry-mirror unlock{name}",
            "passphrase must be set": "export PULUMI_CONFIG_PASSPHRASE, or PULUMI_CONFIG_PASSPHRASE_FILE with a file's name",
            "incorrect passphrase": "the secrets were encrypted with another one; export that as PULUMI_CONFIG_PASSPHRASE",
            "no stack named": "`pulumi stack ls` names those that are there; `pulumi up` makes one",
            "no stack selected": "name one with --stack",
            "pass the fully qualified name": "name the program's folder with --cwd, or the whole stack: --stack org/project/name",
            "no Pulumi.yaml project file": "name the program's folder with --cwd, or the whole stack: --stack org/project/name",
            "PULUMI_ACCESS_TOKEN must be set": "`pulumi login` to your backend, or set PULUMI_BACKEND_URL",
        }
        return next((remedy for words, remedy in remedies.items() if words in output), "`pulumi stack ls` must work there first")


def chosen(options: argparse.Namespace) -> Stack:
    """The stack that the command line names."""
    return Stack(options.stack, options.cwd)


def mirrors(options: argparse.Namespace) -> list[deployed.Mirror]:
    """The mirrors that the command line names, out of the stack's state. Raises CommandError."""
    return deployed.mirrors(chosen(options).state(), options.mirror)
