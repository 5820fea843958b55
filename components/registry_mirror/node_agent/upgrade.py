"""What a docker of another version would break on a node: found before anybody brings it up to
date. Standard library only.

`hazards` is pure; `look` reads what it needs on a node, and of the swarm where that is a manager.
Both versions count, because an upgraded machine keeps what a newly installed one does not have.
What breaks was read in moby, and is named by its number there.
"""

import json
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from . import (
    command_line,
    daemon_json,
    daemon_process,
    daemon_settings,
    engine,
    files,
    hosts_plan,
    preflight,
    started,
)
from .daemon_keys import Version, version_of
from .request import UpgradeRequest

TRAEFIK_SINCE: Dict[int, Version] = {1: (9, 0, 0), 2: (2, 11, 31), 3: (3, 6, 1)}
"""Generation of Traefik -> its first version that asks docker which API it speaks, instead of
saying 1.24 (traefik#12253)."""


class Node(NamedTuple):
    """What a node is like, as far as a newer docker cares."""

    engine: str
    containerd_store: bool
    manager: bool
    in_swarm: bool
    keys: Dict[str, Any]
    """Of daemon.json and of dockerd's command line; the values of what is asked for below."""
    host_gateway: List[str]
    """Containers that were made with `host-gateway`."""
    traefik: List[str]
    """Images of the swarm's services that are Traefik, where this is a manager."""
    clients: List[str]
    """Engines of the swarm's other nodes, whose clients may ask this one."""


def hazards(node: Node, to: str) -> List[str]:
    """What goes wrong once docker `to` runs on the node, each with its remedy. Pure."""
    now, then = version_of(node.engine), version_of(to)
    found: List[str] = []
    hurts = preflight.reload_hurts({"ServerVersion": to})
    if hurts is not None and not node.containerd_store:
        there = " (here: %s)" % ", ".join(node.host_gateway[:5]) if node.host_gateway else ""
        found.append(
            hurts
            + there
            + "; take 29.3 or later, where the mirror is taken over by a reload as before"
        )
    if hurts is not None and node.containerd_store and (node.host_gateway or node.keys.get("dns")):
        found.append(
            hurts
            + "; the mirror needs no reload there, but a reload of yours breaks them; take 29.3 or"
            " later"
        )
    if now < (28, 0, 0) <= then and node.containerd_store:
        words = (
            "docker goes by %s from 28.0 on with this image store;"
            " run swarm-registry-mirror repair afterwards, which moves the mirror there [RM199]"
        )
        found.append(words % "/etc/docker/certs.d/docker.io/hosts.toml")
    if now < (29, 0, 0) <= then and not node.containerd_store:
        remap = " (not with userns-remap)" if node.keys.get("userns-remap") else ""
        words = (
            "its images stay in the storage driver of old, and a machine that is installed anew"
            " keeps them in containerd%s;"
            " whoever moves this one over loses sight of its images and containers, and then runs"
            " swarm-registry-mirror repair [RM200]"
        )
        found.append(words % remap)
    if then >= (29, 0, 0) and node.in_swarm and node.keys.get("firewall-backend") == "nftables":
        found.append(
            "firewall-backend is nftables, with which a docker from 29.0 on is no node of a swarm;"
            " take iptables [RM201]"
        )
    if then >= (29, 10, 0) and node.keys.get("insecure-registries") is not None:
        words = (
            "insecure-registries is set, and from 29.10 on registries on localhost are"
            " insecure only where it names them [RM202]"
        )
        found.append(words + "; add 127.0.0.0/8 (moby#53868)")
    if node.manager and then >= (29, 0, 0):
        for image in node.traefik:
            if speaks_old_api(image):
                words = (
                    "%s says API 1.24, and a docker from 29.0 on does not answer that; take"
                    " Traefik 3.6.1 or 2.11.31 before [RM203]"
                )
                found.append(words % image)
    if (29, 0, 0) <= then < (29, 3, 0):
        old = sorted({client for client in node.clients if version_of(client) < (25, 0, 0)})
        if old:
            words = (
                "docker 29.0 to 29.2 answers no client before 25.0 (here: %s); take 29.3, or"
                " set min-api-version [RM204]"
            )
            found.append(words % ", ".join(old))
    if then >= (29, 0, 0) and node.manager:
        words = (
            "from docker's client 29 on `docker service update --image NAME:TAG` starts no"
            " task where a tag has moved [RM205]"
        )
        found.append(words + " (docker/cli#7302); name the digest")
    return found


def speaks_old_api(image: str) -> bool:
    """Whether an image is a Traefik that cannot speak to a docker from 29.0 on; one whose version
    nobody sees is not accused."""
    name, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    numbers = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", tag)
    if name != "traefik" or numbers is None:
        return False
    version = (int(numbers.group(1)), int(numbers.group(2)), int(numbers.group(3) or 998))
    return version < TRAEFIK_SINCE.get(version[0], (0, 0, 0))


ASKED = {
    "dns": "dns",
    "firewall-backend": "firewall-backend",
    "insecure-registries": "insecure-registry",
    "userns-remap": "userns-remap",
}
"""Keys of daemon.json, and the flags that say the same."""


def look(request: UpgradeRequest) -> str:
    """What docker `request.to` would break here, as JSON: `engine`, `way`, `hazards`. Changes
    nothing. Raises Failed."""
    unit = request.unit
    info = engine.info(unit)
    node = _node(request.path, info, unit)
    after = {**info, "ServerVersion": request.to}
    way = "hosts.toml" if hosts_plan.reads_hosts_toml(after) else "daemon.json"
    return json.dumps({"engine": node.engine, "way": way, "hazards": hazards(node, request.to)})


def _node(path: str, info: Dict[str, Any], unit: str) -> Node:
    swarm = info.get("Swarm") or {}
    manager = bool(swarm.get("ControlAvailable"))
    traefik, clients = _of_the_swarm() if manager else ([], [])
    return Node(
        str(info.get("ServerVersion", "")),
        daemon_settings.has_containerd_store(info),
        manager,
        swarm.get("LocalNodeState") == "active",
        _keys(path, unit),
        _host_gateway(),
        traefik,
        clients,
    )


def _keys(path: str, unit: str) -> Dict[str, Any]:
    configured = started.values(daemon_json.decode(files.read(path)))
    arguments = daemon_process.running(unit).arguments
    flags = {key: command_line.last_value(arguments, flag) for key, flag in ASKED.items()}
    return {key: flags[key] if configured.get(key) is None else configured[key] for key in ASKED}


def _host_gateway() -> List[str]:
    """Names of the containers that ask for the address of their host."""
    ids = engine.run("docker", "ps", "--all", "--quiet", "--no-trunc").split()
    if not ids:
        return []
    lines = engine.run(
        "docker", "inspect", "--format", "{{.Name}} {{json .HostConfig.ExtraHosts}}", *ids
    ).splitlines()
    return [line.partition(" ")[0].lstrip("/") for line in lines if "host-gateway" in line]


def _of_the_swarm() -> Tuple[List[str], List[str]]:
    """Images of services that are Traefik, and the engines of all nodes."""
    images = engine.run("docker", "service", "ls", "--format", "{{.Image}}").split()
    engines = engine.run("docker", "node", "ls", "--format", "{{.EngineVersion}}").split()
    return sorted({image for image in images if _name(image) == "traefik"}), engines


def _name(image: str) -> Optional[str]:
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]
