"""What a registry mirror needs to know: frozen, typed, and refused as a whole with every fault
named.

Plain types shape the graph or are checked in the preview; `Input` marks leaves that may be outputs
or secrets. Pure but for that annotation; it deliberately reads no file and knows no stack
configuration.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pulumi

from . import images, kinds, rules, upstreams
from .node_agent import daemon_keys
from .render.clients import Served
from .render.common import guard_name
from .render.registries import DOCKER_HUB, HUB_URL, Behind, path_of, suffix_of
from .render.registry import CACHE_WRITE_SECONDS, RegistryVersion
from .render.traefik import METRICS_PATH, Route, hidden_by, metrics_labels, mirror_labels
from .render.varnish import DISK_MIB, REFERRERS, front_name
from .render.varnish import METRICS_PATH as VARNISH_METRICS
from .rules import Fault, InvalidArgs
from .upstreams import Registry


class InvalidProgram(InvalidArgs, pulumi.RunError):
    """InvalidArgs as a program raises them: of a RunError, Pulumi prints the text and no
    traceback."""


@dataclass(frozen=True, kw_only=True)
class Bastion:
    """A machine through which others are reached, as with ssh's `ProxyJump`; it is logged in to
    with the same key."""

    address: str
    """Where its sshd answers: host name or IP address."""
    host_key: str
    """Its SSH host key, or `@cert-authority` and the key of the authority that has signed it."""
    user: str = "root"
    """The account to log in with."""
    port: int = 22
    """Of its sshd."""

    def faults(self, key: str) -> list[Fault]:
        """Everything that is wrong with it; `key` is how the user calls it, like `bastion`."""
        wrong = _of_the_wrong_kind(self, f"{key}.")
        sound = kinds.mended(self, _STAND_INS)
        found = [
            *rules.check(f"{key}.address", sound.address, rules.address),
            *rules.check(f"{key}.host_key", sound.host_key, rules.host_key),
            *rules.check(f"{key}.user", sound.user, rules.user),
            *rules.check(f"{key}.port", sound.port, rules.port),
        ]
        return wrong + [fault for fault in found if fault.key not in {other.key for other in wrong}]


@dataclass(frozen=True, kw_only=True)
class SwarmNode:
    """A machine of the swarm whose docker daemon uses the mirror."""

    name: str
    """Stable name; it names the node's resource, so another name is another node."""
    address: str
    """Where its sshd answers: host name or IP address."""
    host_key: str
    """Its SSH host key, one line like `ssh-ed25519 AAAA…`, or `@cert-authority` and the key of the
    authority that has signed it. Connections are refused to anyone else."""
    user: str = "root"
    """The account to log in with."""
    port: int = 22
    """Of its sshd."""
    become: str | None = None
    """`sudo` where `user` is not root; it must be allowed without a password."""
    private_key: pulumi.Input[str] | None = field(default=None, repr=False)
    """SSH private key for this node, PEM; left out, that of the args."""
    private_key_file: str | None = None
    """File with the SSH private key for this node, in place of `private_key`."""
    bastion: Bastion | None = None
    """The machine through which this node is reached; left out, that of the args."""
    daemon_json: str = "/etc/docker/daemon.json"
    """The configuration file that its dockerd reads."""
    service: str = "docker"
    """The service (systemd unit) of its dockerd."""

    def faults(self, key: str) -> list[Fault]:
        """Everything that is wrong with this node; `key` is how the user calls it, like
        `nodes[2]`."""
        wrong = _of_the_wrong_kind(self, f"{key}.")
        sound = kinds.mended(self, _STAND_INS)
        return wrong + [
            fault
            for fault in sound._value_faults(key)
            if fault.key not in {other.key for other in wrong}
        ]

    def _value_faults(self, key: str) -> list[Fault]:
        return [
            *rules.check(f"{key}.name", self.name, rules.name),
            *rules.check(f"{key}.address", self.address, rules.address),
            *rules.check(f"{key}.host_key", self.host_key, rules.host_key),
            *rules.check(f"{key}.user", self.user, rules.user),
            *rules.check(f"{key}.port", self.port, rules.port),
            *rules.check(f"{key}.become", self.become, rules.become),
            *rules.check(f"{key}.daemon_json", self.daemon_json, rules.absolute_path),
            *rules.check(f"{key}.service", self.service, rules.name),
            *_private_key_faults(f"{key}.", self.private_key, self.private_key_file),
            *([] if self.bastion is None else self.bastion.faults(f"{key}.bastion")),
        ]


@dataclass(frozen=True, kw_only=True)
class RegistryMirrorArgs:
    """A registry mirror and the nodes that use it. Raises InvalidArgs, with all faults, when it is
    made."""

    hostname: str
    """DNS name of the mirror; nodes use `https://<hostname>`, Traefik routes it."""
    image: str
    """CNCF Distribution 3.1.1 or later, with tag and digest: `registry:3.1.2@sha256:…`."""
    accept_registry_2: bool = False
    """Take an image of registry 2.8.2 or 2.8.3 too: slower, and it does not start while its
    upstream is away."""
    coalesce: bool = True
    """Varnish in front, so that nodes that pull the same at the same moment are one download from
    the upstream."""
    varnish_image: str | None = None
    """Varnish 7.3 or later, with tag and digest: `varnish:7.7.0@sha256:…`. Needed to coalesce."""
    coalesce_memory: int = 512
    """MiB in which Varnish holds what is being pulled; layers of more than half of it are kept on
    its disk."""
    coalesce_disk: int = DISK_MIB
    """MiB of the disk of Varnish's machine for the layers that memory does not hold, never more
    than half of what is free there; 0: none, and these layers are a download for each client."""
    referrers: str = REFERRERS[0]
    """Varnish's answer to a client that asks for the referrers of an image, as docker 29 does for
    signatures at each pull. `empty`: there are none; `upstream`: a 404, after which the client asks
    the upstream itself. Without `coalesce` it is always `upstream`."""
    nodes: Sequence[SwarmNode]
    """Every node that uses the mirror, in the order of the roll-out; the first that is not the
    manager is the canary."""
    private_key: pulumi.Input[str] | None = field(default=None, repr=False)
    """SSH private key for the nodes that bring none of their own, PEM. It is in the state, as a
    secret."""
    private_key_file: str | None = None
    """File with that key instead, on the computer of `pulumi up`; it is not in the state, and may
    have a passphrase if an agent has the key. Neither: the agent's keys, and the usual ones in
    ~/.ssh."""
    bastion: Bastion | None = None
    """The machine through which a node is reached that names none of its own."""
    ssh_config: str | None = None
    """Configuration file of the ssh program (ssh_config(5)), like `~/.ssh/config`; left out, none
    is read."""
    manager: str | SwarmNode | None = None
    """The node that runs the swarm's commands and writes the shared storage: one of `nodes` by its
    name, or a machine that does not use the mirror; default the first of `nodes`."""
    upstream: str = HUB_URL
    """The registry that is cached. `http://` is for a registry on a network that you trust."""
    upstream_username: pulumi.Input[str] | None = None
    """Account at the upstream. Everybody who reaches the mirror can read what it can read, so use
    one with few rights."""
    upstream_token: pulumi.Input[str] | None = field(default=None, repr=False)
    """Its read-only token: becomes a Swarm secret and is nowhere else."""
    send_token_unencrypted: bool = False
    """Send account and token to an `http://` upstream, where anybody on the way can read them. For
    a lab."""
    upstream_proxy: pulumi.Input[str] | None = field(default=None, repr=False)
    """Proxy through which the registry reaches its upstream, `http://proxy.example.com:3128` (or
    https, socks5). One with a user and password must be a secret (`pulumi.Output.secret`): it
    becomes a Swarm secret and is nowhere else."""
    upstream_no_proxy: Sequence[str] = ()
    """What is reached without that proxy: hosts, `.domains`, addresses, networks (CIDR), each with
    `:port` where one is meant. Names without a dot, which are the swarm's own, never go through
    it."""
    upstream_ca: str | None = field(default=None, repr=False)
    """Certificates (PEM, at most 500,000 bytes) of authorities that the registry trusts on the way
    to its upstream, besides those of its image: a company's own, or that of a proxy that looks into
    TLS."""
    fallback: bool = True
    """Whether nodes ask Docker Hub itself where the mirror does not answer. False is for nodes
    without a way to the internet, and needs docker 28 with the containerd store on all of them."""
    registries: Sequence[Registry] = ()
    """Registries that are cached besides `upstream`, like `Registry(name="ghcr.io")`. Docker with
    the containerd store, from 28.0 on, asks the mirror for their images by itself; elsewhere they
    are pulled as `<hostname>/ghcr.io/owner/image`."""
    warm: Sequence[str] = ()
    """Images that the mirror is to have before a node asks for them, like `traefik:v3.7` or
    `ghcr.io/owner/app:1`. They are fetched when the list changes; what was evicted or has a new
    tag since is the verb `warm`'s to fetch again."""
    warm_required: bool = False
    """Whether an image of `warm` that cannot be had ends the roll-out before it touches a node.
    Else it is a warning, at the end of the roll-out."""
    ttl_hours: int = 0
    """Hours after which an image is forgotten, counted from its first pull; 0: never."""
    tag_days: int = 30
    """Days after which a tag is forgotten that its upstream has not confirmed, because it was
    deleted there or nobody asked for it; layers and manifests stay. Nothing is forgotten while the
    upstream does not answer. 0: never, so a deleted tag is still served."""
    cache_write_seconds: int = CACHE_WRITE_SECONDS
    """Seconds that writing a layer to slow storage may take."""
    service_name: str | None = None
    """Name of the swarm service, and of our traces on a node; default the component's name."""
    network: str = "traefik_public"
    """Overlay network on which Traefik finds the mirror."""
    network_id: pulumi.Input[str] | None = None
    """Id of that network, for a program that has it as an output; left out, docker finds it by its
    name."""
    create_network: bool = False
    """Make that network; otherwise it must exist."""
    cache_path: str = "/var/data/registry/registry-mirror-data"
    """Directory on shared storage for the cached layers. Kept by destroy."""
    cache_nfs: str | None = None
    """`server:/export` that docker mounts for the cache, in place of `cache_path`; no machine needs
    to have it mounted."""
    cache_nfs_options: str = "rw,nfsvers=4.1,hard,timeo=600,retrans=2"
    """Mount options for it. `hard`: a server that is unavailable for a moment must not become a
    failed write."""
    cache_volume: str | None = None
    """A docker volume for the cache, in place of `cache_path`. It is one machine's: constraints
    must tie the task to that."""
    cache_limit: str | None = None
    """What the whole cache may have, like `200GB` or `1.5TiB`: beyond it, the layers that were used
    longest ago are removed. Left out, it grows. A layer that was used in the last hour is never
    removed."""
    cache_free_floor: str | None = None
    """What stays free on the cache's file system, like `50GB` or `10%`: below it, the layers that
    were used longest ago are removed, whoever has filled it."""
    config_path: str = "/var/data/registry/registry-mirror-config.yml"
    """The registry's configuration file, on shared storage."""
    traefik: str = "v3"
    """Generation of the Traefik that reads the labels: v1, v2, v3.0 (before 3.2.2) or v3."""
    entrypoint: str = "websecure"
    """Traefik's entrypoint for HTTPS, or several with commas between them: `websecure,internal`."""
    cert_resolver: str | None = None
    """Traefik's certificate resolver; left out, Traefik's default certificate."""
    allow_from: Sequence[str] = ()
    """Networks (CIDR) from which the mirror may be used; empty: from everywhere that reaches
    Traefik."""
    metrics_from: Sequence[str] = ()
    """Networks (CIDR) from which `https://<hostname>/metrics` may be read; empty: from nowhere."""
    publish_unencrypted_port_5000: bool = False
    """The recipe's `5000:5000`: plain HTTP, past Traefik, on every node, for a swarm whose clients
    still use it."""
    traefik_labels: Mapping[str, str] = field(default_factory=dict)
    """Further labels of the service that Traefik leads to, like `traefik.constraint-label:
    traefik-public`; none of our own, but that middlewares of its router come behind that of
    `allow_from`. Those that are not about routers and the like are on the service whose metrics are
    read, too."""
    placement_constraints: Sequence[str] = ()
    """Swarm constraints for where the mirror's tasks may run, like `node.labels.storage ==
    shared`."""
    memory: int = 1024
    """MiB that the registry's container may use."""
    ready_timeout: int = 180
    """Seconds that the mirror may take to answer over HTTPS before the roll-out is called off; ACME
    can need minutes."""
    max_parallel: int = 10
    """Nodes that are configured at the same time, once the canary is healthy."""

    check_image: str = "library/hello-world:latest"
    """An image that the upstream has: its manifest must pass through the mirror before a node is
    told, at the node too."""
    daemon_keys: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Further managed keys of daemon.json, like `experimental: true`; destroy restores what was
    there before. Plain values, because they are checked in the preview and shape the
    graph; see `daemon_keys_are_secret`."""
    daemon_keys_are_secret: bool = False
    """Whether a value in `daemon_keys` is a secret, like a proxy's password: each request that
    carries them is then a secret in the state and in previews, and no message repeats a value of
    theirs."""
    restart: str = "never"
    """`when-needed`: for keys that dockerd reads at its start only, nodes are drained and restarted
    one at a time."""
    allow_quorum_loss: bool = False
    """Restart managers even if the swarm has no majority of them meanwhile."""
    guard: bool = False
    """Whether a small global service looks at the mirror from every machine of the swarm and takes
    it out of the hosts.toml of docker's containerd store while it does not answer. It enters the
    mirror on machines, too, that join after the last `up`."""
    accept_broken_host_gateway: bool = False
    """Reload docker 28.0 to 29.2.1 where its image store is not containerd's, though containers
    with `host-gateway` do not start there afterwards, until somebody restarts it (moby#52057).
    Otherwise such a node is refused, or restarted where that is allowed."""

    def __post_init__(self) -> None:
        faults = self.faults()
        if faults:
            raise InvalidProgram(faults)

    def faults(self) -> list[Fault]:
        """Everything that is wrong, in the order of the keys; what is of the wrong kind first."""
        wrong = _of_the_wrong_kind(self)
        sound = kinds.mended(
            self,
            {**_STAND_INS, "nodes": _nodes(self.nodes), "daemon_keys": {}, "traefik_labels": {}},
        )
        tops = {fault.key.partition("[")[0] for fault in wrong} - {"nodes"}
        return wrong + [
            fault for fault in sound._value_faults() if fault.key.partition("[")[0] not in tops
        ]

    def _value_faults(self) -> list[Fault]:
        nodes = [(f"nodes[{index}]", node) for index, node in enumerate(self.nodes)]
        # A node in which something is of the wrong kind is compared with no other.
        sound = [(key, node) for key, node in nodes if not list(kinds.faults(node))]
        faults = [
            *rules.check("hostname", self.hostname, rules.hostname),
            *rules.check(
                "image", self.image, lambda value: rules.image(value, self.accept_registry_2)
            ),
            *self._coalesce_faults(),
            *rules.check("upstream", self.upstream, rules.upstream),
            *self._way_out_faults(),
            *self._registries_faults(),
            *self._warm_faults(),
            *rules.check("network", self.network, rules.swarm_name),
            *rules.check("cache_path", self.cache_path, rules.absolute_path),
            *rules.check("config_path", self.config_path, rules.absolute_path),
            *self._cache_faults(),
            *rules.check("entrypoint", self.entrypoint, rules.entrypoints),
            *rules.check("traefik", self.traefik, rules.traefik),
            *(
                fault
                for key, value in self.traefik_labels.items()
                for fault in self._label_faults(key, value)
            ),
            *self._access_faults(),
            *self._registry_2_faults(),
            *rules.check("cache_write_seconds", self.cache_write_seconds, rules.positive),
            *rules.check("ttl_hours", self.ttl_hours, rules.not_negative),
            *rules.check("tag_days", self.tag_days, rules.not_negative),
            *rules.check("memory", self.memory, rules.memory),
            *rules.check("ready_timeout", self.ready_timeout, rules.ready_timeout),
            *rules.check("max_parallel", self.max_parallel, rules.positive),
            *self._check_image_faults(),
            *rules.check("restart", self.restart, rules.restart),
            *self._daemon_key_faults(),
            *(fault for key, node in nodes for fault in node.faults(key)),
            *rules.unique([(f"{key}.name", node.name) for key, node in sound], "name"),
            *rules.unique(
                [(f"{key}.address", f"{node.address}:{node.port}") for key, node in sound],
                "address",
            ),
        ]
        if self.service_name is not None:
            faults += self.service_name_faults("service_name", self.service_name)
        if self.cert_resolver is not None:
            faults += rules.check("cert_resolver", self.cert_resolver, rules.name)
        if self.create_network and self.network_id is not None:
            faults.append(
                Fault(
                    "create_network",
                    True,
                    "is given besides the network's id, so that it exists; remove one of them",
                )
            )
        if not nodes:
            faults.append(
                Fault(
                    "nodes",
                    [],
                    "must list at least one node; a mirror that nobody uses saves nothing",
                )
            )
        else:
            faults += self._manager_faults()
        faults += _private_key_faults("", self.private_key, self.private_key_file)
        if self.bastion is not None:
            faults += self.bastion.faults("bastion")
        if self.ssh_config is not None:
            faults += rules.check("ssh_config", self.ssh_config, rules.local_file)
        return faults

    def _registries_faults(self) -> list[Fault]:
        """Of the registries besides the one at the root."""
        found = upstreams.faults(
            self.registries, "registries", has_allow_list=bool(self.allow_from)
        )
        version = RegistryVersion.of(self.image)
        names = [registry.name for registry in self.registries]
        if names and not self.coalesce:
            wrong = (
                "needs coalesce, because Varnish leads to each registry; set it, or remove these"
            )
            found.append(Fault("registries", names, wrong))
        if names and version is not None and version.major == 2:
            wrong = (
                "needs registry 3, because registry 2 does not start while its upstream is"
                " unavailable; use registry:3.1.1 or later"
            )
            found.append(Fault("registries", names, wrong))
        return found

    @property
    def cached_registries(self) -> list[Registry]:
        """The registries besides the one at the root that have a cache of their own."""
        return [registry for registry in self.registries if registry.alias_of is None]

    @property
    def root_names(self) -> list[str]:
        """Docker Hub's name, and its aliases."""
        return [DOCKER_HUB, *self._aliases(DOCKER_HUB)]

    @property
    def behind(self) -> list[Behind]:
        """What Varnish leads to besides the registry at the root."""
        return [
            Behind(registry.name, self._aliases(registry.name), registry.repositories)
            for registry in self.cached_registries
        ]

    def path_at_mirror(self, registry: Registry) -> str:
        """First element of the paths at which the mirror has a registry; empty for its root."""
        name = registry.alias_of or registry.name
        return "" if name == DOCKER_HUB else path_of(name)

    @property
    def served(self) -> list[Served]:
        """Docker Hub, and every registry and alias besides it, as clients of the mirror see
        them."""
        root = Served(DOCKER_HUB, self.hostname, self.fallback)
        others = []
        for registry in self.registries:
            prefix = "/".join(filter(None, [self.hostname, self.path_at_mirror(registry)]))
            others.append(Served(registry.name, prefix, registry.fallback))
        return [root, *others]

    @property
    def metrics_urls(self) -> list[str]:
        """What Prometheus asks: the registry at the root, Varnish, the other registries; empty
        where nobody may (`metrics_from`)."""
        if not self.metrics_from:
            return []
        further = [f"{METRICS_PATH}/{path_of(each.name)}" for each in self.cached_registries]
        paths = [METRICS_PATH, *([VARNISH_METRICS] if self.coalesce else []), *further]
        return [f"https://{self.hostname}{path}" for path in paths]

    @property
    def asks_hub_without_account(self) -> bool:
        """Whether Docker Hub counts the mirror's pulls by the address of its machine."""
        return self.upstream == HUB_URL and self.upstream_username is None

    def _warm_faults(self) -> list[Fault]:
        found, seen = [], dict[tuple[str, str], int]()
        for index, text in enumerate(self.warm):
            key = f"warm[{index}]"
            try:
                image = images.at_mirror(images.parse(text), self.served)
            except images.BadImage as error:
                found.append(Fault(key, text, str(error)))
                continue
            first = seen.setdefault((image.repository, image.image.reference), index)
            if first != index:
                found.append(Fault(key, text, f"is warm[{first}] too; remove one of them"))
        if self.warm_required and not self.warm:
            wrong = "is set, and warm names no image; name one there, or remove this"
            found.append(Fault("warm_required", True, wrong))
        return found

    def _aliases(self, name: str) -> list[str]:
        return [registry.name for registry in self.registries if registry.alias_of == name]

    def service_name_faults(self, key: str, name: str) -> list[Fault]:
        """Of the name of the mirror's service, also where it is that of the component."""
        suffixes = [front_name("")] * self.coalesce + [guard_name("")] * self.guard
        suffixes += [suffix_of(registry.name) for registry in self.cached_registries]
        return rules.check(
            key, name, lambda value: rules.service_name(value, max(suffixes, key=len, default=""))
        )

    def _label_faults(self, name: str, value: object) -> list[Fault]:
        """Of one further label."""
        key = f"traefik_labels.{name}"
        found = rules.label(key, name, value)
        if found or not isinstance(value, str):
            return found
        wrong = hidden_by(self.traefik, name, value)
        return [] if wrong is None else [Fault(key, value, wrong)]

    def label_faults(self, service: str) -> list[Fault]:
        """Of further labels, which depend on the name of the service."""
        own = self.own_labels(service)
        return [
            Fault(
                f"traefik_labels.{key}",
                value,
                "is a label that the mirror has by itself; remove it",
            )
            for key, value in self.traefik_labels.items()
            # Middlewares can be several; one that hides the mirror's own cannot be given
            # (`traefik.joined`).
            if key.lower() in {name.lower() for name in own}
            and not key.lower().endswith(".middlewares")
        ]

    def own_labels(self, service: str) -> dict[str, str]:
        """The labels by which Traefik finds the mirror, all of them, on the service that it leads
        to."""
        front = front_name(service) if self.coalesce else service
        labels = mirror_labels(front, 0, self.route)
        if self.metrics_from:
            labels |= metrics_labels(front, 0, self.route, self.metrics_from)
        return labels

    @property
    def route(self) -> Route:
        """The way in through Traefik."""
        return Route(
            dialect=self.traefik,
            hostname=self.hostname,
            network=self.network,
            entrypoint=self.entrypoint,
            cert_resolver=self.cert_resolver,
            allow_from=self.allow_from,
        )

    def _check_image_faults(self) -> list[Fault]:
        """Of the image that must pass through the mirror."""
        faults = rules.check("check_image", self.check_image, rules.tagged_image)
        if not faults and "/" not in self.check_image and rules.is_hub(self.upstream):
            words = f"must be called as Docker Hub itself does; write library/{self.check_image}"
            faults.append(Fault("check_image", self.check_image, words))
        return faults

    def _manager_faults(self) -> list[Fault]:
        """Of the machine on which the service is looked after."""
        names = [
            node.name for node in self.nodes if isinstance(node.name, str)
        ]  # another fault otherwise
        if not isinstance(self.manager, SwarmNode):
            if self.manager is None or self.manager in names:
                return []
            return [
                Fault(
                    "manager",
                    self.manager,
                    f"must be the name of a node; they are {', '.join(names)}",
                )
            ]
        faults = self.manager.faults("manager")
        if self.restart_keys and self.manager.name not in names:
            reason = (
                "must be one of the nodes where keys need a restart, because nodes are"
                " drained through it"
            )
            faults.append(Fault("manager", self.manager.name, reason))
        return faults

    @property
    def has_shared_path(self) -> bool:
        """Whether cache and configuration are on storage that the machines have mounted."""
        return self.cache_nfs is None and self.cache_volume is None

    def _cache_faults(self) -> list[Fault]:
        """Of the cache's size, and of one that is not a shared path."""
        faults = []
        if self.cache_limit is not None:
            faults += rules.check("cache_limit", self.cache_limit, rules.cache_limit)
        if self.cache_free_floor is not None:
            faults += rules.check("cache_free_floor", self.cache_free_floor, rules.cache_free_floor)
        if self.cache_nfs is not None:
            faults += rules.check("cache_nfs", self.cache_nfs, rules.nfs)
            faults += rules.check("cache_nfs_options", self.cache_nfs_options, rules.mount_options)
        if self.cache_volume is not None:
            faults += rules.check("cache_volume", self.cache_volume, rules.name)
            if self.cache_nfs is not None:
                faults.append(
                    Fault(
                        "cache_volume",
                        self.cache_volume,
                        "is given besides cache_nfs; remove one of them",
                    )
                )
            if not any(
                rules.names_one_machine(constraint) for constraint in self.placement_constraints
            ):
                reason = (
                    "must tie the task to one machine, like node.hostname == worker1, because"
                    " a volume is that machine's"
                )
                faults.append(
                    Fault("placement_constraints", list(self.placement_constraints), reason)
                )
        return faults

    def _coalesce_faults(self) -> list[Fault]:
        """Of Varnish."""
        if not self.coalesce:
            return []
        if self.varnish_image is None:
            named = (
                "name Varnish's, like varnish:7.7.0@sha256:… (`docker buildx imagetools"
                " inspect` shows the digest)"
            )
            remedy = f"{named}, or set coalesce to false"
            return [Fault("varnish_image", None, f"is missing: {remedy}")]
        return [
            *rules.check("varnish_image", self.varnish_image, rules.varnish_image),
            *rules.check("coalesce_memory", self.coalesce_memory, rules.memory),
            *rules.check("coalesce_disk", self.coalesce_disk, rules.coalesce_disk),
            *rules.check("referrers", self.referrers, rules.referrers),
        ]

    def _way_out_faults(self) -> list[Fault]:
        """Of the way to the upstream. A proxy that is an Output is looked at when it is known
        (`services.py`)."""
        faults = []
        if isinstance(self.upstream_proxy, str):
            faults += rules.check("upstream_proxy", self.upstream_proxy, rules.proxy)
        for index, entry in enumerate(self.upstream_no_proxy):
            faults += rules.check(f"upstream_no_proxy[{index}]", entry, rules.no_proxy)
        if self.upstream_no_proxy and self.upstream_proxy is None:
            faults.append(
                Fault(
                    "upstream_no_proxy",
                    list(self.upstream_no_proxy),
                    "is given without upstream_proxy; remove it",
                )
            )
        wrong = None if self.upstream_ca is None else rules.authorities(self.upstream_ca)
        if wrong is not None:
            faults.append(Fault("upstream_ca", None, wrong))  # its value may be a private key
        return faults

    def _access_faults(self) -> list[Fault]:
        """Of who may use the mirror, and what he could get there."""
        faults = [
            fault
            for key, sources in (
                ("allow_from", self.allow_from),
                ("metrics_from", self.metrics_from),
            )
            for index, source in enumerate(sources)
            for fault in rules.check(f"{key}[{index}]", source, rules.network_range)
        ]
        faults += [
            fault
            for index, constraint in enumerate(self.placement_constraints)
            for fault in rules.check(
                f"placement_constraints[{index}]", constraint, rules.constraint
            )
        ]
        if self.metrics_from and self.traefik == "v1":
            faults.append(
                Fault(
                    "metrics_from",
                    list(self.metrics_from),
                    "needs Traefik 2 or later (traefik: v2)",
                )
            )
        if (self.upstream_username is None) != (self.upstream_token is None):
            missing = "upstream_token" if self.upstream_token is None else "upstream_username"
            faults.append(
                Fault(missing, None, "is missing: credentials are an account and its token")
            )
        if self.has_credentials:
            if self.upstream.startswith("http://") and not self.send_token_unencrypted:
                reason = (
                    "would be sent the token unencrypted; with credentials it must begin with"
                    " https://"
                )
                faults.append(Fault("upstream", self.upstream, reason))
            if not self.allow_from:
                reason = (
                    "with credentials, whoever reaches the mirror can read that account's"
                    " private images"
                )
                faults.append(
                    Fault(
                        "allow_from", None, f"is missing: {reason}; list the networks of your nodes"
                    )
                )
            if self.publish_unencrypted_port_5000:
                reason = (
                    "goes past the allow-list, and with credentials that hands out private"
                    " images; remove one of them"
                )
                faults.append(Fault("publish_unencrypted_port_5000", True, reason))
        return faults

    def _daemon_key_faults(self) -> list[Fault]:
        """Of the keys of daemon.json; a secret value is never repeated."""
        outputs = [key for key, value in self.daemon_keys.items() if _holds_an_output(value)]
        reason = (
            "holds a pulumi.Output, and must be plain to be checked in the preview; set"
            " daemon_keys_are_secret if it is a secret"
        )
        plain = {key: value for key, value in self.daemon_keys.items() if key not in outputs}
        faults = [Fault(f"daemon_keys.{key}", None, reason) for key in outputs] + rules.daemon_keys(
            plain
        )
        return (
            [replace(fault, value="[secret]") for fault in faults]
            if self.daemon_keys_are_secret
            else faults
        )

    def _registry_2_faults(self) -> list[Fault]:
        """Of what registry 2 would ignore in silence."""
        version = RegistryVersion.of(self.image)
        if version is None or version.major != 2:
            return []
        faults = []
        if self.ttl_hours:
            faults.append(
                Fault(
                    "ttl_hours",
                    self.ttl_hours,
                    "is for registry 3; registry 2 forgets after seven days, always",
                )
            )
        for key, value in (
            ("cache_limit", self.cache_limit),
            ("cache_free_floor", self.cache_free_floor),
        ):
            if value is not None:
                reason = "is for registry 3; registry 2 forgets after seven days, always"
                faults.append(Fault(key, value, reason))
        if self.cache_write_seconds != CACHE_WRITE_SECONDS:
            faults.append(
                Fault(
                    "cache_write_seconds", self.cache_write_seconds, "is for registry 3; remove it"
                )
            )
        if self.has_credentials:
            reason = "may send them to strangers (CVE-2026-33540); use registry:3.1.1 or later"
            faults.append(Fault("upstream_username", None, f"is given, and registry 2 {reason}"))
        return faults

    @property
    def has_credentials(self) -> bool:
        """Whether the upstream is asked by an account."""
        return self.upstream_username is not None and self.upstream_token is not None

    @property
    def existing_network(self) -> str | None:
        """Name of the overlay network that must be there already; None if it is made, or known by
        an id."""
        return None if self.create_network or self.network_id is not None else self.network

    @property
    def key_files(self) -> dict[str, str]:
        """What the user calls it -> name of a file with an SSH key, each file once."""
        nodes = [
            (f"nodes[{index}].private_key_file", node.private_key_file)
            for index, node in enumerate(self._machines)
        ]
        named = [("private_key_file", self.private_key_file), *nodes]
        return {
            key: file
            for file, key in {
                file: key for key, file in reversed(named) if file is not None
            }.items()
        }

    @property
    def has_key_text(self) -> bool:
        """Whether an SSH key is given as text."""
        return self.private_key is not None or any(
            node.private_key is not None for node in self._machines
        )

    @property
    def needs_agent(self) -> bool:
        """Whether a machine has no SSH key of its own: then the agent must have one, or the user's
        usual keys do."""
        if self.private_key is not None or self.private_key_file is not None:
            return False
        return any(
            node.private_key is None and node.private_key_file is None for node in self._machines
        )

    @property
    def _machines(self) -> list[SwarmNode]:
        return [*self.nodes, *([self.manager] if isinstance(self.manager, SwarmNode) else [])]

    @property
    def restart_keys(self) -> list[str]:
        """The managed keys that dockerd reads at its start only."""
        return [
            key
            for key in self.daemon_keys
            if key in daemon_keys.KEYS and not daemon_keys.KEYS[key].reloads
        ]

    @property
    def manager_node(self) -> SwarmNode:
        """The node on which the swarm's own commands run."""
        if isinstance(self.manager, SwarmNode):
            return self.manager
        return next((node for node in self.nodes if node.name == self.manager), self.nodes[0])


_SOME_PRIVATE_KEY = "PRIVATE KEY-----"
_SOME_HOST_KEY = (
    "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
)
_STAND_INS: Mapping[str, object] = {
    "hostname": "wrong.invalid",
    "image": f"registry:3.1.1@sha256:{'0' * 64}",
    "private_key": _SOME_PRIVATE_KEY,
    "name": "wrong",
    "address": "wrong.invalid",
    "host_key": _SOME_HOST_KEY,
}
"""For what is of the wrong kind and has no default, so that the faults of all the others are found
in the same run."""


def some_node(number: int, **known: Any) -> SwarmNode:
    """A node without faults that stands in for one that cannot be made; `number` tells several
    apart."""
    given = {
        "name": f"wrong-{number}",
        "address": f"wrong-{number}.invalid",
        "host_key": _SOME_HOST_KEY,
    }
    return SwarmNode(**{**given, **known})


def some_bastion(**known: Any) -> Bastion:
    """As `some_node`, for a bastion."""
    return Bastion(**{"address": "wrong.invalid", "host_key": _SOME_HOST_KEY, **known})


def _nodes(given: object) -> list[SwarmNode]:
    """The nodes of a list of anything, with stand-ins for what is none; at least one."""
    items = given if isinstance(given, Sequence) and not isinstance(given, str | bytes) else ()
    return [
        item if isinstance(item, SwarmNode) else some_node(number)
        for number, item in enumerate(items)
    ] or [some_node(0)]


def _of_the_wrong_kind(arguments: object, place: str = "") -> list[Fault]:
    return [Fault(place + name, value, words) for name, value, words in kinds.faults(arguments)]


def _private_key_faults(place: str, value: object, file: str | None) -> list[Fault]:
    """Of a key that is plain; an Output is looked at when it is known (`nodes.py`). Its value is
    never repeated."""
    wrong = rules.private_key(value) if isinstance(value, str) else None
    faults = [] if wrong is None else [Fault(f"{place}private_key", None, wrong)]
    if file is None:
        return faults
    if value is not None:
        faults.append(
            Fault(
                f"{place}private_key",
                "[secret]",
                "is given besides private_key_file; remove one of them",
            )
        )
    return [*faults, *rules.check(f"{place}private_key_file", file, rules.local_file)]


def _holds_an_output(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_an_output(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_an_output(item) for item in value)
    return isinstance(value, pulumi.Output)
