"""A base system is made once, and again when its recipe has changed; never under machines that lie
over it."""

from pathlib import Path

import pytest

from lab import base_systems
from tools.progress import StageError


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The suites for which mmdebstrap was run, in order."""
    runs: list[str] = []

    def run(argv: list[str | Path], log: Path, **_: object) -> None:
        (building,) = [
            word for word in argv if isinstance(word, Path) and word.suffix == ".building"
        ]
        building.mkdir()
        runs.append(building.stem)

    monkeypatch.setattr(base_systems, "LABS", tmp_path)
    monkeypatch.setattr(base_systems, "run_logged", run)
    return runs


def test_a_base_is_made_once(made: list[str]) -> None:
    base_systems.make_base("trixie")
    base_systems.make_base("trixie")
    assert made == ["trixie"]


def test_another_recipe_makes_it_again(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    base_systems.make_base("trixie")
    monkeypatch.setattr(base_systems, "PACKAGES", (*base_systems.PACKAGES, "one-more"))
    base_systems.make_base("trixie")
    base_systems.make_base("trixie")
    assert made == ["trixie", "trixie"]


def test_one_whose_removal_was_interrupted_is_made_again(made: list[str]) -> None:
    base_systems.make_base("trixie")
    (base_systems.base_folder("trixie") / base_systems.COMPLETE).unlink()
    base_systems.make_base("trixie")
    assert made == ["trixie", "trixie"]


def test_it_does_not_change_under_machines(
    made: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base_systems.make_base("trixie")
    (tmp_path / "dev" / "nodes" / "node1").mkdir(parents=True)
    base_systems.make_base("trixie")
    monkeypatch.setattr(base_systems, "PACKAGES", ())
    with pytest.raises(StageError) as refused:
        base_systems.make_base("trixie")
    assert "the machines of dev lie over the old one" in refused.value.reason
    assert "`python3 -m lab --name dev down`" in (refused.value.remedy or "")
    assert base_systems.base_folder("trixie").exists()
