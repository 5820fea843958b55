"""Has a node's hosts.toml for one registry name the mirror, or not any more: `Change` is prepared, carried out, put back.

WHAT IT OWNS: our host in that file, the record of it, and the folders that had to be made for it. Nothing is reloaded: dockerd
reads the file at every pull. An interruption anywhere leaves a file that is wholly old or wholly new, and the next run goes on
from there.
"""

import contextlib
import glob
import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from . import daemon_json, engine, files, hosts_plan, hosts_toml
from .files import Failed
from .record import Record

CERTS = "/etc/docker/certs.d"
"""Where dockerd looks (moby daemon/pkg/registry/config.go `CertsDir`), unless it is rootless."""

REGISTRY = "docker.io"
"""Docker Hub's name in references, and so of its folder; where its server is, is another name."""

EDITED_MEANWHILE = "somebody edited %s meanwhile, so it is left as it is now"


def path_of(registry: str) -> str:
    """The file that dockerd reads for a registry. With a port, its folder is `host_port_` (containerd `hostDirectory`)."""
    host, colon, port = registry.rpartition(":")
    return os.path.join(CERTS, "%s_%s_" % (host, port) if colon else registry, "hosts.toml")


class HostsRecord(Record):
    """What we know of our own doings to one hosts.toml."""

    def _without_entries(self, data: bytes) -> bytes:
        text = hosts_toml.decode(data)
        for url in self.mirrors:
            text = hosts_toml.remove(text, url)
        return text.encode()

    @property
    def folders(self) -> List[str]:
        """Those that we made for the file, the innermost first."""
        return list(self._known.get("folders", []))

    def own_folders(self, paths: List[str]) -> None:
        """Say that these are made by us, before they are."""
        if paths and self.folders != paths:
            self._known["folders"] = paths
            self._save()


class Change(NamedTuple):
    """What is to be done to a hosts.toml; nothing is done yet."""

    path: str
    url: str
    record: HostsRecord
    before: Optional[bytes]
    after: Optional[bytes]
    """None: no file."""
    enters: bool
    """Whether the mirror is to be there afterwards, and not to be gone."""
    kept: bool
    """Whether it is there by somebody else's hand, so that nothing is ours."""
    refusals: List[str]
    """Why it must not be carried out; each with the file's name and a remedy."""
    hazards: List[str]

    @property
    def is_due(self) -> bool:
        """Whether the file has to change."""
        return self.before != self.after

    def carry_out(self) -> None:
        """Replace the file. Raises FileProblem, with nothing changed."""
        if not self.is_due:
            return
        if self.enters:
            missing = _missing_folders(self.path, self.record.folders)
            self.record.begin(self.url, self.before, self.after, {})
            self.record.own_folders(missing)
        else:
            self.record.own(self.after)
        try:
            _restore(self.path, self.after, expected=self.before)
        except Exception:
            self._clear_away()
            self.record.rewind()
            raise

    def put_back(self) -> str:
        """Have the file as it was before `carry_out`; returns the sentence that a failure ends with."""
        if not self.is_due:
            return ""
        try:
            if files.read(self.path, follow=False) not in (self.before, self.after):
                return "; " + EDITED_MEANWHILE % self.path
            _restore(self.path, self.before)
            self._clear_away()
        except Exception as error:
            return "; PUTTING THE OLD %s BACK FAILED: %s" % (self.path, error)
        self.record.rewind()
        return "; the old %s is back" % self.path

    def settle(self) -> None:
        """After success: what is there is what we left there, or we were never there."""
        if self.enters and not self.kept:
            folders = self.record.folders
            self.record.settle(self.url, self.after, {})
            self.record.own_folders(folders)
        elif not self.enters:
            if self.after is None:
                self._clear_away()
            self.record.drop()  # what an interrupted removal has left of it, too

    def _clear_away(self) -> None:
        """Remove the folders that we made, as far as nobody else has put something there."""
        if not os.path.lexists(self.path):
            # What a run has left that was killed while it wrote.
            for path in glob.glob("%s/%s*" % (glob.escape(os.path.dirname(self.path)), files.TEMPORARY)):
                files.remove(path, follow=False)
            for folder in self.record.folders:
                with contextlib.suppress(OSError):  # somebody has put something there
                    os.rmdir(folder)


def entered(request: Dict[str, Any], info: Dict[str, Any], registry: str = REGISTRY) -> Change:
    """The change after which dockerd asks `request["mirror"]` first. Raises Failed where the file cannot be read."""
    path, url = path_of(registry), request["mirror"]
    record = HostsRecord(path, request["owner"])
    gone = [] if record.mirror is None or hosts_toml.same(record.mirror, url) else [record.mirror]
    around = _around(path, registry, url, info, [*record.mirrors, url, *_mirrors_of_ours(request)])
    before = None if around.is_link else files.read(path, follow=False)
    try:
        text = hosts_toml.decode(before)
        version = str(info.get("ServerVersion", ""))
        todo = hosts_plan.plan(path, text, url, gone, record.mirrors, version, around)
    except hosts_toml.Refused as error:
        refusal = "%s: %s" % (path, error)
        return Change(path, url, record, before, before, True, False, [refusal], [])
    after = before if todo.text == text else todo.text.encode()
    refusals = ["%s: %s" % (path, refusal) for refusal in todo.refusals]
    return Change(path, url, record, before, before if refusals else after, True, todo.kept, refusals, todo.hazards)


def withdrawn(request: Dict[str, Any], registry: str = REGISTRY) -> Change:
    """The change after which the file is as it was before us; none where we never were there. Raises Failed."""
    path = path_of(registry)
    record = HostsRecord(path, request["owner"])
    url = record.mirror
    if url is None:
        return Change(path, request["mirror"], record, None, None, False, False, [], [])
    before = files.read(path, follow=False)
    try:
        after = _without_us(record, url, before)
    except hosts_toml.Refused as error:
        return Change(path, url, record, before, before, False, False, ["%s: %s" % (path, error)], [])
    return Change(path, url, record, before, after, False, False, [], [])


def _without_us(record: HostsRecord, url: str, before: Optional[bytes]) -> Optional[bytes]:
    """What the file should be without us: the original, unless somebody has edited it since we wrote it."""
    if not record.others and files.digest(before) in record.written:
        original = record.original
        if not hosts_toml.contains(hosts_toml.hosts(hosts_toml.decode(original)), url):
            return original
    if before is None:
        return None
    text = hosts_toml.remove(hosts_toml.decode(before), url)
    return None if not text.strip() and record.original is None else text.encode()


class Seen(NamedTuple):
    """What a hosts.toml says, for `status`."""

    listed: bool
    recorded: bool
    edited: bool
    faults: List[str]
    hazards: List[str]


def look(request: Dict[str, Any], info: Dict[str, Any], registry: str = REGISTRY) -> Seen:
    """How the file is, for a docker that goes by it; changes nothing. Raises Failed where it cannot be read."""
    change = entered(request, info, registry)
    record = change.record
    try:
        listed = hosts_toml.contains(hosts_toml.hosts(hosts_toml.decode(change.before)), change.url)
    except hosts_toml.Refused:
        listed = False  # the reason is among the refusals
    edited = record.exists and files.digest(change.before) not in record.written
    faults = list(change.refusals)
    if listed and change.is_due:
        faults.append("%s names the mirror otherwise than it should" % change.path)
    return Seen(listed, change.kept or record.mirror is not None, edited, faults, change.hazards)


def is_ours(request: Dict[str, Any], registry: str = REGISTRY) -> bool:
    """Whether we have entered a mirror of this owner into the file."""
    return HostsRecord(path_of(registry), request["owner"]).mirror is not None


def _mirrors_of_ours(request: Dict[str, Any]) -> List[str]:
    """The mirrors that we entered into daemon.json, which a docker may have yet that has come to read hosts.toml."""
    return Record(request["daemon_json"], request["owner"]).mirrors


def _around(path: str, registry: str, url: str, info: Dict[str, Any], ours: List[str]) -> hosts_plan.Around:
    folder = os.path.dirname(path)
    default = os.path.join(CERTS, "_default")
    has_file = os.path.isfile(path) and os.path.getsize(path) > 0
    mirrors = [mirror for mirror in engine.mirrors_of(info) if not daemon_json.contains(ours, mirror)]
    authorities, clients = _certificates(os.path.join(CERTS, urlsplit(url).netloc))
    return hosts_plan.Around(
        is_link=os.path.islink(path) or os.path.islink(folder),
        default_file=not os.path.lexists(folder) and bool(_decisive(default)),
        certificates=() if has_file else tuple(_certificate_files(folder)),
        other_mirrors=tuple(mirrors) if registry == REGISTRY else (),
        authorities=authorities,
        clients=clients,
    )


def _decisive(folder: str) -> List[str]:
    """What of a folder of certs.d has an effect: a file that is not empty, and certificates."""
    path = os.path.join(folder, "hosts.toml")
    named = [path] if os.path.isfile(path) and os.path.getsize(path) > 0 else []
    return named + _certificate_files(folder)


def _certificate_files(folder: str) -> List[str]:
    return sorted(path for ending in ("crt", "cert") for path in glob.glob("%s/*.%s" % (glob.escape(folder), ending)))


def _certificates(folder: str) -> "Tuple[Tuple[str, ...], Tuple[Tuple[str, str], ...]]":
    """The authorities in a folder of certs.d, and the pairs of certificate and key."""
    found = _certificate_files(folder)
    pairs = [(path, path[: -len("cert")] + "key") for path in found if path.endswith(".cert")]
    return tuple(path for path in found if path.endswith(".crt")), tuple(pair for pair in pairs if os.path.exists(pair[1]))


def _missing_folders(path: str, made: List[str]) -> List[str]:
    """The folders of the file that are not there, or that we made; the innermost first."""
    found = []
    folder = os.path.dirname(path)
    while len(folder) > len("/") and (folder in made or not os.path.lexists(folder)):
        found.append(folder)
        folder = os.path.dirname(folder)
    return found


def _restore(path: str, data: Optional[bytes], expected: object = files.ANYTHING) -> None:
    """Have the file hold these bytes; None: have no file. Raises FileProblem."""
    if data is not None:
        files.replace(path, data, expected=expected, follow=False)
        return
    if expected is not files.ANYTHING and files.read(path, follow=False) != expected:
        raise files.FileProblem("%s was edited by somebody else at this very moment; run this again" % path)
    files.remove(path, follow=False)


__all__ = ["CERTS", "REGISTRY", "Change", "Failed", "HostsRecord", "Seen", "entered", "is_ours", "look", "path_of", "withdrawn"]
