"""The lab as tests see it: its nodes, its upstream, and stacks that live in it."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.registry_mirror import answer, ship
from lab import control, deployed, images, internet, machines, swarm
from lab.plan import CHECKOUT, NODES, LabNode, lab_folder
from lab.sandbox import Sandbox
from tools.preview import cleaned_state
from tools.progress import StageError
from tools.stack import Stack

NAME = f"test-{os.environ['PYTEST_XDIST_WORKER']}" if "PYTEST_XDIST_WORKER" in os.environ else "test"
"""A lab of the tests' own, so that a person's `make up` is never disturbed; one for each worker of pytest-xdist."""


MIRROR_URL = "https://mirror.lab.test"
HOSTS_TOML = "/etc/docker/certs.d/docker.io/hosts.toml"


class Lab:
    """A running lab."""

    def __init__(self) -> None:
        self.folder = lab_folder(NAME)
        self.sandbox = Sandbox(self.folder.root)
        self.nodes: dict[str, LabNode] = {node.name: node for node in NODES}

    def have(self, engines: Mapping[str, str]) -> None:
        """Exchange the machines that have another engine than `engines` says, or than is usual where it says nothing."""
        control.exchange(NAME, engines)
        self.nodes = {node.name: machines.as_prepared(self.folder, node) for node in NODES}

    def on(self, node: str, script: str, stdin: bytes = b"") -> str:
        """Output of a shell script that runs as root on a node (not over SSH)."""
        return machines.run_on(self.sandbox, self.nodes[node], script, stdin=stdin, timeout=120)

    def on_bytes(self, node: str, script: str) -> bytes:
        """As `on`, for output that is no text."""
        return base64.b64decode(self.on(node, f"{{ {script}; }} | base64"))

    def tag_upstream(self, reference: str, image: str) -> None:
        """Have a tag of the upstream mean another image: `proof`, or `other`, which differs from it by a label."""
        images.tag_at_hub(self.sandbox, reference, image)

    def traefik(self, image: str, *arguments: str) -> None:
        """Have Traefik be another one, with these arguments more than usual."""
        swarm.change_traefik(self.sandbox, image, *arguments)

    def connections(self, *nodes: str) -> int:
        """SSH connections that the nodes' sshds have seen since they booted."""
        return sum(
            int(self.on(node, "journalctl --unit=ssh --output=cat | grep -c '^Connection from' || true")) for node in nodes
        )

    def configured(self) -> dict[str, str]:
        """Node -> what the agent says once it has configured it: where docker goes by hosts.toml nothing is reloaded."""
        return {name: "written" if node.has.containerd_store else "written and reloaded" for name, node in self.nodes.items()}

    def mirrors(self, node: str) -> list[str]:
        """What the node's docker uses: what its hosts.toml names where it goes by that, or else what it says itself."""
        if self.nodes[node].has.containerd_store:
            named = re.findall(r'^\[host\."(.*)"\]$', self.on(node, f"cat {HOSTS_TOML} 2>/dev/null || true"), re.MULTILINE)
            if named:
                return [f"{url}/" for url in named]
        found: list[str] | None = json.loads(self.on(node, "docker info --format '{{json .RegistryConfig.Mirrors}}'"))
        return found or []

    def info(self, node: str) -> dict[str, Any]:
        """`docker info` on a node."""
        found: dict[str, Any] = json.loads(self.on(node, "docker info --format '{{json .}}'"))
        return found

    def daemon_pid(self, node: str) -> str:
        """Another one after a restart of docker, the same after a reload."""
        return self.on(node, "systemctl show --property=MainPID --value docker").strip()

    def availability(self, manager: str = "node1") -> dict[str, str]:
        """Node -> active, pause or drain, as a manager sees it."""
        lines = self.on(manager, "docker node ls --format '{{.Hostname}} {{.Availability}}'").splitlines()
        return {name: state.lower() for name, state in (line.split() for line in lines)}

    def daemon_json(self, node: str) -> bytes | None:
        text = self.on(node, "if [ -e /etc/docker/daemon.json ]; then echo there; cat /etc/docker/daemon.json; fi")
        return text.removeprefix("there\n").encode() if text else None

    def power_off(self, node: str) -> None:
        machines.power_off(self.sandbox, self.nodes[node])

    def power_on(self, node: str) -> None:
        machines.power_on(self.sandbox, self.folder, self.nodes[node])
        machines.wait_until_up(self.sandbox, self.folder, self.nodes[node])

    def wait_for_mirror(self, node: str, seconds: float = 100) -> None:
        """Wait until the mirror answers from a node."""
        deployed.wait_until_it_answers(self.sandbox, self.nodes[node], seconds)

    def upstream(self) -> dict[str, Any]:
        return dict(internet.counters(self.sandbox))

    def digest(self, image: str) -> str:
        """Reference of one of the lab's images, with its digest."""
        (found,) = [found for found in (images.REGISTRY, images.VARNISH, images.TRAEFIK) if found.name == image]
        return f"{found.repository}:{found.tag}@{(self.folder.root / f'{image}.digest').read_text().strip()}"

    def private_key(self) -> str:
        return self.folder.ssh_key.read_text()

    def host_key(self, node: str) -> str:
        text = (self.folder.node(node) / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
        return f"{text[0]} {text[1]}"


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
        """Make `text` the program; `KEY`, `HOST_KEY`, `SSH`, `REGISTRY` (an image) and the SDKs are there."""
        head = (
            "import pulumi\nimport pulumi_docker as docker\nfrom pulumi_command import local, remote\n"
            f"KEY = open({str(self.lab.folder.ssh_key)!r}).read()\nHOST_KEY = {self.lab.host_key('node1')!r}\n"
            f"REGISTRY = {self.lab.digest('registry')!r}\n"
            f"SSH = ['-i', {str(self.lab.folder.ssh_key)!r}, '-o', 'UserKnownHostsFile={self.lab.folder.known_hosts}']\n"
        )
        (self.folder / "__main__.py").write_text(head + textwrap.dedent(text))

    def __call__(self, *words: str, fails: bool = False) -> str:
        """Output of a CLI run; a run that must fail and does not, or the other way round, is an error."""
        stack = [] if words[0] == "stack" else ["--stack", "t"]
        argv = self.lab.sandbox.command(["pulumi", *words, *stack, "--non-interactive"], network_only=True)
        done = subprocess.run(
            argv, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        text = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, text
        return text

    def up(self, *, fails: bool = False) -> str:
        return self("up", "--yes", "--skip-preview", fails=fails)

    def destroy(self) -> str:
        return self("destroy", "--yes", "--skip-preview")

    def plan(self) -> dict[str, list[str]]:
        """What a preview wants: operation -> names of resources; without those that stay the same."""
        steps = json.loads(self("preview", "--json").partition("{")[2].join(["{", ""]))["steps"]
        found: dict[str, list[str]] = {}
        for step in steps:
            if step["op"] != "same":
                found.setdefault(step["op"], []).append(step["urn"].rpartition("::")[2])
        return found


class Example:
    """A program of `examples/`, as somebody runs it who has installed the wheel: its own folder, environment and state."""

    def __init__(self, lab: Lab, name: str, installed: Path, folder: Path) -> None:
        self.lab = lab
        self.name = name
        self.folder = folder / name
        shutil.copytree(CHECKOUT / "examples" / name, self.folder, ignore=shutil.ignore_patterns("venv", "Pulumi.*.yaml"))
        # Where its Pulumi.yaml says that its environment is: a current language host takes no other Python.
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
        argv = self.lab.sandbox.command(["pulumi", *words, "--stack", "t", "--non-interactive"], network_only=True)
        done = subprocess.run(
            argv, cwd=self.folder, env=self.environment, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, verb: str, *words: str) -> tuple[int, str]:
        """Exit code and output of the installed `swarm-registry-mirror`."""
        argv = ["swarm-registry-mirror", verb, "--stack", "t", *words]
        done = subprocess.run(
            self.lab.sandbox.command(argv, network_only=True), cwd=self.folder, env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def outputs(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("stack", "output", "--json"))
        return found


class Mirror:
    """This project's own program as a stack in the lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.file = lab.folder.root / "Pulumi.e2e.yaml"
        self.base: dict[str, Any] = yaml.safe_load(
            (CHECKOUT / "Pulumi.dev.yaml").read_text().replace(".lab/dev/", f".lab/{NAME}/")
        )
        self.configure()
        # Named as the lab's stack, whose tracked file has the salt; any other name would leave a file in the checkout.
        self.stack = Stack("dev", lab=NAME, config_file=self.file)
        self.stack.select()

    def configure(self, *, without: Any = (), **changes: Any) -> None:
        """Write the stack's configuration: the dev stack's, with `changes`, and without some nodes."""
        text = json.loads(json.dumps(self.base))
        for key, value in changes.items():
            text["config"][f"swarm-registry-mirror:{key}"] = value
        nodes = text["config"]["swarm-registry-mirror:nodes"]
        text["config"]["swarm-registry-mirror:nodes"] = [node for node in nodes if node["name"] not in without]
        self.file.write_text(yaml.safe_dump(text, sort_keys=False))

    def secret(self, key: str, value: str) -> None:
        """`pulumi config set --secret` in this mirror's own file; the value goes by stdin."""
        self.stack.quietly("config", "set", "--secret", key, stdin=value)

    def up(self) -> str:
        return self.stack.run("up", "--yes", "--skip-preview")

    def start(self) -> "subprocess.Popen[str]":
        """`pulumi up` in a session of its own, which `kill_session` ends; returns at once."""
        return subprocess.Popen(
            self.stack.command("up", "--yes", "--skip-preview"), cwd=CHECKOUT, env=self.stack.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True,
        )  # fmt: skip

    def up_after_kill(self) -> str:
        """What a person does: the same command again, and what it says if it says something."""
        try:
            return self.up()
        except StageError as error:
            way_out = error.remedy
        assert "`make unlock ENV=dev`" in way_out
        code, words = self.operate("unlock")
        assert code == 0, words
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
        argv = self.stack.inside(
            [sys.executable, "-m", "components.registry_mirror.cli", verb, "--stack", self.stack.name, *words]
        )
        done = subprocess.run(
            argv, cwd=CHECKOUT, env=self.stack.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def status(self) -> dict[str, dict[str, Any]]:
        """Node -> how it is."""
        return {entry["node"]: entry for entry in json.loads(self.operate("status", "--json")[1])}

    def preview_without_network(self) -> str:
        """A preview on a machine that can reach no node at all."""
        argv = self.stack.command("preview")
        done = without_network(argv[argv.index("--") + 1 :], self.stack.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


class SentAgent:
    """The node agent, sent to a node over SSH as a roll-out does."""

    def __init__(self, lab: Lab, node: str, owner: str) -> None:
        self.lab, self.node, self.name = lab, lab.nodes[node], node
        self.settings: dict[str, Any] = {
            "owner": owner, "mirror": MIRROR_URL, "check_image": "library/swarm-mirror-proof:1", "service": "docker",
            "daemon_json": "/etc/docker/daemon.json", "keys": {}, "restart": "never",
        }  # fmt: skip

    def start(self, action: str) -> "subprocess.Popen[str]":
        """Returns at once; what the agent is to do has been sent."""
        become = None if self.node.user == "root" else "sudo"
        folder = self.lab.folder
        options = ["-F", "/dev/null", "-i", str(folder.ssh_key), "-o", f"UserKnownHostsFile={folder.known_hosts}", "-T"]
        argv = ["ssh", *options, f"{self.node.user}@{self.node.address}", ship.command(action, become)]
        running = subprocess.Popen(
            self.lab.sandbox.command(argv, network_only=True),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert running.stdin is not None
        running.stdin.write(ship.request(action.partition(".")[0], self.settings))
        running.stdin.close()
        running.stdin = None
        for _ in range(100):  # the chance is to be in what the agent does, not in what ssh does before
            if running.poll() is not None or self.lab.on(self.name, "pgrep -f '[R]EQUEST=json' || true"):
                break
            time.sleep(0.02)
        return running

    def run(self, action: str) -> tuple[int, str]:
        """Exit code, and what it said."""
        running = self.start(action)
        output, errors = running.communicate(timeout=150)
        return running.returncode, answer.find(output) if running.returncode == 0 else (output + errors).strip()


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
    text = cleaned_state(stack)
    assert text is not None
    file = lab_folder(NAME).root / "saved-state.json"
    file.write_text(text)
    return file


def review(stack: Stack, state: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and report of `make preview OFFLINE=1`: without network, backend, passphrase and SSH key."""
    environment = {key: value for key, value in stack.environment.items() if not key.startswith("PULUMI_CONFIG")}
    environment["PULUMI_BACKEND_URL"] = "file:///nowhere"
    given = ["--state", str(state), "--file", str(stack.config_file)]
    done = without_network([sys.executable, "-m", "review", "preview", stack.name, "--json", *given], environment)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def without_network(argv: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a program where there is nothing but loopback."""
    alone = ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *argv]
    return subprocess.run(alone, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)


def counts(output: str) -> dict[str, int]:
    """`{"created": 10}` from what Pulumi prints last."""
    after = output.rpartition("Resources:")[2]
    return {
        word: int(number) for number, word in re.findall(r"(\d+) (created|updated|replaced|deleted|unchanged|errored)", after)
    }


@pytest.fixture(scope="session")
def running_lab() -> Iterator[Lab]:
    """A lab, fresh from nothing but the base systems; KEEP_LAB=1 leaves it for a look."""
    if not os.environ.get("KEEP_LAB"):
        control.down(NAME)
    control.up(NAME)
    yield Lab()
    if not os.environ.get("KEEP_LAB"):
        control.down(NAME)


@pytest.fixture(scope="module")
def lab(running_lab: Lab, request: pytest.FixtureRequest) -> Lab:
    """The lab with the engines that the file's mark `engines(node3="28.5")` names, and the usual ones on the other machines."""
    mark = request.node.get_closest_marker("engines")
    running_lab.have(mark.kwargs if mark else {})
    return running_lab
