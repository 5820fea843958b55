"""What a mirror claims before anything of it is made: its hostname, its service names, its cache,
its configuration file.

Wiring only; which of it others have already is found out by `node_agent/claim.py`, on the manager.
"""

from typing import NamedTuple

import pulumi
from pulumi_command import local

from .args import RegistryMirrorArgs
from .node_agent.request import Cache, ClaimRequest, Nfs
from .nodes import SUCCESSOR, agent_command, settings_text
from .render import registry, varnish
from .render.registries import suffix_of

MINT = "python3 -I -c 'import secrets; print(secrets.token_hex(16))'"


def identity(name: str, parent: pulumi.Resource) -> pulumi.Output[str]:
    """A number that marks this mirror's claims as its own: drawn once, then kept in the state.

    Not the stack's name: that changes when a stack is renamed or moved to another backend, and two
    states may have the same.
    """
    drawn = local.Command(
        f"{name}-identity",
        create=MINT,
        add_previous_output_in_env=False,
        logging=local.Logging.NONE,
        # Never drawn again, whatever the line above may say one day.
        opts=pulumi.ResourceOptions(parent=parent, ignore_changes=["create"]),
    )
    return drawn.stdout


def declare(
    name: str,
    args: RegistryMirrorArgs,
    service: str,
    minted: pulumi.Output[str],
    parent: pulumi.Resource,
) -> local.Command:
    """The claim, on which whatever is made on the swarm depends; given back when all of that is
    deleted."""
    stdin = minted.apply(lambda number: settings_text(request(name, args, service, number)))
    opts = pulumi.ResourceOptions(parent=parent)
    return agent_command(
        f"{name}-claim",
        args.manager_node,
        args,
        create="claim.take",
        delete="claim.release",
        stdin=stdin,
        opts=opts,
    )


class Identities(NamedTuple):
    """By which number a mirror's claims and storage are its own, and by which those are that an
    earlier version has made."""

    identity: str
    former: str


def identities(minted: str) -> Identities:
    """Of the number that was drawn for a mirror."""
    return Identities(minted + SUCCESSOR, minted)


def request(name: str, args: RegistryMirrorArgs, service: str, minted: str) -> ClaimRequest:
    """What is claimed, and what it is looked for among.

    The stack's name is for a person who is refused. Without the organization, which a preview with
    a saved state does not know.
    """
    front = varnish.front_name(service)
    further = [service + suffix_of(registry.name) for registry in args.cached_registries]
    mine = identities(minted)
    return ClaimRequest(
        stack="/".join((pulumi.get_project(), pulumi.get_stack(), name)),
        hostname=args.hostname,
        entrypoint=args.entrypoint,
        services=[service, *([front] if args.coalesce else []), *further],
        front=front,
        routers=[service, front, *(f"{name}-metrics" for name in (service, front, *further))],
        cache=_cache(args, service),
        cache_target=registry.CACHE_TARGET,
        config_path=args.config_path if args.has_shared_path else None,
        marker=registry.MARKER,
        network=args.existing_network,
        identity=mine.identity,
        former=mine.former,
    )


def _cache(args: RegistryMirrorArgs, service: str) -> Cache:
    if args.has_shared_path:
        return Cache(path=args.cache_path)
    if args.cache_nfs is not None:
        options = registry.nfs_volume(args.cache_nfs, args.cache_nfs_options)
        address = options["o"].partition(",")[0].removeprefix("addr=")
        return Cache(nfs=Nfs(address, options["device"]))
    return Cache(
        volume=args.cache_volume or f"{service}-cache",
        constraints=list(args.placement_constraints),
    )
