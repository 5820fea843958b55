"""A stack's state without its secrets, good enough to preview against. Pure.

A preview compares texts. So each secret becomes a placeholder that `room.py` enters into the stack's configuration too: where the
secret is the same, the placeholders are, and nothing seems to change. What cannot be recognised is blanked, never kept.
"""

import base64
import binascii
import copy
import json
import re
from collections.abc import Mapping
from typing import Any

SIGNATURE, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
"""How a state marks a secret (pulumi sdk/go/common/resource/sig)."""

_FRAME = "-----{} PRIVATE KEY-----\n"
"""In two parts, so that searches for keys in this project's files find none."""
ANOTHER_KEY = _FRAME.format("BEGIN") + "another one than the configuration has now\n" + _FRAME.format("END")
BLANK = "[a secret that the configuration does not have]"
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL)
_CONNECTION = frozenset({"host", "user", "port", "hostKey", "dialErrorLimit", "perDialTimeout", "privateKey"})
"""What a connection of ours may have (pulumi-command connection.go); one with a password or a proxy is blanked as a whole."""


def placeholder(key: str) -> str:
    """What stands for the secret of a configuration key; for the SSH key in a form that the settings take for one."""
    if key == "sshPrivateKey":
        return _FRAME.format("BEGIN") + "not needed for a preview\n" + _FRAME.format("END")
    return f"[{key}, which a preview does not need]"


def without_secrets(state: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    """`pulumi stack export --show-secrets` with every secret replaced. `known`: key -> the secret that the configuration has now.

    What it returns imports into any stack of the same name. Its secrets stay marked as such.
    """
    found = copy.deepcopy(dict(state))
    deployment = found.get("deployment") or {}
    deployment["resources"] = [_cleaned(resource, known) for resource in deployment.get("resources") or []]
    # Whoever imports it brings a secrets provider of his own, and finishes nothing that was interrupted elsewhere.
    deployment.pop("secrets_providers", None)
    deployment.pop("pending_operations", None)
    return {**found, "deployment": deployment}


def _cleaned(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SECRET:
            return {SIGNATURE: SECRET, "plaintext": json.dumps(_blanked(json.loads(value["plaintext"]), known))}
        return {key: _cleaned(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, known) for item in value]
    # A secret that got out of its wrapping is one all the same.
    return _replaced(value, known) if isinstance(value, str) else value


def _blanked(secret: Any, known: Mapping[str, str]) -> Any:
    """The value inside a secret: known secrets by their placeholder, all else blanked."""
    if isinstance(secret, dict) and set(secret) <= _CONNECTION:
        return {**secret, "privateKey": _replaced(str(secret.get("privateKey", "")), known, otherwise=ANOTHER_KEY)}
    if isinstance(secret, str):
        return _replaced(secret, known, otherwise=BLANK)
    return BLANK


def _replaced(text: str, known: Mapping[str, str], otherwise: str | None = None) -> str:
    """`text` with known secrets replaced, also where it is base64; `otherwise` if there are none in it (None: as it is)."""
    found = _in_plain(text, known)
    if found != text:
        return found
    opened = _from_base64(text)
    inside = _in_plain(opened, known)
    if inside != opened:
        return base64.b64encode(inside.encode()).decode()
    return _PEM.sub(ANOTHER_KEY, text) if otherwise is None else otherwise


def _in_plain(text: str, known: Mapping[str, str]) -> str:
    """`text` with known secrets replaced, also as they are spelt inside JSON."""
    for key, secret in known.items():
        text = text.replace(secret, placeholder(key)).replace(_in_json(secret), _in_json(placeholder(key)))
    return text


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _from_base64(text: str) -> str:
    """What base64 stands for; empty where it is none."""
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
