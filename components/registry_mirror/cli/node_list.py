"""The list of nodes as configuration: what is in it stays as it is, and each member of the swarm
that is in no list gets an entry, like those that are there. Pure.

What a swarm says of its nodes is text of machines that may have been taken over: it is printed on
one line each, and in a comment or as a value.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from ..plain_text import one_line
from . import hostkeys
from .adopt.describe import field_of, node_names, python_text
from .deployed import Machine, Node
from .enrolment import Member

COMPARE = "ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub"
"""What says a machine's own fingerprint, on its console."""
_KEY_FILES = {"ssh-rsa": "rsa"} | dict.fromkeys(
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"), "ecdsa"
)
"""Type of a key -> what its file is named by; ed25519 for all others."""
_LIKE = ("user", "port", "become", "bastion")
"""Of the machines in the list: how ssh gets to them, and so to a new one."""


@dataclass(frozen=True)
class Entry:
    """A node of the list."""

    values: Mapping[str, Any]
    """With the keys of a stack's file."""
    member: Member | None = None
    """The node of the swarm that it is; None where that is not known."""
    is_new: bool = False
    remarks: Sequence[str] = field(default=())

    @property
    def comments(self) -> list[str]:
        """What a person reads above it."""
        about = [] if self.member is None or not self.is_new else [_about(self.member)]
        key = self.values.get("hostKey")
        to_compare = []
        if self.is_new and isinstance(key, str):
            file = COMPARE % _KEY_FILES.get(key.split()[0], "ed25519")
            to_compare = [f"Compare its key on its own console: {file}"]
            to_compare.append(f"  must say {hostkeys.fingerprint(key)}")
        return [one_line(text, 300) for text in (*about, *to_compare, *self.remarks)]


def _about(member: Member) -> str:
    labels = ", ".join(f"{key}={value}" for key, value in sorted(member.labels.items()))
    drained = "" if member.availability == "active" else f", {member.availability}"
    return (
        f"New: {member.name}, {member.role}, docker {member.engine or 'unknown'}{drained}"
        f"{', labels ' + labels if labels else ''}"
    )


def listed(node: Node, given: Mapping[str, Any] | None, *, with_key_file: bool) -> dict[str, Any]:
    """The entry of a node that is in the list: as the stack's file has it, where that is `given`,
    else from the state. `with_key_file`: whether its key file is its own."""
    if given is not None:
        return dict(given)
    settings = node.settings
    daemon_json, unit = settings.get("daemon_json"), settings.get("service")
    values = {
        "name": node.name,
        **_way(node.environment.get("MIRROR_SSH", "")),
        "become": node.environment.get("MIRROR_BECOME"),
        "hostKey": node.environment.get("MIRROR_HOST_KEY"),
        "sshPrivateKeyFile": node.environment.get("MIRROR_KEY_FILE") if with_key_file else None,
        "bastion": bastion_of(node),
        "daemonJson": None if daemon_json == "/etc/docker/daemon.json" else daemon_json,
        "service": None if unit == "docker" else unit,
    }
    return {key: value for key, value in values.items() if value is not None}


def bastion_of(machine: Machine) -> dict[str, Any] | None:
    """The machine by way of which ssh gets there; None where it goes straight."""
    url = machine.environment.get("MIRROR_BASTION")
    if not url:
        return None
    key = machine.environment.get("MIRROR_BASTION_HOST_KEY")
    return {**_way(url), **({"hostKey": key} if key else {})}


def _way(url: str) -> dict[str, Any]:
    """Address, and user and port where they are not the usual ones."""
    parts = urlsplit(url)
    user, port = unquote(parts.username or "root"), parts.port or 22
    return {
        "address": parts.hostname or "",
        **({} if user == "root" else {"user": user}),
        **({} if port == 22 else {"port": port}),
    }


def like(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How ssh gets to most machines of the list."""
    ways = [json.dumps({key: entry.get(key) for key in _LIKE}) for entry in entries]
    if not ways:
        return {}
    ((most, _),) = Counter(ways).most_common(1)
    return {key: value for key, value in json.loads(most).items() if value is not None}


def named(members: Sequence[Member], taken: Sequence[str]) -> dict[str, str]:
    """Id of each member -> a name that no entry has."""
    plain = node_names([member.name for member in members])
    names: dict[str, str] = {}
    for member in members:
        name, number = plain[member.name], 1
        while name in (*taken, *names.values()):
            number += 1
            name = f"{plain[member.name]}-{number}"
        names[member.id] = name
    return names


def new_entry(name: str, member: Member, way: Mapping[str, Any], key: str | None) -> Entry:
    """The entry of a member that is in no list. `key`: its host key, as it was scanned just now."""
    values = {"name": name, "address": member.address, **way}
    if key is not None:
        return Entry({**values, "hostKey": key}, member, is_new=True)
    where = "from its bastion" if "bastion" in way else "it did not answer"
    return Entry(
        values,
        member,
        is_new=True,
        remarks=[f"Its hostKey is not known ({where}); enter it, from its console"],
    )


def as_yaml(entries: Sequence[Entry], project: str, notes: Sequence[str] = ()) -> str:
    """For a stack's file."""
    lines = [*(f"# {one_line(note, 300)}" for note in notes), "config:", f"  {project}:nodes:"]
    for entry in entries:
        lines += [f"    # {comment}" for comment in entry.comments]
        text = yaml.safe_dump([dict(entry.values)], sort_keys=False, allow_unicode=False, width=200)
        lines += [f"    {line}" for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def as_python(entries: Sequence[Entry], notes: Sequence[str] = ()) -> str:
    """For a Pulumi program in Python."""
    lines = [*(f"# {one_line(note, 300)}" for note in notes), "nodes=["]
    for entry in entries:
        lines += [f"    # {comment}" for comment in entry.comments]
        lines.append(f"    {_call('SwarmNode', entry.values)},")
    return "\n".join([*lines, "]"]) + "\n"


def _call(name: str, values: Mapping[str, Any]) -> str:
    arguments = [
        f"{field_of(key)}="
        + (_call("Bastion", value) if isinstance(value, dict) else python_text(value))
        for key, value in values.items()
    ]
    return f"{name}({', '.join(arguments)})"


def as_json(entry: Entry) -> dict[str, Any]:
    """For scripts."""
    member = entry.member
    key = entry.values.get("hostKey")
    return {
        "entry": dict(entry.values),
        "is_new": entry.is_new,
        "fingerprint": hostkeys.fingerprint(key)
        if isinstance(key, str) and not key.startswith("@")
        else None,
        "member": None
        if member is None
        else {
            "id": member.id,
            "name": member.name,
            "role": member.role,
            "engine": member.engine,
            "labels": dict(member.labels),
        },
        "remarks": list(entry.remarks),
    }
