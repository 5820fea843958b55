"""What Varnish is told, and what its two sizes mean to somebody who pulls."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.render import varnish

CASES = Path(__file__).parent / "cases" / "coalesce"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_the_two_sizes_are_said_as_the_largest_layers_that_are_one_download(path: Path) -> None:
    """`memory` and `disk` in MiB; `meaning`: the line of the preview."""
    case: dict[str, Any] = json.loads(path.read_text())
    assert varnish.meaning(case["memory"], case["disk"]) == case["meaning"]


def test_varnish_is_told_by_words_of_its_command() -> None:
    assert "DISK=4096" in varnish.words(["mirror"], 512)
    assert "DISK=0" in varnish.words(["mirror"], 512, 0)
