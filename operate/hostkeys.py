"""`make hostkeys ENV=prod`: the host keys that a stack's machines have now, to be compared, and written on request.

    python -m operate.hostkeys Pulumi.prod.yaml [--write]

Whoever sits between may answer in a machine's place, so what is printed here is compared with what the machine itself says:
`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`, on its console. It asks machines for their keys and logs in nowhere.
Exit code: 0 every key is as the stack knows it (or was written), 1 one is new, another, or missing, 64 wrong usage.
"""

import argparse
import base64
import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.registry_mirror.rules import HOST_KEY_TYPES
from components.registry_mirror.ssh import CONNECT_SECONDS
from config.known_hosts import find_host_key
from tools.table import table

PREFIX = "swarm-registry-mirror:"
KNOWN, NEW, OTHER, SILENT, BEHIND = "as known", "NEW", "ANOTHER THAN KNOWN", "NO ANSWER", "behind a bastion"


@dataclass(frozen=True)
class Machine:
    """A machine that the stack's file names."""

    name: str
    address: str
    port: int
    given: str | None
    """The host key that stands in the stack's file itself."""
    hidden: bool
    """Whether it is reached through a bastion, which ssh-keyscan does not do."""

    @property
    def host(self) -> str:
        """As known_hosts calls it."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"


def machines(config: Mapping[str, Any]) -> Iterator[Machine]:
    """The nodes and bastions of a stack, each address once. `config`: keys without their prefix. Raises ValueError."""
    bastion = config.get("bastion")
    nodes = config.get("nodes") or []
    found: dict[str, Machine] = {}
    for kind, name, entry in (
        *((("bastion", "bastion", bastion),) if bastion else ()),
        *(("bastion", f"bastion of {node.get('name')}", node["bastion"]) for node in nodes if node.get("bastion")),
        *(("node", str(node.get("name")), node) for node in nodes),
    ):
        if not isinstance(entry, dict) or not entry.get("address"):
            raise ValueError(f"{name}: has no address")
        hidden = kind == "node" and bool(entry.get("bastion") or bastion)
        machine = Machine(name, str(entry["address"]), int(entry.get("port", 22)), entry.get("hostKey"), hidden)
        found.setdefault(machine.host, machine)
    yield from found.values()


def preferred(scan: str) -> str | None:
    """Of what `ssh-keyscan` prints for one machine the key that we would take, as `type base64`; None where it has none."""
    keys = {words[1]: words[2] for words in map(str.split, scan.splitlines()) if len(words) == 3 and not words[0].startswith("#")}
    return next((f"{kind} {keys[kind]}" for kind in HOST_KEY_TYPES if kind in keys), None)


def verdict(machine: Machine, now: str | None, known_hosts: str) -> str:
    """What there is to say of a machine's key."""
    known = machine.given or find_host_key(known_hosts, machine.address, machine.port)
    if machine.hidden:
        return KNOWN if known else BEHIND
    if now is None:
        return SILENT
    if known is None:
        return NEW
    if known.startswith("@"):
        return KNOWN  # an authority has signed it, and ssh checks that
    return KNOWN if known.split()[:2] == now.split() else OTHER


def merged(known_hosts: str, keys: Iterable[tuple[Machine, str]]) -> str:
    """The text of a known_hosts file in which each machine has this key and no other; every other line stays."""
    lines = known_hosts.splitlines()
    for machine, key in keys:
        own = [line for line in lines if line.split() and line.split()[0] == machine.host]
        lines = [line for line in lines if line not in own]
        lines.append(f"{machine.host} {key}")
    return "\n".join(lines) + "\n"


def fingerprint(key: str) -> str:
    """As `ssh-keygen -l` and sshd's console show it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def scan(machine: Machine) -> str:
    """Output of `ssh-keyscan` for a machine; empty where it does not answer."""
    argv = ["ssh-keyscan", "-T", str(CONNECT_SECONDS), "-p", str(machine.port), "--", machine.address]
    try:
        limit = CONNECT_SECONDS * 4
        return subprocess.run(argv, capture_output=True, text=True, timeout=limit, check=False).stdout
    except subprocess.TimeoutExpired:
        return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Scan, print, and write if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m operate.hostkeys")
    parser.add_argument("file", type=Path, help="the stack's file, Pulumi.<stack>.yaml")
    parser.add_argument("--write", action="store_true", help="write new and other keys into knownHostsFile")
    chosen = parser.parse_args(argv)
    try:
        everything = yaml.safe_load(chosen.file.read_text())["config"]
        config = {key.removeprefix(PREFIX): value for key, value in everything.items()}
        asked = list(machines(config))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        print(f"{chosen.file}: cannot be read as a stack's file: {error}", file=sys.stderr)
        return 64
    file = Path(config["knownHostsFile"]).expanduser() if config.get("knownHostsFile") else None
    known_hosts = file.read_text() if file and file.exists() else ""
    rows, new, left = [], [], 0
    for machine in asked:
        print(f"  {machine.name} …", file=sys.stderr)
        now = None if machine.hidden else preferred(scan(machine))
        word = verdict(machine, now, known_hosts)
        rows.append((machine.name, machine.host, now.split()[0] if now else "", fingerprint(now) if now else "", word))
        if word in (NEW, OTHER) and now and machine.given is None:
            new.append((machine, now))
        elif word != KNOWN:
            left += 1
    print("\n" + table(("machine", "address", "key", "fingerprint", "state"), rows) + "\n")
    if new and not chosen.write:
        print("  Compare them with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on each machine's own console.")
        print(
            "  Then write them: the same command with WRITE=yes.\n" if file else "  Then set knownHostsFile, or each hostKey.\n"
        )
    elif new and file is None:
        print("  Nothing was written: set knownHostsFile to the file that they belong in.", file=sys.stderr)
    elif new and file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(merged(known_hosts, new))
        print(f"  Written into {file}: {', '.join(machine.name for machine, _ in new)}.\n")
    if any(row[-1] == BEHIND for row in rows):
        print("  Of a machine behind a bastion, run `ssh-keyscan` there and enter the key as its hostKey.\n")
    return int(bool(left or (new and not (chosen.write and file))))


if __name__ == "__main__":
    sys.exit(main())
