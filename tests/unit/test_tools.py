"""What the tools say to a person: the line that matters, the count of changes, and why a computer cannot have a lab."""

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lab.control import check_computer
from lab.machines import cgroup_of
from lab.plan import MANAGER, LabFolder
from lab.sandbox import Sandbox, SandboxError
from tools import forget, toolchain
from tools.forget import strike
from tools.progress import StageError, main_guard, run_logged, telling_line
from tools.stack import changes, reason, remedy
from tools.table import table
from tools.up import past_unreachable

AGENT_FAILED = """
 +  command:remote:Command registry-mirror-node-node3 **creating failed** error: Process exited with status 1: running "sudo …":
Diagnostics:
  command:remote:Command (registry-mirror-node-node3):
    error: Process exited with status 1: running "sudo -n timeout 300 python3 -c '…' node.apply":
    registry mirror: nothing was changed: /etc/docker/daemon.json: it is not JSON: '{' is missing; correct it there
  pulumi:pulumi:Stack (swarm-registry-mirror-dev):
    error: update failed
Resources:
    + 1 created
    1 errored
"""

FAULTY = """
Diagnostics:
  pulumi:pulumi:Stack (swarm-registry-mirror-dev):
    error: 2 faults in the configuration:
      - hostname: must be a host name (got 'x')
      - nodez: is not a key of this program; did you mean nodes? (got [])
    error: an unhandled error occurred: program exited with non-zero exit code: 1
"""


def test_the_agents_own_sentence_is_the_line_that_matters() -> None:
    assert (
        reason(AGENT_FAILED) == "nothing was changed: /etc/docker/daemon.json: it is not JSON: '{' is missing; correct it there"
    )


def test_all_faults_of_a_configuration_matter() -> None:
    assert reason(FAULTY).splitlines() == [
        "2 faults in the configuration:",
        "  - hostname: must be a host name (got 'x')",
        "  - nodez: is not a key of this program; did you mean nodes? (got [])",
    ]


def test_else_the_last_error_but_not_that_the_update_failed() -> None:
    assert reason("error: no route to host\nerror: update failed\n") == "no route to host"
    assert reason("something went wrong\n\n") == "something went wrong"
    assert reason("") == "pulumi failed without a word"


def test_changes_are_counted_on_one_line() -> None:
    assert (
        changes("Resources:\n    + 1 created\n    ~ 2 updated\n    7 unchanged\n\nDuration: 2s\n")
        == "1 created, 2 updated, 7 unchanged"
    )


def test_the_telling_line_of_a_log_names_the_error() -> None:
    assert telling_line("E: Unable to locate package x\ndone\n") == "E: Unable to locate package x"
    assert telling_line("one\ntwo\n\n") == "two"


def test_a_program_that_is_missing_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StageError) as failed:
        run_logged(["no-such-program"], tmp_path / "log", remedy="install it")
    assert (failed.value.reason, failed.value.remedy) == ("the program no-such-program is not installed", "install it")


def test_a_failure_is_three_lines_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise StageError("the reason", "the remedy", Path("/the/log"))

    assert main_guard(work) == 1
    assert [line.strip() for line in capsys.readouterr().err.split("\n")] == [
        "",
        "Failed: the reason",
        "log: /the/log",
        "do:  the remedy",
        "",
    ]


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise KeyboardInterrupt

    assert main_guard(work) == 130
    assert "picks up where this one stopped" in capsys.readouterr().err


def test_a_table_is_as_wide_as_its_cells() -> None:
    assert table(("node", "pull"), [("n", "0.5 s"), ("long name", "12.5 s")]).splitlines()[2:] == [
        "  n            0.5 s",
        "  long name   12.5 s",
    ]


def test_a_computer_without_root_is_told_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StageError) as refused:
        check_computer()
    assert "a lab needs root" in refused.value.reason
    assert "make up ENV=prod" in refused.value.remedy


def test_a_computer_that_is_no_linux_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(StageError, match="a lab needs Linux"):
        check_computer()


def test_a_computer_without_apt_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("apt-get", "mmdebstrap") else f"/usr/bin/{name}")
    with pytest.raises(StageError, match=r"a lab needs mmdebstrap, and this is neither Debian nor Ubuntu"):
        check_computer()


def test_the_one_name_that_a_lab_shows_on_the_computer_differs_between_checkouts() -> None:
    assert cgroup_of(LabFolder(Path("/a/.lab/dev")), MANAGER) != cgroup_of(LabFolder(Path("/b/.lab/dev")), MANAGER)


def test_a_lab_that_does_not_run_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="start it with `make lab`"):
        Sandbox(tmp_path).command(["true"])


def test_an_official_plugin_is_preferred_to_the_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path))
    monkeypatch.setattr(toolchain, "STAND_INS", tmp_path / "stand-ins")
    (tmp_path / "stand-ins").mkdir()
    launcher = tmp_path / "stand-ins" / "pulumi-resource-docker"
    launcher.touch()
    program = tmp_path / "plugins" / f"resource-docker-v{toolchain.PLUGINS['docker']}" / "pulumi-resource-docker"
    program.parent.mkdir(parents=True)
    program.touch()
    toolchain.provider_plugin("docker")
    assert not launcher.exists()


def test_a_state_is_compressed_unless_the_user_has_chosen_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (toolchain.STATE_COMPRESSION, *toolchain.OTHER_COMPRESSIONS):
        monkeypatch.delenv(name, raising=False)
    assert toolchain.environment()[toolchain.STATE_COMPRESSION] == "true"
    for name in (toolchain.STATE_COMPRESSION, *toolchain.OTHER_COMPRESSIONS):
        with monkeypatch.context() as context:
            context.setenv(name, "false")
            assert toolchain.STATE_COMPRESSION not in toolchain.environment()


def test_plugin_versions_are_those_that_the_sdks_ask_for() -> None:
    locked = (toolchain.CHECKOUT / "requirements.txt").read_text()
    for name, version in toolchain.PLUGINS.items():
        assert f"pulumi-{name}=={version} " in locked


def resource(name: str, *dependencies: str, type_: str = "command:remote:Command") -> dict[str, Any]:
    """A resource of an exported state."""
    urns = [f"urn:x::{dependency}" for dependency in dependencies]
    edges = {"dependencies": urns, "propertyDependencies": {"stdin": urns}}
    return {"urn": f"urn:x::{name}", "type": type_, **edges, "inputs": {"kept": True}}


def state(*resources: dict[str, Any]) -> dict[str, Any]:
    """An exported state."""
    return {"version": 3, "deployment": {"resources": list(resources), "manifest": {}}}


def test_striking_a_node_takes_its_command_and_the_edges_to_it_and_nothing_else() -> None:
    before = state(
        resource("m-ready"), resource("m-node-a", "m-ready"), resource("m-node-b", "m-node-a"), resource("m-node-c", "m-node-b")
    )
    assert strike(before, "b") == state(resource("m-ready"), resource("m-node-a", "m-ready"), resource("m-node-c"))
    with pytest.raises(StageError) as refused:
        strike(before, "z")
    assert refused.value.remedy == "name one of its nodes: a, b, c"


def test_a_lock_that_a_killed_run_has_left_is_told_with_the_command_that_takes_it_away() -> None:
    text = "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the lock"
    assert "`make unlock ENV=prod`" in remedy(text, "prod")
    assert "unlock" not in remedy("error: update failed", "prod")


@pytest.mark.parametrize(
    ("output", "command"),
    [
        (
            "error: getting stack configuration: get stack secrets manager: passphrase must be set with PULUMI_CONFIG_PASSPHRASE",
            "export PULUMI_CONFIG_PASSPHRASE",
        ),
        ("error: incorrect passphrase", "encrypted with another one"),
        ("error: failed to load checkpoint: unsupported checkpoint version 99", "rm -rf .tools && make tools"),
        ("error: no resource plugin 'pulumi-resource-docker' found in the workspace at version v5.2.0", "`make tools`"),
        ("error: no stack named 'prod' found", "`make up ENV=prod`"),
        ("error: validating stack config: Stack 'prod' is missing configuration values 'image' and 'nodes'", "Pulumi.prod.yaml"),
    ],
)
def test_what_the_cli_complains_of_comes_with_what_mends_it(output: str, command: str) -> None:
    # The CLI's own words, as 3.259.0 was seen to say them.
    assert command in remedy(output, "prod")


def test_past_a_dead_node_goes_who_excludes_it_if_it_was_told_and_leaves_it_out_if_not() -> None:
    exported = state(resource("m-ready"), resource("m-node-a", "m-ready"), resource("m-node-b", "m-node-a"))
    excluded, left_out = past_unreachable(["b", "c"], exported)
    assert [urn.rpartition("::")[2] for urn in excluded] == ["m-node-b"]
    assert left_out == ["c"]


class Release:
    """Pulumi's download servers, with a release of two programs."""

    def __init__(self, folder: Path) -> None:
        self.archive = folder / "release.tar.gz"
        with tarfile.open(self.archive, "w:gz") as tar:
            for name in ("pulumi", "pulumi-language-python"):
                entry = tarfile.TarInfo(f"pulumi/{name}")
                entry.size, entry.mode = len(name), 0o755
                tar.addfile(entry, io.BytesIO(name.encode()))
        self.digest = hashlib.sha256(self.archive.read_bytes()).hexdigest()

    def download(self, url: str, target: Path) -> None:
        if url.endswith("checksums.txt"):
            target.write_text(f"{self.digest}  pulumi.tar.gz\n")
        else:
            shutil.copyfile(self.archive, target)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    found = Release(tmp_path)
    monkeypatch.setattr(toolchain, "TOOLS", tmp_path)
    monkeypatch.setattr(toolchain, "BIN", tmp_path / "bin")
    monkeypatch.setattr(toolchain, "_download", found.download)
    (tmp_path / "bin").mkdir()
    return found


@pytest.mark.usefixtures("release")
def test_an_official_release_is_unpacked_whole(tmp_path: Path) -> None:
    assert toolchain._official_pulumi()
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == ["pulumi", "pulumi-language-python"]
    assert os.access(tmp_path / "bin" / "pulumi", os.X_OK)


def test_a_release_with_another_checksum_is_not_used(release: Release, tmp_path: Path) -> None:
    release.digest = "0" * 64
    with pytest.raises(StageError, match="list of checksums does not have"):
        toolchain._official_pulumi()
    assert list((tmp_path / "bin").iterdir()) == []


def test_servers_that_cannot_be_reached_mean_the_next_way(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str, target: Path) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(toolchain, "_download", unreachable)
    assert not toolchain._official_pulumi()


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        ([{"node": "a", "reachable": True}], "a can be reached"),
        ([{"node": "b", "reachable": False}], "a is not in the list"),
        ([{"node": "a", "reachable": False}], None),
    ],
)
def test_only_a_node_that_was_asked_in_vain_is_struck(
    monkeypatch: pytest.MonkeyPatch, looks: list[dict[str, Any]], words: str | None
) -> None:
    resources = [{"urn": "urn:x::m-node-a", "type": "command:remote:Command"}]
    imported: list[str] = []

    class State:
        def quietly(self, *command: str, stdin: str = "") -> str:
            if command == ("stack", "import"):
                imported.append(stdin)
            return json.dumps({"deployment": {"resources": resources}})

    monkeypatch.setattr(forget, "stack_named", lambda name: State())
    monkeypatch.setattr(forget, "looks", lambda stack: looks)
    if words is None:
        forget.forget("a", "dev")
        assert json.loads(imported[0]) == {"deployment": {"resources": []}}
    else:
        with pytest.raises(StageError, match=words):
            forget.forget("a", "dev")
        assert imported == []
