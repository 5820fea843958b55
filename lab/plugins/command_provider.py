"""Stand-in for pulumi-resource-command 1.2.1: `command:remote:Command`, run by the ssh program.

As the official plugin does (provider/pkg/provider/remote/commandController.go): a preview connects to nothing; `create` runs
on creation; any changed input runs `update`, or `create` where there is none; `delete` runs with the old inputs; a command
that fails is not in the state, and its error carries the command line and all output.
"""

import secrets
import subprocess
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from lab.plugins.server import UNKNOWN, Provider, ProviderError, Resource, Values, engine_address, serve
from operate.ssh import UNREACHABLE, ssh_command

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
    connection = inputs["connection"]
    with ssh_command(
        connection["host"],
        user=connection["user"],
        port=int(connection["port"]),
        private_key=connection["privateKey"],
        host_key=connection.get("hostKey"),
        connect_seconds=int(connection["perDialTimeout"]),
    ) as ssh:
        attempts = int(connection["dialErrorLimit"])
        pause = _BACK_OFF
        for attempt in range(1, attempts + 2):
            done = subprocess.run(
                [*ssh, command], input=(inputs.get("stdin") or "").encode(), capture_output=True, check=False
            )  # fmt: skip
            output = done.stdout.decode(errors="replace")
            errors = done.stderr.decode(errors="replace")
            if (
                done.returncode != UNREACHABLE
                or attempt > attempts
                or "verification failed" in errors
                or "Permission denied" in errors
            ):
                break
            time.sleep(pause)
            pause *= 1.5
    host = f"{connection['host']}:{connection['port']}"
    if done.returncode == UNREACHABLE:
        last = errors.strip().splitlines()[-1] if errors.strip() else "no answer"
        raise ProviderError(f"could not connect to {host} after {attempt} attempts: {last}")
    if inputs.get("logging") != "none":
        for text in (output, errors):
            if text.strip():
                provider.log(text.rstrip(), urn)
    if done.returncode != 0:
        raise ProviderError(f'Process exited with status {done.returncode}: running "{command}":\n{output}{errors}')
    return {"stdout": output.removesuffix("\n"), "stderr": errors.removesuffix("\n")}


if __name__ == "__main__":
    serve(Provider("pulumi-resource-command", "1.2.1", [Command()], engine_address()))
