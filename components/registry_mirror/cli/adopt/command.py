"""`adopt USER@MANAGER`: a mirror that was set up by hand becomes part of a stack.

In two steps, and the same command goes on where it stopped. First the stack's file is written from
what is there, for a program that reads its configuration as this project's own does; `--python`
prints a program instead. Then the running service is imported into the stack's state, so that the
next `pulumi up` changes it in place and not beside it. Nothing on the swarm or on a node changes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ... import rules, ssh
from ...plain_text import one_line
from .. import pin, stack
from ..console import Verb, progress
from ..deployed import COMPONENT
from ..errors import OK, USAGE, CommandError
from ..stack import Stack
from .describe import Found, program, stack_file
from .find import Ssh, find, find_service

SERVICE = "docker:index/service:Service"
_STATE_SECONDS = 600
"""For the CLI's own work on the stack's state, which waits for no machine."""


@dataclass(frozen=True)
class Swarm:
    """The swarm that is asked: the address of a manager, and how to reach its machines."""

    manager: str
    reach: Ssh


def run(options: argparse.Namespace) -> int:
    """Describe, then import. Raises CommandError."""
    swarm = swarm_of(options)
    login = {"sshPrivateKeyFile": options.key, "knownHostsFile": options.known_hosts}
    if options.python:
        with progress(f"asking {swarm.manager} and its nodes"):
            mirror = find(swarm.reach, swarm.manager, options.service)
        addresses = [node["address"] for node in mirror.values["nodes"]]
        keys = known_host_keys(options.known_hosts, addresses)
        print(program(mirror, login, keys), end="")
        return OK
    chosen = stack.chosen(options)
    if options.only == "import":
        service_id = _id(find_service(swarm.reach, swarm.manager, options.service))
    else:
        service_id = describe(options, chosen, swarm, login)
    if options.only == "describe":
        return OK
    take_over(chosen, service_id, options.mirror, options.provider)
    print("\n  Nothing on the swarm has been changed. A preview shows what `pulumi up` would.\n")
    return OK


def describe(
    options: argparse.Namespace, chosen: Stack, swarm: Swarm, login: Mapping[str, Any]
) -> str:
    """Have the stack's file describe the mirror; returns the id of its service. A file that
    describes it already stays. Raises CommandError."""
    file = chosen.file
    project = str(stack.project(chosen.folder)["name"])
    before = _text(file)
    config = _config(file, before)
    if config:
        name = config.get(f"{project}:serviceName")
        if not isinstance(name, str):
            raise CommandError(
                f"{file.name} is there already, and names no serviceName",
                "move it away, or name another stack",
                USAGE,
            )
        return _id(find_service(swarm.reach, swarm.manager, name))
    with progress(f"asking {swarm.manager} and its nodes"):
        mirror = find(swarm.reach, swarm.manager, options.service)
    text = stack_file(mirror, login, project)
    if options.schema:
        text = f"# yaml-language-server: $schema={options.schema}\n{text}"
    if options.only != "describe":  # looked up before anything is written
        text, _ = pin.pin(text, pin.digest_of)
    file.write_text(text + before, encoding="utf-8")
    print(f"  written: {file}")
    _say(mirror)
    return mirror.service_id


def _say(mirror: Found) -> None:
    for note in mirror.notes:
        print(f"  note: {note}", file=sys.stderr)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from None


def _config(file: Path, text: str) -> dict[str, Any]:
    """The configuration in a stack's file; empty for one that has nothing but what `pulumi stack
    init` wrote."""
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise CommandError(f"{file} is not YAML: {one_line(error, 200)}", code=USAGE) from None
    config = values.get("config") if isinstance(values, dict) else None
    return config if isinstance(config, dict) else {}


def swarm_of(options: argparse.Namespace) -> Swarm:
    """What the command line says of it. Raises CommandError."""
    account, _, address = options.manager.rpartition("@")
    account = account or "root"
    pairs = [entry.rpartition("=") for entry in options.users.split(",") if entry]
    faults = [
        *rules.check("MANAGER", address, rules.address),
        *(
            fault
            for user in [account, *(user for _, _, user in pairs)]
            for fault in rules.check("user", user, rules.user)
        ),
    ]
    if faults:
        raise CommandError("; ".join(map(str, faults)), code=USAGE)
    users = {"": account, **{name: user for name, _, user in pairs}}
    # Where the file is not there the agent may have its key.
    key = options.key if Path(options.key).expanduser().is_file() else None
    known_hosts = ssh.known_hosts_options(options.known_hosts)
    return Swarm(address, Ssh([*ssh.identity_options(key), *known_hosts], account, users))


def _id(service: Mapping[str, Any]) -> str:
    return str(service["ID"])


def known_host_keys(file: str, addresses: Iterable[str]) -> dict[str, str]:
    """Address -> its host key in a known_hosts file, as far as that has one."""
    keys = {}
    for address in addresses:
        done = subprocess.run(
            ["ssh-keygen", "-F", address, "-f", str(Path(file).expanduser())],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        entries = [line.split() for line in done.stdout.splitlines() if not line.startswith("#")]
        key = next((entry[1:3] for entry in entries if len(entry) >= 3), None)
        if key:
            keys[address] = " ".join(key)
    return keys


def take_over(chosen: Stack, service_id: str, mirror: str, provider: str) -> None:
    """Import the running service into the stack's state. Raises CommandError.

    Args:
        chosen: The stack; made if it is not there.
        service_id: The service's id in the swarm.
        mirror: Name of the component in the program.
        provider: Name of the docker provider in the program.
    """
    if not chosen.exists():
        chosen.run("stack", "init")
    resources = (chosen.sealed_state().get("deployment") or {}).get("resources") or []
    urns = [str(resource["urn"]) for resource in resources]
    if any(urn.endswith(f"${SERVICE}::{mirror}-service") for urn in urns):
        print(f"  The stack {chosen.short_name} has taken it over already.")
        return
    project = stack.project(chosen.folder)["name"]
    head = f"urn:pulumi:{chosen.short_name}::{project}::"
    provider_urn = f"{head}pulumi:providers:docker::{provider}"
    component_urn = f"{head}{COMPONENT}::{mirror}"
    # Entries in the state that an import needs; neither of them changes anything.
    targets = [word for urn in (provider_urn, component_urn) for word in ("--target", urn)]
    chosen.run("up", "--yes", "--skip-preview", *targets, seconds=_STATE_SECONDS)
    given = {
        "nameTable": {"provider": provider_urn, "mirror": component_urn},
        "resources": [
            {
                "type": SERVICE,
                "name": f"{mirror}-service",
                "id": service_id,
                "parent": "mirror",
                "provider": "provider",
            }
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "import.json")
        file.write_text(json.dumps(given), encoding="utf-8")
        flags = ("--yes", "--skip-preview", "--generate-code=false", "--protect=false")
        chosen.run("import", "--file", os.fspath(file), *flags, seconds=_STATE_SECONDS)
    print(f"  The stack {chosen.short_name} has taken the service over, unchanged.")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manager", metavar="USER@MANAGER", help="a manager of the swarm")
    parser.add_argument("--service", help="the mirror's service, where several run a registry")
    parser.add_argument(
        "--users", default="", help="accounts on the other nodes: USER, or NODE=USER,NODE=USER"
    )
    parser.add_argument(
        "--key", default="~/.ssh/id_ed25519", metavar="FILE", help="SSH private key for all nodes"
    )
    parser.add_argument(
        "--known-hosts", default="~/.ssh/known_hosts", metavar="FILE", help="their host keys"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--python",
        action="store_true",
        help="print a Pulumi program in Python with the mirror, and do nothing else; once it is"
        " part of yours, `--only import`",
    )
    instead.add_argument(
        "--only",
        choices=("describe", "import"),
        help="`describe`: write the stack's file and stop; `import`: the file or the program is"
        " there",
    )
    parser.add_argument(
        "--mirror",
        default="registry-mirror",
        metavar="NAME",
        help="name of the component in the program (default: registry-mirror)",
    )
    parser.add_argument(
        "--provider",
        default="manager",
        metavar="NAME",
        help="name of the docker provider in the program (default: manager)",
    )
    parser.add_argument(
        "--schema", metavar="FILE", help="schema for editors, named in the stack's file"
    )


VERB = Verb(
    "adopt",
    "make a mirror that was set up by hand part of a stack; changes nothing on the swarm",
    "swarm-registry-mirror adopt root@10.0.0.11 --stack prod",
    run,
    _arguments,
    has_mirrors=False,
    has_configuration=True,
)
