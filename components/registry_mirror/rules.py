"""What a value must be, one rule each: a fault in words, or None. Pure, no SDK; used by the args and by `config/`.

A fault says what is wrong and what to do; the caller adds the key and the value.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from .coalesce import VARNISH_FLOOR
from .node_agent import keys
from .registry import RegistryVersion
from .traefik import DIALECTS

REGISTRY_FLOOR = (3, 1, 1)
"""CVE-2026-33540 (credentials sent to a foreign realm, in exactly this mode) and CVE-2026-41888 are fixed from here on."""
REGISTRY_2_FLOOR = (2, 8, 2)
"""CVE-2023-2253 is fixed from here on; 2.8.3, of 2023, is the last of its line."""

RESTARTS = ("never", "when-needed")
HOST_KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
"""In order of preference. The last is last because pinning it pins the SHA-1 signature that current sshds refuse."""

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAGGED = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_USERINFO = re.compile(r"[^/\s'\"]+@(?!sha256:)")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Fault:
    """One bad input: `key` as the user knows it, the value that he gave, and what is wrong with it and what to do."""

    key: str
    value: object
    wrong: str

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.key}: {self.wrong}"
        # A user and password in front of an @ are exactly what must not be repeated in a log; a digest there may be.
        shown = _USERINFO.sub("[hidden]@", repr(self.value))
        return f"{self.key}: {self.wrong} (got {shown:.100})"


class InvalidArgs(ValueError):
    """All faults of a configuration together."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        title = "1 fault" if count == 1 else f"{count} faults"
        super().__init__(f"{title} in the configuration:\n" + "\n".join(f"  - {fault}" for fault in self.faults))


def hostname(value: str) -> str | None:
    """A DNS name for the mirror: what nodes use, Traefik routes and the certificate names."""
    if "://" in value:
        return f"must be a host name, not a URL; write {urlsplit(value).hostname or 'mirror.example.com'}"
    if "/" in value:
        return "must be a host name without a path: docker before 25 refuses a mirror with one"
    if "@" in value:
        return "must be a host name without a user: docker refuses credentials in a mirror's URL, and sends none"
    if ":" in value:
        return "must be a host name without a port: Traefik serves it on 443"
    if value != value.lower():
        return f"must be in lower case; write {value.lower()}"
    if _is_address(value):
        return "must be a name, not an address: Traefik routes by name, and certificates name it"
    labels = value.split(".")
    if len(value) > 253 or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        return "must be a full DNS name of letters, digits, dots and hyphens, like mirror.example.com"
    return None


def image(value: str, accept_registry_2: bool = False) -> str | None:
    """The registry's image: tag for people, digest for docker, at least the version that is safe as a mirror."""
    wrong = _pinned(value, "registry:3.1.1", "the version decides where its configuration lies")
    if wrong is not None:
        return wrong
    version = RegistryVersion.of(value)
    assert version is not None  # _pinned has seen to it
    tag = ".".join(map(str, version.numbers))
    if version.major == 2 and version.numbers >= REGISTRY_2_FLOOR:
        return (
            None
            if accept_registry_2
            else (
                f"must be 3.1.1 or later: {tag} downloads everything twice and does not start while its upstream is away;"
                " acceptRegistry2: true takes it all the same"
            )
        )
    if version.numbers < REGISTRY_FLOOR:
        return f"must be 3.1.1 or later: {tag} may send upstream credentials to strangers (CVE-2026-33540)"
    return None


def varnish_image(value: str) -> str | None:
    """Varnish's image, pinned as the registry's is."""
    wrong = _pinned(value, "varnish:7.7.0", "the version decides what its configuration may say")
    if wrong is not None:
        return wrong
    numbers = _version(value)
    return (
        None
        if numbers >= VARNISH_FLOOR
        else f"must be {'.'.join(map(str, VARNISH_FLOOR))} or later: older ones do not start with the mirror's settings"
    )


def _pinned(value: str, example: str, reason: str) -> str | None:
    reference, _, digest = value.partition("@")
    tag = reference.rpartition("/")[2].partition(":")[2]
    if not re.fullmatch(r"v?\d+\.\d+\.\d+", tag):
        return f"must have a full version as its tag, like {example}@sha256:…: {reason}"
    if not _DIGEST.fullmatch(digest):
        return "must end with @sha256: and 64 hex digits: a tag alone may be another image tomorrow; `make pin` looks it up"
    return None


def _version(image: str) -> tuple[int, ...]:
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    return tuple(int(number) for number in tag.removeprefix("v").split("."))


def upstream(value: str) -> str | None:
    """The registry that is cached."""
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        return "must be a URL like https://registry-1.docker.io"
    if parts.username or parts.password:
        return "must not contain a user or password: this text is stored in the clear"
    if value.endswith("/"):
        return f"must not end with a slash: the registry would ask {value}/v2/; write {value.rstrip('/')}"
    if parts.path or parts.query or parts.fragment:
        return "must be scheme and host only"
    return None


def name(value: str) -> str | None:
    """A name that docker, Traefik, Pulumi and a file system all accept."""
    return None if _NAME.fullmatch(value) else "must be 1 to 63 letters, digits, hyphens or underscores, the first no hyphen"


def address(value: str) -> str | None:
    """Where a node's sshd answers: a host name or an IP address."""
    if "://" in value or "@" in value or "/" in value:
        return "must be a host name or an IP address only; user and port are keys of their own"
    if _is_address(value) or all(_LABEL.fullmatch(label.lower()) for label in value.split(".")):
        return None
    return "must be a host name or an IP address"


def user(value: str) -> str | None:
    """A Unix account."""
    return None if _USER.fullmatch(value) else "must be a Unix user name, like root or ops"


def port(value: int) -> str | None:
    """A TCP port."""
    return None if 1 <= value <= 65535 else "must be between 1 and 65535"


def become(value: str | None) -> str | None:
    """How the SSH user becomes root."""
    return None if value in (None, "sudo") else "must be sudo, or left out for a user that is root"


def host_key(value: str) -> str | None:
    """One line as in authorized_keys, without a host name in front."""
    if value.startswith("@"):
        return "must be a plain host key, not a marked line: certificates and revocations cannot be checked here"
    words = value.split()
    if not words or words[0] not in HOST_KEY_TYPES:
        return f"must begin with the key's type, one of {', '.join(HOST_KEY_TYPES)} (see `ssh-keyscan HOST`)"
    try:
        blob = base64.b64decode(words[1], validate=True) if len(words) > 1 else b""
    except binascii.Error:
        blob = b""
    # The key names its own type at its beginning; a cut or altered line does not match.
    if blob[4 : 4 + len(words[0])] != words[0].encode():
        return "must be a whole key: the type, a space, and the key in base64"
    return None


def absolute_path(value: str) -> str | None:
    """A path on the shared storage."""
    if not value.startswith("/") or value.endswith("/") or ".." in value.split("/") or "\n" in value:
        return "must be an absolute path without .. and without a slash at its end"
    return None


def nfs(value: str) -> str | None:
    """An export of an NFS server."""
    host, separator, path = value.rpartition(":/")
    if not separator or address(host.strip("[]")) is not None or absolute_path("/" + path) is not None or "," in value:
        return "must be a server and an absolute path on it, like nfs.example.com:/export/cache"
    return None


def mount_options(value: str) -> str | None:
    """Options for mount(8), without the server's address, which is known."""
    if not re.fullmatch(r"[a-z0-9_=.]+(,[a-z0-9_=.]+)*", value) or "addr=" in value:
        return "must be mount options like rw,nfsvers=4.1, without addr"
    return None


def names_one_machine(constraint: object) -> bool:
    """Whether a Swarm constraint holds for one machine only."""
    return isinstance(constraint, str) and re.fullmatch(r"node\.(hostname|id)\s*==\s*\S+", constraint.strip()) is not None


def tagged_image(value: str) -> str | None:
    """An image as a registry's path and tag, without a host: it is asked of the mirror."""
    if not _TAGGED.fullmatch(value):
        return "must be a repository and a tag as Docker Hub calls them, like library/hello-world:latest"
    return None


def traefik(value: str) -> str | None:
    """The generation of Traefik that reads the labels."""
    return None if value in DIALECTS else f"must be one of {', '.join(DIALECTS)}; v3.0 stands for all before 3.2.2"


def network_range(value: object) -> str | None:
    """An address or a network in CIDR notation."""
    try:
        if not isinstance(value, str):
            raise ValueError  # ipaddress takes numbers, too
        found = ipaddress.ip_network(value)
    except ValueError:
        return "must be a network like 10.0.0.0/24, with zeros behind its prefix, or one address"
    return "must not be the whole internet; leave the key out if everybody may" if found.prefixlen == 0 else None


def restart(value: str) -> str | None:
    """Whether docker may be restarted."""
    return None if value in RESTARTS else "must be never or when-needed"


def daemon_keys(values: Mapping[str, object]) -> "list[Fault]":
    """Faults of the keys of daemon.json that are handed over."""
    faults = []
    for key, value in values.items():
        wrong = keys.fault(key, value)
        if wrong is not None:
            faults.append(Fault(f"daemonKeys.{key}", value, wrong))
    return faults


def positive(value: int) -> str | None:
    """A number of things or seconds."""
    return None if value >= 1 else "must be 1 or more"


def not_negative(value: int) -> str | None:
    """A number of hours."""
    return None if value >= 0 else "must be 0 or more"


def memory(value: int) -> str | None:
    """MiB of a container's memory."""
    return None if value >= 64 else "must be 64 (MiB) or more"


def unique(values: Iterable[tuple[str, str]], what: str) -> list[Fault]:
    """Faults for every value that an earlier key has already; `values` are (key, value)."""
    first: dict[str, str] = {}
    faults = []
    for key, value in values:
        if value in first:
            faults.append(Fault(key, value, f"is the {what} of {first[value].rpartition('.')[0]} too; each node needs its own"))
        first.setdefault(value, key)
    return faults


def check(key: str, value: object, rule: "Callable[..., str | None]") -> list[Fault]:
    """The fault of `value` under `rule`, as a list of none or one."""
    wrong = rule(value)
    return [] if wrong is None else [Fault(key, value, wrong)]


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
