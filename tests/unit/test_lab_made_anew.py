"""A lab that does not come up is made once more; nothing is started here."""

import pytest

from lab import control
from tools.progress import StageError


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to the lab."""
    done: list[str] = []
    monkeypatch.setattr(control, "down", lambda name: done.append(f"down {name}"))
    return done


def comes_up_at(done: list[str], monkeypatch: pytest.MonkeyPatch, attempt: int) -> None:
    def up(name: str, engines: object) -> None:
        done.append(f"up {name}")
        if done.count(f"up {name}") < attempt:
            raise StageError("Traefik does not run")

    monkeypatch.setattr(control, "up", up)


def test_one_that_comes_up_is_made_once(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    comes_up_at(done, monkeypatch, 1)
    control.anew("x")
    assert done == ["down x", "up x"]


def test_one_that_does_not_is_made_from_nothing_once_more_and_why_is_said(
    done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    comes_up_at(done, monkeypatch, 2)
    control.anew("x")
    assert done == ["down x", "up x"] * 2
    assert "lab x is made once more: Traefik does not run" in capsys.readouterr().err


def test_one_that_does_not_come_up_twice_is_a_failure(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    comes_up_at(done, monkeypatch, 3)
    with pytest.raises(StageError):
        control.anew("x")
    assert done == ["down x", "up x"] * 2
