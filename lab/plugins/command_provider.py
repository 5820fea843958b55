"""Stand-in for pulumi-resource-command 1.2.1: `command:remote:Command` and `command:local:Command`.

As the official plugin does (provider/pkg/provider/remote/commandController.go): a preview connects
to nothing; `create` runs on creation; any changed input runs `update`, or `create` where there is
none; `delete` runs with the old inputs; a command that fails is not in the state, and its error
carries the command line and all output.
"""

import os
import secrets
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, ClassVar

from lab.plugins.server import (
    UNKNOWN,
    Provider,
    ProviderError,
    Resource,
    Values,
    engine_address,
    serve,
    unknown_names,
)

_CONNECTION = {
    "host": None,
    "port": None,
    "user": None,
    "privateKey": None,
    "hostKey": None,
    "dialErrorLimit": None,
    "perDialTimeout": None,
}
_DEFAULTS = {"port": 22, "user": "root", "dialErrorLimit": 10, "perDialTimeout": 15}


class Command(Resource):
    """A command line that is run on another machine."""

    token = "command:remote:Command"
    names: ClassVar[Mapping[str, Any]] = {
        "connection": _CONNECTION,
        "create": None,
        "update": None,
        "delete": None,
        "stdin": None,
        "triggers": None,
        "addPreviousOutputInEnv": None,
        "logging": None,
    }
    secrets: ClassVar[tuple[str, ...]] = ("connection", "connection.privateKey")

    def check(self, urn: str, old: Values, inputs: Values, seed: str) -> Values:
        given = inputs.get("connection")
        if isinstance(given, dict):
            given = {**_DEFAULTS, **given}
        return {"addPreviousOutputInEnv": True, **inputs, "connection": given}

    def create(
        self, provider: Provider, urn: str, inputs: Values, preview: bool
    ) -> tuple[str, Values]:
        if preview:
            return "", {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}
        id_ = "command" + secrets.token_hex(8)
        return id_, {**inputs, **_run(provider, urn, inputs, inputs.get("create"))}

    def update(
        self, provider: Provider, urn: str, id_: str, old: Values, inputs: Values, preview: bool
    ) -> Values:
        if preview:
            return {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}
        command = inputs.get("update") or inputs.get("create")
        if command is None:
            return {**inputs, "stdout": old.get("stdout", ""), "stderr": old.get("stderr", "")}
        return {**inputs, **_run(provider, urn, inputs, command)}

    def delete(self, provider: Provider, urn: str, id_: str, old: Values) -> None:
        if old.get("delete"):
            _run(provider, urn, old, old["delete"])


class LocalCommand(Command):
    """A command line that is run on this computer, by its shell."""

    token = "command:local:Command"
    names: ClassVar[Mapping[str, Any]] = {
        "create": None,
        "update": None,
        "delete": None,
        "stdin": None,
        "triggers": None,
        "addPreviousOutputInEnv": None,
        "logging": None,
        "environment": None,
    }
    secrets = ()

    def check_state(self, state: Values) -> None:
        strange = unknown_names(state, {**self.names, "stdout": None, "stderr": None})
        if strange:
            words = f"{strange[0]}: Unrecognized field '{strange[0]}' on 'local.CommandOutputs'"
            raise ProviderError(f"{len(strange)} failures decoding:\n\t{words}")

    def check(self, urn: str, old: Values, inputs: Values, seed: str) -> Values:
        return {"addPreviousOutputInEnv": True, **inputs}


def _run(provider: Provider, urn: str, inputs: Values, command: str | None) -> Values:
    if not command:
        return {"stdout": "", "stderr": ""}
    if "connection" not in inputs:
        return _run_here(provider, urn, inputs, command)
    # Here, because it costs a fifth of a second, and most runs of the plugin connect to nobody.
    from lab.plugins import connection

    try:
        code, output, errors = connection.run(
            inputs["connection"], command, inputs.get("stdin") or ""
        )
    except connection.Unreachable as error:
        raise ProviderError(str(error)) from None
    logging = inputs.get("logging") or "stdoutAndStderr"
    for name, text in (("stdout", output), ("stderr", errors)):
        if text.strip() and logging in (name, "stdoutAndStderr"):
            provider.log(text.rstrip(), urn)
    if code != 0:
        raise ProviderError(
            f'Process exited with status {code}: running "{command}":\n{output}{errors}'
        )
    return {"stdout": output.removesuffix("\n"), "stderr": errors.removesuffix("\n")}


_UNDER_WAY: set["subprocess.Popen[str]"] = set()
"""Commands on this computer that have not ended."""


def _run_here(provider: Provider, urn: str, inputs: Values, command: str) -> Values:
    logging = inputs.get("logging") or "stdoutAndStderr"
    running = subprocess.Popen(
        ["/bin/sh", "-c", command],
        env={**os.environ, **inputs.get("environment", {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _UNDER_WAY.add(running)
    assert running.stdin is not None
    assert running.stdout is not None
    assert running.stderr is not None
    with ThreadPoolExecutor(max_workers=2) as pool:
        out = pool.submit(
            _follow, provider, urn, running.stdout, logging in ("stdout", "stdoutAndStderr")
        )
        err = pool.submit(
            _follow, provider, urn, running.stderr, logging in ("stderr", "stdoutAndStderr")
        )
        try:
            running.stdin.write(inputs.get("stdin") or "")
            running.stdin.close()
        except BrokenPipeError:  # it has ended without reading, and says why itself
            pass
        running.wait()  # before its output is at its end: what it has started may go on writing
        output, errors = out.result(), err.result()
    _UNDER_WAY.discard(running)
    if running.returncode != 0:
        how = f"exit status {running.returncode}" if running.returncode > 0 else "signal: killed"
        raise ProviderError(f'{how}: running "{command}":\n{output}{errors}')
    return {"stdout": output.removesuffix("\n"), "stderr": errors.removesuffix("\n")}


def _follow(provider: Provider, urn: str, stream: IO[str], shown: bool) -> str:
    """Everything that a stream says; each line is shown as it comes."""
    lines = []
    for line in stream:
        lines.append(line)
        if shown:
            provider.log(line.rstrip(), urn)
    return "".join(lines)


class CommandProvider(Provider):
    """It takes secrets as such: the state then holds one inside another, the private key inside the
    connection."""

    takes_secrets = True

    def cancel(self) -> None:
        """The process itself is killed, and what it has started is not (Go's os/exec
        CommandContext)."""
        for running in list(_UNDER_WAY):
            running.kill()


if __name__ == "__main__":
    serve(
        CommandProvider(
            "pulumi-resource-command", "1.2.1", [Command(), LocalCommand()], engine_address()
        )
    )
