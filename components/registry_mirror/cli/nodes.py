"""Asks and repairs nodes with the node agent, many at a time, one connection each."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from .. import answer, runner, workstation
from ..plain_text import one_line
from ..registry import DEBUG_PORT
from ..rolling_restart import ssh
from . import answers, verdict
from .deployed import Machine, Mirror, Node, Restart, StateError
from .gathered import Stats, gather

T = TypeVar("T")
Asked = TypeVar("Asked", bound=Machine)

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
    way: str = "daemon.json"
    """The file by which its docker goes."""
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


def look(mirror: Mirror) -> list[Look]:
    """How every node is, in the order of the mirror's: as it says of itself, and as a manager sees it."""
    looks = _on_all(mirror.nodes, look_at, AT_ONCE)
    members, reason = _members(mirror.manager)
    if members is None:
        words = f"the swarm's view of the nodes is not known: {reason}"
        return [replace(found, hazards=[*found.hazards, words]) if found.reachable else found for found in looks]
    return [_placed(found, members) if found.reachable else found for found in looks]


def reach(nodes: Sequence[Node]) -> list[Look]:
    """As `look`, without a manager's view."""
    return _on_all(nodes, look_at, AT_ONCE)


def repair(mirror: Mirror, names: set[str]) -> list[tuple[str, bool, str]]:
    """Ask the named nodes again for what the last `pulumi up` has asked them for; (node, well, word or reason) for each.

    One at a time until one is repaired, the manager last; then the others, as many at once as in the largest wave. A node that
    cannot be repaired is as it was, and keeps nobody else from being repaired.
    """
    last = mirror.manager.name
    left = sorted((node for node in mirror.nodes if node.name in names), key=lambda node: node.name == last)
    done: list[tuple[str, bool, str]] = []
    while left:
        size = mirror.at_once if any(well for _, well, _ in done) else 1
        # The manager alone: the swarm keeps its head until everybody else is done.
        wave = [node for node in left if node.name != last][:size] or left
        left = left[len(wave) :]
        done += _on_all(wave, lambda node: _repair(mirror, node), len(wave))
    return done


def restart(mirror: Mirror, told: Mapping[str, str]) -> tuple[bool, str]:
    """The rolling restart of the last `pulumi up`, for nodes that a repair has left waiting; (well, what was done or why not).

    `told`: node name -> what its agent has said. Its progress goes to stderr as it comes. Raises StateError.
    """
    given = mirror.restart
    if given is None:
        return False, f"{', '.join(told)} wait for a restart, and the state has none, because no `pulumi up` came to it; run that"
    try:
        request = {**json.loads(given.request), "told": dict(told)}
    except (ValueError, TypeError):
        raise StateError("this version cannot read the state: the restart's settings are no JSON", "run `pulumi up`") from None
    return _run_restart(given, json.dumps(request, indent=1), _program(mirror, given.environment))


def _run_restart(given: Restart, request: str, program: Path) -> tuple[bool, str]:
    """Every wait in it is bounded by the program itself."""
    with subprocess.Popen(
        ["sh", str(program), "run.run"], env={**os.environ, **given.environment}, text=True, errors="replace",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stderr is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended without reading, and says why itself
            running.stdin.write(request)
            running.stdin.close()
        complaint = []
        for line in running.stderr:
            plain = one_line(line)
            if plain.startswith(answer.PREFIX):
                complaint.append(plain)
            elif plain:
                print(plain, file=sys.stderr, flush=True)
        output = running.stdout.read()
    if running.returncode != 0:
        return False, answer.complaint("\n".join(complaint), running.returncode, output)
    return True, one_line(output)


def upgrade(mirror: Mirror, to: str) -> list[tuple[str, dict[str, Any], str]]:
    """What docker `to` would break: for each node what it says, or why it could not be asked. Raises StateError."""

    def ask(node: Node) -> tuple[str, dict[str, Any], str]:
        settings = {name: node.settings.get(name) for name in ("service", "daemon_json")}
        code, output, errors = _agent("upgrade.look", node, json.dumps({**settings, "to": to}))
        if code != 0:
            return node.name, {}, errors
        try:
            return node.name, answers.parse(output, answers.UPGRADE), ""
        except answers.BadAnswer as error:
            return node.name, {}, str(error)

    return _on_all(mirror.nodes, ask, AT_ONCE)


def stats(mirror: Mirror, others: Sequence[Machine] = ()) -> Stats:
    """What the mirror has done, gathered from all nodes. Raises StateError.

    Swarm may run the registry on any machine: `others` of it are asked where it is on none of the mirror's own.
    """
    everybody = _different([*mirror.nodes, mirror.manager])
    settings = {
        "service": mirror.service,
        "front": mirror.front,
        "metrics": f"http://127.0.0.1:{DEBUG_PORT}/metrics",
        "hub": mirror.upstream == HUB and not mirror.has_credentials,
    }

    def ask(machine: Machine) -> tuple[str, dict[str, Any], str]:
        cache_path = mirror.cache_path if machine.name == mirror.manager.name else None
        code, output, errors = _agent("stats.look", machine, json.dumps({**settings, "cache_path": cache_path}))
        if code != 0:
            return machine.name, {}, errors
        try:
            return machine.name, answers.parse(output, answers.STATS, nullable=True), ""
        except answers.BadAnswer as error:
            return machine.name, {}, str(error)

    disk = mirror.disk * MIB if mirror.disk is not None else None
    answers_of = _on_all(everybody, ask, AT_ONCE)
    found = gather(answers_of, disk)
    left = _different([*everybody, *others])[len(everybody) :]
    if found.node is not None or not left:
        return found
    return gather([*answers_of, *_on_all(left, ask, AT_ONCE)], disk)


def _different(machines: Sequence[Machine]) -> list[Machine]:
    """Each machine once, in the order of their first times."""
    found: dict[tuple[str, str], Machine] = {}
    for machine in machines:
        found.setdefault((machine.name, machine.environment.get("MIRROR_SSH", "")), machine)
    return list(found.values())


def look_at(node: Node) -> Look:
    """How a node is, as it says of itself."""
    code, output, errors = _agent("node.look", node, node.request)
    if code == answer.UNREACHABLE:
        return Look(node.name, False, faults=[errors])
    if code != 0:
        return Look(node.name, True, faults=[errors])
    try:
        return Look(node.name, True, **answers.parse(output, answers.LOOK))
    except answers.BadAnswer as error:
        return Look(node.name, True, faults=[str(error)])


def _members(manager: Machine) -> tuple[dict[str, Mapping[str, Any]] | None, str]:
    """The swarm's nodes by id, as the manager sees them; None, with the reason, where it cannot be asked."""
    code, output, errors = _agent("swarm.view", manager, "{}")
    if code != 0:
        return None, errors
    try:
        return {member["id"]: member for member in answers.parse_list(output, answers.MEMBER)}, ""
    except answers.BadAnswer as error:
        return None, f"{manager.name}: {error}"


def _placed(found: Look, members: Mapping[str, Mapping[str, Any]]) -> Look:
    """A look with what a manager says of the node."""
    member = members.get(found.id)
    faults = [*found.swarm_faults, *verdict.swarm_faults(found, member)]
    return replace(found, swarm_faults=faults, availability=str(member["availability"]) if member else "")


def _repair(mirror: Mirror, node: Node) -> tuple[str, bool, str]:
    try:
        program = _program(mirror, node.environment)
    except StateError as error:
        return node.name, False, f"{error.reason}; {error.remedy}"
    code, output, errors = _agent("node.apply", node, node.request, program)
    return node.name, code == 0, one_line(output) if code == 0 else errors


def _program(mirror: Mirror, environment: Mapping[str, str]) -> Path:
    """The runner that a command of the state was run with, in the user's cache, where that looks for it. Raises StateError."""
    digest = environment.get("MIRROR_RUNNER", "")
    text = runner.text() if digest == runner.digest() else mirror.runners.get(digest)
    if text is not None:
        return workstation.keep(text, digest)
    path = workstation.cache_folder() / digest
    if not digest or not path.is_file():
        raise StateError(
            f"the program with which the last `pulumi up` has reached the nodes of {mirror.name} is not in the state",
            "run `pulumi up` to its end",
        )
    return path


def _agent(action: str, machine: Machine, request: str, program: Path | None = None) -> tuple[int, str, str]:
    """Exit code, output and last complaint of an action of the agent; `program`: a runner, where it is not this version's."""
    done = ssh.run(str(program or workstation.place()), action, machine.environment, request, SECONDS)
    if done.returncode != 0:
        # The runner names the machine, and so does whoever shows this.
        words = answer.complaint(done.stderr, done.returncode, done.stdout)
        return done.returncode, "", words.removeprefix(f"{machine.name}: ")
    try:
        return 0, answer.find(done.stdout), ""
    except answer.NoAnswer as error:
        return 1, "", str(error)


def _on_all(machines: Sequence[Asked], act: Callable[[Asked], T], at_once: int) -> list[T]:
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        return list(pool.map(act, machines))
