"""Decides what is to be done to one hosts.toml: its text and what lies around it in, new text or
refusals out. Pure.

Owns the decision which way a node takes (`reads_hosts_toml`), the settings of our host, and every
reason for leaving a file as it is. It deliberately touches nothing: `hosts.py` reads, writes and
checks.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from . import daemon_settings, hosts_strict, hosts_toml
from .daemon_keys import version_of
from .hosts_toml import Refused

SINCE = (28, 0, 0)
"""docker from which on the containerd image store reads hosts.toml (moby daemon/hosts.go
`RegistryHosts`)."""

DIAL_TIMEOUT = "1s"
"""For a connection to the mirror. A pull makes some in turn (the tag, its manifest, then layers,
three at a time), so that a mirror that swallows packets costs some times this; without the key it
is 30 s each. docker 28.0 ignores the key."""


class Around(NamedTuple):
    """What lies around the file, and may change what it does."""

    is_link: bool = False
    """Whether the file or its folder is a link, so that it may be another registry's too."""
    default_file: bool = False
    """Whether the registry goes by the folder `_default` today, which has a hosts.toml or
    certificates."""
    certificates: Tuple[str, ...] = ()
    """Certificates in the file's folder, which dockerd reads only where there is no hosts.toml."""
    other_mirrors: Tuple[str, ...] = ()
    """registry-mirrors of the running docker that are not ours: it ignores them once the file names
    a host."""
    authorities: Tuple[str, ...] = ()
    """The mirror's own `*.crt` in certs.d, by path."""
    clients: Tuple[Tuple[str, str], ...] = ()
    """The mirror's own pairs of `*.cert` and `*.key`, by path."""


class Wanted(NamedTuple):
    """The mirror that is to be in the file."""

    url: str
    removed: List[str]
    """Mirrors that we entered and that are not wanted any more."""
    ours: List[str]
    """All that we entered."""
    version: str
    """docker's."""
    fallback: bool = True
    """Whether docker may ask the registry itself where the mirror does not answer."""


class HostsPlan(NamedTuple):
    """What to do with the file."""

    text: str
    """What it is to say."""
    kept: bool
    """Whether the mirror is there already, by somebody's own hand."""
    refusals: List[str]
    """Why nothing may be written; each with its remedy."""
    hazards: List[str]
    """What does not keep the node from using the mirror, but an administrator would want to
    know."""


def reads_hosts_toml(info: Dict[str, Any]) -> bool:
    """Whether the docker of this `docker info` goes by hosts.toml when it pulls."""
    return (
        daemon_settings.has_containerd_store(info)
        and version_of(str(info.get("ServerVersion", ""))) >= SINCE
    )


def why_not(info: Dict[str, Any]) -> str:
    """What this docker lacks to go by hosts.toml."""
    if daemon_settings.has_containerd_store(info):
        return "it is older than %d.%d" % SINCE[:2]
    return "its image store is not containerd's"


def settings(url: str, around: Around, *, fallback: bool = True) -> Dict[str, Any]:
    """The keys of our host. With `registry-mirrors` dockerd finds the mirror's certificates in
    certs.d by itself; here not.

    `override_path`: the path of the URL has the `/v2` in it that dockerd would put behind it.
    Without `fallback` nobody else is asked in time, so that a connection may take as long as usual.
    """
    found: Dict[str, Any] = {"capabilities": list(hosts_toml.CAPABILITIES)}
    if fallback:
        found["dial_timeout"] = DIAL_TIMEOUT
    if urlsplit(url).path:
        found["override_path"] = True
    if around.authorities:
        found["ca"] = list(around.authorities)
    if around.clients:
        found["client"] = [list(pair) for pair in around.clients]
    return found


def plan(path: str, text: str, wanted: Wanted, around: Around) -> HostsPlan:
    """What to do so that the mirror is asked first. Raises Refused where the text cannot be edited
    without guessing.

    Args:
        path: Of the file.
        text: What it says; empty where there is none. Where docker may ask nobody but the mirror,
            what it says without us.
        wanted: The mirror, and the docker that is to ask it.
        around: What else has to do with the file.
    """
    url, removed, ours, version, fallback = wanted
    keys = settings(url, around, fallback=fallback)
    if not fallback:
        return HostsPlan(hosts_strict.text(url, keys), False, _strict_refusals(text, around), [])
    document = hosts_toml.parse(text)
    mine = hosts_toml.contains(ours, url)
    theirs = next((host for host in document.hosts if hosts_toml.same(host.name, url)), None)
    ignored = hosts_toml.ignored_because(document, version_of(version))
    refusals = (
        []
        if ignored is None
        else ["docker ignores the whole file, because %s; correct that [RM053]" % ignored]
    )
    refusals += [LINK] * around.is_link
    server = document.root.get("server")
    if isinstance(server, str) and server and hosts_toml.same(server, url):
        words = (
            "its server is %s itself, so that nobody is asked where that does not answer;"
            " remove the line [RM055]"
        )
        refusals.append(words % url)
    if theirs is not None and not mine:
        wrong = _complaint(theirs.values)
        if wrong is not None:
            words = (
                'it has %s already, %s; give it capabilities = ["pull", "resolve"], or remove'
                " that table [RM056]"
            )
            refusals.append(words % (url, wrong))
        return HostsPlan(text, True, refusals, _hazards(document))
    after = text
    for former in removed:
        after = hosts_toml.remove(after, former)
    after = hosts_toml.add(after, url, keys)
    if after != text:
        by = hosts_toml.managed_by(document, hosts_toml.entry_point(document, url))
        if by is not None:
            words = (
                "another program writes this file (%s) and would take our host out again; let"
                " that enter: %s [RM057]"
            )
            refusals.append(words % (by, " ".join(hosts_toml.table(url, keys).split())))
    if not document.hosts and theirs is None:
        refusals += _displaced(path, around)
    return HostsPlan(after, False, refusals, _hazards(document))


LINK = (
    "it is a link, or its folder is one, so that it may be another registry's too; put the file"
    " itself there [RM054]"
)


def _strict_refusals(text: str, around: Around) -> List[str]:
    """Why the file must not be ours as a whole."""
    refusals = [LINK] * around.is_link
    if text.strip():
        refusals.append(
            "fallback is false for this registry, so that the whole file is to be the mirror's, and"
            " it says something else already; move it away, or leave fallback out [RM230]"
        )
    if around.other_mirrors:
        refusals.append(
            "fallback is false for this registry, and docker would ask its registry-mirrors (%s)"
            " before the mirror; remove them from daemon.json and restart docker, or leave fallback"
            " out [RM235]" % ", ".join(around.other_mirrors)
        )
    return refusals


def _displaced(path: str, around: Around) -> List[str]:
    """What would lose its effect with the first host of the file."""
    found = []
    folder = path.rpartition("/")[0]
    if around.default_file:
        words = (
            "this registry goes by %s/_default today, and not any more with a folder of its"
            " own; copy what is there to %s first [RM058]"
        )
        found.append(words % (folder.rpartition("/")[0], folder))
    if around.certificates:
        words = (
            "docker reads %s only where there is no hosts.toml; name them there as ca and"
            " client first, before any table [RM059]"
        )
        found.append(words % ", ".join(around.certificates))
    if around.other_mirrors:
        words = (
            "docker ignores registry-mirrors (%s) once hosts.toml names a host; move them to"
            " %s, or take them out [RM060]"
        )
        found.append(words % (", ".join(around.other_mirrors), path))
    return found


def _complaint(values: Dict[str, Any]) -> Optional[str]:
    """Why a host of somebody else's that is our mirror will not do; None if it will."""
    if "capabilities" not in values:
        return "with all capabilities, push among them [RM061]"
    found = [word.lower() for word in values["capabilities"] if isinstance(word, str)]
    missing = [word for word in hosts_toml.CAPABILITIES if word not in found]
    if missing:
        return "without the capability %s" % missing[0]
    return "with the capability push" if "push" in found else None


def _hazards(document: hosts_toml.Document) -> List[str]:
    server = document.root.get("server")
    if not isinstance(server, str) or not server:
        return []
    return [
        (
            "where the mirror does not answer docker goes to %s, which is the server of"
            " its hosts.toml"
            " [RM062]"
        )
        % server
    ]


__all__ = ["Around", "HostsPlan", "Refused", "Wanted", "plan", "reads_hosts_toml", "settings"]
