"""The keys of daemon.json that can be managed besides the mirror: what they hold, and whether a
reload changes them. Pure.

A key that is not here is refused: a wrong `data-root`, `hosts` or `tls…` loses data or makes the
daemon unreachable, and is no part of a registry mirror. What a reload takes over is that of moby
daemon/reload.go. `experimental` was tried: 26.1.5 needs a restart, and so does 20.10.24, unless it
was started without a daemon.json (its flags and settings then share their memory).
"""

import json
import re
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from . import key_values

Version = Tuple[int, int, int]


class Key(NamedTuple):
    """`default` is what dockerd has without the key; the proof is where the running daemon shows
    what it has."""

    kind: type
    default: Any
    reloads: bool
    """Whether a reload takes a change over; otherwise only a start does."""
    in_info: Optional[Callable[[Dict[str, Any]], Any]] = None
    """From `docker info`."""
    in_event: Optional[Callable[[str], Any]] = None
    """From the attribute of the same name of the event that dockerd emits when it has accepted a
    reload."""


def _listed(text: str) -> Any:
    return sorted(json.loads(text) or [])


def _features(text: str) -> Any:
    """Go prints a map as `map[a:true b:false]`."""
    return {
        name: value == "true"
        for name, _, value in (word.partition(":") for word in text[4:-1].split())
    }


KEYS = {
    "debug": Key(bool, False, True, lambda info: bool(info.get("Debug"))),
    "labels": Key(list, [], True, lambda info: sorted(info.get("Labels") or [])),
    "insecure-registries": Key(list, [], True, in_event=_listed),
    "max-concurrent-downloads": Key(int, 3, True, in_event=int),
    "max-concurrent-uploads": Key(int, 5, True, in_event=int),
    "max-download-attempts": Key(int, 5, True, in_event=int),
    "shutdown-timeout": Key(int, 15, True, in_event=int),
    "features": Key(dict, {}, True, in_event=_features),
    "experimental": Key(bool, False, False, lambda info: bool(info.get("ExperimentalBuild"))),
    "log-driver": Key(str, "json-file", False, lambda info: info.get("LoggingDriver")),
    "log-opts": Key(dict, {}, False),
    "log-level": Key(str, "info", False),
    "dns": Key(list, [], False),
    "dns-opts": Key(list, [], False),
    "dns-search": Key(list, [], False),
    "default-address-pools": Key(list, [], False),
    "default-ulimits": Key(dict, {}, False),
    "builder": Key(dict, {}, False),
    "proxies": Key(dict, {}, False),
    "metrics-addr": Key(str, "", False),
    "userland-proxy": Key(bool, True, False),
    "init": Key(bool, False, False),
}

NEVER = {
    "registry-mirrors": "it is what this program is about; the mirror is entered by itself [RM029]",
    "live-restore": "dockerd does not start with it on a node of a swarm (moby"
    " daemon/config/config_linux.go) [RM030]",
    "authorization-plugins": "a wrong one ends dockerd at a reload [RM031]",
}
"""Keys with a reason of their own; all others that are not in KEYS share one."""

A_KIND = {
    bool: "true or false",
    int: "a whole number",
    str: "a text",
    list: "a list",
    dict: "a mapping",
}


def version_of(text: str) -> Version:
    """`26.1.5+dfsg1` as numbers; what cannot be read counts as newer than all."""
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (
        (int(numbers.group(1)), int(numbers.group(2)), int(numbers.group(3) or 0))
        if numbers
        else (998, 0, 0)
    )


def fault(key: str, value: Any) -> Optional[str]:
    """Why `key` cannot be managed with this value; None if it can."""
    if key in NEVER:
        return "cannot be handed over: " + NEVER[key]
    if key not in KEYS:
        return (
            "cannot be handed over, because a wrong value could cost the node; those that can are "
            "%s [RM032]"
        ) % ", ".join(KEYS)
    kind = KEYS[key].kind
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return "must be " + A_KIND[kind]
    if isinstance(value, int) and not isinstance(value, bool) and value < 1:
        return "must be 1 or more"
    return key_values.fault(key, value)


def comparable(value: Any) -> Any:
    """dockerd shows lists of names in an order of its own."""
    return (
        sorted(value)
        if isinstance(value, list) and all(isinstance(item, str) for item in value)
        else value
    )
