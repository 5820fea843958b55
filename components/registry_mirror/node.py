"""The command resources that run the node agent: one connection and one command per machine and apply. Wiring only.

Owns the waves of the roll-out and the rolling restart behind them; what happens on a machine is in `node_agent/`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_command import local, remote

from . import answer, render, rules, ship
from .args import RegistryMirrorArgs, SwarmNode
from .rules import Fault, InvalidArgs

DIAL_ATTEMPTS = 2
"""The plugin's default of 11 would hold up the roll-out for minutes at a node that is off."""
DIAL_SECONDS = 8

SILENCE_SECONDS = 120
"""Beyond the agent's own limit, for a machine that accepts a connection and then says nothing: the dial's limit does not
cover that (pulumi-command connection.go), and the agent's has not begun."""


def connection(node: SwarmNode, args: RegistryMirrorArgs) -> remote.ConnectionArgs:
    """How to reach a node. With a host key always: without one the plugin believes whoever answers."""
    private_key = node.private_key if node.private_key is not None else args.private_key
    assert private_key is not None  # the args have refused anything else
    return remote.ConnectionArgs(
        host=node.address,
        port=node.port,
        user=node.user,
        private_key=readable_key(private_key),
        host_key=node.host_key,
        # The plugin counts errors that it forgives: a limit of 1 means two dials (pulumi-command connection.go).
        dial_error_limit=DIAL_ATTEMPTS - 1,
        per_dial_timeout=DIAL_SECONDS,
    )


def readable_key(private_key: pulumi.Input[str]) -> pulumi.Input[str]:
    """The key with the line ends that ssh reads. Raises RunError, in a preview too, for a known Output that is no key."""
    return rules.private_key_text(private_key) if isinstance(private_key, str) else _checked(private_key)


def _checked(private_key: pulumi.Input[str]) -> pulumi.Output[str]:
    def check(text: str) -> str:
        wrong = rules.private_key(text)
        if wrong is not None:
            # No ValueError, which Pulumi would wrap into others of its own, and print with a traceback.
            raise pulumi.RunError(str(InvalidArgs([Fault("privateKey", None, wrong)])))
        return rules.private_key_text(text)

    return pulumi.Output.from_input(private_key).apply(check)


def agent_command(
    name: str,
    node: SwarmNode,
    args: RegistryMirrorArgs,
    *,
    create: str,
    stdin: pulumi.Input[str],
    delete: str | None = None,
    update: str | None = None,
    triggers: Sequence[pulumi.Input[str]] | None = None,
    show_warnings: bool = False,
    time_limit: int = ship.TIME_LIMIT,
    opts: pulumi.ResourceOptions,
) -> remote.Command:
    """A run of the node agent: `create` whenever `stdin` changes, `delete` when the resource goes.

    Data goes in `stdin`. A changed trigger replaces the resource, and then the old `delete` would undo what the new `create` has
    just done, so `triggers` are for actions without one. Without `update` the plugin runs `create` for a changed `stdin` too.
    `show_warnings`: print what the agent says on stderr, also where it succeeds.
    """
    assert not (triggers and delete)
    limit = f"{time_limit + SILENCE_SECONDS}s"
    limits = pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create=limit, update=limit, delete=limit))
    return remote.Command(
        name,
        connection=connection(node, args),
        create=ship.command(create, node.become),
        update=ship.command(update, node.become) if update else None,
        delete=ship.command(delete, node.become) if delete else None,
        triggers=list(triggers) if triggers else None,
        stdin=stdin,
        # Otherwise the plugin tries to set two environment variables that a stock sshd refuses, and warns each time.
        add_previous_output_in_env=False,
        # What the agent says on a failure comes with the error; printing it twice helps nobody.
        logging=remote.Logging.STDERR if show_warnings else remote.Logging.NONE,
        opts=pulumi.ResourceOptions.merge(limits, opts),
    )


def roll_out(
    name: str, args: RegistryMirrorArgs, service: str, *, after: pulumi.Resource, parent: pulumi.Resource
) -> dict[str, remote.Command]:
    """One command per node, by node name: the canary, then waves.

    An edge between waves only orders: a node is never touched because another one changed, came or went.
    """
    nodes = {node.name: node for node in args.nodes}
    before: Sequence[pulumi.Resource] = [after]
    done: dict[str, remote.Command] = {}
    for wave in render.waves(list(nodes), args.manager_node.name, args.max_parallel):
        commands = [
            agent_command(
                f"{name}-node-{node_name}",
                nodes[node_name],
                args,
                create="node.apply",
                delete="node.remove",
                stdin=_node_request(service, nodes[node_name], args),
                opts=pulumi.ResourceOptions(parent=parent, depends_on=before),
            )
            for node_name in wave
        ]
        done.update(zip(wave, commands, strict=True))
        before = commands
    return done


def _node_request(service: str, node: SwarmNode, args: RegistryMirrorArgs) -> pulumi.Input[str]:
    """A secret as a whole where a key of daemon.json is one: the state and a preview would have it in the clear."""
    request = ship.request("node", node_settings(service, node, args))
    return pulumi.Output.secret(request) if args.daemon_keys_are_secret else request


def node_settings(service: str, node: SwarmNode, args: RegistryMirrorArgs) -> dict[str, Any]:
    """What the agent is told of a node, and a person reads in the preview."""
    return {
        "owner": service,
        "mirror": render.mirror_url(args.hostname),
        "check_image": args.check_image,
        "daemon_json": node.daemon_json,
        "service": node.service,
        "keys": dict(args.daemon_keys),
        "restart": args.restart,
        "accept_broken_host_gateway": args.accept_broken_host_gateway,
        "guard": args.guard,
        # Not used there: a changed list is a reason to ask, from every node, whether it still lets that node in.
        "allow_from": list(args.allow_from),
        # With constraints, which machines may run the task is for swarm to say; without, all of them must see its storage.
        "shared": args.cache_path if args.has_shared_path and not args.placement_constraints else None,
    }


def restart_request(
    args: RegistryMirrorArgs, service: str, told: Mapping[str, str], private_keys: Mapping[str, str]
) -> dict[str, Any]:
    """What the rolling restart is told: every node and how to reach it, and what the agent said there last. Holds secrets."""
    return {
        "restart": args.restart,
        "restart_keys": args.restart_keys,
        "allow_quorum_loss": args.allow_quorum_loss,
        "manager": args.manager_node.name,
        "told": dict(told),
        "nodes": [
            {
                "name": node.name,
                "address": node.address,
                "port": node.port,
                "user": node.user,
                "host_key": node.host_key,
                "private_key": private_keys[node.name],
                "command": ship.restart_command(node.become),
                "settings": node_settings(service, node, args),
            }
            for node in args.nodes
        ],
        "agent": ship.program("restart"),
    }


def restart_command(
    name: str, args: RegistryMirrorArgs, service: str, commands: Mapping[str, remote.Command], opts: pulumi.ResourceOptions
) -> local.Command:
    """The rolling restart. It runs where `pulumi up` runs, because nobody else can reach both a worker and a manager.

    Its stdin is a secret as a whole: it carries the SSH keys.
    """

    def stdin(values: dict[str, Any]) -> str:
        return json.dumps(
            {**restart_request(args, service, values["told"], values["keys"]), "program": ship.program("rolling_restart")}
        )

    told = {node_name: command.stdout.apply(answer.shown) for node_name, command in commands.items()}
    given = {node.name: args.private_key if node.private_key is None else node.private_key for node in args.nodes}
    keys = {node_name: None if key is None else readable_key(key) for node_name, key in given.items()}
    return local.Command(
        name,
        create=ship.local_command("run.run"),
        delete=ship.local_command("run.release"),
        stdin=pulumi.Output.all(told=told, keys=pulumi.Output.secret(keys)).apply(stdin),
        add_previous_output_in_env=False,
        # Its progress, which is on stderr.
        logging=local.Logging.STDERR,
        opts=opts,
    )
