"""Asks a swarm what is there, with the `ssh` program and the settings that the user has for it.
Changes nothing."""

import base64
import json
import re
import secrets
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ... import answer, ssh
from ...plain_text import one_line
from .describe import (
    AdoptError,
    Found,
    Machine,
    config_path,
    config_target,
    environment,
    mirror_among,
    settings_of,
)
from .registry_config import RegistryConfig

ANSWER_SECONDS = 120
_ASK = """
all() { what=$1; shift; [ $# -gt 0 ] && docker "$what" inspect "$@" || echo '[]'; }
docker info --format '{{json .Swarm.NodeID}}'
all service $(docker service ls --quiet)
all node $(docker node ls --quiet)
all network $(docker network ls --filter driver=overlay --quiet)
"""
DAEMON_FILES = ("/etc/docker/daemon.json", "/etc/docker-latest/daemon.json")
_HOSTS_FILE = re.compile(r"/etc/docker/certs\.d/([A-Za-z0-9.:_-]+)/hosts\.toml")
"""Its folder is the registry's name, or `_default`."""


@dataclass(frozen=True)
class Ssh:
    """How to reach machines: the account on the manager that is asked, and that on the other
    machines.

    `options`: for `ssh`, beside those of every connection (`components/registry_mirror/ssh.py`).
    """

    options: Sequence[str]
    manager_user: str
    users: Mapping[str, str]
    """Machine name -> account; `""` is for those that are not named."""

    def user(self, machine: str) -> str:
        """The account on a machine, by its host name or the first label of that."""
        return next(
            (
                self.users[name]
                for name in (machine, machine.partition(".")[0], "")
                if name in self.users
            ),
            "root",
        )

    def __call__(self, address: str, user: str, script: str) -> str:
        """Output of a shell script there. Raises AdoptError with ssh's or the script's own last
        words.

        The script goes to a `sh` on stdin, so the command line is two words that every login shell
        understands; what is ours of the output stands between two marks that nobody can have
        guessed.
        """
        argv = ["ssh", *ssh.options(), *self.options, "-l", user, "--", address]
        mark = secrets.token_hex(16)
        whole = f"set -e\necho {mark}\n{script}\necho; echo {mark}\n"
        try:
            done = subprocess.run(
                [*argv, "sh -s"],
                input=whole.encode(),
                capture_output=True,
                check=False,
                timeout=ANSWER_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise AdoptError(f"{user}@{address}: no answer within {ANSWER_SECONDS} s") from None
        output, errors = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        parts = output.split(f"{mark}\n")
        if done.returncode != 0:
            raise AdoptError(f"{user}@{address}: {answer.complaint(errors, done.returncode)}")
        if len(parts) != 3:
            raise AdoptError(
                f"{user}@{address}: it ran nothing and said {one_line(output, 200)!r}; does its"
                " login shell run commands?"
            )
        return parts[1]


def find(reach: Ssh, manager: str, service_name: str | None) -> Found:
    """The mirror of the swarm that `manager` (an address) belongs to. Raises AdoptError."""
    user = reach.manager_user
    try:
        own_id, services, nodes, networks = json_values(reach(manager, user, _ASK))
    except ValueError:
        raise AdoptError(
            f"{user}@{manager}: docker's answer is not what docker answers on a manager of a swarm"
        ) from None
    service = mirror_among(services, service_name)
    notes: list[str] = []
    machines = _machines(reach, manager, own_id, _usable(nodes, own_id, notes))
    task_node = _task_node(reach, manager, user, service)
    mirror = settings_of(
        service,
        config=_config(reach, manager, user, service),
        services=services,
        networks={network["Id"]: network["Name"] for network in networks},
        machines=machines,
        manager=next(machine.name for machine in machines if machine.id == own_id),
        runs_on=next((machine for machine in machines if machine.id == task_node), None),
    )
    return Found(mirror.service_id, mirror.values, [*mirror.notes, *map(one_line, notes)])


def find_service(reach: Ssh, manager: str, service_name: str | None) -> Mapping[str, Any]:
    """The mirror's service, as docker describes it, without a look at other machines. Raises
    AdoptError."""
    try:
        _, services, *_ = json_values(reach(manager, reach.manager_user, _ASK))
    except ValueError:
        raise AdoptError(
            f"{reach.manager_user}@{manager}: docker's answer is not what docker answers on a"
            " manager of a swarm"
        ) from None
    return mirror_among(services, service_name)


def json_values(text: str) -> list[Any]:
    """The JSON values that stand one after the other in a text."""
    decoder, values, place = json.JSONDecoder(), [], 0
    text = text.strip()
    while place < len(text):
        value, place = decoder.raw_decode(text, place)
        values.append(value)
        while place < len(text) and text[place].isspace():
            place += 1
    return values


def _usable(
    nodes: Sequence[Mapping[str, Any]], own_id: str, notes: list[str]
) -> list[Mapping[str, Any]]:
    """The nodes that are up, each once; what is left out is noted."""
    up = [node for node in nodes if node["ID"] == own_id or node["Status"].get("State") == "ready"]
    if own_id not in [node["ID"] for node in up]:
        raise AdoptError(
            "the machine that was asked is not among the nodes of the swarm; is it a manager?"
        )
    names = [_hostname(node) for node in up]
    for node in nodes:
        if node in up:
            continue
        name = _hostname(node)
        if name in names:
            notes.append(
                f"the swarm has {name} twice; the one that is down is left out (`docker node rm"
                f" {node['ID']}` forgets it)"
            )
        else:
            notes.append(f"{name} is down and left out; add it to nodes when it is back")
    return up


def _machines(
    reach: Ssh, manager: str, own_id: str, nodes: Sequence[Mapping[str, Any]]
) -> list[Machine]:
    """Each node, asked for its files. Raises AdoptError that names every node which could not
    be."""
    machines: list[Machine] = []
    faults: list[str] = []
    for node in nodes:
        hostname, own = _hostname(node), node["ID"] == own_id
        # Two machines may have one name; then the name alone does not tell them apart.
        name = (
            f"{hostname}-{node['ID'][:8]}"
            if hostname in [machine.name for machine in machines]
            else hostname
        )
        user = reach.manager_user if own else reach.user(hostname)
        try:
            address = manager if own else _address(node)
            daemon_json, hosts_toml = _files(reach, address, user)
            machines.append(Machine(name, address, daemon_json, user, node["ID"], hosts_toml))
        except AdoptError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise AdoptError("; ".join(map(one_line, faults)))
    return machines


def _hostname(node: Mapping[str, Any]) -> str:
    return str(node.get("Description", {}).get("Hostname") or node["ID"])


def _address(node: Mapping[str, Any]) -> str:
    """Where the swarm reaches a node; a manager may call its own address 0.0.0.0."""
    address = str(node["Status"].get("Addr", ""))
    if address in ("", "0.0.0.0"):
        address = (
            str((node.get("ManagerStatus") or {}).get("Addr", "")).rpartition(":")[0].strip("[]")
        )
    if not address or address.startswith("-"):
        raise AdoptError("the swarm does not know its address")
    return address


def _files(reach: Ssh, address: str, user: str) -> tuple[dict[str, str], dict[str, str]]:
    """Of what is there and may be read: path -> text of the daemon.json, and registry -> text of
    its hosts.toml."""
    script = (
        f"for file in {' '.join(DAEMON_FILES)} /etc/docker/certs.d/*/hosts.toml; do\n"
        'if [ -r "$file" ]; then echo "$file $(base64 < "$file" | tr -d "\\n")"; fi\n'
        "done\n"
    )
    daemon_json, hosts_toml = {}, {}
    for line in reach(address, user, script).splitlines():
        path, _, encoded = line.partition(" ")
        registry = _HOSTS_FILE.fullmatch(path)
        if path in DAEMON_FILES or registry is not None:
            text = base64.b64decode(encoded).decode(errors="replace")
            if registry is None:
                daemon_json[path] = text
            else:
                hosts_toml[registry[1]] = text
    return daemon_json, hosts_toml


def _task_node(reach: Ssh, manager: str, user: str, service: Mapping[str, Any]) -> str:
    """Id of the node of the service's newest task that is to run; empty if there is none."""
    script = (
        "task=$(docker service ps --quiet --no-trunc --filter desired-state=running"
        f" {shlex.quote(service['ID'])} | head -n 1)\n"
        '[ -z "$task" ] || docker inspect --type task --format \'{{.NodeID}}\' "$task"'
    )
    return reach(manager, user, script).strip()


def _config(reach: Ssh, manager: str, user: str, service: Mapping[str, Any]) -> str:
    """The registry's configuration: a file on the shared storage, or a Swarm config; empty where
    its environment says all."""
    path = config_path(service)
    if path is not None:
        return reach(manager, user, f"cat {shlex.quote(path)}")
    for config in service["Spec"]["TaskTemplate"]["ContainerSpec"].get("Configs") or []:
        if (config.get("File") or {}).get("Name") in config_target(service):
            script = (
                f"docker config inspect --format '{{{{json .Spec.Data}}}}'"
                f" {shlex.quote(config['ConfigID'])}"
            )
            return base64.b64decode(json.loads(reach(manager, user, script))).decode(
                errors="replace"
            )
    try:
        RegistryConfig.read("", environment(service))
    except ValueError:
        raise AdoptError(
            "the registry's configuration is neither a mounted file nor a Swarm config nor in its"
            " environment "
            "(REGISTRY_PROXY_REMOTEURL), so its upstream is not known"
        ) from None
    return ""
