"""A string of its own stands at every place where a configuration can hold a secret; it is then in
nothing that is kept or shown.

With the real CLI and whichever plugins are there (the official ones on PATH, else the stand-ins),
without a lab: previews, both Pulumi's and ours, and the state that an `up` would leave.
"""

import base64
import functools
import json
import operator
import os
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from components.registry_mirror.cli import deployed
from components.registry_mirror.cli import stack as stacks
from components.registry_mirror.cli.errors import CommandError
from components.registry_mirror.cli.preview.configuration import Conventions, secrets_of
from components.registry_mirror.cli.preview.placeholders import placeholder
from components.registry_mirror.cli.preview.redact import (
    SECRET,
    SIGNATURE,
    UNKNOWN,
    without_secrets,
)
from components.registry_mirror.cli.stack import Stack
from components.registry_mirror.node_agent import outcome
from components.registry_mirror.nodes import restart_request, settings_text
from config import parse_files
from config.keys import KEYS
from tests.builders import DIGEST, ED25519, FRAME
from tools import toolchain
from tools.toolchain import CHECKOUT

pytestmark = pytest.mark.together

PREFIX = "swarm-registry-mirror:"
OPEN = {
    "hostname": "mirror.example.com",
    "image": f"registry:3.1.1@{DIGEST}",
    "varnishImage": f"varnish:7.7.0@{DIGEST}",
    "allowFrom": ["10.0.0.0/8"],
    "restart": "when-needed",
    "nodes": [
        {"name": name, "address": f"{name}.test", "hostKey": ED25519} for name in ("n1", "n2")
    ],
    "registries": [{"name": "ghcr.io"}, {"name": "quay.io", "username": "bot"}],
    "daemonKeys": {"debug": True, "log-opts": {"mode": "non-blocking"}},
}
SECRETS = {
    "sshPrivateKey": FRAME.format("BEGIN") + "CANARYb3BlbnNzaC1rZXk=\n" + FRAME.format("END"),
    "upstreamToken": 'CANARY-token"\\ 1/+%',
    "upstreamUsername": "CANARY-user",
    "upstreamProxy": "http://user:CANARY-proxy%40@proxy.example.com:3128",
    "daemonKeys.proxies.http-proxy": "http://user:CANARY-p%40ss@proxy:3128?q=CANARY",
    "daemonKeys.log-opts.splunk-token": "CANARY-splunk",
    "daemonKeys.labels[0]": "rack=CANARY-label",
    "registries[0].username": "CANARY-ghcr-user",
    "registries[0].token": "CANARY-ghcr-token",
    "registries[1].token": "CANARY-quay-token",
}
assert {key.partition(".")[0].partition("[")[0] for key in SECRETS} == {
    key for key, entry in KEYS.items() if entry.stays_secret
}


BESIDE = """
from pulumi_command import remote

remote.Command("beside", create="true", connection={"host": "h", "private_key": pulumi.Output.secret("k")})
"""  # noqa: E501
"""What the program declares besides the mirror, against a policy: Pulumi hides the whole connection
as a secret."""
VIOLATION = "beside: its connection has no hostKey"


class Project:
    """A copy of this program with a stack of its own, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder.parent / "state").mkdir()
        for entry in CHECKOUT.iterdir():
            if not entry.match("Pulumi.*.yaml") and entry.name not in (".git", ".lab"):
                (folder / entry.name).symlink_to(entry)
        program = folder / "__main__.py"
        program.unlink()
        program.write_text((CHECKOUT / "__main__.py").read_text() + BESIDE)
        self.environment = {
            **os.environ,
            **toolchain.environment(),
            "PULUMI_BACKEND_URL": f"file://{folder.parent}/state",
            "PULUMI_CONFIG_PASSPHRASE": "the test's own",
        }
        self.pulumi("stack", "init")
        self.file = folder / "Pulumi.canary.yaml"

    def pulumi(self, *words: str, code: int | None = 0) -> str:
        """What the CLI prints, on both streams."""
        return self._run(["pulumi", *words, "--stack", "canary", "--non-interactive"], code)

    def review(self, *words: str, code: int) -> str:
        """What our own preview prints."""
        return self._run(
            [
                str(toolchain.VENV / "bin" / "python"),
                "-m",
                "components.registry_mirror.cli",
                "preview",
                "--stack",
                "canary",
                "--offline",
                *words,
            ],
            code,
        )

    def _run(self, argv: list[str], code: int | None) -> str:
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environment,
            input="",
            capture_output=True,
            text=True,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Have this process use the stack, as the command does."""
        for name, value in self.environment.items():
            patch.setenv(name, value)

    def write(self, key: str, value: object) -> None:
        """Have the stack's file say this, in the clear."""
        content = yaml.safe_load(self.file.read_text())
        *mappings, last = (PREFIX + key).split(".")
        functools.reduce(operator.getitem, mappings, content["config"])[last] = value
        self.file.write_text(yaml.safe_dump(content))

    def set_secrets(self, secrets: dict[str, str]) -> None:
        self.pulumi(
            "config",
            "set-all",
            "--path",
            *(w for k, v in secrets.items() for w in ("--secret", f"{PREFIX}{k}={v}")),
        )

    def values(self) -> dict[str, str]:
        entries = json.loads(self.pulumi("config", "--json", "--show-secrets"))
        return {key: entry["value"] for key, entry in entries.items()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("canary") / "project")
    config = {PREFIX + key: value for key, value in OPEN.items()}
    project.file.write_text(
        yaml.safe_dump({**yaml.safe_load(project.file.read_text()), "config": config})
    )
    project.set_secrets(SECRETS)
    return project


class Planned(NamedTuple):
    """What `Stack.plan` has returned and left behind."""

    plan: dict[str, Any]
    sizes: list[int]
    """Bytes of every file that was in the folder for temporary files while the CLI ran."""
    left: list[Path]
    """What was in that folder afterwards."""


@pytest.fixture(scope="module")
def planned(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """The plan, with secrets in the clear, as the command asks Pulumi for it."""
    folder = tmp_path_factory.mktemp("temporary")
    sizes: list[int] = []
    run = stacks.Stack.run

    def watched(self: Stack, *words: str, **options: Any) -> str:
        text = run(self, *words, **options)
        sizes.extend(path.stat().st_size for path in folder.rglob("*") if not path.is_dir())
        return text

    with pytest.MonkeyPatch.context() as patch:
        project.enter(patch)
        patch.setattr("tempfile.tempdir", str(folder))
        patch.setattr(stacks.Stack, "run", watched)
        plan = Stack("canary", project.folder).plan()
    return Planned(plan, sizes, list(folder.iterdir()))


@pytest.fixture(scope="module")
def values(project: Project) -> dict[str, str]:
    return project.values()


@pytest.fixture(scope="module")
def exported(planned: Planned, values: dict[str, str]) -> dict[str, Any]:
    """The state that an `up` would leave, as `pulumi stack export --show-secrets` has it, made from
    Pulumi's own plan of it; without what the program declares besides the mirror."""
    plans = json.loads(json.dumps(planned.plan).replace(f"::{UNKNOWN}", "::an-id"))["resourcePlans"]
    mirror = parse_files(
        {key.removeprefix(PREFIX): value for key, value in values.items()},
        ["upstreamProxy"],
    ).mirror
    reloaded = outcome.read("reloaded")._asdict()
    outcomes = dict.fromkeys(("n2", "n1"), reloaded)  # the canary first
    request = settings_text(restart_request(mirror, "registry-mirror", outcomes))
    resources = []
    for urn, plan in plans.items():
        if urn.endswith("::beside"):
            continue
        goal = plan["goal"]
        inputs = (goal.get("inputDiff") or {}).get("adds") or {}
        if urn.endswith("-restarts"):
            inputs["stdin"] = {SIGNATURE: SECRET, "plaintext": json.dumps(request)}
        said = "reloaded" if "-node-" in urn else "CANARY-user said CANARY-splunk"
        outputs = {
            **inputs,
            **({"stdout": said, "stderr": ""} if goal["type"].startswith("command:") else {}),
        }
        kept = (
            "parent",
            "provider",
            "dependencies",
            "propertyDependencies",
            "additionalSecretOutputs",
            "customTimeouts",
        )
        resources.append(
            {
                "urn": urn,
                "type": goal["type"],
                "custom": goal["custom"],
                "inputs": inputs,
                "outputs": outputs,
                **({"id": "an-id"} if goal["custom"] else {}),
                **{key: goal[key] for key in kept if key in goal},
                "stackTrace": [{"sourcePosition": "project:///../../root/x"}],
            }
        )
    return {"version": 3, "deployment": {"manifest": {}, "resources": in_order(resources)}}


def in_order(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a state has them: what a resource hangs on stands before it."""
    left, ordered = {resource["urn"]: resource for resource in resources}, list[dict[str, Any]]()
    while left:
        for urn, resource in list(left.items()):
            needed = [
                resource.get("parent"),
                resource.get("provider", "").rpartition("::")[0],
                *(resource.get("dependencies") or []),
            ]
            if not left.keys() & set(needed):
                ordered.append(left.pop(urn))
    return ordered


def everywhere(text: str) -> list[str]:
    """Where the string is: in the clear, or inside base64."""
    opened = []
    for token in re.findall(r"[A-Za-z0-9+/]{12,}", text):
        whole = token[
            : len(token) // 4 * 4
        ]  # what is behind the last whole group is no more than two characters
        opened += [
            base64.b64decode(whole[shift:] + "A" * shift).decode(errors="replace")
            for shift in range(4)
        ]
    return [part for part in (text, *opened) if "CANARY" in part]


def test_the_string_would_be_found_if_it_were_there(exported: dict[str, Any]) -> None:
    places = {
        resource["urn"].rpartition("::")[2]
        for resource in exported["deployment"]["resources"]
        if everywhere(json.dumps(resource))
    }
    parts = {
        "credentials",
        "upstream-proxy",
        "node-n1",
        "node-n2",
        "ready",
        "storage",
        "claim",
        "restarts",
    }
    assert places >= {f"registry-mirror-{part}" for part in parts}


@pytest.mark.parametrize("flags", [("--diff", "--show-config"), ("--json",)])
def test_pulumis_own_previews_do_not_show_it(project: Project, flags: tuple[str, ...]) -> None:
    assert everywhere(project.pulumi("preview", *flags)) == []


def without(project: Project, values: dict[str, str], state: dict[str, Any]) -> str:
    """A state as it is saved for the previews of pull requests, by the stack's file and values."""
    conventions = Conventions("swarm-registry-mirror")
    secrets = secrets_of(project.file.read_text(), values, str, conventions)
    return json.dumps(without_secrets(state, secrets))


@pytest.fixture(scope="module")
def saved(project: Project, values: dict[str, str], exported: dict[str, Any]) -> Path:
    file = project.folder.parent / "saved.json"
    file.write_text(without(project, values, exported))
    return file


def test_a_saved_state_does_not_have_it_nor_the_program_nor_the_computer(saved: Path) -> None:
    text = saved.read_text()
    assert everywhere(text) == []
    assert placeholder("upstreamToken") in str(
        [base64.b64decode(token) for token in re.findall(r"ey[A-Za-z0-9+/]{40,}=*", text)]
    )
    assert not [word for word in ("/../root", "stackTrace") if word in text]
    assert len(text) < 300_000  # the containers' scripts are most of it


def test_a_saved_state_of_before_a_change_has_neither_the_old_secret_nor_the_new(
    project: Project, exported: dict[str, Any]
) -> None:
    text = project.file.read_text()
    project.set_secrets({key: value.replace("CANARY", "ROTATED") for key, value in SECRETS.items()})
    try:
        state = without(project, project.values(), exported)
    finally:
        project.file.write_text(text)
    # What nobody has marked, like a command's output, is only searched for the secrets of today.
    marked = state.replace("CANARY-user said CANARY-splunk", "")
    assert everywhere(marked) == []
    assert "ROTATED" not in state


def test_our_own_preview_of_a_new_stack_does_not_show_it_and_is_complete(project: Project) -> None:
    markdown = project.folder.parent / "preview.md"
    text = project.review("--markdown", str(markdown), code=3)
    assert everywhere(text + markdown.read_text()) == []
    assert "+ registry-mirror-restarts (command here) new" in text
    assert "keys.log-opts.mode: non-blocking" in text
    violations = text.partition("Against the policy:\n\n")[2].partition("\n\n")[0]
    assert [line.strip().split(":")[0] for line in violations.splitlines()] == ["- beside"]
    assert VIOLATION in violations


def test_our_own_preview_is_quiet_where_nothing_has_changed(project: Project, saved: Path) -> None:
    markdown = project.folder.parent / "preview.md"
    flags = ["--json", "--markdown", str(markdown), "--state", str(saved)]
    text = project.review(*flags, code=3)
    assert everywhere(text + markdown.read_text()) == []
    report = json.loads(text)
    changed = {change["name"]: change["lines"] for change in report["changes"]}
    # What hangs on ids that docker gives or `up` draws is not in this state, nor is what the
    # provider finds out about itself.
    beyond = (
        "-service",
        "-ghcr.io",
        "-quay.io",
        "-front",
        "-ready",
        "-claim",
        "-storage",
        "manager",
        "beside",
    )
    left = {name: lines for name, lines in changed.items() if not name.endswith(beyond)}
    assert not left, json.dumps(left, indent=1)
    (violation,) = report["violations"]
    assert violation.startswith(VIOLATION)


def test_our_own_preview_names_a_key_that_changes_beside_a_secret_one(
    project: Project, saved: Path
) -> None:
    text = project.file.read_text()
    try:
        project.write("daemonKeys.debug", False)
        report = json.loads(project.review("--json", "--state", str(saved), code=3))
    finally:
        project.file.write_text(text)
    nodes = {
        change["name"]: change["lines"]
        for change in report["changes"]
        if "-node-" in change["name"]
    }
    assert nodes == {
        f"registry-mirror-node-{name}": ["keys.debug: true → false"] for name in ("n1", "n2")
    }


def test_a_fault_of_the_configuration_does_not_repeat_it(project: Project) -> None:
    text = project.file.read_text()
    try:
        wrong = {
            "daemonKeys.log-level": "CANARY-level",
            "daemonKeys.shutdown-timeout": "CANARY-number",
        }
        project.set_secrets({**wrong, "hostname": "CANARY.example.com"})
        outputs = [project.pulumi("preview", "--json", code=None)]
        assert "hostname: was set as a secret and cannot be kept one" in outputs[0]
        project.write("hostname", "mirror.example.com")
        outputs += [project.pulumi("preview", code=None), project.review(code=1)]
        assert "daemonKeys.shutdown-timeout: must be a whole number (got '[secret]')" in outputs[1]
        assert [output for output in outputs if everywhere(output)] == []
    finally:
        project.file.write_text(text)


def test_a_plan_has_the_nodes_with_their_keys_and_lies_in_no_file(planned: Planned) -> None:
    """What `up --unreachable skip-and-report` asks nodes with."""
    nodes = deployed.planned({"version": 3, "deployment": None}, planned.plan)
    assert sorted(node.name for node in nodes) == ["n1", "n2"]
    for node in nodes:
        assert node.environment["MIRROR_PRIVATE_KEY"] == SECRETS["sshPrivateKey"]
        assert node.settings["keys"]["log-opts"]["splunk-token"] == "CANARY-splunk"
    assert planned.sizes == [0], "a pipe, and nothing else"
    assert planned.left == []


def test_a_plan_that_fails_does_not_repeat_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.enter(monkeypatch)
    text = project.file.read_text()
    try:
        project.write("hostname", "not a name")
        with pytest.raises(CommandError, match="`pulumi preview` fails") as refused:
            Stack("canary", project.folder).plan()
        assert everywhere(str(refused.value)) == []
    finally:
        project.file.write_text(text)
