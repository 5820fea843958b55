"""A small Pulumi program of a test's own, run by the real CLI inside the lab's network."""

import json
import subprocess
import textwrap
from pathlib import Path

from lab.stack import Stack
from tests.lab.lab import NAME, Lab


class Project:
    """A small Pulumi program of a test's own, run by the real CLI inside the lab's network."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        (folder / "state").mkdir()
        (folder / "Pulumi.yaml").write_text("name: contract\nruntime: python\n")
        stack = Stack("t", lab=NAME)
        self.environment = {**stack.environment, "PULUMI_BACKEND_URL": f"file://{folder}/state"}
        self("stack", "init", "t")

    def write(self, text: str) -> None:
        """Make `text` the program; `KEY`, `HOST_KEY`, `SSH`, `REGISTRY` (an image) and the SDKs are
        there."""
        head = (
            "import pulumi\nimport pulumi_docker as docker\nfrom pulumi_command import local,"
            " remote\n"
            f"KEY = open({str(self.lab.folder.ssh_key)!r}).read()\nHOST_KEY ="
            f" {self.lab.host_key('node1')!r}\n"
            f"REGISTRY = {self.lab.digest('registry')!r}\n"
            f"SSH = ['-i', {str(self.lab.folder.ssh_key)!r}, '-o',"
            f" 'UserKnownHostsFile={self.lab.folder.known_hosts}']\n"
        )
        (self.folder / "__main__.py").write_text(head + textwrap.dedent(text))

    def __call__(self, *words: str, fails: bool = False) -> str:
        """Output of a CLI run; a run that must fail and does not, or the other way round, is an
        error."""
        stack = [] if words[0] == "stack" else ["--stack", "t"]
        argv = self.lab.sandbox.command(
            ["pulumi", *words, *stack, "--non-interactive"], network_only=True
        )
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        text = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, text
        return text

    def up(self, *, fails: bool = False) -> str:
        return self("up", "--yes", "--skip-preview", fails=fails)

    def destroy(self) -> str:
        return self("destroy", "--yes", "--skip-preview")

    def plan(self) -> dict[str, list[str]]:
        """What a preview wants: operation -> names of resources; without those that stay the
        same."""
        steps = json.loads(self("preview", "--json").partition("{")[2].join(["{", ""]))["steps"]
        found: dict[str, list[str]] = {}
        for step in steps:
            if step["op"] != "same":
                found.setdefault(step["op"], []).append(step["urn"].rpartition("::")[2])
        return found
