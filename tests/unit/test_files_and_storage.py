"""Files that are wholly old or wholly new, and the configuration on the shared storage."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import files, storage
from components.registry_mirror.node_agent.request import StorageRequest

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
    with pytest.raises(
        files.FileProblem,
        match=r"is a link to /nowhere/at/all, which does not exist; mend or remove",
    ):
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
    status = path.stat()
    assert status.st_mode & 0o777 == 0o604
    if os.geteuid() == 0:
        assert (status.st_uid, status.st_gid) == (1234, 4321)
    assert list(tmp_path.iterdir()) == [path]


def test_extended_attributes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    os.setxattr(path, "user.label", b"kept")
    files.replace(str(path), b"new")
    assert os.getxattr(path, "user.label") == b"kept"


def test_a_full_disk_leaves_the_old_file_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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

    def recorded_rename(old: str, new: str, **folders: int) -> None:
        steps.append("rename")
        rename(old, new, **folders)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_rename)
    files.replace(str(tmp_path / "file"), b"new")
    assert steps == ["fsync .swarm", "rename", f"fsync {tmp_path.name[:6]}"]


def request(tmp_path: Path, config: str = f"{MARKER}\na: 1\n") -> StorageRequest:
    return StorageRequest(
        owner="mirror",
        config_path=f"{tmp_path}/mirror.yml",
        cache_path=f"{tmp_path}/cache",
        marker=MARKER,
        config=config,
    )


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
    with pytest.raises(
        files.FileProblem,
        match="the service mirror writes to this cache; give each mirror a cachePath",
    ):
        storage.apply(replace(request(tmp_path), owner="another"))
    storage.remove(request(tmp_path))
    assert storage.apply(replace(request(tmp_path), owner="another")) == "written"


def test_a_node_sees_the_managers_storage_or_says_that_it_does_not(tmp_path: Path) -> None:
    storage.apply(request(tmp_path))
    assert storage.seen(f"{tmp_path}/cache", "mirror") is None
    assert "is not the storage that the manager sees" in (
        storage.seen(f"{tmp_path}/elsewhere", "mirror") or ""
    )
    assert "is not the storage that the manager sees" in (
        storage.seen(f"{tmp_path}/cache", "another") or ""
    )


def test_parents_that_are_made_are_synced_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def recorded(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").resolve().relative_to(tmp_path)))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", recorded)
    files.make_folder(f"{tmp_path}/a/b/c")
    assert synced == [".", "a", "a/b"]
    files.make_private_folder(f"{tmp_path}/private")
    assert synced[-1] == "."
    synced.clear()
    files.replace(f"{tmp_path}/x/y/file", b"new")
    assert synced[:2] == [".", "x"]
    assert synced[-1] == "x/y"


def test_nothing_is_left_of_a_replacement_that_a_link_meanwhile_leads_astray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is exchanged for a link between the first byte and the rename: the file is where
    it was meant to be."""
    (tmp_path / "share").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "file").write_text("victim")
    rename = os.replace

    def raced(old: str, new: str, **folders: int) -> None:
        (tmp_path / "share").rename(tmp_path / "moved")
        (tmp_path / "share").symlink_to(tmp_path / "etc")
        rename(old, new, **folders)

    monkeypatch.setattr(os, "replace", raced)
    files.replace(f"{tmp_path}/share/file", b"new", follow=False)
    assert (tmp_path / "etc" / "file").read_text() == "victim"
    assert (tmp_path / "moved" / "file").read_text() == "new"


HOSTILE = ["mirror.yml", f"mirror.yml{storage.KEPT}", f"cache/{storage.OWNER}"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("action", [storage.apply, storage.remove], ids=["apply", "remove"])
def test_a_link_that_another_writer_of_the_share_has_put_there_is_not_followed(
    tmp_path: Path, name: str, action: Any
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("root's")
    share = tmp_path / "share"
    (share / "cache").mkdir(parents=True)
    (share / "mirror.yml").write_text("by hand\n")
    (share / name).unlink(missing_ok=True)
    (share / name).symlink_to(victim)
    with pytest.raises(files.FileProblem, match="is a link, which is not followed there"):
        action(request(share))
    assert victim.read_text() == "root's"


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's link needs root to be made")
@pytest.mark.parametrize("hostile", ["owner", "folder"])
def test_a_folder_that_is_somebody_elses_link_is_not_entered(tmp_path: Path, hostile: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "share").mkdir()
    link = tmp_path / "share" / "here"
    link.symlink_to(tmp_path / "etc")
    if hostile == "owner":
        os.chown(link, 65534, 65534, follow_symlinks=False)
    else:
        (tmp_path / "share").chmod(0o777)
    with pytest.raises(
        files.FileProblem, match="is a link that others than root may have put there"
    ):
        storage.apply(request(link))
    assert list((tmp_path / "etc").iterdir()) == []


def test_a_link_of_roots_own_on_the_way_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert storage.apply(request(tmp_path / "link")) == "written"
    assert (tmp_path / "real" / "mirror.yml").exists()
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(files.FileProblem, match="a circle of links"):
        storage.apply(request(tmp_path / "round"))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_kept_copy_is_read_by_nobody_who_could_not_read_the_original(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "mirror.yml"
    path.write_text("password: CANARY\n")
    path.chmod(mode)
    storage.apply(request(tmp_path))
    assert (tmp_path / f"mirror.yml{storage.KEPT}").stat().st_mode & 0o777 == mode
    storage.remove(request(tmp_path))
    assert path.stat().st_mode & 0o777 == mode
    assert path.read_text() == "password: CANARY\n"


@pytest.mark.parametrize("name", ["a\nb", "-rf", " a b ", "$(x)", "*", 'a"b'])
def test_odd_names_are_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "b").write_text("kept")
    where = tmp_path / name
    assert storage.apply(request(where)) == "written"
    assert storage.remove(request(where)) == "removed"
    assert (tmp_path / "b").read_text() == "kept"


IDENTITY = "a" * 32


def test_a_stack_that_was_renamed_goes_on_with_its_own_cache(tmp_path: Path) -> None:
    storage.apply(replace(request(tmp_path), identity=IDENTITY))
    renamed = replace(request(tmp_path), owner="renamed", identity=IDENTITY)
    storage.apply(renamed)
    assert storage.seen(f"{tmp_path}/cache", "renamed") is None


def test_the_marker_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    storage.apply(request(tmp_path))
    assert storage.apply(replace(request(tmp_path), identity=IDENTITY)) == "unchanged"
    assert (tmp_path / "cache" / storage.OWNER).read_text() == f"mirror\n{IDENTITY}\n"


def test_a_namesake_of_another_stack_is_refused_and_its_end_takes_nothing_away(
    tmp_path: Path,
) -> None:
    storage.apply(replace(request(tmp_path), identity=IDENTITY))
    namesake = replace(request(tmp_path, f"{MARKER}\na: 9\n"), identity="b" * 32)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(files.FileProblem, match="which is another stack's"):
        storage.apply(namesake)
    assert storage.remove(namesake) == "left: it is not ours any more"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_storage_of_a_former_version_becomes_ours_and_its_removal_leaves_it(
    tmp_path: Path,
) -> None:
    former = replace(request(tmp_path), identity=IDENTITY)
    storage.apply(former)
    successor = replace(former, identity=IDENTITY + ".2", former=IDENTITY)
    assert storage.apply(successor) == "unchanged"
    assert storage.remove(former) == "left: it is not ours any more"
    assert (tmp_path / "cache" / storage.OWNER).read_text().splitlines()[1] == IDENTITY + ".2"
    assert storage.remove(successor) == "removed"
