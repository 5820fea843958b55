"""Runs a program in a container of a Swarm service on this machine. The cache is reached so and not
by a path of the machine, because it may be a docker volume or an NFS export.
"""

from typing import List, Optional

from . import engine

SECONDS = 120
"""For a walk through a large cache on slow storage."""


def of_service(service: str) -> List[str]:
    """The running containers of a service on this machine. Raises engine.EngineProblem."""
    label = "label=com.docker.swarm.service.name=" + service
    return engine.run("docker", "ps", "--quiet", "--filter", label).split()


def run_in(container: str, *command: str) -> str:
    """Output of a program there. Raises engine.EngineProblem where it fails."""
    return engine.run("docker", "exec", container, *command, seconds=SECONDS)


def script_in(service: str, script: str, *words: str) -> Optional[str]:
    """Output of a shell script in the service's container; None where none runs here. The words
    reach it as arguments, so that none is a part of a command. Raises engine.EngineProblem."""
    names = of_service(service)
    return run_in(names[0], "sh", "-c", script, "sh", *words) if names else None
