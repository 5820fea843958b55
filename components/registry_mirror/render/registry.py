"""The registry's side of the mirror: its version, what that version reads and where, its
configuration. Pure.

Owns everything that differs between CNCF Distribution 2 and 3. No SDK and no I/O but the package's
own files.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from urllib.parse import urlsplit

import yaml

from . import sizes

CACHE_TARGET = "/var/lib/registry"
PORT = 5000
"""The registry's own port, inside the overlay network only; Traefik, or Varnish behind it, is the
way in."""
DEBUG_PORT = 5001
"""Metrics, and beside them Go's profiler and variables: on the container's loopback only."""
METRICS_PORT = 5002
"""The metrics alone, for other containers; `container/start-registry.sh` answers there."""

CAPABILITIES = ("CAP_DAC_OVERRIDE",)
"""The capabilities of root that the registry's container keeps: the cache on the storage may be
another user's. It stays root, as the image has it, because the caches that are there are root's."""

DRAIN_TIMEOUT = "8s"
"""How long running downloads may go on when the task is stopped: less than the 10 s after which
docker kills it."""

CACHE_WRITE_SECONDS = 300
"""The registry's own default (3.1.0 and later)."""

MARKER = "# Written by swarm-registry-mirror"
"""First words of the configuration file: they mark a file as ours."""

START = "/usr/local/bin/start-mirror"
HELPER = "/usr/local/bin/docker-credential-upstream"
"""A Swarm config and not a file on the share: shares are often mounted noexec."""
USAGE = "/usr/local/bin/mirror-usage"
EVICT = "/usr/local/bin/mirror-evict"
"""`container/usage.sh` and `container/evict.sh`, which `container/start-registry.sh` starts."""
ROUND_SECONDS = 2
"""Between two rounds in which the use of layers goes into the cache, where it has a limit."""
CREDENTIALS = "/run/secrets/upstream"
"""Where `container/credential-helper.sh` looks."""

PROXY_FILE = "/run/secrets/upstream-proxy"
"""Where `container/start-registry.sh` finds a proxy that has a password."""
AUTHORITIES = "/etc/upstream-ca"
"""A folder of its own, because Go reads every file of one as certificates (crypto/x509
root_unix.go)."""

SYSCTL = {"net.ipv4.tcp_syn_retries": "1", "net.ipv4.tcp_retries2": "5"}
"""Of the container's TCP: an upstream that swallows packets is given up after 3 s, and after about
13 s on a connection that was there, instead of Go's 30 s and the kernel's 15 minutes. The registry
asks its upstream about every tag, also about those that it has, and docker waits 30 s for it."""

HEALTH_CHECK = ("CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/v2/")

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class RegistryVersion:
    """A version of CNCF Distribution and what follows from it."""

    numbers: tuple[int, int, int]

    @classmethod
    def of(cls, image: str) -> "RegistryVersion | None":
        """By the tag of an image; None if that is no full version."""
        tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
        found = _VERSION.fullmatch(tag)
        return cls((int(found[1]), int(found[2]), int(found[3]))) if found else None

    @property
    def major(self) -> int:
        """2 or 3."""
        return self.numbers[0]

    @property
    def config_target(self) -> str:
        """Where it reads its configuration. At the other's place the file would be ignored in
        silence: no mirror at all."""
        return (
            "/etc/docker/registry/config.yml" if self.major == 2 else "/etc/distribution/config.yml"
        )

    @property
    def has_helper(self) -> bool:
        """Whether it takes credentials from a program (3.0.0), and so starts while its upstream is
        unavailable."""
        return self.major >= 3


def registry_config(
    service: str,
    upstream: str,
    version: RegistryVersion,
    *,
    ttl_hours: int = 0,
    cache_write_seconds: int = CACHE_WRITE_SECONDS,
    folder: str = "",
) -> str:
    """The registry's configuration file: the recipe's, line for line, but for what is wrong in it
    for a pull-through cache.

    Left out: `storage.cache.blobdescriptor: inmemory`, which answers for blobs that have expired
    (distribution#2367). Added: `proxy.ttl: 0s`, never expire, because layers are addressed by
    content and cannot go stale (registry 3; the default forgets them seven days after the first
    pull, however often they are used, distribution#4659); `proxy.exec`, with which it starts while
    its upstream is unavailable, and gets its credentials (registry 3); `http.draintimeout`, without
    which the registry, as process 1 of its container, does not hear a request to stop.
    """
    root = f"{CACHE_TARGET}/{folder}" if folder else CACHE_TARGET
    proxy: dict[str, object] = {"remoteurl": upstream}
    if version.major >= 3:
        proxy["ttl"] = f"{ttl_hours}h" if ttl_hours else "0s"  # a bare number would be nanoseconds
        proxy["exec"] = {"command": HELPER, "lifetime": "1h"}
        proxy["cachewritetimeout"] = f"{cache_write_seconds}s"
    debug = {"addr": f"127.0.0.1:{DEBUG_PORT}", "prometheus": {"enabled": True, "path": "/metrics"}}
    config = {
        "version": 0.1,
        "log": {"fields": {"service": "registry"}},
        "storage": {"filesystem": {"rootdirectory": root}, "delete": {"enabled": True}},
        "http": {
            "addr": f":{PORT}",
            "draintimeout": DRAIN_TIMEOUT,
            "headers": {"X-Content-Type-Options": ["nosniff"]},
            "debug": debug,
        },
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
        "proxy": proxy,
    }
    head = f"{MARKER} for the service {service}; the next `pulumi up` undoes edits made here.\n"
    return head + yaml.safe_dump(config, sort_keys=False)


def words(
    config_target: str,
    *,
    metrics: bool,
    tag_days: int,
    way_out: Sequence[str] = (),
    folder: str = "",
    limit: str | None = None,
    free_floor: str | None = None,
) -> list[str]:
    """The arguments of `container/start-registry.sh`.

    Args:
        config_target: Where the registry reads its configuration (`RegistryVersion.config_target`).
        metrics: Whether other containers may read the metrics, on METRICS_PORT (`metrics_from`).
        tag_days: Days after which a tag is forgotten that its upstream has not confirmed; 0 for
            never (`tag_days`).
        way_out: How the upstream is reached (`way_out`).
        folder: Of the cache, for a registry besides the one at the root; empty for the cache
            itself.
        limit: The size that the whole cache may have, like `200GB` (`cache_limit`); None for none.
        free_floor: What stays free on its file system, a size or like `10%` (`cache_free_floor`).
    """
    forget = [f"TAG_DAYS={tag_days}"] if tag_days else []
    own = [f"FOLDER={folder}"] if folder else []
    return [
        config_target,
        *([f"METRICS={METRICS_PORT}"] if metrics else []),
        *forget,
        *way_out,
        *own,
        *_bounds(limit, free_floor, is_root=not folder),
    ]


def _bounds(limit: str | None, free_floor: str | None, *, is_root: bool) -> list[str]:
    """The words for `container/evict.sh`, which runs for the registry at the root alone, and for
    `container/usage.sh`, which must then be quicker."""
    found = []
    if limit is not None and is_root:
        found.append(f"LIMIT={sizes.size(limit)}")
    if free_floor is not None and is_root:
        share = sizes.percent(free_floor)
        found.append(f"FLOOR={sizes.size(free_floor) if share is None else f'{share}%'}")
    return found + ([] if limit is None and free_floor is None else [f"ROUND={ROUND_SECONDS}"])


def way_out(
    proxy: str | None, proxy_is_secret: bool, no_proxy: Sequence[str], has_authorities: bool
) -> list[str]:
    """The words of `container/start-registry.sh` that say how the upstream is reached.

    Args:
        proxy: URL of the proxy, None for none or one that is a secret (`upstream_proxy`).
        proxy_is_secret: Whether there is one in PROXY_FILE, in place of a word.
        no_proxy: What is reached without it (`without_proxy`).
        has_authorities: Whether there are certificates in AUTHORITIES (`upstream_ca`).
    """
    found = (
        [f"PROXY_FILE={PROXY_FILE}"]
        if proxy_is_secret
        else []
        if proxy is None
        else [f"PROXY={proxy}"]
    )
    if found:
        found.append(f"NO_PROXY={','.join(no_proxy)}")
    return found + ([f"CA={AUTHORITIES}"] if has_authorities else [])


def without_proxy(service: str, upstream: str, given: Sequence[str]) -> list[str]:
    """What the registry reaches without its proxy: the machine itself, the swarm's own names, and
    what the user names.

    A name without a dot is one that docker's resolver answers within the swarm, so an upstream that
    has none is there, too.
    """
    host = urlsplit(upstream).hostname or ""
    inside = [host] if "." not in host and ":" not in host else []
    return list(
        dict.fromkeys(
            ["localhost", "127.0.0.0/8", "::1", service, f"tasks.{service}", *inside, *given]
        )
    )


def nfs_volume(export: str, options: str) -> dict[str, str]:
    """Options of docker's `local` volume driver for an NFS export
    (docs.docker.com/engine/storage/volumes)."""
    host, _, path = export.rpartition(":/")
    return {"type": "nfs", "o": f"addr={host.strip('[]')},{options}", "device": f":/{path}"}


def script(name: str) -> str:
    """A file of `container/`, which travels as a Swarm config."""
    return (resources.files(__package__.rpartition(".")[0]) / "container" / name).read_text(
        encoding="utf-8"
    )
