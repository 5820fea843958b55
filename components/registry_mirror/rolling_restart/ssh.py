"""Runs a command on another machine with the ssh program, for a key and a host key that are given as text."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

UNREACHABLE = 255
"""ssh's own exit code where the connection, not the command, failed (ssh(1), EXIT STATUS)."""


@contextlib.contextmanager
def ssh_command(host: str, *, user: str, port: int, private_key: str, host_key: str, connect_seconds: int) -> Iterator[list[str]]:
    """The command line to put a remote command behind.

    The key is in a file, in memory and readable by nobody else, only while this lasts.
    """
    with tempfile.TemporaryDirectory(
        prefix="swarm-registry-mirror-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None
    ) as folder:
        key, known_hosts = Path(folder, "key"), Path(folder, "known_hosts")
        key.touch(mode=0o600)
        key.write_text(private_key.rstrip("\n") + "\n")
        known_hosts.write_text(f"* {host_key}\n")
        options = {
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "UserKnownHostsFile": str(known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "ConnectTimeout": str(connect_seconds),
            "StrictHostKeyChecking": "yes",
            "HostKeyAlgorithms": host_key.split()[0],
        }
        flat = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        yield ["ssh", "-T", "-F", "/dev/null", "-i", str(key), *flat, "-p", str(port), f"{user}@{host}", "--"]


def run(ssh: list[str], command: str, stdin: str, seconds: float) -> "subprocess.CompletedProcess[str]":
    """Run a remote command; one that does not end in time counts as unreachable."""
    try:
        return subprocess.run([*ssh, command], input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(ssh, UNREACHABLE, "", f"no answer within {seconds:.0f} s")
