"""A registry mirror for a Docker Swarm, as a Pulumi component resource.

    from swarm_registry_mirror import RegistryMirror, RegistryMirrorArgs, SwarmNode

What another estate imports. Self-contained: relative imports only, and nothing from `config/` or
`lab/`.
"""

from .args import Bastion, RegistryMirrorArgs, SwarmNode
from .component import RegistryMirror
from .rules import Fault, InvalidArgs
from .upstreams import Registry

__all__ = [
    "Bastion",
    "Fault",
    "InvalidArgs",
    "Registry",
    "RegistryMirror",
    "RegistryMirrorArgs",
    "SwarmNode",
]
