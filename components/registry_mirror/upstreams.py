"""The registries that a mirror caches besides the one at its root, as a user asks for them.

Owns what may be asked for, and what is refused; how they are rendered is in
`render/registries.py`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi

from . import rules
from .render.registries import HUB_HOSTS, MOST, suffix_of
from .rules import Fault

FOREIGN_REALMS: Mapping[str, str] = {"lscr.io": "ghcr.io"}
"""Registries whose tokens come from another one, which has the same content. Distribution 3.1 and
later asks for no token at a foreign realm (CVE-2026-33540, distribution
registry/proxy/proxyauth.go),
so these can only be an alias. lscr.io: `Bearer realm="https://ghcr.io/token"`."""

KNOWN_REPOSITORIES: Mapping[str, str] = {
    "docker.elastic.co": "elasticsearch/elasticsearch",
    "gcr.io": "distroless/static",
    "ghcr.io": "home-assistant/home-assistant",
    "mcr.microsoft.com": "dotnet/runtime",
    "public.ecr.aws": "docker/library/hello-world",
    "quay.io": "prometheus/busybox",
    "registry.gitlab.com": "gitlab-org/gitlab-runner",
    "registry.k8s.io": "pause",
}
"""A public repository of each that is pulled by many. Whether a registry lets the mirror in can
only be seen with one that exists: for any other, ghcr.io's token server refuses a token, and the
mirror's registry answers as if its upstream were unavailable."""
MADE_UP = "swarm-registry-mirror-check"

_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
"""An element of a repository's name (distribution reference/regexp.go)."""
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*")


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry that is cached besides the one at the mirror's root."""

    name: str
    """As images have it: `ghcr.io`, `registry.example.com:5000`."""
    alias_of: str | None = None
    """The registry of the list, or `docker.io`, that has the same content under another name. An
    alias has no cache of its own, and none of the settings below but `fallback`."""
    upstream: str | None = None
    """Where it is asked; default `https://<name>`."""
    username: pulumi.Input[str] | None = None
    """Account there. Every client of the mirror can read what this account can read."""
    token: pulumi.Input[str] | None = field(default=None, repr=False)
    """The account's read-only token: becomes a Swarm secret and is nowhere else."""
    repositories: Sequence[str] = ()
    """The repositories that are served, like `owner/*` or `owner/image`; empty: all."""
    ttl_hours: int = 0
    """Hours after which an image is forgotten, counted from its first pull; 0: never."""
    fallback: bool = True
    """Whether nodes ask the registry itself where the mirror does not answer. False is for nodes
    without a way to the internet, and needs docker 28 with the containerd store."""
    required: bool = False
    """Whether the roll-out waits for this registry, too, to answer through the mirror."""
    check_repository: str | None = None
    """A repository of it, like `owner/image`, by which is seen whether it lets the mirror in.
    Default: the first of `repositories` that is none with `*`, or one that is known
    (KNOWN_REPOSITORIES)."""

    @property
    def url(self) -> str:
        """Where it is asked."""
        return self.upstream or f"https://{self.name}"

    @property
    def known_repository(self) -> str | None:
        """A repository that exists and is served; None if none is known."""
        exact = next((entry for entry in self.repositories if not entry.endswith("/*")), None)
        known = KNOWN_REPOSITORIES.get(self.name)
        if known is not None and not self.serves(known):
            known = None
        return self.check_repository or exact or known

    @property
    def made_up_repository(self) -> str:
        """The name of one that is served and need not exist."""
        owner = self.repositories[0].removesuffix("*") if self.repositories else f"{MADE_UP}/"
        return owner + MADE_UP

    def serves(self, name: str) -> bool:
        """Whether a repository is one of those that are served."""
        return not self.repositories or any(
            name == entry or (entry.endswith("/*") and name.startswith(entry[:-1]))
            for entry in self.repositories
        )

    @property
    def has_credentials(self) -> bool:
        """Whether it is asked by an account."""
        return self.username is not None and self.token is not None


def faults(registries: Sequence[Registry], key: str, *, has_allow_list: bool) -> list[Fault]:
    """Everything that is wrong with a list of registries, in its order.

    Args:
        registries: The list.
        key: What the user calls it, like `registries`.
        has_allow_list: Whether only some networks may use the mirror (`allow_from`).
    """
    found: list[Fault] = []
    if len(registries) > MOST:
        wrong = f"must be {MOST} at most; give further ones a mirror of their own"
        found.append(Fault(key, len(registries), wrong))
    for index, registry in enumerate(registries):
        place = f"{key}[{index}]"
        own = _name_faults(registry, place)
        found += own
        found += _alias_faults(registry, registries, place)
        if registry.alias_of is None:
            found += _own_faults(registry, place, has_allow_list=has_allow_list)
            if not own and registry.name in FOREIGN_REALMS:
                other = FOREIGN_REALMS[registry.name]
                wrong = (
                    f"gives its tokens at {other}, where the registry asks for none"
                    f" (CVE-2026-33540); it has the same content: set alias_of to {other}"
                )
                found.append(Fault(f"{place}.name", registry.name, wrong))
    return found + _twice(registries, key)


def _name_faults(registry: Registry, place: str) -> list[Fault]:
    return rules.check(f"{place}.name", registry.name, name)


def name(value: str) -> str | None:
    """A registry's name as images have it; None, or what is wrong and what to do."""
    if "://" in value:
        return f"must be a name and not a URL; write {value.partition('://')[2].strip('/')}"
    if "/" in value:
        return (
            "must be the registry's name alone; which of its repositories are served is said by"
            " repositories"
        )
    if value != value.lower():
        return f"must be in lower case; write {value.lower()}"
    if value in HUB_HOSTS:
        return "is Docker Hub, which is served at the mirror's root; remove it from the list"
    host, colon, number = value.partition(":")
    sound = len(host) <= 253 and _HOST.fullmatch(host) is not None
    if not sound or (colon and (not number.isdecimal() or rules.port(int(number)) is not None)):
        return (
            "must be a host, with a port where images have one: ghcr.io, registry.example.com:5000"
        )
    if "." not in host and not colon and host != "localhost":
        return (
            "has neither a dot nor a port, so docker takes it for a namespace of Docker Hub;"
            " write the full name"
        )
    return None


def _alias_faults(registry: Registry, registries: Sequence[Registry], place: str) -> list[Fault]:
    target = registry.alias_of
    if target is None:
        return []
    key = f"{place}.alias_of"
    found = []
    listed = {other.name: other for other in registries}
    if target == registry.name:
        found.append(Fault(key, target, "is the registry itself; remove it"))
    elif target in HUB_HOSTS[1:]:
        found.append(Fault(key, target, "is Docker Hub under another name; write docker.io"))
    elif target != HUB_HOSTS[0] and target not in listed:
        names = ", ".join(["docker.io", *(name for name in listed if name != registry.name)])
        found.append(Fault(key, target, f"must be a registry of the list: {names}"))
    elif target in listed and (end := listed[target].alias_of) is not None:
        wrong = (
            "is an alias of this one in turn; one of them must be the registry itself"
            if end == registry.name
            else f"is an alias itself; write {end}"
        )
        found.append(Fault(key, target, wrong))
    given = {
        "upstream": registry.upstream,
        "username": registry.username,
        "token": registry.token,
        "repositories": registry.repositories or None,
        "ttl_hours": registry.ttl_hours or None,
        "required": registry.required or None,
        "check_repository": registry.check_repository,
    }
    return found + [
        Fault(f"{place}.{setting}", None, f"is {target}'s to say; remove it from the alias")
        for setting, value in given.items()
        if value is not None
    ]


def _own_faults(registry: Registry, place: str, *, has_allow_list: bool) -> list[Fault]:
    found = []
    if registry.upstream is not None:
        found += rules.check(f"{place}.upstream", registry.upstream, rules.upstream)
    found += rules.check(f"{place}.ttl_hours", registry.ttl_hours, rules.not_negative)
    for index, entry in enumerate(registry.repositories):
        found += rules.check(f"{place}.repositories[{index}]", entry, repository)
    found += _check_faults(registry, place)
    if (registry.username is None) != (registry.token is None):
        missing = "token" if registry.token is None else "username"
        wrong = "is missing: credentials are an account and its token"
        found.append(Fault(f"{place}.{missing}", None, wrong))
    if registry.has_credentials and not has_allow_list:
        wrong = (
            f"is missing: with credentials for {registry.name}, every client of the mirror can"
            " read that account's private images; list the networks of your nodes"
        )
        found.append(Fault("allow_from", None, wrong))
    if registry.has_credentials and registry.url.startswith("http://"):
        wrong = "would be sent the token unencrypted; with credentials it must begin with https://"
        found.append(Fault(f"{place}.upstream", registry.upstream, wrong))
    return found


def _check_faults(registry: Registry, place: str) -> list[Fault]:
    key, value = f"{place}.check_repository", registry.check_repository
    if value is None:
        if registry.required and registry.known_repository is None:
            wrong = (
                f"is missing: with required, it must be seen whether {registry.name} lets the"
                " mirror in; write a repository of it, like owner/image"
            )
            return [Fault(key, None, wrong)]
        return []
    if repository(value) is not None or value.endswith("/*"):
        wrong = "must be one repository without the registry's name and without a tag: owner/image"
        return [Fault(key, value, wrong)]
    if not registry.serves(value):
        return [Fault(key, value, "is none of repositories; add it there, or take another one")]
    return []


def repository(value: str) -> str | None:
    """What may be pulled of a registry; None, or what is wrong and what to do."""
    parts = value.split("/")
    last = parts[-1] == "*" and len(parts) > 1
    if all(_PART.fullmatch(part) for part in (parts[:-1] if last else parts)):
        return None
    return (
        "must be a repository without the registry's name and without a tag, like owner/image, or"
        " owner/* for all of an owner"
    )


def _twice(registries: Sequence[Registry], key: str) -> list[Fault]:
    """Registries of one name, or of names that would be one service in the swarm."""
    found, seen = [], {}
    for index, registry in enumerate(registries):
        suffix = suffix_of(registry.name)
        if suffix not in seen:
            seen[suffix] = index
            continue
        other = registries[seen[suffix]]
        wrong = (
            f"is {key}[{seen[suffix]}] too; remove one of them"
            if other.name == registry.name
            else f"would have the service of {other.name}, whose name differs in signs only"
        )
        found.append(Fault(f"{key}[{index}].name", registry.name, wrong))
    return found
