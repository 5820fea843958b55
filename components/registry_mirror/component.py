"""RegistryMirror: the component resource. Wiring only; what is declared follows from `args.py` and
`common.py`.

Owns the graph: claim -> network -> storage -> registry -> Varnish -> ready -> canary -> wave ->
wave -> rolling restart (where managed keys may need one); the images of `warm` are fetched behind
the last wave, or before the canary where they are required. Deleting goes the other way
round, so nodes forget the mirror before it disappears. Constructing it does no I/O: a preview opens
no connection.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pulumi
import pulumi_docker as docker
from pulumi_command import local

from . import advisories, claims, guard, rules, warming, workstation
from .args import InvalidProgram, RegistryMirrorArgs
from .node_agent.request import CachedRegistry, ExpectedTask, ReadyRequest, StorageRequest
from .nodes import (
    agent_command,
    keep_runner,
    outcome_of,
    restart_command,
    roll_out,
    settings_text,
)
from .render import common, varnish
from .render.registry import MARKER, RegistryVersion, registry_config
from .rules import Fault
from .services import MirrorServices

AUTO_NAME_CHARACTERS = 7
"""That Pulumi puts behind the name of what has none of its own (docs: Automatic naming)."""


class RegistryMirror(pulumi.ComponentResource):
    """A pull-through cache behind Traefik on a Docker Swarm, and the nodes that use it.

    The docker provider comes through `opts` and must speak to a manager; with `host = "ssh://…"`
    previews stay offline.
    """

    url: pulumi.Output[str]
    """What the nodes have in `registry-mirrors`."""
    service_id: pulumi.Output[str]
    """Id of the swarm service."""
    network: pulumi.Output[str]
    """The overlay network that the services are attached to: the id that was given or made, else
    the name."""
    registries: pulumi.Output[list[dict[str, Any]]]
    """Docker Hub, and every registry and alias besides it: its `name`, the `prefix` of its images
    at the mirror, like `mirror.example.com/ghcr.io`, and whether it has a `fallback`."""
    metrics: pulumi.Output[list[str]]
    """URLs that Prometheus may ask; empty where nobody may (`metrics_from`)."""
    config_digest: pulumi.Output[str]
    """Digest of the registry's configuration file."""
    nodes: pulumi.Output[dict[str, str]]
    """Node name -> what its last change did: `unchanged`, `reloaded` or `written and reloaded`."""
    restarts: pulumi.Output[str]
    """What the rolling restart did last; empty where no managed key could need one."""

    def __init__(
        self, name: str, args: RegistryMirrorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("swarm-registry-mirror:index:RegistryMirror", name, None, opts)
        service = args.service_name or name
        faults = [*_name_faults(name), *_provider_faults(self), *args.label_faults(service)]
        if args.service_name is None:
            faults += args.service_name_faults("service_name", name)
        if faults:
            raise InvalidProgram(faults)
        version = RegistryVersion.of(args.image)
        assert version is not None  # the args have refused anything else
        config = registry_config(
            service,
            args.upstream,
            version,
            ttl_hours=args.ttl_hours,
            cache_write_seconds=args.cache_write_seconds,
        )
        for warning in advisories.warnings(
            args.image, args.varnish_image if args.coalesce else None
        ):
            pulumi.warn(warning, self)
        if args.coalesce and pulumi.runtime.is_dry_run():
            pulumi.log.info(varnish.meaning(args.coalesce_memory, args.coalesce_disk), self)
        workstation.place()
        for warning in workstation.warnings(
            args.key_files, has_key_text=args.has_key_text, needs_agent=args.needs_agent
        ):
            pulumi.warn(warning, self)
        identity = claims.identity(name, self)
        claim = claims.declare(name, args, service, identity, self)
        network_id = self._network_id(name, args, claim)
        self.network = pulumi.Output.from_input(args.network if network_id is None else network_id)
        storage = (
            self._storage(name, args, service, config, identity, claim)
            if args.has_shared_path
            else None
        )
        services = MirrorServices(
            name,
            args,
            service,
            config=config,
            network_id=network_id,
            claim=claim,
            storage=storage,
            parent=self,
        )
        ready = self._ready(name, args, services)
        before_nodes: pulumi.Resource = (
            warming.declare(name, args, [ready], self) if args.warm_required else ready
        )
        self.url = pulumi.Output.from_input(common.mirror_url(args.hostname))
        self.registries = pulumi.Output.from_input([asdict(each) for each in args.served])
        self.metrics = pulumi.Output.from_input(args.metrics_urls)
        self.service_id = services.registry.id
        self.config_digest = pulumi.Output.from_input(common.digest(config))
        commands = roll_out(name, args, service, after=before_nodes, parent=self)
        self.nodes = pulumi.Output.all(
            **{
                node_name: command.stdout.apply(lambda output: outcome_of(output).sentence())
                for node_name, command in commands.items()
            }
        )
        last: list[pulumi.Resource] = list(commands.values())
        if args.guard:
            last.append(guard.declare(name, args, service, commands, self))
        if args.warm and not args.warm_required:
            warming.declare(name, args, list(commands.values()), self)
        restarts = self._restarts(name, args, service, commands)
        self.restarts = pulumi.Output.from_input("") if restarts is None else restarts.stdout
        keep_runner(name, [*last, *([] if restarts is None else [restarts])], self)
        self.register_outputs(
            {
                "url": self.url,
                "registries": self.registries,
                "metrics": self.metrics,
                "service_id": self.service_id,
                "network": self.network,
                "config_digest": self.config_digest,
                "nodes": self.nodes,
                "restarts": self.restarts,
            }
        )

    def _ready(
        self, name: str, args: RegistryMirrorArgs, services: MirrorServices
    ) -> local.Command:
        """The gate: no node is configured before the mirror answers."""

        def stdin(expected: str) -> str:
            return settings_text(
                ReadyRequest(
                    mirror_url=common.mirror_url(args.hostname),
                    services=[ExpectedTask(**task) for task in json.loads(expected)],
                    check_image=args.check_image,
                    network=args.network,
                    allow_from=list(args.allow_from),
                    disk=args.coalesce_disk if args.coalesce else 0,
                    unit=args.manager_node.service,
                    path=args.manager_node.daemon_json,
                    # What a constraint of Traefik's is held against; and a changed route is a
                    # reason to look again.
                    labels=services.labels,
                    timeout=args.ready_timeout,
                    registries=_cached(args),
                    labels_mark=services.labels_mark,
                )
            )

        return agent_command(
            f"{name}-ready",
            args.manager_node,
            args,
            create="ready.wait",
            update="ready.wait_again",
            # The gate leaves nothing behind, so replacing it costs nothing: another upstream,
            # another account there, or another way to it, has served nothing yet, and must answer
            # before any node is configured. So must a registry that is required.
            triggers=[
                args.upstream,
                services.credentials_id,
                *services.way_out,
                *_required(args, services),
            ],
            show_warnings=True,
            stdin=pulumi.Output.json_dumps(services.expected).apply(stdin),
            # The agent ends by itself, with a reason; the limit from outside is for one that
            # cannot.
            seconds=args.ready_timeout + 60,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[services.front]),
        )

    def _network_id(
        self, name: str, args: RegistryMirrorArgs, claim: pulumi.Resource
    ) -> pulumi.Input[str] | None:
        """Id of the overlay network: the caller's, or of one that we make. None for one that
        exists: docker knows its name."""
        if args.network_id is not None or not args.create_network:
            return args.network_id
        opts = pulumi.ResourceOptions(parent=self, depends_on=[claim])
        return docker.Network(
            f"{name}-network", name=args.network, driver="overlay", attachable=True, opts=opts
        ).id

    def _storage(
        self,
        name: str,
        args: RegistryMirrorArgs,
        service: str,
        config: str,
        identity: pulumi.Output[str],
        claim: pulumi.Resource,
    ) -> local.Command:
        """The registry's configuration and the cache's directory on shared storage."""

        def stdin(minted: str) -> str:
            mine = claims.identities(minted)
            return settings_text(
                StorageRequest(
                    owner=service,
                    config_path=args.config_path,
                    cache_path=args.cache_path,
                    marker=MARKER,
                    config=config,
                    identity=mine.identity,
                    former=mine.former,
                )
            )

        return agent_command(
            f"{name}-storage",
            args.manager_node,
            args,
            create="storage.apply",
            delete="storage.remove",
            stdin=identity.apply(stdin),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[claim]),
        )

    def _restarts(
        self,
        name: str,
        args: RegistryMirrorArgs,
        service: str,
        commands: Mapping[str, local.Command],
    ) -> local.Command | None:
        """The rolling restart, declared where a managed key is read by dockerd at its start only,
        or restarts may be made.

        Without such a key it takes back what a half done restart has left of one that was managed
        before. It is there with `restart: never` too, because its end is what takes such keys back:
        nodes forget them, restarted one at a time, before they forget the mirror.
        """
        if not args.restart_keys and args.restart == "never":
            return None
        if args.restart_keys and args.restart != "never":
            words = (
                "read by dockerd at its start only: nodes that need it are drained and"
                " restarted one at a time"
            )
            pulumi.log.info(
                f"{', '.join(args.restart_keys)}: {words}, workers first, the leader last", self
            )
        return restart_command(
            f"{name}-restarts", args, service, commands, pulumi.ResourceOptions(parent=self)
        )


def _cached(args: RegistryMirrorArgs) -> list[CachedRegistry]:
    """What the gate asks the mirror for, of the registries besides the one at the root."""
    return [
        CachedRegistry(
            name=registry.name,
            path=args.path_at_mirror(registry),
            upstream=registry.url,
            repository=registry.known_repository or registry.made_up_repository,
            is_known=registry.known_repository is not None,
            required=registry.required,
        )
        for registry in args.cached_registries
    ]


def _required(args: RegistryMirrorArgs, services: MirrorServices) -> list[pulumi.Input[str]]:
    """What makes a registry that is required another one: its upstream, and its account there."""
    return [
        part
        for registry in args.cached_registries
        if registry.required
        for part in (registry.url, services.further_accounts.get(registry.name, ""))
    ]


def _name_faults(name: str) -> list[Fault]:
    """Of the component's own name, with which swarm's configs are named: swarm takes 64 characters
    of those."""
    room = 64 - len("-credential-helper-") - AUTO_NAME_CHARACTERS
    if len(name) <= room and rules.swarm_name(name) is None:
        return []
    words = (
        f"must be 1 to {room} letters, digits, hyphens or underscores: swarm's configs and"
        " secrets are called after it"
    )
    return [Fault("name of the component", name, words)]


DOCKER_PROVIDER = "docker provider"
"""Key of the fault that none was given."""


def _provider_faults(component: pulumi.ComponentResource) -> list[Fault]:
    """A docker provider that nobody has given is that of this computer's own docker: another swarm,
    asked in each preview."""
    given = component.get_provider("docker:index/service:Service") or pulumi.Config("docker").get(
        "host"
    )
    words = (
        'is missing: pulumi.ResourceOptions(providers=[docker.Provider("swarm",'
        ' host="ssh://root@<a manager>")])'
    )
    return [] if given else [Fault(DOCKER_PROVIDER, None, words)]
