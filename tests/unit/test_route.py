"""Where a node's next pull goes, and why: over what the node has said, in a case file each."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror import images
from components.registry_mirror.cli import route
from components.registry_mirror.cli.look import Look
from components.registry_mirror.cli.why import as_table
from components.registry_mirror.render.clients import Served

CASES = sorted((Path(__file__).parent / "cases/route").glob("*.json"))
SERVED = [
    Served("docker.io", "mirror.example.com"),
    Served("ghcr.io", "mirror.example.com/ghcr.io"),
    Served("quay.io", "mirror.example.com/quay.io", fallback=False),
]
USES_IT: dict[str, Any] = {
    "reachable": True,
    "engine": "26.1.5",
    "listed": True,
    "used": True,
    "registries": ["docker.io"],
}
NOTHING: dict[str, Any] = {
    "status": 0,
    "digest": "",
    "age": 0,
    "registry": "",
    "upstream": "",
    "fault": "",
    "refused": "",
    "proxy": "",
    "copies": [],
    "store": "classic",
}


def decided(case: dict[str, Any]) -> route.Route:
    look = Look("n1", **{**USES_IT, **case["look"]})
    image = images.at_mirror(images.parse(case["image"]), SERVED)
    facts = None if case["facts"] is None else {**NOTHING, **case["facts"]}
    return route.decide(look, image, facts)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_where_a_pull_goes(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    found = decided(case)
    assert found.goes == case["goes"]
    assert case.get("reason", "") in found.reason
    assert bool(found.reason) is (found.goes != route.MIRROR), "who goes past it is told why"
    assert bool(found.digest) is (found.goes == route.MIRROR)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_no_decision_depends_on_a_wording(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    before = decided(case).goes
    for name in ("faults", "mirror_faults"):
        if name in case["look"]:
            case["look"][name] = ["x"]
    for name in ("fault", "refused", "proxy"):
        if (case["facts"] or {}).get(name):
            case["facts"][name] = "x"
    assert decided(case).goes == before


def test_the_table_has_a_row_for_each_node_and_a_sentence_for_each_that_goes_past_the_mirror() -> (
    None
):
    digest = "sha256:" + "d" * 64
    found = [
        route.Route("n1", route.MIRROR, "", digest, 5, [f"{digest} 2026-11-27T08:00:00Z"]),
        route.Route("n2", route.UPSTREAM, "the reason"),
    ]
    text = as_table(found, now=1795762800 + 3 * 86400)
    assert "5 s ago" in text
    assert "dddddddddddd" in text
    assert text.rstrip().endswith("n2: the reason")
    assert text.count("n1") == 1
