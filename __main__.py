"""The program: a stack's settings become a registry mirror, and what it made becomes the stack's outputs."""

import signal

import pulumi
import pulumi_docker as docker

from components.registry_mirror import InvalidArgs, RegistryMirror
from config import MIRROR_NAME, load_settings

# Pulumi ends a program whose change has failed with SIGINT; Python would tell that with a traceback below the reason.
signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    settings = load_settings()
except InvalidArgs as error:
    # Pulumi's own error type: the CLI prints its text and no traceback.
    raise pulumi.RunError(str(error)) from None

manager = docker.Provider("manager", host=settings.docker_host, ssh_opts=list(settings.ssh_options))
mirror = RegistryMirror(MIRROR_NAME, settings.mirror, pulumi.ResourceOptions(providers=[manager]))

pulumi.export("url", mirror.url)
pulumi.export("serviceId", mirror.service_id)
pulumi.export("network", mirror.network)
pulumi.export("configDigest", mirror.config_digest)
pulumi.export("nodes", mirror.nodes)
