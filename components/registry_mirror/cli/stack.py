"""Runs the Pulumi CLI on a stack, with the user's own backend and passphrase.

What it prints may hold secrets: it is kept in memory only, and an error shows nothing but the CLI's
own last words.
"""

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..plain_text import lines, without_credentials
from . import deployed
from .console import progress
from .errors import DRIFTED, CommandError

SECONDS = 300
"""For a run of the CLI that changes nothing; a backend far away with a large state takes a few."""


@dataclass(frozen=True)
class Stack:
    """A stack; without a name the one that is selected in the folder."""

    name: str | None
    folder: Path
    config_file: Path | None = None
    """Its configuration, where that is not `Pulumi.<stack>.yaml` in the folder."""

    def state(self) -> Any:
        """The state with its secrets in the clear. Raises CommandError."""
        return self._export("--show-secrets")

    def sealed_state(self) -> dict[str, Any]:
        """The state with its secrets encrypted. Raises CommandError."""
        state: dict[str, Any] = self._export()
        return state

    def replace(self, state: dict[str, Any]) -> None:
        """Replace the stack's state. Raises CommandError."""
        self.run("stack", "import", stdin=json.dumps(state))

    def unlock(self) -> None:
        """Remove the lock of a run that was killed. Raises CommandError."""
        self.run("cancel", "--yes")

    def exists(self) -> bool:
        """Whether the backend has it. Raises CommandError where the backend cannot be asked."""
        text = self._pulumi("stack", "ls", "--json")
        return self.short_name in [str(entry["name"]).rpartition("/")[2] for entry in _json(text)]

    @property
    def short_name(self) -> str:
        """Without organisation and project. Raises CommandError where none is named or selected."""
        name = self.name or self._pulumi("stack", "--show-name").strip()
        return name.rpartition("/")[2]

    @property
    def file(self) -> Path:
        """Where its configuration is. Raises CommandError."""
        if self.config_file is not None:
            return self.config_file.absolute()
        folder = str(project(self.folder).get("stackConfigDir") or "")
        return (self.folder / folder / f"Pulumi.{self.short_name}.yaml").absolute()

    def configuration(self) -> dict[str, str]:
        """Full key -> value with secrets in the clear, objects as JSON. Raises CommandError."""
        entries = _json(self.run("config", "--json", "--show-secrets"))
        return {key: entry["value"] for key, entry in entries.items() if "value" in entry}

    def plan(self) -> dict[str, Any]:
        """What the program would do, with secrets in the clear: the plan of `pulumi preview`.

        It goes through a pipe, so that no secret lies in a file. Raises CommandError.
        """
        with tempfile.TemporaryDirectory(prefix="plan-") as name:
            pipe = Path(name, "plan")
            os.mkfifo(pipe, 0o600)
            # Both ends are held open: so neither side waits for the other to open its own.
            with pipe.open("r+b", buffering=0) as end:
                written = bytearray()

                def read() -> None:
                    while not written.endswith(_END):
                        written.extend(end.read(65536))

                reader = threading.Thread(target=read)
                reader.start()
                try:
                    self.run("preview", "--show-secrets", "--save-plan", str(pipe))
                except CommandError as error:
                    # Its output may show what is a secret elsewhere.
                    raise CommandError(
                        "`pulumi preview` fails, so what the program wants is not known",
                        "run it, or `swarm-registry-mirror preview`, which says why",
                        error.code,
                    ) from None
                finally:
                    end.write(_END)
                    reader.join()
        plan = _json(written.removesuffix(_END).decode() or "{}")
        return plan if isinstance(plan, dict) else {}

    def attached(self, *words: str) -> None:
        """Run the CLI on the user's own terminal, so that it can ask. Raises CommandError with the
        exit code 1 if it fails."""
        try:
            done = subprocess.run(self._argv(*words), cwd=self.folder, check=False)
        except FileNotFoundError:
            raise _no_pulumi() from None
        if done.returncode != 0:
            raise CommandError(
                f"pulumi {words[0]} ended with {done.returncode}; the reason is above",
                "fix that, then run the same command again",
                DRIFTED,
            )

    def run(self, *words: str, stdin: str = "", seconds: float | None = SECONDS) -> str:
        """Output of the CLI for this stack; `seconds`: None for a run that waits for machines and
        has its own limits. Raises CommandError."""
        return self._pulumi(*self._words(*words), stdin=stdin, seconds=seconds)

    def _words(self, *words: str) -> list[str]:
        name = ["--stack", self.name] if self.name else []
        file = (
            ["--config-file", str(self.config_file.absolute())]
            if self.config_file is not None and words[0] in _WITH_CONFIGURATION
            else []
        )
        return [*words, *name, *file]

    def _argv(self, *words: str) -> list[str]:
        return ["pulumi", *self._words(*words)]

    def _export(self, *flags: str) -> Any:
        return _json(self.run("stack", "export", *flags))

    def _pulumi(self, *words: str, stdin: str = "", seconds: float | None = SECONDS) -> str:
        argv = ["pulumi", *words, "--non-interactive"]
        try:
            with progress(f"pulumi {words[0]} {words[1] if len(words) > 1 else ''}".rstrip()):
                done = subprocess.run(
                    argv,
                    cwd=self.folder,
                    input=stdin,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=seconds,
                    check=False,
                )
        except FileNotFoundError:
            raise _no_pulumi() from None
        except OSError as error:
            raise CommandError(
                f"pulumi cannot be run in {self.folder}: {error.strerror}",
                "name a folder with --cwd",
            ) from None
        except subprocess.TimeoutExpired:
            raise CommandError(
                f"`pulumi {words[0]}` has not ended within {seconds} s", "is the backend there?"
            ) from None
        if done.returncode != 0:
            output = lines(done.stderr) or lines(done.stdout)
            reason = next(
                (line for line in output if line.startswith("error: ")),
                output[-1] if output else "pulumi failed with no error message",
            )
            raise CommandError(
                without_credentials(reason.removeprefix("error: ")), self._remedy(done.stderr)
            )
        return done.stdout

    def _remedy(self, output: str) -> str:
        """What to do about a failed run. By the CLI's own words, as 3.259.0 has them; nothing else
        hangs on them."""
        name = f" --stack {self.name}" if self.name else ""
        remedies = {
            "the stack is currently locked": "if no other run is at work, one was killed:"
            f" swarm-registry-mirror unlock{name}",
            "passphrase must be set": "export PULUMI_CONFIG_PASSPHRASE, or"
            " PULUMI_CONFIG_PASSPHRASE_FILE with a file's name",
            "incorrect passphrase": "the secrets were encrypted with another one; export that as"
            " PULUMI_CONFIG_PASSPHRASE",
            "no stack named": "`pulumi stack ls` names those that are there; `pulumi up` makes one",
            "no stack selected": "name one with --stack",
            "pass the fully qualified name": "name the program's folder with --cwd, or the whole"
            " stack: --stack org/project/name",
            "no Pulumi.yaml project file": "name the program's folder with --cwd, or the whole"
            " stack: --stack org/project/name",
            "PULUMI_ACCESS_TOKEN must be set": "`pulumi login` to your backend, or set"
            " PULUMI_BACKEND_URL",
        }
        return next(
            (remedy for words, remedy in remedies.items() if words in output),
            "`pulumi stack ls` must work there first",
        )


_WITH_CONFIGURATION = frozenset({"up", "preview", "import", "config"})
"""Commands of the CLI that read the stack's configuration."""
_END = b"\0the end of the plan\0"
"""What this process writes into the pipe after the CLI: JSON has no such byte."""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CommandError(
            "pulumi has printed something that is not JSON", "try another version of the Pulumi CLI"
        ) from None


def _no_pulumi() -> CommandError:
    return CommandError(
        "there is no `pulumi` on this computer",
        "install the Pulumi CLI, or add its folder to PATH",
    )


def project(folder: Path) -> Mapping[str, Any]:
    """The program's Pulumi.yaml. Raises CommandError where the folder has none."""
    for name in ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                values = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError) as error:
                if isinstance(error, FileNotFoundError | NotADirectoryError):
                    raise
                raise CommandError(f"{folder / name} cannot be read: {error}") from None
            if isinstance(values, dict) and isinstance(values.get("name"), str):
                return values
            raise CommandError(f"{folder / name} names no project", "see `pulumi new --help`")
    raise CommandError(
        f"there is no Pulumi.yaml in {folder.absolute()}",
        "name the program's folder with --cwd",
    )


def chosen(options: argparse.Namespace) -> Stack:
    """The stack that the command line names."""
    return Stack(options.stack, options.cwd, getattr(options, "config_file", None))


def mirrors(options: argparse.Namespace) -> list[deployed.Mirror]:
    """The mirrors that the command line names, out of the stack's state. Raises CommandError."""
    return deployed.mirrors(chosen(options).state(), options.mirror)


@contextlib.contextmanager
def with_nodes_left_out(stack: Stack, key: str, names: list[str]) -> Iterator[Stack]:
    """The stack with a copy of its configuration in which the list `key` has these names.

    Never in the stack's own file: what cannot be reached today is no setting. Raises CommandError.
    """
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name, stack.file.name)
        copy.write_bytes(stack.file.read_bytes())
        changed = Stack(stack.name, stack.folder, copy)
        for index, node in enumerate(names):  # as a list: a text like one is not one to Pulumi
            changed.run("config", "set", "--path", f"{key}[{index}]", node)
        yield changed
