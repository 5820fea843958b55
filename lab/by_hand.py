"""Docker pointed at a mirror by hand, in the way that its engine reads, for what is about engines
and not about the agent."""

import json

from lab.machines import run_on
from lab.plan import HUB_HOST, INTERNET, LabNode
from lab.sandbox import Sandbox

REGISTRY_MIRRORS, HOSTS_TOML = "registry-mirrors", "hosts.toml"
HOSTS = "/etc/docker/certs.d/docker.io/hosts.toml"
KNOWS_REFERRERS = ("29",)
"""Engines that take this capability (containerd 2.2 and later); another one ignores a file that has
it."""
DIAL_SECONDS = 3

SET = """
import json, subprocess, sys
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


def use(sandbox: Sandbox, node: LabNode, way: str, *mirrors: str) -> None:
    """Have a node's docker use these mirrors for Docker Hub, or none. `node` says which engine it
    has."""
    listed = list(mirrors) if way == REGISTRY_MIRRORS else []
    run_on(
        sandbox,
        node,
        f"rm -f {HOSTS}; python3 -c \"$(cat)\" '{json.dumps(listed)}'",
        stdin=SET.encode(),
    )
    if way == HOSTS_TOML and mirrors:
        capabilities = [
            "pull",
            "resolve",
            *(["referrers"] if node.engine in KNOWS_REFERRERS else []),
        ]
        entry = f'capabilities = {json.dumps(capabilities)}\n  dial_timeout = "{DIAL_SECONDS}s"\n'
        text = "".join(f'[host."{mirror}"]\n  {entry}' for mirror in mirrors)
        run_on(
            sandbox,
            node,
            f"mkdir -p {HOSTS.rpartition('/')[0]}; cat > {HOSTS}",
            stdin=text.encode(),
        )


def know_docker_hub(sandbox: Sandbox, node: LabNode) -> None:
    """A node's docker finds the lab's hub under Docker Hub's own name, so that it asks there by
    itself, as it does everywhere."""
    run_on(
        sandbox,
        node,
        f"grep -q {HUB_HOST} /etc/hosts || echo '{INTERNET} {HUB_HOST}' >> /etc/hosts",
    )
