"""`make hostkeys ENV=prod`: the host keys that a stack's file needs, before there is a stack;
written on request.

    python -m config.hostkeys Pulumi.prod.yaml [--write]

The same verb of the command compares what machines have now with what the last `pulumi up` was
given; this one has the file that the keys belong in. Exit code: 0 every key is as the file knows it
(or was written), 1 one is new, another, or missing, 64 wrong usage.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from components.registry_mirror.cli.console import table
from components.registry_mirror.cli.errors import CommandError
from components.registry_mirror.cli.hostkeys import (
    BEHIND,
    COMPARE,
    HEAD,
    KNOWN,
    NEW,
    OTHER,
    Found,
    Machine,
    ask,
)
from config.known_hosts import find_host_key

PREFIX = "swarm-registry-mirror:"


def machines(config: Mapping[str, Any], known_hosts: str) -> Iterator[tuple[Machine, bool]]:
    """The nodes and bastions of a stack, each address once, and whether its key stands in the
    stack's file itself.

    `config`: keys without their prefix. `known_hosts`: text of its knownHostsFile. Raises
    ValueError.
    """
    bastion = config.get("bastion")
    nodes = config.get("nodes") or []
    found: dict[str, tuple[Machine, bool]] = {}
    for kind, name, entry in (
        *((("bastion", "bastion", bastion),) if bastion else ()),
        *(
            ("bastion", f"bastion of {node.get('name')}", node["bastion"])
            for node in nodes
            if node.get("bastion")
        ),
        *(("node", str(node.get("name")), node) for node in nodes),
    ):
        if not isinstance(entry, dict) or not entry.get("address"):
            raise ValueError(f"{name}: has no address")
        address, port, given = (
            str(entry["address"]),
            int(entry.get("port", 22)),
            entry.get("hostKey"),
        )
        hidden = kind == "node" and bool(entry.get("bastion") or bastion)
        machine = Machine(
            name, address, port, given or find_host_key(known_hosts, address, port), hidden
        )
        found.setdefault(machine.host, (machine, given is not None))
    yield from found.values()


def merged(known_hosts: str, keys: Iterable[tuple[Machine, str]]) -> str:
    """The text of a known_hosts file in which each machine has this key and no other; every other
    line stays."""
    lines = known_hosts.splitlines()
    for machine, key in keys:
        own = [line for line in lines if line.split() and line.split()[0] == machine.host]
        lines = [line for line in lines if line not in own]
        lines.append(f"{machine.host} {key}")
    return "\n".join(lines) + "\n"


def state(found: Found) -> str:
    """As the command has it; a key that was entered for a machine behind a bastion is taken as it
    is."""
    return KNOWN if found.state == BEHIND and found.machine.known else found.state


def main(argv: Sequence[str] | None = None) -> int:
    """Scan, print, and write if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m config.hostkeys")
    parser.add_argument("file", type=Path, help="the stack's file, Pulumi.<stack>.yaml")
    parser.add_argument(
        "--write", action="store_true", help="write new and other keys into knownHostsFile"
    )
    chosen = parser.parse_args(argv)
    try:
        everything = yaml.safe_load(chosen.file.read_text())["config"]
        config = {key.removeprefix(PREFIX): value for key, value in everything.items()}
        file = Path(config["knownHostsFile"]).expanduser() if config.get("knownHostsFile") else None
        known_hosts = file.read_text() if file and file.exists() else ""
        asked = dict(machines(config, known_hosts))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        print(f"{chosen.file}: cannot be read as a stack's file: {error}", file=sys.stderr)
        return 64
    try:
        answers = ask(list(asked))
    except CommandError as error:
        print(f"{error}; {error.remedy}", file=sys.stderr)
        return 1
    new = [
        (each.machine, each.key)
        for each in answers
        if each.key and state(each) in (NEW, OTHER) and not asked[each.machine]
    ]
    left = [each for each in answers if state(each) != KNOWN and each.machine not in dict(new)]
    print("\n" + table(HEAD, [(*each.row()[:-1], state(each)) for each in answers]) + "\n")
    if new and not chosen.write:
        print(f"  {COMPARE}")
        print(
            "  Then write them: the same command with WRITE=yes.\n"
            if file
            else "  Then set knownHostsFile, or each hostKey.\n"
        )
    elif new and file is None:
        print(
            "  Nothing was written: set knownHostsFile to the file that they belong in.",
            file=sys.stderr,
        )
    elif new and file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(merged(known_hosts, new))
        print(f"  Written into {file}: {', '.join(machine.name for machine, _ in new)}.\n")
    if any(state(each) == BEHIND for each in answers):
        print(
            "  Of a machine behind a bastion, run `ssh-keyscan` there and enter the key as its"
            " hostKey.\n"
        )
    return int(bool(left or (new and not (chosen.write and file))))


if __name__ == "__main__":
    sys.exit(main())
