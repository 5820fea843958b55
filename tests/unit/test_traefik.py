"""The labels for each generation of Traefik: one file per claim under `cases/traefik/`."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.traefik import DIALECTS, Route, hidden_labels, metrics_labels, mirror_labels

CASES = sorted(Path(__file__).with_name("cases").joinpath("traefik").glob("*.json"))


def labels(case: dict[str, Any]) -> dict[str, str]:
    route = Route(**case["route"])
    if "scrapers" in case:
        return metrics_labels("mirror", case["port"], route, case["scrapers"])
    return mirror_labels("mirror", case["port"], route)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_claim(path: Path) -> None:
    case = json.loads(path.read_text())
    assert labels(case) == case["labels"], case["claim"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_never_both_families_of_network_labels_which_traefik_refuses(dialect: str) -> None:
    found = mirror_labels("m", 1, Route(dialect=dialect, hostname="m.test", network="n", entrypoint="e"))
    assert len({"traefik.docker.network", "traefik.swarm.network"} & set(found)) == 1


def test_what_is_hidden_stays_hidden_where_traefik_exposes_everything() -> None:
    assert hidden_labels() == {"traefik.enable": "false"}
