"""What a value must be, one rule each: a fault in words, or None. Pure, no SDK; used by the args
and by `config/`.

A fault says what is wrong and what to do; the caller adds the key and the value.
"""

import base64
import ipaddress
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from .node_agent import daemon_keys as keys_of_dockerd
from .plain_text import one_line, without_credentials
from .render import sizes
from .render.registry import RegistryVersion
from .render.traefik import DIALECTS
from .render.varnish import LARGEST_DISK_MIB, REFERRERS, SMALLEST_DISK_MIB, VARNISH_FLOOR

REGISTRY_FLOOR = (3, 1, 1)
"""CVE-2026-33540 (credentials sent to a foreign realm, in exactly this mode) and CVE-2026-41888 are
fixed from here on."""
REGISTRY_2_FLOOR = (2, 8, 2)
"""CVE-2023-2253 is fixed from here on; 2.8.3, of 2023, is the last of its line."""

LONGEST_READY_TIMEOUT = 3540
"""Seconds. An hour with the minute in which the gate ends; the limit is part of what sudo allows
(`ship.py`)."""

RESTARTS = ("never", "when-needed")
HOST_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)
"""In order of preference. With the last, ssh asks for a signature by SHA-2 (`rsa-sha2-512`), which
older sshds have too."""
AUTHORITY = "@cert-authority"
"""Before a key that signs host keys (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_SWARM_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
"""Of services and networks (swarmkit manager/controlapi/common.go, isValidDNSName)."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REPOSITORY = re.compile(r"(?:[A-Za-z0-9.-]+(?::[0-9]{1,5})?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*")
_TAGGED = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}(?:@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)?")
"""Also john.doe, and john@corp.example of a directory service; `root@node1` is a mistake that
people make."""
_CONSTRAINT_KEY = re.compile(
    r"(?i:node\.(?:id|hostname|ip|role|platform\.os|platform\.arch)|(?:node|engine)\.labels\.[a-z0-9_.-]+)"
)
"""What swarm compares; any other key is taken, and then no node ever matches (swarmkit
manager/constraint, NodeMatches)."""
_CONSTRAINT_VALUE = re.compile(r"(?i)[a-z0-9:_ .*()?+\[\]\\^$|/-]+")
_RANGE = re.compile(r"[0-9A-Fa-f.:]+(?:/[0-9]{1,3})?")
_CURVES = {"ecdsa-sha2-nistp256": 32, "ecdsa-sha2-nistp384": 48, "ecdsa-sha2-nistp521": 66}
"""Bytes of a coordinate."""
_ACCOUNT = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+(?::(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)?"
)
"""User and password of a URL (RFC 3986 3.2.1)."""
PROXY_SCHEMES = ("http", "https", "socks5")
"""What Go's client takes (net/http transport.go)."""
_A_PROXY = "a URL like http://proxy.example.com:3128"
LARGEST_CONFIG = 500_000
"""Bytes of a Swarm config (swarmkit manager/controlapi/config.go before 2023; twice as many
since)."""
SMALLEST_LIMIT = 10 * 1000**3
"""Bytes of a cache: the largest images that many pull have 5 to 10 GB (PyTorch, CUDA), and one must
fit."""
SMALLEST_FLOOR = 1000**3
LARGEST_FLOOR = 50
"""Percent of a file system; more would rather be a limit."""
HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True)
class Fault:
    """One bad input: `key` as the args spell it (`nodes[2].host_key`; `config/` has the spelling of
    a stack's file), the value that was given, and what is wrong with it and what to do."""

    key: str
    value: object
    wrong: str

    def __str__(self) -> str:
        # Also a key may be a text of the user's own, of a mapping.
        said = f"{one_line(self.key)}: {one_line(self.wrong)}"
        if self.value is None:
            return said
        # A user and password in front of an @ are exactly what must not be repeated in a log; a
        # digest there may be.
        return f"{said} (got {one_line(repr(_without_secrets(self.value)), 100)})"


class InvalidArgs(ValueError):
    """All faults of a configuration together."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        title = "1 fault" if count == 1 else f"{count} faults"
        super().__init__(
            f"{title} in the configuration:\n" + "\n".join(f"  - {fault}" for fault in self.faults)
        )


def hostname(value: str) -> str | None:
    """A DNS name for the mirror: what nodes use, Traefik routes and the certificate names."""
    if "://" in value:
        return f"must be a host name, not a URL; write {_host_of(value) or 'mirror.example.com'}"
    if "/" in value:
        return "must be a host name without a path: docker before 25 refuses a mirror with one"
    if "@" in value:
        return (
            "must be a host name without a user: docker refuses credentials in a mirror's URL,"
            " and sends none"
        )
    if ":" in value:
        return "must be a host name without a port: Traefik serves it on 443"
    if value != value.lower():
        return f"must be in lower case; write {value.lower()}"
    if _is_address(value):
        return "must be a name, not an address: Traefik routes by name, and certificates name it"
    labels = value.split(".")
    if len(value) > 253 or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        return (
            "must be a full DNS name of letters, digits, dots and hyphens, like mirror.example.com"
        )
    return None


def image(value: str, accept_registry_2: bool = False) -> str | None:
    """The registry's image: tag for people, digest for docker, at least the version that is safe as
    a mirror."""
    wrong = _pinned(value, "registry:3.1.2", "the version decides where its configuration lies")
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
                f"must be 3.1.1 or later: {tag} downloads everything twice and does not start while"
                " its upstream is away;"
                " accept_registry_2: true takes it all the same"
            )
        )
    if version.numbers < REGISTRY_FLOOR:
        return (
            f"must be 3.1.1 or later: {tag} may send upstream credentials to strangers"
            " (CVE-2026-33540)"
        )
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
        else f"must be {'.'.join(map(str, VARNISH_FLOOR))} or later: older ones do not start with"
        " the mirror's settings"
    )


def _pinned(value: str, example: str, reason: str) -> str | None:
    reference, _, digest = value.partition("@")
    tag = reference.rpartition("/")[2].partition(":")[2]
    if not _REPOSITORY.fullmatch(reference[: len(reference) - len(tag)].removesuffix(":")):
        return f"must begin with a repository in lower case, like {example}@sha256:…"
    if not re.fullmatch(r"v?\d+\.\d+\.\d+", tag):
        return f"must have a full version as its tag, like {example}@sha256:…: {reason}"
    if not _DIGEST.fullmatch(digest):
        words = (
            "must end with @sha256: and 64 hex digits: a tag alone may be another image tomorrow"
        )
        return f"{words}; `docker buildx imagetools inspect` shows it"
    return None


def _version(image: str) -> tuple[int, ...]:
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    return tuple(int(number) for number in tag.removeprefix("v").split("."))


def upstream(value: str) -> str | None:
    """The registry that is cached."""
    if "@" in value:
        return "must not contain a user or password: this text is stored in the clear"
    if "?" in value or "#" in value or not value.isascii() or not value.isprintable():
        return "must be scheme and host only, like https://registry-1.docker.io"
    host = _host_of(value)
    if not value.startswith(("https://", "http://")) or host is None or address(host) is not None:
        return "must be a URL like https://registry-1.docker.io"
    if value.endswith("/"):
        return (
            f"must not end with a slash: the registry would ask {value}/v2/; write"
            f" {value.rstrip('/')}"
        )
    if urlsplit(value).path:
        return "must be scheme and host only, like https://registry-1.docker.io"
    return None


def proxy(value: str, secret: bool = False) -> str | None:
    """A proxy as the registry reads it from its environment (golang.org/x/net/http/httpproxy).
    `secret`: kept as one."""
    if "@" in value and not secret:
        remedy = (
            "`pulumi config set --secret upstream_proxy`, or in a program pulumi.Output.secret(…)"
        )
        return (
            "has a user or password, which would stand in the service for everybody to read;"
            f" make it a secret: {remedy}"
        )
    if not value.isascii() or not value.isprintable() or " " in value:
        return f"must be {_A_PROXY}, without spaces and other characters that a URL cannot have"
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in PROXY_SCHEMES:
        return (
            f"must begin with {'://, '.join(PROXY_SCHEMES[:-1])}:// or {PROXY_SCHEMES[-1]}://:"
            f" {_A_PROXY}"
        )
    account, at, place = rest.rpartition("@")
    if at and not _ACCOUNT.fullmatch(account):
        return (
            "must have its user and password percent-encoded: @ is %40, / is %2F, : in one of"
            " them is %3A"
        )
    if re.search("[/?#]", place):
        return f"must be {_A_PROXY}, and nothing behind the port"
    host = _host_of(f"{scheme}://{place}")
    if (
        host is None
        or address(host) is not None
        or not re.fullmatch(r"(\[[^]]*\]|[^:]*):[0-9]+", place)
    ):
        return f"must be {_A_PROXY}, with its port"
    return None


def no_proxy(value: str) -> str | None:
    """Something that is reached without the proxy (golang.org/x/net/http/httpproxy, NO_PROXY)."""
    if value == "*":
        return (
            "excepts everybody, so that the proxy is used for nothing; remove it and upstream_proxy"
        )
    if "://" in value:
        return f"must be a host, not a URL; write {_host_of(value) or 'registry.example.com'}"
    if re.search(r"[,\s]", value):
        return "must be one host, domain, address or network; give each an entry of its own"
    if _is_address(value.strip("[]")) or (_RANGE.fullmatch(value) and _is_network(value)):
        return None
    host, colon, number = value.partition(":")
    labels = host.removeprefix("*").removeprefix(".").split(".")
    if all(_LABEL.fullmatch(label.lower()) for label in labels) and (
        not colon or (number.isdecimal() and not port(int(number)))
    ):
        return None
    return "must be a host, a domain like .example.com, an address or a network like 10.0.0.0/8"


def authorities(text: str) -> str | None:
    """Certificates of authorities, in PEM. Whether they are still valid is not looked at: a preview
    depends on no clock."""
    if "PRIVATE KEY-----" in text:
        return (
            "holds a private key, which every machine of the swarm would get; name a file with"
            " the certificate alone"
        )
    if len(text.encode()) > LARGEST_CONFIG:
        return (
            f"has more than {LARGEST_CONFIG} bytes, and swarm takes no more; leave out what the"
            " image has already"
        )
    if "-----BEGIN CERTIFICATE-----" not in text:
        path = len(text) < 256 and len(text.split()) == 1 and ("/" in text or "." in text)
        remedy = "; it looks like a path, and must be the file's text" if path else ""
        return (
            f"has no certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----{remedy}"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        return (
            "has a certificate that is damaged; `openssl x509 -in FILE -noout -text` must read it"
        )
    return None


def cache_limit(value: str) -> str | None:
    """What the cache may have."""
    found = sizes.size(value)
    if found is None:
        return _no_size(value, "like 200GB or 1.5TiB")
    if found < SMALLEST_LIMIT:
        return (
            "must be 10GB or more: a single image can have several gigabytes, and what was used in"
            " the last hour is never removed"
        )
    return None


def cache_free_floor(value: str) -> str | None:
    """What stays free where the cache is."""
    share = sizes.percent(value)
    if share is not None:
        return None if 1 <= share <= LARGEST_FLOOR else f"must be 1% to {LARGEST_FLOOR}%"
    found = sizes.size(value)
    if found is None:
        return _no_size(value, "like 50GB, or a share of the file system like 10%")
    if found < SMALLEST_FLOOR:
        return "must be 1GB or more, so that a layer that is being fetched has room"
    return None


def _no_size(value: str, example: str) -> str:
    nearly = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KkMmGgTt])[Ii]?[Bb]?", value)
    if nearly is None:
        units = ", ".join(sizes.UNITS)
        return f"must be a number with one of the units {units}, {example}"
    number, letter = nearly[1], nearly[2].upper()
    if letter == "K":
        return f"has a unit that is too small; write a size {example}"
    return (
        f"has no unit that means one thing; write {number}{letter}B (powers of 1000) or"
        f" {number}{letter}iB (powers of 1024)"
    )


def is_hub(value: str) -> bool:
    """Whether an upstream is Docker Hub."""
    return _host_of(value) in HUB_HOSTS


def name(value: str) -> str | None:
    """A name that docker, Traefik, Pulumi and a file system all accept."""
    return (
        None
        if _NAME.fullmatch(value)
        else "must be 1 to 63 letters, digits, hyphens or underscores, the first no hyphen"
    )


def entrypoints(value: str) -> str | None:
    """Traefik's entrypoints, in the words of its label."""
    names = value.split(",")
    if all(name(part) is None for part in names) and len(set(names)) == len(names):
        return None
    return (
        "must be the name of an entrypoint of Traefik, or several different ones with commas and no"
        " spaces between them, like"
        " websecure,internal; each has 1 to 63 letters, digits, hyphens or underscores"
    )


def swarm_name(value: str) -> str | None:
    """The name of a service or a network."""
    if len(value) <= 63 and _SWARM_NAME.fullmatch(value):
        return None
    return (
        "must be 1 to 63 letters, digits, hyphens or underscores, a letter or digit first and"
        " last, as swarm takes names"
    )


def service_name(value: str, suffix: str = "") -> str | None:
    """The name of the mirror's service; `suffix` is what that of Varnish has besides."""
    wrong = swarm_name(value)
    if wrong is not None or len(value) + len(suffix) <= 63:
        return wrong
    room = 63 - len(suffix)
    return (
        f"must be at most {room} characters: Varnish's service is called the same with {suffix}"
        " behind it, and swarm takes 63"
    )


def address(value: str) -> str | None:
    """Where a node's sshd answers: a host name or an IP address."""
    if "://" in value or "@" in value or "/" in value:
        return "must be a host name or an IP address only; user and port are keys of their own"
    if _is_address(value) or all(_LABEL.fullmatch(label.lower()) for label in value.split(".")):
        return None
    return "must be a host name or an IP address"


def user(value: str) -> str | None:
    """A Unix account."""
    return (
        None if _USER.fullmatch(value) else "must be a Unix user name, like root, ops or john.doe"
    )


def port(value: int) -> str | None:
    """A TCP port."""
    return None if 1 <= value <= 65535 else "must be between 1 and 65535"


def become(value: str | None) -> str | None:
    """How the SSH user becomes root."""
    return None if value in (None, "sudo") else "must be sudo, or left out for a user that is root"


def host_key(value: str) -> str | None:
    """One line as in known_hosts, without a host name; `@cert-authority` may stand in front."""
    if not value.isprintable():
        return "must be one line: a second one would be another key, or a rule, to ssh"
    words = value.split()
    if words and words[0].startswith("@"):
        if words[0] != AUTHORITY:
            return (
                f"must be a host key, or {AUTHORITY} and the key of an authority; a revoked one"
                " is nobody's"
            )
        words = words[1:]
    if not words or words[0] not in HOST_KEY_TYPES:
        return (
            f"must begin with the key's type, one of {', '.join(HOST_KEY_TYPES)} (see"
            " `ssh-keyscan HOST`)"
        )
    try:
        blob = base64.b64decode(words[1], validate=True) if len(words) > 1 else b""
    except ValueError:
        blob = b""
    if not _is_whole_key(words[0], blob):
        return "must be a whole key: the type, a space, and the key in base64"
    return None


def local_file(value: str) -> str | None:
    """A file on the computer of `pulumi up`, whose name goes through ssh's options and a shell."""
    if not value.isprintable() or set(value) & set("'\"\\%$`"):
        return "must be the path of a file, without quotes, backslashes, %, $ or `"
    if value.startswith("~") and not value.startswith("~/"):
        return (
            "must begin with / or ~/, or be below the program's folder; other people's ~ is not"
            " read"
        )
    return None


def absolute_path(value: str) -> str | None:
    """A path on the shared storage."""
    if not value.isprintable():
        return "must be a path without control characters or marks that hide or reorder text"
    if (
        not value.startswith("/")
        or value.endswith("/")
        or {"..", "."} & set(value.split("/"))
        or "//" in value
    ):
        return "must be an absolute path without .. and without a slash at its end or two in a row"
    return None


def nfs(value: str) -> str | None:
    """An export of an NFS server."""
    host, separator, path = value.rpartition(":/")
    if (
        not separator
        or address(host.strip("[]")) is not None
        or absolute_path("/" + path) is not None
        or "," in value
    ):
        return "must be a server and an absolute path on it, like nfs.example.com:/export/cache"
    return None


def mount_options(value: str) -> str | None:
    """Options for mount(8), without the server's address, which is known."""
    if not re.fullmatch(r"[a-z0-9_=.]+(,[a-z0-9_=.]+)*", value) or "addr=" in value:
        return "must be mount options like rw,nfsvers=4.1, without addr"
    return None


def names_one_machine(constraint: object) -> bool:
    """Whether a Swarm constraint holds for one machine only."""
    return (
        isinstance(constraint, str)
        and re.fullmatch(r"node\.(hostname|id)\s*==\s*\S+", constraint.strip()) is not None
    )


def tagged_image(value: str) -> str | None:
    """An image as a registry's path and tag, without a host: it is asked of the mirror."""
    host, slash, rest = value.partition("/")
    if slash and (host == "localhost" or "." in host or ":" in host):
        example = f"; write {rest}" if _TAGGED.fullmatch(rest) else ""
        return (
            "must be without a registry's host, because the mirror asks its upstream for"
            f" it{example}"
        )
    if not _TAGGED.fullmatch(value):
        return (
            "must be a repository and a tag as Docker Hub calls them, like"
            " library/hello-world:latest"
        )
    return None


def traefik(value: str) -> str | None:
    """The generation of Traefik that reads the labels."""
    return (
        None
        if value in DIALECTS
        else f"must be one of {', '.join(DIALECTS)}; v3.0 stands for all before 3.2.2"
    )


def network_range(value: object) -> str | None:
    """An address or a network in CIDR notation."""
    try:
        # ipaddress takes numbers, masks and scopes (0::%…) too, which Traefik does not; a scope may
        # even hold a comma.
        if not isinstance(value, str) or not _RANGE.fullmatch(value):
            raise ValueError
        found = ipaddress.ip_network(value)
    except ValueError:
        return "must be a network like 10.0.0.0/24, with zeros behind its prefix, or one address"
    return (
        "must not be the whole internet; leave the key out if everybody may"
        if found.prefixlen == 0
        else None
    )


def label(key: str, name: str, value: object) -> list[Fault]:
    """Faults of a label of a service."""
    if not name or not name.isprintable() or " " in name or "=" in name:
        return [Fault(key, None, "must be a label's name: without spaces, = or control characters")]
    if not isinstance(value, str) or not value.isprintable():
        return [Fault(key, value, "must be a text of one line")]
    if name.lower().endswith(".middlewares") and not all(part.strip() for part in value.split(",")):
        return [Fault(key, value, "must be names of middlewares with commas between them")]
    return []


def constraint(value: object) -> str | None:
    """A Swarm constraint, as swarm parses it (swarmkit manager/constraint/constraint.go)."""
    if not isinstance(value, str):
        return "must be a text"
    operator = next((found for found in ("==", "!=") if found in value), None)
    if operator is None:
        return "must compare with == or !=, like node.labels.storage == shared"
    key, _, wanted = (part.strip(" ") for part in value.partition(operator))
    if not _CONSTRAINT_KEY.fullmatch(key):
        return (
            "must begin with node.id, node.hostname, node.ip, node.role, node.platform.os,"
            " node.platform.arch, "
            "node.labels.<label> or engine.labels.<label>; no node ever matches another one"
        )
    if not _CONSTRAINT_VALUE.fullmatch(wanted):
        return (
            f"must have a value that swarm takes behind {operator}: letters, digits, spaces and"
            " :-_.*()?+[]\\^$|/"
        )
    if key.lower() == "node.role" and wanted.lower() not in ("manager", "worker"):
        return "must be manager or worker; no node has another role"
    return None


def private_key(text: str) -> str | None:
    """The text of an SSH private key, in PEM form and without a passphrase."""
    if text.startswith("PuTTY-User-Key-File"):
        return (
            "is a key of PuTTY; `puttygen KEY.ppk -O private-openssh -o KEY` makes one that ssh"
            " reads"
        )
    if "PRIVATE KEY-----" not in text:
        path = len(text) < 256 and len(text.split()) == 1 and ("/" in text or text.startswith("~"))
        remedy = (
            "; it looks like a path, and must be the file's text"
            if path
            else "; the public one ends with .pub"
        )
        return f"is not a private key in PEM form{remedy}"
    if _is_encrypted(text):
        return "is protected by a passphrase, which nobody could type; use a key without one"
    return None


def private_key_file(text: str) -> str | None:
    """The text of a file with an SSH private key, which ssh reads itself; with a passphrase, an
    agent must have the key."""
    wrong = None if _is_encrypted(text) else private_key(text)
    if wrong is None and text != private_key_text(text):
        # openssh sshkey.c, MARK_BEGIN
        return (
            "has line ends of Windows, or none at its end, which ssh does not read; `sed -i"
            " 's/\\r$//; $a\\' FILE` mends that"
        )
    return wrong


def private_key_text(text: str) -> str:
    """The key as ssh and Go's ssh package read it: line ends of Unix, and one at the end."""
    return "\n".join(text.replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")) + "\n"


def ready_timeout(value: int) -> str | None:
    """Seconds for the gate."""
    return (
        None
        if 1 <= value <= LONGEST_READY_TIMEOUT
        else f"must be 1 to {LONGEST_READY_TIMEOUT} seconds"
    )


def restart(value: str) -> str | None:
    """Whether docker may be restarted."""
    return None if value in RESTARTS else "must be never or when-needed"


def daemon_keys(values: Mapping[str, object]) -> "list[Fault]":
    """Faults of the managed keys of daemon.json."""
    faults = []
    for key, value in values.items():
        wrong = keys_of_dockerd.fault(key, value)
        if wrong is not None:
            faults.append(Fault(f"daemon_keys.{key}", value, wrong))
    return faults


def positive(value: int) -> str | None:
    """A number of things or seconds."""
    return None if value >= 1 else "must be 1 or more"


def not_negative(value: int) -> str | None:
    """A number of hours or days."""
    return None if value >= 0 else "must be 0 or more"


def memory(value: int) -> str | None:
    """MiB of a container's memory."""
    return None if value >= 64 else "must be 64 (MiB) or more"


def coalesce_disk(value: int) -> str | None:
    """MiB of a machine's disk for layers that are being pulled."""
    if value == 0 or SMALLEST_DISK_MIB <= value <= LARGEST_DISK_MIB:
        return None
    limits = f"{SMALLEST_DISK_MIB} to {LARGEST_DISK_MIB} (MiB; that is 1 TiB)"
    return f"must be 0, for no disk, or {limits}; a layer fits into it up to fifteen sixteenths"


def referrers(value: str) -> str | None:
    """The answer to a client that asks for referrers."""
    return None if value in REFERRERS else f"must be {' or '.join(REFERRERS)}"


def unique(values: Iterable[tuple[str, str]], what: str) -> list[Fault]:
    """Faults for every value that an earlier key has already; `values` are (key, value)."""
    first: dict[str, str] = {}
    faults = []
    for key, value in values:
        if value in first:
            faults.append(
                Fault(
                    key,
                    value,
                    f"is the {what} of {first[value].rpartition('.')[0]} too; each node needs its"
                    " own",
                )
            )
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


def _is_network(value: str) -> bool:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return True


def _host_of(url: str) -> str | None:
    """The host of a URL whose port, if any, is one; None for anything else."""
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.port != 0 else None
    except ValueError:
        return None


def _without_secrets(value: object) -> object:
    """`value` for a message, however deep its texts lie."""
    if isinstance(value, str):
        scheme, separator, rest = value.partition("://")
        if separator and scheme.isalnum() and "@" in rest and "@sha256:" not in rest:
            # It is a URL, whatever stands in it: a password may have spaces and quotes, too.
            value = f"{scheme}://[hidden]@{rest.rpartition('@')[2]}"
        return without_credentials(value)
    if isinstance(value, Mapping):
        return {key: _without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(inner) for inner in value]
    return value


def _is_encrypted(text: str) -> bool:
    if "ENCRYPTED" in text:
        return True
    body = "".join(line for line in text.splitlines() if "-----" not in line)
    try:
        blob = base64.b64decode(body)
    except ValueError:
        return False
    # openssh PROTOCOL.key: the magic is followed by the cipher's name, which is `none` for a key in
    # the clear.
    return blob.startswith(b"openssh-key-v1\0") and blob[15:23] != b"\0\0\0\x04none"


def _is_whole_key(kind: str, blob: bytes) -> bool:
    """Whether a public key is one of its kind to the last byte (RFC 4253 6.6, RFC 5656 3.1, RFC
    8709 4)."""
    parts = []
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            return False
        parts.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    if not parts or parts[0] != kind.encode():
        return False
    if kind == "ssh-ed25519":
        return [len(part) for part in parts[1:]] == [32]
    if kind == "ssh-rsa":
        return len(parts) == 3 and len(parts[1]) >= 1 and len(parts[2]) >= 128
    return parts[1:2] == [kind.rpartition("-")[2].encode()] and [
        len(part) for part in parts[2:]
    ] == [1 + 2 * _CURVES[kind]]
