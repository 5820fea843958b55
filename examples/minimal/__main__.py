"""The least that works: a registry behind the Traefik that is there, and every node configured for
it."""

import pulumi
import pulumi_docker as docker
from swarm_registry_mirror import RegistryMirror, RegistryMirrorArgs, SwarmNode

config = pulumi.Config()
swarm = docker.Provider(
    "swarm", host=config.require("dockerHost"), ssh_opts=config.get_object("sshOptions") or []
)
mirror = RegistryMirror(
    "registry-mirror",
    RegistryMirrorArgs(
        hostname=config.require("hostname"),
        image=config.require("image"),
        upstream=config.get("upstream") or "https://registry-1.docker.io",
        check_image=config.get("checkImage") or "library/hello-world:latest",
        # with varnish_image=…, nodes that pull the same at the same moment are one download
        coalesce=False,
        nodes=[SwarmNode(**node) for node in config.require_object("nodes")],
        private_key=config.require_secret("sshPrivateKey"),
    ),
    pulumi.ResourceOptions(providers=[swarm]),
)
pulumi.export("url", mirror.url)
