"""The guard's service on a manager: made, changed and removed over docker's own API. Standard
library only.

A machine that has just joined has no certs.d, and swarm makes no folder for a mount: managers lose
`CreateMountpoint` on the way (seen on 26.1.5; moby daemon/cluster/convert/container.go reads it and
writes it nowhere). So a second global service makes the folder: its tasks are over at once and are
not begun again, and a machine that joins gets one. (A job of swarm does not come to machines that
join; seen on 26.1.5.) Only that one sees /etc. Owns the services that carry its label, and no other
of their names.
"""

import hashlib
import http.client
import json
import socket
from typing import Any, Dict, Optional, Tuple
from urllib.parse import quote

from . import dockerd_view, hosts
from .files import Failed
from .request import GuardRequest

LABEL = "swarm-registry-mirror.guard"
"""On the service; its value is the name of the mirror's service."""

MIB = 1024 * 1024
SECOND = 1000000000
MEMORY = 16 * MIB
"""It was seen to take 2; with the client of Alpine's image some more."""

OPT_OUT = "node.labels.registry-mirror-guard != off"
"""A constraint: a machine with this label has no guard."""


def apply(request: GuardRequest) -> str:
    """Have the service as `request` says; returns `unchanged`, `created` or `updated`. Raises
    Failed.

    `name`, `owner`, `image`, `script`, `arguments`.
    """
    there = {
        spec["Name"]: _service(spec["Name"], request.owner)
        for spec in (folder_spec(request), service_spec(request))
    }
    _apply(there[request.name + "-folder"], folder_spec(request))
    return _apply(there[request.name], service_spec(request))


def _apply(found: Optional[Dict[str, Any]], spec: Dict[str, Any]) -> str:
    if found is None:
        _ask("POST", "/services/create", spec)
        return "created"
    if (found["Spec"].get("Labels") or {}) == spec["Labels"]:
        return "unchanged"
    path = "/services/%s/update?version=%d" % (found["ID"], found["Version"]["Index"])
    _ask("POST", path, spec)
    return "updated"


def remove(request: GuardRequest) -> str:
    """Remove the service; returns `removed` or `nothing to remove`. Raises Failed."""
    names = [spec["Name"] for spec in (service_spec(request), folder_spec(request))]
    there = [
        found for found in (_service(name, request.owner) for name in names) if found is not None
    ]
    for found in there:
        _ask("DELETE", "/services/" + found["ID"])
    return "removed" if there else "nothing to remove"


def folder_spec(request: GuardRequest) -> Dict[str, Any]:
    """The service that has certs.d be there, on each machine once. Pure."""
    container = {
        "Image": request.image,
        "Command": ["mkdir", "-p", "/host" + hosts.CERTS[len("/etc") :]],
        "Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/host"}],
        "ReadOnly": True,
        "CapabilityDrop": ["ALL"],
    }
    return _spec(request, request.name + "-folder", {"Global": {}}, container, "on-failure")


def service_spec(request: GuardRequest) -> Dict[str, Any]:
    """The guard as docker's API takes it (moby api/types/swarm). Pure."""
    container = {
        "Image": request.image,
        "Command": ["/bin/sh", "-c", request.script, "guard", *request.arguments],
        "Mounts": [
            {"Type": "bind", "Source": hosts.CERTS, "Target": "/certs"},
            {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"SizeBytes": MIB}},
        ],
        "ReadOnly": True,
        "CapabilityDrop": ["ALL"],
        "StopGracePeriod": 15 * SECOND,
    }
    return _spec(request, request.name, {"Global": {}}, container, "any")


def _spec(
    request: GuardRequest, name: str, mode: Dict[str, Any], container: Dict[str, Any], again: str
) -> Dict[str, Any]:
    """docker adds defaults to what it is given, so a label says what that was."""
    given = hashlib.sha256(json.dumps(container, sort_keys=True).encode()).hexdigest()
    return {
        "Name": name,
        "Labels": {LABEL: request.owner, LABEL + ".spec": given},
        "Mode": mode,
        "TaskTemplate": {
            "ContainerSpec": container,
            "Resources": {"Limits": {"MemoryBytes": MEMORY}},
            "RestartPolicy": {"Condition": again, "Delay": 5 * SECOND},
            "Placement": {"Constraints": ["node.platform.os == linux", OPT_OUT]},
            # The machine's own: names are found as its dockerd finds them, and nothing lies in
            # between.
            "Networks": [{"Target": "host"}],
        },
    }


def _service(name: str, owner: str) -> Optional[Dict[str, Any]]:
    """The service of this name; None if there is none. Raises Failed if it is not ours."""
    status, body = _request("GET", "/services/%s" % quote(name, ""))
    if status == 404:
        return None
    if status != 200:
        raise Failed(
            ("nothing was changed: docker says of the service %s: %s [RM045]")
            % (name, _message(body))
        )
    found: Dict[str, Any] = json.loads(body)
    if (found["Spec"].get("Labels") or {}).get(LABEL) != owner:
        raise Failed(
            (
                "nothing was changed: the service %s is somebody else's; choose another serviceName"
                " [RM046]"
            )
            % name
        )
    return found


def _ask(method: str, path: str, body: Optional[Dict[str, Any]] = None) -> None:
    status, answer = _request(method, path, body)
    if status not in (200, 201, 204):
        raise Failed(
            ("nothing was changed: docker does not take the guard's service: %s [RM047]")
            % _message(answer)
        )


def _request(method: str, path: str, body: Optional[Dict[str, Any]] = None) -> Tuple[int, str]:
    address = dockerd_view.socket_path()
    if address is None:
        raise Failed("nothing was changed: docker's socket is not on this machine [RM048]")
    connection = dockerd_view.Local(address)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(
            method, path, data, {"Host": "docker", "Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException, socket.timeout) as error:
        raise Failed(
            ("nothing was changed: docker's API does not answer: %s [RM049]") % error
        ) from None
    finally:
        connection.close()


def _message(body: str) -> str:
    return dockerd_view.message(body.encode())
