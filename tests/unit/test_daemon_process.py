"""The running dockerd as /proc shows it, and what its program is asked."""

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from components.registry_mirror.node_agent import daemon_process, engine
from components.registry_mirror.node_agent.daemon_process import Process

SHOWN = (
    "{ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS ;"
    " ignore_errors=no ; start_time=[n/a] ; pid=0 }"
)


def test_a_process_is_known_by_its_start_and_is_read_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "pid", lambda unit: str(os.getpid()))
    process = daemon_process.running("docker")
    assert process.program == os.path.realpath(sys.executable)
    assert process.arguments[0] == Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()
    assert process.started_at is not None
    assert 0 < time.time() - process.started_at < 24 * 3600
    assert process.identity == daemon_process.running("docker").identity


def test_a_process_that_has_ended_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "pid", lambda unit: "999999999")
    assert daemon_process.running("docker") == Process([], "", {}, None, "")


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        (["/usr/sbin/dockerd", "-H", "fd://"], True),
        (["/usr/sbin/dockerd", "-H", "fd://", "--debug"], True),
        (["/usr/sbin/dockerd", "-H", "unix:///x"], False),
        (["/usr/sbin/dockerd"], False),
    ],
)
def test_a_command_line_is_compared_as_far_as_there_is_no_variable(
    arguments: list[str], same: bool
) -> None:
    assert daemon_process.same_command(SHOWN, arguments) == same


def test_without_a_variable_all_of_it_counts() -> None:
    shown = SHOWN.replace(" $DOCKER_OPTS", "")
    assert daemon_process.same_command(shown, ["/usr/sbin/dockerd", "-H", "fd://"])
    assert not daemon_process.same_command(shown, ["/usr/sbin/dockerd", "-H", "fd://", "--debug"])
    assert daemon_process.same_command("", ["/usr/sbin/dockerd"])


def stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, exec_start: str = SHOWN
) -> list[str]:
    """What is stale of a service with a unit, a drop-in and an environment file, beside a dockerd
    of that age in seconds."""
    names = ["docker.service", "50-x.conf", "docker"]
    unit, drop_in, environment = (tmp_path / name for name in names)
    for file in (unit, drop_in, environment):
        file.touch()
    lines = [
        f"FragmentPath={unit}",
        f"DropInPaths={drop_in} /no/such",
        f"EnvironmentFiles={environment} (ignore_errors=yes)",
        f"ExecStart={exec_start}",
    ]
    monkeypatch.setattr(engine, "has_systemd", lambda: True)
    monkeypatch.setattr(engine, "run", lambda *command, seconds=0: "\n".join(lines))
    process = Process(["/usr/sbin/dockerd", "-H", "fd://"], "", {}, time.time() - age, "one")
    return [Path(path).name for path in daemon_process.stale_unit("docker", process)]


def test_every_file_of_the_service_that_is_younger_than_docker_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stale(tmp_path, monkeypatch, 10) == ["docker.service", "50-x.conf", "docker"]
    assert stale(tmp_path, monkeypatch, -10) == []


def test_a_drop_in_that_was_removed_shows_in_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stale(tmp_path, monkeypatch, -10, SHOWN.replace("fd://", "unix:///x")) == [
        "its ExecStart"
    ]


def program(folder: Path, version: str) -> str:
    """Something that takes a dockerd's words, and refuses a file with `bad` in it as that version
    does."""
    path = folder / "dockerd"
    path.write_text(
        f"""#!/bin/sh
echo "$(id -u) $HTTP_PROXY,$NOTIFY_SOCKET, $*" >> {folder}/asked
for word; do file=$word; done
if grep -q bad "$file"; then echo "a line of the log"; echo "cannot configure with file $file: bad"; exit 1; fi
{"exit 0" if version >= "23" else "echo it must be root; exit 1"}
"""  # noqa: E501
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the node agent has")
@pytest.mark.parametrize("version", ["20.10.24+dfsg1", "26.1.5"])
def test_dockerd_is_asked_with_its_own_command_line_and_environment(version: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "asked").touch()
        (folder / "asked").chmod(0o666)
        environment = {
            "HTTP_PROXY": "http://a.test",
            "NOTIFY_SOCKET": "/run/systemd/notify",
            "PATH": os.environ["PATH"],
        }
        asked = Process(
            ["/usr/sbin/dockerd", "-H=fd://", "-D"], program(folder, version), environment, None, ""
        )
        assert daemon_process.complaint(b"{}", asked, version) is None
        assert (
            daemon_process.complaint(b'{"bad": 1}', asked, version)
            == "cannot configure with file the file: bad"
        )
        for line in (folder / "asked").read_text().splitlines():
            user, seen, *words = line.split()
            assert int(user) == (0 if version >= "23" else daemon_process.NOBODY)
            assert seen == "http://a.test,,"
            assert words[:2] == ["-H=fd://", "-D"]
            assert words[2:-1] == (
                ["--validate", "--config-file"] if version >= "23" else ["--config-file"]
            )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the node agent has")
@pytest.mark.parametrize(
    ("version", "words"), [("26.1.5", "it cannot be asked: Exec format error"), ("20.10.24", None)]
)
def test_a_program_that_cannot_be_run_says_so(
    tmp_path: Path, version: str, words: str | None
) -> None:
    broken = tmp_path / "dockerd"
    broken.write_bytes(b"\0")
    broken.chmod(0o755)
    assert daemon_process.complaint(b"{}", Process([], str(broken), {}, None, ""), version) == words


def test_a_program_that_is_not_there_is_not_asked() -> None:
    assert (
        daemon_process.complaint(
            b"bad", Process([], "/no/such/dockerd (deleted)", {}, None, ""), "26.1.5"
        )
        is None
    )
