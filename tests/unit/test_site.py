"""The scripts of others in the documentation's site: the ones that are pinned, or none."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from tools import site
from tools.progress import StageError

MEMBER = "package/dist/x.js"


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What `npm pack` fetches here."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo(MEMBER)
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"1+1;"))
    (tmp_path / "there.tgz").write_bytes(packed.getvalue())
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(
        f'#!/bin/sh\necho called >> "{tmp_path}/calls"\n'
        "for word; do case $before in --pack-destination)"
        f' cp "{tmp_path}/there.tgz" "$word/x.tgz" ;; esac; before=$word; done\n'
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    monkeypatch.setattr(site, "LOGS", tmp_path / "logs")
    return packed.getvalue()


def digest(archive: bytes) -> str:
    return base64.b64encode(hashlib.sha512(archive).digest()).decode()


def test_the_file_of_the_pinned_package_is_fetched_once(archive: bytes, tmp_path: Path) -> None:
    for _ in range(2):
        site._fetch(tmp_path / "vendor/x.js", "x@1", MEMBER, digest(archive))
    assert (tmp_path / "vendor/x.js").read_text() == "1+1;"
    assert (tmp_path / "calls").read_text() == "called\n"


def test_another_package_under_the_same_name_is_refused(archive: bytes, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"x@1 has SHA-512 .* is pinned") as refused:
        site._fetch(tmp_path / "vendor/x.js", "x@1", MEMBER, digest(archive + b"!"))
    assert refused.value.remedy == "do not use it"
    assert not (tmp_path / "vendor").exists()


def test_another_pin_fetches_again(archive: bytes, tmp_path: Path) -> None:
    script = tmp_path / "vendor/x.js"
    site._fetch(script, "x@1", MEMBER, digest(archive))
    with pytest.raises(StageError):
        site._fetch(script, "x@2", MEMBER, digest(archive + b"!"))
    assert (tmp_path / "calls").read_text() == "called\n" * 2


def test_without_npm_there_is_one_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StageError, match="the site needs x@1, and there is no npm") as refused:
        site._fetch(tmp_path / "x.js", "x@1", MEMBER, "")
    assert "install npm" in refused.value.remedy
