"""Changes daemon.json by a reload: write, configure dockerd, check; after a failure everything is
as it was.

Owns the sequence and its rollback. It decides nothing: the plan says what is to be written, and an
edit that somebody makes meanwhile is kept.
"""

import contextlib
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Sequence

from . import daemon_json, dockerd_view, engine, files
from .context import Context
from .daemon_keys import KEYS
from .files import Failed
from .plan import Plan, explicit, untaken, values_after

EDITED_MEANWHILE = "daemon.json was edited during the run, and that edit is kept [RM007]"


class Edit(NamedTuple):
    """An edit of daemon.json that may have to be undone."""

    path: str
    before: Optional[bytes]
    """None: there was no file."""
    written: Sequence[Optional[bytes]]
    """What we may have written. Anything else is somebody's edit of this very moment, and stays."""

    @property
    def left_alone(self) -> bool:
        """Whether the file has nothing of ours that it did not have before, as after a replacement
        that was refused."""
        try:
            now = files.read(self.path)
        except files.FileProblem:
            return False
        return now == self.before or now not in self.written

    @property
    def is_overtaken(self) -> bool:
        """Whether somebody else has edited the file meanwhile."""
        return files.read(self.path) not in [self.before, *self.written]

    def restore(self) -> None:
        """Have the file read `before` again. Raises files.FileProblem."""
        if self.before is None:
            files.remove(self.path)
        elif files.read(self.path) != self.before:
            files.replace(self.path, self.before)


def change(context: Context, before: Optional[bytes], todo: Plan, entered: Dict[str, Any]) -> None:
    """Write what was planned, reload docker, and check; after a failure everything is as it was.
    Raises Failed.

    `entered`: the keys that are ours afterwards.
    """
    record, request, info = context.record, context.request, context.info
    path, url, unit = request.path, request.mirror_url, request.unit
    # Where there is no file and nothing to be said in one, it is there for the reload alone.
    after = None if before is None and not todo.after else todo.after.encode()
    between = todo.between.encode()
    touched = [key for key in {**record.keys, **entered} if key not in todo.due]
    expected = values_after(todo.after, reloadable(touched))
    gone = [mirror for mirror in record.mirrors if not lists(todo.after, mirror)]
    edit = Edit(path, before, [between, after])
    record.begin(url, before, after, {**record.keys, **entered})
    reloaded = False
    try:
        if between != (before or b""):
            record.own(between)
            files.replace(path, between, expected=before)
        reloaded = True
        engine.reload_until(unit, complaint(todo.mirror, gone, expected), bool(expected))
        if after is None:
            files.remove(path)
        elif after != between:
            files.replace(path, after)
        if "insecure-registries" not in expected:
            _check_insecure(info, daemon_json.decode(before), unit)
        refusal = dockerd_view.refusal(url, request.check_image, info, unit, todo.after)
        if refusal:
            raise Failed("now that it is configured, " + refusal)
    except Exception as error:
        if not reloaded and edit.left_alone:
            record.rewind()
            raise Failed("nothing was changed: %s" % error) from error
        outcome = roll_back(context, edit, url, touched)
        record.rewind()
        raise Failed("%s; %s" % (error, outcome)) from error


def roll_back(context: Context, edit: Edit, url: str, names: List[str], used: bool = False) -> str:
    """Restore the old bytes and reload dockerd; returns the sentence that the failure ends with.

    `url`: the mirror that was entered or withdrawn; `names`: the keys that were touched; `used`:
    docker had the mirror before.
    """
    unit = context.request.unit
    try:
        if edit.is_overtaken:
            return EDITED_MEANWHILE
        text = daemon_json.decode(edit.before)
        used = used or lists(text, url)
        complete = explicit(text, names)
        as_before = complaint(
            url if used else None, [] if used else [url], values_after(text, reloadable(names))
        )
        if complete != text:
            # Drop from the running daemon what the old text does not mention: where a key is absent
            # a reload keeps what the daemon has.
            context.record.own(complete.encode())
            files.replace(edit.path, complete.encode())
            with contextlib.suppress(engine.EngineProblem):
                engine.reload_until(unit, as_before)
        edit.restore()
        with contextlib.suppress(engine.EngineProblem):
            engine.reload_until(unit, as_before)
    except Exception as error:
        return "PUTTING THE OLD daemon.json BACK FAILED TOO: %s [RM008]" % error
    return "the old daemon.json is back"


def reloadable(names: List[str]) -> List[str]:
    """Those of some keys that dockerd takes over with a reload."""
    return [key for key in names if KEYS[key].reloads]


def lists(text: str, url: str) -> bool:
    """Whether the text of a daemon.json lists the mirror `url`."""
    return daemon_json.contains(daemon_json.mirrors(text), url)


def complaint(url: Optional[str], gone: List[str], expected: Dict[str, Any]) -> engine.Complaint:
    """What a daemon that has read the file must show."""

    def missing(info: Dict[str, Any], event: Optional[Dict[str, str]]) -> Optional[str]:
        used = engine.mirrors_of(info)
        if url is not None and not daemon_json.contains(used, url):
            return "use %s" % url
        still = [mirror for mirror in gone if daemon_json.contains(used, mirror)]
        if still:
            return "forget %s" % still[0]
        keys = untaken(expected, info, event)
        return "take %s over" % ", ".join(keys) if keys else None

    return missing


def _check_insecure(info: Dict[str, Any], text: str, unit: str) -> None:
    """Check that docker still has its insecure registries. Raises Failed."""
    if "insecure-registries" in daemon_json.values(text) and _insecure(info) - _insecure(
        engine.info(unit)
    ):
        raise Failed(
            "docker lost its insecure-registries with the reload (moby#45552); it has them"
            " again once restarted [RM009]"
        )


def _insecure(info: Dict[str, Any]) -> FrozenSet[str]:
    """The registries that the running daemon takes without a trusted certificate."""
    configured = info["RegistryConfig"]
    hosts = [
        name
        for name, index in (configured.get("IndexConfigs") or {}).items()
        if not index.get("Secure", True)
    ]
    return frozenset([*hosts, *(configured.get("InsecureRegistryCIDRs") or [])])
