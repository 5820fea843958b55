"""Which constraint of a Traefik hides the mirror, and by which label it would be seen: one file per
case."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import constraint
from tests.builders import without_code

CASES = Path(__file__).parent / "cases" / "constraint"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_a_constraint_that_hides_the_mirror_is_named(path: Path) -> None:
    """`labels`: those of each service of ours; `services`: of the swarm, as docker says; `says`:
    the sentence, or null."""
    case: dict[str, Any] = json.loads(path.read_text())
    fault = constraint.fault(case["labels"], case["services"])
    assert without_code(fault) == case["says"], case["why"]


def test_a_constraint_of_any_length_is_cut() -> None:
    arguments = ["--providers.swarm.constraints=" + "x" * 10_000]
    service = {"Spec": {"Name": "traefik", "TaskTemplate": {"ContainerSpec": {"Args": arguments}}}}
    assert len(constraint.fault([{}], [service]) or "") < 500
