"""Stand-in for pulumi-resource-command 1.2.1: `command:remote:Command`, run by the ssh program.

As the official plugin does (provider/pkg/provider/remote/commandController.go): a preview connects to nothing; `create` runs
on creation; any changed input runs `update`, or `create` where there is none; `delete` runs with the old inputs; a command
that fails is not in the state, and its error carries the command line and all output.
"""

import contextlib
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from lab.plugins.server import UNKNOWN, Provider, ProviderError, Resource, Values, engine_address, serve

_CONNECTION = {
    "host": None, "port": None, "user": None, "privateKey": None, "hostKey": None, "dialErrorLimit": None, "perDialTimeout": None,
}  # fmt: skip
_DEFAULTS = {"port": 22, "user": "root", "dialErrorLimit": 10, "perDialTimeout": 15}
_BACK_OFF = 0.1
"""Seconds before the second attempt to connect; each further one waits half as long again (pulumi-command connection.go)."""


class Command(Resource):
    """A command line that is run on another machine."""

    token = "command:remote:Command"
    names: ClassVar[Mapping[str, Any]] = {
        "connection": _CONNECTION, "create": None, "update": None, "delete": None, "stdin": None, "triggers": None,
        "addPreviousOutputInEnv": None, "logging": None,
    }  # fmt: skip

    def check(self, urn: str, inputs: Values, seed: str) -> Values:
        connection = inputs.get("connection")
        if isinstance(connection, dict):
            connection = {**_DEFAULTS, **connection}
        return {"addPreviousOutputInEnv": True, **inputs, "connection": connection}

    def create(self, provider: Provider, urn: str, inputs: Values, preview: bool) -> tuple[str, Values]:
        if preview:
            return "", {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}
        id_ = "command" + secrets.token_hex(8)
        return id_, {**inputs, **_run(provider, urn, inputs, inputs.get("create"))}

    def update(self, provider: Provider, urn: str, id_: str, old: Values, inputs: Values, preview: bool) -> Values:
        if preview:
            return {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}
        command = inputs.get("update") or inputs.get("create")
        if command is None:
            return {**inputs, "stdout": old.get("stdout", ""), "stderr": old.get("stderr", "")}
        return {**inputs, **_run(provider, urn, inputs, command)}

    def delete(self, provider: Provider, urn: str, id_: str, old: Values) -> None:
        if old.get("delete"):
            _run(provider, urn, old, old["delete"])


def _run(provider: Provider, urn: str, inputs: Values, command: str | None) -> Values:
    if not command:
        return {"stdout": "", "stderr": ""}
    with _ssh(inputs["connection"]) as ssh:
        attempts = int(inputs["connection"]["dialErrorLimit"])
        pause = _BACK_OFF
        for attempt in range(1, attempts + 2):
            done = subprocess.run(
                [*ssh, command], input=(inputs.get("stdin") or "").encode(), capture_output=True, check=False
            )  # fmt: skip
            output = done.stdout.decode(errors="replace")
            errors = done.stderr.decode(errors="replace")
            if done.returncode != 255 or attempt > attempts or "verification failed" in errors or "Permission denied" in errors:
                break
            time.sleep(pause)
            pause *= 1.5
    host = f"{inputs['connection']['host']}:{inputs['connection']['port']}"
    if done.returncode == 255:
        last = errors.strip().splitlines()[-1] if errors.strip() else "no answer"
        raise ProviderError(f"could not connect to {host} after {attempt} attempts: {last}")
    if inputs.get("logging") != "none":
        for text in (output, errors):
            if text.strip():
                provider.log(text.rstrip(), urn)
    if done.returncode != 0:
        raise ProviderError(f'Process exited with status {done.returncode}: running "{command}":\n{output}{errors}')
    return {"stdout": output.removesuffix("\n"), "stderr": errors.removesuffix("\n")}


@contextlib.contextmanager
def _ssh(connection: Values) -> Iterator[list[str]]:
    """The ssh command line for a connection; its key is in a file only while it runs, readable by nobody else."""
    with tempfile.TemporaryDirectory(prefix="stand-in-", dir="/dev/shm") as folder:
        key, known = Path(folder, "key"), Path(folder, "known_hosts")
        key.touch(mode=0o600)
        key.write_text(connection["privateKey"].rstrip("\n") + "\n")
        options = ["-T", "-F", "/dev/null", "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
                   "-o", "LogLevel=ERROR", "-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=/dev/null",
                   "-o", f"ConnectTimeout={connection['perDialTimeout']}", "-p", str(connection["port"])]  # fmt: skip
        if connection.get("hostKey"):
            known.write_text(f"* {connection['hostKey']}\n")
            options += ["-o", "StrictHostKeyChecking=yes", "-o", f"HostKeyAlgorithms={connection['hostKey'].split()[0]}"]
        else:
            # So does the official plugin: without a host key it believes whoever answers.
            options += ["-o", "StrictHostKeyChecking=no"]
        yield ["ssh", *options, f"{connection['user']}@{connection['host']}", "--"]


if __name__ == "__main__":
    serve(Provider("pulumi-resource-command", "1.2.1", [Command()], engine_address()))
