"""What a manifest says: which manifests, configuration and layers a pull on some machines fetches.
Pure.

Owns the choice of platforms as docker makes it: an entry of an index counts by operating system and
architecture, and on ARM the newest variant that the machine runs (containerd platforms/compare.go).
"""

import hashlib
import json
import re
from typing import Any, Dict, Iterable, List, NamedTuple

MANIFEST_BYTES = 4 * 1024 * 1024
"""A registry takes none that is larger (distribution registry/handlers/manifests.go
maxManifestBodySize)."""

DIGEST = re.compile("sha256:[0-9a-f]{64}")

_ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "arm/v7",
    "armv6l": "arm/v6",
    "i386": "386",
    "i686": "386",
}
"""uname's names, which a node of the swarm shows -> Go's, which images have. Others are the same
for both (ppc64le, s390x, riscv64)."""
_ARM = {"arm/v7": ("v7", "", "v6", "v5"), "arm/v6": ("v6", "v5")}
"""Variants that such a machine runs, the best first; none means v7 (containerd
platforms/database.go normalizeArch)."""


class BadManifest(ValueError):
    """A body that is no manifest; the message says why."""


class Blob(NamedTuple):
    """A layer or a configuration."""

    digest: str
    size: int


def platform_of(operating_system: str, architecture: str) -> str:
    """`linux/arm/v7` of what a node of the swarm shows (`Description.Platform`)."""
    return "%s/%s" % (
        operating_system.lower(),
        _ARCHITECTURES.get(architecture.lower(), architecture.lower()),
    )


def digest_of(body: bytes) -> str:
    """The name of a manifest or blob."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


def read(body: bytes) -> Dict[str, Any]:
    """A manifest, parsed. Raises BadManifest."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise BadManifest("it is no JSON") from None
    if not isinstance(found, dict):
        raise BadManifest("it is no JSON object")
    return found


def is_index(manifest: Dict[str, Any]) -> bool:
    """Whether it names manifests, and no layers."""
    return isinstance(manifest.get("manifests"), list)


def chosen(index: Dict[str, Any], platforms: Iterable[str]) -> "Dict[str, List[str]]":
    """Digest of each manifest that machines of these platforms pull -> the platforms. Raises
    BadManifest."""
    found: Dict[str, List[str]] = {}
    for platform in platforms:
        wanted, _, arm = platform.partition("/")[2].partition("/")
        variants = _ARM.get("%s/%s" % (wanted, arm), ())
        best = None
        for entry in index["manifests"]:
            described = _object(entry, "an entry")
            its = _object(described.get("platform") or {}, "a platform")
            same = (its.get("os"), its.get("architecture")) == (platform.partition("/")[0], wanted)
            variant = str(its.get("variant") or "")
            if not same or (variants and variant not in variants):
                continue
            rank = variants.index(variant) if variants else 0
            if best is None or rank < best[0]:
                best = rank, _digest(described)
        if best is not None:
            found.setdefault(best[1], []).append(platform)
    return found


def blobs(manifest: Dict[str, Any]) -> List[Blob]:
    """Configuration and layers of an image, each once; none that another place than the registry
    has. Raises BadManifest."""
    config, layers = manifest.get("config"), manifest.get("layers")
    if not isinstance(config, dict) or not isinstance(layers, list):
        raise BadManifest("it is neither an index nor the manifest of an image [RM271]")
    found: Dict[str, Blob] = {}
    for entry in [config, *layers]:
        described = _object(entry, "a layer")
        # Layers of Windows, which clients fetch from the URLs that it names.
        if described.get("urls") or "foreign" in str(described.get("mediaType")):
            continue
        size = described.get("size")
        if not isinstance(size, int) or size < 0:
            raise BadManifest("a layer has no size")
        found.setdefault(_digest(described), Blob(_digest(described), size))
    return list(found.values())


def _digest(entry: Dict[str, Any]) -> str:
    digest = entry.get("digest")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise BadManifest("it names a digest that is none [RM272]")
    return digest


def _object(value: object, what: str) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise BadManifest("%s in it is no object" % what)
    return value
