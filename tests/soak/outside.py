"""Runs a program of this computer as a client of the lab: in its network, with its names and its authority."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.plan import MANAGER, MIRROR_HOST
from tests.lab_fixture import Lab


def run_outside(
    lab: Lab, folder: Path, *argv: "str | Path", environment: "Mapping[str, str] | None" = None, may_fail: bool = False
) -> str:
    """Its output; a program that fails is an error, unless it may. `folder` is for what it needs."""
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{MANAGER.address} {MIRROR_HOST}\n")
    script = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    words = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", script, "sh", *map(str, argv)]
    variables = {**os.environ, "SSL_CERT_FILE": str(lab.folder.ca), **(environment or {})}
    command = lab.sandbox.command(words, network_only=True)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert may_fail or done.returncode == 0, done.stdout + done.stderr
    return done.stdout
