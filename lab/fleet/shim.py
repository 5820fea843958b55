"""Answers as `docker` and `systemctl` on a simulated node, over the model in `dockerd.py`; its state is a JSON file.

Run as a program under either name, with NODE naming the node's folder. Only what the node agent asks is there; anything else
ends with 64, so that a change of the agent is noticed.
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


def main() -> int:
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    state = Path(os.environ["NODE"], "dockerd.json")
    with state.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        daemon = Dockerd(**json.load(file))
        before = daemon.as_json()
        code = (systemctl if name == "systemctl" else docker)(daemon, words)
        if daemon.as_json() != before:
            file.seek(0)
            file.truncate()
            json.dump(daemon.as_json(), file)
    return code


def docker(daemon: Dockerd, words: list[str]) -> int:
    if words[:1] == ["info"] and not daemon.running:
        print(json.dumps({"ServerErrors": ["Cannot connect to the Docker daemon"]}))
        return 0
    if words[:1] == ["info"]:
        print(json.dumps(daemon.info()))
        return 0
    if words[:1] == ["events"]:
        since = float(words[words.index("--since") + 1])
        for when, attributes in daemon.events:
            if when >= since:
                print(json.dumps(attributes))
        return 0
    return UNKNOWN


def systemctl(daemon: Dockerd, words: list[str]) -> int:
    data = DAEMON_JSON.read_bytes() if DAEMON_JSON.exists() else None
    if words[:1] == ["show"]:
        print(1)  # dockerd's process id: any process without flags
        return 0
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
