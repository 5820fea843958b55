"""Answers as `docker` and `systemctl` on a simulated node, over the model in `dockerd.py`; its
state is a JSON file.

Run as a program with either name as its first word, and with NODE naming the node's folder. Only
what the node agent asks is there; anything else ends with 64, so that a change of the agent is
noticed. What is merely read (`docker info`) lies ready in a file that a shell wrapper shows: real
nodes have a processor each, and these share two with the roll-out itself.
"""

import fcntl
import json
import os
import sys
import time
from pathlib import Path

from lab.fleet.dockerd import Dockerd, Refused

DAEMON_JSON = Path("/etc/docker/daemon.json")
UNKNOWN = 64
FRONTS = {
    # Its docker cannot be asked for a manifest: it has no socket of its own.
    "docker": 'case "$1" in info) exec cat "$NODE/info.json" ;; context) echo tcp://simulated; exit'
    " ;; esac",
    # dockerd's process id: any process without flags.
    "systemctl": 'case "$1" in show) echo 1; exit ;; esac',
}
"""The beginning of each shell wrapper; the rest runs this program."""


def write(node: Path, daemon: Dockerd) -> None:
    """Store a daemon and what its `docker info` says."""
    info = (
        daemon.info()
        if daemon.running
        else {"ServerErrors": ["Cannot connect to the Docker daemon"]}
    )
    fresh = node / "info.new"
    fresh.write_text(json.dumps(info) + "\n")
    fresh.rename(node / "info.json")
    (node / "dockerd.json").write_text(json.dumps(daemon.as_json()))


def main() -> int:
    name, words = sys.argv[1], sys.argv[2:]
    node = Path(os.environ["NODE"])
    with (node / "dockerd.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        daemon = Dockerd(**json.load(file))
        before = daemon.as_json()
        code = (systemctl if name == "systemctl" else docker)(daemon, words)
        if daemon.as_json() != before:
            write(node, daemon)
    return code


def docker(daemon: Dockerd, words: list[str]) -> int:
    if words[:1] == ["events"]:
        since = float(words[words.index("--since") + 1])
        for when, attributes in daemon.events:
            if when >= since:
                print(json.dumps(attributes))
        return 0
    return UNKNOWN


def systemctl(daemon: Dockerd, words: list[str]) -> int:
    data = DAEMON_JSON.read_bytes() if DAEMON_JSON.exists() else None
    if words == ["reload", "docker"]:
        daemon.reload(data, time.time())
        return 0
    if words == ["reset-failed", "docker"]:
        daemon.reset_failed()
        return 0
    if words == ["restart", "docker"]:
        try:
            daemon.restart(data, time.time())
        except Refused:
            return 1
        return 0
    return UNKNOWN


if __name__ == "__main__":
    sys.exit(main())
