"""`make test` runs its suites in an order in which each finds what it needs, or says why not."""

import pytest

from lab import control, test
from tools.progress import StageError


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would be run, in order."""
    found: list[str] = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(control, "check_computer", lambda: None)
    monkeypatch.setattr(control, "prepare", lambda: found.append("the labs' base systems"))
    monkeypatch.setattr(test, "_run", lambda title, *_, **__: found.append(title))
    return found


def none(reason: str) -> None:
    raise StageError(reason, "")


def test_tests_of_the_containers_scripts_find_the_busybox_of_a_base_system(done: list[str]) -> None:
    test.test(["unit", "contract"])
    assert done == ["the labs' base systems", "unit", "contract"]


def test_without_a_lab_nothing_of_one_is_made(done: list[str]) -> None:
    test.test(["unit"])
    assert done == ["unit"]


def test_where_no_lab_can_be_the_rest_is_run_and_it_is_said(
    done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "check_computer", lambda: none("it needs root"))
    test.test(["unit", "e2e", "faults"])
    assert done == ["unit"]
    assert "Not run here: e2e and faults, because it needs root." in capsys.readouterr().out
    monkeypatch.setenv("CI", "true")
    with pytest.raises(StageError, match="it needs root"):
        test.test(["unit", "e2e"])
