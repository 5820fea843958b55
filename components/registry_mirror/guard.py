"""The guard: a small global service that takes a sick mirror out of the machines' hosts.toml. Wiring only.

Owns the command on the manager that makes and removes the service (`node_agent/guard.py` says why not the docker plugin).
"""

from collections.abc import Mapping

import pulumi
from pulumi_command import local

from . import registry, render
from .args import RegistryMirrorArgs
from .node import SUCCESSOR, agent_command, settings_text
from .node_agent import hosts_plan, hosts_toml


def request(service: str, args: RegistryMirrorArgs) -> dict[str, object]:
    """What the agent on the manager is told."""
    url = render.mirror_url(args.hostname)
    host, _, port = url.removeprefix("https://").partition(":")
    owner = service + SUCCESSOR  # as the node agent calls it: the guard finds that one's files by it
    return {
        "name": render.guard_name(service),
        "owner": owner,
        # The registry's: it is pinned, it is there already where the mirror is, and it has busybox's client for TLS.
        "image": args.image,
        "script": registry.script("guard.sh"),
        "arguments": [host, port or "443", owner, hosts_toml.table(url, hosts_plan.settings(hosts_plan.Around()))],
    }


def declare(
    name: str, args: RegistryMirrorArgs, service: str, nodes: Mapping[str, local.Command], parent: pulumi.Resource
) -> local.Command:
    """The service, made when every node is configured, and gone before one forgets the mirror."""
    return agent_command(
        f"{name}-guard",
        args.manager_node,
        args,
        create="guard.apply",
        delete="guard.remove",
        stdin=settings_text(request(service, args)),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=list(nodes.values())),
    )
