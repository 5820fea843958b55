"""The runner: how it calls ssh, what it sends, and that no wait is without end. `ssh` is a script
that notes its arguments."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror import runner, ship, ssh, workstation

SHELLS = [
    shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])
]
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbc/def+ghi/jklmnopqrstuvwxyz0123456789"
WHERE = {"MIRROR_NODE": "node1", "MIRROR_SSH": "ssh://root@10.0.0.1", "MIRROR_HOST_KEY": HOST_KEY}
NOTES = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done > "$NOTES/words"
env > "$NOTES/environment"
cat > "$NOTES/stdin"
for word in "$@"; do case $word in UserKnownHostsFile=*) cp "${word#*=}" "$NOTES/known_hosts";; esac; done
"""  # noqa: E501


class Computer:
    """A folder with a runner in its cache and an `ssh` of its own on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(folder),
            "XDG_CACHE_HOME": f"{folder}/cache",
            "NOTES": str(folder),
            **WHERE,
        }
        self.runner = workstation.place(self.environment)
        self.ssh('echo "answer"')

    def ssh(self, script: str) -> None:
        """What `ssh` does after it has noted its arguments."""
        (self.bin / "ssh").write_text(NOTES + script)
        (self.bin / "ssh").chmod(0o755)

    def run(
        self, action: str, settings: dict[str, Any], shell: list[str], **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*shell, str(self.runner), action],
            env={**self.environment, **environment},
            input=json.dumps(settings, indent=1).encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        # Not as text, which would hide a carriage return.
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    @property
    def words(self) -> list[str]:
        return (self.folder / "words").read_text().splitlines()

    def option(self, name: str) -> list[str]:
        return [word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")]


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path)


every_shell = pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])


@every_shell
def test_an_agent_goes_to_its_machine_with_its_settings_and_its_answer_comes_back(
    computer: Computer, shell: list[str]
) -> None:
    settings = {"mirror": "https://m.test", "keys": {"a": "}"}}
    done = computer.run("node.apply", settings, shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, "answer\n", "")
    assert json.loads((computer.folder / "stdin").read_text()) == {
        **settings,
        "program": ship.program("node"),
    }
    assert computer.words[-3:] == ["--", "ssh://root@10.0.0.1", ship.command("node.apply", None)]
    assert (computer.folder / "known_hosts").read_text() == f"* {HOST_KEY}\n"


@every_shell
def test_an_action_without_settings_gets_its_program_alone(
    computer: Computer, shell: list[str]
) -> None:
    assert computer.run("swarm.view", {}, shell).returncode == 0
    assert json.loads((computer.folder / "stdin").read_text()) == {
        "program": ship.program("restart")
    }


@every_shell
def test_every_connection_has_the_options_that_bound_it_and_believes_one_host_key(
    computer: Computer, shell: list[str]
) -> None:
    computer.run(
        "node.apply",
        {"a": 1},
        shell,
        MIRROR_BASTION="ssh://ops@b.test",
        MIRROR_BASTION_HOST_KEY="ssh-ed25519 BASTION",
    )
    (proxy,) = computer.option("ProxyCommand")
    for name, value in ssh.OPTIONS.items():
        assert computer.option(name) == [value]
        assert f"-o {name}={value}" in proxy
    assert computer.words[1:3] == ["-F", "/dev/null"]
    assert computer.option("GlobalKnownHostsFile") == ["/dev/null"]
    assert proxy.endswith("-W '[%h]:%p' ssh://ops@b.test")
    hosts = computer.folder / "cache" / runner.FOLDER / "host-keys"
    assert sorted(file.read_text() for file in hosts.iterdir()) == [
        f"* {HOST_KEY}\n",
        "* ssh-ed25519 BASTION\n",
    ]


@every_shell
def test_an_address_of_ipv6_goes_by_an_option_because_ssh_takes_none_in_a_url(
    computer: Computer, shell: list[str]
) -> None:
    way = {
        "MIRROR_SSH": "ssh://root@[fd00::1]:22",
        "MIRROR_BASTION": "ssh://ops@[fd00::2]:2222",
        "MIRROR_BASTION_HOST_KEY": "k x",
    }
    computer.run("node.apply", {"a": 1}, shell, **way)
    assert computer.words[-5:-1] == ["-o", "HostName=fd00::1", "--", "ssh://root@ipv6:22"]
    (proxy,) = computer.option("ProxyCommand")
    assert proxy.endswith("-o HostName=fd00::2 -W '[%h]:%p' ssh://ops@ipv6:2222")


@every_shell
def test_an_authority_is_believed_for_the_machines_that_it_has_signed(
    computer: Computer, shell: list[str]
) -> None:
    computer.run("node.apply", {"a": 1}, shell, MIRROR_HOST_KEY=f"@cert-authority {HOST_KEY}")
    assert (computer.folder / "known_hosts").read_text() == f"@cert-authority * {HOST_KEY}\n"


@every_shell
def test_a_file_of_a_host_key_that_is_damaged_is_written_anew(
    computer: Computer, shell: list[str]
) -> None:
    computer.run("node.apply", {"a": 1}, shell)
    (file,) = (computer.folder / "cache" / runner.FOLDER / "host-keys").iterdir()
    file.write_text("* ssh-ed25519 SOMEBODY-ELSE\n")
    assert computer.run("node.apply", {"a": 1}, shell).returncode == 0
    assert file.read_text() == f"* {HOST_KEY}\n"


@every_shell
def test_a_key_file_is_the_only_key_and_where_it_is_not_there_the_agent_may_have_it(
    computer: Computer, shell: list[str]
) -> None:
    key = computer.folder / "key file"
    key.touch()
    computer.run(
        "node.apply",
        {"a": 1},
        shell,
        MIRROR_KEY_FILE="~/key file",
        MIRROR_BASTION="ssh://b",
        MIRROR_BASTION_HOST_KEY="k x",
    )
    assert computer.words[computer.words.index("-i") + 1] == str(key)
    assert computer.option("IdentitiesOnly") == ["yes"]
    assert f"'-i' '{key}'" in computer.option("ProxyCommand")[0]
    key.unlink()
    assert computer.run("node.apply", {"a": 1}, shell, MIRROR_KEY_FILE="~/key file").returncode == 0
    assert "-i" not in computer.words


@every_shell
def test_a_key_that_is_text_reaches_ssh_through_an_agent_of_its_own_and_is_nowhere_else(
    computer: Computer, shell: list[str]
) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(computer.folder / "id")],
        check=True,
    )
    key = (computer.folder / "id").read_text()
    (computer.folder / "id").unlink()
    (computer.folder / "tmp").mkdir()
    computer.ssh('ssh-add -l; echo "$SSH_AGENT_PID" > "$NOTES/agent"')
    done = computer.run(
        "node.apply", {"a": 1}, shell, MIRROR_PRIVATE_KEY=key, TMPDIR=f"{computer.folder}/tmp"
    )
    assert done.returncode == 0
    assert "ED25519" in done.stdout
    assert computer.option("IdentityFile") == ["none"]
    assert "MIRROR_PRIVATE_KEY" not in (computer.folder / "environment").read_text()
    body = key.splitlines()[1]
    assert body not in (computer.folder / "environment").read_text() + "".join(computer.words)
    left = [
        file
        for file in computer.folder.rglob("*")
        if file.is_file() and body in file.read_text(errors="replace")
    ]
    assert left == []
    agent = int((computer.folder / "agent").read_text())
    _until(
        lambda: (
            not Path(f"/proc/{agent}").exists()
            or Path(f"/proc/{agent}/stat").read_text().split()[2] == "Z"
        )
    )
    assert list((computer.folder / "tmp").iterdir()) == []


@every_shell
def test_a_key_that_ssh_does_not_read_is_refused_with_the_nodes_name(
    computer: Computer, shell: list[str]
) -> None:
    done = computer.run("node.apply", {"a": 1}, shell, MIRROR_PRIVATE_KEY="no key")
    assert done.returncode == 1
    assert done.stderr.startswith("registry mirror: node1: ssh does not read the private key: ")
    assert not (computer.folder / "words").exists()


@every_shell
def test_a_machine_that_never_answers_is_given_up_with_its_name_and_nothing_is_left_running(
    computer: Computer, shell: list[str]
) -> None:
    computer.ssh('echo $$ > "$NOTES/pid"; exec sleep 600')
    started = time.monotonic()
    done = computer.run("node.apply", {"a": 1}, shell, MIRROR_SECONDS="1")
    assert time.monotonic() - started < 10
    assert done.returncode == 255
    assert (
        done.stderr.splitlines()[-1]
        == "registry mirror: node1: ssh://root@10.0.0.1: no answer within 1 s"
    )
    _until(lambda: not Path(f"/proc/{(computer.folder / 'pid').read_text().strip()}").exists())


@every_shell
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_whoever_ends_the_runner_ends_ssh_and_nothing_holds_the_output_open(
    computer: Computer, shell: list[str], number: signal.Signals
) -> None:
    computer.ssh('echo $$ > "$NOTES/pid"; exec sleep 600')
    running = subprocess.Popen(
        [*shell, str(computer.runner), "node.apply"],
        env=computer.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _until(
        lambda: (
            (computer.folder / "pid").exists()
            and (computer.folder / "pid").read_text().strip() != ""
        )
    )
    running.send_signal(number)
    running.wait()
    running.communicate(timeout=10)
    _until(lambda: not Path(f"/proc/{(computer.folder / 'pid').read_text().strip()}").exists())


CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Offending ED25519 key in /root/.cache/swarm-registry-mirror/host-keys/AAAA:1
Host key for 10.0.0.1 has changed and you have requested strict checking.
Host key verification failed."""
OTHER_KEY = (
    "another host key than the one that is configured; `swarm-registry-mirror hostkeys`"
    " shows the one that it has now"
)
REASONS = {
    "nothing": ("", ""),
    "one line": (
        "ssh: connect to host 10.0.0.1 port 22: refused",
        ": ssh: connect to host 10.0.0.1 port 22: refused",
    ),
    "a bastion's": (
        "ssh: connect to host b port 22: no route\r\nConnection closed by UNKNOWN port 65535",
        ": ssh: connect to host b port 22: no route",
    ),
    "a key of another type": (
        "No ED25519 host key is known for [b.test]:2222 and you have requested strict"
        " checking.\nHost key verification failed.",
        f": [b.test]:2222 has {OTHER_KEY}",
    ),
    "a key that has changed": (CHANGED, f": 10.0.0.1 has {OTHER_KEY}"),
}


@every_shell
@pytest.mark.parametrize("name", REASONS)
def test_a_machine_that_cannot_be_reached_is_named_with_what_ssh_says_in_one_line(
    computer: Computer, shell: list[str], name: str
) -> None:
    said, words = REASONS[name]
    (computer.folder / "said").write_text(said, newline="")
    computer.ssh(f"cat {computer.folder}/said >&2; exit 255")
    done = computer.run("node.apply", {"a": 1}, shell)
    assert (done.returncode, done.stdout) == (255, "")
    sentence = (
        "registry mirror: node1: ssh://root@10.0.0.1 cannot be reached, or has stopped answering"
    )
    assert done.stderr == f"{sentence}{words}\n"
    done = computer.run(
        "node.apply", {"a": 1}, shell, MIRROR_BASTION="ssh://b.test", MIRROR_BASTION_HOST_KEY="k x"
    )
    assert " cannot be reached through ssh://b.test, or has" in done.stderr


@every_shell
@pytest.mark.parametrize(
    "said", ["registry mirror: nothing was changed\n", "a line\n\nno end", "x" * 1_000_000]
)
def test_an_agents_complaint_and_its_code_come_back_and_no_more_than_anybody_reads(
    computer: Computer, shell: list[str], said: str
) -> None:
    (computer.folder / "said").write_text(said)
    computer.ssh(f"cat {computer.folder}/said >&2; exit 1")
    done = computer.run("node.apply", {"a": 1}, shell)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f"{said.rstrip()}\n" if len(said) < 65536 else done.stderr[-65535:])
    assert len(done.stderr) <= 65536


@every_shell
def test_a_user_who_is_not_root_becomes_it_by_sudo(computer: Computer, shell: list[str]) -> None:
    computer.run("storage.apply", {"a": 1}, shell, MIRROR_BECOME="sudo")
    assert computer.words[-1] == ship.command("storage.apply", "sudo")


@every_shell
@pytest.mark.parametrize("action", ["", "node.other", "rm -rf /"])
def test_an_action_that_this_version_does_not_have_is_refused(
    computer: Computer, shell: list[str], action: str
) -> None:
    done = computer.run(action, {"a": 1}, shell)
    assert (done.returncode, done.stdout) == (64, "")
    assert not (computer.folder / "words").exists()


@every_shell
def test_a_configuration_of_ssh_that_cannot_be_read_is_named(
    computer: Computer, shell: list[str]
) -> None:
    done = computer.run("node.apply", {"a": 1}, shell, MIRROR_SSH_CONFIG="~/.ssh/config")
    assert (
        done.stderr
        == f"registry mirror: node1: sshConfig: {computer.folder}/.ssh/config cannot be read\n"
    )
    (computer.folder / ".ssh").mkdir()
    (computer.folder / ".ssh/config").touch()
    assert (
        computer.run("node.apply", {"a": 1}, shell, MIRROR_SSH_CONFIG="~/.ssh/config").returncode
        == 0
    )
    assert computer.words[1:3] == ["-F", f"{computer.folder}/.ssh/config"]


@every_shell
def test_without_an_ssh_program_that_is_said(computer: Computer, shell: list[str]) -> None:
    (computer.bin / "ssh").unlink()
    for name in ("sed", "sh", "cat", shell[0]):
        (computer.bin / name).symlink_to(str(shutil.which(name)))
    done = computer.run(
        "node.apply", {"a": 1}, [str(shutil.which(shell[0])), *shell[1:]], PATH=str(computer.bin)
    )
    assert (
        done.stderr
        == "registry mirror: node1: there is no ssh on this computer; install it (openssh-client)\n"
    )


@every_shell
def test_the_rolling_restart_runs_here_and_knows_the_way_on(
    computer: Computer, shell: list[str]
) -> None:
    nothing = {"restart": "never", "restart_keys": [], "allow_quorum_loss": False}
    done = computer.run("run.run", {**nothing, "manager": "m1", "told": {}, "nodes": []}, shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no restart was needed\n", "")


def test_the_command_in_the_state_runs_the_version_that_it_names_and_else_says_what_writes_it(
    computer: Computer,
) -> None:
    def run(command: str, version: str = runner.digest()) -> "subprocess.CompletedProcess[str]":
        environment = {**computer.environment, "MIRROR_RUNNER": version}
        return subprocess.run(
            ["sh", "-c", command],
            env=environment,
            input="{}",
            capture_output=True,
            text=True,
            check=False,
        )

    assert run(runner.command("node.apply")).stdout == "answer\n"
    other = run(runner.command("node.apply"), "0" * 64)
    assert other.returncode == 1
    assert other.stderr.endswith("is missing; pulumi preview writes it\n")
    # What undoes may be another version: the one that did it may be nowhere any more.
    assert run(runner.undo_command("node.remove"), "0" * 64).stdout == "answer\n"


def test_a_computer_that_never_ran_the_program_gets_the_runner_from_the_state(
    tmp_path: Path,
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "MIRROR_RUNNER": runner.digest(),
    }
    subprocess.run(
        ["sh", "-c", runner.WRITE], env=environment, input=runner.text(), text=True, check=True
    )
    folder = tmp_path / ".cache" / runner.FOLDER
    assert {file.name for file in folder.iterdir()} == {runner.digest(), runner.CURRENT}
    assert hashlib.sha256((folder / runner.digest()).read_bytes()).hexdigest() == runner.digest()


def test_a_version_that_comes_from_the_state_does_not_take_the_place_of_the_current_one(
    tmp_path: Path,
) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    workstation.place(environment)
    subprocess.run(
        ["sh", "-c", runner.WRITE],
        env={**environment, "MIRROR_RUNNER": "former"},
        input="old",
        text=True,
        check=True,
    )
    folder = tmp_path / ".cache" / runner.FOLDER
    assert (folder / "former").read_text() == "old"
    assert (folder / runner.CURRENT).read_text() == runner.text()


def test_the_text_of_the_runner_is_the_same_on_every_computer() -> None:
    text = runner.text()
    runner.text.cache_clear()
    assert runner.text() == text
    assert str(Path.home()) not in text


def _until(condition: Any) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that within 20 s")
