"""Texts and numbers that follow from the args: registry configuration, Traefik labels, digests, waves. Pure.

No SDK and no I/O: everything here can be called, and is tested, without an engine.
"""

import hashlib
from collections.abc import Sequence

import yaml

CONFIG_TARGET = "/etc/distribution/config.yml"
"""Where registry 3 reads its configuration. At registry 2's place the file would be ignored in silence: no mirror at all."""
CACHE_TARGET = "/var/lib/registry"
PORT = 5000
"""The registry's own port, inside the overlay network only; never published, Traefik is the way in."""

DIGEST_LABEL = "swarm-registry-mirror.digest"
"""Container label with the configuration's digest: when it changes, Swarm makes a new task, which reads the new file."""

DRAIN_TIMEOUT = "8s"
"""How long running downloads may go on when the task is stopped: less than the 10 s after which docker kills it."""

MARKER = "# Written by swarm-registry-mirror"
"""First words of the configuration file: by them our own file is told from somebody else's."""

HEALTH_CHECK = ("CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/v2/")


def mirror_url(hostname: str) -> str:
    """What nodes enter in `registry-mirrors`: https, host, nothing else (docker before 25 refuses a path)."""
    return f"https://{hostname}"


def registry_config(service: str, upstream: str) -> str:
    """The registry's configuration file: the recipe's, line for line, but for what is wrong in it for a pull-through cache.

    Left out: `storage.cache.blobdescriptor: inmemory`, which answers for blobs that have expired (distribution#2367).
    Added: `proxy.ttl: 0s`, never expire, because layers are addressed by content and cannot go stale (registry 3; the
    default forgets them seven days after the first pull, however often they are used, distribution#4659);
    `http.draintimeout`, without which the registry, as process 1 of its container, does not hear a request to stop.
    """
    config = {
        "version": 0.1,
        "log": {"fields": {"service": "registry"}},
        "storage": {"filesystem": {"rootdirectory": CACHE_TARGET}, "delete": {"enabled": True}},
        "http": {"addr": f":{PORT}", "draintimeout": DRAIN_TIMEOUT, "headers": {"X-Content-Type-Options": ["nosniff"]}},
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
        "proxy": {"remoteurl": upstream, "ttl": "0s"},
    }
    head = f"{MARKER} for the service {service}; the next `pulumi up` undoes edits made here.\n"
    return head + yaml.safe_dump(config, sort_keys=False)


def traefik_labels(service: str, hostname: str, network: str, entrypoint: str, cert_resolver: str | None) -> dict[str, str]:
    """Labels by which Traefik 3 (from 3.2.2) routes `https://<hostname>/v2/` to the service.

    Reading only, and never the catalogue: a pull needs GET and HEAD of named images, and the list of everything that was
    ever pulled is nobody's business. `traefik.docker.network` beside `traefik.swarm.network` would make Traefik refuse both.
    """
    rule = f"Host(`{hostname}`) && PathPrefix(`/v2/`) && (Method(`GET`) || Method(`HEAD`)) && !Path(`/v2/_catalog`)"
    router = f"traefik.http.routers.{service}"
    tls = {f"{router}.tls.certresolver": cert_resolver} if cert_resolver else {f"{router}.tls": "true"}
    return {
        "traefik.enable": "true",
        "traefik.swarm.network": network,
        f"{router}.rule": rule,
        f"{router}.entrypoints": entrypoint,
        f"{router}.service": service,
        **tls,
        f"traefik.http.services.{service}.loadbalancer.server.port": str(PORT),
    }


def digest(text: str) -> str:
    """Short name for a text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def waves(names: Sequence[str], manager: str, max_parallel: int) -> list[list[str]]:
    """The order of the roll-out: one canary, then at most `max_parallel` at a time.

    The canary is the first node that is not the manager: if anything goes wrong there, the swarm still has its head.
    """
    canary = next((name for name in names if name != manager), names[0])
    rest = [name for name in names if name != canary]
    return [[canary], *(rest[start : start + max_parallel] for start in range(0, len(rest), max_parallel))]
