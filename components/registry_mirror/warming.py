"""The command resource that fills the cache with the images of the list `warm`. Wiring only; what
happens on the manager is in `node_agent/warm.py`."""

import pulumi
from pulumi_command import local

from . import images
from .args import RegistryMirrorArgs
from .node_agent.verb_request import WarmImage, WarmRequest
from .nodes import agent_command, settings_text
from .render import common

SECONDS = 1800
"""For all images of the list. What was fetched by then stays; the verb `warm` fetches the rest."""
RESERVE = 10
"""Pulls of Docker Hub's quota that are left for nodes."""
MARGIN = 60
"""Seconds beyond that for the way there and back."""


def declare(
    name: str, args: RegistryMirrorArgs, after: list[pulumi.Resource], parent: pulumi.Resource
) -> local.Command:
    """Fetch the images whenever the list changes. It leaves nothing behind that would have to be
    undone."""
    found = [images.at_mirror(images.parse(text), args.served) for text in args.warm]
    manager = args.manager_node
    request = WarmRequest(
        mirror_url=common.mirror_url(args.hostname),
        path=manager.daemon_json,
        unit=manager.service,
        images=[
            WarmImage(
                image.written.familiar,
                image.repository,
                image.image.reference,
                not image.registry,
            )
            for image in found
        ],
        seconds=SECONDS,
        hub=args.asks_hub_without_account,
        reserve=RESERVE,
        required=args.warm_required,
    )
    return agent_command(
        f"{name}-warm",
        manager,
        args,
        create="warm.apply",
        show_warnings=True,
        stdin=settings_text(request),
        seconds=SECONDS + MARGIN,
        opts=pulumi.ResourceOptions(parent=parent, depends_on=after),
    )
