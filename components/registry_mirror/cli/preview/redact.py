"""A stack's state without its secrets, good enough to preview against. Pure.

A preview compares texts. So each secret becomes a placeholder that the throwaway stack's
configuration has too: where the secret is the same, the placeholders are, and nothing seems to
change. What is marked as a secret and cannot be recognised is blanked, never kept; a secret within
a secret stays one, because the command plugin takes a secret and a plain text for different values.

It loses what only the computer of the last `pulumi up` knows, too: stack traces, positions in
source files, paths of plugins, and the text of our own programs, which `with_programs` gives back.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .configuration import Secrets
from .placeholders import ANOTHER, ANOTHER_KEY, BLANK, PEM, below, placeholder
from .spelling import from_base64, replaced

SIGNATURE, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
"""How a state marks a secret (pulumi sdk/go/common/resource/sig)."""
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""A value that is known only after the change (pulumi sdk/go/common/resource/plugin/rpc.go)."""

SHAPES = "shapesOfSecrets"
"""Beside `deployment`: what keys a configuration has that is a secret as a whole, with placeholders
for their values."""

_CONNECTION = frozenset(
    {"host", "user", "port", "hostKey", "dialErrorLimit", "perDialTimeout", "privateKey"}
)
"""What a connection of ours may have (pulumi-command connection.go); one with a password or a proxy
is blanked as a whole."""
_CREDENTIALS = frozenset({"ServerURL", "Username", "Secret"})
"""What the upstream's credentials are kept as (docker-credential-helpers
credentials.Credentials)."""
_PROGRAMS = ("program", "agent")
"""Keys under which a request carries packed programs (ship.py)."""
_LOCAL = ("sourcePosition", "stackTrace")
_PACKED = re.compile(r"[A-Za-z0-9+/]{200,}={0,2}")
_RUNNER = re.compile(r"^:[a-z_]+:[A-Za-z0-9+/]{200,}={0,2}$", re.MULTILINE)
"""A line of the file with which machines are reached (runner.py), which is a program as a whole."""


def without_secrets(state: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    """`pulumi stack export --show-secrets` with every secret replaced. What holds a placeholder
    stays marked.

    After `with_programs` it imports into any stack of the same name.
    """
    deployment = dict(state.get("deployment") or {})
    cleaner = _Cleaner(secrets)
    deployment["resources"] = [
        _cleaned(resource, cleaner) for resource in deployment.get("resources") or []
    ]
    manifest = deployment.get("manifest")
    if isinstance(manifest, dict):
        deployment["manifest"] = {key: value for key, value in manifest.items() if key != "plugins"}
    # An import brings a secrets provider of its own, and finishes nothing that was interrupted
    # elsewhere.
    deployment.pop("secrets_providers", None)
    deployment.pop("pending_operations", None)
    return {
        **state,
        "deployment": deployment,
        **({SHAPES: dict(secrets.shapes)} if secrets.shapes else {}),
    }


def with_programs(state: Mapping[str, Any], programs: Iterable[str]) -> dict[str, Any]:
    """A saved state as it can be imported: with those of our programs that are still the same;
    another one stays a digest."""
    text = json.dumps({key: value for key, value in state.items() if key != SHAPES})
    for program in programs:
        text = text.replace(_marker(program), json.dumps(program)[1:-1])
    restored: dict[str, Any] = json.loads(text)
    return restored


def _marker(program: str) -> str:
    return f"[a packed program, sha256 {hashlib.sha256(program.encode()).hexdigest()}]"


def _cleaned(resource: Mapping[str, Any], cleaner: "_Cleaner") -> dict[str, Any]:
    """A resource of a state. Only its values are looked into: a name or a URN with a placeholder in
    it would be another one."""
    kept = {key: value for key, value in resource.items() if key not in _LOCAL}
    for key in ("inputs", "outputs", "initErrors"):
        if key in kept:
            kept[key] = cleaner.value(kept[key])
    return kept


class _Cleaner:
    """Takes the secrets of one configuration out of values of a state."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._known = secrets.known
        self._paths = {
            secret.strip(): path for path, secret in secrets.known.items() if secret.strip()
        }

    def value(self, value: Any) -> Any:
        """A value that is not marked, or the mark itself."""
        if isinstance(value, dict):
            if value.get(SIGNATURE) == SECRET:
                return self._marked(value)
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        # A secret that got out of its wrapping is one all the same.
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        if _RUNNER.search(text):
            return _marker(text)
        opened = _opened(text)
        if _is_request(opened):
            return _spelt_as(
                text, opened, self._request(opened, strict=self._secrets.has_daemon_key)
            )
        return replaced(text, self._known)

    def _marked(self, wrapper: Mapping[str, Any]) -> Any:
        secret = json.loads(wrapper["plaintext"])
        cleaned = self._secret(secret)
        # In the throwaway stack no key of daemon.json is a secret, so there no request is one: a
        # preview can show it.
        opened = _opened(secret) if isinstance(secret, str) else None
        unmarked = (
            isinstance(opened, dict)
            and _is_request(opened)
            and ("keys" in opened or "nodes" in opened)
        )
        return cleaned if unmarked else {SIGNATURE: SECRET, "plaintext": json.dumps(cleaned)}

    def _secret(self, secret: Any) -> Any:
        """The value inside a mark: what is known to be no secret stays, known secrets by their
        placeholder, all else blanked."""
        if isinstance(secret, dict):
            if secret.get(SIGNATURE) == SECRET:
                return self._marked(secret)
            if set(secret) <= _CONNECTION:
                return {
                    key: self._key(item) if key == "privateKey" else self.value(item)
                    for key, item in secret.items()
                }
            if set(secret) == _CREDENTIALS:
                return self._credentials(secret)
        return self._secret_text(secret) if isinstance(secret, str) else BLANK

    def _secret_text(self, text: str) -> str:
        if text == UNKNOWN:
            return text
        path = self._paths.get(text.strip())
        if path is not None and text.strip():
            return placeholder(path)
        opened = _opened(text)
        if _is_request(opened):
            return _spelt_as(text, opened, self._request(opened, strict=True))
        if isinstance(opened, dict) and set(opened) == _CREDENTIALS:
            return _spelt_as(text, opened, self._credentials(opened))
        if (
            isinstance(opened, dict)
            and opened
            and all(isinstance(key, str) and PEM.search(key) for key in opened.values())
        ):
            return _spelt_as(text, opened, {node: self._key(key) for node, key in opened.items()})
        inside = from_base64(text)
        if inside is not None and inside.strip() in self._paths:
            return base64.b64encode(placeholder(self._paths[inside.strip()]).encode()).decode()
        if inside is not None and isinstance(_opened(inside), dict):
            return base64.b64encode(self._secret_text(inside).encode()).decode()
        return ANOTHER_KEY if PEM.search(text) else BLANK

    def _key(self, value: Any) -> Any:
        """A private key, which the command plugin marks once more within a connection that is
        marked."""
        if isinstance(value, dict) and value.get(SIGNATURE) == SECRET:
            return {
                SIGNATURE: SECRET,
                "plaintext": json.dumps(self._key(json.loads(value["plaintext"]))),
            }
        if value == UNKNOWN:
            return value
        path = self._paths.get(value.strip()) if isinstance(value, str) else None
        return ANOTHER_KEY if path is None else placeholder(path)

    def _credentials(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The upstream's; another account than the configuration's is shown only where that is none
        of its secrets."""
        known = {key: self._paths.get(str(value).strip()) for key, value in values.items()}
        # An account that stands beside a token which is known, and is no secret itself.
        account = _account_of(known.get("Secret") or "upstreamToken")
        open_account = account not in self._known
        return {
            key: placeholder(path)
            if (path := known[key])
            else value
            if key == "ServerURL" or (key == "Username" and open_account)
            else BLANK
            for key, value in values.items()
        }

    def _request(self, value: Any, *, strict: bool) -> Any:
        """A request to the node agent. `strict`: a key of daemon.json that is not as it is now may
        be a secret of before."""
        if isinstance(value, list):
            return [self._request(item, strict=strict) for item in value]
        if not isinstance(value, dict):
            return replaced(value, self._known) if isinstance(value, str) else value
        cleaned: dict[str, Any] = {}
        for key, item in value.items():
            if key in _PROGRAMS and isinstance(item, str) and _PACKED.fullmatch(item):
                cleaned[key] = _marker(item)
            elif key == "private_key":
                cleaned[key] = self._key(item)
            elif key == "keys" and isinstance(item, dict) and strict:
                now, shown = self._secrets.daemon_keys, self._secrets.shown_daemon_keys
                cleaned[key] = {
                    name: _as_now(part, now.get(name), shown.get(name), name)
                    for name, part in item.items()
                }
            else:
                cleaned[key] = self._request(item, strict=strict)
        return cleaned


def _account_of(token: str) -> str:
    """The path of the account that belongs to the token at a path of the configuration."""
    if token.endswith(".token"):
        return token[: -len("token")] + "username"
    return "upstreamUsername"


def _as_now(value: Any, now: Any, shown: Any, path: str) -> Any:
    """A value as the throwaway stack has it where it is the configuration's of today; else nothing
    of it but its shape."""
    if isinstance(value, dict):
        now, shown = (part if isinstance(part, dict) else {} for part in (now, shown))
        return {
            key: _as_now(item, now.get(key), shown.get(key), below(path, key))
            for key, item in value.items()
        }
    if type(value) is type(now) and value == now:
        return shown
    return (
        [_as_now(item, None, None, path) for item in value] if isinstance(value, list) else ANOTHER
    )


def _opened(text: str) -> Any:
    """What a JSON text stands for; None where it is none."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


_REQUESTS = ({"program"}, {"owner", "mirror", "keys"}, {"restart_keys", "nodes", "told"})
"""The keys by which settings for an agent are known; up to version 0.1 they had the program among
them."""


def _is_request(opened: Any) -> bool:
    return isinstance(opened, dict) and any(keys <= set(opened) for keys in _REQUESTS)


_DUMPS: tuple[Callable[[Any], str], ...] = (
    lambda value: json.dumps(value, indent=1),
    json.dumps,
    lambda value: json.dumps(value, separators=(",", ":")),
)


def _spelt_as(text: str, opened: Any, value: Any) -> str:
    """`value` as JSON, spelt as `text` spells `opened`: a preview compares the texts."""
    if value == opened:
        return text
    return next((dump for dump in _DUMPS if dump(opened) == text), json.dumps)(value)
