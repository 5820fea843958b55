"""The estate's edge: an overlay network, and Traefik on it, with the certificates that the estate
has."""

import pulumi
import pulumi_docker as docker


class Edge(pulumi.ComponentResource):
    """Everything that comes in over HTTPS comes through here."""

    network: docker.Network
    """Put a service on it and label it, and Traefik routes to it."""
    traefik: docker.Service

    def __init__(
        self, name: str, image: str, certificates: str, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("estate:index:Edge", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.network = docker.Network(
            f"{name}-network", name=name, driver="overlay", attachable=True, opts=child
        )
        mounts = [("/var/run/docker.sock", "/var/run/docker.sock"), (certificates, "/certificates")]
        self.traefik = docker.Service(
            f"{name}-traefik",
            name=f"{name}-traefik",
            endpoint_spec=docker.ServiceEndpointSpecArgs(
                # In host mode Traefik sees the client's address, which allow-lists need; the
                # routing mesh would hide it.
                ports=[
                    docker.ServiceEndpointSpecPortArgs(
                        target_port=443, published_port=443, publish_mode="host", protocol="tcp"
                    )
                ]
            ),
            task_spec=docker.ServiceTaskSpecArgs(
                container_spec=docker.ServiceTaskSpecContainerSpecArgs(
                    image=image,
                    args=[
                        "--providers.swarm.endpoint=unix:///var/run/docker.sock",
                        "--providers.swarm.exposedByDefault=false",
                        "--providers.swarm.refreshSeconds=2",
                        "--providers.file.filename=/certificates/dynamic.yml",
                        "--entrypoints.websecure.address=:443",
                    ],
                    mounts=[
                        docker.ServiceTaskSpecContainerSpecMountArgs(
                            type="bind", source=source, target=target, read_only=True
                        )
                        for source, target in mounts
                    ],
                ),
                networks_advanceds=[docker.ServiceTaskSpecNetworksAdvancedArgs(id=self.network.id)],
                placement=docker.ServiceTaskSpecPlacementArgs(constraints=["node.role == manager"]),
            ),
            opts=child,
        )
        self.register_outputs({})
