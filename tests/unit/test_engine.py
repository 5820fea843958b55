"""The agent and the programs of a machine: what it runs, how long it waits, and what it says of a
docker that does not answer. The programs are scripts in a folder of the test's own."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import engine
from components.registry_mirror.node_agent.engine import EngineProblem


class Programs:
    """Scripts in the place of `docker`, `systemctl` and the others, and what they were called
    with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"

    def have(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{script}\n')
        path.chmod(0o755)

    @property
    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.01)
    return Programs(folder)


@pytest.fixture(params=[True, False], ids=["systemd", "no systemd"])
def systemd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(engine, "has_systemd", lambda: request.param)
    return bool(request.param)


@pytest.fixture
def with_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "has_systemd", lambda: True)


@pytest.fixture
def without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "has_systemd", lambda: False)


def said(failed: "pytest.ExceptionInfo[EngineProblem]") -> str:
    """The message without the codes in it, which have tests of their own."""
    return re.sub(r" \[RM\d{3}\]", "", str(failed.value))


def answer(**more: Any) -> str:
    """A script that prints what `docker info` does."""
    return "cat <<'EOF'\n" + json.dumps({"RegistryConfig": {"Mirrors": None}, **more}) + "\nEOF"


def test_output_is_what_a_program_prints_also_where_it_is_no_text(programs: Programs) -> None:
    programs.have("docker", r"printf 'a\377b\n'")
    assert engine.run("docker", "ps") == "a\ufffdb"
    assert programs.called == ["docker ps"]


def test_a_program_that_is_not_there_is_named(programs: Programs) -> None:
    with pytest.raises(
        EngineProblem, match=r"^the program no-such-program is not on this node \[RM037\]$"
    ):
        engine.run("no-such-program", "x")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo first >&2; echo last >&2; exit 3", "`docker node` failed: last"),
        ("echo on stdout; exit 3", "`docker node` failed: on stdout"),
        ("exit 3", "`docker node` failed: 3"),
    ],
)
def test_a_program_that_fails_is_quoted(programs: Programs, script: str, words: str) -> None:
    programs.have("docker", script)
    with pytest.raises(EngineProblem) as failed:
        engine.run("docker", "node", "ls")
    assert said(failed) == words


def test_a_program_that_hangs_is_given_up_in_time(programs: Programs) -> None:
    programs.have("docker", "exec sleep 30")
    started = time.monotonic()
    with pytest.raises(EngineProblem, match="`docker info` did not answer within 0 s"):
        engine.run("docker", "info", seconds=0.3)
    assert time.monotonic() - started < 5


def test_an_answer_of_docker_is_taken_as_it_is_and_no_mirrors_are_none(programs: Programs) -> None:
    programs.have("docker", answer(ServerVersion="26.1.5"))
    info = engine.info("docker")
    assert info["ServerVersion"] == "26.1.5"
    assert engine.mirrors_of(info) == []
    assert engine.mirrors_of({"RegistryConfig": {"Mirrors": ["https://m/"]}}) == ["https://m/"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"ServerErrors": ["Cannot connect"]}, "Cannot connect"),
        ({"RegistryConfig": None}, "no answer"),
    ],
)
def test_a_client_that_exits_with_0_without_a_daemon_is_no_answer(
    programs: Programs, without_systemd: None, said: dict[str, Any], reason: str
) -> None:
    programs.have("docker", answer(**said))
    with pytest.raises(
        EngineProblem,
        match=f"^docker does not answer: {reason}; see systemctl status docker \\[RM208\\]$",
    ):
        engine.info("docker")


def test_words_in_the_place_of_an_answer_are_quoted(
    programs: Programs, without_systemd: None
) -> None:
    programs.have("docker", "echo permission denied")
    with pytest.raises(EngineProblem, match="docker does not answer: permission denied"):
        engine.info("docker")


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (
            "LoadState=not-found ActiveState=inactive Result=success",
            ": there is no unit of that name; set the node's key service to that of its dockerd",
        ),
        (
            "LoadState=loaded ActiveState=failed Result=start-limit-hit",
            ": it has failed (start-limit-hit), and after three starts in a minute systemd does not"
            " try again; see journalctl -u docker, then systemctl reset-failed docker; systemctl"
            " start docker",
        ),
        (
            "LoadState=loaded ActiveState=inactive Result=success",
            ": it is inactive; systemctl start docker",
        ),
        (
            "LoadState=loaded ActiveState=active Result=success",
            "; see systemctl status docker",
        ),
    ],
)
def test_systemd_says_why_docker_does_not_answer(
    programs: Programs, with_systemd: None, shown: str, words: str
) -> None:
    programs.have("docker", answer(ServerErrors=["away"]))
    programs.have("systemctl", "printf '%s\\n' " + shown)
    with pytest.raises(EngineProblem) as failed:
        engine.info("docker")
    assert said(failed) == f"docker does not answer: away{words}"


def test_a_systemd_that_does_not_answer_either_is_no_second_failure(
    programs: Programs, with_systemd: None
) -> None:
    programs.have("docker", answer(ServerErrors=["away"]))
    programs.have("systemctl", "exit 1")
    with pytest.raises(EngineProblem, match="away; see systemctl status docker"):
        engine.info("docker")


def test_the_process_id_is_systemds(programs: Programs, with_systemd: None) -> None:
    programs.have("systemctl", "echo 4711")
    assert engine.pid("docker") == "4711"


def test_a_unit_that_does_not_run_has_none(programs: Programs, with_systemd: None) -> None:
    programs.have(
        "systemctl",
        'case "$*" in *MainPID*) echo 0;; *) printf "LoadState=loaded\\nActiveState=inactive\\n";;'
        " esac",
    )
    with pytest.raises(
        EngineProblem,
        match=r"^no service docker runs here: it is inactive; systemctl start docker \[RM210\]$",
    ):
        engine.pid("docker")


@pytest.mark.parametrize("text", ["", "-1", "12x"])
def test_a_file_without_a_process_id_signals_nobody(
    programs: Programs, without_systemd: None, text: str
) -> None:
    programs.have("cat", f"echo '{text}'")
    programs.have("kill", "")
    with pytest.raises(EngineProblem, match=re.escape("/var/run/docker.pid has no process id")):
        engine.reload_until("docker", lambda *_: None)
    assert [call for call in programs.called if call.startswith("kill")] == []


def test_a_reload_is_systemds_or_a_signal_and_is_waited_for(
    programs: Programs, systemd: bool
) -> None:
    programs.have("docker", answer())
    programs.have("systemctl", "")
    programs.have("cat", "if [ $# = 0 ]; then exec /bin/cat; fi; echo 4711")
    # A real program, because the agent starts `kill` and not the shell's own.
    programs.have("kill", "")
    left = [None, "take debug over", "take debug over"]
    engine.reload_until("docker", lambda *_: left.pop())
    assert left == []
    done = [call for call in programs.called if call.startswith(("systemctl", "kill"))]
    assert done == (["systemctl reload docker"] if systemd else ["kill -HUP 4711"])


def test_a_reload_that_docker_refuses_is_reported_with_its_own_line_of_the_journal(
    programs: Programs, with_systemd: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RELOAD_SECONDS", 0.05)
    programs.have("docker", answer())
    programs.have("systemctl", "")
    programs.have("journalctl", "echo level=info; echo 'level=error msg=unknown key'; echo end")
    with pytest.raises(EngineProblem) as failed:
        engine.reload_until("docker", lambda *_: "use the mirror")
    assert said(failed) == (
        "dockerd did not use the mirror within 0 s of a reload; its log says: level=error"
        " msg=unknown key"
    )


def test_a_docker_that_dies_of_a_reload_is_reported(
    programs: Programs, with_systemd: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RELOAD_SECONDS", 0.05)
    programs.have("docker", "echo gone >&2; exit 1")
    programs.have("systemctl", "")
    programs.have("journalctl", "exit 1")
    with pytest.raises(EngineProblem, match=r"did not answer \(`docker info` failed: gone"):
        engine.reload_until("docker", lambda *_: None)


def test_the_youngest_reload_is_the_one_that_counts(programs: Programs) -> None:
    programs.have("docker", """echo '{"debug": "false"}'; echo '{"debug": "true"}'""")
    assert engine.reload_event(5.0) == {"debug": "true"}
    (call,) = programs.called
    assert call.startswith("docker events --since 5.000000 --until ")
    programs.have("docker", "")
    assert engine.reload_event(5.0) is None


def test_where_the_event_is_wanted_none_is_a_file_that_was_not_taken_over(
    programs: Programs, with_systemd: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RELOAD_SECONDS", 0.05)
    programs.have("docker", f'[ "$1" = info ] || exit 0\n{answer()}')
    programs.have("systemctl", "")
    programs.have("journalctl", "")
    with pytest.raises(EngineProblem, match=r"^dockerd did not take the file over within 0 s of"):
        engine.reload_until("docker", lambda *_: None, with_event=True)


def test_a_restart_is_over_when_docker_answers(programs: Programs, systemd: bool) -> None:
    programs.have("systemctl", "")
    programs.have("service", "")
    # The first two questions come while it starts.
    programs.have(
        "docker", f'[ "$(grep -c ^docker {programs.calls})" -gt 2 ] || exit 1\n{answer()}'
    )
    engine.restart("docker")
    commands = [call for call in programs.called if not call.startswith("docker")]
    if systemd:
        assert commands == ["systemctl reset-failed docker", "systemctl restart docker"]
    else:
        assert commands == ["service docker restart"]
    assert len(programs.called) - len(commands) == 3


def test_a_docker_that_does_not_start_is_reported_with_its_last_words(
    programs: Programs, systemd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.have("systemctl", "[ $1 = reset-failed ]")
    programs.have("service", "exit 1")
    programs.have("journalctl", "echo 'failed to start daemon: bad key'")
    monkeypatch.setattr(engine, "_last_lines", lambda *_: ["failed to start daemon: bad key"])
    name = "systemctl restart" if systemd else "service docker"
    with pytest.raises(EngineProblem) as failed:
        engine.restart("docker")
    assert said(failed) == (
        f"docker did not start: `{name}` failed: 1; its log says: failed to start daemon: bad key"
    )


def test_a_docker_that_never_answers_after_its_restart_is_given_up(
    programs: Programs, without_systemd: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "INFO_SECONDS", 0.05)
    programs.have("service", "")
    programs.have("docker", "exit 1")
    with pytest.raises(EngineProblem, match=r"^docker did not start: `docker info` failed: 1 "):
        engine.restart("docker")


def test_of_a_log_file_its_end_is_read_and_nothing_that_is_older(tmp_path: Path) -> None:
    log = tmp_path / "docker.log"
    log.write_text("old\n" * 10_000 + "level=error last\n")
    lines = engine._last_lines(str(log), since=0)
    assert lines[-1] == "level=error last"
    assert sum(len(line) + 1 for line in lines) <= engine.LOG_BYTES
    assert engine._last_lines(str(log), since=time.time() + 60) == []


def test_a_log_that_cannot_be_read_says_nothing(without_systemd: None) -> None:
    assert engine.its_reason("no-such-unit", 0) == ""
