"""What other clients than the swarm's nodes need in their own files to ask the mirror first. Pure.

Owns one renderer for each client (`CLIENTS`): which file, what it says, what that does, and what
the client cannot do. Each of them names the registry itself as the place to ask where the mirror
does not answer, unless the registry has `fallback: false`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .registries import DOCKER_HUB

DIAL_TIMEOUT = "3s"
"""For a connection to the mirror; 30 s where the key is not known (containerd before 2.1, docker
28.0: core/remotes/docker/config/hosts.go)."""


@dataclass(frozen=True)
class Served:
    """A registry, or an alias of one, as clients of the mirror see it."""

    name: str
    """As images have it: `ghcr.io`."""
    prefix: str
    """What the same images begin with at the mirror: `mirror.example.com/ghcr.io`; the hostname
    alone for the registry at the root."""
    fallback: bool = True
    """Whether the registry itself is asked where the mirror does not answer."""


@dataclass(frozen=True)
class ClientFile:
    """A file on the client's machine."""

    path: str
    text: str
    effect: str
    """What it does, and what else has to be done, in one sentence."""


@dataclass(frozen=True)
class ClientConfig:
    """Everything that a client needs."""

    files: Sequence[ClientFile]
    notes: Sequence[str]
    """What has to be known besides the files."""


def podman(registries: Sequence[Served]) -> ClientConfig:
    """For everything that reads containers-registries.conf(5).

    A mirror's location replaces the prefix of the image's name, so that its path is part of the
    repository: `/v2/ghcr.io/owner/…` is asked for. Which registry is meant is said by that path
    alone: nothing like `ns=` is sent (containers/image pkg/sysregistriesv2 `rewriteReference`).
    """
    host = registries[0].prefix.partition("/")[0]
    file = f"registries.conf.d/50-{host}.conf"
    tables = []
    for registry in registries:
        location = registry.name if registry.fallback else registry.prefix
        tables.append(
            "[[registry]]\n"
            f"prefix = {_quoted(registry.name)}\n"
            f"location = {_quoted(location)}\n"
            + (
                f"\n[[registry.mirror]]\nlocation = {_quoted(registry.prefix)}\n"
                if registry.fallback
                else ""
            )
        )
    return ClientConfig(
        [
            ClientFile(
                f"/etc/containers/{file}",
                "\n".join(tables),
                "podman, buildah and skopeo read it at each pull; without root it is"
                f" ~/.config/containers/{file}",
            )
        ],
        ["A short name like `alpine` is Docker Hub's only where docker.io is searched for it."],
    )


def containerd(registries: Sequence[Served]) -> ClientConfig:
    """For containerd's own clients: a hosts.toml for each registry.

    A host with a path needs `override_path`, or `/v2` is appended to it (containerd
    core/remotes/docker/config/hosts.go `parseHostConfig`). Before 2.0 a file without a host is
    taken for none (`getSortedHosts` there), so that the registry itself would be asked.
    """
    folder = "/etc/containerd/certs.d"
    files = [
        ClientFile(
            f"{folder}/{registry.name}/hosts.toml",
            _hosts_toml(registry, always_a_host=True),
            f"containerd reads it at each pull of an image of {registry.name}; nothing has to be"
            " restarted",
        )
        for registry in registries
    ]
    return ClientConfig(
        files,
        [
            f"nerdctl reads {folder} by itself; ctr needs --hosts-dir {folder}.",
            "Kubernetes and crictl read it where /etc/containerd/config.toml has config_path ="
            f' "{folder}" below [plugins."io.containerd.cri.v1.images".registry] (containerd 2),'
            ' or [plugins."io.containerd.grpc.v1.cri".registry] (containerd 1); restart containerd'
            " after that.",
        ],
    )


def buildkit(registries: Sequence[Served]) -> ClientConfig:
    """For a buildkitd of its own; the one inside docker goes by docker's files.

    The path of a mirror is appended to `/v2` (buildkit util/resolver/resolver.go
    `newMirrorRegistryHost`), and the registry itself is always asked last (`NewRegistryConfig`).
    """
    tables = [
        f"[registry.{_quoted(registry.name)}]\n  mirrors = [{_quoted(registry.prefix)}]\n"
        for registry in registries
    ]
    strict = [registry.name for registry in registries if not registry.fallback]
    return ClientConfig(
        [
            ClientFile(
                "/etc/buildkit/buildkitd.toml",
                "\n".join(tables),
                "add it to what is there, and restart buildkitd; docker buildx takes it as"
                " `docker buildx create --driver docker-container --buildkitd-config FILE`",
            )
        ],
        [
            "buildkitd 0.11 and later: earlier ones know no mirror with a path.",
            *(
                [
                    f"fallback: false of {', '.join(strict)} has no effect here, because buildkitd"
                    " always asks the registry itself last; name the images by the mirror"
                    f" ({_example(registries, strict[0])})."
                ]
                if strict
                else []
            ),
        ],
    )


def docker(registries: Sequence[Served]) -> ClientConfig:
    """For a docker that is no node of the swarm.

    Every docker takes a mirror of Docker Hub out of daemon.json, which has no path (docker before
    25 refuses one) and always a fallback. Everything else is read from hosts.toml, and with the
    containerd image store only (moby daemon/hosts.go, 28.0).
    """
    files = []
    for registry in registries:
        if registry.name == DOCKER_HUB and registry.fallback:
            value = {"registry-mirrors": [f"https://{registry.prefix}"]}
            files.append(
                ClientFile(
                    "/etc/docker/daemon.json",
                    json.dumps(value, indent=2) + "\n",
                    "every docker asks the mirror first for images of Docker Hub; add the key to"
                    " what is there, and restart docker",
                )
            )
        else:
            files.append(
                ClientFile(
                    f"/etc/docker/certs.d/{registry.name}/hosts.toml",
                    _hosts_toml(registry),
                    f"docker 28 and later with the containerd image store reads it at each pull of"
                    f" an image of {registry.name}; nothing has to be restarted",
                )
            )
    by_hosts = [
        registry.name
        for registry in registries
        if registry.name != DOCKER_HUB or not registry.fallback
    ]
    return ClientConfig(
        files,
        [
            "Not for nodes of the swarm, which `pulumi up` configures.",
            *(
                [
                    "A docker before 28, and one without the containerd image store (`docker info"
                    " -f '{{.DriverStatus}}'` does not name io.containerd.snapshotter.v1), ignores"
                    " hosts.toml: name the images by the mirror"
                    f" ({_example(registries, by_hosts[0])})."
                ]
                if by_hosts
                else []
            ),
        ],
    )


CLIENTS: Mapping[str, Callable[[Sequence[Served]], ClientConfig]] = {
    "podman": podman,
    "containerd": containerd,
    "buildkit": buildkit,
    "docker": docker,
}
"""Name of each client -> its renderer, which takes everything that the mirror serves (at least
Docker Hub)."""


def _hosts_toml(registry: Served, *, always_a_host: bool = False) -> str:
    """The file for one registry. Without a fallback the mirror is its `server`, which is the last
    that is asked; then there is no other host, or only the mirror again."""
    host, slash, path = registry.prefix.partition("/")
    url = _quoted(f"https://{host}/v2/{path}" if slash else f"https://{host}")
    keys = [
        'capabilities = ["pull", "resolve"]',
        *(["override_path = true"] if slash else []),
    ]
    if registry.fallback:
        # Docker Hub's images are at another host than their name.
        own = "registry-1.docker.io" if registry.name == DOCKER_HUB else registry.name
        lines = [f"server = {_quoted(f'https://{own}')}"]
        # Nobody else is asked in time where there is no fallback.
        keys.append(f'dial_timeout = "{DIAL_TIMEOUT}"')
    else:
        lines = [f"server = {url}", *keys]
    if registry.fallback or always_a_host:
        lines += ["", f"[host.{url}]", *(f"  {key}" for key in keys)]
    return "\n".join(lines) + "\n"


def _example(registries: Sequence[Served], name: str) -> str:
    (prefix,) = [registry.prefix for registry in registries if registry.name == name]
    return f"{prefix}/owner/image in place of {name}/owner/image"


def _quoted(text: str) -> str:
    """As TOML has strings; those of JSON are some of them."""
    return json.dumps(text)
