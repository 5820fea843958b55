"""A string of its own stands at every place where a configuration can hold a secret; it is then in nothing that is kept or shown.

With the real CLI and whichever plugins are there (the official ones on PATH, else the stand-ins), without a lab: previews, both
Pulumi's and ours, and the state that an `up` would leave.
"""

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.registry_mirror.node import restart_request, settings_text
from config import parse_files
from config.keys import KEYS
from review.configuration import secrets_of
from review.placeholders import placeholder
from review.state import SECRET, SIGNATURE, UNKNOWN, without_secrets
from tests.unit.test_rules import DIGEST, ED25519
from tests.unit.test_settings import FRAME
from tools import toolchain
from tools.toolchain import CHECKOUT

PREFIX = "swarm-registry-mirror:"
OPEN = {
    "hostname": "mirror.example.com",
    "image": f"registry:3.1.1@{DIGEST}",
    "varnishImage": f"varnish:7.7.0@{DIGEST}",
    "allowFrom": ["10.0.0.0/8"],
    "restart": "when-needed",
    "nodes": [{"name": name, "address": f"{name}.test", "hostKey": ED25519} for name in ("n1", "n2")],
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
}
assert {key.partition(".")[0] for key in SECRETS} == {key for key, entry in KEYS.items() if entry.stays_secret}


class Project:
    """A copy of this program with a stack of its own, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder.parent / "state").mkdir()
        for entry in CHECKOUT.iterdir():
            if not entry.match("Pulumi.*.yaml") and entry.name not in (".git", ".lab", "review"):
                (folder / entry.name).symlink_to(entry)
        # No link, because it takes the checkout that it lies in.
        shutil.copytree(CHECKOUT / "review", folder / "review")
        self.environment = {
            **os.environ, **toolchain.environment(),
            "PULUMI_BACKEND_URL": f"file://{folder.parent}/state", "PULUMI_CONFIG_PASSPHRASE": "the test's own",
        }  # fmt: skip
        self.pulumi("stack", "init")
        self.file = folder / "Pulumi.canary.yaml"

    def pulumi(self, *words: str, stdin: str = "", code: int | None = 0) -> str:
        """What the CLI prints, on both streams."""
        return self._run(["pulumi", *words, "--stack", "canary", "--non-interactive"], stdin, code)

    def review(self, *words: str, stdin: str = "", code: int | None = 0) -> str:
        """What our own preview prints."""
        return self._run([str(toolchain.VENV / "bin" / "python"), "-m", "review", *words, "--file", str(self.file)], stdin, code)

    def _run(self, argv: list[str], stdin: str, code: int | None) -> str:
        done = subprocess.run(
            argv, cwd=self.folder, env=self.environment, input=stdin, capture_output=True, text=True, check=False
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def set(self, key: str, value: str, *, secret: bool) -> None:
        path = ["--path"] if "." in key else []
        self.pulumi("config", "set", *path, "--secret" if secret else "--plaintext", PREFIX + key, stdin=value)

    def set_secrets(self, secrets: dict[str, str]) -> None:
        self.pulumi("config", "set-all", "--path", *(w for k, v in secrets.items() for w in ("--secret", f"{PREFIX}{k}={v}")))

    def values(self) -> dict[str, str]:
        found = self.pulumi("config", "--json", "--show-secrets")
        return {key: entry["value"] for key, entry in json.loads(found).items()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    found = Project(tmp_path_factory.mktemp("canary") / "project")
    config = {PREFIX + key: value for key, value in OPEN.items()}
    found.file.write_text(yaml.safe_dump({**yaml.safe_load(found.file.read_text()), "config": config}))
    found.set_secrets(SECRETS)
    return found


@pytest.fixture(scope="module")
def exported(project: Project) -> dict[str, Any]:
    """The state that an `up` would leave, as `pulumi stack export --show-secrets` has it, made from Pulumi's own plan of it."""
    plan_file = project.folder.parent / "plan.json"
    project.pulumi("preview", "--save-plan", str(plan_file), "--show-secrets")
    text = plan_file.read_text().replace(f"::{UNKNOWN}", "::an-id")
    mirror = parse_files({key.removeprefix(PREFIX): value for key, value in project.values().items()}, ["upstreamProxy"]).mirror
    told = dict.fromkeys(("n2", "n1"), "reloaded")  # the canary first
    request = settings_text(restart_request(mirror, "registry-mirror", told))
    resources = []
    for urn, plan in json.loads(text)["resourcePlans"].items():
        goal = plan["goal"]
        inputs = (goal.get("inputDiff") or {}).get("adds") or {}
        if urn.endswith("-restarts"):
            inputs["stdin"] = {SIGNATURE: SECRET, "plaintext": json.dumps(request)}
        said = "reloaded" if "-node-" in urn else "CANARY-user said CANARY-splunk"
        outputs = {**inputs, **({"stdout": said, "stderr": ""} if goal["type"].startswith("command:") else {})}
        kept = ("parent", "provider", "dependencies", "propertyDependencies", "additionalSecretOutputs", "customTimeouts")
        resources.append(
            {
                "urn": urn, "type": goal["type"], "custom": goal["custom"], "inputs": inputs, "outputs": outputs,
                **({"id": "an-id"} if goal["custom"] else {}), **{key: goal[key] for key in kept if key in goal},
                "stackTrace": [{"sourcePosition": "project:///../../root/x"}],
            }
        )  # fmt: skip
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
        whole = token[: len(token) // 4 * 4]  # what is behind the last whole group is no more than two characters
        opened += [base64.b64decode(whole[shift:] + "A" * shift).decode(errors="replace") for shift in range(4)]
    return [part for part in (text, *opened) if "CANARY" in part]


def test_the_string_would_be_found_if_it_were_there(exported: dict[str, Any]) -> None:
    places = {found["urn"].rpartition("::")[2] for found in exported["deployment"]["resources"] if everywhere(json.dumps(found))}
    parts = {"credentials", "upstream-proxy", "node-n1", "node-n2", "ready", "storage", "claim", "restarts"}
    assert places >= {f"registry-mirror-{part}" for part in parts}


@pytest.mark.parametrize("flags", [("--diff", "--show-config"), ("--json",)])
def test_pulumis_own_previews_do_not_show_it(project: Project, flags: tuple[str, ...]) -> None:
    assert everywhere(project.pulumi("preview", *flags)) == []


def saved(project: Project, state: dict[str, Any]) -> Path:
    secrets = secrets_of(project.file.read_text(), project.values(), str)
    file = project.folder.parent / "saved.json"
    file.write_text(json.dumps(without_secrets(state, secrets)))
    return file


def test_a_saved_state_does_not_have_it_nor_the_program_nor_the_computer(project: Project, exported: dict[str, Any]) -> None:
    text = saved(project, exported).read_text()
    assert everywhere(text) == []
    assert placeholder("upstreamToken") in str([base64.b64decode(found) for found in re.findall(r"ey[A-Za-z0-9+/]{40,}=*", text)])
    assert not [word for word in ("/../root", "stackTrace") if word in text]
    assert len(text) < 200_000


def test_a_saved_state_of_before_a_change_has_neither_the_old_secret_nor_the_new(
    project: Project, exported: dict[str, Any]
) -> None:
    text = project.file.read_text()
    project.set_secrets({key: value.replace("CANARY", "ROTATED") for key, value in SECRETS.items()})
    try:
        found = saved(project, exported).read_text()
    finally:
        project.file.write_text(text)
    # What nobody has marked, like a command's output, is only searched for the secrets of today.
    marked = found.replace("CANARY-user said CANARY-splunk", "")
    assert everywhere(marked) == []
    assert "ROTATED" not in found


def test_our_own_preview_does_not_show_it_and_is_complete(project: Project) -> None:
    markdown = project.folder.parent / "preview.md"
    text = project.review("preview", "canary", "--markdown", str(markdown))
    assert everywhere(text + markdown.read_text()) == []
    assert "+ registry-mirror-restarts (command here) new" in text
    assert "keys.log-opts.mode: non-blocking" in text


def test_our_own_preview_is_quiet_where_nothing_has_changed(project: Project, exported: dict[str, Any]) -> None:
    markdown = project.folder.parent / "preview.md"
    flags = ["--json", "--markdown", str(markdown), "--state", str(saved(project, exported))]
    found = project.review("preview", "canary", *flags)
    assert everywhere(found + markdown.read_text()) == []
    changed = {change["name"]: change["lines"] for change in json.loads(found)["changes"]}
    # What hangs on ids that docker gives or `up` draws is not in this state, nor is what the provider finds out about itself.
    beyond = ("-service", "-front", "-ready", "-claim", "-storage", "manager")
    assert not {name: lines for name, lines in changed.items() if not name.endswith(beyond)}


def test_our_own_preview_names_a_key_that_changes_beside_a_secret_one(project: Project, exported: dict[str, Any]) -> None:
    state, text = saved(project, exported), project.file.read_text()
    try:
        project.set("daemonKeys.debug", "false", secret=False)
        found = json.loads(project.review("preview", "canary", "--json", "--state", str(state)))
    finally:
        project.file.write_text(text)
    nodes = {change["name"]: change["lines"] for change in found["changes"] if "-node-" in change["name"]}
    assert nodes == {f"registry-mirror-node-{name}": ["keys.debug: true → false"] for name in ("n1", "n2")}


BESIDE = """
from pulumi_command import remote

remote.Command("beside", create="true", connection={"host": "h", "private_key": pulumi.Output.secret("k")})
"""


def test_the_policies_see_what_pulumi_hides_as_a_secret(project: Project, exported: dict[str, Any]) -> None:
    program = project.folder / "__main__.py"
    ours = program.readlink()
    program.unlink()
    program.write_text(ours.read_text() + BESIDE)
    try:
        for flags in ([], ["--state", str(saved(project, exported))]):
            found = json.loads(project.review("preview", "canary", "--json", *flags, code=3))["violations"]
            assert [violation for violation in found if violation.startswith("beside: its connection has no hostKey")], found
            assert not [violation for violation in found if violation.startswith("registry-mirror")]
    finally:
        program.unlink()
        program.symlink_to(ours)


def test_a_fault_of_the_configuration_does_not_repeat_it(project: Project) -> None:
    text = project.file.read_text()
    try:
        wrong = {"daemonKeys.log-level": "CANARY-level", "daemonKeys.shutdown-timeout": "CANARY-number"}
        project.set_secrets({**wrong, "hostname": "CANARY.example.com"})
        found = [project.pulumi("preview", "--json", code=None)]
        assert "hostname: was set as a secret and cannot be kept one" in found[0]
        project.set("hostname", "mirror.example.com", secret=False)
        found += [project.pulumi("preview", code=None), project.review("preview", "canary", code=1)]
        assert "daemonKeys.shutdown-timeout: must be a whole number (got '[secret]')" in found[1]
        assert [output for output in found if everywhere(output)] == []
    finally:
        project.file.write_text(text)
