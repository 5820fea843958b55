"""What is believed of a machine's answer, and how long it is waited for. A script stands in for the
runner."""

import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from components.registry_mirror import answer
from components.registry_mirror.rolling_restart import ssh


def run(script: str, stdin: str = "", seconds: float = 20) -> "subprocess.CompletedProcess[str]":
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "runner").write_text(script)
        return ssh.run(f"{folder}/runner", "node.look", {}, stdin, seconds)


def test_a_command_gets_its_data_and_gives_its_output_errors_and_code() -> None:
    done = run("wc -c; echo no >&2; exit 7", "x" * 300_000)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (7, "300000", "no\n")


def test_one_that_does_not_read_its_data_is_no_failure() -> None:
    done = run("echo done", "x" * 300_000)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_a_command_that_never_ends_counts_as_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "_MARGIN", 0)
    for script in (
        "exec sleep 60",
        "exec >&- 2>&- <&-; exec sleep 60",
    ):  # the second closes what could be listened to
        started = time.monotonic()
        done = run(script, seconds=0.3)
        assert (done.returncode, done.stderr) == (answer.UNREACHABLE, "no answer within 0 s")
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("where", ["", ">&2"])
def test_of_a_machine_that_talks_without_end_a_mebibyte_is_read_and_nothing_believed(
    where: str,
) -> None:
    done = run(f"exec yes {where}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "more than 1 MiB" in done.stderr


def test_what_is_no_text_or_no_character_for_a_terminal_is_replaced() -> None:
    done = run(
        r"printf 'a\377b\033[31mred\033]0;title\007\033\0\r\n\342\200\256end\t.'; printf '\377' >&2"
    )
    assert (done.stdout, done.stderr) == ("a\ufffdbred\nend .", "\ufffd")
