"""Which provider plugins a stack's run would use, and whether they are good enough for it.

The lab's stand-ins are for the lab: they do what this project's tests need of the official plugins,
with the lab's machines. A stack is the lab's if it runs in the lab's own network, where nothing
else can be reached; no name makes it one.
"""

import functools
import os
import re
import subprocess
from pathlib import Path

from tools import toolchain
from tools.progress import StageError

_SECONDS = 20
_NOBODY = "127.0.0.1:1"
"""In place of the engine's address, which a plugin does not need to say its version."""


def check(stack: str, *, in_lab: bool) -> None:
    """Raises StageError, with the command that repairs it, unless each plugin is the official one,
    and of a version that will do.

    In the lab a plugin that is missing is no fault, because its stand-in is used.
    """
    for name, wanted in toolchain.PLUGINS.items():
        program = toolchain.official_plugin(name)
        if program is None:
            if not in_lab:
                reason = (
                    f"the {name} plugin {wanted} is missing, and its stand-in is never used"
                    " outside the lab"
                )
                raise StageError(f"{stack}: {reason}", install_command(name))
        elif not _is_of_version(program, wanted):
            version = _version(program, Path(program).stat().st_mtime_ns)
            problem = fault(version, wanted)
            if problem:
                remedy = f"remove it from PATH, then {install_command(name)}"
                raise StageError(f"{stack}: the {name} plugin {program} {problem}", remedy)


def in_words() -> str:
    """Which plugins are in use, for readers of a measurement."""
    kinds = {
        name: "official" if toolchain.official_plugin(name) else "stand-in"
        for name in toolchain.PLUGINS
    }
    return "Plugins: " + ", ".join(
        f"{name} {toolchain.PLUGINS[name]} ({kind})" for name, kind in kinds.items()
    )


def install_command(name: str) -> str:
    """What a person types to get a plugin to where it is looked for."""
    home = toolchain.environment()["PULUMI_HOME"]
    program = toolchain.BIN / "pulumi" if (toolchain.BIN / "pulumi").exists() else "pulumi"
    return (
        f"`PULUMI_HOME={home} {program} plugin install resource {name} {toolchain.PLUGINS[name]}`"
    )


def fault(version: str, wanted: str) -> str | None:
    """What is wrong with a plugin of `version` where one of `wanted` is asked for. Pure."""
    numbers, needed = (re.match(r"v?(\d+)\.(\d+)\.(\d+)", text) for text in (version, wanted))
    if numbers is None or needed is None:
        return f"does not say its version; {wanted} is needed"
    has, least = (tuple(map(int, match.groups())) for match in (numbers, needed))
    if has[0] != least[0]:
        return f"is {version}, another major version than {wanted}"
    return (
        f"is {version}, too old for what this program declares; {wanted} is needed"
        if has < least
        else None
    )


def _is_of_version(program: str, wanted: str) -> bool:
    """Whether Pulumi's own folder for that version holds it; a plugin elsewhere has to be asked."""
    return Path(program).parent.name.endswith(f"-v{wanted}")


@functools.cache
def _version(program: str, _modified: int) -> str:
    """What a plugin says that it is; asked again where the file has been modified since."""
    return version_of(program)


def version_of(program: str) -> str:
    """The version that a provider plugin gives, asked as Pulumi's engine asks it; empty where it
    gives none.

    A plugin on PATH has its version in no file name. Opens no connection to anything but this
    computer.
    """
    # Only here: they take half a second, which most commands need not wait.
    import grpc
    from google.protobuf import empty_pb2
    from pulumi.runtime.proto import provider_pb2_grpc

    try:
        running = subprocess.Popen(
            [program, _NOBODY],
            env={**os.environ, **toolchain.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        return ""
    try:
        assert running.stdout is not None
        port = running.stdout.readline().strip()
        if not port.isdigit():
            return ""
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            info = provider_pb2_grpc.ResourceProviderStub(channel).GetPluginInfo(
                empty_pb2.Empty(), timeout=_SECONDS
            )
        return str(info.version)
    except grpc.RpcError:
        return ""
    finally:
        running.kill()
        running.wait()
