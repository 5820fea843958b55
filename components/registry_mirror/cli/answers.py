"""What a node answers, taken for what it is: text from a machine that may have been taken over.
Pure.

Owns the shape of each answer. One that has another shape is the fault of that node alone, and no
string of it reaches a terminal with control characters in it.
"""

import json
from collections.abc import Mapping
from typing import Any

from ..plain_text import one_line

LOOK: Mapping[str, object] = {
    "engine": str,
    "way": str,
    "listed": bool,
    "used": bool,
    "recorded": bool,
    "edited": bool,
    "due": [str],
    "faults": [str],
    "hazards": [str],
    "mirror_faults": [str],
    "swarm_faults": [str],
    "id": str,
    "registries": [str],
    "guard_out": bool,
}
"""Of `node.look` (node_agent/node.py): a list holds the kind of its items."""
MEMBER: Mapping[str, object] = {
    "id": str,
    "name": str,
    "address": str,
    "role": str,
    "availability": str,
    "ready": bool,
    "reachable": bool,
    "leader": bool,
    "held": str,
    "version": int,
    "engine": str,
    "os": str,
    "labels": {str: str},
    "guarded": bool,
}
"""Of each node in `members.view` (node_agent/members.py)."""
UPGRADE: Mapping[str, object] = {"engine": str, "way": str, "hazards": [str]}
"""Of `upgrade.look` (node_agent/upgrade.py)."""
STATS: Mapping[str, object] = {
    "registry": {str: int},
    "varnish": {str: int},
    "quota": {str: int},
    "cached": int,
}
"""Of `stats.look` (node_agent/stats.py): a mapping holds the kinds of its keys and values. Each may
be null."""
WARMED: Mapping[str, object] = {
    "name": str,
    "outcome": str,
    "reason": str,
    "digest": str,
    "platforms": [str],
    "blobs": int,
    "size": int,
    "fetched": int,
    "seconds": int,
    "quota": {str: int},
}
"""Of each image in `warm.run` (node_agent/warm.py)."""
RUNNING: Mapping[str, object] = {"image": str, "services": [str]}
"""Of each image in `warm.running`."""
PULLED: Mapping[str, object] = {
    "image": str,
    "outcome": str,
    "reason": str,
    "seconds": int,
    "size": int,
}
"""Of each image in `prepull.run` (node_agent/prepull.py)."""
PURGED: Mapping[str, object] = {
    "here": bool,
    "tags": [str],
    "manifests": int,
    "layers": int,
    "bytes": int,
}
"""Of `purge.look` and `purge.run` (node_agent/purge.py)."""
ROUTE: Mapping[str, object] = {
    "status": int,
    "digest": str,
    "age": int,
    "registry": str,
    "upstream": str,
    "fault": str,
    "refused": str,
    "proxy": str,
    "copies": [str],
    "store": str,
}
"""Of `route.look` (node_agent/route.py)."""
USAGE: Mapping[str, object] = {
    "registry": str,
    "counters": {str: int},
    "hours": int,
    "requests": int,
    "hits": int,
    "misses": int,
    "served_bytes": int,
    "fetched_bytes": int,
    "evicted_layers": int,
    "evicted_bytes": int,
    "cached_bytes": int,
    "oldest_use": int,
    "top": {str: int},
}
"""Of each registry in `usage.look` (node_agent/usage.py)."""

_ITEMS = 200
"""Items of a list or mapping at most; nobody reads more."""
_MEMBERS = 10_000
"""Nodes of a swarm."""
_LARGEST = 1 << 62
"""Of a number: bytes on the largest disk are far below it, and it still has a sane width in a
table."""


class BadAnswer(Exception):
    """The answer is not one of the node agent's; the message says what is wrong with it."""


def parse(text: str, shape: Mapping[str, object], *, nullable: bool = False) -> dict[str, Any]:
    """The answer's fields as `shape` says. Raises BadAnswer."""
    return _object(_read(text), shape, nullable)


def parse_list(text: str, shape: Mapping[str, object]) -> list[dict[str, Any]]:
    """As `parse`, for a list of such answers. Raises BadAnswer."""
    answer = _read(text)
    if not isinstance(answer, list) or len(answer) > _MEMBERS:
        raise BadAnswer("it answered with JSON that is not a list; look at that machine")
    return [_object(entry, shape, nullable=False) for entry in answer]


def _read(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadAnswer(
            "it answered with something that is not JSON; look at that machine"
        ) from None


def _object(answer: object, shape: Mapping[str, object], nullable: bool) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise BadAnswer("it answered with JSON that is not an object; look at that machine")
    for field in [*shape, *answer]:
        if field not in shape or field not in answer:
            problem = "has no field" if field in shape else "has an unknown field"
            raise BadAnswer(f"its answer {problem} {one_line(field, 40)}; look at that machine")
    return {
        field: None if nullable and answer[field] is None else _checked(answer[field], kind, field)
        for field, kind in shape.items()
    }


def _checked(value: object, kind: object, field: str) -> Any:
    if isinstance(kind, list):
        if isinstance(value, list) and len(value) <= _ITEMS:
            return [_checked(item, kind[0], field) for item in value]
    elif isinstance(kind, dict):
        ((key_kind, value_kind),) = kind.items()
        if isinstance(value, dict) and len(value) <= _ITEMS:
            return {
                _checked(key, key_kind, field): _checked(item, value_kind, field)
                for key, item in value.items()
            }
    elif kind is str and isinstance(value, str):
        return one_line(value)
    elif isinstance(value, bool):  # which is an int to Python
        if kind is bool:
            return value
    elif kind is int and isinstance(value, int) and 0 <= value <= _LARGEST:
        return value
    raise BadAnswer(f"the field {field} of its answer is of another kind; look at that machine")
