"""`hostkeys`: the host keys that machines have now, beside those by which the last `pulumi up`
knows them.

Somebody in between may answer in a machine's place, so compare what is printed here with what the
machine itself says: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`, on its console. It asks
machines for their keys and logs in nowhere.
"""

import argparse
import base64
import binascii
import hashlib
import json
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..plain_text import one_line
from ..rules import HOST_KEY_TYPES
from ..ssh import CONNECT_SECONDS
from . import stack
from .console import Verb, progress, table, worst
from .deployed import Machine as Deployed
from .deployed import Mirror
from .errors import DRIFTED, OK, UNKNOWN, UNREACHABLE, CommandError
from .status import natural

KNOWN, NEW, OTHER, SILENT, BEHIND = (
    "as known",
    "NEW",
    "ANOTHER THAN KNOWN",
    "NO ANSWER",
    "behind a bastion",
)
CODES = {KNOWN: OK, NEW: DRIFTED, OTHER: DRIFTED, SILENT: UNREACHABLE, BEHIND: UNKNOWN}
HEAD = ("machine", "address", "key", "fingerprint", "state")
COMPARE = (
    "Compare them with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on each machine's"
    " own console."
)
_AT_ONCE = 16


@dataclass(frozen=True)
class Machine:
    """A machine that ssh goes to."""

    name: str
    address: str
    port: int
    known: str | None
    """The host key by which it is known; None where there is none yet."""
    hidden: bool
    """Whether it is reached through a bastion, which ssh-keyscan does not do."""

    @property
    def host(self) -> str:
        """As known_hosts calls it."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"


@dataclass(frozen=True)
class Found:
    """What a machine has answered."""

    machine: Machine
    key: str | None
    """As `type base64`; None where it has not answered."""

    @property
    def state(self) -> str:
        """What there is to say of it."""
        known = self.machine.known
        if self.key is None:
            return BEHIND if self.machine.hidden else SILENT
        if known is None:
            return NEW
        if known.startswith("@"):
            return KNOWN  # an authority has signed it, and ssh checks that
        return KNOWN if known.split()[:2] == self.key.split() else OTHER

    def row(self) -> tuple[str, ...]:
        """As HEAD."""
        key = self.key or ""
        return (
            self.machine.name,
            self.machine.host,
            key.partition(" ")[0],
            fingerprint(key) if key else "",
            self.state,
        )


def run(options: argparse.Namespace) -> int:
    """Scan, compare, print."""
    asked = machines(stack.mirrors(options))
    with progress(f"asking {len(asked)} machines for their keys"):
        answers = ask(asked)
    if options.json:
        fields = ("machine", "address", "key", "fingerprint", "state")
        print(
            json.dumps([dict(zip(fields, each.row(), strict=True)) for each in answers], indent=1)
        )
    else:
        print("\n" + table(HEAD, [each.row() for each in answers]) + "\n")
        if any(each.state == OTHER for each in answers):
            print(f"  {COMPARE}\n")
        if any(each.state == BEHIND for each in answers):
            print("  Of a machine behind a bastion, run `ssh-keyscan` there.\n")
    return worst([CODES[each.state] for each in answers])


def machines(mirrors: Iterable[Mirror]) -> list[Machine]:
    """The machines of the mirrors, and the bastions before them, each address once."""
    by_host: dict[str, Machine] = {}
    for machine in (each for mirror in mirrors for each in (*mirror.nodes, mirror.manager)):
        for entry in _on_the_way(machine):
            by_host.setdefault(entry.host, entry)
    return sorted(by_host.values(), key=lambda machine: natural(machine.name))


def _on_the_way(machine: Deployed) -> list[Machine]:
    given = machine.environment
    bastion = given.get("MIRROR_BASTION", "")
    here = _machine(
        machine.name, given["MIRROR_SSH"], given["MIRROR_HOST_KEY"], hidden=bool(bastion)
    )
    if not bastion:
        return [here]
    return [_machine("bastion", bastion, given.get("MIRROR_BASTION_HOST_KEY"), hidden=False), here]


def _machine(name: str, url: str, known: str | None, *, hidden: bool) -> Machine:
    try:
        parts = urlsplit(url)
        return Machine(name, parts.hostname or "", parts.port or 22, known, hidden)
    except ValueError:
        raise CommandError(
            f"the state has an address of {name} that is none: {one_line(url, 100)}",
            "run `pulumi up`",
        ) from None


def ask(asked: Sequence[Machine]) -> list[Found]:
    """What the machines answer, in their order."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        scans = pool.map(lambda machine: "" if machine.hidden else scan(machine), asked)
        return [Found(machine, preferred(text)) for machine, text in zip(asked, scans, strict=True)]


def preferred(scan: str) -> str | None:
    """Of what `ssh-keyscan` prints for one machine the key that we would take, as `type base64`;
    None where it has none."""
    keys = {
        words[1]: words[2]
        for words in map(str.split, scan.splitlines())
        if len(words) == 3 and not words[0].startswith("#")
    }
    return next(
        (
            f"{kind} {keys[kind]}"
            for kind in HOST_KEY_TYPES
            if kind in keys and _is_base64(keys[kind])
        ),
        None,
    )


def fingerprint(key: str) -> str:
    """As `ssh-keygen -l` and sshd's console show it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def scan(machine: Machine) -> str:
    """Output of `ssh-keyscan` for a machine; empty where it does not answer. Raises CommandError
    without such a program."""
    argv = [
        "ssh-keyscan",
        "-T",
        str(CONNECT_SECONDS),
        "-p",
        str(machine.port),
        "--",
        machine.address,
    ]
    try:
        limit = CONNECT_SECONDS * 4
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired:
        return ""
    except FileNotFoundError:
        raise CommandError(
            "there is no ssh-keyscan on this computer", "install openssh-client"
        ) from None


VERB = Verb(
    "hostkeys",
    "the host keys that the machines have now, beside those that the last `pulumi up` was given",
    "swarm-registry-mirror hostkeys --stack prod",
    run,
    has_json=True,
)
