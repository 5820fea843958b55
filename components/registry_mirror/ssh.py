"""How a machine is reached: the one place that knows the options of the `ssh` program. Pure.

`runner.py` puts these options into the script that goes to the nodes; the docker provider, `adopt`
and the lab take them from here as words of a command line.
"""

import re
from collections.abc import Sequence
from urllib.parse import quote

CONNECT_SECONDS = 8
"""Until a machine has said its first words (ConnectTimeout). ssh_config(5) names the key exchange
too; with OpenSSH 9.2 it was seen not to bound that: what comes after the first words has the limit
of silence, below."""
SILENCE_SECONDS = 5
"""Without a word from the machine, after which ssh asks whether it is there."""
SILENCES = 4
"""Such questions without an answer, after which ssh gives up; while it logs in, the same time
without a packet (openssh ssh.c, ssh_packet_set_timeout)."""

OPTIONS = {
    "BatchMode": "yes",  # nobody is there to type a password
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "ConnectTimeout": str(CONNECT_SECONDS),
    "ServerAliveInterval": str(SILENCE_SECONDS),
    "ServerAliveCountMax": str(SILENCES),
    "LogLevel": "ERROR",
    # A user's own configuration may say otherwise. A master that stays behind would keep our output
    # open.
    "ControlMaster": "no",
    "ControlPath": "none",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}
"""For every connection (ssh_config(5)); on the command line, so they win over a configuration
file."""

NO_CONFIG = "/dev/null"
"""The configuration file where the user names none: the same on every computer."""


def options() -> list[str]:
    """OPTIONS as words of a command line."""
    return [word for name, value in OPTIONS.items() for word in ("-o", f"{name}={value}")]


def destination(user: str, address: str, port: int) -> str:
    """`ssh://user@address:port`, as the docker provider and, but for IPv6, ssh read it."""
    host = f"[{address}]" if ":" in address else address
    return f"ssh://{quote(user)}@{host}:{port}"


def host_key(text: str) -> str:
    """A host key as known_hosts has it: without a comment, and with the marker of an authority
    where it is one's."""
    words = text.split()
    return " ".join(words[: 3 if words[0].startswith("@") else 2])


def identity_options(key_file: str | None) -> list[str]:
    """The key file and no other; without one, ssh tries the agent's keys and the user's usual
    ones."""
    return [] if key_file is None else ["-i", key_file, "-o", "IdentitiesOnly=yes"]


def known_hosts_options(known_hosts: str | None) -> list[str]:
    """The file with the host keys; without one, the user's own."""
    return (
        []
        if known_hosts is None
        else ["-o", f"UserKnownHostsFile={known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null"]
    )


def command_options(
    *,
    key_file: str | None = None,
    known_hosts: str | None = None,
    config: str | None = None,
    bastion: str | None = None,
) -> list[str]:
    """Words to put behind `ssh`, for programs that add the destination themselves.

    `config`: a configuration file, default none. `bastion`: its destination (`ssh://…`); its host
    key is in `known_hosts` too.
    """
    common = [
        "-F",
        config or NO_CONFIG,
        *options(),
        *identity_options(key_file),
        *known_hosts_options(known_hosts),
    ]
    return (
        common
        if bastion is None
        else [*common, "-o", f"ProxyCommand={proxy_command(common, bastion)}"]
    )


def proxy_command(common: Sequence[str], bastion: str) -> str:
    """What ssh starts to get past a bastion: itself, with the same options, which ProxyJump would
    not pass on (ssh.c)."""
    url = re.fullmatch(r"(.*)\[(.*)\](.*)", bastion)
    # ssh takes no address of IPv6 in a URL (openssh misc.c, parse_uri).
    where = ["-o", f"HostName={url[2]}", f"{url[1]}ipv6{url[3]}"] if url else [bastion]
    return " ".join(["ssh", "-T", *map(_quoted, common), "-W", "'[%h]:%p'", *where])


def _quoted(word: str) -> str:
    """A word for the user's shell, whichever that is; `rules.file_on_this_computer` keeps quotes
    out of file names."""
    return f"'{word}'" if " " in word else word
