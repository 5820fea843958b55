"""Decides what is to be done to one hosts.toml: its text and what lies around it in, new text or refusals out. Pure.

Owns the decision which way a node takes (`reads_hosts_toml`), the settings of our host, and every reason for leaving a file as it
is. It deliberately touches nothing: `hosts.py` reads, writes and checks.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from . import daemon_settings, hosts_toml
from .hosts_toml import Refused
from .keys import version_of

SINCE = (28, 0, 0)
"""docker from which on the containerd image store reads hosts.toml (moby daemon/hosts.go `RegistryHosts`)."""

DIAL_TIMEOUT = "1s"
"""For a connection to the mirror. A pull makes some in turn (the tag, its manifest, then layers, three at a time), so that a
mirror that swallows packets costs some times this; without the key it is 30 s each. docker 28.0 ignores the key."""


class Around(NamedTuple):
    """What lies around the file, and may change what it does."""

    is_link: bool = False
    """Whether the file or its folder is a link, so that it may be another registry's too."""
    default_file: bool = False
    """Whether the registry goes by the folder `_default` today, which has a hosts.toml or certificates."""
    certificates: Tuple[str, ...] = ()
    """Certificates in the file's folder, which dockerd reads only where there is no hosts.toml."""
    other_mirrors: Tuple[str, ...] = ()
    """registry-mirrors of the running docker that are not ours: it ignores them once the file names a host."""
    authorities: Tuple[str, ...] = ()
    """The mirror's own `*.crt` in certs.d, by path."""
    clients: Tuple[Tuple[str, str], ...] = ()
    """The mirror's own pairs of `*.cert` and `*.key`, by path."""


class HostsPlan(NamedTuple):
    """What to do with the file."""

    text: str
    """What it is to say."""
    kept: bool
    """Whether the mirror is there already, by somebody's own hand."""
    refusals: List[str]
    """Why nothing may be written; each with its remedy."""
    hazards: List[str]
    """What does not keep the node from using the mirror, but an administrator would want to know."""


def reads_hosts_toml(info: Dict[str, Any]) -> bool:
    """Whether the docker of this `docker info` goes by hosts.toml when it pulls."""
    return daemon_settings.has_containerd_store(info) and version_of(str(info.get("ServerVersion", ""))) >= SINCE


def settings(around: Around) -> Dict[str, Any]:
    """The keys of our host. With `registry-mirrors` dockerd finds the mirror's certificates in certs.d by itself; here not."""
    found: Dict[str, Any] = {"capabilities": list(hosts_toml.CAPABILITIES), "dial_timeout": DIAL_TIMEOUT}
    if around.authorities:
        found["ca"] = list(around.authorities)
    if around.clients:
        found["client"] = [list(pair) for pair in around.clients]
    return found


def plan(path: str, text: str, url: str, gone: List[str], ours: List[str], version: str, around: Around) -> HostsPlan:
    """What to do so that `url` is asked first. Raises Refused where the text cannot be edited without guessing.

    `gone`: mirrors that we entered and that are not wanted any more. `ours`: all that we entered. `version`: docker's.
    """
    wanted = settings(around)
    document = hosts_toml.parse(text)
    mine = hosts_toml.contains(ours, url)
    theirs = next((host for host in document.hosts if hosts_toml.same(host.name, url)), None)
    ignored = hosts_toml.ignored_because(document, version_of(version))
    refusals = [] if ignored is None else ["docker ignores the whole file, because %s; correct that" % ignored]
    if around.is_link:
        refusals.append("it is a link, or its folder is one, so that it may be another registry's too; put the file itself there")
    server = document.root.get("server")
    if isinstance(server, str) and server and hosts_toml.same(server, url):
        words = "its server is %s itself, so that nobody is asked where that does not answer; remove the line"
        refusals.append(words % url)
    if theirs is not None and not mine:
        wrong = _complaint(theirs.values)
        if wrong is not None:
            words = 'it has %s already, %s; give it capabilities = ["pull", "resolve"], or remove that table'
            refusals.append(words % (url, wrong))
        return HostsPlan(text, True, refusals, _hazards(document))
    after = text
    for former in gone:
        after = hosts_toml.remove(after, former)
    after = hosts_toml.add(after, url, wanted)
    if after != text:
        by = hosts_toml.managed_by(document, hosts_toml.entry_point(document, url))
        if by is not None:
            words = "another program writes this file (%s) and would take our host out again; let that enter: %s"
            refusals.append(words % (by, " ".join(hosts_toml.table(url, wanted).split())))
    if not document.hosts and theirs is None:
        refusals += _displaced(path, around)
    return HostsPlan(after, False, refusals, _hazards(document))


def _displaced(path: str, around: Around) -> List[str]:
    """What would lose its effect with the first host of the file."""
    found = []
    folder = path.rpartition("/")[0]
    if around.default_file:
        words = (
            "this registry goes by %s/_default today, and not any more with a folder of its own; copy what is there to %s first"
        )
        found.append(words % (folder.rpartition("/")[0], folder))
    if around.certificates:
        words = "docker reads %s only where there is no hosts.toml; name them there as ca and client first, before any table"
        found.append(words % ", ".join(around.certificates))
    if around.other_mirrors:
        words = "docker ignores registry-mirrors (%s) once hosts.toml names a host; move them to %s, or take them out"
        found.append(words % (", ".join(around.other_mirrors), path))
    return found


def _complaint(values: Dict[str, Any]) -> Optional[str]:
    """Why a host of somebody else's that is our mirror will not do; None if it will."""
    if "capabilities" not in values:
        return "with all capabilities, push among them"
    found = [word.lower() for word in values["capabilities"] if isinstance(word, str)]
    missing = [word for word in hosts_toml.CAPABILITIES if word not in found]
    if missing:
        return "without the capability %s" % missing[0]
    return "with the capability push" if "push" in found else None


def _hazards(document: hosts_toml.Document) -> List[str]:
    server = document.root.get("server")
    if not isinstance(server, str) or not server:
        return []
    return ["where the mirror does not answer docker goes to %s, which is the server of its hosts.toml" % server]


__all__ = ["Around", "HostsPlan", "Refused", "plan", "reads_hosts_toml", "settings"]
