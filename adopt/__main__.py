"""`python -m adopt FILE --manager USER@ADDRESS …`: writes the stack's file; started by `tools/adopt.py`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from adopt.find import Ssh, find
from adopt.settings import AdoptError, stack_file
from config.keys import KEYS


def main() -> int:
    """Look, write, say."""
    parser = argparse.ArgumentParser(prog="python -m adopt")
    parser.add_argument("file", type=Path)
    parser.add_argument("--manager", required=True, help="USER@ADDRESS of a manager")
    parser.add_argument("--service", help="the mirror's service, where several run a registry")
    parser.add_argument("--users", default="", help="accounts on the other nodes: USER, or NODE=USER,NODE=USER")
    parser.add_argument("--key", default="~/.ssh/id_ed25519")
    parser.add_argument("--known-hosts", default="~/.ssh/known_hosts")
    chosen = parser.parse_args()
    account, _, address = chosen.manager.rpartition("@")
    account = account or "root"
    pairs = [entry.rpartition("=") for entry in chosen.users.split(",") if entry]
    users = {"": account, **{name: user for name, _, user in pairs}}
    options = ["-i", chosen.key, "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={chosen.known_hosts}"]
    ssh = Ssh(options, account, users)
    try:
        found = find(ssh, address, chosen.service)
    except AdoptError as error:
        print(error, file=sys.stderr)
        return 1
    for node in found.values["nodes"]:
        user = account if node["name"] == found.values["manager"] else ssh.user(node["name"])
        node |= {} if user == "root" else {"user": user, "become": "sudo"}
    extra: dict[str, Any] = {"sshPrivateKeyFile": chosen.key, "knownHostsFile": chosen.known_hosts}
    chosen.file.write_text(stack_file(found, extra, list(KEYS)))
    for note in found.notes:
        print(f"  note: {note}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
