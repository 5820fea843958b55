"""`nodes`: the list of nodes as configuration, out of what the swarm says of its members.

With a stack, what is in its list stays, and what is not gets an entry like the others;
`--from USER@MANAGER` begins a list before there is a stack. Changes nothing anywhere.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .. import ssh
from ..node_agent import members as agent
from ..plain_text import one_line
from . import answers, deployed, enrolment, hostkeys, node_list, nodes, stack
from .adopt import command as adopt
from .adopt.find import Ssh, json_values
from .console import Verb, progress
from .deployed import Machine, Mirror
from .enrolment import Member
from .errors import OK, UNREACHABLE, USAGE, CommandError
from .node_list import Entry
from .stack import Stack
from .status import natural

_ASK = """
docker info --format '{{json .Swarm.NodeID}}'
docker node inspect $(docker node ls --quiet)
"""
PROJECT = "swarm-registry-mirror"
"""Of this project's own program, whose keys are printed where there is no other."""


def run(options: argparse.Namespace) -> int:
    """Ask, and print the list. Raises CommandError."""
    wanted = _filter(options)
    if options.manager:
        entries, notes = _of_a_swarm(options, wanted)
        project = _project(options.cwd)
    else:
        entries, notes = _of_a_stack(options, wanted)
        project = str(stack.project(options.cwd)["name"])
    if options.json:
        entries_as_json = [node_list.as_json(entry) for entry in entries]
        print(json.dumps({"nodes": entries_as_json, "notes": notes}, indent=1))
    elif options.python:
        print(node_list.as_python(entries, notes), end="")
    else:
        print(node_list.as_yaml(entries, project, notes), end="")
    return OK


def _of_a_stack(options: argparse.Namespace, wanted: "Filter") -> tuple[list[Entry], list[str]]:
    """The list of a mirror, then what is in no list. Raises CommandError."""
    chosen = stack.chosen(options)
    state = chosen.state()
    mirrors = deployed.mirrors(state, options.mirror)
    if len(mirrors) > 1:
        raise CommandError(
            "there are several mirrors in this stack, each with a list of its own",
            f"name one with --mirror: {', '.join(mirror.name for mirror in mirrors)}",
            USAGE,
        )
    (mirror,) = mirrors
    others = [
        machine for each in deployed.mirrors(state) for machine in (*each.nodes, each.manager)
    ]
    given = _in_the_file(chosen)
    others += [_as_machine(entry) for entry in given.values()]
    with progress(f"asking {len(mirror.nodes)} nodes of {mirror.name}"):
        survey = nodes.survey(mirror, others)
    if survey.members is None:
        raise CommandError(
            f"{mirror.manager.name}: {survey.reason}", "a manager must answer", UNREACHABLE
        )
    entries = _listed(mirror, given, survey)
    new, notes = _new(
        survey.enrolment.unlisted,
        [entry.values for entry in entries],
        node_list.like([entry.values for entry in entries]),
        wanted,
    )
    return [*entries, *new], notes


def _listed(
    mirror: Mirror, given: Mapping[str, Mapping[str, Any]], survey: nodes.Survey
) -> list[Entry]:
    """What is in the list, in its order; then what is deployed and not in the file."""
    key_files = {node.environment.get("MIRROR_KEY_FILE") for node in mirror.nodes}
    by_name = {node.name: node for node in mirror.nodes}
    absent = survey.enrolment.absent
    entries = []
    for name in [*given, *(name for name in sorted(by_name, key=natural) if name not in given)]:
        values = (
            node_list.listed(by_name[name], given.get(name), with_key_file=len(key_files) > 1)
            if name in by_name
            else dict(given[name])
        )
        remarks = [f"{name} is no member of the swarm"] if name in absent else []
        entries.append(Entry(values, survey.enrolment.members.get(name), remarks=remarks))
    return entries


def _of_a_swarm(options: argparse.Namespace, wanted: "Filter") -> tuple[list[Entry], list[str]]:
    """A list of every member. Raises CommandError."""
    swarm = adopt.swarm_of(options)
    with progress(f"asking {swarm.manager}"):
        text = swarm.reach(swarm.manager, swarm.reach.manager_user, _ASK)
    own_id, members = _parsed(text, swarm.manager)
    # What docker calls its own address may be 0.0.0.0, and this one has just worked.
    addresses = {own_id: swarm.manager}
    with_addresses = [
        Member(**{**vars(each), "address": addresses.get(each.id, each.address)})
        for each in members
    ]
    return _new(with_addresses, [], {}, wanted, swarm.reach)


def _parsed(text: str, manager: str) -> tuple[str, list[Member]]:
    """The asked manager's own id, and the members. Raises CommandError."""
    try:
        own_id, inspected = json_values(text)
        told = json.dumps([agent.described(node, set()) for node in inspected])
        members = [enrolment.member(entry) for entry in answers.parse_list(told, answers.MEMBER)]
        if own_id not in [each.id for each in members]:
            raise ValueError
        return str(own_id), members
    except (ValueError, KeyError, TypeError, AttributeError, answers.BadAnswer):
        raise CommandError(
            f"{manager}: docker's answer is not what docker answers on a manager of a swarm",
            "name a manager",
        ) from None


def _new(
    members: Sequence[Member],
    entries: Sequence[Mapping[str, Any]],
    way: Mapping[str, Any],
    wanted: "Filter",
    reach: Ssh | None = None,
) -> tuple[list[Entry], list[str]]:
    """Entries of members that are in no list, with the host keys that they have now; and what is to
    be said of those that get none."""
    notes = []
    fit = []
    for member in sorted(members, key=lambda member: natural(member.name)):
        about = f"{member.name} ({member.id})"
        if member.perhaps:
            notes.append(f"{about} is perhaps {' or '.join(member.perhaps)}, which did not answer")
        elif not member.ready:
            notes.append(f"{about} is down, and so has no entry here")
        elif member.is_left_out:
            notes.append(f"{about} is left out: its label, or its operating system")
        elif not wanted.matches(member):
            notes.append(f"{about} is not among those that --label and --role ask for")
        elif not member.address or member.address == "0.0.0.0":
            notes.append(f"{about} has no address that the swarm knows")
        else:
            fit.append(member)
    names = node_list.named(fit, [str(entry.get("name")) for entry in entries])
    hidden = "bastion" in way
    asked = [
        hostkeys.Machine(names[member.id], member.address, way.get("port", 22), None, hidden)
        for member in fit
    ]
    with progress(f"asking {len(asked)} machines for their keys"):
        scanned = hostkeys.ask(asked)
    new = []
    for member, found in zip(fit, scanned, strict=True):
        own = dict(way) if reach is None else _as_user(reach, member)
        new.append(node_list.new_entry(names[member.id], member, own, found.key))
    return new, notes


def _as_user(reach: Ssh, member: Member) -> dict[str, Any]:
    user = reach.user(member.name)
    return {} if user == "root" else {"user": user, "become": "sudo"}


class Filter:
    """Which members get an entry: by role, and by labels of the node."""

    def __init__(self, role: str | None, labels: Mapping[str, str]) -> None:
        self.role = role
        self.labels = labels

    def matches(self, member: Member) -> bool:
        """Whether it gets one."""
        return self.role in (None, member.role) and all(
            member.labels.get(key) == value for key, value in self.labels.items()
        )


def _filter(options: argparse.Namespace) -> Filter:
    """Raises CommandError for a label that is none."""
    pairs = [text.partition("=") for text in options.label]
    wrong = [one_line("".join(pair), 80) for pair in pairs if not pair[0] or not pair[1]]
    if wrong:
        raise CommandError(f"--label is {', '.join(wrong)}, and must be like disk=ssd", code=USAGE)
    return Filter(options.role, {key: value for key, _, value in pairs})


def _in_the_file(chosen: Stack) -> dict[str, Mapping[str, Any]]:
    """Name -> entry of the list in the stack's file, where that has one; else nothing, for a
    program that keeps its list elsewhere."""
    try:
        values = yaml.safe_load(chosen.file.read_text(encoding="utf-8"))
        given = values["config"][f"{stack.project(chosen.folder)['name']}:nodes"]
        return {str(entry["name"]): entry for entry in given}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return {}


def _as_machine(entry: Mapping[str, Any]) -> Machine:
    """An entry of the file that no `pulumi up` need have come to."""
    address = str(entry.get("address", ""))
    return Machine(str(entry["name"]), {"MIRROR_SSH": ssh.destination("root", address, 22)})


def _project(folder: Path) -> str:
    try:
        return str(stack.project(folder)["name"])
    except CommandError:
        print(f"  no program in {folder.absolute()}: keys of {PROJECT}", file=sys.stderr)
        return PROJECT


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="manager",
        metavar="USER@MANAGER",
        help="ask this manager, where there is no stack yet",
    )
    parser.add_argument(
        "--users",
        default="",
        help="with --from: accounts on the other nodes: USER, or NODE=USER,NODE=USER",
    )
    parser.add_argument(
        "--key", default="~/.ssh/id_ed25519", metavar="FILE", help="with --from: SSH private key"
    )
    parser.add_argument(
        "--known-hosts",
        default="~/.ssh/known_hosts",
        metavar="FILE",
        help="with --from: the manager's host key",
    )
    parser.add_argument(
        "--role", choices=("manager", "worker"), help="new entries for these members only"
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="new entries for members with this label only; may be given several times",
    )
    parser.add_argument("--python", action="store_true", help="as a list of SwarmNode")


VERB = Verb(
    "nodes",
    "the list of nodes as configuration, with the swarm's members that are not in it yet",
    "swarm-registry-mirror nodes --stack prod --role worker",
    run,
    _arguments,
    has_json=True,
    has_configuration=True,
)
