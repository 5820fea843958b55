"""Docker 28 and 29 on a base system, which no release of Debian has yet: where their packages come
from.

Owns two ways to have them: Docker's own packages, and those of Debian's next release on the current
one (whose systemd boots on computers with control groups of version 1, where the next one's does
not). It builds nothing: `base_systems.py` does.
"""

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

RELEASE, NEXT = "trixie", "forky"
VERSIONS = {"docker-28": "28.5", "docker-29": "29"}
"""Base system -> the beginning of the version that it has."""

DOCKERS = "https://download.docker.com/linux/debian"
KEY_SHA256 = "1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570"
"""Of the key that signs Docker's packages, as published at DOCKERS/gpg."""
SECONDS = 8
"""How long Docker's server may take to answer before the next way is tried."""

FROM_DOCKER = ("docker-ce", "docker-ce-cli", "containerd.io")
FROM_NEXT = ("docker.io", "docker-cli", "containerd", "runc")


@dataclass(frozen=True)
class Source:
    """Where packages come from: what mmdebstrap is given besides the release's own sources."""

    packages: tuple[str, ...]
    preferences: str
    """apt's preferences, so that nothing but `packages` is taken from here."""
    deb822: str
    """apt's sources; empty: the release's own with NEXT in place of its name."""
    options: tuple[str, ...] = ()
    """apt's options, one a word."""


def from_docker(
    base: str, folder: Path, url: str = DOCKERS, key_sha256: str = KEY_SHA256
) -> Source | None:
    """Docker's own packages, their key put into `folder`; None where its server cannot be reached
    or has another key."""
    try:
        with urllib.request.urlopen(f"{url}/gpg", timeout=SECONDS) as answer:
            key = answer.read(1 << 20)
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return None
    if hashlib.sha256(key).hexdigest() != key_sha256:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "docker.asc"
    path.write_bytes(key)
    return Source(
        FROM_DOCKER,
        f"Package: docker-ce docker-ce-cli\nPin: version 5:{VERSIONS[base]}.*\nPin-Priority:"
        " 1001\n",
        f"Types: deb\nURIs: {url}\nSuites: {RELEASE}\nComponents: stable\nSigned-By: {path}\n",
    )


def from_next_release() -> Source:
    """Debian's next release has 28.5."""
    return Source(
        FROM_NEXT,
        f"Package: *\nPin: release n={NEXT}\nPin-Priority: 100\n\n"
        f"Package: {' '.join(FROM_NEXT)}\nPin: release n={NEXT}\nPin-Priority: 990\n",
        "",
        # A copy of a release that is not out yet may be older than it wants to be; who signed it is
        # looked at all the same.
        ('Acquire::Check-Valid-Until "false"',),
    )


def next_of(sources: str) -> str:
    """The next release's sources, made of those of the current one as files of apt's have them
    (deb822 or a line each).

    Without updates and security, which the next release does not have.
    """
    if "\nSuites:" not in f"\n{sources}":
        lines = re.findall(rf"(?m)^deb .*? {RELEASE} .*$", sources)
        return "".join(re.sub(rf" {RELEASE} ", f" {NEXT} ", line) + "\n" for line in lines[:1])
    for stanza in re.split(r"\n\s*\n", sources):
        suites = re.search(r"(?im)^suites:(.*)$", stanza)
        if suites and RELEASE in suites[1].split():
            return re.sub(r"(?im)^suites:.*$", f"Suites: {NEXT}", stanza).strip() + "\n"
    return ""
