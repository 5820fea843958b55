"""A throwaway copy of the project in which a preview needs no secret, no backend and no swarm, and can change nothing.

The copy is links to the checkout, the stack's file with placeholders for its secrets, and a state of its own in a folder that
disappears. The file that `sshPrivateKeyFile` names is never read: another one, with a placeholder, is named instead.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from config.keys import KEYS
from review.state import placeholder

KEY_FILE = "placeholder-for-the-ssh-key"
POLICY_HOST = "pulumi-analyzer-policy-python"
"""Comes with the official CLI; a language host from Go's modules has none."""


class RoomError(Exception):
    """The preview could not even begin; the text says why and what to do."""


class Room:
    """A folder in which `pulumi preview` of one stack runs."""

    def __init__(self, folder: Path, stack: str, environment: Mapping[str, str], key_file: str | None) -> None:
        self.folder = folder
        self.stack = stack
        self.key_file = key_file
        self.environment = {
            **environment,
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            # Guards nothing but placeholders, for as long as the folder is there.
            "PULUMI_CONFIG_PASSPHRASE": "",
        }
        self.environment.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)

    def preview(self, state: Mapping[str, Any] | None) -> dict[str, Any]:
        """Pulumi's own JSON of the preview, against `state` or as new. Raises RoomError."""
        self._pulumi("stack", "init")
        if state is not None:
            # The room's own provider of secrets, for the placeholders; an import without any ends the CLI.
            salt = yaml.safe_load((self.folder / f"Pulumi.{self.stack}.yaml").read_text())["encryptionsalt"]
            provider = {"type": "passphrase", "state": {"salt": salt}}
            text = json.dumps({**state, "deployment": {**state["deployment"], "secrets_providers": provider}})
            if self.key_file is not None:
                # The docker provider is told the file's name, in a list that the state has as a text; here it has another one.
                for spelt in (json.dumps, lambda name: json.dumps(json.dumps(name))[1:-1]):
                    text = text.replace(spelt(self.key_file), spelt(KEY_FILE))
            file = self.folder / "state.json"
            file.write_text(text)
            self._pulumi("stack", "import", "--file", str(file))
        # Every secret in here is a placeholder; shown, connections can be compared.
        done = self._run("preview", "--json", "--show-secrets", "--show-sames", *self.policy_pack())
        try:
            found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        except ValueError:
            raise RoomError((done.stderr or done.stdout).strip()) from None
        return found

    def policy_pack(self) -> list[str]:
        """The option that has Pulumi itself enforce `policy/`, where its language host can."""
        ready = (self.folder / "policy" / "venv").exists()
        path = self.environment.get("PATH", "").split(os.pathsep)
        return ["--policy-pack", "policy"] if ready and any(Path(folder, POLICY_HOST).exists() for folder in path) else []

    def _pulumi(self, *words: str) -> None:
        done = self._run(*words)
        if done.returncode != 0:
            raise RoomError((done.stderr or done.stdout).strip().splitlines()[-1])

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = ["pulumi", *words, "--stack", self.stack, "--non-interactive"]
        try:
            return subprocess.run(
                argv, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise RoomError("there is no pulumi on PATH; `make tools` brings one") from None


@contextmanager
def room(checkout: Path, stack: str, file: Path, environment: Mapping[str, str]) -> Iterator[Room]:
    """A room for a stack of the checkout, configured by `file`. Raises RoomError if that cannot be read."""
    config, key_file = without_secrets(_read(file), stack)
    with tempfile.TemporaryDirectory(prefix="preview-") as name:
        folder = Path(name)
        for entry in checkout.iterdir():
            if entry.name != ".git" and not entry.match("Pulumi.*.yaml"):
                (folder / entry.name).symlink_to(entry)
        (folder / "state").mkdir()
        (folder / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / KEY_FILE).write_text(placeholder("sshPrivateKey"))
        yield Room(folder, stack, environment, key_file)


def without_secrets(text: str, stack: str) -> tuple[dict[str, Any], str | None]:
    """A stack's file with placeholders in it, and the name of the key file that it had. Raises RoomError."""
    try:
        values = _values(text)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise RoomError(f"Pulumi.{stack}.yaml is not a stack's file: {error}") from None
    key_file = None
    for name, value in list(values.items()):
        key = name.partition(":")[2]
        values[name] = placeholder(key) if _must_be_secret(key, value) else _in_the_open(value, placeholder(key))
        if key == "sshPrivateKeyFile" and isinstance(value, str) and value:
            key_file, values[name] = value, KEY_FILE
    return {"config": values}, key_file


def secrets_of(text: str, values: Mapping[str, str], read_file: Callable[[str], str]) -> dict[str, str]:
    """Key -> secret as the configuration has it now: what a state must be cleaned of. `values`: those of `text`, in the clear."""
    named = ((name.partition(":")[2], value) for name, value in _values(text).items())
    keys = [key for key, value in named if _is_secret(value) or _must_be_secret(key, value)]
    found = {key: values[key] for key in keys if key in values}
    if values.get("sshPrivateKeyFile"):
        found["sshPrivateKey"] = read_file(values["sshPrivateKeyFile"])
    return found


def _values(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text) or {}
    if not isinstance(found, dict):
        raise ValueError("it is no mapping")
    return dict(found.get("config") or {})


def _in_the_open(value: Any, instead: str) -> Any:
    if isinstance(value, dict):
        return instead if _is_secret(value) else {key: _in_the_open(item, instead) for key, item in value.items()}
    return [_in_the_open(item, instead) for item in value] if isinstance(value, list) else value


def _must_be_secret(key: str, value: object) -> bool:
    """Whether a value is one even where somebody has entered it in the clear."""
    return key in KEYS and KEYS[key].secret and bool(value)


def _is_secret(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {"secure"}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise RoomError(f"there is no {path.name}; copy Pulumi.prod.yaml and enter your own values") from None
