"""What nodes and managers answer to the command, where there is no swarm."""

from typing import Any

SAYS = {
    "engine": "26.1.5",
    "way": "daemon.json",
    "listed": True,
    "used": True,
    "recorded": True,
    "edited": False,
    **{key: [] for key in ("due", "faults", "hazards", "mirror_faults", "swarm_faults")},
    "registries": [],
    "guard_out": False,
}
"""What a healthy node says, but for its id."""


def answer(identity: str, name: str, **more: Any) -> dict[str, Any]:
    """A member as the agent on the manager says it."""
    usual = {
        "address": f"{name}.test",
        "role": "worker",
        "availability": "active",
        "ready": True,
        "reachable": False,
        "leader": False,
        "held": "",
        "version": 1,
        "engine": "26.1.5",
        "os": "linux",
        "labels": {},
        "guarded": False,
    }
    return {"id": identity, "name": name, **usual, **more}


def inspected(identity: str, name: str, address: str, role: str = "worker") -> dict[str, Any]:
    """A node as `docker node inspect` has it."""
    return {
        "ID": identity,
        "Version": {"Index": 3},
        "Description": {
            "Hostname": name,
            "Engine": {"EngineVersion": "29.1.0"},
            "Platform": {"OS": "linux"},
        },
        "Spec": {"Role": role, "Availability": "active", "Labels": {}},
        "Status": {"State": "ready", "Addr": address},
    }
