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

SECONDS = 10
"""For the connection and again for the answer; dockerd itself would wait 30 s, at every pull."""


def fault(url: str, patience: float = 0) -> Optional[str]:
    """What is wrong with the mirror at `url` (https://host[:port]) as seen from here; None if it answers as a registry.

    `patience`: seconds for which to ask again while nothing is wrong but that it is not there just now, as when swarm moves
    its task to another machine. A wrong name or certificate does not get better by waiting.
    """
    deadline = time.monotonic() + patience
    while True:
        wrong, may_pass = _ask(url)
        if not may_pass or time.monotonic() > deadline:
            return wrong
        time.sleep(1)


def _ask(url: str) -> Tuple[Optional[str], bool]:
    """What is wrong, and whether it may pass by itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=SECONDS, context=_trust(parts.netloc))
    try:
        connection.request("GET", "/v2/", headers={"User-Agent": "swarm-registry-mirror"})
        answer = connection.getresponse()
        return _judge(url, answer.status, answer.getheader("Docker-Distribution-Api-Version"))
    except socket.gaierror:
        return "the name %s does not resolve; enter it in DNS (or /etc/hosts)" % host, False
    except ssl.SSLCertVerificationError as error:
        what = "the certificate of %s is not trusted: %s" % (host, error.verify_message)
        return what + "; let Traefik obtain one for this name, or install its authority on this node", False
    except ssl.SSLError as error:
        return "%s does not speak TLS there: %s; is that Traefik's HTTPS port?" % (host, error.reason), False
    except socket.timeout:
        return "%s did not answer within %d s; is a firewall in between?" % (url, SECONDS), False
    except ConnectionRefusedError:
        return "%s refused the connection; is Traefik running, and does the name point to it?" % url, True
    except OSError as error:
        return "%s cannot be reached: %s" % (url, error.strerror or error), False
    except http.client.HTTPException as error:
        return "%s does not speak HTTP: %s" % (url, error), False
    finally:
        connection.close()


def _judge(url: str, status: int, version: Optional[str]) -> Tuple[Optional[str], bool]:
    if status == 200 and version:
        return None, False
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
