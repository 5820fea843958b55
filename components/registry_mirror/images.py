"""Names of images, as people and services write them, and where the mirror has them. Pure.

Owns the one reading of `traefik:v3.7`, `ghcr.io/a/b@sha256:…` and `mirror.example.com/ghcr.io/a/b`
(docker's own: distribution/reference normalize.go and regexp.go), and the path at the mirror that
follows from the registries that it serves.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .render.clients import Served
from .render.registries import DOCKER_HUB, HUB_HOSTS, path_of

LATEST = "latest"
"""What docker takes where neither a tag nor a digest is written."""
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?")
_LONGEST = 255
"""Characters of a repository with its registry (distribution/reference NameTotalLengthMax)."""


class BadImage(ValueError):
    """What was written names no image, or none that the mirror has; the message says what to do."""


@dataclass(frozen=True)
class Image:
    """An image by its full name."""

    registry: str
    """`docker.io` for everything that names no registry."""
    repository: str
    """Without the registry: `library/traefik`."""
    tag: str = ""
    digest: str = ""

    @property
    def reference(self) -> str:
        """By which a registry is asked: the digest, else the tag."""
        return self.digest or self.tag

    @property
    def familiar(self) -> str:
        """As docker shows it: without `docker.io/library/`."""
        name = f"{self.registry}/{self.repository}"
        if self.registry == DOCKER_HUB:
            name = self.repository.removeprefix("library/")
        tag = f":{self.tag}" if self.tag else ""
        return name + tag + (f"@{self.digest}" if self.digest else "")

    def by_digest(self, digest: str) -> str:
        """The name by which docker pulls exactly this digest."""
        name = self.familiar.partition("@")[0]
        name = name.removesuffix(f":{self.tag}") if self.tag else name
        return f"{name}@{digest}"


@dataclass(frozen=True)
class MirroredImage:
    """An image, and where the mirror has it."""

    image: Image
    written: Image
    """As it was written: with the mirror's own name, where that was in front."""
    registry: str
    """First element of the paths of its registry at the mirror; empty for the one at the root."""
    fallback: bool
    """Whether docker may ask the registry itself where the mirror does not answer."""

    @property
    def is_explicit(self) -> bool:
        """Whether it was written with the mirror's own name in front."""
        return self.written != self.image

    @property
    def repository(self) -> str:
        """Its path at the mirror, without `/v2/`: `ghcr.io/owner/app`."""
        return "/".join(filter(None, [self.registry, self.image.repository]))


def parse(text: str) -> Image:
    """Read a name as docker does. Raises BadImage."""
    if "://" in text:
        raise BadImage(f"is a URL; write {text.partition('://')[2]}")
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise BadImage("has something else than a digest behind the @; write sha256: and 64 digits")
    host, slash, rest = name.partition("/")
    is_host = bool(slash) and ("." in host or ":" in host or host == "localhost")
    registry, path = (host.lower(), rest) if is_host else (DOCKER_HUB, name)
    repository, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise BadImage("has no tag behind the colon that a registry takes; write name:tag")
    if re.fullmatch("[0-9a-f]{64}", text):
        raise BadImage("is the id of an image; write its name")
    if repository != repository.lower():
        raise BadImage(f"has capitals in its name, which docker refuses; write {text.lower()}")
    if (is_host and not _HOST.fullmatch(host)) or not all(
        _PART.fullmatch(part) for part in repository.split("/")
    ):
        raise BadImage("must be an image: [registry/]name[:tag][@sha256:…]")
    if len(f"{registry}/{repository}") > _LONGEST:
        raise BadImage(f"has a name of more than {_LONGEST} characters, which no registry takes")
    if registry in HUB_HOSTS:
        registry = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    return Image(registry, repository, tag if colon or digest else LATEST, digest)


def at_mirror(image: Image, served: Sequence[Served]) -> MirroredImage:
    """Where the mirror has an image. Raises BadImage where its registry is not cached.

    Args:
        image: As it was written; with the mirror's own name it becomes the image that is meant.
        served: What the mirror serves, the registry at its root first.
    """
    host = served[0].prefix.partition("/")[0]
    written = image
    if image.registry == host:
        first, _, rest = image.repository.partition("/")
        named = next((each for each in served[1:] if rest and path_of(each.name) == first), None)
        meant = named or served[0]
        image = Image(meant.name, rest if named else image.repository, image.tag, image.digest)
    for each in served:
        if each.name == image.registry:
            path = each.prefix.partition("/")[2]
            return MirroredImage(image, written, path, each.fallback)
    names = ", ".join(each.name for each in served)
    raise BadImage(
        f"is of {image.registry}, which this mirror does not cache; it caches {names}"
        " (add it to registries)"
    )
