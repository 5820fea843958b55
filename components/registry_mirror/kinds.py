"""Whether a value has the kind that its field's annotation says, in words for a person. Pure but
for the SDK's `Output`.

Owns what a program in Python can get wrong before any rule about the value makes sense: a mapping
for a SwarmNode, a text for a list, an Output where the preview needs to know the value.
"""

import copy
import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pulumi

T = TypeVar("T")

_NAMES: Mapping[object, str] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    Sequence: "a list",
    Mapping: "a mapping",
    types.NoneType: "",
}
NOT_PLAIN = (
    "must be a plain value, known in the preview, and not a pulumi.Output: what is"
    " declared, and for whom, follows from it"
)


def faults(arguments: Any) -> Iterator[tuple[str, object, str]]:
    """(field, value to show, what is wrong) for every field, or item of a list, of a dataclass that
    is of another kind.

    What stands in a field that is not shown (`repr=False`) is a secret and not repeated.
    """
    for field in dataclasses.fields(arguments):
        value = getattr(arguments, field.name)
        found = _fault(value, field.type, field.name)
        for place, wrong_value, words in found:
            hidden = not field.repr or isinstance(wrong_value, pulumi.Output)
            yield place, None if hidden else wrong_value, words


def mended(arguments: T, stand_ins: Mapping[str, object]) -> T:
    """The same arguments where every field that is not of its kind has its default, or what
    `stand_ins` says."""
    wrong = {place.partition("[")[0] for place, _, _ in faults(arguments)}
    if not wrong:
        return arguments
    whole = copy.copy(arguments)
    for field in dataclasses.fields(arguments):  # type: ignore[arg-type]
        if field.name in wrong:
            # Past the dataclass's own guard: nobody else has this copy.
            object.__setattr__(whole, field.name, stand_ins.get(field.name, field.default))
    return whole


def _fault(value: object, hint: Any, place: str) -> Iterator[tuple[str, object, str]]:
    choices = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (typing.Union, types.UnionType)
        else (hint,)
    )
    for choice in choices:
        kind = _kind(choice)
        if _is(value, kind):
            if kind is Sequence:
                (item,) = typing.get_args(choice)
                for index, inner in enumerate(typing.cast(Sequence[object], value)):
                    yield from _fault(inner, item, f"{place}[{index}]")
            elif kind is Mapping:
                for key in typing.cast(Mapping[object, object], value):
                    if not isinstance(key, str):
                        yield place, key, "must have texts as its keys"
            return
    if isinstance(value, pulumi.Output):
        yield place, value, NOT_PLAIN
        return
    kinds = [_kind(choice) for choice in choices]
    names = [_NAMES.get(kind, f"a {kind.__name__}") for kind in kinds if not _is_input(kind)]
    words = "must be " + " or ".join(name for name in names if name)
    yield place, value, words + _hint(value, kinds)


def _kind(choice: Any) -> Any:
    # Pulumi names its own Output by a text (pulumi sdk/python output.py, Input).
    return (
        pulumi.Output
        if isinstance(choice, typing.ForwardRef)
        else typing.get_origin(choice) or choice
    )


def _is(value: object, kind: Any) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(
            value, bool
        )  # a bool is an int to Python, and not to a person
    if kind is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if _is_input(kind) and kind is not pulumi.Output:
        return inspect.isawaitable(value) and not isinstance(value, pulumi.Output)
    return isinstance(value, kind)


def _is_input(kind: Any) -> bool:
    return kind is pulumi.Output or kind is typing.get_origin(typing.Awaitable[str])


def _hint(value: object, kinds: Sequence[Any]) -> str:
    ours = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
    if ours is not None and isinstance(value, Mapping):
        return f", not a mapping; write {getattr(ours, '__name__', '')}(**…)"
    if Sequence in kinds:
        return (
            "; one thing alone stands in a list, too"
            if not isinstance(value, Mapping | bool | type(None))
            else ""
        )
    return ""
