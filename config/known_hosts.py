"""Looks a host's key up in the text of a `known_hosts` file, as sshd(8) describes it: plain,
patterned and hashed. Pure."""

import base64
import binascii
import fnmatch
import hashlib
import hmac

from components.registry_mirror.rules import AUTHORITY, HOST_KEY_TYPES


def find_host_key(text: str, host: str, port: int = 22) -> str | None:
    """The preferred key of `host` as `type base64`, else that of an authority for it
    (`@cert-authority …`), or None.

    Revoked keys do not count.
    """
    wanted = host.lower() if port == 22 else f"[{host.lower()}]:{port}"
    found: dict[str, str] = {}
    authorities: dict[str, str] = {}
    revoked = set()
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        if (
            len(words) < 3
            or marker not in ("", "@revoked", AUTHORITY)
            or not _matches(words[0], wanted)
        ):
            continue
        if marker == "@revoked":
            revoked.add(words[2])
        else:
            (authorities if marker else found).setdefault(words[1], words[2])
    for marker, keys in (("", found), (f"{AUTHORITY} ", authorities)):
        usable = [kind for kind in HOST_KEY_TYPES if kind in keys and keys[kind] not in revoked]
        if usable:
            return f"{marker}{usable[0]} {keys[usable[0]]}"
    return None


def _matches(patterns: str, host: str) -> bool:
    if patterns.startswith("|1|"):
        try:
            _, _, salt, digest = patterns.split("|")
            expected = hmac.new(base64.b64decode(salt), host.encode(), hashlib.sha1).digest()
            return hmac.compare_digest(expected, base64.b64decode(digest))
        except (ValueError, binascii.Error):
            return False
    matched = False
    for pattern in patterns.lower().split(","):
        # Brackets mean a port here, not a set of letters as they do to fnmatch.
        if fnmatch.fnmatchcase(host, pattern.lstrip("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched
