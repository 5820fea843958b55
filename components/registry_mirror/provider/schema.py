"""The package's schema for Pulumi, from the annotations and docstrings of the args. No I/O but for
the source of the classes, in which their docstrings are.

A field that is plain in the args is plain in the schema: a program in another language has to know
its value in the preview, too. Defaults are in the descriptions alone, because a generated SDK would
send those of the version it was generated from.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pulumi

NAME = "swarm-registry-mirror"
"""The package's name; with it begins the component's type, so it never changes."""
COMPONENT = f"{NAME}:index:RegistryMirror"
_LANGUAGES = ("csharp", "go", "java", "nodejs", "python")
_PRIMITIVES: Mapping[object, str] = {
    bool: "boolean",
    float: "number",
    int: "integer",
    str: "string",
}
_IN_WORDS = re.compile(r"(?<![\w./-])([a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?![\w/])")
"""Names with an underscore: no English word is one."""


def camel(name: str) -> str:
    """`host_key` is `hostKey`, as every Pulumi package spells it."""
    return re.sub("_(.)", lambda match: match[1].upper(), name)


def spelled(text: str, names: typing.Collection[str]) -> str:
    """A text in which fields, those in `names`, are spelled as in other languages."""
    return _IN_WORDS.sub(lambda match: camel(match[0]) if match[0] in names else match[0], text)


def package(args: type, component: type, version: str) -> dict[str, Any]:
    """The schema of a package with one component.

    `args`: the dataclass of its inputs; `component`: the class whose annotations are its outputs;
    `version`: semantic, of the package. Raises TypeError for a field of a kind that no other
    language could give.
    """
    classes = list(dataclasses_of(args))
    names = {field.name for each in classes for field in dataclasses.fields(each)}
    outputs = {
        name: hint
        for name, hint in inspect.get_annotations(component).items()
        if not name.startswith("_")
    }
    return {
        "name": NAME,
        "displayName": "Swarm registry mirror",
        "version": version,
        "description": spelled(_sentences(component.__doc__), names),
        "license": "Apache-2.0",
        "meta": {"moduleFormat": "(.*)"},
        "language": {language: {"respectSchemaVersion": True} for language in _LANGUAGES},
        "resources": {
            COMPONENT: {
                "isComponent": True,
                "type": "object",
                "description": spelled(_sentences(component.__doc__), names),
                "inputProperties": _properties(args, names),
                "requiredInputs": _required(args),
                "properties": {
                    camel(name): {
                        **_output(hint, f"{component.__name__}.{name}"),
                        "description": spelled(_docstrings(component)[name], names),
                    }
                    for name, hint in outputs.items()
                },
                "required": sorted(camel(name) for name in outputs),
            }
        },
        "types": {
            _token(each): {
                "type": "object",
                "description": spelled(_sentences(each.__doc__), names),
                "properties": _properties(each, names),
                "required": _required(each),
            }
            for each in classes
            if each is not args
        },
    }


def dataclasses_of(args: type) -> Iterator[type]:
    """A dataclass, and those that its fields are made of, each once."""
    seen: dict[type, None] = {}

    def follow(each: type) -> None:
        if each in seen:
            return
        seen[each] = None
        for field in dataclasses.fields(each):
            for part in _parts(field.type):
                if dataclasses.is_dataclass(part):
                    follow(typing.cast(type, part))

    follow(args)
    return iter(seen)


def is_required(field: "dataclasses.Field[Any]") -> bool:
    """Whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def choices(hint: Any) -> list[Any]:
    """The kinds that a field takes, without None and without the ways in which an Input comes."""
    return [
        choice
        for choice in _alternatives(hint)
        if choice is not types.NoneType and not _is_promise(choice)
    ]


def is_input(hint: Any) -> bool:
    """Whether a field takes a value that is not known in the preview."""
    return any(_is_promise(choice) for choice in _alternatives(hint))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _is_promise(choice: Any) -> bool:
    """Of an Input: `Awaitable[T]`, and the Output that Pulumi names by a text (pulumi sdk/python
    output.py)."""
    return isinstance(choice, typing.ForwardRef) or typing.get_origin(choice) in (
        typing.get_origin(typing.Awaitable[str]),
        pulumi.Output,
    )


def _parts(hint: Any) -> Iterator[Any]:
    for choice in choices(hint):
        yield choice
        for inner in typing.get_args(choice):
            yield from _parts(inner)


def _properties(owner: type, names: typing.Collection[str]) -> dict[str, dict[str, Any]]:
    described = {}
    for field in dataclasses.fields(owner):
        place = f"{owner.__name__}.{field.name}"
        words = spelled(_docstrings(owner)[field.name], names)
        schema = _kind(field.type, place)
        if is_input(field.type):
            # A generated SDK makes a secret of it by itself.
            schema = schema if field.repr else {**schema, "secret": True}
        described[camel(field.name)] = {**schema, "description": words + _default(field)}
    return described


def _default(field: "dataclasses.Field[Any]") -> str:
    value = field.default
    if value in (dataclasses.MISSING, None) or value == ():
        return ""
    text = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else value
    return f" Default: `{text}`."


def _required(owner: type) -> list[str]:
    return sorted(camel(field.name) for field in dataclasses.fields(owner) if is_required(field))


def _kind(hint: Any, place: str, *, plain: bool = True) -> dict[str, Any]:
    """The schema of a kind; `place` names the field in errors."""
    plain = plain and not is_input(hint)
    kinds = choices(hint)
    if len(kinds) > 1:
        schema: dict[str, Any] = {"oneOf": [_kind(kind, place, plain=plain) for kind in kinds]}
    else:
        schema = _one_kind(kinds[0], place, plain=plain)
    return {**schema, "plain": True} if plain else schema


def _one_kind(kind: Any, place: str, *, plain: bool) -> dict[str, Any]:
    if kind in _PRIMITIVES:
        return {"type": _PRIMITIVES[kind]}
    if kind is Any:
        return {"$ref": "pulumi.json#/Any"}
    if dataclasses.is_dataclass(kind):
        return {"$ref": f"#/types/{_token(typing.cast(type, kind))}"}
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Sequence, list):
        return {"type": "array", "items": _kind(inner[0], place, plain=plain)}
    if origin in (Mapping, dict) and inner[0] is str:
        return {"type": "object", "additionalProperties": _kind(inner[1], place, plain=plain)}
    raise TypeError(f"{place}: no other language can give {kind}")


def _output(hint: Any, place: str) -> dict[str, Any]:
    """The schema of an output, `Output[T]`."""
    if typing.get_origin(hint) is not pulumi.Output:
        raise TypeError(f"{place}: must be an Output")
    return _kind(typing.get_args(hint)[0], place, plain=False)


def _token(owner: type) -> str:
    return f"{NAME}:index:{owner.__name__}"


def _sentences(docstring: str | None) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", textwrap.dedent(f"    {docstring or ''}")).strip()


def _docstrings(owner: type) -> dict[str, str]:
    """Annotated name -> the docstring behind it; empty where there is none."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement, following in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = (
                following.value.value
                if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                else ""
            )
            found[statement.target.id] = " ".join(str(text).split())
    return found
