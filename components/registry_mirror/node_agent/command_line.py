"""Reads dockerd's command line as dockerd does, and finds the conflicts between its flags and
daemon.json. Pure.

Owns the list of dockerd's flags, of 20.10.24, 26.1.5, 28.5.2 and 29.8.1 together (moby
cmd/dockerd/config.go, config_unix.go and options.go; since 29 in daemon/command/): no flag takes a
value in one version and none in another. How words become flags is pflag's rule (spf13/pflag
flag.go): a value may be glued to a short flag, and short flags to each other.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set

BOOLEAN = frozenset(
    (
        "allow-direct-routing",
        "cri-containerd",
        "debug",
        "experimental",
        "help",
        "icc",
        "init",
        "ip-forward",
        "ip-forward-no-drop",
        "ip-masq",
        "ip6tables",
        "iptables",
        "ipv6",
        "live-restore",
        "no-new-privileges",
        "raw-logs",
        "restart",
        "rootless",
        "selinux-enabled",
        "tls",
        "tlsverify",
        "userland-proxy",
        "validate",
        "version",
    )
)
"""Flags that take a value behind `=` only."""
WITH_VALUE = frozenset(
    (
        "add-runtime",
        "allow-nondistributable-artifacts",
        "api-cors-header",
        "apparmor-profile",
        "authorization-plugin",
        "bip",
        "bip6",
        "bridge",
        "bridge-accept-fwmark",
        "cdi-spec-dir",
        "cgroup-parent",
        "cluster-advertise",
        "cluster-store",
        "cluster-store-opt",
        "config-file",
        "containerd",
        "containerd-namespace",
        "containerd-plugins-namespace",
        "cpu-rt-period",
        "cpu-rt-runtime",
        "data-root",
        "default-address-pool",
        "default-cgroupns-mode",
        "default-gateway",
        "default-gateway-v6",
        "default-ipc-mode",
        "default-network-opt",
        "default-runtime",
        "default-shm-size",
        "default-stop-timeout",
        "default-ulimit",
        "dns",
        "dns-opt",
        "dns-search",
        "exec-opt",
        "exec-root",
        "extension-dir",
        "feature",
        "firewall-backend",
        "fixed-cidr",
        "fixed-cidr-v6",
        "graph",
        "group",
        "host",
        "host-gateway-ip",
        "http-proxy",
        "https-proxy",
        "init-path",
        "insecure-registry",
        "ip",
        "label",
        "log-driver",
        "log-format",
        "log-level",
        "log-opt",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "metrics-addr",
        "mtu",
        "network-control-plane-mtu",
        "network-diagnostic-port",
        "no-proxy",
        "node-generic-resource",
        "nri-opts",
        "oom-score-adjust",
        "pidfile",
        "registry-mirror",
        "seccomp-profile",
        "shutdown-timeout",
        "storage-driver",
        "storage-opt",
        "swarm-default-advertise-addr",
        "tlscacert",
        "tlscert",
        "tlskey",
        "userland-proxy-path",
        "userns-remap",
    )
)
SHORT = {
    "D": "debug",
    "G": "group",
    "H": "host",
    "b": "bridge",
    "g": "graph",
    "h": "help",
    "l": "log-level",
    "p": "pidfile",
    "r": "restart",
    "s": "storage-driver",
    "v": "version",
}
KEY_OF_FLAG = {
    "add-runtime": "runtimes",
    "authorization-plugin": "authorization-plugins",
    "cdi-spec-dir": "cdi-spec-dirs",
    "cluster-store-opt": "cluster-store-opts",
    "default-network-opt": "default-network-opts",
    "default-ulimit": "default-ulimits",
    "dns-opt": "dns-opts",
    "exec-opt": "exec-opts",
    "extension-dir": "extension-dirs",
    "feature": "features",
    "host": "hosts",
    "insecure-registry": "insecure-registries",
    "label": "labels",
    "log-opt": "log-opts",
    "node-generic-resource": "node-generic-resources",
    "registry-mirror": "registry-mirrors",
    "storage-opt": "storage-opts",
    "default-address-pool": "default-address-pools",
    "graph": "data-root",
}
"""Where a flag's key in the file has another name (NamedOption in moby opts/opts.go)."""

FLAT = frozenset(
    (
        "builder",
        "cluster-store-opts",
        "default-network-opts",
        "default-ulimits",
        "features",
        "log-opts",
        "nri-opts",
        "runtimes",
    )
)
"""Keys whose mapping is one value; the entries of any other mapping count as keys themselves
(flatOptions, configValuesSet)."""
MERGED = frozenset(["runtimes"])
"""Keys that dockerd takes from flags and file together (skipDuplicates)."""
REFUSED_WITH = {"graph": ["graph"], "host-gateway-ip": ["host-gateway-ip", "host-gateway-ips"]}
"""Flags that dockerd compares with other keys than KEY_OF_FLAG says: the key of `host-gateway-ip`
was renamed in 28."""

RESET_BY_RELOAD = {
    "authorization-plugin": "",
    "feature": "",
    "max-concurrent-downloads": "3",
    "max-concurrent-uploads": "5",
    "max-download-attempts": "5",
    "network-diagnostic-port": "0",
    "nri-opts": "",
}
"""Flag -> value that a reload puts in its place, because it looks at the file alone (moby
daemon/reload.go, reloadConfig)."""


class Flag(NamedTuple):
    """One flag of a command line; `value` is empty where a boolean flag stands alone."""

    name: str
    value: str


def flags(arguments: Sequence[str]) -> List[Flag]:
    """The flags of a dockerd that runs, program name first, in their order.

    A flag that is not known here (a newer dockerd) takes the next word unless that is a flag
    itself: dockerd has no other words.
    """
    found: List[Flag] = []
    words = list(arguments[1:])
    while words:
        word = words.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, glued, value = word[2:].partition("=")
            if not glued and _takes_next(name, words):
                value = words.pop(0)
            found.append(Flag(name, value))
        elif word.startswith("-"):
            found += _short(word[1:], words)
    return found


def _short(letters: str, words: List[str]) -> List[Flag]:
    """What one word of short flags says: `DHfd://`, `H=fd://`, or `H` with the next of `words`,
    which is taken from there."""
    found: List[Flag] = []
    while letters:
        name, letters = SHORT.get(letters[0], letters[0]), letters[1:]
        if letters.startswith("="):
            return [*found, Flag(name, letters[1:])]
        if name in BOOLEAN:
            found.append(Flag(name, ""))
        elif letters:
            return [*found, Flag(name, letters)]
        else:
            found.append(Flag(name, words.pop(0) if _takes_next(name, words) else ""))
    return found


def _takes_next(name: str, words: List[str]) -> bool:
    return (
        bool(words) and name not in BOOLEAN and (name in WITH_VALUE or not words[0].startswith("-"))
    )


def key_of(flag: str) -> str:
    """The key of daemon.json that holds what the flag holds."""
    return KEY_OF_FLAG.get(flag, flag)


def last_value(arguments: Sequence[str], name: str) -> Optional[str]:
    """The value of a flag of which the last one counts; None where it is not given."""
    values = [flag.value for flag in flags(arguments) if flag.name == name]
    return values[-1] if values else None


def keys_in(configured: Dict[str, Any]) -> Set[str]:
    """The keys that dockerd sees in a daemon.json with this content: entries of most mappings count
    as keys."""
    found: Set[str] = set()
    for key, value in configured.items():
        found |= set(value) if isinstance(value, dict) and key not in FLAT else {key}
    return found


def conflicts(configured: Dict[str, Any], arguments: Sequence[str]) -> Dict[str, str]:
    """Key -> flag, for each key that keeps dockerd from taking the file, as it is a flag too
    (findConfigurationConflicts)."""
    keys = keys_in(configured)
    found: Dict[str, str] = {}
    for flag in flags(arguments):
        for key in REFUSED_WITH.get(flag.name, [key_of(flag.name)]):
            if key in keys and key not in MERGED:
                found.setdefault(key, flag.name)
    return found


def lost_by_reload(configured: Dict[str, Any], arguments: Sequence[str]) -> List[str]:
    """Flags whose settings a reload takes away from the running dockerd."""
    given = {flag.name: flag.value for flag in flags(arguments)}
    found = [
        name
        for name, value in given.items()
        if name in RESET_BY_RELOAD and value != RESET_BY_RELOAD[name]
    ]
    if "add-runtime" in given and "runtimes" in configured:
        found.append("add-runtime")
    return found
