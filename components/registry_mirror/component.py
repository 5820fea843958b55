"""RegistryMirror: the component resource. Wiring only; what is declared follows from `args.py` and `render.py`.

Owns the graph: network -> storage -> service -> ready -> canary -> wave -> wave -> rolling restart (where keys were handed
over that may need one). Deleting goes the other way round, so nodes forget the mirror before it disappears. Constructing it
does no I/O: a preview opens no connection.
"""

from collections.abc import Mapping

import pulumi
import pulumi_docker as docker
from pulumi_command import remote

from . import render, ship
from .args import RegistryMirrorArgs
from .node import agent_command, connection, restart_command, roll_out


class RegistryMirror(pulumi.ComponentResource):
    """A pull-through cache behind Traefik on a Docker Swarm, and the nodes that use it.

    The docker provider comes through `opts` and must speak to a manager; with `host = "ssh://…"` previews stay offline.
    """

    url: pulumi.Output[str]
    """What the nodes have in `registry-mirrors`."""
    service_id: pulumi.Output[str]
    """Id of the swarm service."""
    network_id: pulumi.Output[str]
    """Id of the overlay network that the service is attached to."""
    config_digest: pulumi.Output[str]
    """Digest of the registry's configuration file."""
    nodes: pulumi.Output[dict[str, str]]
    """Node name -> what its last change did: `unchanged`, `reloaded` or `written and reloaded`."""
    restarts: pulumi.Output[str]
    """What the rolling restart did last; empty where no key was handed over that could need one."""

    def __init__(self, name: str, args: RegistryMirrorArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("swarm-registry-mirror:index:RegistryMirror", name, None, opts)
        service = args.service_name or name
        config = render.registry_config(service, args.upstream)
        labels = render.traefik_labels(service, args.hostname, args.network, args.entrypoint, args.cert_resolver)
        digest = render.digest(config)

        self.network_id = self._network(name, args)
        storage = agent_command(
            f"{name}-storage",
            args.manager_node,
            args,
            create="storage.apply",
            delete="storage.remove",
            stdin=ship.request(
                "storage",
                {"config_path": args.config_path, "cache_path": args.cache_path, "marker": render.MARKER, "config": config},
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        registry = self._service(name, args, service, labels, digest, storage)
        ready = agent_command(
            f"{name}-ready",
            args.manager_node,
            args,
            create="ready.wait",
            stdin=ship.request(
                "ready",
                {
                    "service": service,
                    "mirror": render.mirror_url(args.hostname),
                    "label": render.DIGEST_LABEL,
                    "digest": digest,
                    "image": args.image,
                    "check_image": args.check_image,
                    "labels": labels,  # not used there; a changed route is a reason to look again
                    "timeout": args.ready_timeout,
                },
            ),
            # The agent ends by itself, with a reason; the limit from outside is for one that cannot.
            time_limit=args.ready_timeout + 60,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[registry]),
        )

        self.url = pulumi.Output.from_input(render.mirror_url(args.hostname))
        self.service_id = registry.id
        self.config_digest = pulumi.Output.from_input(digest)
        commands = roll_out(name, args, service, after=ready, parent=self)
        self.nodes = pulumi.Output.all(**{node_name: command.stdout for node_name, command in commands.items()})
        self.restarts = self._restarts(name, args, service, commands)
        self.register_outputs(
            {
                "url": self.url,
                "service_id": self.service_id,
                "network_id": self.network_id,
                "config_digest": self.config_digest,
                "nodes": self.nodes,
                "restarts": self.restarts,
            }
        )

    def _network(self, name: str, args: RegistryMirrorArgs) -> pulumi.Output[str]:
        """Id of the overlay network: of one that we make, or of an existing one, learnt once and remembered in the state.

        An id and not a name, because a service that is attached by name is replaced by every `up` after a refresh. Learnt by
        a command and not by a data source, because that would connect in a preview.
        """
        if args.create_network:
            opts = pulumi.ResourceOptions(parent=self)
            return docker.Network(f"{name}-network", name=args.network, driver="overlay", attachable=True, opts=opts).id
        sudo = "sudo -n " if args.manager_node.become else ""
        remedy = f"no overlay network {args.network} on this swarm: create it, or set createNetwork to true"
        learnt = remote.Command(
            f"{name}-network",
            connection=connection(args.manager_node, args),
            create=f"id=$({sudo}docker network inspect --format '{{{{if eq .Driver \"overlay\"}}}}{{{{.ID}}}}{{{{end}}}}' "
            f'{args.network} 2>&1) && [ -n "$id" ] && echo "$id" || {{ echo "$id" "{remedy}" >&2; exit 1; }}',
            add_previous_output_in_env=False,
            logging=remote.Logging.NONE,
            # It leaves nothing behind that a later connection would have to reach. Without this, a rotated SSH key would make
            # the id unknown in the preview, and the preview threaten to replace the service.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["connection"]),
        )
        return learnt.stdout

    def _service(
        self,
        name: str,
        args: RegistryMirrorArgs,
        service: str,
        labels: dict[str, str],
        digest: str,
        storage: pulumi.Resource,
    ) -> docker.Service:
        """The registry as a swarm service: one task, because two would overwrite each other's state in the cache."""
        container = docker.ServiceTaskSpecContainerSpecArgs(
            image=args.image,
            env={"OTEL_TRACES_EXPORTER": "none"},
            labels=[docker.ServiceTaskSpecContainerSpecLabelArgs(label=render.DIGEST_LABEL, value=digest)],
            mounts=[
                _bind(args.config_path, render.CONFIG_TARGET, read_only=True),
                _bind(args.cache_path, render.CACHE_TARGET, read_only=False),
            ],
            healthcheck=docker.ServiceTaskSpecContainerSpecHealthcheckArgs(
                tests=list(render.HEALTH_CHECK), interval="5s", timeout="5s", retries=3, start_period="10s"
            ),
        )
        constraints = list(args.placement_constraints)
        placement = docker.ServiceTaskSpecPlacementArgs(constraints=constraints) if constraints else None
        return docker.Service(
            f"{name}-service",
            name=service,
            labels=[docker.ServiceLabelArgs(label=key, value=value) for key, value in sorted(labels.items())],
            mode=docker.ServiceModeArgs(replicated=docker.ServiceModeReplicatedArgs(replicas=1)),
            # The old task must have let go of the cache before the new one takes it.
            update_config=docker.ServiceUpdateConfigArgs(parallelism=1, order="stop-first", failure_action="pause"),
            task_spec=docker.ServiceTaskSpecArgs(
                container_spec=container,
                networks_advanceds=[docker.ServiceTaskSpecNetworksAdvancedArgs(id=self.network_id)],
                restart_policy=docker.ServiceTaskSpecRestartPolicyArgs(condition="any", delay="5s"),
                placement=placement,
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[storage]),
        )

    def _restarts(
        self, name: str, args: RegistryMirrorArgs, service: str, commands: Mapping[str, remote.Command]
    ) -> pulumi.Output[str]:
        """The rolling restart, declared where a key was handed over that dockerd reads at its start only.

        It is there with `restart: never` too, because its end is what takes such keys back: nodes forget them, restarted one at
        a time, before they forget the mirror.
        """
        if not args.restart_keys:
            return pulumi.Output.from_input("")
        if args.restart != "never":
            words = "read by dockerd at its start only: nodes that need it are drained and restarted one at a time"
            pulumi.log.info(f"{', '.join(args.restart_keys)}: {words}, workers first, the leader last", self)
        command = restart_command(f"{name}-restarts", args, service, commands, pulumi.ResourceOptions(parent=self))
        return command.stdout


def _bind(source: str, target: str, *, read_only: bool) -> docker.ServiceTaskSpecContainerSpecMountArgs:
    return docker.ServiceTaskSpecContainerSpecMountArgs(type="bind", source=source, target=target, read_only=read_only)
