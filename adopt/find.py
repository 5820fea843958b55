"""Asks a swarm what is there, with the `ssh` program and the settings that the user has for it. Changes nothing."""

import base64
import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adopt.settings import CONFIG_TARGETS, AdoptError, Found, Machine, config_path, mirror_among, settings_of

CONNECT_SECONDS = 8
_ASK = """set -e
docker info --format '{{json .Swarm.NodeID}}'
services=$(docker service ls --quiet); [ -z "$services" ] && echo '[]' || docker service inspect $services
docker node inspect $(docker node ls --quiet)
docker network inspect $(docker network ls --filter driver=overlay --quiet)
"""
DAEMON_FILES = ("/etc/docker/daemon.json", "/etc/docker-latest/daemon.json")


@dataclass(frozen=True)
class Ssh:
    """How to reach machines: options for `ssh`, the account on the manager that is asked, and that on the other machines."""

    options: Sequence[str]
    manager_user: str
    users: Mapping[str, str]
    """Machine name -> account; `""` is for those that are not named."""

    def user(self, machine: str) -> str:
        """The account on a machine."""
        return self.users.get(machine, self.users.get("", "root"))

    def __call__(self, address: str, user: str, script: str) -> str:
        """Output of a shell script there. Raises AdoptError with ssh's or the script's own last words."""
        argv = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}", *self.options, "-l", user, "--", address]
        done = subprocess.run([*argv, f"sh -c {shlex.quote(script)}"], capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise AdoptError(f"{user}@{address}: {said[-1] if said else 'no answer'}")
        return done.stdout


def find(ssh: Ssh, manager: str, service_name: str | None) -> Found:
    """The mirror of the swarm that `manager` (an address) belongs to. Raises AdoptError."""
    user = ssh.manager_user
    own_id, services, nodes, networks = _values(ssh(manager, user, _ASK))
    service = mirror_among(services, service_name)
    machines = []
    for node in nodes:
        name = node["Description"]["Hostname"]
        own = node["ID"] == own_id
        address = manager if own else _address(node)
        machines.append(Machine(name, address, _daemon_files(ssh, address, user if own else ssh.user(name))))
    return settings_of(
        service,
        config=_config(ssh, manager, user, service),
        services=services,
        networks={network["Id"]: network["Name"] for network in networks},
        machines=machines,
        manager=next(node["Description"]["Hostname"] for node in nodes if node["ID"] == own_id),
    )


def _values(text: str) -> list[Any]:
    """The JSON values that stand one after the other in a text."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(text):
        value, place = decoder.raw_decode(text, place)
        found.append(value)
        while place < len(text) and text[place].isspace():
            place += 1
    return found


def _address(node: Mapping[str, Any]) -> str:
    """Where the swarm reaches a node; a manager may call its own address 0.0.0.0."""
    address = str(node["Status"].get("Addr", ""))
    if address in ("", "0.0.0.0"):
        address = str((node.get("ManagerStatus") or {}).get("Addr", "")).rpartition(":")[0].strip("[]")
    if not address:
        raise AdoptError(f"the swarm does not know the address of {node['Description']['Hostname']}")
    return address


def _daemon_files(ssh: Ssh, address: str, user: str) -> dict[str, str]:
    script = "".join(f"if [ -e {file} ]; then echo '== {file}'; cat {file}; echo; fi\n" for file in DAEMON_FILES)
    text = ssh(address, user, script)
    parts = [part.partition("\n") for part in f"\n{text}".split("\n== ")[1:]]
    return {file: content for file, _, content in parts}


def _config(ssh: Ssh, manager: str, user: str, service: Mapping[str, Any]) -> str:
    """The registry's configuration: a file on the shared storage, or a Swarm config."""
    path = config_path(service)
    if path is not None:
        return ssh(manager, user, f"cat {shlex.quote(path)}")
    for config in service["Spec"]["TaskTemplate"]["ContainerSpec"].get("Configs") or []:
        if config["File"]["Name"] in CONFIG_TARGETS:
            data = ssh(manager, user, f"docker config inspect --format '{{{{json .Spec.Data}}}}' {config['ConfigID']}")
            return base64.b64decode(json.loads(data)).decode()
    raise AdoptError("the registry's configuration is neither a mounted file nor a Swarm config, so its upstream is not known")
