"""Which way a node's docker goes for an image, and why it goes past the mirror. Pure.

Owns the decision that a pull makes, over what the node has said of itself (`Look`) and of the image
(node_agent/route.py). No decision here depends on the wording of a message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..images import MirroredImage
from ..render.registries import DOCKER_HUB
from .look import Look

MIRROR, UPSTREAM, NOWHERE, UNKNOWN = "mirror", "UPSTREAM", "NOWHERE", "NOT KNOWN"


@dataclass(frozen=True)
class Route:
    """Where a node's next pull of an image goes."""

    node: str
    goes: str
    """`mirror`; `UPSTREAM` (past the mirror); `NOWHERE` (the pull fails); `NOT KNOWN`."""
    reason: str = ""
    """Why it does not go to the mirror; empty where it does."""
    digest: str = ""
    """What the mirror answers."""
    age: int = 0
    """Seconds for which Varnish has had that answer."""
    copies: list[str] = field(default_factory=list)
    """What docker has by this name: `digest since`."""
    reachable: bool = True


def decide(look: Look, image: MirroredImage, facts: Mapping[str, Any] | None) -> Route:
    """The way of the next pull.

    Args:
        look: The node, as it says of itself.
        image: Which one.
        facts: What `route.look` has answered; None where that could not be asked.
    """
    if not look.reachable or facts is None:
        reason = "; ".join(look.faults) or "it could not be asked"
        return Route(look.node, UNKNOWN, reason, reachable=look.reachable)
    if not image.is_explicit and image.image.registry not in look.registries:
        goes, reason = UPSTREAM, _why_not_asked(look, image, facts)
        # In strict mode the entry is what names the mirror, so without it nothing is forbidden.
        return Route(look.node, goes, reason, copies=facts["copies"])
    fault = _why_not_served(image, facts)
    if fault:
        # By the mirror's own name there is nobody else to ask.
        goes = UPSTREAM if image.fallback and not image.is_explicit else NOWHERE
        reason = fault if goes == UPSTREAM else f"{fault}; {_no_fallback(image)}"
        return Route(look.node, goes, reason, copies=facts["copies"])
    return Route(look.node, MIRROR, "", facts["digest"], facts["age"], facts["copies"])


def _no_fallback(image: MirroredImage) -> str:
    return (
        "an image by the mirror's own name comes from nowhere else"
        if image.is_explicit
        else f"{image.image.registry} has fallback: false, so nobody else is asked"
    )


def _why_not_asked(look: Look, image: MirroredImage, facts: Mapping[str, Any]) -> str:
    """Why docker does not ask the mirror for images of this registry."""
    registry = image.image.registry
    if look.mirror_faults and look.way == "hosts.toml" and not look.listed:
        return f"the mirror is out of its files while it does not answer: {look.mirror_faults[0]}"
    if registry != DOCKER_HUB and look.way == "daemon.json":
        store = (
            f"docker {look.engine} does not read hosts.toml"
            if facts["store"] == "containerd"
            else f"docker {look.engine} has the {facts['store']} image store"
        )
        return (
            f"{store}, which asks a mirror for Docker Hub's images only; name the image by the"
            " mirror, or see docs/how-to/other-registries.md"
        )
    if look.faults:
        return look.faults[0]
    return f"the mirror is not in the file of {registry}; run `pulumi up`"


def _why_not_served(image: MirroredImage, facts: Mapping[str, Any]) -> str:
    """Why docker does not get the image from the mirror that it asks; empty where it does."""
    if facts["fault"]:
        return str(facts["fault"])
    status, upstream = facts["status"], facts["upstream"]
    if status == 200:
        return str(facts["refused"])
    if status == 404 and upstream:
        return (
            f"the upstream does not let the mirror have it ({upstream}): no such image, or a"
            " private one"
        )
    if status == 404 and facts["registry"] != image.registry:
        return (
            "the mirror does not serve this repository (the key repositories), or its Varnish does"
            f" not lead to {image.registry} yet"
        )
    if status == 404:
        return "the mirror answers 404: there is no such image, or its upstream cannot be asked"
    return f"the mirror answers {status}: it, or its upstream, is not well"
