"""`pin`: digests that a registry has answered go into the stack's file, and nothing else of it
changes."""

import json
from pathlib import Path

import pytest

from components.registry_mirror.cli.__main__ import main
from components.registry_mirror.cli.errors import CommandError
from components.registry_mirror.cli.pin import digest_of, pin

OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
FILE = f"""# A comment.
config:
  swarm-registry-mirror:hostname: mirror.example.com
  swarm-registry-mirror:image: registry:3.1.2  # the registry
  swarm-registry-mirror:varnishImage: "varnish:7.7.0@{OLD}"
"""


def test_every_image_is_pinned_and_the_rest_of_the_file_stays() -> None:
    text, done = pin(FILE, lambda reference: NEW)
    assert text == FILE.replace("registry:3.1.2 ", f"registry:3.1.2@{NEW} ").replace(OLD, NEW)
    assert [(each.key, each.tag) for each in done] == [
        ("image", "registry:3.1.2"),
        ("varnishImage", "varnish:7.7.0"),
    ]


def test_a_tag_that_has_moved_is_said_and_one_that_has_not_is_left() -> None:
    assert pin(FILE, lambda reference: NEW)[1][1].done == "MOVED, it was sha256:111111111111…"
    assert pin(FILE, lambda reference: OLD)[1][1].done == "as it was"


def test_a_registry_that_does_not_answer_changes_nothing() -> None:
    def silent(reference: str) -> str:
        raise CommandError("no answer")

    with pytest.raises(CommandError):
        pin(FILE, silent)


@pytest.mark.parametrize(
    "text",
    [
        "  swarm-registry-mirror:imageDigestFile: .lab/dev/registry.digest\n",
        "config: {a:checkImage: library/hello-world:latest}\n",
        "image:\n",
        "",
    ],
)
def test_what_is_no_image_that_is_run_stays(text: str) -> None:
    assert pin(text, lambda reference: NEW) == (text, [])


ESTATE = """\
config:
  estate:images:   # all of them
    traefik: traefik:v3.7.15@sha256:<64 hex digits>
    registry: 'registry:3.1.2'  # quoted
    list: [a/b:1, "c:2"]
  estate:checkImage: library/hello-world:latest
"""


def test_in_an_estates_file_everything_below_images_is_pinned_where_it_stands() -> None:
    text, done = pin(ESTATE, lambda reference: NEW)
    assert text == ESTATE.replace("@sha256:<64 hex digits>", f"@{NEW}").replace(
        "'registry:3.1.2'", f"'registry:3.1.2@{NEW}'"
    ).replace("a/b:1", f"a/b:1@{NEW}").replace("c:2", f"c:2@{NEW}")
    assert [each.tag for each in done] == ["traefik:v3.7.15", "registry:3.1.2", "a/b:1", "c:2"]
    assert {each.done for each in done} == {"pinned"}


def test_what_is_no_yaml_is_refused() -> None:
    with pytest.raises(ValueError, match="not YAML"):
        pin("a: [\n", lambda reference: NEW)


def answering(folder: Path, name: str, digest: str = NEW, code: int = 0) -> None:
    """A program that prints how it was called on stderr, and a digest."""
    program = folder / name
    program.write_text(f"#!/bin/sh\necho \"{name} $*\" >&2\necho '{digest}'\nexit {code}\n")
    program.chmod(0o755)


@pytest.mark.parametrize("name", ["crane", "skopeo", "docker"])
def test_whichever_program_is_there_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="none of crane, skopeo, docker is on PATH"):
        digest_of("a:1")
    answering(tmp_path, name, f'"{NEW}"' if name == "docker" else NEW)
    assert digest_of("a:1") == NEW
    answering(tmp_path, name, code=1)
    with pytest.raises(CommandError, match=rf"a:1: {name} .*a:1"):
        digest_of("a:1")
    answering(tmp_path, name, digest="sha256:short")
    with pytest.raises(CommandError, match="a:1"):
        digest_of("a:1")


def test_of_several_files_all_are_written_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    answering(tmp_path, "crane")
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(FILE)
    bad.write_text("a: 1\n")
    assert main(["pin", str(good), str(bad)]) == 1
    assert "bad.yaml names no image" in capsys.readouterr().err
    assert good.read_text() == FILE
    assert main(["pin", str(good), "--json"]) == 0
    assert f"registry:3.1.2@{NEW}" in good.read_text()
    assert json.loads(capsys.readouterr().out)[0] == {
        "file": str(good),
        "key": "image",
        "image": "registry:3.1.2",
        "done": "pinned",
    }
