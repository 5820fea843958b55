"""Asks and repairs nodes with the node agent, many at a time, one connection each."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from components.registry_mirror import RegistryMirrorArgs, SwarmNode, answer, workstation
from components.registry_mirror.coalesce import front_name
from components.registry_mirror.node import PRIVATE_KEY, node_settings, restart_request, settings_text, way
from components.registry_mirror.plain_text import one_line
from components.registry_mirror.registry import DEBUG_PORT
from components.registry_mirror.rolling_restart import run as rolling_restart
from components.registry_mirror.rolling_restart import ssh
from operate import answers, verdict
from operate.stats import Stats, gather

T = TypeVar("T")

AT_ONCE = 16
"""Connections at the same time when only looking; sshd's own limit is per machine, so this is for the computer that asks."""
HUB = "https://registry-1.docker.io"

MIB = 1024 * 1024

SECONDS = 120
"""For a run on a node; one that waits for a mirror which is being moved takes most of a minute."""


@dataclass(frozen=True)
class Look:
    """How a node is. `faults` are sentences; an unreachable node has one and nothing else is known of it.

    `mirror_faults` are the mirror's, `swarm_faults` of the node's place in the swarm: applying the mirror again mends neither.
    """

    node: str
    reachable: bool
    engine: str = ""
    listed: bool = False
    used: bool = False
    recorded: bool = False
    edited: bool = False
    due: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    hazards: list[str] = field(default_factory=list)
    mirror_faults: list[str] = field(default_factory=list)
    swarm_faults: list[str] = field(default_factory=list)
    id: str = ""
    """In the swarm, as the node itself says."""
    availability: str = ""
    """`active`, `pause` or `drain`, as a manager says; empty where none could be asked."""

    @property
    def drifted(self) -> bool:
        """Whether the node is not as the last `pulumi up` left it, though it can be asked."""
        return self.reachable and not (self.listed and self.used and self.recorded and not self.due and not self.faults)

    def as_json(self) -> dict[str, object]:
        """For scripts: all fields, `drifted`, and the `state` that a person is shown."""
        return {**asdict(self), "drifted": self.drifted, "state": verdict.state(self)}


def look(args: RegistryMirrorArgs, service: str, private_key: str | None) -> list[Look]:
    """How every node is, in the order of the settings: as it says of itself, and as a manager sees it."""
    looks = _on_all(args.nodes, lambda node: _look(node, args, service, private_key), AT_ONCE)
    members, reason = _members(args, service, private_key)
    if members is None:
        words = f"the swarm's view of the nodes is not known: {reason}"
        return [replace(found, hazards=[*found.hazards, words]) if found.reachable else found for found in looks]
    return [_placed(found, members) if found.reachable else found for found in looks]


def repair(args: RegistryMirrorArgs, service: str, private_key: str | None, names: set[str]) -> list[tuple[str, bool, str]]:
    """Apply the mirror again on the named nodes, as `pulumi up` would; (node, well, word or reason) for each it came to.

    One at a time until one is repaired, the manager last; then the others, as many at once as in a roll-out. A node that cannot
    be repaired is as it was, and keeps nobody else from being repaired.
    """
    left = sorted((node for node in args.nodes if node.name in names), key=lambda node: node.name == args.manager_node.name)
    done: list[tuple[str, bool, str]] = []
    while left:
        wave = left[: args.max_parallel if any(well for _, well, _ in done) else 1]
        left = left[len(wave) :]
        done += _on_all(wave, lambda node: _repair(node, args, service, private_key), args.max_parallel)
    return done


def restart(args: RegistryMirrorArgs, service: str, private_key: str | None, told: dict[str, str]) -> tuple[bool, str]:
    """The rolling restart of `pulumi up`, for nodes that a repair has left waiting; (well, what was done or why not)."""
    try:
        keys = {node.name: private_key for node in args.nodes if private_key is not None and node.private_key_file is None}
        request = {**restart_request(args, service, told), "runner": str(workstation.place()), "private_keys": keys}
        return True, rolling_restart.run(request)
    except rolling_restart.RestartFailed as error:
        return False, str(error)


def stats(args: RegistryMirrorArgs, service: str, private_key: str | None) -> Stats:
    """What the mirror has done, gathered from all nodes."""

    def ask(node: SwarmNode) -> tuple[str, dict[str, Any], str]:
        settings = {
            "service": service,
            "front": front_name(service) if args.coalesce else "",
            "metrics": f"http://127.0.0.1:{DEBUG_PORT}/metrics",
            "hub": args.upstream == HUB and not args.has_credentials,
            "cache_path": args.cache_path if args.has_shared_path and node is args.manager_node else None,
        }
        code, output, errors = _agent("stats.look", node, args, service, private_key, settings)
        if code != 0:
            return node.name, {}, errors
        try:
            return node.name, answers.parse(output, answers.STATS, nullable=True), ""
        except answers.BadAnswer as error:
            return node.name, {}, str(error)

    asked = args.coalesce_disk * MIB if args.coalesce else None
    return gather(_on_all(args.nodes, ask, AT_ONCE), asked)


def _members(args: RegistryMirrorArgs, service: str, private_key: str | None) -> tuple[dict[str, Mapping[str, Any]] | None, str]:
    """The swarm's nodes by id, as the manager sees them; None, with the reason, where it cannot be asked."""
    code, output, errors = _agent("swarm.view", args.manager_node, args, service, private_key, {})
    if code != 0:
        return None, errors
    try:
        return {member["id"]: member for member in answers.parse_list(output, answers.MEMBER)}, ""
    except answers.BadAnswer as error:
        return None, f"{args.manager_node.name}: {error}"


def _placed(found: Look, members: Mapping[str, Mapping[str, Any]]) -> Look:
    """A look with what a manager says of the node."""
    member = members.get(found.id)
    faults = [*found.swarm_faults, *verdict.swarm_faults(found, member)]
    return replace(found, swarm_faults=faults, availability=str(member["availability"]) if member else "")


def _look(node: SwarmNode, args: RegistryMirrorArgs, service: str, private_key: str | None) -> Look:
    code, output, errors = _agent("node.look", node, args, service, private_key)
    if code == answer.UNREACHABLE:
        return Look(node.name, False, faults=[errors])
    if code != 0:
        return Look(node.name, True, faults=[errors])
    try:
        return Look(node.name, True, **answers.parse(output, answers.LOOK))
    except answers.BadAnswer as error:
        return Look(node.name, True, faults=[str(error)])


def _repair(node: SwarmNode, args: RegistryMirrorArgs, service: str, private_key: str | None) -> tuple[str, bool, str]:
    code, output, errors = _agent("node.apply", node, args, service, private_key)
    return node.name, code == 0, one_line(output) if code == 0 else errors


def _agent(
    action: str,
    node: SwarmNode,
    args: RegistryMirrorArgs,
    service: str,
    private_key: str | None,
    settings: Mapping[str, object] | None = None,
) -> tuple[int, str, str]:
    """Exit code, output and last complaint of an action of the agent; `settings` where they are not those of a node."""
    request = settings_text(node_settings(service, node, args) if settings is None else settings)
    variables = way(node, args)
    if private_key is not None and node.private_key_file is None:
        variables[PRIVATE_KEY] = private_key
    done = ssh.run(str(workstation.place()), action, variables, request, SECONDS)
    if done.returncode != 0:
        return done.returncode, "", answer.complaint(done.stderr, done.returncode, done.stdout)
    try:
        return 0, answer.find(done.stdout), ""
    except answer.NoAnswer as error:
        return 1, "", str(error)


def _on_all(nodes: Sequence[SwarmNode], act: Callable[[SwarmNode], T], at_once: int) -> list[T]:
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        return list(pool.map(act, nodes))
