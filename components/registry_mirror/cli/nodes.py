"""Asks and repairs nodes with the node agent, many at a time, one connection each."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from .. import answer, runner, workstation
from ..node_agent.request import encode
from ..node_agent.verb_request import CountedService, UsageRequest
from ..plain_text import one_line
from ..render.registry import DEBUG_PORT
from ..rolling_restart import ssh
from . import answers, enrolment, verdict
from .deployed import Machine, Mirror, Node, Restart
from .enrolment import Enrolment, Member
from .errors import StateError
from .gathered import Stats, gather
from .look import Look
from .usage import Usage
from .usage import gather as gather_usage

T = TypeVar("T")
Asked = TypeVar("Asked", bound=Machine)

AT_ONCE = 16
"""Connections at the same time when only looking; sshd's own limit is per machine, so this is for
the computer that asks."""

MIB = 1024 * 1024

SECONDS = 120
"""For a run on a node; one that waits for a mirror which is being moved takes most of a minute."""


@dataclass(frozen=True)
class Survey:
    """A mirror's nodes, and the swarm beside them."""

    looks: list[Look]
    """In the order of the mirror's nodes."""
    enrolment: Enrolment
    members: Mapping[str, Member] | None
    """The members of the swarm by id; None where no manager could be asked."""
    reason: str = ""
    """Why none could be."""


def look(mirror: Mirror) -> list[Look]:
    """How every node is, in the order of the mirror's: as it says of itself, and as a manager sees
    it."""
    return survey(mirror).looks


def survey(mirror: Mirror, others: Iterable[Machine] = ()) -> Survey:
    """As `look`, and how the list and the swarm differ. `others`: further machines that the stack
    names, so that they are in a list."""
    looks = _on_all(mirror.nodes, look_at, AT_ONCE)
    answer_of, reason = _members(mirror)
    if answer_of is None:
        hazard = f"the swarm's view of the nodes is not known: {reason}"
        return Survey(
            [
                replace(state, hazards=[*state.hazards, hazard]) if state.reachable else state
                for state in looks
            ],
            Enrolment(),
            None,
            reason,
        )
    members = {identity: enrolment.member(entry) for identity, entry in answer_of.items()}
    found = enrolment.compare(
        looks, [*mirror.nodes, mirror.manager, *others], list(members.values())
    )
    looks = [_placed(state, answer_of) if state.reachable else state for state in looks]
    with_hazards = [
        replace(state, hazards=[*state.hazards, *found.hazards.get(state.node, [])])
        for state in looks
    ]
    return Survey(with_hazards, found, members)


def reach(nodes: Sequence[Node]) -> list[Look]:
    """As `look`, without a manager's view."""
    return _on_all(nodes, look_at, AT_ONCE)


def repair(mirror: Mirror, names: set[str]) -> list[tuple[str, bool, str]]:
    """Ask the named nodes again for what the last `pulumi up` has asked them for; (node, succeeded,
    word or reason) for each.

    One at a time until one is repaired, the manager last; then the others, as many at once as in
    the largest wave. A node that cannot be repaired is as it was, and keeps nobody else from being
    repaired.
    """
    last = mirror.manager.name
    left = sorted(
        (node for node in mirror.nodes if node.name in names), key=lambda node: node.name == last
    )
    done: list[tuple[str, bool, str]] = []
    while left:
        size = mirror.at_once if any(succeeded for _, succeeded, _ in done) else 1
        # The manager alone: the swarm keeps its head until everybody else is done.
        wave = [node for node in left if node.name != last][:size] or left
        left = left[len(wave) :]
        done += _on_all(wave, lambda node: _repair(mirror, node), len(wave))
    return done


def restart(mirror: Mirror, told: Mapping[str, str]) -> tuple[bool, str]:
    """The rolling restart of the last `pulumi up`, for nodes that a repair has left waiting;
    (succeeded, what was done or why not).

    `told`: node name -> what its agent has said. Its progress goes to stderr as it comes. Raises
    StateError.
    """
    given = mirror.restart
    if given is None:
        return (
            False,
            f"{', '.join(told)} wait for a restart, and the state has none, because no `pulumi up`"
            " came to it; run that",
        )
    try:
        request = {**json.loads(given.request), "told": dict(told)}
    except (ValueError, TypeError):
        raise StateError(
            "this version cannot read the state: the restart's settings are no JSON",
            "run `pulumi up`",
        ) from None
    return _run_restart(given, json.dumps(request, indent=1), _program(mirror, given.environment))


def _run_restart(given: Restart, request: str, program: Path) -> tuple[bool, str]:
    """Every wait in it is bounded by the program itself."""
    with subprocess.Popen(
        ["sh", str(program), "run.run"],
        env={**os.environ, **given.environment},
        text=True,
        errors="replace",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stderr is not None
        with contextlib.suppress(
            BrokenPipeError
        ):  # it has ended without reading, and says why itself
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
    """What docker `to` would break: for each node what it says, or why it could not be asked.
    Raises StateError."""

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

    Swarm may run the registry on any machine: `others` of it are asked where it is on none of the
    mirror's own.
    """
    everybody = _different([*mirror.nodes, mirror.manager])
    settings = {
        "service": mirror.service,
        "front": mirror.front,
        "metrics": f"http://127.0.0.1:{DEBUG_PORT}/metrics",
        "hub": mirror.asks_hub_without_account,
    }

    def ask(machine: Machine) -> tuple[str, dict[str, Any], str]:
        cache_path = mirror.cache_path if machine.name == mirror.manager.name else None
        code, output, errors = _agent(
            "stats.look", machine, json.dumps({**settings, "cache_path": cache_path})
        )
        if code != 0:
            return machine.name, {}, errors
        try:
            return machine.name, answers.parse(output, answers.STATS, nullable=True), ""
        except answers.BadAnswer as error:
            return machine.name, {}, str(error)

    disk = mirror.disk * MIB if mirror.disk is not None else None
    answers_of = _on_all(everybody, ask, AT_ONCE)
    gathered = gather(answers_of, disk)
    left = _different([*everybody, *others])[len(everybody) :]
    if gathered.node is not None or not left:
        return gathered
    return gather([*answers_of, *_on_all(left, ask, AT_ONCE)], disk)


def usage(mirror: Mirror, others: Sequence[Machine], days: int) -> Usage:
    """What the registries noted of the last days, and their counters by registry. Machines that
    cannot be asked are `stats`' to name. Raises StateError."""
    request = UsageRequest(
        services=[CountedService(each.path, each.service, each.folder) for each in mirror.caches],
        metrics=f"http://127.0.0.1:{DEBUG_PORT}/metrics",
        days=days,
    )
    found = []
    asked = [(machine, request) for machine in everywhere(mirror, others)]
    for _, code, output, _ in ask_all("usage.look", asked):
        if code == 0:
            with contextlib.suppress(answers.BadAnswer):
                found += answers.parse_list(output, answers.USAGE)
    return gather_usage(days, found)


def _different(machines: Sequence[Machine]) -> list[Machine]:
    """Each machine once, in the order of their first times."""
    by_address: dict[tuple[str, str], Machine] = {}
    for machine in machines:
        by_address.setdefault((machine.name, machine.environment.get("MIRROR_SSH", "")), machine)
    return list(by_address.values())


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


def _members(mirror: Mirror) -> tuple[dict[str, Mapping[str, Any]] | None, str]:
    """The swarm's nodes by id, as the manager sees them; None, with the reason, where it cannot be
    asked."""
    manager = mirror.manager
    code, output, errors = _agent("members.view", manager, json.dumps({"guard": mirror.guard}))
    if code != 0:
        return None, errors
    try:
        return {member["id"]: member for member in answers.parse_list(output, answers.MEMBER)}, ""
    except answers.BadAnswer as error:
        return None, f"{manager.name}: {error}"


def _placed(state: Look, members: Mapping[str, Mapping[str, Any]]) -> Look:
    """A look with what a manager says of the node."""
    member = members.get(state.id)
    faults = [*state.swarm_faults, *verdict.swarm_faults(state, member)]
    return replace(
        state, swarm_faults=faults, availability=str(member["availability"]) if member else ""
    )


def _repair(mirror: Mirror, node: Node) -> tuple[str, bool, str]:
    try:
        program = _program(mirror, node.environment)
    except StateError as error:
        return node.name, False, f"{error.reason}; {error.remedy}"
    code, output, errors = _agent("node.apply", node, node.request, program)
    return node.name, code == 0, one_line(output) if code == 0 else errors


def _program(mirror: Mirror, environment: Mapping[str, str]) -> Path:
    """The runner that a command of the state was run with, in the user's cache, where that looks
    for it. Raises StateError."""
    digest = environment.get("MIRROR_RUNNER", "")
    text = runner.text() if digest == runner.digest() else mirror.runners.get(digest)
    if text is not None:
        return workstation.keep(text, digest)
    path = workstation.cache_folder() / digest
    if not digest or not path.is_file():
        raise StateError(
            f"the program with which the last `pulumi up` has reached the nodes of {mirror.name} is"
            " not in the state",
            "run `pulumi up` to its end",
        )
    return path


def ask(
    action: str, machine: Machine, request: object, seconds: float = SECONDS
) -> tuple[int, str, str]:
    """Exit code, answer and last complaint of an action with this request
    (`node_agent/request.py`); `seconds`: longest wait for its answer."""
    return _agent(action, machine, json.dumps(encode(request)), seconds=seconds)


def ask_all(
    action: str,
    asked: Sequence[tuple[Asked, object]],
    seconds: float = SECONDS,
    at_once: int = AT_ONCE,
) -> list[tuple[Asked, int, str, str]]:
    """As `ask`, of each machine its own request, in their order."""

    def one(pair: tuple[Asked, object]) -> tuple[Asked, int, str, str]:
        return (pair[0], *ask(action, pair[0], pair[1], seconds))

    with ThreadPoolExecutor(max_workers=at_once) as pool:
        return list(pool.map(one, asked))


def everywhere(mirror: Mirror, others: Sequence[Machine] = ()) -> list[Machine]:
    """The machines on which a task of the mirror may run, each once: its nodes, its manager, and
    those of other mirrors of the stack."""
    return _different([*mirror.nodes, mirror.manager, *others])


def _agent(
    action: str,
    machine: Machine,
    request: str,
    program: Path | None = None,
    seconds: float = SECONDS,
) -> tuple[int, str, str]:
    """Exit code, output and last complaint of an action of the agent; `program`: a runner, where it
    is not this version's."""
    done = ssh.run(
        str(program or workstation.place()), action, machine.environment, request, seconds
    )
    if done.returncode != 0:
        # The runner names the machine, and so does whoever shows this.
        complaint = answer.complaint(done.stderr, done.returncode, done.stdout)
        return done.returncode, "", complaint.removeprefix(f"{machine.name}: ")
    try:
        return 0, answer.find(done.stdout), ""
    except answer.NoAnswer as error:
        return 1, "", str(error)


def _on_all(machines: Sequence[Asked], act: Callable[[Asked], T], at_once: int) -> list[T]:
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        return list(pool.map(act, machines))
