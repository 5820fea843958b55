"""Makes one node use the mirror (`apply`) or forget it (`remove`): read, plan, change, verify, or put everything back.

WHAT IT OWNS: our entry in daemon.json, and a folder in STATE with the original file and a record of what we wrote.

WHAT IT PROMISES: a node that is right is neither written to nor reloaded. A change is believed only when `docker info` shows
it. After a failure the old bytes are back and docker has been told. An interruption anywhere leaves a file that is wholly old
or wholly new, and the next run goes on from there.

It deliberately never restarts docker, and leaves every other key to its owner.
"""

import contextlib
import functools
import json
import os
import shutil
from typing import Any, Callable, Dict, List, Optional

from . import daemon_json, engine, files, preflight, probe
from .files import Failed

STATE = "/var/lib/swarm-registry-mirror"
"""Root-only: a daemon.json may hold proxy passwords, and so does our copy of the original."""
LOCK = "/run/lock/swarm-registry-mirror"
"""Not in STATE, which goes with the last mirror: a lock file that is removed can be held twice."""

PATIENCE = 40
"""Seconds that a mirror may be away when a node is told of it: swarm moves a task off a dead machine in about half of that."""

Action = Callable[[Dict[str, Any]], str]


def _locked(act: Action) -> Action:
    """One run at a time on a node; what fails before anything was written says so."""

    @functools.wraps(act)
    def run(request: Dict[str, Any]) -> str:
        try:
            with files.locked(LOCK):
                return act(request)
        except daemon_json.Refused as error:
            raise Failed("nothing was changed: %s: %s" % (request["daemon_json"], error)) from error
        except (files.FileProblem, engine.EngineProblem) as error:
            raise Failed("nothing was changed: %s" % error) from error

    return run


@_locked
def apply(request: Dict[str, Any]) -> str:
    """Have docker use `request["mirror"]`; returns `unchanged`, `reloaded` or `written and reloaded`. Raises Failed."""
    record = Record(request["daemon_json"], request["owner"])
    path, url = request["daemon_json"], request["mirror"]
    former = record.mirror if record.mirror is not None and not daemon_json.same(record.mirror, url) else None
    wrong = probe.fault(url, PATIENCE)
    if wrong:
        raise Failed("nothing was changed: from this node, " + wrong)
    info = engine.info()
    used = [mirror for mirror in (url, former) if mirror and daemon_json.contains(engine.mirrors_of(info), mirror)]

    # Read only now, because asking the mirror may take seconds in which somebody else edits the file.
    before = files.read(path)
    text = daemon_json.decode(before)
    wanted = daemon_json.add_mirror(daemon_json.remove_mirror(text, former) if former else text, url)
    after = before if wanted == text else wanted.encode()
    if after == before and used == [url]:
        record.settle(url, before)
        return "unchanged"
    _preflight(path, text, after or b"", info, [*record.mirrors, url])

    record.begin(url, before, after)
    try:
        if after != before:
            files.replace(path, after or b"")
        engine.reload_until(url, used=True)
    except Exception as error:
        outcome = _put_back(path, before, url)
        record.rewind()
        raise Failed("%s; %s" % (error, outcome)) from error
    record.settle(url, after)
    return "reloaded" if after == before else "written and reloaded"


@_locked
def remove(request: Dict[str, Any]) -> str:
    """Have docker forget the mirror and restore daemon.json; returns `forgotten` or `nothing to forget`. Raises Failed."""
    record = Record(request["daemon_json"], request["owner"])
    path = request["daemon_json"]
    url = record.mirror or request["mirror"]
    before = files.read(path)
    text = daemon_json.decode(before)
    after = _without_us(record, url, before)
    # While the key is absent a reload keeps the mirrors that dockerd has, so the list must be there, empty, once.
    between = daemon_json.add_empty_list(daemon_json.decode(after)).encode()

    info = engine.info()
    used = daemon_json.contains(engine.mirrors_of(info), url)
    if not used and after == before:
        record.drop()
        return "nothing to forget"
    if used:
        _preflight(path, text, between, info, [*record.mirrors, url])
    try:
        if used:
            record.own(between)
            files.replace(path, between)
            engine.reload_until(url, used=False)
        if after is None:
            files.remove(path)
        elif after != (between if used else before):
            files.replace(path, after)
    except Exception as error:
        raise Failed("%s; %s" % (error, _put_back(path, before, url, used=_lists(text, url)))) from error
    record.drop()
    return "forgotten"


def _preflight(path: str, text: str, after: bytes, info: Dict[str, Any], ours: List[str]) -> None:
    """Raises Failed with every finding that speaks against changing the file now."""
    arguments, program = preflight.dockerd()
    facts = {"path": path, "text": text, "arguments": arguments, "info": info, "mirrors": ours}
    found = preflight.findings(facts)
    wrong = preflight.validated_by_dockerd(after, program, str(info.get("ServerVersion", "")))
    if wrong:
        found.append("dockerd would refuse the file: %s" % wrong)
    if found:
        raise Failed("nothing was changed: " + "; ".join(found))


def _lists(text: str, url: str) -> bool:
    """Whether the text of a daemon.json lists the mirror `url`."""
    return daemon_json.contains(daemon_json.mirrors(text), url)


def _without_us(record: "Record", url: str, before: Optional[bytes]) -> Optional[bytes]:
    """What daemon.json should be without us: the original, unless somebody has edited the file since we wrote it."""
    last = not record.others
    if last and record.exists and files.digest(before) in record.written:
        original = record.original
        if not _lists(daemon_json.decode(original), url):
            return original
    text = daemon_json.decode(before)
    without = daemon_json.remove_mirror(text, url)
    if without == text:
        return before
    if last and not (record.exists and daemon_json.has_list(daemon_json.decode(record.original))):
        without = daemon_json.remove_empty_list(without)
    return without.encode()


def _put_back(path: str, before: Optional[bytes], url: str, used: bool = False) -> str:
    """Restore the old bytes and tell dockerd; returns the sentence that the failure ends with."""
    try:
        text = daemon_json.decode(before)
        used = used or _lists(text, url)
        if not daemon_json.has_list(text):
            # As in `remove`: drop from the running daemon what the old text does not mention.
            files.replace(path, daemon_json.add_empty_list(text).encode())
            with contextlib.suppress(engine.EngineProblem):
                engine.reload_until(url, used=False)
        if before is None:
            files.remove(path)
        elif files.read(path) != before:
            files.replace(path, before)
        with contextlib.suppress(engine.EngineProblem):
            engine.reload_until(url, used=used)
    except Exception as error:
        return "PUTTING THE OLD daemon.json BACK FAILED TOO: %s" % error
    return "the old daemon.json is back"


class Record:
    """What we know of our own doings to one daemon.json: the original, the bytes we wrote, and who entered which mirror.

    Shared by all mirrors of a node, so that the last one to go, whichever it is, finds the file as it was before the first.
    """

    def __init__(self, path: str, owner: str) -> None:
        self.folder = os.path.join(STATE, path.strip("/").replace("/", "-"))
        self.owner = owner
        data = files.read(os.path.join(self.folder, "record.json"))
        self._known: Dict[str, Any] = json.loads(data) if data else {}
        self._before = data

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

    @property
    def written(self) -> List[str]:
        """Digests of every content that we may have put there."""
        return list(self._known.get("written", []))

    @property
    def original(self) -> Optional[bytes]:
        """The file as it was before us; None if there was none."""
        return files.read(os.path.join(self.folder, "original")) if self._known.get("existed") else None

    def begin(self, url: str, before: Optional[bytes], after: Optional[bytes]) -> None:
        """Before the file changes: keep the original, and say which bytes will be ours. An interruption then loses nothing."""
        for folder in (STATE, self.folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        if not self._known:
            self._known = {"written": [], "mirrors": {}}
            self._keep_original(before)
        elif files.digest(before) not in self.written and before != self.original:
            # Somebody has edited the file since: what must come back one day is his, without our entries.
            self._keep_original(None if before is None else self._without_entries(before))
        # An owner with the very same mirror is this one under a former name: the service has been renamed.
        others = {owner: other for owner, other in self._known["mirrors"].items() if not daemon_json.same(other, url)}
        self._known["mirrors"] = {**others, self.owner: url}
        self.own(after)

    def _keep_original(self, data: Optional[bytes]) -> None:
        if data is not None:
            files.replace(os.path.join(self.folder, "original"), data, mode=0o600)
        self._known["existed"] = data is not None

    def _without_entries(self, data: bytes) -> bytes:
        text = daemon_json.decode(data)
        for url in self._known["mirrors"].values():
            text = daemon_json.remove_mirror(text, url)
        if not daemon_json.has_list(daemon_json.decode(self.original)):
            text = daemon_json.remove_empty_list(text)
        return text.encode()

    def own(self, data: Optional[bytes]) -> None:
        """Say that these bytes are ours, before they are written."""
        if self._known:
            self._known["written"] = sorted({*self.written, files.digest(data)})
            self._save()

    def settle(self, url: str, data: Optional[bytes]) -> None:
        """After success: these bytes, and no earlier ones, are what we left there. Writes nothing if that is known."""
        if self.mirror != url or self.written != [files.digest(data)]:
            self.begin(url, data, data)
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
            self._save()
        else:
            self._remove_folder()

    def _remove_folder(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty while another daemon's record is there
            os.rmdir(STATE)

    def _save(self) -> None:
        files.replace(os.path.join(self.folder, "record.json"), json.dumps(self._known, indent=1).encode(), mode=0o600)


def look(request: Dict[str, Any]) -> str:
    """How the node is, as JSON; changes nothing and takes no lock. For people and scripts, never for Pulumi's state.

    `engine` (version), `listed` (the file has our entry), `used` (docker uses it), `recorded` (we know the original),
    `edited` (somebody has changed the file since), `faults` (sentences: what keeps the node from using the mirror).
    """
    path, url = request["daemon_json"], request["mirror"]
    found: Dict[str, Any] = {"engine": "", "listed": False, "used": False, "recorded": False, "edited": False, "faults": []}
    info: Dict[str, Any] = {}
    try:
        info = engine.info()
        found.update(engine=info["ServerVersion"], used=daemon_json.contains(engine.mirrors_of(info), url))
    except Failed as error:
        found["faults"].append(str(error))
    try:
        record, data = Record(path, request["owner"]), files.read(path)
        text = daemon_json.decode(data)
        found.update(recorded=record.mirror is not None, edited=record.exists and files.digest(data) not in record.written)
        found["listed"] = _lists(text, url)
        if info:
            facts = {"path": path, "text": text, "arguments": preflight.dockerd()[0], "info": info}
            found["faults"] += preflight.findings({**facts, "mirrors": [*record.mirrors, url]})
    except Failed as error:
        found["faults"].append("%s: %s" % (path, error))
    wrong = probe.fault(url)
    if wrong:
        found["faults"].append(wrong)
    return json.dumps(found)
