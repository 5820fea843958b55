"""The scripts that run in the containers, run here: a damaged cache is mended before it is served."""

import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from components.registry_mirror import registry

GOOD = b"a layer"


class Container:
    """A cache, and a registry that only says how it was started."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.bin = folder / "bin"
        for made in (self.cache, self.bin):
            made.mkdir()
        program = self.bin / "registry"
        program.write_text('#!/bin/sh\necho "started: $*"\nsleep 0.4\n')
        program.chmod(0o755)
        self.path = f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin"
        self.script = folder / "start"
        self.script.write_text(registry.script("start-registry.sh"))

    def start(self) -> list[str]:
        """What is in the log after a start, in any order."""
        environment = {"CACHE": str(self.cache), "PATH": self.path}
        running = subprocess.Popen(
            ["/bin/sh", self.script, "/c.yml"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        running.wait(timeout=10)
        # The daily check goes on; in a container it ends with the registry, which is process 1 there.
        subprocess.run(["pkill", "-s", str(running.pid)], check=False)
        assert running.stdout is not None
        return running.stdout.read().splitlines()

    def layer(self, content: bytes, name: str = "") -> Path:
        digest = name or hashlib.sha256(content).hexdigest()
        path = self.cache / "docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return path

    def link(self, text: str) -> Path:
        path = self.cache / "docker/registry/v2/repositories/library/x/_layers/sha256/abc/link"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return path


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def test_a_sound_cache_is_served_without_a_word(container: Container) -> None:
    layer = container.layer(GOOD)
    link = container.link("sha256:" + "0" * 64)
    (container.cache / "scheduler-state.json").write_text('{"a":{"Expiry":"x"}}')
    assert container.start() == ["started: serve /c.yml"]
    assert layer.exists()
    assert link.exists()
    assert sorted(path.name for path in container.cache.iterdir()) == [".checked", "docker", "scheduler-state.json"]


@pytest.mark.parametrize("text", ["", "{", '{"a":{"Expiry":"x"}', "garbage"])
def test_a_list_of_expiries_that_was_cut_off_is_set_aside(container: Container, text: str) -> None:
    (container.cache / "scheduler-state.json").write_text(text)
    said = container.start()
    assert any("the list of expiries was damaged" in line for line in said)
    assert not (container.cache / "scheduler-state.json").exists()
    assert (container.cache / "scheduler-state.json.broken").read_text() == text


def test_a_link_that_was_cut_off_is_removed(container: Container) -> None:
    link = container.link("sha256:0000")
    said = container.start()
    assert not link.exists()
    assert sum("a damaged link was removed" in line for line in said) == 1


def test_a_layer_whose_bytes_are_not_its_name_is_removed_and_others_stay(container: Container) -> None:
    good, bad = container.layer(GOOD), container.layer(b"cut off", hashlib.sha256(b"cut off here").hexdigest())
    said = container.start()
    assert good.exists()
    assert not bad.exists()
    assert [line for line in said if bad.parent.name in line]


def test_a_layer_that_was_right_before_is_not_read_again(container: Container) -> None:
    container.start()
    old = container.layer(b"changed since", "0" * 64)
    an_hour_ago = time.time() - 3600
    os.utime(old, (an_hour_ago, an_hour_ago))
    container.start()
    assert old.exists()


def test_an_upload_that_nobody_finished_is_removed_after_a_day(container: Container) -> None:
    uploads = [container.cache / f"docker/registry/v2/repositories/library/x/_uploads/{name}" for name in ("old", "new")]
    for upload in uploads:
        upload.mkdir(parents=True)
        (upload / "data").write_bytes(GOOD)
    two_days_ago = time.time() - 2 * 86400
    os.utime(uploads[0], (two_days_ago, two_days_ago))
    container.start()
    assert [upload.exists() for upload in uploads] == [False, True]


def test_an_image_without_the_tools_starts_and_says_that_nothing_is_checked(container: Container) -> None:
    for name in ("sh", "head", "rm", "cat", "sleep"):
        (container.bin / name).symlink_to(shutil.which(name) or "")
    container.path = str(container.bin)
    bad = container.layer(b"cut off", "0" * 64)
    said = container.start()
    assert any("the cache is not checked: this image has no find" in line for line in said)
    assert "started: serve /c.yml" in said
    assert bad.exists()


def test_a_cache_that_cannot_be_written_is_said_and_served(container: Container) -> None:
    (container.cache / ".room").mkdir()  # what a full disk does to root, who may write everywhere
    said = container.start()
    assert any("the cache cannot be written" in line for line in said)
    assert "started: serve /c.yml" in said


def helper(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "helper"
    script.write_text(registry.script("credential-helper.sh"))
    url = "https://registry-1.docker.io"
    return subprocess.run(["/bin/sh", script, *words], input=url, capture_output=True, text=True, check=False)


def test_the_helper_answers_nobody_where_there_are_no_credentials(tmp_path: Path) -> None:
    answer = json.loads(helper(tmp_path, "get").stdout)
    assert answer == {"ServerURL": "https://registry-1.docker.io", "Username": "", "Secret": ""}


def test_the_helper_stores_nothing(tmp_path: Path) -> None:
    assert helper(tmp_path, "store").returncode == 1
