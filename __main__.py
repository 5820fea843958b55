"""The program: a stack's settings become a registry mirror, and what it made becomes the stack's
outputs."""

import asyncio
import signal
from typing import Any

import pulumi
import pulumi_docker as docker

from components.registry_mirror import InvalidArgs, RegistryMirror
from config import MIRROR_NAME, load_settings

# Pulumi ends a program whose change has failed with SIGINT; Python would print a traceback
# below the reason.
signal.signal(signal.SIGINT, signal.SIG_DFL)


async def program() -> dict[str, pulumi.Input[Any]]:
    """Declare everything; the outputs of the stack. Raises RunError, printed without a traceback,
    for wrong settings."""
    try:
        settings = load_settings()
    except InvalidArgs as error:
        raise pulumi.RunError(str(error)) from None

    manager = docker.Provider(
        "manager", host=settings.docker_host, ssh_opts=list(settings.ssh_options)
    )
    mirror = RegistryMirror(
        MIRROR_NAME, settings.mirror, pulumi.ResourceOptions(providers=[manager])
    )

    # Let the registrations begin. Where none has, the SDK waits for all outputs of all resources at
    # once, and again for the rest after each (pulumi `runtime/stack.py`, wait_for_rpcs): with 500
    # nodes that was 6 of the 9 s of this program.
    await asyncio.sleep(0)
    return {
        "url": mirror.url,
        "serviceId": mirror.service_id,
        "network": mirror.network,
        "configDigest": mirror.config_digest,
        "nodes": mirror.nodes,
    }


pulumi.run(program)
