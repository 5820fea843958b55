"""Files that are wholly old or wholly new, and the configuration on the shared storage."""

import os
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import files, storage

MARKER = "# ours"


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "real.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    files.replace(str(link), b"new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_link_to_nowhere_is_refused_with_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/nowhere/at/all")
    with pytest.raises(files.FileProblem, match=r"is a link to /nowhere/at/all, which does not exist; mend or remove"):
        files.read(str(tmp_path / "link"))


def test_a_directory_and_a_pipe_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(files.FileProblem, match="is a directory"):
        files.read(str(tmp_path))
    with pytest.raises(files.FileProblem, match="not a regular file"):
        files.read(str(tmp_path / "pipe"))


def test_mode_and_owner_are_kept_and_no_temporary_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(path, 1234, 4321)
    files.replace(str(path), b"new")
    found = path.stat()
    assert found.st_mode & 0o777 == 0o604
    if os.geteuid() == 0:
        assert (found.st_uid, found.st_gid) == (1234, 4321)
    assert list(tmp_path.iterdir()) == [path]


def test_extended_attributes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    os.setxattr(path, "user.label", b"kept")
    files.replace(str(path), b"new")
    assert os.getxattr(path, "user.label") == b"kept"


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(files.FileProblem, match="No space left on device"):
        files.replace(str(path), b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_directory_are_synced_in_the_order_that_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.replace

    def recorded_fsync(handle: int) -> None:
        steps.append(f"fsync {Path(f'/proc/self/fd/{handle}').resolve().name[:6]}")
        fsync(handle)

    def recorded_rename(old: str, new: str) -> None:
        steps.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_rename)
    files.replace(str(tmp_path / "file"), b"new")
    assert steps == ["fsync .swarm", "rename", f"fsync {tmp_path.name[:6]}"]


def request(tmp_path: Path, config: str = f"{MARKER}\na: 1\n") -> dict[str, Any]:
    paths = {"config_path": f"{tmp_path}/mirror.yml", "cache_path": f"{tmp_path}/cache"}
    return {**paths, "owner": "mirror", "marker": MARKER, "config": config}


def test_somebody_elses_configuration_is_kept_aside_and_put_back(tmp_path: Path) -> None:
    (tmp_path / "mirror.yml").write_text("the recipe's\n")
    assert storage.apply(request(tmp_path)) == "written"
    assert storage.apply(request(tmp_path, f"{MARKER}\na: 2\n")) == "written"
    assert storage.remove(request(tmp_path)) == "put back"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "mirror.yml"]
    assert (tmp_path / "mirror.yml").read_text() == "the recipe's\n"


def test_a_configuration_that_is_not_ours_any_more_is_left(tmp_path: Path) -> None:
    storage.apply(request(tmp_path))
    (tmp_path / "mirror.yml").write_text("by hand\n")
    assert storage.remove(request(tmp_path)) == "left: it is not ours any more"
    assert (tmp_path / "mirror.yml").read_text() == "by hand\n"


def test_the_cache_outlives_the_mirror(tmp_path: Path) -> None:
    storage.apply(request(tmp_path))
    (tmp_path / "cache" / "layer").write_text("bytes")
    storage.remove(request(tmp_path))
    assert (tmp_path / "cache" / "layer").read_text() == "bytes"


def test_a_second_service_may_not_write_to_the_same_cache(tmp_path: Path) -> None:
    storage.apply(request(tmp_path))
    with pytest.raises(files.FileProblem, match="the service mirror writes to this cache; give each mirror a cachePath"):
        storage.apply({**request(tmp_path), "owner": "another"})
    storage.remove(request(tmp_path))
    assert storage.apply({**request(tmp_path), "owner": "another"}) == "written"


def test_a_node_sees_the_managers_storage_or_is_told_that_it_does_not(tmp_path: Path) -> None:
    storage.apply(request(tmp_path))
    assert storage.seen(f"{tmp_path}/cache", "mirror") is None
    assert "is not the storage that the manager sees" in (storage.seen(f"{tmp_path}/elsewhere", "mirror") or "")
    assert "is not the storage that the manager sees" in (storage.seen(f"{tmp_path}/cache", "another") or "")
