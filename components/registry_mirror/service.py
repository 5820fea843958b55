"""The swarm services of the mirror: the registry, and Varnish in front of it. Wiring only; their texts are rendered elsewhere.

Owns what docker is asked for: services, Swarm configs, the Swarm secret. It deliberately knows nothing of nodes.
"""

import base64
import json
from collections.abc import Mapping, Sequence

import pulumi
import pulumi_docker as docker

from . import coalesce, registry, render, rules, traefik
from .args import RegistryMirrorArgs
from .registry import RegistryVersion
from .rules import Fault, InvalidArgs

MIB = 1024 * 1024
EXECUTABLE, READABLE = 0o555, 0o444
ALWAYS_TRUE = "node.platform.os == linux"
"""A constraint that every service of ours has. An update that takes a service's last constraint away, and changes nothing else,
ends dockerd on the manager (nil pointer in swarmkit manager/orchestrator/task.go nodeMatches; seen with 26.1.5), again at every
start. So there is always one left."""
GRACE_PERIOD = "20s"
"""Between the request to stop and the kill. It is always given: the docker plugin sends 0 where it is left out
(terraform-provider-docker, createContainerSpec), and docker then kills at once. More than twice the registry's drain
(DRAIN_TIMEOUT in registry.py): a container that needs all of it makes the plugin's delete fail (deleteService)."""
NEVER_CHANGED = (
    "taskSpec.containerSpec.labels",
    "taskSpec.containerSpec.sysctl",
    "taskSpec.networksAdvanceds[*].aliases",
    "taskSpec.placement.platforms",
)
"""What an existing service keeps, whatever the program says. A changed container label, sysctl or network alias (`docker stack
deploy` gives one) makes the docker plugin delete the service before it makes another one (ForceNew in its schema): an adopted
service keeps having no sysctl, one that an earlier version of ours made keeps its label. Platforms are docker's own entry, made
from the image when the service is created."""
ATTACHED_BY_NAME = "taskSpec.networksAdvanceds"
"""Kept too where the network is given by its name: docker looks the id up when the service is made, and a refresh finds the id,
which would be another network to the plugin (flattenTaskNetworksAdvanced) and replace the service."""


class MirrorServices:
    """Everything that runs in the swarm. `front` is what Traefik leads to: Varnish, or the registry itself."""

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
        """Name, image and digest word of each service, by which the gate tells its new task from an old one."""
        self.labels: list[dict[str, str]] = []
        """The labels for Traefik."""
        self.credentials_id: pulumi.Input[str] = ""
        """Id of the swarm's secret with the upstream's account, which another account changes; empty without one."""
        self.way_out: list[pulumi.Input[str]] = [
            *self._way_out(),
            *([] if args.upstream_ca is None else [render.digest(args.upstream_ca)]),
        ]
        """What another way to the upstream changes; empty where nothing is said of it."""
        self.registry = self._registry(config, storage)
        self.front = self._varnish() if args.coalesce else self.registry

    def _registry(self, config: str, storage: pulumi.Resource | None) -> docker.Service:
        """One task, because two would overwrite each other's state in the cache."""
        args = self._args
        version = RegistryVersion.of(args.image)
        assert version is not None  # the args have refused anything else
        files = [self._file("start-registry", registry.script("start-registry.sh"), registry.START)]
        if version.has_helper:
            files.append(self._file("credential-helper", registry.script("credential-helper.sh"), registry.HELPER))
        if not args.has_shared_path:
            files.append(self._file("config", config, version.config_target))
        if args.upstream_ca is not None:
            files.append(self._file("upstream-ca", args.upstream_ca, f"{registry.AUTHORITIES}/ca.pem", READABLE))
        secrets = [secret for secret in (self._credentials(), self._proxy()) if secret is not None]
        way_out = self._way_out()
        digest: pulumi.Input[str] = render.digest(config, *way_out, *filter(None, [args.upstream_ca]))
        for secret in secrets:
            digest = pulumi.Output.all(digest, secret.secret_id).apply(lambda parts: render.digest(*parts))
        word = pulumi.Output.from_input(digest).apply(render.digest_word)
        words = registry.words(
            version.config_target,
            metrics=bool(args.metrics_from),
            tag_days=args.tag_days,
            way_out=way_out,
        )
        container = docker.ServiceTaskSpecContainerSpecArgs(
            image=args.image,
            commands=["/bin/sh", registry.START, *words, word],
            # One variable at most: the plugin sends several in another order each time, and swarm then starts a new task.
            env={"OTEL_TRACES_EXPORTER": "none"},
            configs=files,
            secrets=secrets,
            mounts=self._mounts(version),
            sysctl=registry.SYSCTL,
            healthcheck=_health_check(registry.HEALTH_CHECK),
            stop_grace_period=GRACE_PERIOD,
            read_only=True,
            cap_drops=["ALL"],
            cap_adds=list(registry.CAPABILITIES),
        )
        self.expected.append({"service": self._service, "word": word, "image": args.image})
        return self._declare(
            f"{self._name}-service",
            self._service,
            container,
            self._registry_labels(),
            memory=args.memory,
            order="stop-first",  # the old task must have let go of the cache before the new one takes it
            ports=[registry.PORT] if args.publish_unencrypted_port_5000 else [],
            after=[] if storage is None else [storage],
        )

    def _mounts(self, version: RegistryVersion) -> list[docker.ServiceTaskSpecContainerSpecMountArgs]:
        args = self._args
        if args.has_shared_path:
            return [
                _bind(args.config_path, version.config_target, read_only=True),
                _bind(args.cache_path, registry.CACHE_TARGET, read_only=False),
            ]
        options = None
        if args.cache_nfs is not None:
            options = docker.ServiceTaskSpecContainerSpecMountVolumeOptionsArgs(
                driver_name="local", driver_options=registry.nfs_volume(args.cache_nfs, args.cache_nfs_options)
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
        args = self._args
        labels = (
            {}
            if args.coalesce
            else traefik.joined(traefik.mirror_labels(self._service, registry.PORT, self._route), args.traefik_labels)
        )
        if args.metrics_from:
            labels |= traefik.about_the_service(args.traefik_labels)
            labels |= traefik.metrics_labels(self._service, registry.METRICS_PORT, self._route, args.metrics_from)
        return labels or traefik.hidden_labels()

    def _varnish(self) -> docker.Service:
        args = self._args
        assert args.varnish_image is not None  # the args have refused anything else
        start, configuration = registry.script("start-varnish.sh"), registry.script("mirror.vcl")
        files = [
            self._file("start-varnish", start, coalesce.START),
            self._file("vcl", configuration, coalesce.CONFIGURATION),
        ]
        words = coalesce.words(self._service, args.coalesce_memory, args.coalesce_disk, args.referrers)
        word = render.digest_word(render.digest(start, configuration, json.dumps(words)))
        front = coalesce.front_name(self._service)
        container = docker.ServiceTaskSpecContainerSpecArgs(
            image=args.varnish_image,
            commands=["/bin/sh", coalesce.START, *words, word],
            configs=files,
            healthcheck=_health_check(coalesce.HEALTH_CHECK),
            stop_grace_period=GRACE_PERIOD,
            read_only=True,
            cap_drops=["ALL"],
            mounts=[docker.ServiceTaskSpecContainerSpecMountArgs(type="volume", target=coalesce.WRITABLE, read_only=False)],
        )
        self.expected.append({"service": front, "word": word, "image": args.varnish_image})
        return self._declare(
            f"{self._name}-front",
            front,
            container,
            traefik.joined(traefik.mirror_labels(front, coalesce.PORT, self._route, coalesce.HEALTH_PATH), args.traefik_labels),
            memory=args.coalesce_memory + coalesce.OVERHEAD_MIB,
            order="start-first",  # it holds nothing that two could spoil, so an update is not noticed
            ports=[],
            after=[self.registry],
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
        # docker takes a name for an id; the plugin's own field for a name is deprecated, which each `up` would say.
        network = self._args.network if self._network_id is None else self._network_id
        ignored = [*NEVER_CHANGED, *([ATTACHED_BY_NAME] if self._network_id is None else [])]
        published = [
            docker.ServiceEndpointSpecPortArgs(target_port=port, published_port=port, publish_mode="ingress", protocol="tcp")
            for port in ports
        ]
        return docker.Service(
            name,
            name=service,
            labels=[docker.ServiceLabelArgs(label=key, value=value) for key, value in sorted(labels.items())],
            mode=docker.ServiceModeArgs(replicated=docker.ServiceModeReplicatedArgs(replicas=1)),
            update_config=docker.ServiceUpdateConfigArgs(parallelism=1, order=order, failure_action="pause"),
            endpoint_spec=docker.ServiceEndpointSpecArgs(ports=published) if published else None,
            task_spec=docker.ServiceTaskSpecArgs(
                container_spec=container,
                networks_advanceds=[docker.ServiceTaskSpecNetworksAdvancedArgs(id=network)],
                resources=docker.ServiceTaskSpecResourcesArgs(limits=limits),
                # `window` is read back where it is left out, and would be a change in every preview.
                restart_policy=docker.ServiceTaskSpecRestartPolicyArgs(condition="any", delay="5s", window="0s"),
                placement=docker.ServiceTaskSpecPlacementArgs(constraints=[ALWAYS_TRUE, *self._args.placement_constraints]),
            ),
            opts=pulumi.ResourceOptions.merge(
                self._opts,
                pulumi.ResourceOptions(
                    depends_on=list(after),
                    ignore_changes=ignored,
                    # What is ignored above is another service all the same when it is changed here.
                    replacement_trigger=self._args.existing_network,
                    delete_before_replace=True,  # its name cannot be there twice
                ),
            ),
        )

    def _way_out(self) -> list[str]:
        """How the registry's script is told of the way to the upstream."""
        args = self._args
        no_proxy = registry.without_proxy(self._service, args.upstream, args.upstream_no_proxy)
        plain = args.upstream_proxy if isinstance(args.upstream_proxy, str) else None
        is_secret = plain is None and args.upstream_proxy is not None
        return registry.way_out(plain, is_secret, no_proxy, args.upstream_ca is not None)

    def _file(self, suffix: str, text: str, target: str, mode: int = EXECUTABLE) -> docker.ServiceTaskSpecContainerSpecConfigArgs:
        """A text as a file in the container, by a Swarm config; unnamed, so that a changed one can be made beside the old."""
        made = docker.ServiceConfig(f"{self._name}-{suffix}", data_raw=text, opts=self._opts)
        return docker.ServiceTaskSpecContainerSpecConfigArgs(
            config_id=made.id, config_name=made.name, file_name=target, file_mode=mode
        )

    def _credentials(self) -> docker.ServiceTaskSpecContainerSpecSecretArgs | None:
        """The upstream's credentials as the helper hands them over."""
        args = self._args
        if not args.has_credentials:
            return None
        parts = {"username": args.upstream_username, "token": pulumi.Output.secret(args.upstream_token), "url": args.upstream}
        made = docker.Secret(f"{self._name}-credentials", data=pulumi.Output.all(**parts).apply(_encoded), opts=self._opts)
        self.credentials_id = made.id
        return _secret_file(made, registry.CREDENTIALS)

    def _proxy(self) -> docker.ServiceTaskSpecContainerSpecSecretArgs | None:
        """A proxy that is a secret, because it has a password."""
        given = self._args.upstream_proxy
        if given is None or isinstance(given, str):
            return None
        made = docker.Secret(f"{self._name}-upstream-proxy", data=_encoded_proxy(given), opts=self._opts)
        self.way_out.append(made.id)
        return _secret_file(made, registry.PROXY_FILE)


def _secret_file(made: docker.Secret, path: str) -> docker.ServiceTaskSpecContainerSpecSecretArgs:
    """A Swarm secret as the file `/run/secrets/…`."""
    return docker.ServiceTaskSpecContainerSpecSecretArgs(
        secret_id=made.id, secret_name=made.name, file_name=path.rpartition("/")[2], file_mode=0o400
    )


def _encoded_proxy(url: pulumi.Input[str]) -> pulumi.Output[str]:
    """A proxy's URL as docker's API takes secrets. Raises RunError, when it is known, for one that is none."""

    def check(text: str) -> str:
        wrong = rules.proxy(text, secret=True)
        if wrong is not None:
            # No ValueError, which Pulumi would wrap into others of its own, and print with a traceback.
            raise pulumi.RunError(str(InvalidArgs([Fault("upstreamProxy", None, wrong)])))
        return base64.b64encode(text.encode()).decode()

    return pulumi.Output.secret(pulumi.Output.from_input(url).apply(check))


def _encoded(values: Mapping[str, str]) -> str:
    """What a credential helper answers (docker-credential-helpers credentials.Credentials), as docker's API takes secrets."""
    answer = {"ServerURL": values["url"], "Username": values["username"], "Secret": values["token"]}
    return base64.b64encode(json.dumps(answer).encode()).decode()


def _bind(source: str, target: str, *, read_only: bool) -> docker.ServiceTaskSpecContainerSpecMountArgs:
    return docker.ServiceTaskSpecContainerSpecMountArgs(type="bind", source=source, target=target, read_only=read_only)


def _health_check(test: Sequence[str]) -> docker.ServiceTaskSpecContainerSpecHealthcheckArgs:
    return docker.ServiceTaskSpecContainerSpecHealthcheckArgs(
        tests=list(test), interval="5s", timeout="5s", retries=3, start_period="10s"
    )
