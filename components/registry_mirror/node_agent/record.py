"""What we know of our own doings to one daemon.json: the original, the bytes we wrote, who entered
which mirror and which keys.

Owns the folder STATE. It deliberately decides nothing: `node.py` and `restart.py` ask it what to
restore.
"""

import contextlib
import glob
import itertools
import json
import os
import shutil
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional

from . import daemon_json, files
from .plan import with_spelling

STATE = "/var/lib/swarm-registry-mirror"
"""Root-only: a daemon.json may hold proxy passwords, and so does our copy of the original."""

AMBIGUOUS = 4096
"""Paths that are looked for when a record of an earlier version does not say whose it is."""


FORMAT = 1
"""Of record.json. One without a number is read as 1; a newer one is refused, because what it says
beyond this version would be lost."""


@dataclass
class Known:
    """What record.json says."""

    mirrors: Dict[str, str] = field(default_factory=dict)
    """Owner -> the mirror that it has entered."""
    written: List[str] = field(default_factory=list)
    """Digests of every content that we may have put there."""
    keys: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    """Owner -> its managed keys, with the values that it put there."""
    existed: bool = False
    """Whether there was a file before us."""
    restarted: Optional[bool] = None
    """Whether there was a file before a restart that nobody has verified yet; None: no such
    restart."""
    started: bool = False
    """Whether docker has started since."""
    standing: Dict[str, Any] = field(default_factory=dict)
    """What the node was in its swarm before that restart (`member.standing`)."""
    path: Optional[str] = None
    """The daemon.json; early versions did not say so."""
    folders: List[str] = field(default_factory=list)
    """Those that were made for the file (`hosts.py`)."""

    def as_json(self) -> bytes:
        """The bytes of record.json: what is not so is not said, as in every version before."""
        said = {name: value for name, value in vars(self).items() if value not in (None, {}, [])}
        always = {"format": FORMAT, "mirrors": self.mirrors, "written": self.written}
        if not self.started:
            said.pop("started")
        return json.dumps({**always, **said}, indent=1).encode()


class Record:
    """The record of one daemon.json, as one owner (the name of a mirror's service) sees it.

    Shared by all mirrors of a node, so that the last one to go, whichever it is, finds the file as
    it was before the first.
    """

    def __init__(self, path: str, owner: str, former: Optional[str] = None) -> None:
        """`former`: the name under which an earlier version knew this owner; its entries are this
        owner's from now on."""
        self.path = path
        self.folder = _folder_of(path)
        self.owner = owner
        self._before = files.read(os.path.join(self.folder, "record.json"))
        self._known = _parsed(self.folder, self._before)
        self._renamed = former is not None and self._take_over(former)

    def _take_over(self, former: str) -> bool:
        """Have what is entered for `former` be this owner's; returns whether there was anything."""
        known = self._known
        if known is None or former not in known.mirrors or self.owner in known.mirrors:
            return False
        known.mirrors[self.owner] = known.mirrors.pop(former)
        if former in known.keys:
            known.keys[self.owner] = known.keys.pop(former)
        return True

    @property
    def _said(self) -> Known:
        """What is known, or nothing of everything."""
        return Known() if self._known is None else self._known

    @property
    def _begun(self) -> Known:
        """What is known since `begin`."""
        assert self._known is not None
        return self._known

    @property
    def exists(self) -> bool:
        """Whether we have been at this file before."""
        return self._known is not None

    @property
    def mirror(self) -> Optional[str]:
        """The mirror that this owner has entered, which may differ from the one that is wanted
        now."""
        return self._said.mirrors.get(self.owner)

    @property
    def mirrors(self) -> List[str]:
        """All mirrors that we have entered into this file, whoever owns them."""
        return list(self._said.mirrors.values())

    @property
    def others(self) -> List[str]:
        """The owners of other mirrors in this file."""
        return [owner for owner in self._said.mirrors if owner != self.owner]

    def is_of_another(self, url: str) -> bool:
        """Whether the entry `url` is there for another owner."""
        return any(daemon_json.same(self._said.mirrors[owner], url) for owner in self.others)

    @property
    def keys(self) -> Dict[str, Any]:
        """The managed keys of this owner, with the values that it put there."""
        return self._said.keys.get(self.owner, {})

    @property
    def keys_of_others(self) -> Dict[str, Any]:
        """The managed keys of other owners, with their values."""
        return {
            key: value
            for owner in self.others
            for key, value in self._said.keys.get(owner, {}).items()
        }

    @property
    def unverified(self) -> bool:
        """Whether a restart was begun after which nobody has seen the node healthy yet."""
        return self._said.restarted is not None

    @property
    def before_restart(self) -> Optional[bytes]:
        """The file as it was before that restart: the last with which docker is known to be
        healthy."""
        return (
            files.read(os.path.join(self.folder, "before-restart"))
            if self._said.restarted
            else None
        )

    @property
    def standing(self) -> Dict[str, Any]:
        """What the node was in its swarm before that restart (`member.standing`); empty where
        nobody noted it."""
        return self._said.standing

    @property
    def healthy(self) -> Optional[bytes]:
        """The last file with which docker is known to have started and been healthy; None where
        none is known."""
        return files.read(os.path.join(self.folder, "healthy"))

    def keep_healthy(self, data: Optional[bytes]) -> None:
        """docker has started with this file and is healthy. Keeps nothing before the first `begin`,
        or where there is no file."""
        if self.exists and data is not None and self.healthy != data:
            files.replace(os.path.join(self.folder, "healthy"), data, mode=0o600)

    def keep_before_restart(self, data: Optional[bytes], standing: Dict[str, Any]) -> None:
        """Keep what is restored if the node turns out not to be healthy; before the file is
        changed, so that a kill loses nothing.

        A run that finds an interrupted one's keeps that one's: what is in the file now was never
        tried.
        """
        if self.unverified:
            return
        if data is not None:
            files.replace(os.path.join(self.folder, "before-restart"), data, mode=0o600)
        self._begun.restarted = data is not None
        self._begun.standing = standing
        self._save()

    @property
    def untried(self) -> bool:
        """Whether the file was changed for a restart that has not happened, as far as is known."""
        return self.unverified and not self._said.started

    def docker_started(self) -> None:
        """docker has started with the new file; whether the node is healthy is another question."""
        self._begun.started = True
        self._save()

    def forget_before_restart(self) -> None:
        """The restart is verified, or undone."""
        if self.unverified:
            self._begun.restarted, self._begun.started = None, False
            self._begun.standing = {}
            self._save()
            files.remove(os.path.join(self.folder, "before-restart"))

    def original_spellings(self, names: List[str]) -> Dict[str, Optional[str]]:
        """How the original spells some keys; None where it has none."""
        text = daemon_json.decode(self.original)
        return {key: daemon_json.spelling(text, key) for key in names}

    @property
    def written(self) -> List[str]:
        """Digests of every content that we may have put there."""
        return list(self._said.written)

    @property
    def original(self) -> Optional[bytes]:
        """The file as it was before us; None if there was none."""
        return files.read(os.path.join(self.folder, "original")) if self._said.existed else None

    def begin(
        self, url: str, before: Optional[bytes], after: Optional[bytes], keys: Dict[str, Any]
    ) -> None:
        """Before the file changes: keep the original, and say which bytes will be ours. An
        interruption then loses nothing."""
        if self._known is None:
            shutil.rmtree(
                self.folder, ignore_errors=True
            )  # what was left where a removal was interrupted
        for folder in (STATE, self.folder):
            files.make_private_folder(folder)
        if self._known is None:
            self._known = Known()
            self._keep_original(before)
        elif files.digest(before) not in self.written and before != self.original:
            # Somebody has edited the file since: what must come back one day is that edit, without
            # our entries.
            self._keep_original(None if before is None else self._without_entries(before))
        # An owner with the very same mirror is this one under a former name: the service has been
        # renamed.
        others = {
            owner: other
            for owner, other in self._known.mirrors.items()
            if not daemon_json.same(other, url)
        }
        self._known.mirrors = {**others, self.owner: url}
        entered = self._known.keys
        self._known.keys = {
            **{owner: entered[owner] for owner in others if owner in entered},
            **({self.owner: keys} if keys else {}),
        }
        self.own(after)

    def _keep_original(self, data: Optional[bytes]) -> None:
        if data is not None:
            files.replace(os.path.join(self.folder, "original"), data, mode=0o600)
        self._begun.existed = data is not None

    def _without_entries(self, data: bytes) -> bytes:
        text = daemon_json.decode(data)
        for url in self._said.mirrors.values():
            text = daemon_json.remove_mirror(text, url)
        for entered in self._said.keys.values():
            text = self.without_keys(text, entered)
        if not daemon_json.has_list(daemon_json.decode(self.original)):
            text = daemon_json.remove_empty_list(text)
        return text.encode()

    def without_keys(self, text: str, entered: Dict[str, Any]) -> str:
        """`text` with the original's spelling of keys that have the value we gave them; another
        value is somebody else's."""
        for key, spelling in self.original_spellings(list(entered)).items():
            now = daemon_json.spelling(text, key)
            if now is not None and json.loads(now) == entered[key]:
                text = with_spelling(text, key, spelling)
        return text

    def own(self, data: Optional[bytes]) -> None:
        """Say that these bytes are ours, before they are written."""
        if self._known is not None:
            self._known.written = sorted({*self.written, files.digest(data)})
            self._save()

    def settle(self, url: str, data: Optional[bytes], keys: Dict[str, Any]) -> None:
        """After success: these bytes, and no earlier ones, are what we left there. Writes nothing
        if that is known."""
        if (
            self._renamed
            or self.mirror != url
            or self.written != [files.digest(data)]
            or self.keys != keys
        ):
            self.begin(url, data, data, keys)
            # Earlier contents belong to earlier originals; if somebody goes back to one by hand,
            # that is an edit.
            self._begun.written = [files.digest(data)]
            self._save()

    def rewind(self) -> None:
        """After a failure: know what was known before."""
        if self._before is None:
            self._remove_folder()
        else:
            self._known = _parsed(self.folder, self._before)
            self._save()

    def drop(self) -> None:
        """This owner's mirror is removed; with the last one it is as if we had never been there."""
        if self.others:
            self._begun.mirrors.pop(self.owner, None)
            self._begun.keys.pop(self.owner, None)
            self._save()
        else:
            self._remove_folder()

    def _remove_folder(self) -> None:
        # First what says that there is a record: one that has lost its original half way would have
        # the file deleted one day.
        files.remove(os.path.join(self.folder, "record.json"))
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty while another daemon's record is there
            os.rmdir(STATE)

    def _save(self) -> None:
        self._begun.path = self.path
        path = os.path.join(self.folder, "record.json")
        files.replace(path, self._begun.as_json(), mode=0o600)


def paths_below(folder: str, owner: str) -> List[str]:
    """The files below a folder that have an entry of this owner. Raises files.FileProblem where the
    record of one of them is damaged."""
    spellings = [folder.strip("/").replace("/", sign) for sign in ("-", "%2F")]
    records = [
        os.path.dirname(path)
        for path in sorted(glob.glob(os.path.join(glob.escape(STATE), "*", "record.json")))
        # Another file's record is none of our business, whatever state it is in.
        if os.path.basename(os.path.dirname(path)).startswith(tuple(spellings))
    ]
    found = [_parsed(record, files.read(os.path.join(record, "record.json"))) for record in records]
    return [
        known.path
        for known in found
        if known is not None
        and known.path is not None
        and known.path.startswith(folder.rstrip("/") + "/")
        and owner in known.mirrors
    ]


def _folder_of(path: str) -> str:
    """Where the record of a daemon.json is, or will be.

    Earlier versions wrote `-` for every `/`, so that two paths could share a folder, and did not
    say whose it was. Such a folder stays where it is, with the one path whose record it is. A path
    with `-` gets a name that is its alone, and so does one whose usual name is taken.
    """
    name = path.strip("/")
    former = os.path.join(STATE, name.replace("/", "-"))
    own = os.path.join(STATE, name.replace("/", "%2F"))
    whose = None if os.path.exists(os.path.join(own, "record.json")) else _path_of(former)
    if whose == path:
        return former
    free = whose is None and "-" not in path and not os.path.exists(own)
    return former if free else own


def _path_of(folder: str) -> Optional[str]:
    """The daemon.json whose record is in a folder that may be that of several; None if there is
    none."""
    data = files.read(os.path.join(folder, "record.json"))
    if data is None:
        return None
    known = _parsed(folder, data)
    if known is None or known.path is not None:
        return None if known is None else known.path
    parts = os.path.basename(folder).split("-")
    possible = ["/" + "".join(word) for word in itertools.islice(_joined(parts), AMBIGUOUS)]
    there = [path for path in possible if os.path.exists(path)]
    written = [path for path in there if files.digest(files.read(path)) in known.written]
    # Where nothing tells them apart it is the usual one, which has no `-` in its name.
    return (written if len(written) == 1 else there if len(there) == 1 else possible)[0]


def _joined(parts: List[str]) -> Iterator[List[str]]:
    """The parts of a name with `/` or `-` between them, in all ways; `/` everywhere first."""
    for signs in itertools.product("/-", repeat=len(parts) - 1):
        yield [
            word for index, part in enumerate(parts) for word in (part, *signs[index : index + 1])
        ]


def _parsed(folder: str, data: Optional[bytes]) -> Optional[Known]:
    """What a record says; None where there is none. Raises files.FileProblem for one that is
    damaged or newer: whose entries are ours is known from nowhere else."""
    if data is None:
        return None
    try:
        said = json.loads(data)
        number = said.pop("format", FORMAT)
        known = Known(
            **{name: value for name, value in said.items() if name in Known.__dataclass_fields__}
        )
        if isinstance(number, int) and number > FORMAT:
            raise files.FileProblem(
                "%s/record.json has the format %d, which a newer version of the registry mirror"
                " wrote, and this one reads up to %d; use that version"
                " [RM179]" % (folder, number, FORMAT)
            )
        if (
            {"mirrors", "written"} <= set(said)
            and isinstance(known.mirrors, dict)
            and isinstance(known.written, list)
            and isinstance(known.keys, dict)
        ):
            return known
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise files.FileProblem(
        "%s/record.json is damaged; bring it back from a backup, or move %s away: then daemon.json"
        " as it is now counts as the original [RM180]" % (folder, folder)
    )
