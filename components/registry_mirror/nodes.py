"""The command resources that run the node agent: one run of ssh per machine and change. Wiring
only.

Owns the waves of the roll-out, the rolling restart behind them, and the copy of the runner in the
state; how a machine is reached is in `ssh.py` and `runner.sh`, what happens there in `node_agent/`.

`local.Command` and not `remote.Command`: that one waits without end for a machine which accepts a
connection and then says nothing, knows neither bastions nor agents, and would have the agent's
program in the state of every node.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pulumi
from pulumi.resource import DependencyResource
from pulumi_command import local

from . import answer, rules, runner, ssh
from .args import RegistryMirrorArgs, SwarmNode
from .node_agent import outcome
from .node_agent.request import NodeRegistry, NodeRequest, NodeToRestart, RestartsRequest, encode
from .plain_text import one_line
from .render import common
from .rules import Fault, InvalidArgs

SUCCESSOR = ".2"
"""Behind the name under which a mirror has its entries on nodes and storage, and its claims.

Versions until 0.1 reached nodes by `remote.Command`, which Pulumi cannot turn into another type: it
makes the new resources, then deletes the old ones, and these would undo what they did. Under this
name it is another's, so that they leave it."""


def way(node: SwarmNode, args: RegistryMirrorArgs) -> dict[str, str]:
    """How to reach a node, for `runner.sh`, but for a key that is given as text.

    With a host key always: without one ssh would ask, and nobody is there.
    """
    bastion = node.bastion or args.bastion
    own = node.private_key is not None or node.private_key_file is not None
    return runner.environment(
        runner=runner.digest(),
        node=node.name,
        ssh=ssh.destination(node.user, node.address, node.port),
        host_key=ssh.host_key(node.host_key),
        become=node.become,
        key_file=node.private_key_file if own else args.private_key_file,
        ssh_config=args.ssh_config,
        bastion=ssh.destination(bastion.user, bastion.address, bastion.port) if bastion else None,
        bastion_host_key=ssh.host_key(bastion.host_key) if bastion else None,
    )


def private_key_of(node: SwarmNode, args: RegistryMirrorArgs) -> pulumi.Output[str] | None:
    """A node's SSH key, as a secret, where it is given as text."""
    own = node.private_key is not None or node.private_key_file is not None
    key = node.private_key if own else args.private_key
    return None if key is None else pulumi.Output.secret(readable_key(key))


def environment(node: SwarmNode, args: RegistryMirrorArgs) -> dict[str, pulumi.Input[str]]:
    """Everything that `runner.sh` needs to reach a node."""
    key = private_key_of(node, args)
    return {**way(node, args), **({} if key is None else {PRIVATE_KEY: key})}


PRIVATE_KEY = "MIRROR_PRIVATE_KEY"
PRIVATE_KEYS = "MIRROR_PRIVATE_KEYS"
"""Variable with the private keys of nodes, by name, as JSON, for the rolling restart."""


def readable_key(private_key: pulumi.Input[str]) -> pulumi.Input[str]:
    """The key with the line ends that ssh reads. Raises RunError, in a preview too, for a known
    Output that is no key."""
    return (
        rules.private_key_text(private_key)
        if isinstance(private_key, str)
        else _checked(private_key)
    )


def _checked(private_key: pulumi.Input[str]) -> pulumi.Output[str]:
    def check(text: str) -> str:
        wrong = rules.private_key(text)
        if wrong is not None:
            # No ValueError, which Pulumi would wrap into others of its own, and print with a
            # traceback.
            raise pulumi.RunError(str(InvalidArgs([Fault("private_key", None, wrong)])))
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
    seconds: int | None = None,
    opts: pulumi.ResourceOptions,
) -> local.Command:
    """A run of the node agent: `create` whenever the settings (`stdin`) change, `delete` when the
    resource is deleted.

    Data goes in `stdin`. A changed trigger replaces the resource, and then the old `delete` would
    undo what the new `create` has just done, so `triggers` are for actions without one. Without
    `update` the plugin runs `create` for a changed `stdin` too. `show_warnings`: print what the
    agent says on stderr, also where it succeeds. `seconds`: longest wait for its answer, where that
    is not the one of `ship.limit`.
    """
    assert not (triggers and delete)
    return local.Command(
        name,
        create=runner.command(create),
        update=runner.command(update) if update else None,
        delete=runner.undo_command(delete) if delete else None,
        environment={
            **environment(node, args),
            **runner.environment(seconds=str(seconds) if seconds else None),
        },
        triggers=list(triggers) if triggers else None,
        stdin=stdin,
        # Two more variables, of which one is what a machine has answered.
        add_previous_output_in_env=False,
        # What the agent says on a failure comes with the error; printing it twice helps nobody.
        logging=local.Logging.STDERR if show_warnings else local.Logging.NONE,
        opts=opts,
    )


def roll_out(
    name: str,
    args: RegistryMirrorArgs,
    service: str,
    *,
    after: pulumi.Resource,
    parent: pulumi.Resource,
) -> dict[str, local.Command]:
    """One command per node, by node name: the canary, then waves.

    An edge between waves only orders: a node is never touched because another one changed, came or
    went. Between two waves stands a command that does nothing, for the state's sake: a wave of ten
    would have ten edges to each node of the next.
    """
    nodes = {node.name: node for node in args.nodes}
    before = after
    commands: list[local.Command] = []
    done: dict[str, local.Command] = {}
    for number, wave in enumerate(
        common.waves(list(nodes), args.manager_node.name, args.max_parallel)
    ):
        if number > 1:
            before = _barrier(f"{name}-wave-{number}", commands, parent)
        elif number == 1:
            (before,) = commands  # the canary
        commands = [
            agent_command(
                f"{name}-node-{node_name}",
                nodes[node_name],
                args,
                create="node.apply",
                delete="node.remove",
                stdin=_node_request(service, nodes[node_name], args),
                opts=pulumi.ResourceOptions(parent=parent, depends_on=[_by_urn(before)]),
            )
            for node_name in wave
        ]
        done.update(zip(wave, commands, strict=True))
    return done


async def _by_urn(resource: pulumi.Resource) -> pulumi.Resource:
    """The same resource, without what it depends on itself.

    The SDK looks for circles by recursion through everything that a dependency depends on (pulumi
    `runtime/resource_cycle_breaker.py`): a roll-out of one node after the other was too deep for
    Python at about 450 nodes.
    """
    urn = await resource.urn.future()
    assert urn is not None
    return DependencyResource(urn)


def _barrier(
    name: str, after: Sequence[pulumi.Resource], parent: pulumi.Resource
) -> pulumi.Resource:
    """What is made when all of `after` are, and deleted before any of them."""
    return local.Command(
        name,
        add_previous_output_in_env=False,
        logging=local.Logging.NONE,
        opts=pulumi.ResourceOptions(parent=parent, depends_on=list(after)),
    )


def keep_runner(
    name: str, after: Sequence[pulumi.Resource], parent: pulumi.Resource
) -> local.Command:
    """The runner in the state, once: a computer that never ran the program can then undo what this
    one did.

    It is deleted before everything in `after`, and its deletion writes the file that their
    deletions need. Another version is another resource, so that the version which goes is written
    too, for nodes that are taken out of the list meanwhile. It has another name and no trigger,
    because of a replacement `pulumi preview --diff` would show both programs, line by line.
    """
    return local.Command(
        f"{name}-runner-{runner.digest()[:12]}",
        delete=runner.WRITE,
        environment=runner.environment(runner=runner.digest()),
        stdin=runner.text(),
        add_previous_output_in_env=False,
        logging=local.Logging.NONE,
        opts=pulumi.ResourceOptions(parent=parent, depends_on=list(after)),
    )


def _node_request(service: str, node: SwarmNode, args: RegistryMirrorArgs) -> pulumi.Input[str]:
    """A secret as a whole where a key of daemon.json is one: the state and a preview would have it
    in the clear."""
    request = settings_text(node_settings(service, node, args))
    return pulumi.Output.secret(request) if args.daemon_keys_are_secret else request


def settings_text(settings: Any) -> str:
    """A request (`node_agent/request.py`) as it lies in the state and stands in a preview: a key a
    line. The runner adds the agent's program."""
    return json.dumps(encode(settings), indent=1)


def node_settings(service: str, node: SwarmNode, args: RegistryMirrorArgs) -> NodeRequest:
    """What is asked of a node, and what a person reads in the preview."""
    return NodeRequest(
        owner=service + SUCCESSOR,
        former=service,
        mirror_url=common.mirror_url(args.hostname),
        check_image=args.check_image,
        path=node.daemon_json,
        unit=node.service,
        managed_keys=dict(args.daemon_keys),
        restart=args.restart,
        accept_broken_host_gateway=args.accept_broken_host_gateway,
        guard=args.guard,
        allow_from=list(args.allow_from),
        # With constraints, which machines may run the task is for swarm to say; without, all of
        # them must see its storage.
        shared_path=args.cache_path
        if args.has_shared_path and not args.placement_constraints
        else None,
        fallback=args.fallback,
        registries=[
            NodeRegistry(registry.name, args.path_at_mirror(registry), registry.fallback)
            for registry in args.registries
        ],
    )


def restart_request(
    args: RegistryMirrorArgs, service: str, told: Mapping[str, Any]
) -> RestartsRequest:
    """What is asked of the rolling restart: every node, how to reach it but for keys, and what its
    last change came to (`told`)."""
    return RestartsRequest(
        restart=args.restart,
        restart_keys=args.restart_keys,
        allow_quorum_loss=args.allow_quorum_loss,
        manager=args.manager_node.name,
        told=dict(told),
        nodes=[
            NodeToRestart(
                name=node.name,
                environment=way(node, args),
                settings=node_settings(service, node, args),
            )
            for node in args.nodes
        ],
    )


def outcome_of(output: str) -> outcome.Outcome:
    """What a node's last change came to, by the output that is in its state: with our marks, or as
    a version before them has left it."""
    try:
        return outcome.read(answer.find(output))
    except answer.NoAnswer:
        return outcome.read(one_line(output))


def restart_command(
    name: str,
    args: RegistryMirrorArgs,
    service: str,
    commands: Mapping[str, local.Command],
    opts: pulumi.ResourceOptions,
) -> local.Command:
    """The rolling restart. It runs where `pulumi up` runs, because nobody else can reach both a
    worker and a manager."""

    def stdin(told: dict[str, Any]) -> str:
        return settings_text(restart_request(args, service, told))

    told = pulumi.Output.all(
        **{
            node_name: command.stdout.apply(lambda output: outcome_of(output)._asdict())
            for node_name, command in commands.items()
        }
    )
    text = told.apply(stdin)
    given = {node.name: private_key_of(node, args) for node in args.nodes}
    keys = {name: key for name, key in given.items() if key is not None}
    variables: dict[str, pulumi.Input[str]] = {**runner.environment(runner=runner.digest())}
    if keys:
        variables[PRIVATE_KEYS] = pulumi.Output.json_dumps(keys)
    return local.Command(
        name,
        create=runner.command("run.run"),
        delete=runner.undo_command("run.release"),
        stdin=pulumi.Output.secret(cast(Any, text)) if args.daemon_keys_are_secret else text,
        environment=variables,
        add_previous_output_in_env=False,
        # Its progress, which is on stderr.
        logging=local.Logging.STDERR,
        opts=opts,
    )
