"""Whether the mirror reaches the registries that it caches besides the one at its root, now; and if
it does not reach one, why.

Each is asked through the mirror for a layer that nobody has, all at the same time: a silent one
takes nobody else's time. What the answers mean is in `judge`, which is pure. Where the answer may
come of a token server that the registry does not ask, the upstream itself is asked for its
challenge: once, without any credentials.
"""

import http.client
import re
import ssl
import threading
import time
from ipaddress import ip_address
from typing import Dict, List, NamedTuple, Optional
from urllib.parse import urlsplit

from .. import plain_text
from . import https, probe
from .request import CachedRegistry

ROUND_SECONDS = 20
"""For asking all of them once."""
CHALLENGE_SECONDS = 5
"""For the upstream's challenge, which only adds a reason."""

EXPLAINED = (401, 403, 500)
"""What the registry answers where it has no token: what its upstream said (3.1.2), or 500 (3.1.1;
and every version where the token server refused: distribution registry/handlers/helpers.go
toErrcodeErrors)."""


ANSWERS = (401, 403, 404)
"""What says something of an upstream only if it is that registry's: Docker Hub answers so, too, and
a Varnish that does not know the registry yet asks Docker Hub. Until Traefik has taken the new task
over, the old one answers."""


class Fault(NamedTuple):
    """What keeps the mirror from a registry."""

    reason: str
    final: bool = False
    """Whether nothing but another configuration changes it."""


class Challenge(NamedTuple):
    """What an upstream answers to somebody without credentials, at `/v2/`."""

    status: int
    realm: str
    """URL of its token server; empty where it names none."""


def faults(
    url: str, registries: List[CachedRegistry], proxy: Optional[str] = None
) -> Dict[str, Fault]:
    """Those that the mirror does not reach: name -> what is wrong.

    Args:
        url: The mirror, https://host[:port].
        registries: Those to ask for.
        proxy: As for `probe.ask`.
    """
    found: Dict[str, Optional[Fault]] = {}

    def ask(registry: CachedRegistry) -> None:
        found[registry.name] = fault(url, registry, proxy)

    threads = [threading.Thread(target=ask, args=(item,), daemon=True) for item in registries]
    deadline = time.monotonic() + ROUND_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = "the mirror did not answer for %s within %d s [RM240]"
    outcomes = {
        item.name: found[item.name]
        if item.name in found
        else Fault(late % (item.name, ROUND_SECONDS))
        for item in registries
    }
    return {name: outcome for name, outcome in outcomes.items() if outcome is not None}


def fault(url: str, registry: CachedRegistry, proxy: Optional[str] = None) -> Optional[Fault]:
    """Why the mirror does not reach a registry at this moment; None if it does, or if only docker
    could ask (`probe.ask`)."""
    answer = probe.nobodys_layer(url, "%s/%s" % (registry.path, registry.repository), proxy)
    if answer is None:
        return None
    if answer.failure is not None:
        return Fault(answer.failure)
    if answer.status in ANSWERS and answer.path != registry.path:
        words = "the mirror's Varnish does not lead to %s; does its newest task answer? [RM245]"
        return Fault(words % registry.name)
    found = challenge(registry.upstream) if answer.status in EXPLAINED else None
    outcome = judge(registry, answer.status, found)
    if outcome is None or answer.said is None:
        return outcome
    return outcome._replace(reason="%s; the registry says: %s" % (outcome.reason, answer.said))


def judge(registry: CachedRegistry, status: int, challenge: Optional[Challenge]) -> Optional[Fault]:
    """What the answer for a layer that nobody has says of a registry; None if it is reached.

    Args:
        registry: Which one.
        status: Of the answer; 0 for one that is not a registry's.
        challenge: Of its upstream; None where that could not be asked.
    """
    if status == 404:
        return None
    name = registry.name
    realm = challenge.realm if challenge is not None else ""
    if status in EXPLAINED and realm and is_foreign(registry.upstream, realm):
        words = (
            "%s gives its tokens at %s, where the mirror's registry asks for none (CVE-2026-33540);"
            " if it has another registry's content, set aliasOf to that one [RM241]"
        )
        host = plain_text.one_line(_host_and_port(realm), 200)
        return Fault(words % (name, host or "a place that is no URL"), final=True)
    if status in (401, 403):
        if not registry.is_known:
            return None  # the upstream has answered, and need not have this repository
        words = (
            "%s does not let the mirror have %s (%d); check its username and token in registries,"
            " or set checkRepository to a repository that it has [RM242]"
        )
        return Fault(words % (name, registry.repository, status))
    if status == 500 and realm and not registry.is_known:
        words = (
            "whether the mirror reaches %s cannot be told, because no repository of it is known;"
            " set checkRepository to one [RM243]"
        )
        return Fault(words % name, final=True)
    words = (
        "the mirror does not reach %s now (%d for a layer that nobody has, where a registry says"
        " 404); check its upstream, certificate and account, and the way out of the swarm"
        " (upstreamProxy, upstreamCa) [RM244]"
    )
    return Fault(words % (name, status))


def is_foreign(upstream: str, realm: str) -> bool:
    """Whether Distribution from 3.1 on asks for no token at `realm`, for certain: it is on another
    registrable domain than the upstream (registry/proxy/proxyauth.go realmAllowed).

    Which domains are registrable is a list that this program does not have. Those of two hosts are
    different where their last two labels are; where these are the same, so they may be.
    """
    places = [_host_and_port(url).lower() for url in (realm, upstream)]
    if "" in places or places[0] == places[1]:
        return places[0] == ""
    hosts = [(urlsplit("//" + place).hostname or "").rstrip(".") for place in places]
    if any(host == "localhost" or _is_address(host) for host in hosts):
        return True
    if all("." not in host for host in hosts):
        return False
    return hosts[0].split(".")[-2:] != hosts[1].split(".")[-2:]


def challenge(upstream: str) -> Optional[Challenge]:
    """What an upstream answers at `/v2/` to this machine, directly and without credentials; None if
    it cannot be asked."""
    parts = urlsplit(upstream)
    host, limit = parts.hostname or "", CHALLENGE_SECONDS
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        trust = ssl.create_default_context()
        connection = https.Connection(host, parts.port or 443, limit, trust, limit)
    else:
        connection = http.client.HTTPConnection(host, parts.port or 80, timeout=limit)
    try:
        connection.request("GET", "/v2/", headers={"User-Agent": "swarm-registry-mirror"})
        answer = connection.getresponse()
        offered = ", ".join(answer.headers.get_all("WWW-Authenticate") or [])
        named = _REALM.search(offered)
        return Challenge(answer.status, named.group(1) if named else "")
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


_REALM = re.compile(r'(?i)\bbearer\b.*?\brealm="([^"]*)"')


def _host_and_port(url: str) -> str:
    """Of a URL, which may come from anywhere; empty if it is none."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
