"""A throwaway copy of the project in which a preview needs no secret, no backend and no swarm, and can change nothing.

The copy is links to the checkout, the stack's file with placeholders for its secrets, and a state of its own in a folder that
disappears. The file that `sshPrivateKeyFile` names is never read: another one, with a placeholder, is named instead.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.registry_mirror import runner
from review import pack as packs
from review.configuration import KEY_FILE, NoStackFile, Redacted, without_secrets
from review.placeholders import placeholder
from review.state import with_programs


class RoomError(Exception):
    """The preview could not even begin; the text says why and what to do."""


@dataclass(frozen=True)
class Preview:
    """What Pulumi says of a change."""

    report: dict[str, Any]
    """Its own JSON, with `[secret]` for every value that is marked as one."""
    inputs: dict[str, dict[str, Any]]
    """URN -> what the resource would be asked to be, with its marks; empty where the change cannot be applied."""
    accepted: bool


def _planned(file: Path, state: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The inputs of every resource by a plan (pkg/resource/deploy/plan.go), which has what differs from the state."""
    if not file.exists():
        return {}
    before = {found["urn"]: found.get("inputs") or {} for found in (state or {}).get("deployment", {}).get("resources", [])}
    inputs = {}
    for urn, plan in json.loads(file.read_text())["resourcePlans"].items():
        change = (plan.get("goal") or {}).get("inputDiff") or {}
        kept = {key: value for key, value in before.get(urn, {}).items() if key not in (change.get("deletes") or [])}
        inputs[urn] = {**kept, **(change.get("adds") or {}), **(change.get("updates") or {})}
    return inputs


class Room:
    """A folder in which `pulumi preview` of one stack runs."""

    def __init__(self, folder: Path, stack: str, environment: Mapping[str, str], redacted: Redacted) -> None:
        self.folder = folder
        self.stack = stack
        self.key_file = redacted.key_file
        self.notes = redacted.notes
        """What a preview here cannot know."""
        self._marked = redacted.marked
        self.environment = {
            **environment,
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            # Guards nothing but placeholders, for as long as the folder is there.
            "PULUMI_CONFIG_PASSPHRASE": "",
        }
        self.environment.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)

    def preview(self, state: Mapping[str, Any] | None) -> Preview:
        """What Pulumi says of the change, against `state` or as new. Raises RoomError."""
        self._pulumi("stack", "init")
        for key, value in self._marked.items():
            self._pulumi("config", "set", "--secret", key, value)
        if state is not None:
            # The room's own provider of secrets, for the placeholders; an import without any ends the CLI.
            salt = yaml.safe_load((self.folder / f"Pulumi.{self.stack}.yaml").read_text())["encryptionsalt"]
            provider = {"type": "passphrase", "state": {"salt": salt}}
            state = with_programs(state, [runner.text()])
            text = json.dumps({**state, "deployment": {**state["deployment"], "secrets_providers": provider}})
            if self.key_file is not None:
                # The docker provider is told the file's name, in a list that the state has as a text; here it has another one.
                for spelt in (json.dumps, lambda name: json.dumps(json.dumps(name))[1:-1]):
                    text = text.replace(spelt(self.key_file), spelt(KEY_FILE))
            file = self.folder / "state.json"
            file.write_text(text)
            self._pulumi("stack", "import", "--file", str(file))
        plan = self.folder / "plan.json"
        # Every secret in here is a placeholder. Pulumi's JSON hides them all the same (display/json.go), its plan does not.
        shown = ("--show-secrets", "--save-plan", str(plan))
        pack = self.policy_pack()
        done = self._run("preview", "--json", "--show-sames", *shown, *pack)
        try:
            found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        except ValueError:
            raise RoomError((done.stderr or done.stdout).strip()) from None
        if pack and done.returncode != 0:
            self._run("preview", "--json", *shown)  # a change that a pack refuses has no plan
        return Preview(found, _planned(plan, state), done.returncode == 0)

    def policy_pack(self) -> list[str]:
        """The option that has Pulumi itself enforce `policy/`, where it was seen to run packs (`make policy`)."""
        return ["--policy-pack", "policy"] if packs.usable(self.folder, self.environment) else []

    def _pulumi(self, *words: str) -> None:
        done = self._run(*words)
        if done.returncode != 0:
            raise RoomError((done.stderr or done.stdout).strip())

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = ["pulumi", *words, "--stack", self.stack, "--non-interactive"]
        try:
            return subprocess.run(
                argv, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise RoomError("there is no pulumi on PATH; `make tools` brings one") from None


@contextmanager
def room(
    checkout: Path, stack: str, file: Path, environment: Mapping[str, str], shapes: Mapping[str, Any] | None = None
) -> Iterator[Room]:
    """A room for a stack of the checkout, configured by `file`; `shapes` are those of a saved state. Raises RoomError."""
    try:
        redacted = without_secrets(_read(file), shapes or {})
    except NoStackFile as error:
        raise RoomError(f"Pulumi.{stack}.yaml is not a stack's file: {error}") from None
    with tempfile.TemporaryDirectory(prefix="preview-") as name:
        folder = Path(name)
        for entry in checkout.iterdir():
            if entry.name != ".git" and not entry.match("Pulumi.*.yaml"):
                (folder / entry.name).symlink_to(entry)
        (folder / "state").mkdir()
        (folder / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump(redacted.config, sort_keys=False))
        (folder / KEY_FILE).write_text(placeholder("sshPrivateKey"))
        yield Room(folder, stack, environment, redacted)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise RoomError(f"there is no {path.name}; copy Pulumi.prod.yaml and enter your own values") from None
