"""The labels for each generation of Traefik: one file per claim under `cases/traefik/`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.render.traefik import (
    DIALECTS,
    Route,
    about_the_service,
    hidden_by,
    hidden_labels,
    joined,
    mark_in,
    metrics_labels,
    mirror_labels,
)

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
    labels = mirror_labels(
        "m", 1, Route(dialect=dialect, hostname="m.test", network="n", entrypoint="e")
    )
    assert len({"traefik.docker.network", "traefik.swarm.network"} & set(labels)) == 1


def test_a_users_labels_stand_beside_ours_and_their_middlewares_come_behind_our_allow_list() -> (
    None
):
    route = Route(
        dialect="v3", hostname="m.test", network="n", entrypoint="e", allow_from=["10.0.0.0/8"]
    )
    own = mirror_labels("m", 1, route)
    further = {
        "Traefik.HTTP.Routers.m.Middlewares": "slow@file,log",
        "traefik.http.routers.m.priority": "7",
        "team": "a",
    }
    labels = joined(own, further, "m")
    assert labels["traefik.http.routers.m.middlewares"] == "m-labels,m-from,slow@file,log"
    assert {key: value for key, value in labels.items() if key not in own} == {
        "traefik.http.routers.m.priority": "7",
        "team": "a",
    }


ROUTE = Route(dialect="v3", hostname="m.test", network="n", entrypoint="e")


@pytest.mark.parametrize(
    ("route", "further"),
    [
        (replace(ROUTE, allow_from=["10.0.0.0/8"]), {}),
        (replace(ROUTE, hostname="other.test"), {}),
        (replace(ROUTE, entrypoint="internal"), {}),
        (replace(ROUTE, dialect="v3.0"), {}),
        (ROUTE, {"traefik.http.routers.m.priority": "7"}),
        (ROUTE, {"traefik.http.routers.m.middlewares": "log@file"}),
    ],
)
def test_other_labels_have_another_mark(route: Route, further: dict[str, str]) -> None:
    mark = mark_in(joined(mirror_labels("m", 1, ROUTE), {}, "m"), "m")
    assert len(mark) == 16
    assert mark == mark_in(joined(mirror_labels("m", 1, ROUTE), {}, "m"), "m")
    assert mark_in(joined(mirror_labels("m", 1, route), further, "m"), "m") not in ("", mark)


@pytest.mark.parametrize(
    ("dialect", "name", "value", "hides"),
    [
        ("v3", "traefik.swarm.lbswarm", "true", True),
        ("v3", "traefik.docker.lbswarm", "false", True),  # beside ours of traefik.swarm
        ("v3", "Traefik.Docker.Network", "n", True),
        ("v2", "traefik.docker.LBSwarm", "1", True),
        ("v3", "traefik.swarm.lbswarm", "False", False),
        ("v3.0", "traefik.docker.lbswarm", "0", False),
        ("v2", "traefik.docker.anything", "true", False),
        ("v1", "traefik.docker.lbswarm", "true", False),
        ("v3", "traefik.dockers", "true", False),
        ("v3", "x.traefik.swarm.lbswarm", "true", False),
    ],
)
def test_which_label_of_a_users_hides_the_mirror(
    dialect: str, name: str, value: str, hides: bool
) -> None:
    assert (hidden_by(dialect, name, value) is not None) == hides


def test_with_traefik_1_no_answer_has_a_mark() -> None:
    own = mirror_labels("m", 1, replace(ROUTE, dialect="v1"))
    assert joined(own, {}, "m") == own
    assert mark_in(own, "m") == ""


def test_a_router_of_theirs_that_names_no_service_leads_to_the_mirror() -> None:
    own = mirror_labels("m", 1, ROUTE) | metrics_labels("m", 2, ROUTE, ["10.0.0.0/8"])
    further = {
        "traefik.http.routers.theirs.rule": "Host(`m.test`)",
        "Traefik.HTTP.Routers.Theirs.Entrypoints": "web",
        "TRAEFIK.http.routers.loud.rule": "Host(`m.test`)",
        "traefik.http.routers.named.rule": "Host(`m.test`)",
        "Traefik.HTTP.Routers.Named.Service": "api@internal",
        "traefik.http.routers.m.priority": "7",
        "traefik.http.middlewares.routers.headers.x": "y",
        "traefik.tcp.routers.plain.rule": "HostSNI(`*`)",
    }
    added = {
        key: value
        for key, value in joined(own, further, "m").items()
        if key not in own and key not in further
    }
    assert added == {
        "traefik.http.routers.theirs.service": "m",
        "TRAEFIK.http.routers.loud.service": "m",
    }


def test_a_router_is_on_one_service_and_the_label_of_a_constraint_may_be_on_several() -> None:
    further = {
        "traefik.constraint-label": "a",
        "Traefik.HTTP.routers.m.priority": "7",
        "traefik.tcp.routers.x.rule": "y",
    }
    assert about_the_service(further) == {"traefik.constraint-label": "a"}


def test_what_is_hidden_stays_hidden_where_traefik_exposes_everything() -> None:
    assert hidden_labels() == {"traefik.enable": "false"}
