"""Runs a program of this computer as a client of the lab: in its network, with its names and its
authority."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.plan import MANAGER, MIRROR_HOST
from tests.lab.lab import Lab


def run_outside(
    lab: Lab,
    folder: Path,
    *argv: "str | Path",
    environment: "Mapping[str, str] | None" = None,
    names: "Mapping[str, str] | None" = None,
    files: "Mapping[str, str] | None" = None,
    may_fail: bool = False,
) -> str:
    """Its output; a program that fails is an error, unless it may.

    Args:
        lab: Whose network it is in.
        folder: For what it needs.
        argv: The program.
        environment: Variables besides those of this process.
        names: Further names that it finds -> address.
        files: Path -> text of files that it alone sees, in folders that have nothing else.
        may_fail: Whether it may.
    """
    hosts = folder / "hosts"
    known = {"localhost": "127.0.0.1", MIRROR_HOST: MANAGER.address, **(names or {})}
    hosts.write_text("".join(f"{address} {name}\n" for name, address in known.items()))
    lines = [f"mount --bind {hosts} /etc/hosts"]
    for number, (path, text) in enumerate((files or {}).items()):
        (folder / f"file{number}").write_text(text)
        lines += [
            f"mount -t tmpfs tmpfs {path.rpartition('/')[0]}",
            f"cp {folder / f'file{number}'} {path}",
        ]
    script = " && ".join([*lines, 'exec "$@"'])
    words = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--",
        "sh",
        "-c",
        script,
        "sh",
        *map(str, argv),
    ]
    variables = {**os.environ, "SSL_CERT_FILE": str(lab.folder.ca), **(environment or {})}
    command = lab.sandbox.command(words, network_only=True)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert may_fail or done.returncode == 0, done.stdout + done.stderr
    return done.stdout
