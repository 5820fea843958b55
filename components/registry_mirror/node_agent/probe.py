"""Asks the mirror over HTTPS, as this machine's docker would, and says in one line what is wrong if it does not answer.

Stdlib only. It trusts what dockerd trusts: the system's authorities and those in /etc/docker/certs.d/<host> (docker/cli
docs, "registry certificates").
"""

import glob
import http.client
import socket
import ssl
import time
from typing import Optional, Tuple
from urllib.parse import urlsplit

from . import https

MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
"""What docker accepts; without it a registry offers a format of 2015, or none."""

SECONDS = 10
"""For the connection and again for the answer; dockerd itself would wait 30 s, at every pull."""

NEVER = 0.0
LONG = float("inf")
TRAEFIK_LOOKS = 20.0
"""How many seconds something wrong may take to pass by itself. Traefik takes over changed labels every 15 seconds
(providers.swarm.refreshSeconds)."""


def fault(url: str, patience: float = 0, image: Optional[str] = None) -> Optional[str]:
    """What is wrong with the mirror at `url` (https://host[:port]) as seen from here; None if it answers as a registry.

    `patience`: seconds for which to ask again while nothing is wrong but that it is not there just now, as when swarm moves
    its task to another machine. What only Traefik's labels can change is waited for 20 s at most, and a wrong name or certificate
    does not get better by waiting. `image`: one whose manifest must pass through it, like library/hello-world:latest; HEAD,
    which Docker Hub does not count as a pull.
    """
    started = time.monotonic()
    while True:
        wrong, passes_within = _ask(url, image)
        if wrong is None or time.monotonic() - started >= min(patience, passes_within):
            return wrong
        time.sleep(1)


def _ask(url: str, image: Optional[str]) -> Tuple[Optional[str], float]:
    """What is wrong, and within how many seconds it may pass by itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = https.Connection(host, parts.port or 443, SECONDS, _trust(parts.netloc), 3 * SECONDS)
    try:
        connection.request("GET", "/v2/", headers={"User-Agent": "swarm-registry-mirror"})
        answer = connection.getresponse()
        if connection.body(answer) is None:
            return "something that is not a registry answers at %s/v2/; does the name point to Traefik?" % url, NEVER
        wrong, passes_within = _judge(url, answer.status, answer.getheader("Docker-Distribution-Api-Version"))
        if wrong is not None or image is None:
            return wrong, passes_within
        repository, _, tag = image.rpartition(":")
        connection.request("HEAD", "/v2/%s/manifests/%s" % (repository, tag), headers={"Accept": MANIFESTS})
        return _judge_manifest(url, image, connection.getresponse().status)
    except socket.gaierror:
        return "the name %s does not resolve; enter it in DNS (or /etc/hosts)" % host, NEVER
    except ssl.SSLCertVerificationError as error:
        what = "the certificate of %s is not trusted: %s" % (host, error.verify_message)
        return what + "; let Traefik obtain one for this name, or install its authority on this node", NEVER
    except ssl.SSLError as error:
        return "%s does not speak TLS there: %s; is that Traefik's HTTPS port?" % (host, error.reason), NEVER
    except socket.timeout:
        # Traefik answers nothing while the machine that had the mirror's task is dead and swarm has not noticed.
        return "%s did not answer within %d s; is a firewall in between?" % (url, SECONDS), LONG
    except ConnectionRefusedError:
        return "%s refused the connection; is Traefik running, and does the name point to it?" % url, LONG
    except OSError as error:
        return "%s cannot be reached: %s" % (url, error.strerror or error), NEVER
    except http.client.HTTPException as error:
        return "%s does not speak HTTP: %s" % (url, error), NEVER
    finally:
        connection.close()


def _judge_manifest(url: str, image: str, status: int) -> Tuple[Optional[str], float]:
    """A mirror that answers and has no images is worse than none: swarm then fails to pin digests (moby#36044)."""
    if status == 200:
        return None, NEVER
    words = (
        "the mirror %s answers, but %s does not pass through it (%d); can it reach its upstream, and does that have the image?"
    )
    return words % (url, image, status) + " (checkImage names another)", LONG


def _judge(url: str, status: int, version: Optional[str]) -> Tuple[Optional[str], float]:
    if status == 200 and version:
        return None, NEVER
    if status == 403:
        return "Traefik does not let this machine in (403 from %s/v2/); does allowFrom have its address?" % url, TRAEFIK_LOOKS
    if status == 404:
        return "Traefik has no route to the mirror (404 from %s/v2/); does it watch this swarm and this network?" % url, LONG
    if status in (502, 503, 504):
        return "Traefik has a route but reaches no mirror (%d from %s/v2/); is its task running?" % (status, url), LONG
    if status == 200:
        return "something that is not a registry answers at %s/v2/; does the name point to Traefik?" % url, NEVER
    return "%s/v2/ answered %d instead of 200" % (url, status), NEVER


def _trust(netloc: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Python 3.13 refuses authorities without some extensions that Go, and so dockerd, does not ask for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    for authority in sorted(glob.glob("/etc/docker/certs.d/%s/*.crt" % glob.escape(netloc))):
        context.load_verify_locations(authority)
    return context
