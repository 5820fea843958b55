"""Names of images: read as docker reads them, and found at the mirror; or one message."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror import images
from components.registry_mirror.render.clients import Served

CASES: dict[str, Any] = json.loads((Path(__file__).parent / "cases/images/names.json").read_text())
SERVED = [Served(*entry) for entry in CASES["served"]]


@pytest.mark.parametrize("text", CASES["good"])
def test_a_name_is_an_image_at_the_mirror(text: str) -> None:
    """`[path at the mirror, reference, as docker shows it]`."""
    found = images.at_mirror(images.parse(text), SERVED)
    assert [found.repository, found.image.reference, found.image.familiar] == CASES["good"][text]
    assert found.is_explicit is text.startswith("mirror.example.com/")


@pytest.mark.parametrize("text", CASES["bad"])
def test_what_is_no_image_or_not_cached_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(images.BadImage) as refused:
        images.at_mirror(images.parse(text), SERVED)
    assert CASES["bad"][text] in str(refused.value)


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(images.BadImage, match="255 characters"):
        images.parse("/".join(["a" * 60] * 5))


def test_where_the_registry_itself_may_not_be_asked_is_known() -> None:
    found = {
        name: images.at_mirror(images.parse(f"{name}/a/b"), SERVED).fallback
        for name in ("docker.io", "ghcr.io", "lscr.io")
    }
    assert found == {"docker.io": True, "ghcr.io": False, "lscr.io": True}


@pytest.mark.parametrize(
    "text", ["ghcr.io/a/b:1", "ghcr.io/a/b", "ghcr.io/a/b:1@sha256:" + "a" * 64]
)
def test_docker_is_given_the_digest_without_the_tag(text: str) -> None:
    digest = "sha256:" + "b" * 64
    assert images.parse(text).by_digest(digest) == f"ghcr.io/a/b@{digest}"
