"""Talks to the node's docker: which mirrors it uses, and telling it to read its configuration again. Stdlib only.

It deliberately never restarts docker: mirrors are among the settings that a reload (SIGHUP) takes over (moby
daemon/reload.go), and a restart would stop every container of the node.
"""

import json
import os
import subprocess
import time
from typing import Any, Dict, List

from . import daemon_json, files

INFO_SECONDS = 20
"""A healthy `docker info` takes a tenth of a second; one that hangs must not hold up the roll-out."""
RELOAD_SECONDS = 10
"""How long dockerd may take to act on a SIGHUP; it was seen to take under 0.1 s. The signal itself is asynchronous."""
POLL_SECONDS = 0.05


class EngineProblem(files.Failed):
    """docker does not answer or does not do what it was told; the message says what to do."""


def info() -> Dict[str, Any]:
    """What `docker info` says of the running daemon. Raises EngineProblem if that does not answer."""
    answer = run("docker", "info", "--format", "{{json .}}")
    try:
        found: Dict[str, Any] = json.loads(answer)
    except ValueError:
        found = {"ServerErrors": [answer[:200]]}
    # A client of 20.10 says that the daemon is away in this list, and ends well all the same.
    if found.get("ServerErrors") or not found.get("RegistryConfig"):
        reason = (found.get("ServerErrors") or ["no answer"])[0]
        raise EngineProblem("docker does not answer: %s; start it first (systemctl status docker)" % reason)
    return found


def mirrors_of(found: Dict[str, Any]) -> List[str]:
    """The mirrors that the running daemon uses; `null` (26.1) and `[]` (20.10) both mean none."""
    return list(found["RegistryConfig"].get("Mirrors") or [])


def uses(url: str) -> bool:
    """Whether the running daemon uses the mirror `url`. Raises EngineProblem."""
    return daemon_json.contains(mirrors_of(info()), url)


def reload_until(url: str, used: bool) -> None:
    """Tell dockerd to read its configuration, and wait until it uses `url` (or does not). Raises EngineProblem.

    The exit code of the reload proves nothing: it is 0 even where dockerd refused the file.
    """
    started = time.time()
    if os.path.isdir("/run/systemd/system"):
        run("systemctl", "reload", "docker")
    else:
        run("kill", "-HUP", pid())
    deadline = time.monotonic() + RELOAD_SECONDS
    while uses(url) != used:
        if time.monotonic() > deadline:
            wish = "use" if used else "forget"
            raise EngineProblem(
                "dockerd did not %s %s within %d s of a reload%s" % (wish, url, RELOAD_SECONDS, _its_reason(started))
            )
        time.sleep(POLL_SECONDS)


def pid() -> str:
    """Process id of the running dockerd. Raises EngineProblem."""
    if os.path.isdir("/run/systemd/system"):
        return run("systemctl", "show", "--property=MainPID", "--value", "docker")
    return run("cat", "/var/run/docker.pid")


def run(*command: str) -> str:
    """Output of a command. Raises EngineProblem with its own words if it fails or hangs."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=INFO_SECONDS, check=False)
    except FileNotFoundError:
        raise EngineProblem("the program %s is not on this node" % command[0]) from None
    except subprocess.TimeoutExpired:
        raise EngineProblem("`%s` did not answer within %d s" % (" ".join(command[:2]), INFO_SECONDS)) from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise EngineProblem("`%s` failed: %s" % (" ".join(command[:2]), words[-1] if words else done.returncode))
    return done.stdout.decode(errors="replace").strip()


def _its_reason(since: float) -> str:
    """dockerd's own log line about a refused configuration, where the journal has one."""
    try:
        journal = run("journalctl", "--unit=docker", "--since=@%d" % since, "--output=cat", "--no-pager")
    except EngineProblem:
        return ""
    lines = [line for line in journal.splitlines() if "level=error" in line or "Error re" in line]
    return "; its log says: %s" % lines[-1][-300:] if lines else ""
