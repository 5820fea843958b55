"""The component's faults in the spelling of a stack's file: `allow_from` is `allowFrom` there.
Pure.

The component speaks Python, because that is what its other callers write. Whatever of a fault names
a setting is translated here: its key, and the names in its words.
"""

import re
from dataclasses import replace

from components.registry_mirror import Fault
from config.keys import BASTION_KEYS, KEYS, NODE_KEYS

_NAMES = {
    entry.field: key
    for table in (BASTION_KEYS, NODE_KEYS, KEYS)
    for key, entry in table.items()
    if entry.field
} | {"private_key": "sshPrivateKey", "upstream_ca": "upstreamCa"}
"""Field of the args -> key of a stack's file. Two are not among the keys' fields, because
`settings.py` makes something of them first."""
_IN_WORDS = re.compile(
    r"(?<![\w.-])("
    + "|".join(sorted((name for name in _NAMES if "_" in name), key=len, reverse=True))
    + r")(?!\w)"
)
"""Names with an underscore: no English word is one."""


def in_a_stacks_file(fault: Fault) -> Fault:
    """The same fault for somebody who writes a stack's file. Its value stays as it is."""
    return replace(fault, key=_key(fault.key), wrong=_IN_WORDS.sub(_name, fault.wrong))


def _key(key: str) -> str:
    """`nodes[2].host_key` is `nodes[2].hostKey`. Only the names of settings: what stands below
    `daemon_keys` or `traefik_labels` is the user's own."""
    top, dot, below = key.partition(".")
    name, bracket, index = top.partition("[")
    inside = (
        below
        if name in ("daemon_keys", "traefik_labels")
        else ".".join(_NAMES.get(part, part) for part in below.split("."))
    )
    return _NAMES.get(name, name) + bracket + index + dot + inside


def _name(found: "re.Match[str]") -> str:
    return _NAMES[found[1]]
