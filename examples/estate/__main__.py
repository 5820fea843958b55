"""An estate: one swarm, its edge, and a registry mirror for each pool of machines."""

import pulumi
import pulumi_docker as docker
from edge import Edge
from swarm_registry_mirror import RegistryMirror, RegistryMirrorArgs, SwarmNode

import config

estate = config.load()
manager = estate.manager
swarm = docker.Provider(
    "swarm", host=f"ssh://{manager.user}@{manager.address}", ssh_opts=estate.ssh_options
)
edge = Edge(
    "edge", estate.images["traefik"], estate.certificates, pulumi.ResourceOptions(providers=[swarm])
)


def node(machine: config.Machine) -> SwarmNode:
    """A machine of the inventory as the component wants it."""
    become = None if machine.user == "root" else "sudo"
    return SwarmNode(
        name=machine.name,
        address=machine.address,
        host_key=machine.hostKey,
        user=machine.user,
        become=become,
    )


def mirror(pool: str, hostname: str) -> RegistryMirror:
    """The mirror of a pool: its machines use it, and the swarm's manager runs its commands."""
    return RegistryMirror(
        f"mirror-{pool}",
        RegistryMirrorArgs(
            hostname=hostname,
            image=estate.images["registry"],
            varnish_image=estate.images["varnish"],
            upstream=estate.upstream,
            check_image=estate.check_image,
            nodes=[node(machine) for machine in estate.pool(pool)],
            manager=node(manager),
            private_key=estate.ssh_private_key,
            network="edge",
            network_id=edge.network.id,
            # One writer per cache: each mirror has its own.
            cache_path=f"/var/data/mirror-{pool}",
            config_path=f"/var/data/mirror-{pool}.yml",
        ),
        # The mirror must answer through Traefik before a node is configured.
        pulumi.ResourceOptions(providers=[swarm], depends_on=[edge.traefik]),
    )


mirrors = {pool: mirror(pool, hostname) for pool, hostname in estate.mirrors.items()}
pulumi.export("mirrors", {pool: made.url for pool, made in mirrors.items()})
pulumi.export("nodes", {pool: made.nodes for pool, made in mirrors.items()})
