"""`python -m adopt FILE --manager USER@ADDRESS …`: writes the stack's file; started by `tools/adopt.py`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from adopt.find import Ssh, find
from adopt.settings import AdoptError, stack_file
from components.registry_mirror import rules, ssh
from components.registry_mirror.plain_text import one_line
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
    given = [account, *(entry.rpartition("=")[2] for entry in chosen.users.split(",") if entry)]
    faults = [
        *rules.check("MANAGER", address, rules.address),
        *(fault for user in given for fault in rules.check("user", user, rules.user)),
    ]
    if faults:
        print("; ".join(map(str, faults)), file=sys.stderr)
        return 1
    pairs = [entry.rpartition("=") for entry in chosen.users.split(",") if entry]
    users = {"": account, **{name: user for name, _, user in pairs}}
    # Where the file is not there the agent may have its key.
    key = chosen.key if Path(chosen.key).expanduser().is_file() else None
    reach = Ssh([*ssh.identity_options(key), *ssh.known_hosts_options(chosen.known_hosts)], account, users)
    try:
        found = find(reach, address, chosen.service)
    except AdoptError as error:
        print(one_line(error), file=sys.stderr)
        return 1
    extra: dict[str, Any] = {"sshPrivateKeyFile": chosen.key, "knownHostsFile": chosen.known_hosts}
    chosen.file.write_text(stack_file(found, extra, list(KEYS)))
    for note in found.notes:
        print(f"  note: {note}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
