"""Every key of daemon.json: whether a reload takes it over, and where the running dockerd shows
what it has. Pure.

Owns the table SETTINGS and `pending`, which says what of a file dockerd has not taken over yet.
Sources, at 20.10.24, 26.1.5, 28.5.2 and 29.7.2: the keys are the json tags of moby
daemon/config/config.go and config_linux.go, what a reload takes is daemon/reload.go and
reload_unix.go, `docker info` is daemon/info.go and info_unix.go, and the attributes of the event
`reload` are written by daemon/reload.go too. A key that is not in the table counts as one that only
a start reads and nothing shows.
"""

import ipaddress
import json
import re
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence

from . import command_line
from .daemon_keys import Version, version_of

START = "start"
"""Only a start reads it."""
KEPT = "kept"
"""A reload takes it where the file has it, and otherwise keeps what the daemon has."""
RESET = "reset"
"""A reload takes it, and puts the default in its place where the file does not have it."""


class _NotShown:
    """What a function of the table returns where this engine does not show the value, or not all of
    it."""

    def __repr__(self) -> str:
        return "NOT_SHOWN"


NOT_SHOWN = _NotShown()
ALWAYS: Version = (0, 0, 0)
NEVER_ENDS: Version = (999, 0, 0)


class Setting(NamedTuple):
    """One key. `default`: what dockerd has without it; NOT_SHOWN where that depends on the
    machine."""

    taken_by: str = START
    default: Any = NOT_SHOWN
    in_info: Optional[Callable[[Dict[str, Any]], Any]] = None
    """From `docker info`, in the shape that `normal` gives."""
    in_event: Optional[Callable[[str], Any]] = None
    """From the attribute of the same name of the event `reload`, in the shape that `normal`
    gives."""
    normal: Callable[[Any], Any] = lambda value: value
    """The file's value in the shape in which dockerd shows it; NOT_SHOWN where that is not
    known."""
    since: Version = ALWAYS
    until: Version = NEVER_ENDS
    """The first version that does not read the key any more."""


def _names(value: Any) -> Any:
    return sorted(map(str, value or []))


def _listed(text: str) -> Any:
    return sorted(json.loads(text) or [])


def _text(field: str) -> Callable[[Dict[str, Any]], Any]:
    return lambda info: info.get(field) or NOT_SHOWN


def _security(name: str, since: Version = ALWAYS) -> Callable[[Dict[str, Any]], Any]:
    def shown(info: Dict[str, Any]) -> Any:
        found = "name=" + name in (info.get("SecurityOptions") or [])
        return found or (
            False if version_of(str(info.get("ServerVersion", ""))) >= since else NOT_SHOWN
        )

    return shown


def _data_root(info: Dict[str, Any]) -> Any:
    """With user namespaces dockerd shows the folder of the mapped user below its root
    (daemon/daemon_unix.go)."""
    shown = info.get("DockerRootDir")
    if not shown:
        return NOT_SHOWN
    return re.sub(r"/\d+\.\d+$", "", shown) if _security("userns")(info) else shown


def _path(value: Any) -> Any:
    return re.sub(r"(?<=.)/+$", "", str(value))


def has_containerd_store(info: Dict[str, Any]) -> bool:
    """Whether images are kept by containerd, and not by a storage driver of dockerd's own."""
    return any("io.containerd.snapshotter.v1" in pair for pair in info.get("DriverStatus") or [])


def _storage_driver(info: Dict[str, Any]) -> Any:
    return NOT_SHOWN if has_containerd_store(info) else info.get("Driver") or NOT_SHOWN


def _insecure_shown(info: Dict[str, Any]) -> Any:
    registries = info.get("RegistryConfig") or {}
    if "IndexConfigs" not in registries and "InsecureRegistryCIDRs" not in registries:
        return NOT_SHOWN
    hosts = [
        name
        for name, index in (registries.get("IndexConfigs") or {}).items()
        if not index.get("Secure", True)
    ]
    return _insecure([*hosts, *(registries.get("InsecureRegistryCIDRs") or [])])


def _insecure(value: Any) -> Any:
    """As daemon/pkg/registry/config.go reads the list: no scheme, networks by their first address,
    loopback by itself."""
    found = set()
    for name in value or []:
        bare = re.sub(r"^https?://", "", str(name), flags=re.IGNORECASE)
        try:
            found.add(str(ipaddress.ip_network(bare, strict=False)) if "/" in bare else bare)
        except ValueError:
            found.add(bare)
    return sorted(found - {"127.0.0.0/8", "::1/128"})


BUILT_IN_RUNTIMES = frozenset(["runc", "io.containerd.runc.v2", "io.containerd.runtime.v1.linux"])


def _runtimes_shown(info: Dict[str, Any]) -> Any:
    return NOT_SHOWN if info.get("Runtimes") is None else _runtimes(info["Runtimes"])


def _runtimes(value: Any) -> Any:
    """Name -> program and arguments; the options of a shim (`runtimeType`, since 23) are not
    shown."""
    return {
        name: [runtime.get("path") or "", list(runtime.get("runtimeArgs") or [])]
        for name, runtime in (value or {}).items()
        if name not in BUILT_IN_RUNTIMES
    }


def _runtimes_in_file(value: Any) -> Any:
    shims = [
        runtime
        for runtime in (value or {}).values()
        if runtime.get("runtimeType") or runtime.get("options")
    ]
    return NOT_SHOWN if shims else _runtimes(value)


def _pools_shown(info: Dict[str, Any]) -> Any:
    return [[pool.get("Base"), pool.get("Size")] for pool in info.get("DefaultAddressPools") or []]


def _pools(value: Any) -> Any:
    return [
        [pool.get("base", pool.get("Base")), pool.get("size", pool.get("Size"))]
        for pool in value or []
    ]


PROXY_FIELDS = {"http-proxy": "HttpProxy", "https-proxy": "HttpsProxy", "no-proxy": "NoProxy"}


def _proxies_shown(info: Dict[str, Any]) -> Any:
    if "HttpProxy" not in info:
        return NOT_SHOWN
    return {key: info.get(field) or "" for key, field in PROXY_FIELDS.items()}


def _proxies(value: Any) -> Any:
    """What is absent comes from the environment, and what has a password is shown masked: of both,
    nothing is known."""
    given = {key: value.get(key) or "" for key in PROXY_FIELDS}
    return given if all(given.values()) and "@" not in "".join(given.values()) else NOT_SHOWN


CGROUP_DRIVER = "native.cgroupdriver="


def _exec_opts(value: Any) -> Any:
    """dockerd shows the cgroup driver, and no other of these options."""
    options = list(value or [])
    drivers = [
        word[len(CGROUP_DRIVER) :] for word in options if str(word).startswith(CGROUP_DRIVER)
    ]
    return drivers[-1] if drivers and len(drivers) == len(options) else NOT_SHOWN


def _seccomp_shown(info: Dict[str, Any]) -> Any:
    for option in info.get("SecurityOptions") or []:
        if option.startswith("name=seccomp,profile="):
            profile = option[len("name=seccomp,profile=") :]
            return "" if profile in ("default", "builtin") else profile
    return NOT_SHOWN


def _seccomp(value: Any) -> Any:
    return "" if value in ("", "builtin", "default") else value


def _features_shown(text: str) -> Any:
    """Go prints a map as `map[a:true b:false]`."""
    return {
        name: value == "true"
        for name, _, value in (word.partition(":") for word in text[4:-1].split())
    }


UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def _bytes(value: Any) -> Any:
    """`64M` or 67108864 as bytes (docker/go-units RAMInBytes)."""
    match = re.match(r"^(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?$", str(value).lower())
    return int(float(match.group(1)) * UNITS[match.group(2)]) if match else NOT_SHOWN


def _limit(default: int) -> Setting:
    """A number for which 0 means the default."""
    return Setting(RESET, default, in_event=int, normal=lambda value: value or default)


def _firewall(info: Dict[str, Any]) -> Any:
    driver = (info.get("FirewallBackend") or {}).get("Driver")
    return driver.partition("+")[0] if driver else NOT_SHOWN


def _containerd(info: Dict[str, Any]) -> Any:
    return (info.get("Containerd") or {}).get("Address") or NOT_SHOWN


SETTINGS: Dict[str, Setting] = {
    # --- a reload takes these
    "registry-mirrors": Setting(
        KEPT, []
    ),  # compared apart from the others: some of its entries are ours
    "authorization-plugins": Setting(
        RESET,
        [],
        lambda info: list((info.get("Plugins") or {}).get("Authorization") or []),
        normal=lambda value: list(value or []),
    ),
    "allow-nondistributable-artifacts": Setting(
        KEPT, [], in_event=_listed, normal=_names, until=(28, 0, 0)
    ),
    "debug": Setting(KEPT, False, lambda info: bool(info.get("Debug"))),
    "default-cgroupns-mode": Setting(KEPT, in_event=str),
    "default-ipc-mode": Setting(
        KEPT, "private", in_event=str, normal=lambda value: value or "private"
    ),
    "default-runtime": Setting(
        KEPT, "runc", _text("DefaultRuntime"), normal=lambda value: value or "runc"
    ),
    "default-shm-size": Setting(KEPT, 64 << 20, in_event=int, normal=_bytes),
    "default-stop-timeout": Setting(KEPT, 10, in_event=int, since=(29, 0, 0)),
    "features": Setting(
        RESET, {}, in_event=_features_shown, normal=lambda value: dict(value or {})
    ),
    "insecure-registries": Setting(KEPT, [], _insecure_shown, normal=_insecure),
    "labels": Setting(KEPT, [], lambda info: _names(info.get("Labels")), normal=_names),
    "live-restore": Setting(KEPT, False, lambda info: bool(info.get("LiveRestoreEnabled"))),
    "max-concurrent-downloads": _limit(3),
    "max-concurrent-uploads": _limit(5),
    "max-download-attempts": _limit(5),
    "network-diagnostic-port": Setting(RESET),
    "nri-opts": Setting(RESET, since=(29, 0, 0)),
    "runtimes": Setting(KEPT, {}, _runtimes_shown, normal=_runtimes_in_file),
    "shutdown-timeout": Setting(KEPT, 15, in_event=int),
    # --- only a start reads these, and `docker info` shows them
    "cdi-spec-dirs": Setting(since=(25, 0, 0)),
    "cluster-advertise": Setting(
        START, "", lambda info: info.get("ClusterAdvertise") or "", until=(24, 0, 0)
    ),
    "cluster-store": Setting(
        START, "", lambda info: info.get("ClusterStore") or "", until=(24, 0, 0)
    ),
    "containerd": Setting(in_info=_containerd),
    "data-root": Setting(
        START,
        "/var/lib/docker",
        _data_root,
        normal=lambda value: _path(value) if value else "/var/lib/docker",
    ),
    "default-address-pools": Setting(START, [], _pools_shown, normal=_pools),
    "exec-opts": Setting(in_info=_text("CgroupDriver"), normal=_exec_opts),
    "experimental": Setting(START, False, lambda info: bool(info.get("ExperimentalBuild"))),
    "firewall-backend": Setting(
        in_info=_firewall, normal=lambda value: value or NOT_SHOWN, since=(29, 0, 0)
    ),
    "init-path": Setting(in_info=_text("InitBinary"), normal=lambda value: value or NOT_SHOWN),
    "log-driver": Setting(
        START, "json-file", _text("LoggingDriver"), normal=lambda value: value or "json-file"
    ),
    "no-new-privileges": Setting(START, False, _security("no-new-privileges", since=(26, 0, 0))),
    "proxies": Setting(in_info=_proxies_shown, normal=_proxies, since=(23, 0, 0)),
    "seccomp-profile": Setting(START, "", _seccomp_shown, normal=_seccomp),
    "selinux-enabled": Setting(START, False, _security("selinux")),
    "storage-driver": Setting(in_info=_storage_driver, normal=lambda value: value or NOT_SHOWN),
    # On or off is all that is shown: which user is mapped is not.
    "userns-remap": Setting(START, False, _security("userns"), normal=bool),
    # --- only a start reads these, and nothing shows them
    **dict.fromkeys(
        (
            "bip",
            "bridge",
            "builder",
            "cgroup-parent",
            "containerd-namespace",
            "containerd-plugins-namespace",
            "cpu-rt-period",
            "cpu-rt-runtime",
            "cri-containerd",
            "default-gateway",
            "default-gateway-v6",
            "default-init",
            "default-ulimits",
            "deprecated-key-path",
            "dns",
            "dns-opts",
            "dns-search",
            "exec-root",
            "fixed-cidr",
            "fixed-cidr-v6",
            "group",
            "host-gateway-ip",
            "hosts",
            "icc",
            "init",
            "ip",
            "ip-forward",
            "ip-masq",
            "ip6tables",
            "iptables",
            "ipv6",
            "log-level",
            "log-opts",
            "metrics-addr",
            "mtu",
            "network-control-plane-mtu",
            "node-generic-resources",
            "pidfile",
            "raw-logs",
            "rootless",
            "storage-opts",
            "swarm-default-advertise-addr",
            "tls",
            "tlscacert",
            "tlscert",
            "tlskey",
            "tlsverify",
            "userland-proxy",
            "userland-proxy-path",
        ),
        Setting(),
    ),
    "allow-direct-routing": Setting(since=(28, 2, 0)),
    "api-cors-header": Setting(until=(28, 0, 0)),
    "bip6": Setting(since=(28, 0, 0)),
    "bridge-accept-fwmark": Setting(since=(29, 0, 0)),
    "cluster-store-opts": Setting(until=(24, 0, 0)),
    "default-network-opts": Setting(since=(24, 0, 0)),
    "graph": Setting(until=(24, 0, 0)),
    "host-gateway-ips": Setting(since=(28, 0, 0)),
    "ip-forward-no-drop": Setting(since=(28, 0, 0)),
    "log-format": Setting(since=(25, 0, 0)),
    "min-api-version": Setting(since=(29, 0, 0)),
    "oom-score-adjust": Setting(until=(26, 0, 0)),
}


class AtStart(NamedTuple):
    """What daemon.json said when the running dockerd was started, as far as is known
    (started.py)."""

    values: Dict[str, Any]
    known: bool
    """False: the file was edited between the start and the first time that we saw it, and `values`
    is what we saw."""
    absent: bool = False
    """There was no file. dockerd before 23 then takes every boolean of a later file with a reload:
    its flags and its settings share their memory (getConflictFreeConfiguration; `experimental` was
    tried on 20.10.24)."""


class Pending(NamedTuple):
    """A key whose value a reload or a start would change in dockerd, or might."""

    key: str
    shown: bool
    """True: dockerd shows something else. False: nothing shows what it has, and the file was edited
    since it started."""
    taken_by: str


class Daemon(NamedTuple):
    """What the running dockerd shows of itself."""

    info: Dict[str, Any]
    """`docker info`."""
    arguments: Sequence[str] = ()
    """Its command line."""
    event: Optional[Dict[str, str]] = None
    """Attributes of the last reload that it accepted, where it still remembers one."""
    at_start: AtStart = AtStart({}, False)

    @property
    def version(self) -> Version:
        """Of the engine; newer than all where it cannot be read."""
        return version_of(str(self.info.get("ServerVersion", "")))


def pending(
    configured: Dict[str, Any],
    daemon: Daemon,
    restart: bool,
    but: Iterable[str] = (),
    proven: bool = False,
) -> List[Pending]:
    """What a reload, or with `restart` a start, would change besides the keys in `but`.

    `configured`: the file. `proven`: these very bytes were written by us and checked after a
    reload, so whatever a reload takes has been taken over.
    """
    flags = {command_line.key_of(flag.name) for flag in command_line.flags(daemon.arguments)}
    version = daemon.version
    found = []
    for key in sorted(
        {*configured, *SETTINGS, *daemon.at_start.values} - {"registry-mirrors", *but}
    ):
        setting = SETTINGS.get(key, Setting())
        if not setting.since <= version < setting.until:
            continue
        taken_by = _taken_by(key, setting, daemon)
        if taken_by == START and not restart:
            continue
        if key not in configured and (key in flags or (taken_by == KEPT and not restart)):
            continue
        found += _compared(key, setting, taken_by, configured, daemon, proven)
    if restart and "features" not in but:
        found += _image_store(configured, daemon)
    return found


def _taken_by(key: str, setting: Setting, daemon: Daemon) -> str:
    if (
        setting.taken_by == START
        and daemon.version < (23, 0, 0)
        and daemon.at_start.absent
        and key in command_line.BOOLEAN
    ):
        return KEPT
    return setting.taken_by


def _compared(
    key: str,
    setting: Setting,
    taken_by: str,
    configured: Dict[str, Any],
    daemon: Daemon,
    proven: bool,
) -> List[Pending]:
    given = configured.get(key)
    at_start = daemon.at_start
    if taken_by == START and at_start.known:
        return [] if given == at_start.values.get(key) else [Pending(key, True, taken_by)]
    wanted = setting.default if given is None else _read(setting.normal, given)
    live = _live(key, setting, daemon)
    if wanted is not NOT_SHOWN and live is not NOT_SHOWN:
        return [] if wanted == live else [Pending(key, True, taken_by)]
    if taken_by != START and (proven or (at_start.known and given == at_start.values.get(key))):
        return []
    return [Pending(key, False, taken_by)] if given is not None or key in at_start.values else []


def _live(key: str, setting: Setting, daemon: Daemon) -> Any:
    shown = _read(setting.in_info, daemon.info) if setting.in_info else NOT_SHOWN
    if shown is NOT_SHOWN and setting.in_event and daemon.event and key in daemon.event:
        return _read(setting.in_event, daemon.event[key])
    return shown


def _read(how: Callable[[Any], Any], value: Any) -> Any:
    """What a function of the table makes of a value; a value of another type than dockerd's says
    nothing (dockerd refuses it)."""
    try:
        return how(value)
    except (AttributeError, TypeError, ValueError):
        return NOT_SHOWN


def entry(configured: Dict[str, Any], key: str, name: str) -> Any:
    """`name` of the mapping `key`; None where either is not there."""
    found = configured.get(key)
    return found.get(name) if isinstance(found, dict) else None


SNAPSHOTTER = "containerd-snapshotter"
"""The entry of `features` that only a start reads (moby daemon/daemon.go): it changes where images
are kept."""


def _image_store(configured: Dict[str, Any], daemon: Daemon) -> List[Pending]:
    wanted, live = entry(configured, "features", SNAPSHOTTER), has_containerd_store(daemon.info)
    if wanted is None and daemon.at_start.known:
        removed = entry(daemon.at_start.values, "features", SNAPSHOTTER) is not None
        wanted = not live if removed else None
    elif wanted is None and daemon.version < (29, 0, 0):  # 29 stays with the store that has images
        wanted = live and "feature" in {flag.name for flag in command_line.flags(daemon.arguments)}
    if wanted is None or wanted == live:
        return []
    return [Pending("features.%s" % SNAPSHOTTER, True, START)]
