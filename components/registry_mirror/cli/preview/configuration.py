"""A stack's file: which of its values are secrets, at any depth, and the same file with
placeholders in their place. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from .placeholders import PEM, below, like, placeholder

KEY_FILE = "placeholder-for-the-ssh-key"


@dataclass(frozen=True)
class Conventions:
    """What is known of a program's configuration beyond what its file says: the names that the
    programs of this project use, which a program of somebody else may use or not."""

    project: str
    """Name of the Pulumi project, which messages leave out in front of its own keys."""
    secret: frozenset[str] = frozenset({"sshPrivateKey", "upstreamToken"})
    """Keys whose value is a secret even where it was entered in the clear."""
    objects: frozenset[str] = frozenset({"daemonKeys"})
    """Keys whose value is an object, also where it is a secret as a whole."""
    carried: frozenset[str] = frozenset({"upstreamProxy"})
    """Keys whose value, where it is a secret, has another resource carry it: it must be one in the
    throwaway stack too."""
    key_files: frozenset[str] = frozenset({"sshPrivateKeyFile"})
    """Keys that name a file with a private key, which is never read in a preview."""


@dataclass(frozen=True)
class Secrets:
    """The secrets of a configuration as it is now, and what stands for them."""

    known: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Path -> secret text, like `daemonKeys.proxies.http-proxy`. Another project's keys have its
    name in front."""
    daemon_keys: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The keys of daemon.json in the clear, secrets included."""
    shown_daemon_keys: Mapping[str, Any] = field(default_factory=dict)
    """The same with a placeholder in place of each secret: what a preview's own program has."""
    shapes: Mapping[str, Any] = field(default_factory=dict)
    """Full key -> value with placeholders, for keys whose secrets shape what a preview declares."""

    @property
    def has_daemon_key(self) -> bool:
        """Whether a value in the keys of daemon.json is a secret."""
        return self.daemon_keys != self.shown_daemon_keys


@dataclass(frozen=True)
class Redacted:
    """A stack's file with placeholders in it."""

    config: dict[str, Any]
    key_file: str | None
    """The file with the SSH key that it named; it names KEY_FILE now."""
    notes: list[str]
    """What a preview of it cannot know."""
    marked: Mapping[str, str] = field(default_factory=dict)
    """Full key -> placeholder, of what must be set as a secret there too, because something else is
    declared where it is one."""


class NoStackFile(ValueError):
    """The text is not a stack's file; the message says why."""


def without_secrets(text: str, shapes: Mapping[str, Any], conventions: Conventions) -> Redacted:
    """A stack's file with placeholders; `shapes` as `secrets_of` found them. Raises NoStackFile."""
    values, notes, marked, key_file = _values(text), [], {}, None
    for name, value in list(values.items()):
        path = _path(name, conventions)
        if _must_be_secret(path, value, conventions):
            values[name] = placeholder(path)
        elif path in conventions.carried and _is_secret(value):
            marked[name] = placeholder(path)
            del values[name]
        elif _is_secret(value) and name not in shapes and path in conventions.objects:
            values[name] = {}
            notes.append(
                f"{path} is a secret as a whole, so that without a saved state its keys are not"
                " known"
            )
        else:
            values[name] = _in_the_open(value, path, shapes.get(name))
        if path in conventions.key_files and isinstance(value, str) and value:
            key_file, values[name] = value, KEY_FILE
    return Redacted({"config": values}, key_file, notes, marked)


def secrets_of(
    text: str,
    values: Mapping[str, str],
    read_file: Callable[[str], str],
    conventions: Conventions,
) -> Secrets:
    """The secrets of a stack's file. `values`: full key -> value in the clear, objects as JSON.
    Raises NoStackFile, OSError."""
    known: dict[str, str] = {}
    shapes: dict[str, Any] = {}
    daemon_keys: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for name, marked in _values(text).items():
        if name not in values:
            continue
        path = _path(name, conventions)
        value = _opened(values[name], marked, path, conventions)
        if _must_be_secret(path, marked, conventions):
            known[path] = str(value)
            continue
        instead = _instead(marked, value, path, known)
        if path in conventions.objects and isinstance(value, dict):
            daemon_keys, shown = value, instead
        if instead != value and isinstance(value, dict | list):
            shapes[name] = instead
    for name, value in values.items():
        path = _path(name, conventions)
        if path in conventions.key_files and value:
            known[path.removesuffix("File")] = read_file(value)
    return Secrets(known, daemon_keys, shown, shapes)


def _opened(value: str, marked: object, path: str, conventions: Conventions) -> Any:
    """A value as Pulumi hands it over, objects and lists as such; a secret is one where its text
    is."""
    if not isinstance(marked, dict | list):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    if not _is_secret(marked) or path in conventions.objects:
        return parsed
    return parsed if isinstance(parsed, dict | list) else value


def _instead(marked: object, value: Any, path: str, known: dict[str, str]) -> Any:
    """The value with placeholders where `marked`, the same value in the stack's file, says that it
    is a secret."""
    if _is_secret(marked):
        known.update(_texts(value, path))
        return like(value, path)
    if isinstance(marked, dict) and isinstance(value, dict):
        return {
            key: _instead(marked.get(key), item, below(path, key), known)
            for key, item in value.items()
        }
    if isinstance(marked, list) and isinstance(value, list) and len(marked) == len(value):
        return [
            _instead(mark, item, below(path, n), known)
            for n, (mark, item) in enumerate(zip(marked, value, strict=True))
        ]
    return value


def _texts(value: object, path: str) -> dict[str, str]:
    if isinstance(value, dict):
        return {
            where: text
            for key, item in value.items()
            for where, text in _texts(item, below(path, key)).items()
        }
    if isinstance(value, list):
        return {
            where: text
            for n, item in enumerate(value)
            for where, text in _texts(item, below(path, n)).items()
        }
    return {path: value} if isinstance(value, str) else {}


def _values(text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text) or {}
        if not isinstance(content, dict):
            raise NoStackFile("it is no mapping")
        config = content.get("config") or {}
        if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
            raise NoStackFile("its config is no mapping")
    except yaml.YAMLError as error:
        raise NoStackFile(str(error)) from None
    return dict(config)


def _path(name: str, conventions: Conventions) -> str:
    """How a key is called in messages: without this project's name in front."""
    return name.removeprefix(f"{conventions.project}:")


def _in_the_open(value: Any, path: str, shape: Any) -> Any:
    """A value of the file with the saved state's placeholder in place of each secret, or else the
    one for a text."""
    if _is_secret(value):
        return placeholder(path) if shape is None else shape
    if isinstance(value, dict):
        shapes = shape if isinstance(shape, dict) else {}
        return {
            key: _in_the_open(item, below(path, key), shapes.get(key))
            for key, item in value.items()
        }
    if isinstance(value, list):
        shapes = dict(enumerate(shape)) if isinstance(shape, list) else {}
        return [_in_the_open(item, below(path, n), shapes.get(n)) for n, item in enumerate(value)]
    return value


def _must_be_secret(path: str, value: object, conventions: Conventions) -> bool:
    """Whether a value is one even where somebody has entered it in the clear."""
    if isinstance(value, str) and PEM.search(value):
        return True
    return path in conventions.secret and bool(value)


def _is_secret(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {"secure"}
