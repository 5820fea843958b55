"""The command resources that run the node agent: one connection and one command per machine and apply. Wiring only."""

import pulumi
from pulumi_command import remote

from . import ship
from .args import RegistryMirrorArgs, SwarmNode

DIAL_ATTEMPTS = 2
"""The plugin's default of 10 would hold up the roll-out for minutes at a node that is off."""
DIAL_SECONDS = 8


def connection(node: SwarmNode, args: RegistryMirrorArgs) -> remote.ConnectionArgs:
    """How to reach a node. With a host key always: without one the plugin believes whoever answers."""
    private_key = node.private_key if node.private_key is not None else args.private_key
    assert private_key is not None  # the args have refused anything else
    return remote.ConnectionArgs(
        host=node.address,
        port=node.port,
        user=node.user,
        private_key=private_key,
        host_key=node.host_key,
        dial_error_limit=DIAL_ATTEMPTS,
        per_dial_timeout=DIAL_SECONDS,
    )


def agent_command(
    name: str,
    node: SwarmNode,
    args: RegistryMirrorArgs,
    *,
    create: str,
    stdin: str,
    delete: str | None = None,
    time_limit: int = ship.TIME_LIMIT,
    opts: pulumi.ResourceOptions,
) -> remote.Command:
    """A run of the node agent: `create` whenever `stdin` changes, `delete` when the resource goes.

    Data goes in `stdin`, never in `triggers`: a changed trigger replaces the resource, and then the old `delete` would undo
    what the new `create` has just done. There is no `update`: the plugin then runs `create`, which is what we want.
    """
    return remote.Command(
        name,
        connection=connection(node, args),
        create=ship.command(create, node.become, time_limit),
        delete=ship.command(delete, node.become) if delete else None,
        stdin=stdin,
        # Otherwise the plugin tries to set two environment variables that a stock sshd refuses, and warns each time.
        add_previous_output_in_env=False,
        # What the agent says on a failure comes with the error; printing it twice helps nobody.
        logging=remote.Logging.NONE,
        opts=opts,
    )
