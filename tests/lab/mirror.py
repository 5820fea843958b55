"""This project's own program as a stack in the lab: applied, killed, looked at, previewed without a
network."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import run
from lab.plan import CHECKOUT, lab_folder
from lab.stack import Stack
from tests.lab.lab import NAME, Lab
from tools.progress import StageError


class Mirror:
    """This project's own program as a stack in the lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.left_out: tuple[str, ...] = ()
        """Nodes of the swarm that get the label of those that are in no list on purpose."""
        self.file = lab.folder.root / "Pulumi.e2e.yaml"
        self.base: dict[str, Any] = yaml.safe_load(
            (CHECKOUT / "Pulumi.dev.yaml").read_text().replace(".lab/dev/", f".lab/{NAME}/")
        )
        self.configure()
        # Named as the lab's stack, whose tracked file has the salt; any other name would leave a
        # file in the checkout.
        self.stack = Stack("dev", lab=NAME, config_file=self.file)
        self.stack.select()

    def configure(self, *, without: Any = (), **changes: Any) -> None:
        """Write the stack's configuration: the dev stack's, with `changes`, and without some
        nodes, which `status` is to take for left out on purpose."""
        self.left_out = tuple(without)
        text = json.loads(json.dumps(self.base))
        for key, value in changes.items():
            text["config"][f"swarm-registry-mirror:{key}"] = value
        nodes = text["config"]["swarm-registry-mirror:nodes"]
        text["config"]["swarm-registry-mirror:nodes"] = [
            node for node in nodes if node["name"] not in without
        ]
        self.file.write_text(yaml.safe_dump(text, sort_keys=False))

    def secret(self, key: str, value: str) -> None:
        """`pulumi config set --secret` in this mirror's own file; the value goes by stdin."""
        self.stack.quietly("config", "set", "--secret", key, stdin=value)

    def up(self) -> str:
        return self.stack.run("up", "--yes", "--skip-preview")

    def start(self) -> "subprocess.Popen[str]":
        """`pulumi up` in a session of its own, which `kill_session` ends; returns at once."""
        return subprocess.Popen(
            self.stack.command("up", "--yes", "--skip-preview"),
            cwd=CHECKOUT,
            env=self.stack.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )

    def up_after_kill(self) -> str:
        """Do what a person does: run the same command again, and follow what it says."""
        try:
            return self.up()
        except StageError as error:
            way_out = error.remedy
        assert "`make unlock ENV=dev`" in way_out
        code, output = self.operate("unlock")
        assert code == 0, output
        return self.up()

    def up_fails(self) -> str:
        """The reason that a person is shown."""
        with pytest.raises(StageError) as failed:
            self.up()
        return failed.value.reason

    def destroy(self) -> str:
        return self.stack.run("destroy", "--yes", "--skip-preview")

    def operate(self, verb: str, *words: str) -> tuple[int, str]:
        """Exit code and output of `swarm-registry-mirror VERB`, as `make VERB` runs it."""
        if verb == "status":
            for node in self.left_out:
                label = f"docker node update --label-add registry-mirror=off {node}"
                self.lab.on("node1", f"timeout 20 {label} >/dev/null 2>&1 || true")
        argv = self.stack.inside(
            [
                sys.executable,
                "-m",
                "components.registry_mirror.cli",
                verb,
                "--stack",
                self.stack.name,
                *words,
            ]
        )
        done = subprocess.run(
            argv,
            cwd=CHECKOUT,
            env=self.stack.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def status(self) -> dict[str, dict[str, Any]]:
        """Node of the list -> how it is."""
        entries = json.loads(self.operate("status", "--json")[1])
        return {entry["node"]: entry for entry in entries if entry["in_list"]}

    def preview_without_network(self) -> str:
        """A preview on a machine that can reach no node at all."""
        argv = self.stack.command("preview")
        done = without_network(argv[argv.index("--") + 1 :], self.stack.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def kill_session(leader: int) -> None:
    """Kill every process of a session, plugins and all, as the end of a CI job does."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == leader:
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue


def saved_state(stack: Stack) -> Path:
    """What `make save-state` writes."""
    file = lab_folder(NAME).root / "saved-state.json"
    done = run.run(stack, "preview", "--save", str(file), capture=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return file


def review(stack: Stack, state: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and report of `make preview OFFLINE=1`: without network, backend, passphrase and
    SSH key."""
    environment = {
        key: value
        for key, value in stack.environment.items()
        if not key.startswith("PULUMI_CONFIG")
    }
    environment["PULUMI_BACKEND_URL"] = "file:///nowhere"
    given = ["--stack", stack.name, "--offline", "--state", str(state)]
    given += ["--config-file", str(stack.config_file), "--json"]
    done = without_network([*run.COMMAND, "preview", *given], environment)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def without_network(
    argv: list[str], environment: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run a program where there is nothing but loopback."""
    alone = ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *argv]
    return subprocess.run(
        alone, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
