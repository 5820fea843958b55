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
    record = Record(str(path), "hub")
    record.settle(URL, data, {})
    return record


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
    kept = keep(mine, data)
    former = state / str(mine).strip("/").replace("/", "-")
    Path(kept.folder).rename(former)
    as_before(str(former))
    if both:
        write(other, "{}")
    assert Record(str(mine), "hub").mirror == URL
    assert Record(str(other), "hub").mirror is None
    # The second file gets a folder of its own, and the first keeps the one that it has.
    keep(other, b"{}")
    assert Record(str(mine), "hub").original == data
    assert Record(str(other), "hub").original == b"{}"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "\x00\xff", '{"mirrors": [], "written": []}', "[" * 100_000]
)
def test_a_damaged_record_is_one_message_with_the_remedy(
    state: Path, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "daemon.json"
    kept = keep(path, write(path, "{}"))
    (Path(kept.folder) / "record.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(
        files.FileProblem,
        match=r"record.json is damaged; bring it back from a backup, or move .* away",
    ):
        Record(str(path), "hub")
    Path(kept.folder).rename(tmp_path / "moved")  # the remedy
    assert Record(str(path), "hub").mirror is None


def test_a_record_has_a_format_number_and_one_without_is_read_as_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "STATE", str(tmp_path))
    made = record.Record("/etc/docker/daemon.json", "hub")
    made.begin("https://m.test", b"{}", b"{ }", {"debug": True})
    made.keep_before_restart(b"{}", {"id": "x"})
    made.docker_started()
    path = tmp_path / "etc-docker-daemon.json" / "record.json"
    written = json.loads(path.read_text())
    assert written["format"] == record.FORMAT == 1
    # As every version before wrote it.
    path.write_text(json.dumps({key: written[key] for key in written if key != "format"}))
    read = record.Record("/etc/docker/daemon.json", "hub")
    assert (read.mirror, read.keys, read.standing) == (
        "https://m.test",
        {"debug": True},
        {"id": "x"},
    )
    assert (read.unverified, read.untried, read.original) == (True, False, b"{}")
    read.own(b"x")
    assert json.loads(path.read_text())["format"] == 1


def test_a_record_of_a_newer_format_is_refused_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "STATE", str(tmp_path))
    path = tmp_path / "etc-docker-daemon.json" / "record.json"
    path.parent.mkdir()
    path.write_text('{"format": 2, "mirrors": {}, "written": []}')
    with pytest.raises(files.FileProblem, match=r"format 2.*a newer version.*up to 1; use that"):
        record.Record("/etc/docker/daemon.json", "hub")
    assert json.loads(path.read_text())["format"] == 2


def test_a_record_says_nothing_that_a_version_before_would_misread() -> None:
    """`restarted` was there or not there, whatever its value."""
    assert set(json.loads(record.Known().as_json())) == {"format", "mirrors", "written", "existed"}
    assert json.loads(record.Known(restarted=False).as_json())["restarted"] is False
