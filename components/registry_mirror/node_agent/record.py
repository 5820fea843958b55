"""What we know of our own doings to one daemon.json: the original, the bytes we wrote, who entered which mirror and which keys.

Owns the folder STATE. It deliberately decides nothing: `node.py` and `restart.py` ask it what to put back.
"""

import contextlib
import itertools
import json
import os
import shutil
from typing import Any, Dict, Iterator, List, Optional

from . import daemon_json, files
from .plan import with_spelling

STATE = "/var/lib/swarm-registry-mirror"
"""Root-only: a daemon.json may hold proxy passwords, and so does our copy of the original."""

AMBIGUOUS = 4096
"""Paths that are looked for when a record of an earlier version does not say whose it is."""


class Record:
    """The record of one daemon.json, as one owner (the name of a mirror's service) sees it.

    Shared by all mirrors of a node, so that the last one to go, whichever it is, finds the file as it was before the first.
    """

    def __init__(self, path: str, owner: str) -> None:
        self.path = path
        self.folder = _folder_of(path)
        self.owner = owner
        self._before = files.read(os.path.join(self.folder, "record.json"))
        self._known: Dict[str, Any] = _parsed(self.folder, self._before)

    @property
    def exists(self) -> bool:
        """Whether we have been at this file before."""
        return bool(self._known)

    @property
    def mirror(self) -> Optional[str]:
        """The mirror that this owner has entered, which may differ from the one that is wanted now."""
        url: Optional[str] = self._known.get("mirrors", {}).get(self.owner)
        return url

    @property
    def mirrors(self) -> List[str]:
        """All mirrors that we have entered into this file, whoever owns them."""
        return list(self._known.get("mirrors", {}).values())

    @property
    def others(self) -> List[str]:
        """The owners of other mirrors in this file."""
        return [owner for owner in self._known.get("mirrors", {}) if owner != self.owner]

    def is_of_another(self, url: str) -> bool:
        """Whether the entry `url` is there for another owner."""
        return any(daemon_json.same(self._known["mirrors"][owner], url) for owner in self.others)

    @property
    def keys(self) -> Dict[str, Any]:
        """The keys that were handed over to this owner, with the values that it put there."""
        found: Dict[str, Any] = self._known.get("keys", {}).get(self.owner, {})
        return found

    @property
    def keys_of_others(self) -> Dict[str, Any]:
        """The keys that were handed over to other owners, with their values."""
        return {key: value for owner in self.others for key, value in self._known.get("keys", {}).get(owner, {}).items()}

    @property
    def unverified(self) -> bool:
        """Whether a restart was begun of which nobody knows yet that the node is well after it."""
        return "restarted" in self._known

    @property
    def before_restart(self) -> Optional[bytes]:
        """The file as it was before that restart: the last that docker is known to be well with."""
        return files.read(os.path.join(self.folder, "before-restart")) if self._known.get("restarted") else None

    @property
    def standing(self) -> Dict[str, Any]:
        """What the node was in its swarm before that restart (`member.standing`); empty where nobody noted it."""
        found: Dict[str, Any] = self._known.get("standing", {})
        return found

    @property
    def healthy(self) -> Optional[bytes]:
        """The last file with which docker is known to have started and been healthy; None where none is known."""
        return files.read(os.path.join(self.folder, "healthy"))

    def keep_healthy(self, data: Optional[bytes]) -> None:
        """docker has started with this file and is healthy. Keeps nothing before the first `begin`, or where there is no file."""
        if self._known and data is not None and self.healthy != data:
            files.replace(os.path.join(self.folder, "healthy"), data, mode=0o600)

    def keep_before_restart(self, data: Optional[bytes], standing: Dict[str, Any]) -> None:
        """Keep what is put back if the node turns out not to be well; before the file is changed, so that a kill loses nothing.

        A run that finds an interrupted one's keeps that one's: what is in the file now was never tried.
        """
        if self.unverified:
            return
        if data is not None:
            files.replace(os.path.join(self.folder, "before-restart"), data, mode=0o600)
        self._known["restarted"] = data is not None
        self._known["standing"] = standing
        self._save()

    @property
    def untried(self) -> bool:
        """Whether the file was changed for a restart that has not happened, as far as is known."""
        return self.unverified and not self._known.get("started")

    def docker_started(self) -> None:
        """docker has started with the new file; whether the node is well is another question."""
        self._known["started"] = True
        self._save()

    def forget_before_restart(self) -> None:
        """The restart is verified, or undone."""
        if self.unverified:
            self._known.pop("restarted")
            self._known.pop("started", None)
            self._known.pop("standing", None)
            self._save()
            files.remove(os.path.join(self.folder, "before-restart"))

    def original_spellings(self, names: List[str]) -> Dict[str, Optional[str]]:
        """How the original spells some keys; None where it has none."""
        text = daemon_json.decode(self.original)
        return {key: daemon_json.spelling(text, key) for key in names}

    @property
    def written(self) -> List[str]:
        """Digests of every content that we may have put there."""
        return list(self._known.get("written", []))

    @property
    def original(self) -> Optional[bytes]:
        """The file as it was before us; None if there was none."""
        return files.read(os.path.join(self.folder, "original")) if self._known.get("existed") else None

    def begin(self, url: str, before: Optional[bytes], after: Optional[bytes], keys: Dict[str, Any]) -> None:
        """Before the file changes: keep the original, and say which bytes will be ours. An interruption then loses nothing."""
        if not self._known:
            shutil.rmtree(self.folder, ignore_errors=True)  # what was left where a removal was interrupted
        for folder in (STATE, self.folder):
            files.make_private_folder(folder)
        if not self._known:
            self._known = {"written": [], "mirrors": {}}
            self._keep_original(before)
        elif files.digest(before) not in self.written and before != self.original:
            # Somebody has edited the file since: what must come back one day is his, without our entries.
            self._keep_original(None if before is None else self._without_entries(before))
        # An owner with the very same mirror is this one under a former name: the service has been renamed.
        others = {owner: other for owner, other in self._known["mirrors"].items() if not daemon_json.same(other, url)}
        self._known["mirrors"] = {**others, self.owner: url}
        entered = self._known.get("keys", {})
        self._known["keys"] = {
            **{owner: entered[owner] for owner in others if owner in entered},
            **({self.owner: keys} if keys else {}),
        }
        self.own(after)

    def _keep_original(self, data: Optional[bytes]) -> None:
        if data is not None:
            files.replace(os.path.join(self.folder, "original"), data, mode=0o600)
        self._known["existed"] = data is not None

    def _without_entries(self, data: bytes) -> bytes:
        text = daemon_json.decode(data)
        for url in self._known["mirrors"].values():
            text = daemon_json.remove_mirror(text, url)
        for entered in self._known.get("keys", {}).values():
            text = self.without_keys(text, entered)
        if not daemon_json.has_list(daemon_json.decode(self.original)):
            text = daemon_json.remove_empty_list(text)
        return text.encode()

    def without_keys(self, text: str, entered: Dict[str, Any]) -> str:
        """`text` with the original's spelling of keys that have the value we gave them; another value is somebody else's."""
        for key, spelling in self.original_spellings(list(entered)).items():
            now = daemon_json.spelling(text, key)
            if now is not None and json.loads(now) == entered[key]:
                text = with_spelling(text, key, spelling)
        return text

    def own(self, data: Optional[bytes]) -> None:
        """Say that these bytes are ours, before they are written."""
        if self._known:
            self._known["written"] = sorted({*self.written, files.digest(data)})
            self._save()

    def settle(self, url: str, data: Optional[bytes], keys: Dict[str, Any]) -> None:
        """After success: these bytes, and no earlier ones, are what we left there. Writes nothing if that is known."""
        if self.mirror != url or self.written != [files.digest(data)] or self.keys != keys:
            self.begin(url, data, data, keys)
            # Earlier contents belong to earlier originals; if somebody goes back to one by hand, that is an edit of his.
            self._known["written"] = [files.digest(data)]
            self._save()

    def rewind(self) -> None:
        """After a failure: know what was known before."""
        if self._before is None:
            self._remove_folder()
        else:
            self._known = json.loads(self._before)
            self._save()

    def drop(self) -> None:
        """This owner's mirror is gone; with the last one it is as if we had never been there."""
        if self.others:
            self._known["mirrors"].pop(self.owner, None)
            self._known.get("keys", {}).pop(self.owner, None)
            self._save()
        else:
            self._remove_folder()

    def _remove_folder(self) -> None:
        # First what says that there is a record: one that has lost its original half way would have the file deleted one day.
        files.remove(os.path.join(self.folder, "record.json"))
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty while another daemon's record is there
            os.rmdir(STATE)

    def _save(self) -> None:
        self._known["path"] = self.path
        files.replace(os.path.join(self.folder, "record.json"), json.dumps(self._known, indent=1).encode(), mode=0o600)


def _folder_of(path: str) -> str:
    """Where the record of a daemon.json is, or will be.

    Earlier versions wrote `-` for every `/`, so that two paths could share a folder, and did not say whose it was. Such a folder
    stays where it is, with the one path whose record it is. A path with `-` gets a name that is its alone, and so does one whose
    usual name is taken.
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
    """The daemon.json whose record is in a folder that may be that of several; None if there is none."""
    data = files.read(os.path.join(folder, "record.json"))
    if data is None:
        return None
    known = _parsed(folder, data)
    if "path" in known:
        return str(known["path"])
    parts = os.path.basename(folder).split("-")
    possible = ["/" + "".join(word) for word in itertools.islice(_joined(parts), AMBIGUOUS)]
    there = [path for path in possible if os.path.exists(path)]
    written = [path for path in there if files.digest(files.read(path)) in known["written"]]
    # Where nothing tells them apart it is the usual one, which has no `-` in its name.
    return (written if len(written) == 1 else there if len(there) == 1 else possible)[0]


def _joined(parts: List[str]) -> Iterator[List[str]]:
    """The parts of a name with `/` or `-` between them, in all ways; `/` everywhere first."""
    for signs in itertools.product("/-", repeat=len(parts) - 1):
        yield [word for index, part in enumerate(parts) for word in (part, *signs[index : index + 1])]


def _parsed(folder: str, data: Optional[bytes]) -> Dict[str, Any]:
    """What a record says. Raises files.FileProblem for a damaged one: whose entries are ours is known from nowhere else."""
    if data is None:
        return {}
    try:
        found = json.loads(data)
        if isinstance(found["mirrors"], dict) and isinstance(found["written"], list) and isinstance(found.get("keys", {}), dict):
            return dict(found)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    words = "%s/record.json is damaged; bring it back from a backup, or move %s away"
    raise files.FileProblem(words % (folder, folder) + ": then daemon.json as it is now counts as the original")
