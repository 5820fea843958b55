"""The node's lock: it waits for its turn, and nobody but root can hold it or put something in its
place."""

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from components.registry_mirror.node_agent import context, engine, files, lock, main, swarm
from components.registry_mirror.node_agent.request import ViewRequest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "lock"


def test_a_second_run_waits_for_the_first_and_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []

    def first() -> None:
        with lock.held(str(path), "first"):
            order.append("first begins")
            time.sleep(0.4)
            order.append("first ends")

    thread = threading.Thread(target=first)
    thread.start()
    while not order:
        time.sleep(0.01)
    with lock.held(str(path), "second"):
        order.append("second")
    thread.join()
    assert order == ["first begins", "first ends", "second"]


def test_a_run_that_waits_too_long_says_who_holds_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.2)
    with (
        lock.held(str(path), "apply of the mirror hub"),
        pytest.raises(files.FileProblem, match=r"at work on this node \(apply of the mirror hub\)"),
        lock.held(str(path), "apply of the mirror quay"),
    ):
        raise AssertionError("two at once")


def test_folder_and_file_are_for_nobody_else(path: Path) -> None:
    path.parent.mkdir(mode=0o777)
    path.parent.chmod(0o777)
    with lock.held(str(path), "x"):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_not_where_every_user_may_write() -> None:
    assert Path(context.LOCK).parts[:3] == ("/", "run", "swarm-registry-mirror")
    assert "/run/lock" not in context.LOCK


def test_a_file_that_a_link_names_is_neither_made_nor_cut_off(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    path.parent.mkdir(mode=0o700)
    for target in (victim, tmp_path / "nowhere"):
        path.symlink_to(target)
        with (
            pytest.raises(files.FileProblem, match=r"the lock .* cannot be opened: .*; remove it"),
            lock.held(str(path), "x"),
        ):
            raise AssertionError("held")
        path.unlink()
    assert victim.read_text() == "kept"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a directory"])
def test_what_is_no_file_is_refused_and_nothing_hangs(
    path: Path, make: Callable[[Path], None]
) -> None:
    path.parent.mkdir(mode=0o700)
    make(path)
    with (
        pytest.raises(files.FileProblem, match=r"the lock .*; remove it"),
        lock.held(str(path), "x"),
    ):
        raise AssertionError("held")


def test_a_folder_that_is_a_link_or_another_users_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path.parent.symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(files.FileProblem, match="cannot be used as a folder"),
        lock.held(str(path), "x"),
    ):
        raise AssertionError("held")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    if os.geteuid() == 0:
        path.parent.unlink()
        path.parent.mkdir()
        os.chown(path.parent, 65534, 65534)
        with (
            pytest.raises(files.FileProblem, match="belongs to another user"),
            lock.held(str(path), "x"),
        ):
            raise AssertionError("held")


def test_what_the_system_refuses_is_one_sentence_whoever_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: ViewRequest) -> str:
        raise OSError(28, "No space left on device", "/x")

    monkeypatch.setattr(swarm, "view", refused)
    assert main.main("swarm.view", {}) == 1
    assert capsys.readouterr().err == "registry mirror: /x: No space left on device\n"


@pytest.mark.parametrize("text", ["-1", "", "1 2", "x"])
def test_a_file_that_should_name_a_process_and_does_not_is_not_acted_on(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(engine, "has_systemd", lambda: False)
    monkeypatch.setattr(engine, "run", lambda *words, seconds=0: text)
    with pytest.raises(engine.EngineProblem, match="has no process id in it"):
        engine.pid("docker")
