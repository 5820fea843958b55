"""The keys of a stack's configuration: their kinds and meanings. Pure data.

`Pulumi.yaml` declares the same keys and docs/reference/configuration.md shows them; tests hold all
three equal. Defaults are not here: they are those of `RegistryMirrorArgs` and `SwarmNode`, and
stand nowhere else.
"""

from dataclasses import dataclass

from components.registry_mirror.render.traefik import DIALECTS
from components.registry_mirror.render.varnish import REFERRERS
from components.registry_mirror.rules import RESTARTS


@dataclass(frozen=True)
class Key:
    """`field` is the name in the args that the value goes to, empty where `settings.py` makes
    something of it."""

    kind: str
    field: str
    meaning: str
    required: bool = False
    choices: tuple[str, ...] = ()
    secret: bool = False
    """Whether it is set with `pulumi config set --secret`."""
    may_be_secret: bool = False
    """Whether it can be kept a secret at all; every other value ends in labels, service names or on
    nodes in the clear."""

    @property
    def stays_secret(self) -> bool:
        """Whether a value that was set with `--secret` is a secret in requests, state and previews
        too."""
        return self.secret or self.may_be_secret


KEYS = {
    "hostname": Key(
        "string",
        "hostname",
        "DNS name of the mirror; nodes use `https://<hostname>`",
        required=True,
    ),
    "image": Key(
        "string",
        "image",
        "CNCF Distribution 3.1.1 or later, `repository:tag@sha256:…` (or the digest in"
        " `imageDigestFile`)",
        required=True,
    ),
    "imageDigestFile": Key(
        "string", "", "file that holds the image's digest, where `image` has none"
    ),
    "acceptRegistry2": Key(
        "boolean",
        "accept_registry_2",
        "take registry 2.8.2 or 2.8.3 too; it starts only with its upstream",
    ),
    "coalesce": Key(
        "boolean",
        "coalesce",
        "Varnish in front: nodes that pull the same at the same moment are one download",
    ),
    "varnishImage": Key(
        "string",
        "varnish_image",
        "Varnish 7.3 or later, `repository:tag@sha256:…`; needed to coalesce",
    ),
    "varnishDigestFile": Key(
        "string", "", "file that holds its digest, where `varnishImage` has none"
    ),
    "coalesceMemory": Key(
        "integer",
        "coalesce_memory",
        "MiB for what is being pulled; layers over half of it go to the disk",
    ),
    "coalesceDisk": Key(
        "integer",
        "coalesce_disk",
        "MiB of its machine's disk for those; at most half of what is free; 0: none",
    ),
    "referrers": Key(
        "string",
        "referrers",
        "signatures, which docker 29 asks for: `empty`: the mirror says that there are none;"
        " `upstream`: nodes ask there",
        choices=REFERRERS,
    ),
    "nodes": Key("array", "nodes", "every node that uses the mirror; see below", required=True),
    "without": Key(
        "array",
        "",
        "names of nodes to leave out for now; `make up UNREACHABLE=skip-and-report` sets it",
    ),
    "manager": Key(
        "string",
        "manager",
        "name of the node on which the service and the shared storage are looked after",
    ),
    "sshPrivateKeyFile": Key(
        "string",
        "private_key_file",
        "file with the SSH private key for all nodes; with a passphrase, an agent must have the"
        " key",
    ),
    "sshPrivateKey": Key(
        "string",
        "",
        "the key itself, as a secret: `pulumi config set --secret sshPrivateKey < FILE`",
        secret=True,
    ),
    "bastion": Key(
        "object",
        "bastion",
        "machine through which all nodes are reached that name no other; see below",
    ),
    "sshConfig": Key(
        "string",
        "ssh_config",
        "configuration file for ssh, like `~/.ssh/config`; left out, none is read",
    ),
    "knownHostsFile": Key(
        "string", "", "`known_hosts` file (hashed entries too) for nodes without a `hostKey`"
    ),
    "upstream": Key("string", "upstream", "the registry that is cached"),
    "upstreamUsername": Key(
        "string",
        "upstream_username",
        "account there; every client of the mirror can read what this account can read",
        may_be_secret=True,
    ),
    "upstreamToken": Key(
        "string",
        "upstream_token",
        "its read-only token: `pulumi config set --secret upstreamToken`",
        secret=True,
    ),
    "sendTokenUnencrypted": Key(
        "boolean", "send_token_unencrypted", "send them to an `http://` upstream, too; for a lab"
    ),
    "upstreamProxy": Key(
        "string",
        "upstream_proxy",
        "proxy on the way to it, `http://proxy.example.com:3128`; with a password: `--secret`",
        may_be_secret=True,
    ),
    "upstreamNoProxy": Key(
        "array",
        "upstream_no_proxy",
        "hosts, domains and networks that are reached without that proxy",
    ),
    "upstreamCa": Key(
        "string",
        "",
        "PEM file with authorities that are trusted on the way to it, besides those of the image",
    ),
    "fallback": Key(
        "boolean",
        "fallback",
        "nodes ask Docker Hub itself where the mirror does not answer; false needs docker 28 with"
        " the containerd store",
    ),
    "registries": Key(
        "array",
        "registries",
        "registries that are cached besides `upstream`, like `{name: ghcr.io}`",
        may_be_secret=True,
    ),
    "warm": Key(
        "array",
        "warm",
        "images that `pulumi up` has the mirror fetch before a node asks for them, like"
        " `traefik:v3.7`",
    ),
    "warmRequired": Key(
        "boolean",
        "warm_required",
        "whether `pulumi up` fails, before it touches a node, where one of them cannot be had",
    ),
    "ttlHours": Key(
        "integer",
        "ttl_hours",
        "hours after which an image is forgotten, from its first pull; 0: never",
    ),
    "tagDays": Key(
        "integer",
        "tag_days",
        "days after which a tag is forgotten that the upstream has not confirmed; 0: never",
    ),
    "cacheWriteSeconds": Key(
        "integer", "cache_write_seconds", "seconds that writing a layer to slow storage may take"
    ),
    "serviceName": Key("string", "service_name", "name of the swarm service"),
    "network": Key("string", "network", "overlay network on which Traefik finds the mirror"),
    "createNetwork": Key("boolean", "create_network", "make that network; otherwise it must exist"),
    "cachePath": Key(
        "string", "cache_path", "directory on shared storage for cached layers; kept by destroy"
    ),
    "cacheNfs": Key(
        "string",
        "cache_nfs",
        "`server:/export` that docker mounts for the cache, in place of `cachePath`",
    ),
    "cacheNfsOptions": Key("string", "cache_nfs_options", "mount options for it"),
    "cacheVolume": Key(
        "string",
        "cache_volume",
        "docker volume for the cache instead; needs a constraint to one machine",
    ),
    "cacheLimit": Key(
        "string",
        "cache_limit",
        "what the whole cache may have, like `200GB`; beyond it, what was used longest ago goes",
    ),
    "cacheFreeFloor": Key(
        "string",
        "cache_free_floor",
        "what stays free on its file system, like `50GB` or `10%`",
    ),
    "configPath": Key(
        "string", "config_path", "the registry's configuration file, on shared storage"
    ),
    "traefik": Key(
        "string",
        "traefik",
        "generation of Traefik: `v1`, `v2`, `v3.0` (before 3.2.2) or `v3`",
        choices=DIALECTS,
    ),
    "entrypoint": Key(
        "string", "entrypoint", "Traefik's entrypoint for HTTPS; several: `websecure,internal`"
    ),
    "certResolver": Key(
        "string",
        "cert_resolver",
        "Traefik's certificate resolver; without it, Traefik's default certificate",
    ),
    "traefikLabels": Key(
        "object",
        "traefik_labels",
        "further labels, like `traefik.constraint-label: traefik-public`",
    ),
    "allowFrom": Key(
        "array",
        "allow_from",
        "networks that may use the mirror; required with credentials, else everybody may",
    ),
    "metricsFrom": Key(
        "array",
        "metrics_from",
        "networks that may read the metrics, at `https://<hostname>/metrics` and below; else"
        " nobody may",
    ),
    "publishUnencryptedPort5000": Key(
        "boolean",
        "publish_unencrypted_port_5000",
        "the recipe's `5000:5000`: plain HTTP on every node, past Traefik",
    ),
    "placementConstraints": Key(
        "array", "placement_constraints", "Swarm constraints for where the mirror's tasks may run"
    ),
    "memory": Key("integer", "memory", "MiB that the registry's container may use"),
    "readyTimeout": Key(
        "integer",
        "ready_timeout",
        "seconds for the mirror to answer before the roll-out is called off",
    ),
    "checkImage": Key(
        "string",
        "check_image",
        "an image of the upstream whose manifest must pass through the mirror first",
    ),
    "daemonKeys": Key(
        "object",
        "daemon_keys",
        "further keys of daemon.json to manage, like `experimental: true`",
        may_be_secret=True,
    ),
    "restart": Key(
        "string",
        "restart",
        "`when-needed`: nodes are drained and restarted for keys that nothing else changes",
        choices=RESTARTS,
    ),
    "allowQuorumLoss": Key(
        "boolean",
        "allow_quorum_loss",
        "restart managers even where the swarm loses its quorum meanwhile",
    ),
    "guard": Key(
        "boolean",
        "guard",
        "on every machine, take a mirror that does not answer out of hosts.toml until it does",
    ),
    "acceptBrokenHostGateway": Key(
        "boolean",
        "accept_broken_host_gateway",
        "reload docker 28.0 to 29.2.1 though `host-gateway` is broken there afterwards",
    ),
    "maxParallel": Key(
        "integer",
        "max_parallel",
        "nodes that are configured at the same time, once the first is healthy",
    ),
}

NODE_KEYS = {
    "name": Key("string", "name", "stable name of the node", required=True),
    "address": Key("string", "address", "where its sshd answers", required=True),
    "hostKey": Key(
        "string",
        "host_key",
        "its SSH host key, `ssh-ed25519 AAAA…`; left out, that in `knownHostsFile`",
    ),
    "user": Key("string", "user", "account to log in with"),
    "port": Key("integer", "port", "of its sshd"),
    "sshPrivateKeyFile": Key(
        "string",
        "private_key_file",
        "file with its SSH private key; left out, the key of all nodes",
    ),
    "bastion": Key(
        "object", "bastion", "machine through which it is reached; left out, that of all nodes"
    ),
    "become": Key("string", "become", "`sudo` where the user is not root", choices=("sudo",)),
    "daemonJson": Key("string", "daemon_json", "the configuration file that its dockerd reads"),
    "service": Key("string", "service", "the service (systemd unit) of its dockerd"),
}

BASTION_KEYS = {name: NODE_KEYS[name] for name in ("address", "hostKey", "user", "port")}

REGISTRY_KEYS = {
    "name": Key(
        "string",
        "name",
        "as images have it: `ghcr.io`, `registry.example.com:5000`",
        required=True,
    ),
    "aliasOf": Key(
        "string",
        "alias_of",
        "the registry of the list, or `docker.io`, that has the same content; an alias has"
        " `fallback` and no other setting",
    ),
    "upstream": Key("string", "upstream", "where it is asked; left out, `https://<name>`"),
    "username": Key(
        "string",
        "username",
        "account there; every client of the mirror can read what this account can read",
    ),
    "token": Key("string", "token", "its read-only token", secret=True),
    "repositories": Key(
        "array",
        "repositories",
        "the repositories that are served, like `owner/*`; empty: all",
    ),
    "ttlHours": Key("integer", "ttl_hours", "hours after which an image is forgotten; 0: never"),
    "fallback": Key(
        "boolean",
        "fallback",
        "nodes ask the registry itself where the mirror does not answer; false needs docker 28"
        " with the containerd store",
    ),
    "required": Key("boolean", "required", "the roll-out waits for this registry to answer, too"),
    "checkRepository": Key(
        "string",
        "check_repository",
        "a repository of it, by which is seen whether it lets the mirror in; left out, the first of"
        " `repositories` without `*`, or one that is known for the registries that many use",
    ),
}
