"""The estate's own configuration. The component knows nothing of it, and brings none of its own
that could clash."""

from dataclasses import dataclass

import pulumi


@dataclass(frozen=True)
class Machine:
    """A line of the inventory."""

    name: str
    address: str
    hostKey: str  # noqa: N815  (named as in the YAML)
    pool: str
    user: str = "root"


@dataclass(frozen=True)
class Estate:
    """The settings that the program builds from."""

    machines: list[Machine]
    manager: Machine
    images: dict[str, str]
    certificates: str
    mirrors: dict[str, str]
    upstream: str
    check_image: str
    ssh_private_key: pulumi.Output[str]
    ssh_options: list[str]

    def pool(self, name: str) -> list[Machine]:
        """The machines of a pool."""
        return [machine for machine in self.machines if machine.pool == name]


def load() -> Estate:
    """The stack's configuration."""
    config = pulumi.Config()
    machines = [Machine(**machine) for machine in config.require_object("machines")]
    return Estate(
        machines=machines,
        manager=next(machine for machine in machines if machine.name == config.require("manager")),
        images=config.require_object("images"),
        certificates=config.require("certificates"),
        mirrors=config.require_object("mirrors"),
        upstream=config.get("upstream") or "https://registry-1.docker.io",
        check_image=config.get("checkImage") or "library/hello-world:latest",
        ssh_private_key=config.require_secret("sshPrivateKey"),
        ssh_options=[
            "-o",
            f"UserKnownHostsFile={config.require('knownHostsFile')}",
            *(config.get_object("sshOptions") or []),
        ],
    )
