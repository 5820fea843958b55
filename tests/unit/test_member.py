"""What a node must still be after its restart: one JSON file per claim under cases/member/.

`before` and `now` are `docker info`; `lost` is a pattern of what is said, or null.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import member

CASES = Path(__file__).parent / "cases" / "member"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_standing(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    lost = member.lost(member.standing(case["before"]), case["now"])
    assert lost == case["lost"] or re.search(case["lost"], lost or ""), lost


def test_what_nobody_noted_before_is_not_compared() -> None:
    assert member.lost({}, {"Swarm": {"LocalNodeState": "inactive"}, "Images": 0}) is None


def test_a_docker_that_is_in_no_swarm_says_why() -> None:
    assert member.absence({"Swarm": {"LocalNodeState": "active"}}) is None
    found = (
        member.absence({"Swarm": {"LocalNodeState": "error", "Error": "certificate has expired"}})
        or ""
    )
    assert "no active node of a swarm here (error): certificate has expired" in found
    assert "(unknown)" in (member.absence({}) or "")
