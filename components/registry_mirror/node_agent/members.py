"""Who is in the swarm, for the verbs that compare it with the list of nodes: each member as
`swarm.view` has it, and what tells a person which machine it is. Changes nothing.

A program of its own, so that the runner's other programs do not carry it.
"""

import json
from typing import Any, Dict, Set

from . import engine, swarm
from .request import MembersRequest


def view(request: MembersRequest) -> str:
    """Every node of the swarm, as JSON: what `swarm.view` says, and `engine` (docker's version),
    `os`, `labels` (of the node, not of its docker) and `guarded` (whether the guard's task runs
    there). Raises engine.EngineProblem."""
    guarded = _nodes_of(request.guard) if request.guard else set()
    return json.dumps([described(node, guarded) for node in swarm.inspected()])


def described(node: Dict[str, Any], guarded: Set[str]) -> Dict[str, Any]:
    """A node of `docker node inspect`. `guarded`: ids of the nodes where the guard runs. Pure."""
    description = node["Description"]
    return {
        **swarm.member_of(node),
        "engine": (description.get("Engine") or {}).get("EngineVersion", ""),
        "os": (description.get("Platform") or {}).get("OS", ""),
        "labels": node["Spec"].get("Labels") or {},
        "guarded": node["ID"] in guarded,
    }


def _nodes_of(service: str) -> Set[str]:
    """Ids of the nodes on which a task of a service runs; none where there is no such service."""
    # The filter takes beginnings of names, too.
    names = engine.run(
        "docker", "service", "ls", "--filter", "name=" + service, "--format", "{{.Name}}"
    )
    if service not in names.split():
        return set()
    tasks = engine.run("docker", "service", "ps", "--quiet", "--no-trunc", service).split()
    if not tasks:
        return set()
    lines = engine.run(
        "docker",
        "inspect",
        "--type",
        "task",
        "--format",
        "{{.Status.State}} {{.NodeID}}",
        *tasks,
    ).splitlines()
    states = [line.split() for line in lines]
    return {words[1] for words in states if len(words) == 2 and words[0] == "running"}
