"""The guard: a small global service that takes a sick mirror out of the machines' hosts.toml.
Wiring only.

Owns the command on the manager that makes and removes the service (`node_agent/guard.py` says why
not the docker plugin).
"""

from collections.abc import Mapping

import pulumi
from pulumi_command import local

from .args import RegistryMirrorArgs
from .node_agent import hosts, hosts_plan, hosts_toml
from .node_agent.request import GuardRequest
from .nodes import SUCCESSOR, agent_command, node_settings, settings_text
from .render import common, registry


def request(service: str, args: RegistryMirrorArgs) -> GuardRequest:
    """What is asked of the agent on the manager."""
    url = common.mirror_url(args.hostname)
    host, _, port = url.removeprefix("https://").partition(":")
    # As the node agent calls it: the guard finds that one's files by it.
    owner = service + SUCCESSOR
    tables = [
        word
        for entry in hosts.entries(node_settings(service, args.manager_node, args))
        # Without fallback the whole file is the mirror's, which only a node agent lays there.
        if entry.fallback
        for word in (
            hosts.folder_of(entry.registry),
            hosts_toml.table(entry.url, hosts_plan.settings(entry.url, hosts_plan.Around())),
        )
    ]
    return GuardRequest(
        name=common.guard_name(service),
        owner=owner,
        # The registry's: it is pinned, it is there already where the mirror is, and it has
        # busybox's client for TLS.
        image=args.image,
        script=registry.script("guard.sh"),
        arguments=[host, port or "443", owner, *tables],
    )


def declare(
    name: str,
    args: RegistryMirrorArgs,
    service: str,
    nodes: Mapping[str, local.Command],
    parent: pulumi.Resource,
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
