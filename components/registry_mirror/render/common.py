"""Small texts and numbers that follow from the args: URL, digests, waves. Pure.

No SDK and no I/O: everything here can be called, and is tested, without an engine. The registry's,
Varnish's and Traefik's own texts are in `registry.py`, `varnish.py` and `traefik.py`.
"""

import hashlib
from collections.abc import Sequence


def mirror_url(hostname: str) -> str:
    """What nodes enter in `registry-mirrors`: https, host, nothing else (docker before 25 refuses a
    path)."""
    return f"https://{hostname}"


def digest(*texts: str) -> str:
    """Short name for texts."""
    return "sha256:" + hashlib.sha256("\0".join(texts).encode()).hexdigest()


def digest_word(text: str) -> str:
    """The last word of a container's command, which its script ignores. It carries the digest of
    the configuration.

    When it changes, Swarm makes a new task, which reads the new file. In a container label it could
    not change in place: the docker plugin replaces a service whose container labels change.
    """
    return f"DIGEST={text}"


def waves(names: Sequence[str], manager: str, max_parallel: int) -> list[list[str]]:
    """The order of the roll-out: one canary, then at most `max_parallel` at a time.

    The canary is the first node that is not the manager: if anything goes wrong there, the swarm
    still has its manager.
    """
    canary = next((name for name in names if name != manager), names[0])
    rest = [name for name in names if name != canary]
    return [
        [canary],
        *(rest[start : start + max_parallel] for start in range(0, len(rest), max_parallel)),
    ]


def guard_name(service: str) -> str:
    """Name of the guard's service."""
    return f"{service}-guard"
