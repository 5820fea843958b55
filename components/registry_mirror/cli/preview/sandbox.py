"""A throwaway copy of a program in which a preview needs no secret, no backend and no swarm, and
can change nothing.

The copy is links to the program's folder, the stack's file with placeholders for its secrets, and a
state of its own in a folder that disappears. A file that the configuration names as the SSH key is
never read: another one, with a placeholder, is named instead.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ... import runner
from .. import packs, stack
from ..errors import CommandError
from .configuration import KEY_FILE, Conventions, NoStackFile, Redacted, without_secrets
from .placeholders import placeholder
from .redact import with_programs

STATE = ".state-of-the-preview"
"""A name that no program has for a folder of its own."""


@dataclass(frozen=True)
class Preview:
    """What Pulumi says of a change."""

    report: dict[str, Any]
    """Its own JSON, with `[secret]` for every value that is marked as one."""
    inputs: dict[str, dict[str, Any]]
    """URN -> what the resource would be asked to be, with its marks; empty where the change cannot
    be applied."""
    accepted: bool


def _planned(file: Path, state: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The inputs of every resource by a plan (pkg/resource/deploy/plan.go), which has what differs
    from the state."""
    if not file.exists():
        return {}
    before = {
        resource["urn"]: resource.get("inputs") or {}
        for resource in (state or {}).get("deployment", {}).get("resources", [])
    }
    inputs = {}
    for urn, plan in json.loads(file.read_text())["resourcePlans"].items():
        change = (plan.get("goal") or {}).get("inputDiff") or {}
        kept = {
            key: value
            for key, value in before.get(urn, {}).items()
            if key not in (change.get("deletes") or [])
        }
        inputs[urn] = {**kept, **(change.get("adds") or {}), **(change.get("updates") or {})}
    return inputs


class Sandbox:
    """A folder in which `pulumi preview` of one stack runs."""

    def __init__(
        self,
        folder: Path,
        stack: str,
        environment: Mapping[str, str],
        redacted: Redacted,
        policy_packs: Sequence[Path] = (),
    ) -> None:
        self.folder = folder
        self.stack = stack
        self.policy_packs = policy_packs
        self.key_file = redacted.key_file
        self.notes = redacted.notes
        """What a preview here cannot know."""
        self._marked = redacted.marked
        self.environment = {
            **environment,
            "PULUMI_BACKEND_URL": f"file://{folder / STATE}",
            # Guards nothing but placeholders, for as long as the folder is there.
            "PULUMI_CONFIG_PASSPHRASE": "",
        }
        self.environment.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)

    def preview(self, state: Mapping[str, Any] | None) -> Preview:
        """What Pulumi says of the change, against `state` or as new. Raises CommandError."""
        self._pulumi("stack", "init")
        for key, value in self._marked.items():
            self._pulumi("config", "set", "--secret", key, value)
        if state is not None:
            # The sandbox's own provider of secrets, for the placeholders: the CLI imports no state
            # without one.
            salt = yaml.safe_load((self.folder / f"Pulumi.{self.stack}.yaml").read_text())[
                "encryptionsalt"
            ]
            provider = {"type": "passphrase", "state": {"salt": salt}}
            state = with_programs(state, [runner.text()])
            text = json.dumps(
                {**state, "deployment": {**state["deployment"], "secrets_providers": provider}}
            )
            if self.key_file is not None:
                # The docker provider gets the file's name in a list, which the state has as a text;
                # here it has another one.
                for spelt in (json.dumps, lambda name: json.dumps(json.dumps(name))[1:-1]):
                    text = text.replace(spelt(self.key_file), spelt(KEY_FILE))
            file = self.folder / STATE / "import.json"
            file.write_text(text)
            self._pulumi("stack", "import", "--file", str(file))
        plan = self.folder / STATE / "plan.json"
        # Every secret in here is a placeholder. Pulumi's JSON hides them all the same
        # (display/json.go), its plan does not.
        shown = ("--show-secrets", "--save-plan", str(plan))
        pack = self.policy_options()
        done = self._run("preview", "--json", "--show-sames", *shown, *pack)
        try:
            report: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        except ValueError:
            raise CommandError((done.stderr or done.stdout).strip()) from None
        if pack and done.returncode != 0:
            self._run("preview", "--json", *shown)  # a change that a pack refuses has no plan
        return Preview(report, _planned(plan, state), done.returncode == 0)

    def policy_options(self) -> list[str]:
        """The options that have Pulumi itself enforce the packs, of those that were seen to run
        (`policy --try`)."""
        usable = [pack for pack in self.policy_packs if packs.usable(pack, self.environment)]
        return [word for pack in usable for word in ("--policy-pack", str(pack.absolute()))]

    def _pulumi(self, *words: str) -> None:
        done = self._run(*words)
        if done.returncode != 0:
            raise CommandError((done.stderr or done.stdout).strip())

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = ["pulumi", *words, "--stack", self.stack, "--non-interactive"]
        try:
            return subprocess.run(
                argv,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise CommandError(
                "there is no `pulumi` on this computer",
                "install the Pulumi CLI, or add its folder to PATH",
            ) from None


@contextmanager
def sandbox(
    program: Path,
    stack_name: str,
    file: Path,
    environment: Mapping[str, str],
    shapes: Mapping[str, Any] | None = None,
    policy_packs: Sequence[Path] = (),
) -> Iterator[Sandbox]:
    """A sandbox for a stack of the program in a folder, configured by `file`; `shapes` are those of
    a saved state. Raises CommandError."""
    project = dict(stack.project(program))
    try:
        redacted = without_secrets(_read(file), shapes or {}, Conventions(str(project["name"])))
    except NoStackFile as error:
        raise CommandError(f"{file.name} is not a stack's file: {error}") from None
    with tempfile.TemporaryDirectory(prefix="preview-") as name:
        folder = Path(name)
        for entry in program.absolute().iterdir():
            if entry.name != ".git" and not entry.match("Pulumi.*"):
                (folder / entry.name).symlink_to(entry)
        # Here it stands beside the program, wherever the user keeps theirs: a link to that folder
        # would have Pulumi write into it.
        project.pop("stackConfigDir", None)
        (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project, sort_keys=False))
        (folder / STATE).mkdir()
        (folder / f"Pulumi.{stack_name}.yaml").write_text(
            yaml.safe_dump(redacted.config, sort_keys=False)
        )
        (folder / KEY_FILE).write_text(placeholder("sshPrivateKey"))
        yield Sandbox(folder, stack_name, environment, redacted, policy_packs)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CommandError(
            f"there is no {path.name} in {path.parent}", "name the stack with --stack"
        ) from None
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from None
