"""The guard's service on a manager: made, changed and removed over docker's own API. Standard library only.

The docker plugin knows no mount whose folder is made where it is missing (`CreateMountpoint`, docker 25), and a machine that has
just joined has no certs.d. Owns the service that carries its label, and no other of that name.
"""

import hashlib
import http.client
import json
import socket
from typing import Any, Dict, Optional, Tuple
from urllib.parse import quote

from . import dockerd_view, hosts
from .files import Failed

LABEL = "swarm-registry-mirror.guard"
"""On the service; its value is the name of the mirror's service."""

MIB = 1024 * 1024
SECOND = 1000000000
MEMORY = 16 * MIB
"""It was seen to take 2; with the client of Alpine's image some more."""

OLDEST_API = (1, 44)
"""Of a manager that hands `CreateMountpoint` on (moby daemon/cluster/convert/container.go, docker 25)."""

OPT_OUT = "node.labels.registry-mirror-guard != off"
"""A constraint: a machine with this label has no guard."""


def apply(request: Dict[str, Any]) -> str:
    """Have the service as `request` says; returns `unchanged`, `created` or `updated`. Raises Failed.

    `name`, `owner`, `image`, `script`, `arguments`.
    """
    found, spec = _service(request), service_spec(request)
    if found is None:
        version = _version()
        if version < OLDEST_API:
            words = "nothing was changed: guard needs docker 25 or later on the manager, which speaks API %d.%d here"
            raise Failed(words % version)
        _ask("POST", "/services/create", spec)
        return "created"
    if (found["Spec"].get("Labels") or {}) == spec["Labels"]:
        return "unchanged"
    path = "/services/%s/update?version=%d" % (found["ID"], found["Version"]["Index"])
    _ask("POST", path, spec)
    return "updated"


def remove(request: Dict[str, Any]) -> str:
    """Remove the service; returns `removed` or `nothing to remove`. Raises Failed."""
    found = _service(request)
    if found is None:
        return "nothing to remove"
    _ask("DELETE", "/services/" + found["ID"])
    return "removed"


def service_spec(request: Dict[str, Any]) -> Dict[str, Any]:
    """The service as docker's API takes it (moby api/types/swarm). Pure.

    docker adds defaults to what it is given, so a label says what that was.
    """
    given = hashlib.sha256(json.dumps([request[key] for key in ("image", "script", "arguments")]).encode()).hexdigest()
    return {
        "Name": request["name"],
        "Labels": {LABEL: request["owner"], LABEL + ".spec": given},
        "Mode": {"Global": {}},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": request["image"],
                "Command": ["/bin/sh", "-c", request["script"], "guard", *request["arguments"]],
                "Mounts": [
                    {
                        "Type": "bind",
                        "Source": hosts.CERTS,
                        "Target": "/certs",
                        "BindOptions": {"CreateMountpoint": True},
                    },
                    {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"SizeBytes": MIB}},
                ],
                "ReadOnly": True,
                "CapabilityDrop": ["ALL"],
                "StopGracePeriod": 15 * SECOND,
            },
            "Resources": {"Limits": {"MemoryBytes": MEMORY}},
            "RestartPolicy": {"Condition": "any", "Delay": 5 * SECOND},
            "Placement": {"Constraints": ["node.platform.os == linux", OPT_OUT]},
            # The machine's own: names are found as its dockerd finds them, and nothing lies in between.
            "Networks": [{"Target": "host"}],
        },
    }


def _service(request: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """The service of this name; None if there is none. Raises Failed if it is not ours."""
    status, body = _request("GET", "/services/%s" % quote(request["name"], ""))
    if status == 404:
        return None
    if status != 200:
        raise Failed("nothing was changed: docker says of the service %s: %s" % (request["name"], _message(body)))
    found: Dict[str, Any] = json.loads(body)
    if (found["Spec"].get("Labels") or {}).get(LABEL) != request["owner"]:
        raise Failed("nothing was changed: the service %s is somebody else's; choose another serviceName" % request["name"])
    return found


def _version() -> Tuple[int, int]:
    status, body = _request("GET", "/version")
    if status != 200:
        raise Failed("nothing was changed: docker does not answer: %s" % _message(body))
    major, _, minor = str(json.loads(body)["ApiVersion"]).partition(".")
    return int(major), int(minor)


def _ask(method: str, path: str, body: Optional[Dict[str, Any]] = None) -> None:
    status, answer = _request(method, path, body)
    if status not in (200, 201, 204):
        raise Failed("nothing was changed: docker does not take the guard's service: %s" % _message(answer))


def _request(method: str, path: str, body: Optional[Dict[str, Any]] = None) -> Tuple[int, str]:
    address = dockerd_view.socket_path()
    if address is None:
        raise Failed("nothing was changed: docker's socket is not on this machine")
    connection = dockerd_view.Local(address)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Host": "docker", "Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException, socket.timeout) as error:
        raise Failed("nothing was changed: docker's API does not answer: %s" % error) from None
    finally:
        connection.close()


def _message(body: str) -> str:
    return dockerd_view.message(body.encode())
