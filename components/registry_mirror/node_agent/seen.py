"""Whether the running dockerd asks the mirror when it pulls: it is made to pull, and its
connections are looked at.

dockerd logs a hosts.toml that it does not take and goes on without, and nothing in its API shows
what it made of the file. So it is asked to pull what nobody has, a digest of random bytes, and the
kernel is asked for its new connections (proc_pid_net(5)): one of them must lead to the mirror. The
pull is called off as soon as it does. Owns that; changes nothing.
"""

import os
import socket
import sys
import time
from typing import List, NamedTuple, Optional, Set, Tuple
from urllib.parse import quote, urlsplit

from . import dockerd_view, engine

SECONDS = 10
"""For dockerd to begin to connect to the mirror; a healthy one takes some milliseconds."""
POLL_SECONDS = 0.01
TRIES = 2

LISTENS = "0A"
"""State of a socket of its own in /proc/net/tcp (include/net/tcp_states.h)."""


class Peer(NamedTuple):
    """A connection: the socket's number in the kernel, and where it leads."""

    inode: str
    address: str
    port: int


def complaint(
    registry: str, image: str, url: str, proxy: Optional[str], unit: str
) -> Optional[str]:
    """Why nobody has seen dockerd ask the mirror `url` for an image of `registry`; None if it did.

    `image`: like library/hello-world:latest. None too where it cannot be seen: dockerd goes through
    a `proxy`, where every connection leads, or its socket or process is not on this machine.
    """
    address = dockerd_view.socket_path()
    if address is None or proxy is not None:
        return None
    try:
        process = engine.pid(unit)
        peers(process)
    except (engine.EngineProblem, OSError):
        return None
    reference = "%s/%s" % (registry, image.rpartition(":")[0])
    for _ in range(TRIES):
        if _asks(reference, url, address, process):
            return None
    words = (
        "docker was made to pull from %s and did not connect to %s; see its log (journalctl -u %s)"
        " [RM188]"
    )
    return words % (registry, url, unit)


def _asks(reference: str, url: str, address: str, process: str) -> bool:
    wanted = _addresses(url)
    before = {peer.inode for peer in peers(process)}
    deadline = time.monotonic() + SECONDS
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(POLL_SECONDS)
        connection.connect(address)
        asked = "fromImage=%s&tag=sha256%%3A%s" % (quote(reference, ""), os.urandom(32).hex())
        head = (
            "POST /images/create?%s HTTP/1.1" % asked,
            "Host: docker",
            "Content-Length: 0",
            "Connection: close",
            "",
            "",
        )
        connection.sendall("\r\n".join(head).encode())
        over = False
        while not over and time.monotonic() < deadline:
            try:
                over = connection.recv(65536) == b""
            except socket.timeout:
                over = False
            except OSError:
                over = True
            # Once more after the answer: what came of it was connected before.
            if any(
                peer.inode not in before and (peer.address, peer.port) in wanted
                for peer in peers(process)
            ):
                return True
    return False


def _addresses(url: str) -> Set[Tuple[str, int]]:
    """Where the name of the mirror leads from here."""
    parts = urlsplit(url)
    port = parts.port or 443
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    return {(str(entry[4][0]).partition("%")[0], port) for entry in found}


def peers(process: str) -> List[Peer]:
    """The connections of a process. Raises OSError."""
    folder = "/proc/%s/fd" % process
    own = set()
    for name in os.listdir(folder):
        try:
            target = os.readlink(os.path.join(folder, name))
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            own.add(target[len("socket:[") : -1])
    found: List[Peer] = []
    for name in ("tcp", "tcp6"):
        try:
            with open("/proc/%s/net/%s" % (process, name)) as file:
                found += [peer for peer in connections(file.read()) if peer.inode in own]
        except FileNotFoundError:  # a kernel without IPv6
            continue
    return found


def connections(table: str) -> List[Peer]:
    """The connections in the text of /proc/net/tcp or tcp6; those that listen are none. Pure."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] != LISTENS:
            address, _, port = fields[2].partition(":")
            found.append(Peer(fields[9], _readable(address), int(port, 16)))
    return found


def _readable(address: str) -> str:
    """`0100007F` is 127.0.0.1: words of four bytes, each in the machine's own order (`0x%08X` of a
    `__be32`)."""
    step = -1 if sys.byteorder == "little" else 1
    data = b"".join(bytes.fromhex(address[at : at + 8])[::step] for at in range(0, len(address), 8))
    if len(data) == 16 and data[:12] == b"\0" * 10 + b"\xff\xff":
        data = data[12:]
    return socket.inet_ntop(socket.AF_INET6 if len(data) == 16 else socket.AF_INET, data)
