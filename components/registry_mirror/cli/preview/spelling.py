"""Finds known secrets in a text, in every spelling in which they get there, and puts placeholders
in their place. Pure."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

from .placeholders import ANOTHER_KEY, PEM, placeholder

SHORTEST = 6
"""Characters of a secret that is looked for inside other texts. A shorter one is part of ordinary
words, and would garble them; where it stands alone, or at the place of its key, it is replaced all
the same (`redact.py`)."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")


def replaced(text: str, known: Mapping[str, str]) -> str:
    """`text` with every known secret in it replaced, and with every private key that is not
    known."""
    pairs = _spellings(known)
    if pairs:
        # The longest first and all in one pass, so that no placeholder is looked into.
        anyone = re.compile(
            "|".join(re.escape(spelt) for spelt in sorted(pairs, key=len, reverse=True))
        )
        text = anyone.sub(lambda match: pairs[match[0]], text)
        text = _BASE64.sub(lambda match: _in_base64(match[0], known), text)
    return PEM.sub(lambda match: _another_key(match[0]), text)


def _another_key(key: str) -> str:
    """What stands for a private key that nobody knows, spelt as that one is; our own placeholder
    stays."""
    spell = str if "\n" in key.strip() else in_json
    ours = spell(placeholder("sshPrivateKey").strip())
    return (
        key
        if key.strip() == ours
        else spell(ANOTHER_KEY if key.endswith("\n") else ANOTHER_KEY.rstrip())
    )


def _spellings(known: Mapping[str, str]) -> dict[str, str]:
    """Secret as it may be spelt -> placeholder in the same spelling."""
    pairs: dict[str, str] = {}
    for path, secret in known.items():
        for whole in dict.fromkeys((secret, secret.strip())):
            if len(whole) < SHORTEST:
                continue
            for spell in (
                str,
                in_json,
                lambda text: in_json(in_json(text)),
                quote,
                lambda text: quote(text, safe=""),
                quote_plus,
            ):
                pairs.setdefault(spell(whole), spell(placeholder(path)))
    return pairs


def in_json(text: str) -> str:
    """`text` as it stands between the quotes of a JSON string."""
    return json.dumps(text)[1:-1]


def _in_base64(token: str, known: Mapping[str, str]) -> str:
    """A base64 text with what is inside replaced; as it is where it holds none, or is none."""
    opened = from_base64(token)
    if opened is None:
        return token
    inside = replaced(opened, known)
    return token if inside == opened else base64.b64encode(inside.encode()).decode()


def from_base64(text: str) -> str | None:
    """The text that base64 (also with the alphabet for URLs, also without padding) stands for; None
    where it is none."""
    try:
        data = base64.b64decode(
            text.rstrip("=").translate(_URL_ALPHABET) + "=" * (-len(text.rstrip("=")) % 4),
            validate=True,
        )
        return data.decode()
    except (binascii.Error, ValueError):
        return None


_URL_ALPHABET = str.maketrans("-_", "+/")
