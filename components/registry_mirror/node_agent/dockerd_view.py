"""How the running dockerd gets to the mirror, which may be another way than this program's: its
proxy, its authorities, its word.

Owns the question that settles it: dockerd itself is asked for a manifest by the mirror's own name
(`refusal`). Changes nothing.
"""

import http.client
import ipaddress
import json
import os
import socket
from typing import Any, Dict, List, Mapping, Optional
from urllib.parse import urlsplit

from . import daemon_json, engine, probe

ASK_SECONDS = 45
"""For dockerd to ask the mirror: it gives a connection 30 s and the TLS handshake 10 (moby
distribution/registry.go)."""

SYSTEM_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where dockerd finds the system's authorities (Go crypto/x509/root_linux.go); it reads the first
that is there, once."""

LOCAL = ("localhost",)


def refusal(url: str, image: str, info: Dict[str, Any], unit: str, text: str) -> Optional[str]:
    """Why the running dockerd does not get `image` (like library/hello-world:latest) from the
    mirror; None if it does.

    dockerd is asked for the image by the mirror's own name (`GET /distribution/…/json`). That name
    has one endpoint and no other to fall back to, with the proxy, the authorities and the resolver
    that the same host gets as a mirror (moby registry/service_v2.go `lookupV2Endpoints`). So 200 is
    the mirror's answer, before the node is configured and after. None too where docker's socket is
    not on this machine.
    """
    address = socket_path()
    if address is None:
        return None
    host = urlsplit(url).netloc
    connection = Local(address)
    try:
        connection.request(
            "GET", "/distribution/%s/%s/json" % (host, image), headers={"Host": "docker"}
        )
        answer = connection.getresponse()
        body = answer.read(65536)
    except socket.timeout:
        status, reason = 0, "no answer within %d s" % ASK_SECONDS
    except (OSError, http.client.HTTPException) as error:
        status, reason = 0, str(error)
    else:
        status, reason = answer.status, message(body)
    finally:
        connection.close()
    if status == 200:
        return None
    words = (
        "docker itself does not get %s from %s, though this machine's other programs do: %s [RM033]"
    )
    return words % (image, url, " ".join(reason.split())[:300]) + _remedy(url, info, unit, text)


def _remedy(url: str, info: Dict[str, Any], unit: str, text: str) -> str:
    """What differs between dockerd's view and this program's, with what to do."""
    host = urlsplit(url).hostname or ""
    proxy = proxy_of(url, info, unit, text)
    if proxy is not None:
        return (
            "; it goes there through its proxy %s: " % probe.without_password(proxy)
            + probe.NO_PROXY % host
        )
    started = started_at(unit)
    bundle = next((path for path in SYSTEM_AUTHORITIES if os.path.exists(path)), None)
    if bundle is not None and started is not None and os.path.getmtime(bundle) > started:
        words = (
            "; %s is newer than the running docker, which reads it at its start only: restart"
            " docker, or put the authority in "
        )
        return (
            words % bundle
            + ("/etc/docker/certs.d/%s/ca.crt, which it reads each time [RM034]")
            % urlsplit(url).netloc
        )
    return "; nothing that is known here differs for it, so see its log (journalctl -u %s)" % unit


def proxy_of(url: str, info: Dict[str, Any], unit: str, text: str) -> Optional[str]:
    """URL, with its account, of the proxy through which dockerd goes to `url`; None where it goes
    there directly.

    `info`: `docker info`, which shows what dockerd took over at its start. `text`: daemon.json,
    which may have the account.
    """
    shown = str(info.get("HttpsProxy") or "")
    if not shown or not goes_through_proxy(urlsplit(url), str(info.get("NoProxy") or "")):
        return None
    shown = shown if "://" in shown else "http://" + shown
    # What docker shows has the account struck out; where that comes from has it (since docker 23
    # the file may, too).
    for candidate in _sources(unit, text):
        full = candidate if "://" in candidate else "http://" + candidate
        if probe.without_password(full) == probe.without_password(shown):
            return full
    return shown


def goes_through_proxy(url: Any, no_proxy: str) -> bool:
    """Whether Go's HTTP client uses its proxy for `url` (golang.org/x/net/http/httpproxy
    `useProxy`). Pure."""
    host = (url.hostname or "").lower()
    port = str(url.port or 443)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host in LOCAL or (address is not None and address.is_loopback):
        return False
    return not any(
        _excepts(entry.strip().lower(), host, port, address) for entry in no_proxy.split(",")
    )


def _excepts(entry: str, host: str, port: str, address: Any) -> bool:
    """Whether one entry of NO_PROXY is about this host."""
    if not entry:
        return False
    if entry == "*":
        return True
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    else:
        return address is not None and address in network
    name, _, wanted = entry.partition(":")
    if wanted and wanted != port:
        return False
    if name.startswith("*."):
        name = name[1:]
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith("." + name)


def started_at(unit: str) -> Optional[float]:
    """When the running dockerd was started, as seconds since 1970; None where it cannot be found
    out."""
    try:
        with open("/proc/%s/stat" % engine.pid(unit)) as file:
            # proc(5): field 22, in clock ticks after the boot; the second field may hold spaces and
            # ends with a bracket.
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/stat") as file:
            booted = next(int(line.split()[1]) for line in file if line.startswith("btime "))
    except (OSError, ValueError, IndexError, StopIteration, engine.EngineProblem):
        return None
    return booted + ticks / os.sysconf("SC_CLK_TCK")


def _sources(unit: str, text: str) -> List[str]:
    """Where dockerd may have its proxy from: its environment, and `proxies` in daemon.json (since
    docker 23)."""
    environment = _environment(unit)
    found = [environment[name] for name in ("HTTPS_PROXY", "https_proxy") if environment.get(name)]
    try:
        configured = daemon_json.values(text).get("proxies")
    except daemon_json.Refused:  # reported where the file itself is checked
        configured = None
    if isinstance(configured, dict) and isinstance(configured.get("https-proxy"), str):
        found.append(configured["https-proxy"])
    return found


def _environment(unit: str) -> Mapping[str, str]:
    """Environment with which dockerd was started; empty where it cannot be read."""
    try:
        with open("/proc/%s/environ" % engine.pid(unit), "rb") as file:
            words = file.read().decode(errors="replace").split("\0")
    except (OSError, engine.EngineProblem):
        return {}
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def socket_path() -> Optional[str]:
    """Path of the socket of this machine's docker; None where it is none."""
    try:
        host = engine.run("docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    except engine.EngineProblem:
        return None
    return host[len("unix://") :] if host.startswith("unix://") else None


class Local(http.client.HTTPConnection):
    """HTTP over docker's socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=ASK_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ASK_SECONDS)
        self.sock.connect(self._path)


def message(body: bytes) -> str:
    """dockerd's own words (its errors are `{"message": …}`)."""
    text = body.decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return text
