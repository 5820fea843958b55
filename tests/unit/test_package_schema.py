"""What programs in other languages are offered: the schema follows from the args, whatever keys are
added to them."""

import dataclasses
import inspect
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pytest

from components.registry_mirror import Bastion, Registry, RegistryMirror, RegistryMirrorArgs
from components.registry_mirror import SwarmNode as Node
from components.registry_mirror.provider import schema

PACKAGE = schema.package(RegistryMirrorArgs, RegistryMirror, "1.2.3")
COMPONENT: dict[str, Any] = PACKAGE["resources"][schema.COMPONENT]
CLASSES = (RegistryMirrorArgs, Node, Bastion, Registry)


def properties(owner: type) -> dict[str, Any]:
    if owner is RegistryMirrorArgs:
        found: dict[str, Any] = COMPONENT["inputProperties"]
    else:
        found = PACKAGE["types"][f"{schema.NAME}:index:{owner.__name__}"]["properties"]
    return found


FIELDS = [
    pytest.param(owner, field, id=f"{owner.__name__}.{field.name}")
    for owner in CLASSES
    for field in dataclasses.fields(owner)
]


@pytest.mark.parametrize(("owner", "field"), FIELDS)
def test_every_field_is_offered_and_explained(owner: type, field: "dataclasses.Field[Any]") -> None:
    offered = properties(owner)[schema.camel(field.name)]
    assert len(offered["description"]) > 5
    # An Input is what may be an output of another resource; anything else must be plain there, too.
    assert ("plain" in offered) == ("Output" not in str(field.type))
    assert offered.get("secret", False) == ("Output" in str(field.type) and not field.repr)


@pytest.mark.parametrize("owner", CLASSES)
def test_what_has_no_default_is_required_and_nothing_else_is_offered(owner: type) -> None:
    required = {
        schema.camel(parameter.name)
        for parameter in inspect.signature(owner).parameters.values()
        if parameter.default is inspect.Parameter.empty
    }
    if owner is RegistryMirrorArgs:
        assert set(COMPONENT["requiredInputs"]) == required == {"hostname", "image", "nodes"}
    else:
        named = PACKAGE["types"][f"{schema.NAME}:index:{owner.__name__}"]
        assert set(named["required"]) == required
    assert set(properties(owner)) == {
        schema.camel(field.name) for field in dataclasses.fields(owner)
    }


def test_every_output_of_the_component_is_an_output_of_the_package() -> None:
    outputs = [name for name in RegistryMirror.__annotations__ if not name.startswith("_")]
    assert set(COMPONENT["properties"]) == {schema.camel(name) for name in outputs}
    assert set(COMPONENT["required"]) == set(COMPONENT["properties"])
    assert COMPONENT["properties"]["serviceId"] == {
        "type": "string",
        "description": "Id of the swarm service.",
    }


def test_kinds_are_those_of_the_args() -> None:
    inputs = properties(RegistryMirrorArgs)
    node = f"#/types/{schema.NAME}:index:SwarmNode"
    assert inputs["manager"]["oneOf"] == [
        {"type": "string", "plain": True},
        {"$ref": node, "plain": True},
    ]
    assert inputs["nodes"]["items"] == {"$ref": node, "plain": True}
    assert inputs["coalesceMemory"]["type"] == "integer"
    assert inputs["guard"]["type"] == "boolean"
    assert inputs["daemonKeys"]["additionalProperties"] == {
        "$ref": "pulumi.json#/Any",
        "plain": True,
    }
    assert inputs["networkId"] == {
        "type": "string",
        "description": inputs["networkId"]["description"],
    }


def test_a_default_is_explained_and_is_not_one_that_a_generated_sdk_would_send() -> None:
    inputs = properties(RegistryMirrorArgs)
    assert inputs["coalesceMemory"]["description"].endswith("Default: `512`.")
    assert inputs["fallback"]["description"].endswith("Default: `true`.")
    assert "Default" not in inputs["certResolver"]["description"]
    assert not [name for name, offered in inputs.items() if "default" in offered]


def test_descriptions_spell_the_args_as_the_package_does() -> None:
    names = {field.name for owner in CLASSES for field in dataclasses.fields(owner)}
    texts = [
        offered["description"] for owner in CLASSES for offered in properties(owner).values()
    ] + [offered["description"] for offered in COMPONENT["properties"].values()]
    python = {name for name in names if "_" in name}
    assert not [text for text in texts if any(f"`{name}`" in text for name in python)]
    assert (
        "see `daemonKeysAreSecret`" in properties(RegistryMirrorArgs)["daemonKeys"]["description"]
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """Within another."""

    weight: float = 0.5
    """A number."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    """What may be added to the args one day."""

    inner_ones: Mapping[str, Inner] = dataclasses.field(default_factory=dict)
    """Nested."""
    tokens: Sequence[pulumi.Input[str]] = ()
    """A list of what may be an output."""


def test_a_class_that_is_added_to_the_args_is_a_type_of_the_package() -> None:
    package = schema.package(Outer, RegistryMirror, "1.2.3")
    inputs = package["resources"][schema.COMPONENT]["inputProperties"]
    inner = f"{schema.NAME}:index:Inner"
    assert inputs["innerOnes"]["additionalProperties"] == {
        "$ref": f"#/types/{inner}",
        "plain": True,
    }
    assert inputs["tokens"]["items"] == {"type": "string"}
    assert package["types"][inner]["properties"]["weight"]["type"] == "number"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unheard:
    """With a field that JSON has no kind for."""

    at: typing.Callable[[], int]
    """A function."""


def test_a_field_that_no_other_language_could_give_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match=r"Unheard\.at"):
        schema.package(Unheard, RegistryMirror, "1.2.3")
