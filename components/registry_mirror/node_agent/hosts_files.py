"""All hosts.toml of a node together: Docker Hub's and those of the other registries.

Owns which files a request is about, and that they change together: where one of them cannot, none
does. What happens to each is in `hosts.py`.
"""

from typing import Any, Dict, List, NamedTuple, Optional

from . import hosts, hosts_plan
from .files import Failed
from .request import NodeRequest


class Changes(NamedTuple):
    """What is to be done to the files, in this order; nothing is done yet."""

    each: List[hosts.Change]

    @property
    def is_due(self) -> bool:
        """Whether a file has to change, or what is known of it."""
        return any(change.is_due for change in self.each)

    @property
    def refusals(self) -> List[str]:
        """Why they must not be carried out; each with the file's name and a remedy."""
        return [refusal for change in self.each for refusal in change.refusals]

    @property
    def entering(self) -> List[hosts.Change]:
        """Those after which docker has a mirror to ask that it had not."""
        return [change for change in self.each if change.is_due and change.enters]

    def carry_out(self) -> None:
        """Replace the files. Raises FileProblem, with nothing changed."""
        for number, change in enumerate(self.each):
            try:
                change.carry_out()
            except Exception as error:
                roll_back(Changes(self.each[:number]), error)
                raise

    def put_back(self) -> str:
        """Have the files as they were before `carry_out`; returns the sentences that a failure
        ends with."""
        # The first one may have made the folder that all are in.
        return "".join(change.put_back() for change in reversed(self.each))

    def settle(self) -> None:
        """After success: what is there is what we left there, or we were never there."""
        for change in self.each:
            change.settle()


def entered(request: NodeRequest, info: Dict[str, Any]) -> Changes:
    """The changes after which docker asks the mirror first for images of all these registries, and
    for no other's. Raises Failed where a file cannot be read."""
    entries = hosts.entries(request)
    paths = [entry.path for entry in entries]
    given_up = [path for path in hosts.own_paths(request.owner) if path not in paths]
    return Changes(
        [hosts.entered(request, info, entry) for entry in entries]
        + [hosts.withdrawn(request, path) for path in given_up]
    )


def withdrawn(request: NodeRequest) -> Changes:
    """The changes after which the files are as they were before us. Raises Failed."""
    hub = hosts.path_of(hosts.REGISTRY)
    others = [path for path in hosts.own_paths(request.owner) if path != hub]
    # Docker Hub's last: it is the first that is entered, and so may have made the folder of all.
    return Changes([hosts.withdrawn(request, path) for path in [*others, hub]])


def without_fallback(request: NodeRequest, info: Dict[str, Any]) -> List[str]:
    """Why a docker that does not go by hosts.toml cannot have registries without fallback. Pure."""
    names = [entry.registry for entry in hosts.entries(request) if not entry.fallback]
    words = (
        "fallback is false for %s, and this docker would ask it all the same, because %s; leave"
        " fallback out, or bring this node to docker 28 or later with the containerd image store"
        " [RM231]"
    )
    return [words % (", ".join(names), hosts_plan.why_not(info))] if names else []


def by_name_alone(request: NodeRequest, info: Dict[str, Any]) -> List[str]:
    """What to know of a docker that does not go by hosts.toml, where there are other registries
    than Docker Hub. Pure."""
    if not request.registries:
        return []
    some = request.registries[0]
    mirror = request.mirror_url.partition("://")[2]
    explicit = "/".join(filter(None, [mirror, some.path, "OWNER/IMAGE"]))
    words = (
        "docker asks the mirror by itself for images of Docker Hub alone, because %s; those of %s"
        " come past the mirror unless they are named like %s [RM234]"
    )
    names = ", ".join(registry.name for registry in request.registries)
    return [words % (hosts_plan.why_not(info), names, explicit)]


def roll_back(changes: Optional[Changes], error: Exception) -> None:
    """Undo changes that were carried out, after an error in what followed. Raises Failed with both
    where there were any."""
    ending = "" if changes is None else changes.put_back()
    if ending:
        raise Failed("%s%s" % (error, ending)) from error
