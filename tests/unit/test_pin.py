"""`make pin`: digests that a registry has answered go into the stack's file, and nothing else of it changes."""

import pytest

from tools.pin import pin
from tools.progress import StageError

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
    assert [(key, tag) for key, tag, _ in done] == [("image", "registry:3.1.2"), ("varnishImage", "varnish:7.7.0")]


def test_a_tag_that_has_moved_is_said_and_one_that_has_not_is_left() -> None:
    assert pin(FILE, lambda reference: NEW)[1][1][2] == "MOVED, it was sha256:111111111111…"
    assert pin(FILE, lambda reference: OLD)[1][1][2] == "as it was"


def test_a_registry_that_does_not_answer_changes_nothing() -> None:
    def silent(reference: str) -> str:
        raise StageError("no answer")

    with pytest.raises(StageError):
        pin(FILE, silent)


def test_a_key_that_only_begins_alike_is_none() -> None:
    text = "  swarm-registry-mirror:imageDigestFile: .lab/dev/registry.digest\n"
    assert pin(text, lambda reference: NEW) == (text, [])
