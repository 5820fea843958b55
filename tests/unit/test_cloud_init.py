"""User data for a new machine: what the scripts in it write, what they leave alone, and that a node
agent finds nothing to reload there and takes it all back.

dockerd and cloud-init are played here; the real ones are in tests/e2e/test_enrol.py.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.registry_mirror.cli import __main__ as command
from components.registry_mirror.cli import stack as stacks
from components.registry_mirror.node_agent import hosts, node
from components.registry_mirror.node_agent.outcome import Outcome
from components.registry_mirror.node_agent.request import NodeRegistry, NodeRequest, encode
from components.registry_mirror.render.cloud_init import user_data
from tests.builders import mirror
from tests.fake_docker import URL, FakeDocker, apply, edit, request
from tests.fake_hosts import OURS, FakeHosts, look

KEYS = {"max-concurrent-downloads": 6, "labels": ["a=b", "c='d\" $(e) `f` \\"]}
GHCR = NodeRegistry("ghcr.io", "ghcr.io")
WITH_PORT = NodeRegistry("r.example.com:5000", "r")
STRICT = NodeRegistry("quay.io", "quay.io", fallback=False)
NEW_DOCKER = '29.1.0 [["driver-type","io.containerd.snapshotter.v1"]]'


def wanted(path: Path, **more: Any) -> NodeRequest:
    return replace(request(path), **more)


def remarks(text: str) -> str:
    """The comments at the top, as one line."""
    lines = text.splitlines()[1:]
    return " ".join(line[2:] for line in lines if line.startswith("# "))


def config(text: str) -> dict[str, Any]:
    """The user data, parsed."""
    assert text.startswith("#cloud-config\n")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


class Machine:
    """A new machine, with cloud-init's and docker's commands as stand-ins. `docker`: what `docker
    info` says; None where there is no docker yet."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        for program in ("sh", "mkdir", "rm", "ln", "cp", "mv"):
            (self.bin / program).symlink_to(str(shutil.which(program)))

    def run(self, commands: Sequence[Sequence[str]], docker: str | None = None) -> str:
        client = self.bin / "docker"
        client.unlink(missing_ok=True)
        if docker is not None:
            client.write_text(f"#!/bin/sh\ncat <<'END'\n{docker}\nEND\n".replace("cat", "/bin/cat"))
            client.chmod(0o755)
        said = ""
        for words in commands:
            assert words[:2] == ["cloud-init-per", "instance"]
            done = subprocess.run(
                words[3:],
                env={"PATH": str(self.bin)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            said += done.stdout
        return said

    def boots(self, text: str, docker: str | None = None) -> str:
        """What the scripts say."""
        given = config(text)
        return self.run(given["bootcmd"]) + self.run(given.get("runcmd", []), docker)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_docker_that_goes_by_daemon_json_is_found_right_and_is_not_reloaded(
    docker: FakeDocker, path: Path, machine: Machine
) -> None:
    wish = wanted(path, managed_keys=KEYS)
    assert "is written" in machine.boots(user_data(wish), "26.1.5 []")
    assert json.loads(path.read_text()) == {"registry-mirrors": [URL], **KEYS}
    text = path.read_text()
    edit(docker, path, text)  # docker starts with it
    reloads = docker.reloads
    assert apply(wish) == Outcome("unchanged")
    assert (look(wish)["faults"], path.read_text(), docker.reloads) == ([], text, reloads)
    assert apply(wish) == Outcome("unchanged")
    node.remove(wish)
    assert docker.mirrors == []
    assert URL not in path.read_text()


@pytest.mark.parametrize("keys", [{}, KEYS], ids=["no keys", "keys"])
@pytest.mark.parametrize("guard", [False, True])
def test_a_docker_that_goes_by_hosts_toml_is_found_right_and_is_not_reloaded(
    by_hosts: FakeHosts,
    docker: FakeDocker,
    path: Path,
    machine: Machine,
    keys: dict[str, Any],
    guard: bool,
) -> None:
    wish = wanted(path, managed_keys=keys, registries=[GHCR, WITH_PORT])
    assert "hosts.toml is written" in machine.boots(user_data(wish), NEW_DOCKER)
    assert by_hosts.text == OURS
    assert by_hosts.asked("r.example.com:5000")[0] == f"{URL}/v2/r"
    edit(docker, path, path.read_text())
    reloads = docker.reloads
    wish = replace(wish, guard=guard)
    assert apply(wish) == Outcome("written"), "what is known of the files, and no file"
    for _ in range(2):
        seen = look(wish)
        assert (seen["faults"], seen["way"], seen["registries"][0]) == (
            [],
            "hosts.toml",
            "docker.io",
        )
        assert [seen[name] for name in ("listed", "used", "recorded")] == [True] * 3
        assert apply(wish) == Outcome("unchanged")
    assert (by_hosts.text, docker.reloads) == (OURS, reloads)
    node.remove(wish)
    assert docker.mirrors == []
    left = [name for name in by_hosts.everything() if name != str(path)]
    assert left == [str(by_hosts.folder)] or left == []


def test_with_a_guard_its_files_are_left_to_it(
    by_hosts: FakeHosts, path: Path, machine: Machine
) -> None:
    text = user_data(wanted(path, guard=True, registries=[GHCR]))
    assert "runcmd" not in config(text)
    assert "the mirror's guard writes those files" in remarks(text)


def test_where_nobody_else_may_be_asked_no_file_is_written_and_it_is_said(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path, machine: Machine
) -> None:
    wish = wanted(path, registries=[GHCR, STRICT])
    text = user_data(wish)
    machine.boots(text, NEW_DOCKER)
    assert "fallback is false there: hosts.toml of quay.io." in remarks(text)
    assert (by_hosts.text_of("quay.io"), bool(by_hosts.text_of("ghcr.io"))) == (None, True)
    edit(docker, path, path.read_text())
    assert apply(wish) == Outcome("written")
    assert by_hosts.asked("quay.io") == [f"{URL}/v2/quay.io"]


@pytest.mark.parametrize("there", ['{"debug": true}\n', "", "{unfinished"])
def test_a_daemon_json_that_is_there_stays_letter_for_letter(
    path: Path, machine: Machine, there: str
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(there)
    said = machine.boots(user_data(wanted(path)), "26.1.5 []")
    assert path.read_text() == there
    assert "is there already and is left as it is" in said
    assert [*path.parent.iterdir()] == [path]


def test_a_link_to_nowhere_is_somebodys_too(path: Path, machine: Machine, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(tmp_path / "managed-elsewhere")
    machine.boots(user_data(wanted(path)))
    assert not (tmp_path / "managed-elsewhere").exists()


@pytest.mark.parametrize(
    "info",
    [
        None,
        "",
        "27.5.1 " + NEW_DOCKER.partition(" ")[2],
        '29.1.0 [["Backing Filesystem","extfs"]]',
        "Cannot connect to the Docker daemon",
    ],
)
def test_a_docker_that_is_not_there_or_reads_no_hosts_toml_gets_none(
    by_hosts: FakeHosts, path: Path, machine: Machine, info: str | None
) -> None:
    said = machine.boots(user_data(wanted(path)), info)
    assert "no hosts.toml is written" in said
    assert not by_hosts.folder.exists()


@pytest.mark.parametrize("folder", ["docker.io", "_default"])
def test_a_folder_of_somebodys_for_a_registry_stays(
    by_hosts: FakeHosts, path: Path, machine: Machine, folder: str
) -> None:
    (by_hosts.folder / folder).mkdir(parents=True)
    machine.boots(user_data(wanted(path, registries=[GHCR])), NEW_DOCKER)
    assert by_hosts.text is None
    assert (by_hosts.text_of("ghcr.io") is None) is (folder == "_default")


def test_an_authority_is_laid_where_docker_looks_for_it(
    by_hosts: FakeHosts, path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = user_data(wanted(path), authorities="-----BEGIN CERTIFICATE-----\nx\n")
    machine.boots(text)
    file = by_hosts.folder / "mirror.example.com" / "mirror.crt"
    assert file.read_text() == "-----BEGIN CERTIFICATE-----\nx\n"
    file.write_text("somebody's")
    machine.boots(text)
    assert file.read_text() == "somebody's"


def test_what_is_secret_is_left_out_and_named(path: Path) -> None:
    proxies = {"http-proxy": "http://user:hunter2@proxy.test:3128"}
    text = user_data(wanted(path, managed_keys={"proxies": proxies, "log-level": "warn"}))
    assert "hunter2" not in text
    assert "because they hold a secret: proxies of the managed keys." in remarks(text)
    assert '"log-level": "warn"' in text
    text = user_data(wanted(path, managed_keys=KEYS), secret=True)
    assert "max-concurrent-downloads, labels of the managed keys" in remarks(text)
    assert "a=b" not in text


def test_the_parts_of_several_user_data_are_joined() -> None:
    """By cloud-init's own rules (doc/rtd/reference/merging): lists are appended."""
    merge = config(user_data(wanted(Path("/etc/docker/daemon.json"))))["merge_how"]
    assert merge[0] == {"name": "list", "settings": ["append"]}


def printed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *words: str,
    mirrors: int = 1,
    secret: bool = False,
    **changes: Any,
) -> tuple[int, str, str]:
    """Exit code, output and error of the verb, for a stack whose nodes have these requests."""
    made = mirror("n1", "n2")
    given = json.dumps(
        {**encode(wanted(Path("/etc/docker/daemon.json"), managed_keys=KEYS)), **changes}
    )
    nodes = [replace(each, request=given, is_secret=secret) for each in made.nodes]
    deployed = [replace(made, nodes=nodes)] * mirrors
    monkeypatch.setattr(stacks, "mirrors", lambda options: deployed)
    code = command.main(["cloud-init", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_verb_prints_it_from_the_state(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, _ = printed(monkeypatch, capsys)
    assert code == 0
    assert URL in text
    assert "a=b" in text
    code, text, _ = printed(monkeypatch, capsys, secret=True)
    assert code == 0
    assert "a=b" not in text


def test_the_verb_refuses_what_it_cannot_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert printed(monkeypatch, capsys, mirrors=2)[0] == 64
    code, _, error = printed(monkeypatch, capsys, of_a_later_version=1)
    assert code == 4
    assert "of_a_later_version" in error
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN {} KEY-----\n".format("PRIVATE"))
    for file, words in ((key, "holds a private key"), (tmp_path / "none", "cannot be read")):
        code, out, error = printed(monkeypatch, capsys, "--authority", str(file))
        assert (code, out) == (64, "")
        assert words in error


def test_the_files_are_entered_under_the_agents_own_name(path: Path) -> None:
    (only,) = config(user_data(wanted(path)))["runcmd"]
    assert only[-4:-2] == [hosts.CERTS, request(path).owner]
