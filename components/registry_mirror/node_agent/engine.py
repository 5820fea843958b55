"""Talks to the node's docker: asks what it uses, reloads it, restarts it. Stdlib only.

Mirrors are among the settings that a reload (SIGHUP) takes over (moby daemon/reload.go). A restart
stops every container of the node, so only `restart.py` asks for one, on a node that is drained.
"""

import json
import os
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import files

INFO_SECONDS = 20
"""A healthy `docker info` takes a tenth of a second; one that hangs must not hold up the
roll-out."""
RELOAD_SECONDS = 10
"""How long dockerd may take to act on a SIGHUP; it was seen to take under 0.1 s. The signal itself
is asynchronous."""
ITS_COMPLAINTS = (
    "level=error",
    "level=fatal",
    "Error re",
    "failed to start daemon",
    "unable to configure",
)
"""Matches the lines of dockerd's log that say why it did not take a file."""
LOG_BYTES = 8192
"""Of a log file: a start that fails writes far less."""
POLL_SECONDS = 0.05
START_SECONDS = 180
"""For a stop and a start of docker; systemd gives a stop alone 90 s."""


class EngineProblem(files.Failed):
    """docker does not answer, or has not done what was asked of it; the message says what to do."""


def info(unit: str) -> Dict[str, Any]:
    """What `docker info` says of the running daemon. Raises EngineProblem, with what systemd knows,
    if that does not answer."""
    answer = run("docker", "info", "--format", "{{json .}}")
    try:
        found: Dict[str, Any] = json.loads(answer)
    except ValueError:
        found = {"ServerErrors": [answer[:200]]}
    # A client of 20.10 reports in this list that the daemon is unavailable, and exits with 0.
    if found.get("ServerErrors") or not found.get("RegistryConfig"):
        reason = (found.get("ServerErrors") or ["no answer"])[0]
        raise EngineProblem(
            "docker does not answer: %s%s [RM208]"
            % (reason, _why_down(unit) or "; see systemctl status " + unit)
        )
    return found


def mirrors_of(found: Dict[str, Any]) -> List[str]:
    """The mirrors that the running daemon uses; `null` (26.1) and `[]` (20.10) both mean none."""
    return list(found["RegistryConfig"].get("Mirrors") or [])


Complaint = Callable[[Dict[str, Any], Optional[Dict[str, str]]], Optional[str]]
"""What is not as wanted, by `docker info` and the attributes of the reload's event; None if all
is."""


def reload_until(unit: str, complaint: Complaint, with_event: bool = False) -> None:
    """Have dockerd read its configuration, and wait until `complaint` returns None. Raises
    EngineProblem.

    The exit code of the reload proves nothing: it is 0 even where dockerd refused the file.
    `with_event`: wait for the event that dockerd emits once it has accepted a reload, for what
    `docker info` does not show.
    """
    started = time.time()
    if has_systemd():
        run("systemctl", "reload", unit)
    else:
        run("kill", "-HUP", pid(unit))
    deadline = time.monotonic() + RELOAD_SECONDS
    while True:
        wrong = _untaken(unit, complaint, started, with_event)
        if wrong is None:
            return
        if time.monotonic() > deadline:
            words = "dockerd did not %s within %d s of a reload%s [RM035]"
            raise EngineProblem(words % (wrong, RELOAD_SECONDS, its_reason(unit, started)))
        time.sleep(POLL_SECONDS)


def _untaken(unit: str, complaint: Complaint, since: float, with_event: bool) -> Optional[str]:
    try:
        event = reload_event(since) if with_event else None
        return (
            "take the file over" if with_event and event is None else complaint(info(unit), event)
        )
    except EngineProblem as error:
        # A reload can end dockerd (an authorization plugin that does not answer); systemd then
        # starts it again.
        return "answer (%s)" % error


def reload_event(since: float) -> Optional[Dict[str, str]]:
    """Attributes of the youngest reload that dockerd has accepted since then: its live settings
    (moby daemon/reload.go).

    dockerd remembers its last 256 events, so that None does not mean that there was no reload.
    """
    lines = run(
        "docker",
        "events",
        "--since",
        "%.6f" % since,
        "--until",
        "%.6f" % time.time(),
        "--filter",
        "type=daemon",
        "--filter",
        "event=reload",
        "--format",
        "{{json .Actor.Attributes}}",
    ).splitlines()
    found: Optional[Dict[str, str]] = json.loads(lines[-1]) if lines else None
    return found


def restart(unit: str) -> None:
    """Stop docker and start it again; returns when it answers. Raises EngineProblem with its own
    last words."""
    started = time.time()
    try:
        if has_systemd():
            # Three starts within a minute and systemd gives up for good; what we do here is no
            # crash.
            run("systemctl", "reset-failed", unit)
            run("systemctl", "restart", unit, seconds=START_SECONDS)
        else:
            run("service", unit, "restart", seconds=START_SECONDS)
        _wait_for_answer(unit)
    except EngineProblem as error:
        raise EngineProblem(
            "docker did not start: %s%s [RM209]" % (error, its_reason(unit, started))
        ) from None


def _wait_for_answer(unit: str) -> None:
    deadline = time.monotonic() + INFO_SECONDS
    while True:
        try:
            info(unit)
        except EngineProblem:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return


def has_systemd() -> bool:
    """Whether systemd looks after this machine's services (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def pid(unit: str) -> str:
    """Process id of the running dockerd. Raises EngineProblem."""
    if has_systemd():
        found = run("systemctl", "show", "--property=MainPID", "--value", unit)
        if found == "0":
            raise EngineProblem("no service %s runs here%s [RM210]" % (unit, _its_end(unit)))
        return found
    found = run("cat", "/var/run/%s.pid" % unit)
    if not found.isdigit():  # -1 would be every process
        raise EngineProblem(
            ("/var/run/%s.pid has no process id in it; restart docker [RM036]") % unit
        )
    return found


def _why_down(unit: str) -> str:
    """What systemd says of a docker that does not answer, with the remedy; empty where it runs or
    nobody knows."""
    try:
        return _its_end(unit) if has_systemd() else ""
    except EngineProblem:
        return ""


def _its_end(unit: str) -> str:
    words = run("systemctl", "show", "--property=LoadState,ActiveState,Result", unit).splitlines()
    found: Dict[str, str] = dict(_pair(word) for word in words)
    if found.get("LoadState") == "not-found":
        return ": there is no unit of that name; set the node's key service to that of its dockerd"
    if found.get("ActiveState") == "active":
        return ""
    if found.get("ActiveState") == "failed":
        # systemd does not say whether it has also given up for good (its Result stays that of the
        # first failure, seen on 252).
        why = (
            ": it has failed (%s), and after three starts in a minute systemd does not try again"
            % found.get("Result")
        )
        return (
            why
            + "; see journalctl -u %s, then systemctl reset-failed %s; systemctl start %s"
            % (unit, unit, unit)
        )
    return ": it is %s; systemctl start %s" % (found.get("ActiveState", "away"), unit)


def _pair(line: str) -> Tuple[str, str]:
    name, _, value = line.partition("=")
    return name, value


def run(*command: str, seconds: float = INFO_SECONDS) -> str:
    """Output of a command. Raises EngineProblem with its own words if it fails or hangs."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds, check=False
        )
    except FileNotFoundError:
        raise EngineProblem("the program %s is not on this node [RM037]" % command[0]) from None
    except subprocess.TimeoutExpired:
        raise EngineProblem(
            "`%s` did not answer within %d s [RM211]" % (" ".join(command[:2]), seconds)
        ) from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise EngineProblem(
            "`%s` failed: %s [RM212]"
            % (" ".join(command[:2]), words[-1] if words else done.returncode)
        )
    return done.stdout.decode(errors="replace").strip()


def its_reason(unit: str, since: float) -> str:
    """dockerd's own log line about a refused configuration, where the journal, or without systemd
    its log file, has one."""
    try:
        if has_systemd():
            log = run(
                "journalctl", "--unit=" + unit, "--since=@%d" % since, "--output=cat", "--no-pager"
            ).splitlines()
        else:
            log = _last_lines("/var/log/%s.log" % unit, since)
    except (EngineProblem, OSError):
        return ""
    lines = [line for line in log if any(word in line for word in ITS_COMPLAINTS)]
    return "; its log says: %s" % lines[-1][-300:] if lines else ""


def _last_lines(path: str, since: float) -> List[str]:
    """The end of a log file (Debian's and OpenRC's init scripts have one) that was written to since
    then. Raises OSError."""
    if os.path.getmtime(path) < since:
        return []
    with open(path, "rb") as file:
        file.seek(-min(LOG_BYTES, os.path.getsize(path)), os.SEEK_END)
        return file.read().decode(errors="replace").splitlines()
