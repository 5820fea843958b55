"""Where the SSH key is while ssh runs, and what is believed of a machine's answer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.registry_mirror.rolling_restart import ssh
from components.registry_mirror.rolling_restart.ssh import ssh_command

HERE = Path(__file__).resolve().parents[2]
ARGUMENTS = {"user": "u", "port": 2, "private_key": "CANARY-KEY", "host_key": "ssh-ed25519 AAAA", "connect_seconds": 3}
PROGRAM = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
from components.registry_mirror.rolling_restart import ssh
if "files" in sys.argv:
    del ssh.os.memfd_create
with ssh.ssh_command("h", **{ARGUMENTS!r}) as command:
    print(command[command.index("-i") + 1], flush=True)
    time.sleep(60)
"""


def key_of(command: list[str]) -> str:
    return command[command.index("-i") + 1]


def test_a_child_can_read_the_key_for_as_long_as_it_lasts_and_nobody_else_may() -> None:
    with ssh_command("h", **ARGUMENTS) as command:  # type: ignore[arg-type]
        key = key_of(command)
        assert subprocess.check_output(["cat", key]) == b"CANARY-KEY\n"
        assert os.stat(key).st_mode & 0o777 == 0o600  # noqa: PTH116
        known_hosts = next(word for word in command if word.startswith("UserKnownHostsFile=")).partition("=")[2]
        assert subprocess.check_output(["cat", known_hosts]) == b"* ssh-ed25519 AAAA\n"
        assert "StrictHostKeyChecking=yes" in command
        assert "HostKeyAlgorithms=ssh-ed25519" in command
        assert command[-2:] == ["u@h", "--"]
    assert not Path(key).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("way", ["memory", "files"])
def test_no_signal_leaves_the_key_behind(number: signal.Signals, way: str, tmp_path: Path) -> None:
    if way == "files" and number == signal.SIGKILL:
        pytest.skip("only memory survives that; Linux always has it")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, way], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert running.stdout is not None
    key = running.stdout.readline().strip()
    assert Path(key).read_text() == "CANARY-KEY\n"
    assert (len(list(tmp_path.iterdir())) == 1) is (way == "files")
    running.send_signal(number)
    running.communicate(timeout=20)
    assert list(tmp_path.iterdir()) == []
    assert not Path(key).exists()
    left = [file for file in Path("/dev/shm").glob("swarm-registry-mirror-*/*") if file.read_bytes() == b"CANARY-KEY\n"]
    assert left == []


def run(script: str, stdin: str = "", seconds: float = 20) -> "subprocess.CompletedProcess[str]":
    return ssh.run(["sh", "-c"], script, stdin, seconds)


def test_a_command_gets_its_data_and_gives_its_output_errors_and_code() -> None:
    done = run("wc -c; echo no >&2; exit 7", "x" * 300_000)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (7, "300000", "no\n")


def test_one_that_does_not_read_its_data_is_no_failure() -> None:
    done = run("echo done", "x" * 300_000)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_a_command_that_never_ends_counts_as_unreachable() -> None:
    for script in ("exec sleep 60", "exec >&- 2>&- <&-; exec sleep 60"):  # the second closes what could be listened to
        started = time.monotonic()
        done = run(script, seconds=0.3)
        assert (done.returncode, done.stderr) == (ssh.UNREACHABLE, "no answer within 0 s")
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("where", ["", ">&2"])
def test_of_a_machine_that_talks_without_end_a_mebibyte_is_read_and_nothing_believed(where: str) -> None:
    done = run(f"exec yes {where}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "more than 1 MiB" in done.stderr


def test_what_is_no_text_or_no_character_for_a_terminal_is_replaced() -> None:
    done = run(r"printf 'a\377b\033[31mred\033]0;title\007\033\0\r\n\342\200\256end\t.'; printf '\377' >&2")
    assert (done.stdout, done.stderr) == ("a\ufffdbred\nend .", "\ufffd")
