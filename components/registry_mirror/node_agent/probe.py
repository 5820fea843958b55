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


def fault(url: str, patience: float = 0, image: Optional[str] = None) -> Optional[str]:
    """What is wrong with the mirror at `url` (https://host[:port]) as seen from here; None if it answers as a registry.

    `patience`: seconds for which to ask again while nothing is wrong but that it is not there just now, as when swarm moves
    its task to another machine. A wrong name or certificate does not get better by waiting. `image`: one whose manifest must
    pass through it, like library/hello-world:latest; HEAD, which Docker Hub does not count as a pull.
    """
    deadline = time.monotonic() + patience
    while True:
        wrong, may_pass = _ask(url, image)
        if not may_pass or time.monotonic() > deadline:
            return wrong
        time.sleep(1)


def _ask(url: str, image: Optional[str]) -> Tuple[Optional[str], bool]:
    """What is wrong, and whether it may pass by itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=SECONDS, context=_trust(parts.netloc))
    try:
        connection.request("GET", "/v2/", headers={"User-Agent": "swarm-registry-mirror"})
        answer = connection.getresponse()
        answer.read()
        wrong, may_pass = _judge(url, answer.status, answer.getheader("Docker-Distribution-Api-Version"))
        if wrong is not None or image is None:
            return wrong, may_pass
        repository, _, tag = image.rpartition(":")
        connection.request("HEAD", "/v2/%s/manifests/%s" % (repository, tag), headers={"Accept": MANIFESTS})
        return _judge_manifest(url, image, connection.getresponse().status)
    except socket.gaierror:
        return "the name %s does not resolve; enter it in DNS (or /etc/hosts)" % host, False
    except ssl.SSLCertVerificationError as error:
        what = "the certificate of %s is not trusted: %s" % (host, error.verify_message)
        return what + "; let Traefik obtain one for this name, or install its authority on this node", False
    except ssl.SSLError as error:
        return "%s does not speak TLS there: %s; is that Traefik's HTTPS port?" % (host, error.reason), False
    except socket.timeout:
        # Traefik answers nothing while the machine that had the mirror's task is dead and swarm has not noticed.
        return "%s did not answer within %d s; is a firewall in between?" % (url, SECONDS), True
    except ConnectionRefusedError:
        return "%s refused the connection; is Traefik running, and does the name point to it?" % url, True
    except OSError as error:
        return "%s cannot be reached: %s" % (url, error.strerror or error), False
    except http.client.HTTPException as error:
        return "%s does not speak HTTP: %s" % (url, error), False
    finally:
        connection.close()


def _judge_manifest(url: str, image: str, status: int) -> Tuple[Optional[str], bool]:
    """A mirror that answers and has no images is worse than none: swarm then fails to pin digests (moby#36044)."""
    if status == 200:
        return None, False
    words = (
        "the mirror %s answers, but %s does not pass through it (%d); can it reach its upstream, and does that have the image?"
    )
    return words % (url, image, status) + " (checkImage names another)", True


def _judge(url: str, status: int, version: Optional[str]) -> Tuple[Optional[str], bool]:
    if status == 200 and version:
        return None, False
    if status == 403:
        return "Traefik does not let this machine in (403 from %s/v2/); does allowFrom have its address?" % url, True
    if status == 404:
        return "Traefik has no route to the mirror (404 from %s/v2/); does it watch this swarm and this network?" % url, True
    if status in (502, 503, 504):
        return "Traefik has a route but reaches no mirror (%d from %s/v2/); is its task running?" % (status, url), True
    if status == 200:
        return "something that is not a registry answers at %s/v2/; does the name point to Traefik?" % url, False
    return "%s/v2/ answered %d instead of 200" % (url, status), False


def _trust(netloc: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Python 3.13 refuses authorities without some extensions that Go, and so dockerd, does not ask for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    for authority in sorted(glob.glob("/etc/docker/certs.d/%s/*.crt" % glob.escape(netloc))):
        context.load_verify_locations(authority)
    return context
