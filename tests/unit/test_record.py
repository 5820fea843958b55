"""Whose record is whose, and what is said of one that is damaged."""

import json
from pathlib import Path

import pytest

from components.registry_mirror.node_agent import files, record
from components.registry_mirror.node_agent.record import Record

URL = "https://mirror.example.com"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def write(path: Path, text: str) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return text.encode()


def keep(path: Path, data: bytes) -> Record:
    """Have a record of a file that held `data` before us and holds it now."""
    found = Record(str(path), "hub")
    found.settle(URL, data, {})
    return found


def as_before(folder: str) -> None:
    """Have a record be as versions wrote it that did not say whose it is."""
    path = Path(folder) / "record.json"
    known = json.loads(path.read_text())
    known.pop("path", None)
    path.write_text(json.dumps(known))


def test_the_usual_path_has_its_record_where_earlier_versions_look_for_it(state: Path) -> None:
    assert Record("/etc/docker/daemon.json", "hub").folder == f"{state}/etc-docker-daemon.json"


def test_two_paths_whose_names_are_alike_have_a_record_each(state: Path, tmp_path: Path) -> None:
    slash, dash = tmp_path / "docker" / "daemon.json", tmp_path / "docker-daemon.json"
    one, other = write(slash, "{}"), write(dash, '{"debug": true}')
    assert keep(slash, one).folder != keep(dash, other).folder
    assert (Record(str(slash), "hub").original, Record(str(dash), "hub").original) == (one, other)
    Record(str(slash), "hub").drop()
    assert Record(str(dash), "hub").original == other


@pytest.mark.parametrize("of", ["slash", "dash"])
@pytest.mark.parametrize("both", [True, False])
def test_a_record_of_an_earlier_version_is_read_by_the_path_whose_it_is_and_by_no_other(
    state: Path, tmp_path: Path, of: str, both: bool
) -> None:
    paths = {"slash": tmp_path / "docker" / "daemon.json", "dash": tmp_path / "docker-daemon.json"}
    mine, other = paths.pop(of), next(iter(paths.values()))
    data = write(mine, '{"debug": true}')
    found = keep(mine, data)
    former = state / str(mine).strip("/").replace("/", "-")
    Path(found.folder).rename(former)
    as_before(str(former))
    if both:
        write(other, "{}")
    assert Record(str(mine), "hub").mirror == URL
    assert Record(str(other), "hub").mirror is None
    # Who comes second gets a folder of his own, and the first keeps his.
    keep(other, b"{}")
    assert Record(str(mine), "hub").original == data
    assert Record(str(other), "hub").original == b"{}"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00\xff", '{"mirrors": [], "written": []}', "[" * 100_000])
def test_a_damaged_record_is_one_message_with_the_remedy(state: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "daemon.json"
    found = keep(path, write(path, "{}"))
    (Path(found.folder) / "record.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(files.FileProblem, match=r"record.json is damaged; bring it back from a backup, or move .* away"):
        Record(str(path), "hub")
    Path(found.folder).rename(tmp_path / "moved")  # the remedy
    assert Record(str(path), "hub").mirror is None
