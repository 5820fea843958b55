"""Has a node's hosts.toml for one registry name the mirror, or not any more: `Change` is prepared,
carried out, put back.

WHAT IT OWNS: our host in that file, the record of it, and the folders that had to be made for it.
Nothing is reloaded: dockerd reads the file at every pull. An interruption anywhere leaves a file
that is wholly old or wholly new, and the next run goes on from there.
"""

import contextlib
import glob
import os
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from . import daemon_json, engine, files, hosts_plan, hosts_strict, hosts_toml
from .files import Failed
from .record import Record, paths_below
from .request import NodeRequest

CERTS = "/etc/docker/certs.d"
"""Where dockerd looks (moby daemon/pkg/registry/config.go `CertsDir`), unless it is rootless."""

REGISTRY = "docker.io"
"""Docker Hub's name in references, and so of its folder; where its server is, is another name."""

EDITED_MEANWHILE = "somebody edited %s meanwhile, so it is left as it is now [RM050]"


def folder_of(registry: str) -> str:
    """Name of a registry's folder in CERTS; with a port it is `host_port_` (containerd
    `hostDirectory`)."""
    host, colon, port = registry.rpartition(":")
    return "%s_%s_" % (host, port) if colon else registry


def path_of(registry: str) -> str:
    """The file that dockerd reads for a registry."""
    return os.path.join(CERTS, folder_of(registry), "hosts.toml")


class Entry(NamedTuple):
    """A registry whose images docker is to ask the mirror for."""

    registry: str
    """As images have it."""
    url: str
    """Where the mirror has it."""
    fallback: bool = True
    """Whether docker may ask the registry itself where the mirror does not answer."""

    @property
    def path(self) -> str:
        """Of its hosts.toml."""
        return path_of(self.registry)


def entries(request: NodeRequest) -> List[Entry]:
    """Docker Hub, and the other registries that a request names."""
    mirror = request.mirror_url
    return [
        Entry(REGISTRY, mirror, request.fallback),
        *(
            Entry(
                other.name,
                "%s/v2/%s" % (mirror, other.path) if other.path else mirror,
                other.fallback,
            )
            for other in request.registries
        ),
    ]


def own_paths(owner: str) -> List[str]:
    """Every hosts.toml that has an entry of this owner. Raises FileProblem."""
    return paths_below(CERTS, owner)


class HostsRecord(Record):
    """What we know of our own doings to one hosts.toml."""

    def _without_entries(self, data: bytes) -> bytes:
        text = hosts_toml.decode(data)
        for url in self.mirrors:
            text = hosts_strict.without(text, url)
        return text.encode()

    @property
    def folders(self) -> List[str]:
        """Those that we made for the file, the innermost first."""
        return list(self._said.folders)

    def own_folders(self, paths: List[str]) -> None:
        """Say that these are made by us, before they are."""
        if paths and self.folders != paths:
            self._begun.folders = paths
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
    guard: bool = False
    """Whether a guard looks at the mirror from here, for which both versions of the file are laid
    beside it."""
    adopts: bool = False
    """Whether the file is a guard's, which came to this machine before us; then there was none
    before."""

    @property
    def registry(self) -> str:
        """Whose images it is about."""
        folder = os.path.basename(os.path.dirname(self.path))
        host, _, port = folder[:-1].rpartition("_")
        return "%s:%s" % (host, port) if folder.endswith("_") else folder

    @property
    def is_due(self) -> bool:
        """Whether the file has to change, or what is known of it."""
        return self.before != self.after or self.adopts

    def carry_out(self) -> None:
        """Replace the file. Raises FileProblem, with nothing changed."""
        if not self.is_due:
            return
        if self.enters:
            missing = (
                [os.path.dirname(self.path)]
                if self.adopts
                else _missing_folders(self.path, self.record.folders)
            )
            self.record.begin(self.url, None if self.adopts else self.before, self.after, {})
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
        """Have the file as it was before `carry_out`; returns the sentence that a failure ends
        with."""
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
            without = self._without_us() if self.guard else None
            known = {files.digest(data) for data in (self.after, without) if data is not None}
            if self.record.mirror != self.url or set(self.record.written) != known:
                folders = self.record.folders
                self.record.settle(self.url, self.after, {})
                self.record.own_folders(folders)
                if without is not None:
                    self.record.own(without)
            self._lay_beside(without)
        elif not self.enters:
            self._lay_beside(None)
            if self.after is None:
                self._clear_away()
            self.record.drop()  # what an interrupted removal has left of it, too

    def _without_us(self) -> bytes:
        """What the guard has the file say while the mirror does not answer; to dockerd an empty
        file is none."""
        return hosts_toml.remove(hosts_toml.decode(self.after), self.url).encode()

    def _lay_beside(self, without: Optional[bytes]) -> None:
        """Have what the guard takes from, and nothing else of a guard's, beside the file. Raises
        FileProblem."""
        owner = self.record.owner
        wanted = {WITHOUT: without, WITH: None if without is None else self.after}
        for suffix, data in wanted.items():
            path = beside(self.path, owner, suffix)
            if data is None:
                files.remove(path, follow=False)
            elif files.read(path, follow=False) != data:
                # A header may hold a secret, so these are no more readable than the file.
                files.replace(path, data, mode=files.mode_of(self.path), follow=False)
        files.remove(beside(self.path, owner, MADE), follow=False)
        if without is None:
            files.remove(beside(self.path, owner, STATE), follow=False)

    def _clear_away(self) -> None:
        """Remove the folders that we made, as far as nobody else has put something there."""
        if not os.path.lexists(self.path):
            # What a run has left that was killed while it wrote.
            for path in glob.glob(
                "%s/%s*" % (glob.escape(os.path.dirname(self.path)), files.TEMPORARY)
            ):
                files.remove(path, follow=False)
            for folder in self.record.folders:
                with contextlib.suppress(OSError):  # somebody has put something there
                    os.rmdir(folder)


def entered(request: NodeRequest, info: Dict[str, Any], entry: Entry) -> Change:
    """The change after which dockerd asks the mirror first for images of a registry. Raises Failed
    where its file cannot be read."""
    path, url = entry.path, entry.url
    record = HostsRecord(path, request.owner)
    gone = [] if record.mirror is None or hosts_toml.same(record.mirror, url) else [record.mirror]
    around = _around(entry, info, [*record.mirrors, url, *_mirrors_of_ours(request)])
    before = None if around.is_link else files.read(path, follow=False)
    adopts = record.mirror is None and _is_the_guards(path, record.owner, before)
    try:
        text = "" if adopts else _text_to_edit(record, entry, before)
        version = str(info.get("ServerVersion", ""))
        wanted = hosts_plan.Wanted(url, gone, record.mirrors, version, entry.fallback)
        todo = hosts_plan.plan(path, text, wanted, around)
    except hosts_toml.Refused as error:
        refusal = "%s: %s" % (path, error)
        return Change(path, url, record, before, before, True, False, [refusal], [])
    after = todo.text.encode() if todo.text != hosts_toml.decode(before) else before
    refusals = ["%s: %s" % (path, refusal) for refusal in todo.refusals]
    after = before if refusals else after
    # Where nobody else may be asked, it would take the only one away.
    guard = request.guard and not todo.kept and entry.fallback
    return Change(
        path,
        url,
        record,
        before,
        after,
        True,
        todo.kept,
        refusals,
        todo.hazards,
        guard,
        adopts and not refusals,
    )


def _text_to_edit(record: HostsRecord, entry: Entry, before: Optional[bytes]) -> str:
    """The file as it is; as it would be without us where it becomes or was ours as a whole. Raises
    Refused."""
    text = hosts_toml.decode(before)
    former = record.mirror
    if former is None or (entry.fallback and not hosts_strict.is_in(text, former)):
        return text
    return hosts_toml.decode(_without_us(record, former, before))


def withdrawn(request: NodeRequest, path: str) -> Change:
    """The change after which a hosts.toml is as it was before us; none where we never were there.
    Raises Failed."""
    record = HostsRecord(path, request.owner)
    url = record.mirror
    if url is None:
        return Change(path, request.mirror_url, record, None, None, False, False, [], [])
    before = files.read(path, follow=False)
    try:
        after = _without_us(record, url, before)
    except hosts_toml.Refused as error:
        return Change(
            path, url, record, before, before, False, False, ["%s: %s" % (path, error)], []
        )
    return Change(path, url, record, before, after, False, False, [], [])


def _without_us(record: HostsRecord, url: str, before: Optional[bytes]) -> Optional[bytes]:
    """What the file should be without us: the original, unless somebody has edited it since we
    wrote it."""
    if not record.others and files.digest(before) in record.written:
        original = record.original
        if not hosts_toml.contains(hosts_toml.hosts(hosts_toml.decode(original)), url):
            return original
    if before is None:
        return None
    text = hosts_strict.without(hosts_toml.decode(before), url)
    return None if not text.strip() and record.original is None else text.encode()


WITH, WITHOUT, MADE, STATE = "with", "without", "made", "state"
"""What lies beside the file for the guard (`container/guard.sh`), or is laid there by it: what the
file says with the mirror and without, the mark of a machine that the guard came to first, and what
it did last."""


def beside(path: str, owner: str, suffix: str) -> str:
    """A file of the guard's beside a hosts.toml; dockerd reads no such name."""
    return os.path.join(os.path.dirname(path), ".%s.%s" % (owner, suffix))


def _is_the_guards(path: str, owner: str, before: Optional[bytes]) -> bool:
    """Whether the file is there by the guard's hand alone."""
    if before is None or files.read(beside(path, owner, MADE), follow=False) is None:
        return False
    return before in [
        files.read(beside(path, owner, suffix), follow=False) for suffix in (WITH, WITHOUT)
    ]


def keep_guard_out(owner: str, guard: bool) -> None:
    """Have a guard leave this machine alone, whose docker does not go by hosts.toml; without one,
    have no trace of that.

    Its mount wants the folder to be there: dockers before 25 do not make it (moby api/types/mount
    `CreateMountpoint`).
    """
    path = os.path.join(CERTS, ".%s.leave" % owner)
    found = files.read(path, follow=False)
    if guard and found is None:
        made = not os.path.lexists(CERTS)
        files.replace(path, b"with its folder\n" if made else b"", follow=False)
    elif not guard and found is not None:
        files.remove(path, follow=False)
        if found:
            with contextlib.suppress(OSError):  # somebody has put something there
                os.rmdir(CERTS)


class Seen(NamedTuple):
    """What a hosts.toml says, for `status`."""

    listed: bool
    recorded: bool
    edited: bool
    faults: List[str]
    hazards: List[str]
    mirror_faults: List[str]
    """What the guard has seen of the mirror."""


def look(request: NodeRequest, info: Dict[str, Any], entry: Entry) -> Seen:
    """How a registry's file is, for a docker that goes by it; changes nothing. Raises Failed where
    it cannot be read."""
    change = entered(request, info, entry)
    record = change.record
    try:
        text = hosts_toml.decode(change.before)
        listed = hosts_toml.contains(hosts_toml.hosts(text), change.url) or (
            not entry.fallback and hosts_strict.is_in(text, change.url)
        )
    except hosts_toml.Refused:
        listed = False  # the reason is among the refusals
    edited = record.exists and files.digest(change.before) not in record.written
    faults, hazards = list(change.refusals), list(change.hazards)
    if listed and change.is_due:
        faults.append("%s names the mirror otherwise than it should [RM051]" % change.path)
    state = (
        (files.read(beside(change.path, record.owner, STATE), follow=False) or b"")
        .decode(errors="replace")
        .split()
    )
    when = (
        time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(int(state[1])))
        if state[1:] and state[1].isdigit()
        else ""
    )
    mirror_faults = []
    if (
        record.mirror is not None
        and change.guard
        and not listed
        and change.before == change._without_us()
    ):
        words = (
            "since %s the guard has the mirror out of %s, because it does not answer from"
            " here; docker pulls without it"
        )
        mirror_faults.append(words % (when, change.path))
    elif when:
        hazards.append(
            "the guard took the mirror out of %s, and put it back at %s" % (change.path, when)
        )
    recorded = change.kept or record.mirror is not None
    return Seen(listed, recorded, edited, faults, hazards, mirror_faults)


def _mirrors_of_ours(request: NodeRequest) -> List[str]:
    """The mirrors that we entered into daemon.json, which a docker may have yet that has come to
    read hosts.toml."""
    return Record(request.path, request.owner).mirrors


def _around(entry: Entry, info: Dict[str, Any], ours: List[str]) -> hosts_plan.Around:
    path = entry.path
    folder = os.path.dirname(path)
    default = os.path.join(CERTS, "_default")
    has_file = os.path.isfile(path) and os.path.getsize(path) > 0
    mirrors = [
        mirror for mirror in engine.mirrors_of(info) if not daemon_json.contains(ours, mirror)
    ]
    authorities, clients = _certificates(os.path.join(CERTS, urlsplit(entry.url).netloc))
    return hosts_plan.Around(
        is_link=os.path.islink(path) or os.path.islink(folder),
        default_file=not os.path.lexists(folder) and bool(_decisive(default)),
        certificates=() if has_file else tuple(_certificate_files(folder)),
        other_mirrors=tuple(mirrors) if entry.registry == REGISTRY else (),
        authorities=authorities,
        clients=clients,
    )


def _decisive(folder: str) -> List[str]:
    """What of a folder of certs.d has an effect: a file that is not empty, and certificates."""
    path = os.path.join(folder, "hosts.toml")
    named = [path] if os.path.isfile(path) and os.path.getsize(path) > 0 else []
    return named + _certificate_files(folder)


def _certificate_files(folder: str) -> List[str]:
    return sorted(
        path
        for ending in ("crt", "cert")
        for path in glob.glob("%s/*.%s" % (glob.escape(folder), ending))
    )


def _certificates(folder: str) -> Tuple[Tuple[str, ...], Tuple[Tuple[str, str], ...]]:
    """The authorities in a folder of certs.d, and the pairs of certificate and key."""
    found = _certificate_files(folder)
    pairs = [(path, path[: -len("cert")] + "key") for path in found if path.endswith(".cert")]
    return tuple(path for path in found if path.endswith(".crt")), tuple(
        pair for pair in pairs if os.path.exists(pair[1])
    )


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
        raise files.FileProblem(
            "%s was edited by somebody else at this very moment; run this again [RM040]" % path
        )
    files.remove(path, follow=False)


__all__ = [
    "CERTS",
    "REGISTRY",
    "Change",
    "Entry",
    "Failed",
    "HostsRecord",
    "Seen",
    "entered",
    "entries",
    "look",
    "own_paths",
    "path_of",
    "withdrawn",
]
