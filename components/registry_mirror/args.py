"""What a registry mirror needs to know: frozen, typed, and refused as a whole with every fault named.

Plain types shape the graph or are checked in the preview; `Input` marks leaves that may be outputs or secrets.
Pure but for that annotation; it deliberately reads no file and knows no stack configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from . import rules
from .node_agent import keys
from .rules import Fault, InvalidArgs


@dataclass(frozen=True, kw_only=True)
class SwarmNode:
    """A machine of the swarm whose docker daemon uses the mirror."""

    name: str
    """Stable name; names the node's resource, so changing it makes the node another one."""
    address: str
    """Where its sshd answers: host name or IP address."""
    host_key: str
    """Its SSH host key, one line like `ssh-ed25519 AAAA…`. Connections are refused to anyone else."""
    user: str = "root"
    """The account to log in with."""
    port: int = 22
    """Of its sshd."""
    become: str | None = None
    """`sudo` where `user` is not root; it must be allowed without a password."""
    private_key: pulumi.Input[str] | None = field(default=None, repr=False)
    """SSH private key for this node, PEM; left out, that of the args."""
    daemon_json: str = "/etc/docker/daemon.json"
    """The configuration file that its dockerd reads."""
    service: str = "docker"
    """The service (systemd unit) of its dockerd."""

    def faults(self, key: str) -> list[Fault]:
        """Everything that is wrong with this node; `key` is how the user calls it, like `nodes[2]`."""
        return [
            *rules.check(f"{key}.name", self.name, rules.name),
            *rules.check(f"{key}.address", self.address, rules.address),
            *rules.check(f"{key}.hostKey", self.host_key, rules.host_key),
            *rules.check(f"{key}.user", self.user, rules.user),
            *rules.check(f"{key}.port", self.port, rules.port),
            *rules.check(f"{key}.become", self.become, rules.become),
            *rules.check(f"{key}.daemonJson", self.daemon_json, rules.absolute_path),
            *rules.check(f"{key}.service", self.service, rules.name),
        ]


@dataclass(frozen=True, kw_only=True)
class RegistryMirrorArgs:
    """A registry mirror and the nodes that use it. Raises InvalidArgs, with all faults, when it is made."""

    hostname: str
    """DNS name of the mirror; nodes use `https://<hostname>`, Traefik routes it."""
    image: str
    """CNCF Distribution 3.1.1 or later, with tag and digest: `registry:3.1.1@sha256:…`."""
    nodes: Sequence[SwarmNode]
    """Every node that uses the mirror, in the order in which they are told; the first that is not the manager is the canary."""
    private_key: pulumi.Input[str] | None = field(default=None, repr=False)
    """SSH private key for the nodes that bring none of their own, PEM."""
    manager: str | None = None
    """Name of the node on which the service is looked after and the shared storage written; default the first node."""
    upstream: str = "https://registry-1.docker.io"
    """The registry that is cached. `http://` is for a registry on a network that you trust."""
    service_name: str | None = None
    """Name of the swarm service, and of our traces on a node; default the component's name."""
    network: str = "traefik_public"
    """Overlay network on which Traefik finds the mirror."""
    create_network: bool = False
    """Make that network; otherwise it exists, and its id is learnt at `up`."""
    cache_path: str = "/var/data/registry/registry-mirror-data"
    """Directory on shared storage for the cached layers. Kept by destroy."""
    config_path: str = "/var/data/registry/registry-mirror-config.yml"
    """The registry's configuration file, on shared storage."""
    entrypoint: str = "websecure"
    """Traefik's entrypoint for HTTPS."""
    cert_resolver: str | None = None
    """Traefik's certificate resolver; left out, Traefik's default certificate."""
    placement_constraints: Sequence[str] = ()
    """Swarm constraints for where the mirror's task may run, like `node.labels.storage == shared`."""
    ready_timeout: int = 180
    """Seconds that the mirror may take to answer over HTTPS before the roll-out is called off; ACME can need minutes."""
    max_parallel: int = 10
    """Nodes that are told at the same time, once the canary is well."""

    check_image: str = "library/hello-world:latest"
    """An image that the upstream has: its manifest must pass through the mirror before a node is told, at the node too."""
    daemon_keys: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of daemon.json that are handed over, like `experimental: true`; destroy gives back what was there before."""
    restart: str = "never"
    """`when-needed`: for keys that dockerd reads at its start only, nodes are drained and restarted one at a time."""
    allow_quorum_loss: bool = False
    """Restart managers even where the swarm is without a majority of them meanwhile."""

    def __post_init__(self) -> None:
        faults = self.faults()
        if faults:
            raise InvalidArgs(faults)

    def faults(self) -> list[Fault]:
        """Everything that is wrong, in the order of the keys."""
        nodes = [(f"nodes[{index}]", node) for index, node in enumerate(self.nodes)]
        faults = [
            *rules.check("hostname", self.hostname, rules.hostname),
            *rules.check("image", self.image, rules.image),
            *rules.check("upstream", self.upstream, rules.upstream),
            *rules.check("network", self.network, rules.name),
            *rules.check("cachePath", self.cache_path, rules.absolute_path),
            *rules.check("configPath", self.config_path, rules.absolute_path),
            *rules.check("entrypoint", self.entrypoint, rules.name),
            *rules.check("readyTimeout", self.ready_timeout, rules.positive),
            *rules.check("maxParallel", self.max_parallel, rules.positive),
            *rules.check("checkImage", self.check_image, rules.tagged_image),
            *rules.check("restart", self.restart, rules.restart),
            *rules.daemon_keys(self.daemon_keys),
            *(fault for key, node in nodes for fault in node.faults(key)),
            *rules.unique([(f"{key}.name", node.name) for key, node in nodes], "name"),
            *rules.unique([(f"{key}.address", f"{node.address}:{node.port}") for key, node in nodes], "address"),
        ]
        if self.service_name is not None:
            faults += rules.check("serviceName", self.service_name, rules.name)
        if self.cert_resolver is not None:
            faults += rules.check("certResolver", self.cert_resolver, rules.name)
        if not nodes:
            faults.append(Fault("nodes", [], "must list at least one node; a mirror that nobody uses saves nothing"))
        elif self.manager is not None and self.manager not in [node.name for _, node in nodes]:
            known = ", ".join(node.name for _, node in nodes)
            faults.append(Fault("manager", self.manager, f"must be the name of a node; they are {known}"))
        if self.private_key is None:
            faults += [
                Fault(f"{key}.privateKey", None, "is missing: give the node a key, or all nodes one (privateKey)")
                for key, node in nodes
                if node.private_key is None
            ]
        return faults

    @property
    def restart_keys(self) -> list[str]:
        """The keys handed over that dockerd reads at its start only."""
        return [key for key in self.daemon_keys if not keys.KEYS[key].reloads]

    @property
    def manager_node(self) -> SwarmNode:
        """The node on which the swarm's own commands run."""
        return next((node for node in self.nodes if node.name == self.manager), self.nodes[0])
