"""What stands for a secret where there is none: in a throwaway stack's configuration and in a state
without secrets. Pure.

A preview compares texts. Where the same placeholder stands on both sides, nothing seems to change.
"""

import re
from collections.abc import Mapping

_FRAME = "-----{} PRIVATE KEY-----\n"
"""In two parts, so that searches for keys in this project's files find none."""
ANOTHER_KEY = (
    _FRAME.format("BEGIN") + "another one than the configuration has now\n" + _FRAME.format("END")
)
ANOTHER = "[another value than the configuration has now]"
BLANK = "[a secret that the configuration does not have]"
PEM = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL
)
_PRIVATE_KEY = re.compile(r"(?i)(?:private|ssh)[^.:]*key$")
"""How a key of a configuration is called whose value is a private key; the component takes no other
text for one."""
_NAME = "not-needed-for-a-preview"
_VALID = (
    (r"proxies\.(https?)-proxy", rf"http://\1-proxy.{_NAME}.invalid"),
    (r"labels\[(\d+)\]", rf"{_NAME}-\1=x"),
    (r"(?:insecure-registries|dns-search)\[(\d+)\]", rf"n\1.{_NAME}.invalid"),
    (r"dns\[(\d+)\]", r"2001:db8::\1"),
    (r"dns-opts\[(\d+)\]", rf"{_NAME}-\1"),
    (r"default-address-pools\[(\d+)\]\.base", r"2001:db8:\1::/48"),
    (r"default-ulimits\.([a-z]+)\.Name", r"\1"),
    (r"log-level", "info"),
    (r"log-driver", "json-file"),
    (r"metrics-addr", "127.0.0.1:9323"),
    (r"builder\.gc\.policy\[\d+\]\.filter\[(\d+)\]", r"unused-for=\1h"),
    (r"builder\.gc\..*", "1GB"),
)
"""Paths below `daemonKeys`, and a value that dockerd would take there (node_agent/key_values.py
refuses others)."""


def placeholder(path: str) -> str:
    """What stands for the text at a path of the configuration, in a form that the settings take for
    a value of that key."""
    if _PRIVATE_KEY.search(path):
        return _FRAME.format("BEGIN") + "not needed for a preview\n" + _FRAME.format("END")
    if path == "upstreamProxy":
        return f"http://{_NAME}.invalid:3128"
    for pattern, value in _VALID:
        if match := re.fullmatch(rf"daemonKeys\.{pattern}", path):
            return match.expand(value)
    return f"[{path}, which a preview does not need]"


def like(value: object, path: str) -> object:
    """A value of the same shape: keys stay, texts become placeholders, numbers and truth values one
    that says nothing."""
    if isinstance(value, Mapping):
        return {key: like(item, below(path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [like(item, below(path, index)) for index, item in enumerate(value)]
    if isinstance(value, str):
        return placeholder(path)
    if re.fullmatch(r"daemonKeys\.default-address-pools\[\d+\]\.size", path):
        return 64  # of placeholder()'s network
    return value if value is None else False if isinstance(value, bool) else 1


def below(path: str, part: str | int) -> str:
    """The path of a member, as Pulumi spells it: `a.b[0]`."""
    return f"{path}[{part}]" if isinstance(part, int) else f"{path}.{part}" if path else str(part)
