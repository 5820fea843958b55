"""Asks the mirror over HTTPS, as this machine's docker would, and says in one line what is wrong if it does not answer.

Stdlib only. It trusts what dockerd trusts: the system's authorities and those in /etc/docker/certs.d/<host> (docker/cli
docs, "registry certificates").
"""

import glob
import http.client
import socket
import ssl
from typing import Optional
from urllib.parse import urlsplit

SECONDS = 10
"""For the connection and again for the answer; dockerd itself would wait 30 s, at every pull."""


def fault(url: str) -> Optional[str]:
    """What is wrong with the mirror at `url` (https://host[:port]) as seen from here; None if it answers as a registry."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=SECONDS, context=_trust(parts.netloc))
    try:
        connection.request("GET", "/v2/", headers={"User-Agent": "swarm-registry-mirror"})
        answer = connection.getresponse()
        return _fault_of_answer(url, answer.status, answer.getheader("Docker-Distribution-Api-Version"))
    except socket.gaierror:
        return "the name %s does not resolve; enter it in DNS (or /etc/hosts)" % host
    except ssl.SSLCertVerificationError as error:
        what = "the certificate of %s is not trusted: %s" % (host, error.verify_message)
        return what + "; let Traefik obtain one for this name, or install its authority on this node"
    except ssl.SSLError as error:
        return "%s does not speak TLS there: %s; is that Traefik's HTTPS port?" % (host, error.reason)
    except socket.timeout:
        return "%s did not answer within %d s; is a firewall in between?" % (url, SECONDS)
    except ConnectionRefusedError:
        return "%s refused the connection; is Traefik running, and does the name point to it?" % url
    except OSError as error:
        return "%s cannot be reached: %s" % (url, error.strerror or error)
    except http.client.HTTPException as error:
        return "%s does not speak HTTP: %s" % (url, error)
    finally:
        connection.close()


def _fault_of_answer(url: str, status: int, version: Optional[str]) -> Optional[str]:
    if status == 200 and version:
        return None
    if status == 404:
        return "Traefik has no route to the mirror (404 from %s/v2/); does it watch this swarm and this network?" % url
    if status in (502, 503, 504):
        return "Traefik has a route but reaches no mirror (%d from %s/v2/); is its task running?" % (status, url)
    if status == 200:
        return "something that is not a registry answers at %s/v2/; does the name point to Traefik?" % url
    return "%s/v2/ answered %d instead of 200" % (url, status)


def _trust(netloc: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Python 3.13 refuses authorities without some extensions that Go, and so dockerd, does not ask for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    for authority in sorted(glob.glob("/etc/docker/certs.d/%s/*.crt" % glob.escape(netloc))):
        context.load_verify_locations(authority)
    return context
