"""What the tools say to a person: the line that matters, the count of changes, and why a computer
cannot have a lab."""

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from components.registry_mirror import RegistryMirrorArgs
from components.registry_mirror.cli.console import table
from lab import run
from lab.control import check_computer
from lab.machines import cgroup_of
from lab.plan import MANAGER, LabFolder
from lab.reason import reason
from lab.sandbox import Sandbox, SandboxError
from lab.stack import Stack, changes, remedy
from tools import plugins, toolchain
from tools.progress import StageError, main_guard, run_logged, telling_line

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
"""  # noqa: E501

FAULTY = """
Diagnostics:
  pulumi:pulumi:Stack (swarm-registry-mirror-dev):
    error: 2 faults in the configuration:
      - hostname: must be a host name (got 'x')
      - nodez: is not a key of this program; did you mean nodes? (got [])
    error: an unhandled error occurred: program exited with non-zero exit code: 1
"""


def test_the_agents_own_sentence_is_the_line_that_matters() -> None:
    words = (
        "nothing was changed: /etc/docker/daemon.json: it is not JSON: '{' is missing; correct"
        " it there"
    )
    assert reason(AGENT_FAILED) == f"node3: {words}"


OFFICIAL = (Path(__file__).parent / "cases" / "output" / "official-plugins.txt").read_text()


def test_of_the_official_plugins_errors_each_reason_is_shown_once_with_the_name_of_machine_or_resource() -> (  # noqa: E501
    None
):
    # Recorded: pulumi-resource-docker 5.2.0 and -command 1.2.1, CLI 3.259.0.
    assert {line.strip() for line in reason(OFFICIAL).splitlines()} == {
        "conf, sec: ssh: connect to host 127.0.0.1 port 1: Connection refused",
        "refused: after 1 failed attempts: dial tcp 127.0.0.1:1: connect: connection refused",
        "fails: nothing was changed: x",
        "no overlay network",
        "mismatch: after 1 failed attempts: ssh: handshake failed: ssh: host key mismatch",
    }


NESTED = """
Diagnostics:
  docker:index:Service (registry-mirror-service):
    error: 1 error occurred:
    \t* updating urn:pulumi:dev::p::docker:index/service:Service::registry-mirror-service: 1 error occurred:
    \t* Error response from daemon: rpc error: code = NotFound desc = service x not found\x1b]0;a\x07

  pulumi:pulumi:Stack (p-dev):
    error: update failed

Outputs:
    error: this is none
"""  # noqa: E501


def test_of_an_error_within_an_error_the_innermost_is_the_one_that_matters() -> None:
    assert reason(NESTED) == (
        "registry-mirror-service: Error response from daemon: rpc error: code = NotFound desc ="
        " service x not found"
    )


def test_a_reason_that_many_resources_have_is_shown_once() -> None:
    blocks = "".join(
        f"  docker:index:Secret (s{number}):\n    error: no route to host\n\n"
        for number in range(9)
    )
    assert reason(f"Diagnostics:\n{blocks}") == "s0, s1, s2 and 6 more: no route to host"


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
    assert (failed.value.reason, failed.value.remedy) == (
        "the program no-such-program is not installed",
        "install it",
    )


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


def test_a_computer_without_root_gets_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StageError) as refused:
        check_computer()
    assert "a lab needs root" in refused.value.reason
    assert "make up ENV=prod" in refused.value.remedy


def test_a_computer_that_is_no_linux_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(StageError, match="a lab needs Linux"):
        check_computer()


def test_a_computer_without_apt_gets_a_list_of_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        shutil,
        "which",
        lambda name: None if name in ("apt-get", "mmdebstrap") else f"/usr/bin/{name}",
    )
    with pytest.raises(
        StageError, match=r"a lab needs mmdebstrap, and this is neither Debian nor Ubuntu"
    ):
        check_computer()


def test_the_one_name_that_a_lab_shows_on_the_computer_differs_between_checkouts() -> None:
    assert cgroup_of(LabFolder(Path("/a/.lab/dev")), MANAGER) != cgroup_of(
        LabFolder(Path("/b/.lab/dev")), MANAGER
    )


def test_a_lab_that_does_not_run_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="start it with `make lab`"):
        Sandbox(tmp_path).command(["true"])


def test_an_official_plugin_is_preferred_to_the_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path))
    monkeypatch.setattr(toolchain, "STAND_INS", tmp_path / "stand-ins")
    (tmp_path / "stand-ins").mkdir()
    launcher = tmp_path / "stand-ins" / "pulumi-resource-docker"
    launcher.touch()
    program = (
        tmp_path
        / "plugins"
        / f"resource-docker-v{toolchain.PLUGINS['docker']}"
        / "pulumi-resource-docker"
    )
    program.parent.mkdir(parents=True)
    program.touch()
    toolchain.provider_plugin("docker")
    assert not launcher.exists()


def plugin(folder: Path, name: str, text: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / f"pulumi-resource-{name}"
    program.write_text(text)
    program.chmod(0o755)
    return program


@pytest.fixture
def no_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer without an official plugin, and with both stand-ins; returns its PULUMI_HOME."""
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.setattr(toolchain, "STAND_INS", tmp_path / "stand-ins")
    for name in toolchain.PLUGINS:
        plugin(tmp_path / "stand-ins", name)
    return tmp_path / "home"


def on_path(name: str, environment: dict[str, str]) -> str | None:
    return shutil.which(f"pulumi-resource-{name}", path=environment["PATH"])


@pytest.mark.usefixtures("no_plugins")
@pytest.mark.parametrize(
    "words", [("up",), ("destroy",), ("preview", "--json"), ("refresh",), ("import",)]
)
def test_a_stand_in_is_never_used_for_a_real_swarm(words: tuple[str, ...]) -> None:
    for name in ("prod", "dev"):  # the lab's stack is known by where it runs, not by its name
        stack = Stack(name)
        assert on_path("docker", stack.environment) is None
        for way in (stack.run, stack.run_attached):
            with pytest.raises(StageError) as refused:
                way(*words)
            assert refused.value.reason.startswith(
                f"{name}: the docker plugin {toolchain.PLUGINS['docker']} is missing"
            )
            assert (
                f"plugin install resource docker {toolchain.PLUGINS['docker']}"
                in refused.value.remedy
            )


@pytest.mark.usefixtures("no_plugins")
def test_a_preview_of_a_real_swarm_by_a_stand_in_is_refused_too() -> None:
    with pytest.raises(StageError, match="its stand-in is never used outside the lab"):
        run.operate("preview", "prod", ["--offline"])


@pytest.mark.usefixtures("no_plugins")
def test_the_labs_own_stack_has_the_stand_ins_behind_everything_else_on_path(
    tmp_path: Path,
) -> None:
    stack = Stack("dev", lab="dev")
    stack.check_plugins()
    assert on_path("docker", stack.environment) == str(
        tmp_path / "stand-ins" / "pulumi-resource-docker"
    )
    plugin(tmp_path / "path", "docker")
    assert on_path("docker", stack.environment) == str(tmp_path / "path" / "pulumi-resource-docker")


def test_a_plugin_of_the_users_own_home_is_taken_to_the_one_that_the_engine_looks_into(
    no_plugins: Path, tmp_path: Path
) -> None:
    for name, version in toolchain.PLUGINS.items():
        plugin(tmp_path / "user" / ".pulumi" / "plugins" / f"resource-{name}-v{version}", name)
    Stack("prod").check_plugins()
    assert (
        no_plugins
        / "plugins"
        / f"resource-docker-v{toolchain.PLUGINS['docker']}"
        / "pulumi-resource-docker"
    ).exists()


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("5.2.0", None),
        ("v5.3.1", None),
        ("5.1.9", "too old"),
        ("4.11.0", "another major"),
        ("6.0.0", "another major"),
        ("", "does not say"),
    ],
)
def test_a_plugin_must_be_of_the_same_major_version_and_not_older(
    version: str, words: str | None
) -> None:
    fault = plugins.fault(version, "5.2.0")
    assert (words or "None") in str(fault)


@pytest.mark.parametrize("lab", [None, "dev"])
def test_a_plugin_on_path_that_will_not_do_is_refused_with_the_command_that_repairs_it(
    no_plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: str | None
) -> None:
    for name in toolchain.PLUGINS:
        plugin(tmp_path / "path", name)
    monkeypatch.setattr(
        plugins, "_version", lambda program, modified: "4.5.8" if "docker" in program else "1.2.1"
    )
    with pytest.raises(StageError) as refused:
        Stack("prod", lab=lab).check_plugins()
    assert (
        "pulumi-resource-docker is 4.5.8, another major version than 5.2.0" in refused.value.reason
    )
    assert "plugin install resource docker 5.2.0" in refused.value.remedy


def test_a_plugin_is_asked_for_its_version_as_the_engine_asks() -> None:
    launcher = '#!/bin/sh\nPYTHONPATH={} exec {} -m lab.plugins.command_provider "$@"\n'
    with tempfile.TemporaryDirectory() as folder:
        program = plugin(
            Path(folder), "command", launcher.format(toolchain.CHECKOUT, sys.executable)
        )
        assert plugins.version_of(str(program)) == toolchain.PLUGINS["command"]
        assert plugins.version_of(str(plugin(Path(folder), "mute", "#!/bin/sh\nexit 0\n"))) == ""
        assert plugins.version_of(str(Path(folder, "none"))) == ""


SUMS = (
    "{digest}  pulumi-resource-command-v1.2.1-linux-amd64.tar.gz\n" + "b" * 64 + "  other.tar.gz\n"
)


@pytest.mark.parametrize(("listed", "used"), [("a" * 64, True), (None, False), ("c" * 40, None)])
def test_a_plugins_download_is_checked_against_its_releases_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listed: str | None, used: bool | None
) -> None:
    asked: list[list[str]] = []

    def download(url: str, target: Path) -> None:
        if listed is None:
            raise OSError("no route to host")
        assert url.endswith(
            "/pulumi-command/releases/download/v1.2.1/pulumi-command_1.2.1_checksums.txt"
        )
        target.write_text(SUMS.format(digest=listed))

    monkeypatch.setattr(toolchain, "_download", download)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(toolchain, "LOGS", tmp_path)
    monkeypatch.setattr(toolchain, "official_plugin", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: asked.append(list(map(str, argv[1:]))))
    if used is None:
        with pytest.raises(StageError, match="has no sha256 for"):
            toolchain._installed_official_plugin("command", "1.2.1")
    else:
        toolchain._installed_official_plugin("command", "1.2.1")
    expected = ["plugin", "install", "resource", "command", "1.2.1", "--checksum", "a" * 64]
    assert asked == ([expected] if used else [])


def test_a_state_is_compressed_unless_the_user_has_chosen_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (toolchain.STATE_COMPRESSION, *toolchain.OTHER_COMPRESSIONS):
        monkeypatch.delenv(name, raising=False)
    assert toolchain.environment()[toolchain.STATE_COMPRESSION] == "true"
    for name in (toolchain.STATE_COMPRESSION, *toolchain.OTHER_COMPRESSIONS):
        with monkeypatch.context() as context:
            context.setenv(name, "false")
            assert toolchain.STATE_COMPRESSION not in toolchain.environment()


def test_pulumi_does_more_at_once_than_a_wave_has_nodes_unless_the_user_says_how_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(toolchain.AT_ONCE, raising=False)
    assert int(toolchain.environment()[toolchain.AT_ONCE]) > 2 * RegistryMirrorArgs.max_parallel
    monkeypatch.setenv(toolchain.AT_ONCE, "3")
    assert toolchain.environment()[toolchain.AT_ONCE] == "3"


def test_plugin_versions_are_those_that_the_sdks_ask_for() -> None:
    locked = (toolchain.REQUIREMENTS / "program.txt").read_text()
    for name, version in toolchain.PLUGINS.items():
        assert f"pulumi-{name}=={version} " in locked


def test_a_lock_that_a_killed_run_has_left_is_reported_with_the_command_that_removes_it() -> None:
    text = (
        "error: the stack is currently locked by 1 lock(s). Either wait for the other"
        " process(es) to end or delete the lock"
    )
    assert "`make unlock ENV=prod`" in remedy(text, "prod")
    assert "unlock" not in remedy("error: update failed", "prod")


@pytest.mark.parametrize(
    ("output", "command"),
    [
        (
            "error: getting stack configuration: get stack secrets manager: passphrase must be set"
            " with PULUMI_CONFIG_PASSPHRASE",
            "export PULUMI_CONFIG_PASSPHRASE",
        ),
        ("error: incorrect passphrase", "encrypted with another one"),
        (
            "error: failed to load checkpoint: unsupported checkpoint version 99",
            "rm -rf .tools && make tools",
        ),
        (
            "error: no resource plugin 'pulumi-resource-docker' found in the workspace at version"
            " v5.2.0",
            "`make tools`",
        ),
        ("error: no stack named 'prod' found", "`make up ENV=prod`"),
        (
            "error: validating stack config: Stack 'prod' is missing configuration values 'image'"
            " and 'nodes'",
            "Pulumi.prod.yaml",
        ),
    ],
)
def test_a_complaint_of_the_cli_comes_with_its_remedy(output: str, command: str) -> None:
    # The CLI's own words, as 3.259.0 was seen to say them.
    assert command in remedy(output, "prod")


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
    release = Release(tmp_path)
    monkeypatch.setattr(toolchain, "TOOLS", tmp_path)
    monkeypatch.setattr(toolchain, "BIN", tmp_path / "bin")
    monkeypatch.setattr(toolchain, "_download", release.download)
    (tmp_path / "bin").mkdir()
    return release


@pytest.mark.usefixtures("release")
def test_an_official_release_is_unpacked_whole(tmp_path: Path) -> None:
    assert toolchain._official_pulumi()
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == [
        "pulumi",
        "pulumi-language-python",
    ]
    assert os.access(tmp_path / "bin" / "pulumi", os.X_OK)


def test_a_release_with_another_checksum_is_not_used(release: Release, tmp_path: Path) -> None:
    release.digest = "0" * 64
    with pytest.raises(StageError, match="list of checksums does not have"):
        toolchain._official_pulumi()
    assert list((tmp_path / "bin").iterdir()) == []


def test_servers_that_cannot_be_reached_mean_the_next_way(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str, target: Path) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(toolchain, "_download", unreachable)
    assert not toolchain._official_pulumi()


def test_what_cannot_be_asked_is_no_drift_to_a_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Stack, "exists", lambda self: False)
    monkeypatch.setattr(sys, "argv", ["operate", "status", "prd", "--json"])
    assert run.main() == 4
    monkeypatch.setattr(sys, "argv", ["operate", "stat"])
    assert run.main() == 64
    assert "say status, repair" in capsys.readouterr().err


def test_a_stack_that_only_the_backend_knows_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stack, "exists", lambda self: True)
    run.check_known(Stack("elsewhere"))


def test_without_a_backend_the_question_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def exists(self: Stack) -> bool:
        raise StageError("PULUMI_ACCESS_TOKEN must be set")

    monkeypatch.setattr(Stack, "exists", exists)
    with pytest.raises(StageError, match="did you mean staging"):
        run.check_known(Stack("stagin"))
