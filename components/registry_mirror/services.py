"""The swarm services of the mirror: the registry, and Varnish in front of it. Wiring only; their
texts are rendered elsewhere.

Owns what docker is asked for: services, Swarm configs, the Swarm secret. It deliberately knows
nothing of nodes.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from . import rules
from .args import RegistryMirrorArgs
from .render import common, registries, registry, traefik, varnish
from .render.registry import RegistryVersion
from .rules import Fault, InvalidArgs
from .upstreams import Registry

MIB = 1024 * 1024
EXECUTABLE, READABLE = 0o555, 0o444
ALWAYS_TRUE = "node.platform.os == linux"
"""A constraint that every service of ours has. An update that takes a service's last constraint
away, and changes nothing else, ends dockerd on the manager (nil pointer in swarmkit
manager/orchestrator/task.go nodeMatches; seen with 26.1.5), again at every start. So there is
always one left."""
GRACE_PERIOD = "20s"
"""Between the request to stop and the kill. It is always given: the docker plugin sends 0 where it
is left out (terraform-provider-docker, createContainerSpec), and docker then kills at once. More
than twice the registry's drain (DRAIN_TIMEOUT in registry.py): a container that needs all of it
makes the plugin's delete fail (deleteService)."""
NEVER_CHANGED = (
    "taskSpec.containerSpec.labels",
    "taskSpec.containerSpec.sysctl",
    "taskSpec.networksAdvanceds[*].aliases",
    "taskSpec.placement.platforms",
)
"""What an existing service keeps, whatever the program says. A changed container label, sysctl or
network alias (`docker stack deploy` gives one) makes the docker plugin delete the service before it
makes another one (ForceNew in its schema): an adopted service keeps having no sysctl, one that an
earlier version of ours made keeps its label. Platforms are docker's own entry, made from the image
when the service is created."""
ATTACHED_BY_NAME = "taskSpec.networksAdvanceds"
"""Kept too where the network is given by its name: docker looks the id up when the service is made,
and a refresh finds the id, which would be another network to the plugin
(flattenTaskNetworksAdvanced) and replace the service."""


class MirrorServices:
    """Everything that runs in the swarm. `front` is what Traefik leads to: Varnish, or the registry
    itself."""

    def __init__(
        self,
        name: str,
        args: RegistryMirrorArgs,
        service: str,
        *,
        config: str,
        network_id: pulumi.Input[str] | None,
        claim: pulumi.Resource,
        storage: pulumi.Resource | None,
        parent: pulumi.Resource,
    ) -> None:
        self._name = name
        self._args = args
        self._service = service
        self._network_id = network_id
        self._opts = pulumi.ResourceOptions(parent=parent, depends_on=[claim])
        self._route = args.route
        self.expected: list[dict[str, pulumi.Input[str]]] = []
        """Name, image and digest word of each service, by which the gate knows its new task from an
        old one."""
        self.labels: list[dict[str, str]] = []
        """The labels for Traefik."""
        self.labels_mark = ""
        """By which the gate knows that Traefik goes by those of the service that it leads to."""
        self.credentials_id: pulumi.Input[str] = ""
        """Id of the swarm's secret with the upstream's account, which another account changes;
        empty without one."""
        self.further_accounts: dict[str, pulumi.Input[str]] = {}
        """The same of the other registries, by their names."""
        self._proxy_secret: docker.Secret | None = None
        self._queue: list[pulumi.Resource] = []
        """The configuration of each further registry. Each waits for the one before, because the
        docker plugin opens a connection for each, and an sshd refuses some of more than ten that
        are not logged in yet (sshd_config(5), MaxStartups)."""
        self.way_out: list[pulumi.Input[str]] = [
            *self._way_out(service, args.upstream),
            *([] if args.upstream_ca is None else [common.digest(args.upstream_ca)]),
        ]
        """What another way to the upstream changes; empty where nothing is said of it."""
        self._programs = self._registry_programs()
        self.registry = self._registry_service(self._root(config), storage)
        self.further = [
            self._registry_service(self._further(asked), storage)
            for asked in args.cached_registries
        ]
        self.front = self._varnish() if args.coalesce else self.registry

    def _root(self, config: str) -> "_Registry":
        """The registry at the mirror's root."""
        args = self._args
        return _Registry(
            resource=f"{self._name}-service",
            service=self._service,
            config=config,
            config_resource="config",
            config_is_file=args.has_shared_path,
            credentials=self._credentials("credentials", args),
            upstream=args.upstream,
            labels=self._registry_labels(),
            metrics=bool(args.metrics_from),
            ports=[registry.PORT] if args.publish_unencrypted_port_5000 else [],
        )

    def _further(self, asked: Registry) -> "_Registry":
        """A registry besides the one at the root; its cache is a folder of the root's."""
        args = self._args
        version = RegistryVersion.of(args.image)
        assert version is not None  # the args have refused anything else
        service = self._service + registries.suffix_of(asked.name)
        folder = registries.folder_of(asked.name)
        # Swarm's configs and secrets have names of 64 characters at most, so not the registry's.
        mark = hashlib.sha256(asked.name.encode()).hexdigest()[:8]
        config = registry.registry_config(
            service,
            asked.url,
            version,
            ttl_hours=asked.ttl_hours,
            cache_write_seconds=args.cache_write_seconds,
            folder=folder,
        )
        return _Registry(
            resource=f"{self._name}-registry-{asked.name}",
            service=service,
            config=config,
            config_resource=f"config-{mark}",
            config_is_file=False,
            credentials=self._credentials(f"account-{mark}", asked),
            upstream=asked.url,
            labels=self._further_labels(service, asked.name),
            metrics=bool(args.metrics_from),
            folder=folder,
        )

    def _registry_programs(self) -> list[docker.ServiceTaskSpecContainerSpecConfigArgs]:
        """The files that all registries have."""
        args = self._args
        version = RegistryVersion.of(args.image)
        assert version is not None  # the args have refused anything else
        files = []
        # One after the other, for the reason that `_queue` gives: two mirrors of an estate are
        # destroyed at the same time.
        before: list[pulumi.Resource] = []
        for suffix, target in (
            ("start-registry", registry.START),
            ("usage", registry.USAGE),
            ("evict", registry.EVICT),
        ):
            opts = pulumi.ResourceOptions.merge(
                self._opts, pulumi.ResourceOptions(depends_on=list(before))
            )
            made = self._config(suffix, registry.script(f"{suffix}.sh"), opts)
            files.append(self._config_file(made, target, EXECUTABLE))
            before.append(made)
        if version.has_helper:
            files.append(
                self._file(
                    "credential-helper", registry.script("credential-helper.sh"), registry.HELPER
                )
            )
        if args.upstream_ca is not None:
            files.append(
                self._file(
                    "upstream-ca", args.upstream_ca, f"{registry.AUTHORITIES}/ca.pem", READABLE
                )
            )
        return files

    def _registry_service(
        self, what: "_Registry", storage: pulumi.Resource | None
    ) -> docker.Service:
        """One task, because two would overwrite each other's state in the cache."""
        args = self._args
        version = RegistryVersion.of(args.image)
        assert version is not None  # the args have refused anything else
        files = list(self._programs)
        if not what.config_is_file:
            opts = self._queued() if what.folder else self._opts
            made = self._config(what.config_resource, what.config, opts)
            if what.folder:
                self._queue.append(made)
            files.append(self._config_file(made, version.config_target, EXECUTABLE))
        secrets = [secret for secret in (what.credentials, self._proxy()) if secret is not None]
        way_out = self._way_out(what.service, what.upstream)
        digest: pulumi.Input[str] = common.digest(
            what.config, *way_out, *filter(None, [args.upstream_ca])
        )
        for secret in secrets:
            digest = pulumi.Output.all(digest, secret.secret_id).apply(
                lambda parts: common.digest(*parts)
            )
        word = pulumi.Output.from_input(digest).apply(common.digest_word)
        words = registry.words(
            version.config_target,
            metrics=what.metrics,
            tag_days=args.tag_days,
            way_out=way_out,
            folder=what.folder,
            limit=args.cache_limit,
            free_floor=args.cache_free_floor,
        )
        container = docker.ServiceTaskSpecContainerSpecArgs(
            image=args.image,
            commands=["/bin/sh", registry.START, *words, word],
            # One variable at most: the plugin sends several in another order each time, and swarm
            # then starts a new task.
            env={"OTEL_TRACES_EXPORTER": "none"},
            configs=files,
            secrets=secrets,
            mounts=self._mounts(version, with_config=what.config_is_file),
            sysctl=registry.SYSCTL,
            healthcheck=_health_check(registry.HEALTH_CHECK),
            stop_grace_period=GRACE_PERIOD,
            read_only=True,
            cap_drops=["ALL"],
            cap_adds=list(registry.CAPABILITIES),
        )
        self.expected.append({"service": what.service, "word": word, "image": args.image})
        return self._declare(
            what.resource,
            what.service,
            container,
            what.labels,
            memory=args.memory,
            # the old task must have let go of the cache before the new one takes it
            order="stop-first",
            ports=what.ports,
            after=[] if storage is None else [storage],
        )

    def _mounts(
        self, version: RegistryVersion, *, with_config: bool
    ) -> list[docker.ServiceTaskSpecContainerSpecMountArgs]:
        args = self._args
        if args.has_shared_path:
            config = _bind(args.config_path, version.config_target, read_only=True)
            return [
                *([config] if with_config else []),
                _bind(args.cache_path, registry.CACHE_TARGET, read_only=False),
            ]
        options = None
        if args.cache_nfs is not None:
            options = docker.ServiceTaskSpecContainerSpecMountVolumeOptionsArgs(
                driver_name="local",
                driver_options=registry.nfs_volume(args.cache_nfs, args.cache_nfs_options),
            )
        return [
            docker.ServiceTaskSpecContainerSpecMountArgs(
                type="volume",
                source=args.cache_volume or f"{self._service}-cache",
                target=registry.CACHE_TARGET,
                read_only=False,
                volume_options=options,
            )
        ]

    def _registry_labels(self) -> dict[str, str]:
        """Of the registry at the root: it is what Traefik leads to, or only scrapers come to it."""
        metrics = self._metrics_labels(self._service, registry.METRICS_PORT, traefik.METRICS_PATH)
        if not self._args.coalesce:
            own = traefik.mirror_labels(self._service, registry.PORT, self._route)
            return self._joined(own | metrics, self._service)
        if not metrics:
            return traefik.hidden_labels()
        return traefik.about_the_service(self._args.traefik_labels) | metrics

    def _joined(self, own: Mapping[str, str], service: str) -> dict[str, str]:
        """The labels of the service that Traefik leads to."""
        labels = traefik.joined(own, self._args.traefik_labels, service)
        self.labels_mark = traefik.mark_in(labels, service)
        return labels

    def _metrics_labels(self, service: str, port: int, path: str) -> dict[str, str]:
        """The labels by which a scraper reaches the metrics of a service; none without scrapers."""
        scrapers = self._args.metrics_from
        if not scrapers:
            return {}
        return traefik.metrics_labels(service, port, self._route, scrapers, path)

    def _further_labels(self, service: str, name: str) -> dict[str, str]:
        """Of a registry besides the one at the root, to which Traefik leads scrapers alone."""
        args = self._args
        path = f"{traefik.METRICS_PATH}/{registries.path_of(name)}"
        labels = self._metrics_labels(service, registry.METRICS_PORT, path)
        if not labels:
            return traefik.hidden_labels()
        return traefik.about_the_service(args.traefik_labels) | labels

    def _varnish(self) -> docker.Service:
        args = self._args
        assert args.varnish_image is not None  # the args have refused anything else
        start, configuration = registry.script("start-varnish.sh"), registry.script("mirror.vcl")
        configuration = registries.configuration(
            configuration, args.behind, args.root_names if args.registries else []
        )
        files = [
            self._file("start-varnish", start, varnish.START),
            self._file("vcl", configuration, varnish.CONFIGURATION),
        ]
        names = [self._service + registries.suffix_of(item.name) for item in args.behind]
        words = varnish.words(
            [self._service, *names],
            args.coalesce_memory,
            args.coalesce_disk,
            args.referrers,
            metrics=bool(args.metrics_from),
        )
        word = common.digest_word(common.digest(start, configuration, json.dumps(words)))
        front = varnish.front_name(self._service)
        container = docker.ServiceTaskSpecContainerSpecArgs(
            image=args.varnish_image,
            commands=["/bin/sh", varnish.START, *words, word],
            configs=files,
            healthcheck=_health_check(varnish.HEALTH_CHECK),
            stop_grace_period=GRACE_PERIOD,
            read_only=True,
            cap_drops=["ALL"],
            mounts=[
                docker.ServiceTaskSpecContainerSpecMountArgs(
                    type="volume", target=varnish.WRITABLE, read_only=False
                )
            ],
        )
        self.expected.append({"service": front, "word": word, "image": args.varnish_image})
        return self._declare(
            f"{self._name}-front",
            front,
            container,
            self._joined(
                traefik.mirror_labels(front, varnish.PORT, self._route, varnish.HEALTH_PATH)
                | self._metrics_labels(front, varnish.PORT, varnish.METRICS_PATH),
                front,
            ),
            memory=args.coalesce_memory + varnish.OVERHEAD_MIB,
            # it holds nothing that two could spoil, so an update is not noticed
            order="start-first",
            ports=[],
            after=[self.registry, *self.further],
        )

    def _declare(
        self,
        name: str,
        service: str,
        container: docker.ServiceTaskSpecContainerSpecArgs,
        labels: Mapping[str, str],
        *,
        memory: int,
        order: str,
        ports: Sequence[int],
        after: Sequence[pulumi.Resource],
    ) -> docker.Service:
        self.labels.append(dict(labels))
        limits = docker.ServiceTaskSpecResourcesLimitsArgs(memory_bytes=memory * MIB)
        # docker takes a name for an id; the plugin's own field for a name is deprecated, which each
        # `up` would say.
        network = self._args.network if self._network_id is None else self._network_id
        ignored = [*NEVER_CHANGED, *([ATTACHED_BY_NAME] if self._network_id is None else [])]
        published = [
            docker.ServiceEndpointSpecPortArgs(
                target_port=port, published_port=port, publish_mode="ingress", protocol="tcp"
            )
            for port in ports
        ]
        return docker.Service(
            name,
            name=service,
            labels=[
                docker.ServiceLabelArgs(label=key, value=value)
                for key, value in sorted(labels.items())
            ],
            mode=docker.ServiceModeArgs(replicated=docker.ServiceModeReplicatedArgs(replicas=1)),
            update_config=docker.ServiceUpdateConfigArgs(
                parallelism=1, order=order, failure_action="pause"
            ),
            endpoint_spec=docker.ServiceEndpointSpecArgs(ports=published) if published else None,
            task_spec=docker.ServiceTaskSpecArgs(
                container_spec=container,
                networks_advanceds=[docker.ServiceTaskSpecNetworksAdvancedArgs(id=network)],
                resources=docker.ServiceTaskSpecResourcesArgs(limits=limits),
                # `window` is read back where it is left out, and would be a change in every
                # preview.
                restart_policy=docker.ServiceTaskSpecRestartPolicyArgs(
                    condition="any", delay="5s", window="0s"
                ),
                placement=docker.ServiceTaskSpecPlacementArgs(
                    constraints=[ALWAYS_TRUE, *self._args.placement_constraints]
                ),
            ),
            opts=pulumi.ResourceOptions.merge(
                self._opts,
                pulumi.ResourceOptions(
                    depends_on=list(after),
                    ignore_changes=ignored,
                    # The network is ignored above, but another one here still means another
                    # service.
                    replacement_trigger=self._args.existing_network,
                    delete_before_replace=True,  # its name cannot be there twice
                ),
            ),
        )

    def _way_out(self, service: str, upstream: str) -> list[str]:
        """The arguments of the registry's script for the way to the upstream."""
        args = self._args
        no_proxy = registry.without_proxy(service, upstream, args.upstream_no_proxy)
        plain = args.upstream_proxy if isinstance(args.upstream_proxy, str) else None
        is_secret = plain is None and args.upstream_proxy is not None
        return registry.way_out(plain, is_secret, no_proxy, args.upstream_ca is not None)

    def _file(
        self, suffix: str, text: str, target: str, mode: int = EXECUTABLE
    ) -> docker.ServiceTaskSpecContainerSpecConfigArgs:
        """A text as a file in the container, by a Swarm config; unnamed, so that a changed one can
        be made beside the old."""
        made = self._config(suffix, text, self._opts)
        return self._config_file(made, target, mode)

    def _config(self, suffix: str, text: str, opts: pulumi.ResourceOptions) -> docker.ServiceConfig:
        return docker.ServiceConfig(f"{self._name}-{suffix}", data_raw=text, opts=opts)

    @staticmethod
    def _config_file(
        made: docker.ServiceConfig, target: str, mode: int
    ) -> docker.ServiceTaskSpecContainerSpecConfigArgs:
        return docker.ServiceTaskSpecContainerSpecConfigArgs(
            config_id=made.id, config_name=made.name, file_name=target, file_mode=mode
        )

    def _queued(self) -> pulumi.ResourceOptions:
        """For what is made of a further registry, after that of the one before."""
        before = pulumi.ResourceOptions(depends_on=self._queue[-1:])
        return pulumi.ResourceOptions.merge(self._opts, before)

    def _credentials(
        self, suffix: str, whose: RegistryMirrorArgs | Registry
    ) -> docker.ServiceTaskSpecContainerSpecSecretArgs | None:
        """An upstream's credentials as the helper hands them over."""
        if not whose.has_credentials:
            return None
        if isinstance(whose, Registry):
            account = (whose.username, whose.token, whose.url)
        else:
            account = (whose.upstream_username, whose.upstream_token, whose.upstream)
        parts = {
            "username": account[0],
            "token": pulumi.Output.secret(account[1]),
            "url": account[2],
        }
        made = docker.Secret(
            f"{self._name}-{suffix}",
            data=pulumi.Output.all(**parts).apply(_encoded),
            opts=self._queued() if isinstance(whose, Registry) else self._opts,
        )
        if isinstance(whose, Registry):
            self.further_accounts[whose.name] = made.id
        else:
            self.credentials_id = made.id
        return _secret_file(made, registry.CREDENTIALS)

    def _proxy(self) -> docker.ServiceTaskSpecContainerSpecSecretArgs | None:
        """A proxy that is a secret, because it has a password; one for all registries."""
        given = self._args.upstream_proxy
        if given is None or isinstance(given, str):
            return None
        if self._proxy_secret is None:
            self._proxy_secret = docker.Secret(
                f"{self._name}-upstream-proxy", data=_encoded_proxy(given), opts=self._opts
            )
            self.way_out.append(self._proxy_secret.id)
        return _secret_file(self._proxy_secret, registry.PROXY_FILE)


@dataclass(frozen=True, kw_only=True)
class _Registry:
    """A registry's task: what differs from one registry of the mirror to another."""

    resource: str
    service: str
    config: str
    config_resource: str
    config_is_file: bool
    """Whether the configuration is a file on the shared storage, and no Swarm config."""
    credentials: docker.ServiceTaskSpecContainerSpecSecretArgs | None
    upstream: str
    labels: Mapping[str, str]
    metrics: bool = False
    folder: str = ""
    """Of the cache; empty for the cache itself."""
    ports: Sequence[int] = ()


def _secret_file(made: docker.Secret, path: str) -> docker.ServiceTaskSpecContainerSpecSecretArgs:
    """A Swarm secret as the file `/run/secrets/…`."""
    return docker.ServiceTaskSpecContainerSpecSecretArgs(
        secret_id=made.id, secret_name=made.name, file_name=path.rpartition("/")[2], file_mode=0o400
    )


def _encoded_proxy(url: pulumi.Input[str]) -> pulumi.Output[str]:
    """A proxy's URL as docker's API takes secrets. Raises RunError, when it is known, for one that
    is none."""

    def check(text: str) -> str:
        wrong = rules.proxy(text, secret=True)
        if wrong is not None:
            # No ValueError, which Pulumi would wrap into others of its own, and print with a
            # traceback.
            raise pulumi.RunError(str(InvalidArgs([Fault("upstream_proxy", None, wrong)])))
        return base64.b64encode(text.encode()).decode()

    return pulumi.Output.secret(pulumi.Output.from_input(url).apply(check))


def _encoded(values: Mapping[str, str]) -> str:
    """The answer of a credential helper (docker-credential-helpers credentials.Credentials), as
    docker's API takes secrets."""
    answer = {"ServerURL": values["url"], "Username": values["username"], "Secret": values["token"]}
    return base64.b64encode(json.dumps(answer).encode()).decode()


def _bind(
    source: str, target: str, *, read_only: bool
) -> docker.ServiceTaskSpecContainerSpecMountArgs:
    return docker.ServiceTaskSpecContainerSpecMountArgs(
        type="bind", source=source, target=target, read_only=read_only
    )


def _health_check(test: Sequence[str]) -> docker.ServiceTaskSpecContainerSpecHealthcheckArgs:
    return docker.ServiceTaskSpecContainerSpecHealthcheckArgs(
        tests=list(test), interval="5s", timeout="5s", retries=3, start_period="10s"
    )
