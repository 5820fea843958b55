"""Docker pointed at a mirror by hand, in the way that its engine reads, for tests that are about engines and not about the
agent."""

import json

from lab.plan import HUB_HOST, INTERNET
from tests.lab_fixture import Lab

REGISTRY_MIRRORS, HOSTS_TOML = "registry-mirrors", "hosts.toml"
HOSTS = "/etc/docker/certs.d/docker.io/hosts.toml"
KNOWS_REFERRERS = ("29",)
"""Engines that take this capability (containerd 2.2 and later); another one ignores a file that has it."""

SET = """
import json, os, subprocess, sys
path, mirrors = "/etc/docker/daemon.json", json.loads(sys.argv[1])
try: found = json.load(open(path))
except FileNotFoundError: found = {}
found["registry-mirrors"] = mirrors
if not mirrors: del found["registry-mirrors"]
json.dump(found, open(path, "w"))
subprocess.run(["systemctl", "reset-failed", "docker"])
subprocess.run(["systemctl", "restart", "docker"], check=True)
"""
"""A restart and no reload: 28.0 to 29.2.1 do not survive that one unharmed."""


def use(lab: Lab, node: str, way: str, *mirrors: str) -> None:
    """Have a node's docker use these mirrors for Docker Hub, or none."""
    listed = list(mirrors) if way == REGISTRY_MIRRORS else []
    lab.on(node, f"rm -f {HOSTS}; python3 -c \"$(cat)\" '{json.dumps(listed)}'", SET.encode())
    if way == HOSTS_TOML and mirrors:
        engine = lab.nodes[node].engine
        capabilities = ["pull", "resolve", *(["referrers"] if engine in KNOWS_REFERRERS else [])]
        text = "".join(f'[host."{mirror}"]\n  capabilities = {json.dumps(capabilities)}\n' for mirror in mirrors)
        lab.on(node, f"mkdir -p {HOSTS.rpartition('/')[0]}; cat > {HOSTS}", text.encode())


def know_docker_hub(lab: Lab, node: str) -> None:
    """A node's docker finds the lab's hub under Docker Hub's own name, so that it goes there by itself, as it does everywhere."""
    lab.on(node, f"grep -q {HUB_HOST} /etc/hosts || echo '{INTERNET} {HUB_HOST}' >> /etc/hosts")
