"""A dockerd as far as its configuration is concerned: what a reload or a start takes over, refuses,
or keeps. Pure.

The rules are moby's (daemon/reload.go, daemon/config/config.go) and were seen on 20.10.24 and
26.1.5; tests/contract/ test_simulated_docker.py holds this model against the lab's real daemons. It
knows nothing of files, signals or containers.
"""

import json
from codecs import BOM_UTF8
from dataclasses import asdict, dataclass, field
from typing import Any

START_LIMIT = 3
"""Starts within START_WINDOW seconds after which systemd gives up (docker.service)."""
START_WINDOW = 60

KEPT_ON_RELOAD = (
    "registry-mirrors",
    "insecure-registries",
    "labels",
    "debug",
    "live-restore",
    "shutdown-timeout",
    "default-runtime",
    "default-shm-size",
    "default-ipc-mode",
)
"""Changed by a reload only where the file mentions them."""
RESET_ON_RELOAD = (
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "features",
)
"""Back to their default by a reload where the file does not mention them."""
AT_START = (
    "log-driver",
    "log-opts",
    "log-level",
    "dns",
    "dns-opts",
    "dns-search",
    "default-address-pools",
    "default-ulimits",
    "builder",
    "proxies",
    "metrics-addr",
    "userland-proxy",
    "init",
    "storage-driver",
    "data-root",
    "hosts",
    "bip",
    "exec-opts",
    "mtu",
)
DEFAULTS: dict[str, Any] = {
    "registry-mirrors": [],
    "insecure-registries": [],
    "labels": [],
    "debug": False,
    "live-restore": False,
    "shutdown-timeout": 15,
    "max-concurrent-downloads": 3,
    "max-concurrent-uploads": 5,
    "max-download-attempts": 5,
    "features": {},
    "experimental": False,
    "log-driver": "json-file",
    "default-runtime": "runc",
    "default-shm-size": 64 << 20,
    "default-ipc-mode": "private",
    "data-root": "/var/lib/docker",
    "storage-driver": "overlay2",
    "default-address-pools": [],
}
LOG_OPTS = ("max-size", "max-file", "compress", "tag", "labels", "env", "mode")
LOG_DRIVERS = ("json-file", "local", "journald", "syslog", "none", "fluentd", "gelf")


class Refused(Exception):
    """dockerd does not take the file; the text is what its log says."""


@dataclass
class Dockerd:
    """One daemon; every field can be stored as JSON between two calls."""

    version: str = "20.10.24"
    live: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(DEFAULTS)))
    running: bool = True
    log: list[str] = field(default_factory=list)
    events: list[list[Any]] = field(default_factory=list)
    """[time, attributes] of the reloads that were accepted."""
    starts: list[float] = field(default_factory=list)
    gave_up: bool = False
    reloads: int = 0
    restarts: int = 0
    in_swarm: bool = True
    flags: list[str] = field(default_factory=lambda: ["hosts"])
    """Keys that are flags on its command line, as the packages' unit has it: it takes no file with
    one of them."""
    images: dict[str, int] = field(default_factory=lambda: {"/var/lib/docker": 3})
    """Data root -> images in it. A root that is not here is empty, and knows of no swarm either:
    its state is in the root."""
    containerd_store: bool = False
    """Whether images are kept by containerd: then from 28.0 on it reads hosts.toml."""
    started_bare: bool = False
    """Started without a daemon.json: docker 20.10 then takes `experimental` over with a reload, and
    otherwise not (tried)."""

    def reload(self, data: bytes | None, now: float = 0.0) -> None:
        """A SIGHUP; it never fails, whatever its effect."""
        self.reloads += 1
        try:
            if (
                self._major < 23
                and data is not None
                and (not data.strip() or data.startswith(BOM_UTF8))
            ):
                raise Refused(
                    "EOF, or invalid character 'ï'"
                )  # seen on 20.10.24; 26.1.5 takes both
            found = self._read(data)
        except Refused as error:
            self.log.append(f'level=error msg="Error reloading configuration: {error}"')
            return
        for key in KEPT_ON_RELOAD:
            if key in found:
                self.live[key] = DEFAULTS[key] if found[key] is None else found[key]
        for key in RESET_ON_RELOAD:
            self.live[key] = found.get(key, DEFAULTS[key])
        if self._major < 23 and self.started_bare and "experimental" in found:
            self.live["experimental"] = found["experimental"]
        self.events.append([now, self.attributes()])

    def restart(self, data: bytes | None, now: float = 0.0) -> None:
        """What `systemctl restart` does: afterwards it runs with the file, or it does not run.
        Raises Refused."""
        self.restarts += 1
        self.running = False
        self.starts = [start for start in self.starts if now - start < START_WINDOW]
        if len(self.starts) >= START_LIMIT:
            self.gave_up = True
        if self.gave_up:
            raise Refused("start-limit-hit")
        self.starts.append(now)
        try:
            found = self._read(data)
            unknown = [name for name in found.get("log-opts", {}) if name not in LOG_OPTS]
            if unknown:
                raise Refused(f"failed to set log opts: unknown log opt '{unknown[0]}'")
            if found.get("live-restore") and self.in_swarm:
                raise Refused("--live-restore daemon configuration is incompatible with swarm mode")
        except Refused as error:
            self.log.append(f"failed to start daemon: {error}")
            raise
        self.live = {
            **json.loads(json.dumps(DEFAULTS)),
            **{key: value for key, value in found.items() if value is not None},
        }
        self.running = True
        self.started_bare = data is None

    def reset_failed(self) -> None:
        """`systemctl reset-failed`: systemd forgets how often it has started it."""
        self.gave_up = False
        self.starts = []

    def info(self) -> dict[str, Any]:
        """`docker info`, as far as anybody here asks."""
        return {
            "ServerVersion": self.version,
            "Debug": self.live["debug"],
            "Labels": self.live["labels"],
            "LiveRestoreEnabled": self.live["live-restore"],
            "ExperimentalBuild": self.live["experimental"],
            "LoggingDriver": self.live["log-driver"],
            "DockerRootDir": self.live["data-root"],
            "Driver": "overlayfs" if self.containerd_store else self.live["storage-driver"],
            "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]
            if self.containerd_store
            else [],
            "DefaultRuntime": self.live["default-runtime"],
            "Runtimes": {"runc": {"path": "runc"}, "io.containerd.runc.v2": {"path": "runc"}},
            "DefaultAddressPools": [
                {"Base": pool["base"], "Size": pool["size"]}
                for pool in self.live["default-address-pools"]
                if isinstance(pool, dict)
            ],
            "Plugins": {"Log": list(LOG_DRIVERS), "Authorization": None},
            "Swarm": {
                "LocalNodeState": "active" if self.is_member else "inactive",
                "NodeID": "id" if self.is_member else "",
                "ControlAvailable": False,
            },
            "Images": self.images.get(self.live["data-root"], 0),
            "RegistryConfig": {
                "Mirrors": [url.rstrip("/") + "/" for url in self.live["registry-mirrors"]],
                "InsecureRegistryCIDRs": ["127.0.0.0/8"],
                "IndexConfigs": {
                    name: {"Secure": False} for name in self.live["insecure-registries"]
                },
            },
        }

    @property
    def is_member(self) -> bool:
        """Whether this daemon finds its place in the swarm: that is kept in the data root."""
        return self.in_swarm and self.live["data-root"] in self.images

    def attributes(self) -> dict[str, str]:
        """Of the event that follows an accepted reload."""
        features = " ".join(
            f"{name}:{str(value).lower()}" for name, value in sorted(self.live["features"].items())
        )
        return {
            **{
                key: json.dumps(self.live[key])
                for key in (*KEPT_ON_RELOAD, *RESET_ON_RELOAD)
                if key != "features"
            },
            **{
                key: str(self.live[key])
                for key in ("default-runtime", "default-shm-size", "default-ipc-mode")
            },
            "features": f"map[{features}]",
        }

    def as_json(self) -> dict[str, Any]:
        """For storing."""
        return asdict(self)

    def _read(self, data: bytes | None) -> dict[str, Any]:
        found = read(data)
        both = [key for key in self.flags if key in found]
        if both:
            words = (
                "the following directives are specified both as a flag and in the"
                " configuration file"
            )
            raise Refused(f"{words}: {', '.join(both)}")
        return found

    @property
    def _major(self) -> int:
        return int(self.version.partition(".")[0])


def read(data: bytes | None) -> dict[str, Any]:
    """The file as dockerd reads it. Raises Refused with its words."""
    text = (data or b"").decode("utf-8-sig", errors="replace").strip()
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Refused(f"invalid character: {error}") from None
    if not isinstance(found, dict):
        raise Refused("json: cannot unmarshal into Go value of type map[string]interface {}")
    unknown = [key for key in found if key not in DEFAULTS and key not in AT_START]
    if unknown:
        raise Refused(
            f"the following directives don't match any configuration option: {', '.join(unknown)}"
        )
    for url in found.get("registry-mirrors") or []:
        if not str(url).startswith(("https://", "http://")):
            raise Refused(f'invalid mirror: "{url}"')
    return found
