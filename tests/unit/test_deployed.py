"""What a stack's state says of its mirrors: every case is a state, and what is read from it or why
not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.cli import deployed
from components.registry_mirror.cli.deployed import Mirror, mirrors, without
from components.registry_mirror.cli.errors import StateError

CASES = sorted((Path(__file__).parent / "cases" / "deployed").glob("*.json"))


def read(mirror: Mirror) -> dict[str, Any]:
    """A mirror as a case has it."""
    waves: list[list[str]] = []
    for node in mirror.nodes:
        waves.extend([] for _ in range(node.wave + 1 - len(waves)))
        waves[node.wave].append(node.name)
    fields = (
        "name",
        "at_once",
        "service",
        "front",
        "upstream",
        "has_credentials",
        "cache_path",
        "disk",
        "images",
        "runners",
    )
    keys = {node.name: node.environment.get("MIRROR_PRIVATE_KEY") for node in mirror.nodes}
    return {
        **{field: getattr(mirror, field) for field in fields},
        "waves": waves,
        "manager": mirror.manager.name,
        "restart": mirror.restart is not None,
        "keys": {name: key for name, key in keys.items() if key},
    }


def case(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (Path(__file__).parent / "cases" / "deployed" / f"{name}.json").read_text()
    )
    return found


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_state_says_what_its_mirrors_are(path: Path) -> None:
    given = json.loads(path.read_text())
    if "error" in given:
        with pytest.raises(StateError) as refused:
            mirrors(given["state"], given.get("mirror"))
        assert given["error"] in refused.value.reason
        assert given.get("remedy", "") in refused.value.remedy
        assert "\n" not in refused.value.reason
        return
    found = mirrors(given["state"], given.get("mirror"))
    assert [read(mirror) for mirror in found] == given["mirrors"]
    for mirror in found:
        for node in mirror.nodes:
            assert node.settings["keys"] == {"debug": True}
            assert set(node.environment) >= {
                "MIRROR_NODE",
                "MIRROR_SSH",
                "MIRROR_HOST_KEY",
                "MIRROR_RUNNER",
            }


def test_no_secret_is_in_what_python_shows_of_a_mirror() -> None:
    (found,) = mirrors(case("secret-settings-and-a-key-per-node")["state"])
    assert "KEY" not in repr(found)
    assert "debug" not in repr(found)


def test_only_our_own_variables_get_from_a_state_into_a_process() -> None:
    state = case("one-mirror")["state"]
    for resource in state["deployment"]["resources"]:
        if resource["urn"].endswith("m-node-n1"):
            resource["inputs"]["environment"]["LD_PRELOAD"] = "/tmp/x.so"
    (found,) = mirrors(state)
    assert all(name.startswith("MIRROR_") for node in found.nodes for name in node.environment)


def test_a_node_is_struck_with_every_edge_to_it_and_everything_else_stays_as_it_was() -> None:
    sealed = case("secret-settings-that-are-encrypted")["state"]
    (found,) = mirrors(case("secret-settings-and-a-key-per-node")["state"])
    (urn,) = [node.urn for node in found.nodes if node.name == "n2"]
    struck = without(sealed, [urn])
    text = json.dumps(struck)
    assert "m-node-n2" not in text
    assert json.dumps(sealed).count("m-node-n2") > 5, "or this test shows nothing"
    before, after = sealed["deployment"]["resources"], struck["deployment"]["resources"]
    assert len(after) == len(before) - 1
    assert [resource.get("inputs") for resource in after] == [
        resource.get("inputs") for resource in before if resource["urn"] != urn
    ]
    assert {key: value for key, value in struck["deployment"].items() if key != "resources"} == {
        "manifest": {}
    }


@pytest.mark.parametrize(
    "value", [None, 5, "x", {"deployment": None}, {"deployment": {"resources": [[]]}}]
)
def test_anything_else_is_one_message(value: object) -> None:
    with pytest.raises(StateError, match="cannot read the state"):
        mirrors(value)


def with_registries(value: object) -> dict[str, Any]:
    """The state of a mirror whose outputs have this as their registries."""
    state: dict[str, Any] = case("one-mirror")["state"]
    for resource in state["deployment"]["resources"]:
        if resource["type"] == deployed.COMPONENT:
            resource["outputs"] = {"url": "https://mirror.test", "registries": value}
    return state


GHCR = {"name": "ghcr.io", "prefix": "mirror.test/ghcr.io", "fallback": True}
HUB = {"name": "docker.io", "prefix": "mirror.test", "fallback": True}


def test_the_registries_of_a_mirror_are_read_from_its_outputs() -> None:
    (found,) = mirrors(with_registries([HUB, GHCR]))
    assert [vars(each) for each in found.served] == [HUB, GHCR]


def test_a_mirror_of_an_earlier_version_serves_docker_hub() -> None:
    (found,) = mirrors(case("one-mirror")["state"])
    assert [vars(each) for each in found.served] == [HUB]


@pytest.mark.parametrize(
    "value",
    [
        {},
        ["ghcr.io"],
        [{"name": "ghcr.io"}],
        [{**GHCR, "more": 1}],
        [{**GHCR, "name": "../../etc"}],
        [{**GHCR, "name": "ghcr.io\x1b[2J"}],
        [{**GHCR, "prefix": 'mirror.test/a"b'}],
        [{**GHCR, "fallback": "no"}],
    ],
)
def test_registries_of_another_shape_are_refused_and_none_gets_to_a_terminal(
    value: object,
) -> None:
    with pytest.raises(StateError, match="registries of another shape"):
        mirrors(with_registries(value))


def test_ten_thousand_nodes_one_at_a_time_are_no_matter_of_depth() -> None:
    state = case("one-mirror")["state"]
    resources = state["deployment"]["resources"]
    (first,) = [resource for resource in resources if resource["urn"].endswith("m-node-n2")]
    last = first
    for number in range(10_000):
        environment = {**first["inputs"]["environment"], "MIRROR_NODE": f"x{number}"}
        following = {**first, "urn": f"{first['urn']}{number}", "dependencies": [last["urn"]]}
        following["inputs"] = {**first["inputs"], "environment": environment}
        resources.append(following)
        last = following
    (found,) = mirrors(state)
    assert max(node.wave for node in found.nodes) == 10_000


def test_the_component_is_found_by_the_type_that_it_has() -> None:
    source = (Path(deployed.__file__).parent.parent / "component.py").read_text()
    assert f'"{deployed.COMPONENT}"' in source


def test_a_request_that_pulumi_keeps_as_a_secret_is_known_for_one() -> None:
    for name, secret in (("secret-settings-and-a-key-per-node", True), ("one-mirror", False)):
        (found,) = mirrors(case(name)["state"])
        assert {node.is_secret for node in found.nodes} == {secret}, name


def test_the_guards_service_is_known_where_a_node_was_asked_for_one() -> None:
    (found,) = mirrors(case("one-mirror")["state"])
    assert found.guard == ""
    (first, *others) = found.nodes
    guarded = replace(first, request=json.dumps({**first.settings, "guard": True}))
    assert replace(found, nodes=[guarded, *others]).guard == f"{found.service}-guard"
