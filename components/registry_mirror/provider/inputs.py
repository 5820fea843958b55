"""From the inputs of a program in another language to RegistryMirrorArgs. Pure but for the SDK's
`Output`.

What arrives are mappings, lists, floats and Outputs, with the names of the schema; all that is
wrong is said at once, in those names. The rules about values are those of the args.
"""

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pulumi

from ..args import RegistryMirrorArgs
from ..component import DOCKER_PROVIDER
from ..rules import Fault, InvalidArgs
from .schema import camel, choices, dataclasses_of, is_required, spelled

_CLASSES = tuple(dataclasses_of(RegistryMirrorArgs))
_NAMES = {field.name for each in _CLASSES for field in dataclasses.fields(each)}
_OF_THE_USER = {
    field.name
    for each in _CLASSES
    for field in dataclasses.fields(each)
    if any(typing.get_origin(choice) is Mapping for choice in choices(field.type))
}
"""Fields below which the names are the user's own."""
_NO_PROVIDER = (
    "is missing: give the resource a docker provider, in its option `providers`, whose host is"
    " ssh://root@<a manager>"
)


class _Reading(NamedTuple):
    """What is found to be wrong while inputs are read."""

    unknown: list[Fault]
    """No input has that name; the key is as somebody has written it."""
    missing: list[Fault]
    """In the names of the args."""


def arguments(inputs: Mapping[str, object]) -> RegistryMirrorArgs:
    """The args that the inputs are. Raises InvalidArgs, with all faults, in the schema's names."""
    reading = _Reading([], [])
    fields = _fields(RegistryMirrorArgs, inputs, "", reading)
    unknown, missing = reading.unknown, reading.missing
    own = {fault.key for fault in missing}
    found = missing
    try:
        args = RegistryMirrorArgs(**fields)
    except InvalidArgs as error:
        # A field that is missing stands there as None, which is of the wrong kind.
        found = missing + [fault for fault in error.faults if fault.key not in own]
    if unknown or found:
        raise InvalidArgs([*unknown, *in_the_schemas_names(found).faults])
    return args


def in_the_schemas_names(faults: Iterable[Fault]) -> InvalidArgs:
    """The same faults for somebody who writes another language than Python."""
    return InvalidArgs(
        replace(
            fault,
            key=_key(fault.key),
            wrong=_NO_PROVIDER if fault.key == DOCKER_PROVIDER else spelled(fault.wrong, _NAMES),
        )
        for fault in faults
    )


def _key(key: str) -> str:
    """`nodes[2].host_key` is `nodes[2].hostKey`; what stands below `daemon_keys` stays as it is."""
    top, dot, below = key.partition(".")
    if top in _OF_THE_USER:
        return camel(top) + dot + below
    return ".".join(_part(part) for part in key.split("."))


def _part(part: str) -> str:
    name, bracket, index = part.partition("[")
    return (camel(name) if name in _NAMES else name) + bracket + index


def _fields(
    owner: type, given: Mapping[str, object], place: str, reading: _Reading
) -> dict[str, Any]:
    """The fields of a dataclass that are given, and None for each that is missing; adds to
    `reading` what is missing and what is no field."""
    known = {camel(field.name): field for field in dataclasses.fields(owner)}
    for name in sorted(given):
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            advice = f"; did you mean {close[0]}?" if close else "; remove it"
            reading.unknown.append(Fault(_key(place) + name, None, f"is no input{advice}"))
    values = {}
    for name, field in known.items():
        value = given.get(name)
        if value is not None:
            values[field.name] = _value(value, field.type, place + field.name, reading)
        elif is_required(field):
            reading.missing.append(Fault(place + field.name, None, "is missing"))
            values[field.name] = None
    return values


def _value(value: object, hint: Any, place: str, reading: _Reading) -> Any:
    """A value of the kind that a field takes, if it can be made of it; else as it is, because the
    args say what is wrong with it."""
    if isinstance(value, pulumi.output.Unknown):
        return pulumi.Output.from_input(value)
    if isinstance(value, pulumi.Output):
        return value
    for choice in choices(hint):
        inner = typing.get_args(choice)
        if dataclasses.is_dataclass(choice) and isinstance(value, Mapping):
            owner = typing.cast(type, choice)
            return owner(**_fields(owner, value, f"{place}.", reading))
        if choice is int or choice is Any:
            value = _whole(value)
        elif typing.get_origin(choice) is Sequence and isinstance(value, list):
            return [
                _value(item, inner[0], f"{place}[{index}]", reading)
                for index, item in enumerate(value)
            ]
        elif typing.get_origin(choice) is Mapping and isinstance(value, Mapping):
            return {
                name: _value(item, inner[1], f"{place}.{name}", reading)
                # The wire has no order, and the texts that are made of it must not change by it.
                for name, item in sorted(value.items())
            }
    return value


def _whole(value: object) -> object:
    """Numbers are floats on the way; one without a fraction was a whole number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _whole(item) for name, item in sorted(value.items())}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value
