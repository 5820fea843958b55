"""The node agent, sent to a node over SSH as a roll-out does."""

import subprocess
import time
from typing import Any

from components.registry_mirror import answer, ship
from components.registry_mirror.node_agent import outcome
from lab.plan import NODE2_DAEMON_JSON
from tests.lab.lab import MIRROR_URL, Lab

OLD = NODE2_DAEMON_JSON.encode()
"""node2's daemon.json as the lab makes it."""
NEW = OLD.replace(b'[ "https', f'[ "{MIRROR_URL}", "https'.encode())
"""The same with the mirror."""


class SentAgent:
    """The node agent, sent to a node over SSH as a roll-out does."""

    def __init__(self, lab: Lab, node: str, owner: str) -> None:
        self.lab, self.node, self.name = lab, lab.nodes[node], node
        self.settings: dict[str, Any] = {
            "owner": owner,
            "mirror": MIRROR_URL,
            "check_image": "library/swarm-mirror-proof:1",
            "service": "docker",
            "daemon_json": "/etc/docker/daemon.json",
            "keys": {},
            "restart": "never",
        }

    def start(self, action: str) -> "subprocess.Popen[str]":
        """Returns at once; what the agent is to do has been sent."""
        become = None if self.node.user == "root" else "sudo"
        folder = self.lab.folder
        options = [
            "-F",
            "/dev/null",
            "-i",
            str(folder.ssh_key),
            "-o",
            f"UserKnownHostsFile={folder.known_hosts}",
            "-T",
        ]
        argv = [
            "ssh",
            *options,
            f"{self.node.user}@{self.node.address}",
            ship.command(action, become),
        ]
        running = subprocess.Popen(
            self.lab.sandbox.command(argv, network_only=True),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert running.stdin is not None
        running.stdin.write(ship.request(ship.ACTIONS[action].program, self.settings))
        running.stdin.close()
        running.stdin = None
        for _ in range(
            100
        ):  # the chance is to be in what the agent does, not in what ssh does before
            if running.poll() is not None or self.lab.on(
                self.name, "pgrep -f '[R]EQUEST=json' || true"
            ):
                break
            time.sleep(0.02)
        return running

    def run(self, action: str) -> tuple[int, str]:
        """Exit code, and what it said."""
        running = self.start(action)
        output, errors = running.communicate(timeout=150)
        if running.returncode != 0:
            return running.returncode, (output + errors).strip()
        said = answer.find(output)
        return 0, outcome.read(said).sentence() if action == "node.apply" else said


class Agent(SentAgent):
    """The node agent on a machine whose daemon.json is known to the last byte."""

    def __init__(self, lab: Lab, node: str) -> None:
        super().__init__(lab, node, "faults")

    def whole(self) -> None:
        """The file is old or new to the last byte, and docker runs."""
        assert self.lab.daemon_json(self.name) in (OLD, NEW)
        self.lab.info(self.name)

    def converges(self) -> None:
        """Told again, the node uses the mirror; forgetting it, it is as it was."""
        code, output = self.run("node.apply")
        assert code == 0, output
        assert self.lab.daemon_json(self.name) == NEW
        assert self.lab.mirrors(self.name)[0] == f"{MIRROR_URL}/"
        code, output = self.run("node.remove")
        assert code == 0, output
        assert self.lab.daemon_json(self.name) == OLD
        assert f"{MIRROR_URL}/" not in self.lab.mirrors(self.name)
