"""The size of the cache: what may be asked for, and how it reaches the registry's container."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror import InvalidArgs, rules
from components.registry_mirror.render import registry
from tests.builders import DIGEST, args

CASES = Path(__file__).parent / "cases"
LIMITS = sorted((CASES / "cache_limit").glob("*.json"))
FLOORS = sorted((CASES / "cache_free_floor").glob("*.json"))


def words(**bounds: Any) -> list[str]:
    return registry.words("/c.yml", metrics=False, tag_days=0, **bounds)


@pytest.mark.parametrize("path", LIMITS, ids=lambda path: path.stem)
def test_a_limit_is_a_size_with_a_unit_or_is_refused_in_one_message(path: Path) -> None:
    """`word`: bytes as the evictor gets them; `message`: part of the refusal."""
    case: dict[str, Any] = json.loads(path.read_text())
    refusal = rules.cache_limit(case["value"])
    if case["message"] is None:
        assert refusal is None
        assert words(limit=case["value"])[1:] == [f"LIMIT={case['word']}", "ROUND=2"]
    else:
        assert case["message"] in (refusal or "")


@pytest.mark.parametrize("path", FLOORS, ids=lambda path: path.stem)
def test_a_floor_is_a_size_or_a_share_or_is_refused_in_one_message(path: Path) -> None:
    """As above."""
    case: dict[str, Any] = json.loads(path.read_text())
    refusal = rules.cache_free_floor(case["value"])
    if case["message"] is None:
        assert refusal is None
        assert words(free_floor=case["value"])[1:] == [f"FLOOR={case['word']}", "ROUND=2"]
    else:
        assert case["message"] in (refusal or "")


def test_without_a_limit_nothing_is_said_of_it() -> None:
    assert words() == ["/c.yml"]


def test_there_is_one_evictor_and_every_registry_says_often_what_is_used() -> None:
    assert words(limit="200GB", free_floor="10%", folder="registries/ghcr.io")[1:] == [
        "FOLDER=registries/ghcr.io",
        "ROUND=2",
    ]


def test_both_faults_are_said_together_and_name_their_keys() -> None:
    with pytest.raises(InvalidArgs) as refused:
        args(cache_limit="200", cache_free_floor="90%")
    assert [fault.key for fault in refused.value.faults] == ["cache_limit", "cache_free_floor"]


def test_registry_2_takes_no_limit() -> None:
    with pytest.raises(InvalidArgs) as refused:
        args(image=f"registry:2.8.3@{DIGEST}", accept_registry_2=True, cache_limit="200GB")
    assert [fault.key for fault in refused.value.faults] == ["cache_limit"]
    assert "is for registry 3" in refused.value.faults[0].wrong


def test_both_may_be_given() -> None:
    assert args(cache_limit="200GB", cache_free_floor="10%").faults() == []
