"""The wire: both ends have the same types, what another version sent is read or refused by name."""

import dataclasses
import importlib
import json
import typing
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror import ship
from components.registry_mirror.node_agent import request, verb_request
from components.registry_mirror.node_agent.request import (
    BadRequest,
    Cache,
    ClaimRequest,
    Nfs,
    NodeRequest,
    NodeToRestart,
    RestartsRequest,
    decode,
    encode,
)

CASES = Path(__file__).parent / "cases" / "requests"
REMOTE = [action for action in ship.ACTIONS.values() if action.place != "here"]

NODE = NodeRequest(
    owner="hub.2",
    mirror_url="https://mirror.example.com",
    check_image="library/hello-world:latest",
    path="/etc/docker/daemon.json",
    unit="docker",
    managed_keys={"log-opts": {"tag": "x"}, "debug": True},
    restart="never",
    allow_from=["10.0.0.0/8"],
)


def kind_of(action: str) -> Any:
    """The type of the one parameter of an action of the agent."""
    module, _, function = action.partition(".")
    found = importlib.import_module(f"components.registry_mirror.node_agent.{module}")
    kind, *_ = getattr(found, function).__annotations__.values()
    return kind


@pytest.mark.parametrize("action", REMOTE, ids=lambda action: action.name)
def test_every_action_says_what_it_is_asked_for(action: ship.Action) -> None:
    kind = kind_of(action.name)
    assert dataclasses.is_dataclass(kind)
    assert kind.__module__ in (request.__name__, verb_request.__name__)


@pytest.mark.parametrize(
    "wish",
    [
        NODE,
        RestartsRequest(
            "when-needed",
            ["log-driver"],
            False,
            "m1",
            {"m1": {"outcome": "unchanged", "pending": []}},
            [NodeToRestart("m1", {"MIRROR_SSH": "ssh://root@m1:22"}, NODE)],
        ),
        ClaimRequest(
            "a" * 32,
            "acme/mirror",
            "m.test",
            "websecure",
            ["hub"],
            "hub-front",
            ["hub"],
            Cache(nfs=Nfs("10.0.0.1", ":/x")),
            "/var/lib/registry",
            None,
            "# ours",
        ),
    ],
    ids=lambda wish: type(wish).__name__,
)
def test_what_one_end_writes_the_other_reads(wish: Any) -> None:
    assert decode(type(wish), json.loads(json.dumps(encode(wish)))) == wish


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_the_request_of_an_earlier_version_is_read(path: Path) -> None:
    """Each is what a version has left in the states of stacks."""
    case = json.loads(path.read_text())
    kinds = {kind_of(action) for action in case.get("actions", [])}
    (kind,) = kinds or {RestartsRequest}
    assert _holds(encode(decode(kind, case["request"])), case["request"])


def _holds(found: Any, given: Any) -> bool:
    """Whether everything that was given is in what was read; defaults may have come to it."""
    if isinstance(given, dict):
        return all(_holds(found.get(key), value) for key, value in given.items())
    if isinstance(given, list):
        return len(found) == len(given) and all(map(_holds, found, given))
    return bool(found == given)


def test_there_is_such_a_case_for_everything_that_a_state_keeps() -> None:
    kept = {
        action.name
        for action in ship.ACTIONS.values()
        if action.name.partition(".")[0] not in ("stats", "upgrade", "swarm", "usage", "members")
        and (action.program != "images" or action.name == "warm.apply")
    }
    cases = [json.loads(path.read_text()) for path in CASES.glob("*.json")]
    covered = {
        action for case in cases for action in case.get("actions", ["run.run", "run.release"])
    }
    assert covered == kept


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mirrror": 1}, "a field that this version does not know: mirrror;"),
        ({"owner": 5}, "field owner is of another type"),
        ({"guard": "yes"}, "field guard is of another type"),
        ({"guard": 1}, "field guard is of another type"),
        ({"keys": []}, "field keys is of another type"),
        ({"allow_from": [1]}, "field allow_from is of another type"),
        ({"former": ["x"]}, "field former is of another type"),
    ],
)
def test_a_field_that_is_not_known_or_of_another_type_is_refused_by_name(
    change: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        decode(NodeRequest, {**encode(NODE), **change})


@pytest.mark.parametrize(
    "key", ["owner", "mirror", "check_image", "daemon_json", "service", "keys", "restart"]
)
def test_a_field_that_is_missing_is_refused_by_name(key: str) -> None:
    text = {name: value for name, value in encode(NODE).items() if name != key}
    with pytest.raises(BadRequest, match=f"^the request has no {key};"):
        decode(NodeRequest, text)


@pytest.mark.parametrize("text", [None, [], "x", 1])
def test_what_is_no_object_is_refused(text: object) -> None:
    with pytest.raises(BadRequest, match="no object"):
        decode(NodeRequest, text)


def test_a_field_in_a_field_is_named_with_its_place() -> None:
    wish = encode(RestartsRequest("never", [], False, "m1", {}, [NodeToRestart("m1", {}, NODE)]))
    del wish["nodes"][0]["settings"]["mirror"]
    with pytest.raises(BadRequest, match=r"the request's field nodes\.settings has no mirror"):
        decode(RestartsRequest, wish)


def test_every_type_of_a_field_is_one_that_the_decoder_knows() -> None:
    """Otherwise a right request would be refused."""
    for kind in vars(request).values():
        if not (dataclasses.is_dataclass(kind) and isinstance(kind, type)):
            continue
        for name, hint in typing.get_type_hints(kind).items():
            if name == "WIRE":
                continue
            sample = _sample(hint)
            assert request._typed(sample, hint, name) == _read_back(hint, sample), (kind, name)


def _sample(hint: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {"a": [1]}
    if origin is typing.Union:
        return _sample(inner[0])
    if origin is list:
        return [_sample(inner[0])]
    if origin is dict:
        return {"a": _sample(inner[1])}
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        wire = getattr(hint, "WIRE", {})
        return {
            wire.get(name, name): _sample(kind) for name, kind in hints.items() if name != "WIRE"
        }
    return {str: "x", int: 7, bool: True}[hint]


def _read_back(hint: Any, sample: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        return _read_back(inner[0], sample)
    if origin is list:
        return [_read_back(inner[0], item) for item in sample]
    kind: type = hint
    return decode(kind, sample) if dataclasses.is_dataclass(hint) else sample


def test_a_secret_of_daemon_json_is_not_in_what_python_shows_of_a_request() -> None:
    assert "tag" not in repr(NODE)
