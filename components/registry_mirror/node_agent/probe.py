"""Asks the mirror over HTTPS, as this machine's docker would, and says in one line what is wrong if
it does not answer.

Stdlib only. It trusts what dockerd trusts: the system's authorities and those in
/etc/docker/certs.d/<host> (docker/cli docs, "registry certificates"), and it goes through dockerd's
proxy where dockerd does (`dockerd_view.py`). Two questions are kept apart: does the mirror serve an
image (`fault`), and does it reach its upstream at this moment (`upstream_fault`).
"""

import base64
import glob
import http.client
import json
import os
import re
import socket
import ssl
import time
from typing import NamedTuple, Optional, Tuple
from urllib.parse import unquote, urlsplit

from .. import plain_text
from . import https
from .request import LABELS_HEADER

MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
"""What docker accepts; without it a registry offers a format of 2015, or none."""

NO_PROXY = (
    "add %s to NO_PROXY (Environment= of docker's unit, or proxies.no-proxy in daemon.json"
    " since docker 23) and restart docker [RM158]"
)
"""Remedy where dockerd's proxy is in the way; dockerd reads its proxies at its start only."""

SECONDS = 10
"""For the connection and again for the answer; dockerd itself would wait 30 s, at every pull."""

ALL = 3
"""Times SECONDS: for all questions on one connection, however slowly the answers come."""

UPSTREAM_STATUS = "Mirror-Upstream-Status"
"""Header in which Varnish tells what the upstream said to the mirror itself, where no client should
take that for its own."""
REGISTRY = "Mirror-Registry"
"""Header in which Varnish tells by which path it knows the registry that it has asked; without it
that is the one at the root."""
DISK_HEADER = "X-Mirror-Disk"
"""With Varnish's answer to `/v2/` (`container/mirror.vcl`): `<taken> of <asked>`, MiB of its
machine's disk. Only that one knows what was free on it."""

NEVER = 0.0
LONG = float("inf")
TRAEFIK_LOOKS = 20.0
"""How many seconds something wrong may take to pass by itself. Traefik takes over changed labels
every 15 seconds (providers.swarm.refreshSeconds)."""


class Answer(NamedTuple):
    """What came of asking once."""

    fault: Optional[str]
    """What is wrong, with the remedy; None if nothing is."""
    passes_within: float = NEVER
    """Seconds within which the fault may pass by itself; a node waits no longer."""
    final: bool = False
    """Nothing that happens in the swarm can make it pass, so the gate need not wait either."""
    no_route: bool = False
    """Traefik answered, and knows no mirror."""
    labels_mark: Optional[str] = None
    """What Traefik's answer says of the labels that it goes by; empty where that says nothing, None
    without an answer."""

    @property
    def concerns_the_mirror(self) -> bool:
        """Whether the fault is the mirror's, and would be seen from every node."""
        return self.passes_within == LONG or self.final


def fault(
    url: str, patience: float = 0, image: Optional[str] = None, proxy: Optional[str] = None
) -> Optional[str]:
    """What is wrong with the mirror at `url` (https://host[:port]) as seen from here; None if it
    answers as a registry.

    `patience`: seconds for which to ask again while nothing is wrong but that it is not there just
    now, as when swarm moves its task to another machine. What only Traefik's labels can change is
    waited for 20 s at most, and a wrong name or certificate does not get better by waiting.
    `image`, `proxy`: as for `ask`.
    """
    started = time.monotonic()
    while True:
        answer = ask(url, image, proxy)
        if answer.fault is None or time.monotonic() - started >= min(
            patience, answer.passes_within
        ):
            return answer.fault
        time.sleep(1)


def ask(url: str, image: Optional[str] = None, proxy: Optional[str] = None) -> Answer:
    """Ask once whether a registry answers at `url`, and whether `image` passes through it.

    `image`: one whose manifest must pass through the mirror, like library/hello-world:latest; by
    HEAD, which Docker Hub does not count as a pull. `proxy`: URL of the proxy to go through
    (`dockerd_view.proxy_for`); None: directly.
    """
    if is_beyond_us(proxy):
        return Answer(None)
    connection = connection_to(url, proxy)
    try:
        status, version, mark = _root(connection)
        answer = _judge(url, status, version)._replace(labels_mark=mark)
        if answer.fault is not None or image is None:
            return answer
        repository, _, tag = image.rpartition(":")
        manifest = "/v2/%s/manifests/%s" % (repository, tag)
        status = _head(connection, manifest)
        if status in (401, 403, 404):
            # The registry says 404 too where it cannot ask (registry/proxy/proxytagservice.go falls
            # back to its own tags).
            upstream = _ask_upstream(connection, url, repository)
            if upstream is not None:
                return Answer(upstream, LONG, labels_mark=mark)
            status = _head(
                connection, manifest
            )  # once more: the upstream may have come back between the two
        return _judge_manifest(url, image, status)._replace(labels_mark=mark)
    except (OSError, http.client.HTTPException) as error:
        return judge_failure(url, proxy, error)
    finally:
        connection.close()


def upstream_fault(url: str, image: str, proxy: Optional[str] = None) -> Optional[str]:
    """Why the mirror does not reach its upstream at this moment; None if it does, whatever it has
    in its cache.

    Asked for a layer of `image`'s repository that nobody has: 404 is then the upstream's own word,
    and the registry answers 500 where it cannot ask (distribution registry/proxy/proxyblobstore.go
    `Stat`, registry/handlers/blob.go `GetBlob`; seen on 3.1.1 with an upstream that is away,
    refuses, wants a token, or answers 429), or from 3.1.2 on what the upstream answered (401, 403,
    429). A manifest by a tag would not do: the registry falls back to its own tags and says 404 in
    both cases. Varnish lets HEAD of a layer pass.
    """
    if is_beyond_us(proxy):
        return None
    connection = connection_to(url, proxy)
    try:
        return _ask_upstream(connection, url, image.rpartition(":")[0])
    except (OSError, http.client.HTTPException) as error:
        return judge_failure(url, proxy, error).fault
    finally:
        connection.close()


class NobodysLayer(NamedTuple):
    """What a mirror answers for a layer that nobody has, in a repository."""

    status: int
    """As a registry's: 404 where it has asked its upstream; 401 or 403 where that has said so to
    the mirror itself; 0 for an answer that is no registry's."""
    path: str = ""
    """First element of the path by which the mirror knows the registry that it has asked; empty for
    the one at the root, and where it has asked none."""
    said: Optional[str] = None
    """The registry's own words for an error that is its own."""
    failure: Optional[str] = None
    """Why nobody answered."""


def nobodys_layer(url: str, repository: str, proxy: Optional[str] = None) -> Optional[NobodysLayer]:
    """Ask the mirror for such a layer; None where only dockerd could ask (`ask`). `repository`: its
    path at the mirror."""
    if is_beyond_us(proxy):
        return None
    connection = connection_to(url, proxy)
    try:
        path = _unknown_blob(repository)
        status, registry = _head_of(connection, path)
        said = _registrys_words(connection, path) if status >= 500 else None
        return NobodysLayer(status, registry, said)
    except (OSError, http.client.HTTPException) as error:
        return NobodysLayer(0, failure=judge_failure(url, proxy, error).fault)
    finally:
        connection.close()


def disk(url: str, proxy: Optional[str] = None) -> "Optional[Tuple[int, int]]":
    """MiB of its machine's disk that Varnish took for large layers, and how many it was told to
    take.

    None where nobody says so: without Varnish, by one of an earlier version, or where nobody
    answers.
    """
    if is_beyond_us(proxy):
        return None
    connection = connection_to(url, proxy)
    try:
        connection.request("GET", "/v2/", headers={"User-Agent": "swarm-registry-mirror"})
        answer = connection.getresponse()
        connection.body(answer)
        said = _TAKEN_OF_ASKED.fullmatch(answer.getheader(DISK_HEADER) or "")
        return (int(said.group(1)), int(said.group(2))) if said else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


_TAKEN_OF_ASKED = re.compile("([0-9]{1,9}) of ([0-9]{1,9})")


def is_beyond_us(proxy: Optional[str]) -> bool:
    """Whether dockerd's proxy speaks something that is not in Python's library (https://,
    socks5://): dockerd itself is then the only one to ask."""
    return proxy is not None and urlsplit(proxy).scheme != "http"


def _unknown_blob(repository: str) -> str:
    """Path of a layer that nobody has and nobody has asked for before."""
    return "/v2/%s/blobs/sha256:%s" % (repository, os.urandom(32).hex())


def connection_to(
    url: str, proxy: Optional[str], each: Optional[float] = None, whole: Optional[float] = None
) -> https.Connection:
    """A connection to the mirror as docker makes one: `each` seconds for every step of it (default:
    SECONDS), `whole` for its life (default: ALL times SECONDS)."""
    each, whole = each or SECONDS, whole or ALL * SECONDS
    parts = urlsplit(url)
    host, port, context = parts.hostname or "", parts.port or 443, _trust(parts.netloc)
    if proxy is None:
        return https.Connection(host, port, each, context, whole)
    way = urlsplit(proxy)
    connection = https.Connection(way.hostname or "", way.port or 80, each, context, whole)
    headers = {}
    if way.username is not None:
        account = "%s:%s" % (unquote(way.username), unquote(way.password or ""))
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(account.encode()).decode()
    connection.set_tunnel(host, port, headers)
    return connection


def _root(connection: https.Connection) -> "Tuple[int, Optional[str], str]":
    """Status, the registry's version of its API, and the mark of Traefik's labels."""
    connection.request("GET", "/v2/", headers={"User-Agent": "swarm-registry-mirror"})
    answer = connection.getresponse()
    mark = answer.getheader(LABELS_HEADER) or ""
    if connection.body(answer) is None:
        return answer.status, None, mark  # so large an answer is no registry's
    return answer.status, answer.getheader("Docker-Distribution-Api-Version"), mark


def _head(connection: https.Connection, path: str) -> int:
    """Status of a HEAD request, as in `_head_of`."""
    return _head_of(connection, path)[0]


def _head_of(connection: https.Connection, path: str) -> "Tuple[int, str]":
    """Status of a HEAD request, and the path of the registry that was asked (`REGISTRY`).

    The status is 0 for a 404 that is not a registry's, such as Traefik's. What the upstream said to
    the mirror comes before what the mirror makes of it (`container/mirror.vcl`).
    """
    connection.request(
        "HEAD", path, headers={"Accept": MANIFESTS, "User-Agent": "swarm-registry-mirror"}
    )
    answer = connection.getresponse()
    answer.read()
    registry = answer.getheader(REGISTRY) or ""
    if answer.status == 404 and not answer.getheader("Docker-Distribution-Api-Version"):
        return 0, registry
    upstreams = answer.getheader(UPSTREAM_STATUS, "")
    return int(upstreams) if upstreams in ("401", "403") else answer.status, registry


def _ask_upstream(connection: https.Connection, url: str, repository: str) -> Optional[str]:
    """Why the upstream does not answer, with the registry's own words where it has some."""
    path = _unknown_blob(repository)
    fault = _judge_upstream(url, _head(connection, path))
    said = None if fault is None else _registrys_words(connection, path)
    return fault if said is None else "%s; the registry says: %s" % (fault, said)


def _registrys_words(connection: https.Connection, path: str) -> Optional[str]:
    """What the registry tells of an error that is its own, like a proxy that refuses or a
    certificate that it does not trust."""
    try:
        connection.request("GET", path, headers={"User-Agent": "swarm-registry-mirror"})
        answer = connection.getresponse()
        body = connection.body(answer)
        if answer.status < 500 or body is None:
            return None
        said = json.loads(body)["errors"][0]["detail"]
    except (OSError, http.client.HTTPException, ValueError, TypeError, LookupError):
        return None  # it adds something to a fault that is found already
    return (
        plain_text.one_line(plain_text.without_credentials(said), 300)
        if isinstance(said, str)
        else None
    )


def judge_failure(url: str, proxy: Optional[str], error: Exception) -> Answer:
    """A connection that came to nothing."""
    host = host_of(url)
    if proxy is not None and not isinstance(error, ssl.SSLError):
        words = (
            "docker goes to %s through its proxy %s, and that does not lead there (%s) [RM159]; "
        )
        return Answer(words % (url, without_password(proxy), error) + NO_PROXY % host)
    if isinstance(error, socket.gaierror):
        return Answer(
            ("the name %s does not resolve; enter it in DNS (or /etc/hosts) [RM160]") % host
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        what = "the certificate of %s is not trusted: %s [RM161]" % (host, error.verify_message)
        return Answer(
            what + "; let Traefik obtain one for this name, or install its authority on this node"
        )
    if isinstance(error, ssl.SSLError):
        # A Traefik that is just starting hangs up; who speaks something else says something else.
        passes = TRAEFIK_LOOKS if isinstance(error, ssl.SSLEOFError) else NEVER
        return Answer(
            ("%s does not speak TLS there: %s; is that Traefik's HTTPS port? [RM162]")
            % (host, error.reason),
            passes,
        )
    if isinstance(error, socket.timeout):
        # Traefik answers nothing while the machine that had the mirror's task is dead and swarm has
        # not noticed.
        return Answer(
            ("%s did not answer within %d s; is a firewall in between? [RM163]") % (url, SECONDS),
            LONG,
        )
    if isinstance(error, ConnectionRefusedError):
        return Answer(
            (
                "%s refused the connection; is Traefik running, and does the name point to it?"
                " [RM164]"
            )
            % url,
            LONG,
        )
    if isinstance(error, http.client.HTTPException):
        return Answer("%s does not speak HTTP: %s" % (url, error))
    assert isinstance(error, OSError)
    return Answer("%s cannot be reached: %s" % (url, error.strerror or error))


def host_of(url: str) -> str:
    """The host of a mirror's URL, without its port."""
    return urlsplit(url).hostname or ""


def without_password(proxy: str) -> str:
    """A proxy's URL as it may be shown."""
    parts = urlsplit(proxy)
    return "%s://%s" % (parts.scheme, parts.netloc.rpartition("@")[2])


def _judge_manifest(url: str, image: str, status: int) -> Answer:
    """A mirror that answers and has no images is worse than none: swarm then fails to pin digests
    (moby#36044)."""
    if status == 200:
        return Answer(None)
    if status == 404:
        words = (
            "the upstream of the mirror %s has no image %s (404); set checkImage to one that it has"
            " [RM165]"
        )
        return Answer(words % (url, image), NEVER, final=True)
    words = (
        "the mirror %s answers, but %s does not pass through it (%d); can it reach its"
        " upstream, and does that have the image? [RM166]"
    )
    return Answer(words % (url, image, status or 404) + " (checkImage names another)", LONG)


def _judge_upstream(url: str, status: int) -> Optional[str]:
    if status == 404:
        return None
    if status in (401, 403):
        words = (
            "the upstream of the mirror %s does not let the mirror in (%d); check"
            " upstreamUsername and upstreamToken [RM167]"
        )
        return words % (url, status) + ", or set them: it may want an account of everybody"
    words = (
        "the mirror %s does not reach its upstream now (%d for a layer that nobody has, where"
        " a registry says 404) [RM168]"
    )
    words += (
        "; check the upstream's address, certificate and credentials, and the way out of the swarm"
    )
    return words % (url, status) + " (upstreamProxy, upstreamCa)"


def _judge(url: str, status: int, version: Optional[str]) -> Answer:
    if status == 200 and version:
        return Answer(None)
    if status == 403:
        words = (
            "Traefik does not let this machine in (403 from %s/v2/); does allowFrom have its"
            " address? [RM169]"
        )
        return Answer(words % url, TRAEFIK_LOOKS)
    if status == 404:
        words = (
            "Traefik has no route to the mirror (404 from %s/v2/); does it watch this swarm"
            " and this network? [RM170]"
        )
        return Answer(words % url, LONG, no_route=True)
    if status in (502, 503, 504):
        words = (
            "Traefik has a route but reaches no mirror (%d from %s/v2/); is its task running?"
            " [RM171]"
        )
        return Answer(words % (status, url), LONG)
    if status == 200:
        return Answer(
            (
                "something that is not a registry answers at %s/v2/; does the name point"
                " to Traefik?"
                " [RM172]"
            )
            % url
        )
    return Answer("%s/v2/ answered %d instead of 200 [RM173]" % (url, status))


def _trust(netloc: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Python 3.13 refuses authorities without some extensions that Go, and so dockerd, does not ask
    # for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    for authority in sorted(glob.glob("/etc/docker/certs.d/%s/*.crt" % glob.escape(netloc))):
        context.load_verify_locations(authority)
    # And shows the certificate that docker would show, where the mirror wants one.
    for certificate in sorted(glob.glob("/etc/docker/certs.d/%s/*.cert" % glob.escape(netloc))):
        if os.path.exists(certificate[: -len("cert")] + "key"):
            context.load_cert_chain(certificate, certificate[: -len("cert")] + "key")
    return context
