"""What is known of a node that was asked how it is. Pure."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Look:
    """How a node is. `faults` are sentences; an unreachable node has one and nothing else is known
    of it.

    `mirror_faults` are the mirror's, `swarm_faults` of the node's place in the swarm: applying the
    mirror again repairs neither.
    """

    node: str
    reachable: bool
    engine: str = ""
    way: str = "daemon.json"
    """The file that its docker reads mirrors from."""
    listed: bool = False
    used: bool = False
    recorded: bool = False
    edited: bool = False
    due: list[str] = field(default_factory=list)
    """Keys of daemon.json that wait for a restart."""
    faults: list[str] = field(default_factory=list)
    hazards: list[str] = field(default_factory=list)
    mirror_faults: list[str] = field(default_factory=list)
    swarm_faults: list[str] = field(default_factory=list)
    id: str = ""
    """In the swarm, as the node itself says."""
    availability: str = ""
    """`active`, `pause` or `drain`, as a manager says; empty where none could be asked."""
    registries: list[str] = field(default_factory=list)
    """Those whose images its docker asks the mirror for by itself."""
    guard_out: bool = False
    """Whether the guard has the mirror out of a hosts.toml of this node."""

    @property
    def drifted(self) -> bool:
        """Whether the node is not as the last `pulumi up` left it, though it can be asked."""
        return self.reachable and not (
            self.listed and self.used and self.recorded and not self.due and not self.faults
        )
