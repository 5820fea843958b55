"""What daemon.json said when docker was started: by its time, and remembered while that docker
runs."""

import os
import time
from pathlib import Path

import pytest

from components.registry_mirror.node_agent import files, started
from components.registry_mirror.node_agent.daemon_process import Process
from components.registry_mirror.node_agent.daemon_settings import AtStart


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(started, "FOLDER", str(tmp_path / "run"))
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc" / "daemon.json"


def process(started_at: float | None, identity: str = "one") -> Process:
    return Process([], "", {}, started_at, identity)


def learnt(path: Path, daemon: Process) -> AtStart:
    return started.at_start(str(path), path.read_bytes() if path.exists() else None, daemon)


def test_a_file_older_than_docker_is_what_docker_was_started_with(path: Path) -> None:
    path.write_text('{"bip": "10.1.0.1/24"}')
    assert learnt(path, process(time.time() + 1)) == ({"bip": "10.1.0.1/24"}, True, False)


def test_a_younger_one_is_not_even_with_an_old_time_of_modification(path: Path) -> None:
    path.write_text('{"bip": "10.1.0.1/24"}')
    os.utime(path, (0, 0))
    assert learnt(path, process(time.time() - 10)) == ({"bip": "10.1.0.1/24"}, False, False)


def test_what_was_learnt_outlasts_every_edit_until_docker_is_another(path: Path) -> None:
    path.write_text('{"bip": "10.1.0.1/24"}')
    daemon = process(time.time() + 1)
    learnt(path, daemon)
    files.replace(str(path), b'{"bip": "10.2.0.1/24"}')
    assert learnt(path, daemon) == ({"bip": "10.1.0.1/24"}, True, False)
    assert learnt(path, process(time.time() + 1, "another")) == (
        {"bip": "10.2.0.1/24"},
        True,
        False,
    )


def test_a_missing_file_counts_as_removed_if_its_folder_was_touched_since(path: Path) -> None:
    assert learnt(path, process(time.time() + 1)) == ({}, True, True)
    assert learnt(path, process(time.time() - 10, "another")) == ({}, False, True)


def test_a_link_that_leads_to_another_file_by_now_is_an_edit(path: Path) -> None:
    target = path.with_name("other.json")
    target.write_text("{}")
    daemon = process(time.time() + 0.05)
    time.sleep(0.1)
    path.symlink_to(target)
    assert not learnt(path, daemon).known


def test_where_nobody_knows_when_docker_was_started_nothing_is_known_or_remembered(
    path: Path,
) -> None:
    path.write_text("{}")
    assert not learnt(path, process(None)).known
    assert not Path(started.FOLDER).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": "one"}'])
def test_a_memory_that_cannot_be_read_is_no_memory(path: Path, text: str) -> None:
    path.write_text("{}")
    daemon = process(time.time() + 1)
    learnt(path, daemon)
    (memory,) = Path(started.FOLDER).iterdir()
    assert (memory.stat().st_mode & 0o777, memory.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    memory.write_text(text)
    assert learnt(path, daemon) == ({}, True, False)


def test_numbers_that_nobody_can_hold_are_read(path: Path) -> None:
    path.write_text('{"mtu": %s, "a": 1e400, "b": [1]}' % ("9" * 5000))
    assert learnt(path, process(time.time() + 1)).values == {
        "mtu": "9" * 5000,
        "a": float("inf"),
        "b": [1],
    }
