"""The running dockerd as a process: its command line, its environment, when it was started; and
what its program says of a file.

Owns /proc and the questions to the program itself. It deliberately judges nothing: `preflight.py`
does.
"""

import os
import re
import subprocess
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from . import engine
from .daemon_keys import version_of

PROC = "/proc"
REPLACED = " (deleted)"
"""What the kernel puts behind the name of a program whose file is not the one that runs any more
(proc(5))."""
NOBODY = 2**31 - 77
"""A user id that no account has: dockerd reads its configuration, sees that it is not root, and
ends (moby cmd/dockerd)."""
SYSTEMDS_OWN = (
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)
"""What systemd has given to the running one alone (sd_notify(3), sd_listen_fds(3))."""
ASK_SECONDS = 20
"""dockerd answers in 0.05 s."""


class Process(NamedTuple):
    """A running dockerd. What cannot be found out is empty, and `started_at` None."""

    arguments: List[str]
    """Its command line, program first."""
    program: str
    """Its own file; with REPLACED behind it where that is another one by now."""
    environment: Mapping[str, str]
    started_at: Optional[float]
    """Seconds since 1970, by the clock as it is now."""
    identity: str
    """The same for one process from its start to its end, and for no other."""


def running(unit: str) -> Process:
    """The dockerd that runs as `unit`. Raises engine.EngineProblem where there is none."""
    pid = engine.pid(unit)
    try:
        arguments, environment = _words(pid, "cmdline"), _words(pid, "environ")
        program = os.readlink("%s/%s/exe" % (PROC, pid))
        ticks = int(_text("%s/stat" % pid).rpartition(")")[2].split()[19])
        boot = _text("sys/kernel/random/boot_id").strip()
        age = float(_text("uptime").split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return Process([], "", {}, None, "")
    pairs = dict(word.split("=", 1) for word in environment if "=" in word)
    return Process(arguments, program, pairs, time.time() - age, "%s %s %d" % (boot, pid, ticks))


def stale_unit(unit: str, process: Process) -> List[str]:
    """What of the service has been edited since dockerd was started, so that a restart would take
    it over."""
    if process.started_at is None or not engine.has_systemd():
        return []
    names = ("FragmentPath", "DropInPaths", "EnvironmentFiles", "ExecStart")
    shown = engine.run("systemctl", "show", "--property=" + ",".join(names), unit).splitlines()
    values = [line.partition("=") for line in shown if line.partition("=")[0] in names]
    files = [
        word
        for name, _, value in values
        if name != "ExecStart"
        for word in value.split()
        if word.startswith("/")
    ]
    stale = [
        path
        for path in files
        if os.path.exists(path) and os.stat(path).st_ctime > process.started_at
    ]
    starts = [value for name, _, value in values if name == "ExecStart"]
    if not stale and starts and not same_command(starts[-1], process.arguments):
        return ["its ExecStart"]
    return stale


def same_command(exec_start: str, arguments: List[str]) -> bool:
    """Whether a command line is what systemd shows as ExecStart, as far as that goes before its
    first variable."""
    match = re.search(r"argv\[\]=(.*?) ; ", exec_start)
    if not match:
        return True
    expected, found = match.group(1).split(), " ".join(arguments).split()
    literal = next((index for index, word in enumerate(expected) if "$" in word), None)
    return found[1:literal] == expected[1:literal]


def complaint(data: bytes, process: Process, version: str) -> Optional[str]:
    """Why dockerd itself, with the same command line, refuses a file with these bytes; None if it
    takes it.

    Since 23 it has `--validate`. An older one is started as a user who is not root, which it
    refuses, before it has touched anything, after it has read its configuration: if its last words
    are not those that it has for an empty file, they are the reason.
    """
    if not os.path.isfile(process.program):
        return None
    if version_of(version) >= (23, 0, 0):
        code, words = _ask(data, process, ["--validate"], None)
        return None if code == 0 else words
    _, words = _ask(data, process, [], NOBODY)
    return None if words == _ask(b"{}", process, [], NOBODY)[1] else words


def _ask(data: bytes, process: Process, more: List[str], user: Optional[int]) -> "tuple[int, str]":
    """Exit code and last words. The file has no name, so nobody else reads it; dockerd takes the
    last --config-file."""
    handle = os.memfd_create("daemon.json")
    try:
        os.write(handle, data)
        name = "/proc/self/fd/%d" % handle
        command = [process.program, *process.arguments[1:], *more, "--config-file", name]

        def become() -> None:
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)

        streams: Dict[str, Any] = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "stdin": subprocess.DEVNULL,
        }
        environment = {
            name: value for name, value in process.environment.items() if name not in SYSTEMDS_OWN
        } or None
        done = subprocess.run(
            command,
            pass_fds=[handle],
            preexec_fn=become,
            env=environment,
            timeout=ASK_SECONDS,
            check=False,
            **streams,
        )
    except subprocess.TimeoutExpired:
        return 1, "it did not answer within %d s" % ASK_SECONDS
    except OSError as error:
        return 1, "it cannot be asked: %s" % error.strerror
    finally:
        os.close(handle)
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return done.returncode, (lines[-1] if lines else "it ended with %d" % done.returncode).replace(
        name, "the file"
    )


def _text(name: str) -> str:
    with open("%s/%s" % (PROC, name), encoding="utf-8", errors="replace") as file:
        return file.read()


def _words(pid: str, name: str) -> List[str]:
    with open("%s/%s/%s" % (PROC, pid, name), "rb") as file:
        return [word.decode(errors="surrogateescape") for word in file.read().split(b"\0") if word]
