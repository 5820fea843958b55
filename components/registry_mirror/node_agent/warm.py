"""Has the mirror fetch images before a node asks for them: each is read through the mirror, over
HTTPS, to nothing, for the platforms that the swarm's nodes have.

Runs on a manager and changes nothing there. A layer that the registry has is not read: it says so
in its header Cache-Control, which it sends with what is in its own store and with nothing else
(distribution registry/storage/blobserver.go; registry/proxy/proxyblobstore.go has none). A HEAD
would not be cheaper: for a layer that is missing the mirror fetches all of it then, too. What is
read is checked against its SHA-256.

One image that fails keeps no other one from being warmed.
"""

import hashlib
import http.client
import json
import sys
import time
from typing import Any, Dict, List, NamedTuple, Optional

from ..answer import printed_complaint
from . import daemon_json, dockerd_view, engine, files, manifests, probe, stats
from .files import Failed
from .manifests import BadManifest, Blob
from .verb_request import RunningRequest, WarmImage, WarmRequest

READ_SECONDS = 70
"""For the next bytes; Varnish itself waits 60 s for its registry (`container/mirror.vcl`)."""
CHUNK = 256 * 1024
TRIES = 2
"""For a body that breaks off."""
PATIENCE = 120
"""Seconds for which one layer is read more slowly than it comes; what is too fast by then is made
up for before the next layer. A registry gives up writing one after `cacheWriteSeconds`, and holds
room for it in Varnish meanwhile."""


class Warmed(NamedTuple):
    """What came of one image."""

    name: str
    outcome: str
    """`warm`, `failed` or `skipped`."""
    reason: str = ""
    """Why it is not warm; for one that is, what its nodes should know."""
    digest: str = ""
    """Of its index, or of its manifest where it has none: what docker shows."""
    platforms: "List[str]" = []  # noqa: RUF012 # nobody appends to it
    blobs: int = 0
    """Layers and configurations."""
    size: int = 0
    """Bytes of these."""
    fetched: int = 0
    """Bytes of them that the registry did not have."""
    seconds: int = 0
    quota: "Dict[str, int]" = {}  # noqa: RUF012 # nobody changes it
    """Docker Hub's, before this image; empty where it was not asked for, or is not known."""


class _NotWarmed(Exception):
    """Why an image is not in the cache now; ends that image alone."""


class _OutOfTime(Exception):
    """The time for all images is over."""


def run(request: WarmRequest) -> str:
    """Warm each image; returns JSON, a list of Warmed. Raises Failed where nothing could be
    begun."""
    return json.dumps([each._asdict() for each in _all(request)])


def apply(request: WarmRequest) -> str:
    """Warm the images of a stack's list `warm`, for `pulumi up`; returns a status word.

    An image that could not be warmed is a warning on stderr, and with `required` a failure. Raises
    Failed.
    """
    warmed = _all(request)
    cold = [each for each in warmed if each.outcome != "warm"]
    if cold and request.required:
        words = "; ".join("%s: %s" % (each.name, each.reason) for each in cold)
        raise Failed("not in the cache (warmRequired): %s" % words)
    for each in cold:
        words = "NOT WARMED: %s: %s" % (each.name, each.reason)
        print(printed_complaint(words), file=sys.stderr)
    return "warm" if not cold else "%d of %d warm" % (len(warmed) - len(cold), len(warmed))


def running(_: RunningRequest) -> str:
    """The images that the swarm's services are to run now, as JSON: a list of `image` and
    `services`. Raises engine.EngineProblem."""
    ids = engine.run("docker", "service", "ls", "--quiet").split()
    services = json.loads(engine.run("docker", "service", "inspect", *ids)) if ids else []
    found: Dict[str, List[str]] = {}
    for service in services:
        spec = service["Spec"]
        container = spec["TaskTemplate"].get("ContainerSpec") or {}  # a plugin has none
        if container.get("Image"):
            found.setdefault(str(container["Image"]), []).append(str(spec["Name"]))
    return json.dumps([{"image": image, "services": names} for image, names in found.items()])


def _all(request: WarmRequest) -> List[Warmed]:
    """Every image, with what came of it."""
    info = engine.info(request.unit)
    text = daemon_json.decode(files.read(request.path))
    proxy = dockerd_view.proxy_of(request.mirror_url, info, request.unit, text)
    if probe.is_beyond_us(proxy):
        words = (
            "docker goes to the mirror through a proxy (%s) that only docker itself can speak to"
            " [RM256]; "
        )
        host = probe.host_of(request.mirror_url)
        raise Failed(words % probe.without_password(str(proxy)) + probe.NO_PROXY % host)
    reader = Reader(request, proxy, swarm_platforms())
    warmed = []
    for image in request.images:
        quota = (stats.quota() if image.root and request.hub else None) or {}
        if quota and quota["left"] <= request.reserve:
            words = (
                "Docker Hub grants %d more pulls of %d in %d h, and %d are left for others"
                " (--reserve); warm it later [RM257]"
            )
            numbers = quota["left"], quota["of"], quota["hours"], request.reserve
            warmed.append(Warmed(image.name, "skipped", words % numbers, quota=quota))
            continue
        warmed.append(reader.warm(image)._replace(quota=quota))
    return warmed


def swarm_platforms() -> List[str]:
    """Those of the swarm's nodes, like `linux/amd64`, each once. Raises engine.EngineProblem where
    this machine is no manager."""
    ids = engine.run("docker", "node", "ls", "--quiet").split()
    found = []
    for node in json.loads(engine.run("docker", "node", "inspect", *ids)):
        platform = node["Description"].get("Platform") or {}
        if platform.get("Architecture"):
            found.append(
                manifests.platform_of(str(platform.get("OS") or "linux"), platform["Architecture"])
            )
    return sorted(set(found))


class Reader:
    """Reads images through the mirror, no faster than it may, until its time is over."""

    def __init__(self, request: WarmRequest, proxy: Optional[str], platforms: List[str]) -> None:
        self._url, self._proxy = request.mirror_url, proxy
        self._platforms = platforms
        self._deadline = time.monotonic() + request.seconds
        self._seconds = request.seconds
        self._pace = Pace(request.bandwidth)

    def warm(self, image: WarmImage) -> Warmed:
        """What came of one image."""
        begun = time.monotonic()
        try:
            found = self._warm(image)
        except _OutOfTime:
            words = (
                "the time for warming (%d s) was over; what was fetched stays in the cache, so run"
                " it again [RM258]"
            )
            return Warmed(image.name, "skipped", words % self._seconds)
        except (_NotWarmed, BadManifest) as error:
            return Warmed(image.name, "failed", str(error))
        return found._replace(seconds=round(time.monotonic() - begun))

    def _warm(self, image: WarmImage) -> Warmed:
        body = self._manifest(image, image.reference)
        digest, manifest = manifests.digest_of(body), manifests.read(body)
        platforms, single = self._platforms, [manifest]
        note = ""
        if manifests.is_index(manifest):
            chosen = manifests.chosen(manifest, self._platforms)
            platforms = sorted(name for names in chosen.values() for name in names)
            missing = sorted(set(self._platforms) - set(platforms))
            if not chosen:
                words = "it has no image for %s, which the swarm's nodes are [RM259]"
                raise _NotWarmed(words % ", ".join(missing))
            note = "it has no image for %s" % ", ".join(missing) if missing else ""
            single = [manifests.read(self._manifest(image, each)) for each in chosen]
        blobs = {blob.digest: blob for each in single for blob in manifests.blobs(each)}
        fetched = sum(self._blob(image, blob) for blob in blobs.values())
        size = sum(blob.size for blob in blobs.values())
        return Warmed(image.name, "warm", note, digest, platforms, len(blobs), size, fetched)

    def _manifest(self, image: WarmImage, reference: str) -> bytes:
        """The body of a manifest, checked. Raises _NotWarmed."""
        path = "/v2/%s/manifests/%s" % (image.repository, reference)
        connection = self._connection()
        try:
            answer = self._ask(connection, path, image)
            body = self._read(answer, manifests.MANIFEST_BYTES)
        finally:
            connection.close()
        named = reference if ":" in reference else answer.getheader("Docker-Content-Digest")
        if named is not None and named != manifests.digest_of(body):
            raise _NotWarmed("the mirror sent another manifest than %s [RM260]" % named)
        return body

    def _blob(self, image: WarmImage, blob: Blob) -> int:
        """Have a layer in the cache; bytes of it that were not there. Raises _NotWarmed."""
        path = "/v2/%s/blobs/%s" % (image.repository, blob.digest)
        for _ in range(TRIES):
            self._pace.settle(self._left())
            connection = self._connection()
            try:
                answer = self._ask(connection, path, image)
                if is_stored(answer):
                    return 0
                shared = int(answer.getheader("Age") or 0) > 0
                if self._is_whole(answer, blob):
                    return 0 if shared else blob.size
            except (OSError, ValueError, http.client.HTTPException):
                pass  # broken off, as is a body that is short; it is asked for again
            finally:
                connection.close()
            self._left()
        words = "its layer %s breaks off, or is not what its digest says [RM261]"
        raise _NotWarmed(words % blob.digest)

    def _is_whole(self, answer: http.client.HTTPResponse, blob: Blob) -> bool:
        """Read a layer to its end; whether it is what its name says."""
        found, size, until = hashlib.sha256(), 0, time.monotonic() + PATIENCE
        while True:
            piece = answer.read(CHUNK)
            if not piece:
                return size == blob.size and "sha256:" + found.hexdigest() == blob.digest
            found.update(piece)
            size += len(piece)
            self._pace.passed(len(piece))
            if time.monotonic() < until:
                self._pace.settle(self._left())

    def _connection(self) -> Any:
        left = max(1.0, self._left())
        return probe.connection_to(self._url, self._proxy, READ_SECONDS, left)

    def _ask(self, connection: Any, path: str, image: WarmImage) -> http.client.HTTPResponse:
        """The answer to a GET. Raises _NotWarmed where it is no 200."""
        headers = {"User-Agent": "swarm-registry-mirror"}
        if "/manifests/" in path:
            headers["Accept"] = probe.MANIFESTS
        try:
            connection.request("GET", path, headers=headers)
            answer: http.client.HTTPResponse = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._left()
            fault = probe.judge_failure(self._url, self._proxy, error).fault
            raise _NotWarmed(str(fault)) from None
        if answer.status != 200:
            raise _NotWarmed(self._refusal(answer, image))
        return answer

    def _read(self, answer: http.client.HTTPResponse, limit: int) -> bytes:
        try:
            body = answer.read(limit + 1)
        except (OSError, http.client.HTTPException) as error:
            self._left()
            raise _NotWarmed(
                str(probe.judge_failure(self._url, self._proxy, error).fault)
            ) from None
        if len(body) > limit:
            raise _NotWarmed("its manifest has more than %d bytes [RM262]" % limit)
        return body

    def _refusal(self, answer: http.client.HTTPResponse, image: WarmImage) -> str:
        """What an answer that is no 200 means."""
        status = int(answer.status)
        said = answer.getheader(probe.UPSTREAM_STATUS) or ""
        if status == 404 and not said:
            # The registry says 404, too, where it cannot ask and has no such tag itself.
            asked = probe.nobodys_layer(self._url, image.repository, self._proxy)
            if asked is not None and asked.status == 404:
                return "there is no such image upstream (404) [RM264]"
            if asked is None or asked.status not in (401, 403):
                words = (
                    "the mirror does not have it, and does not reach its upstream now (%d) [RM265]"
                )
                return words % (0 if asked is None else asked.status)
            said = str(asked.status)
        if status == 404:
            words = (
                "the upstream does not let the mirror have it (%s): no such image, or a private"
                " one [RM263]"
            )
            return words % said
        words = "the mirror answers %d for it; see `swarm-registry-mirror status` [RM266]"
        return words % status

    def _left(self) -> float:
        """Seconds that are left. Raises _OutOfTime."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _OutOfTime
        return left


def is_stored(answer: http.client.HTTPResponse) -> bool:
    """Whether the registry has sent this layer from its own store."""
    return "max-age" in (answer.getheader("Cache-Control") or "")


class Pace:
    """A number of bytes a second, on average from the first one on."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._begun: Optional[float] = None
        self._bytes = 0

    def passed(self, size: int) -> None:
        """Count bytes that came."""
        if self._begun is None:
            self._begun = time.monotonic()
        self._bytes += size

    def settle(self, at_most: float) -> None:
        """Wait, `at_most` seconds, until what came is no more than it may be."""
        if self._per_second and self._begun is not None:
            early = self._begun + self._bytes / self._per_second - time.monotonic()
            if early > 0:
                time.sleep(min(early, at_most))
