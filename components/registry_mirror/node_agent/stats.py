"""What the mirror has done, as far as this machine knows: the registry's and Varnish's own
counters, and Docker Hub's quota.

Changes nothing. Each machine answers for the containers that run on it; the answers of all of them
together are the whole.
"""

import http.client
import json
import math
import os
import re
import ssl
import urllib.request
from typing import Dict, Optional, Tuple

from . import engine
from .request import StatsRequest

QUOTA_TOKEN = "https://auth.docker.io/token?service=registry.docker.io&scope=repository:ratelimitpreview/test:pull"
QUOTA_PROBE = "https://registry-1.docker.io/v2/ratelimitpreview/test/manifests/latest"
"""Docker's own way to ask for the pulls that are left, which counts as none
(docs.docker.com/docker-hub/usage/pulls)."""
QUOTA_SECONDS = 5
TOKEN_BYTES = 64 * 1024
"""Of Docker's answer; a token has a few kilobytes."""

_COUNTER = re.compile(
    r'^registry_proxy_(\w+?)(?:_total)?\{type="(\w+)"\} ([0-9.e+]+)$', re.MULTILINE
)


def look(request: StatsRequest) -> str:
    """JSON of what is known here: `registry`, `varnish`, `quota`, and `cached` (bytes) where
    `cache_path` is asked for."""
    registry = _inside(request.service, "wget", "-q", "-O", "-", request.metrics)
    varnish = (
        _inside(request.front, "varnishstat", "-n", "/tmp/varnish", "-j") if request.front else None
    )
    found = {
        "registry": None if registry is None else counters(registry),
        "varnish": None if varnish is None else hits(varnish),
        # From where the registry runs, because the upstream counts by address.
        "quota": quota() if registry is not None and request.hub else None,
        "cached": disk_use(request.cache_path) if request.cache_path else None,
    }
    return json.dumps(found)


def counters(text: str) -> Dict[str, int]:
    """The registry's counters of its Prometheus text, blobs and manifests together
    (registry/proxy/proxymetrics.go).

    A value that is no number, or none that can be counted to, is left out.
    """
    found: Dict[str, int] = {}
    for name, _, value in _COUNTER.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):
            found[name] = found.get(name, 0) + int(number)
    return found


def hits(text: str) -> Optional[Dict[str, int]]:
    """Varnish's hits and misses of what `varnishstat -j` prints, and `disk`: bytes of disk that it
    has for large layers.

    None where that cannot be read.
    """
    try:
        report = json.loads(text)
        values = report.get("counters", report)  # newer ones have them apart
        found = {name: int(values["MAIN.cache_" + name]["value"]) for name in ("hit", "miss")}
        # A store on disk counts under SMF; without one there is another kind of store by that name
        # (start-varnish.sh).
        parts = [
            values.get("SMF.disk." + name, {"value": 0})["value"] for name in ("g_bytes", "g_space")
        ]
        found["disk"] = sum(int(part) for part in parts)
        return found
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def quota() -> Optional[Dict[str, int]]:
    """Pulls that Docker Hub still grants this address and how many it grants in all; None where it
    does not say."""
    context = ssl.create_default_context()
    try:
        with urllib.request.urlopen(QUOTA_TOKEN, timeout=QUOTA_SECONDS, context=context) as answer:
            token = json.loads(answer.read(TOKEN_BYTES))["token"]
        probe = urllib.request.Request(
            QUOTA_PROBE, method="HEAD", headers={"Authorization": "Bearer " + token}
        )
        with urllib.request.urlopen(probe, timeout=QUOTA_SECONDS, context=context) as answer:
            return granted(
                answer.headers.get("ratelimit-remaining"), answer.headers.get("ratelimit-limit")
            )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, http.client.HTTPException):
        return None


def granted(remaining: Optional[str], limit: Optional[str]) -> Optional[Dict[str, int]]:
    """`87;w=21600` and `100;w=21600` as numbers; None where the account has no limit."""
    if not remaining or not limit:
        return None
    left, allowed = _first(remaining), _first(limit)
    return {"left": left[0], "of": allowed[0], "hours": allowed[1] // 3600}


def _first(value: str) -> Tuple[int, int]:
    number, _, window = value.partition(";w=")
    return int(number), int(window or 0)


def disk_use(path: str) -> int:
    """Bytes of the files below `path`."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:  # it went while we looked
                continue
    return total


def _inside(service: str, *command: str) -> Optional[str]:
    """Output of a command in the service's container on this machine; None where there is none."""
    label = "label=com.docker.swarm.service.name=" + service
    names = engine.run("docker", "ps", "--quiet", "--filter", label).split()
    return engine.run("docker", "exec", names[0], *command) if names else None
