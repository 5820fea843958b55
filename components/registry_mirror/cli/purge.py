"""`purge IMAGE…`: removes images from the cache and from Varnish. The next pull of one fetches it
from the upstream again."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import images
from ..answer import UNREACHABLE as NO_ANSWER
from ..images import BadImage, MirroredImage
from ..node_agent.verb_request import BanRequest, PurgeRequest
from . import answers, deployed, nodes, stack
from .console import Verb, progress, worst
from .deployed import Machine, Mirror
from .errors import DRIFTED, OK, UNREACHABLE, USAGE, CommandError
from .gathered import bytes_of


@dataclass(frozen=True)
class Asked:
    """What machines answered of one image."""

    here: Mapping[str, Any] | None
    """Of the machine on which the registry's task runs; None where none has it."""
    machine: Machine | None
    faults: Sequence[str] = ()
    """Machines that could not be asked, with the reason."""
    code: int = OK

    @property
    def is_there(self) -> bool:
        """Whether anything of the image is in the cache."""
        found = self.here
        return bool(found and (found["tags"] or found["manifests"] or found["layers"]))


def run(options: argparse.Namespace) -> int:
    """Show what would go, ask, remove."""
    state = stack.chosen(options).state()
    mirrors = deployed.mirrors(state, options.mirror)
    others = [
        machine for mirror in deployed.mirrors(state) for machine in (*mirror.nodes, mirror.manager)
    ]
    codes = []
    for mirror in mirrors:
        machines = nodes.everywhere(mirror, others)
        for text in options.image:
            codes.append(purge(mirror, machines, text, may_ask=not options.yes))
    return worst(codes)


def purge(mirror: Mirror, machines: Sequence[Machine], text: str, *, may_ask: bool) -> int:
    """Remove one image, and say what was removed or why nothing was; returns the exit code. Raises
    CommandError where nobody is there to be asked."""
    try:
        image = images.at_mirror(images.parse(text), mirror.served)
    except BadImage as error:
        print(f"  {text!r} {error}.")
        return DRIFTED
    name = image.written.familiar
    request = request_for(mirror, image)
    with progress(f"looking for {name}"):
        seen = _ask("purge.look", machines, request)
    if seen.here is None or seen.machine is None:
        reasons = [f"  {fault}" for fault in seen.faults]
        print("\n".join([f"  {name}: no machine has the task of {request.service}.", *reasons]))
        return seen.code or DRIFTED
    if seen.is_there:
        print(f"  {name} in {mirror.name}: {summary(seen.here)}.")
        if may_ask and not confirmed():
            print("  Nothing was removed.")
            return DRIFTED
    with progress(f"removing {name}"):
        # The cache first: what Varnish forgot before, it would fetch from there again.
        gone = _ask("purge.run", [seen.machine], request) if seen.is_there else seen
        faults = [*gone.faults, *_ban(mirror, machines, image)]
    if gone.here is not None:
        print(
            f"  {name}: removed, {bytes_of(gone.here['bytes'])} are free."
            if seen.is_there
            else f"  {name} is not in the cache of {mirror.name}; nothing was removed."
        )
    for fault in faults:
        print(f"  {fault}")
    unreached = UNREACHABLE if faults else OK
    return max(gone.code, unreached, OK if seen.is_there else DRIFTED)


def request_for(mirror: Mirror, image: MirroredImage) -> PurgeRequest:
    """Where the image is: its registry's task, and the store of that."""
    cache = next(each for each in mirror.caches if each.path == image.registry)
    return PurgeRequest(cache.service, cache.folder, image.image.repository, image.image.reference)


def summary(found: Mapping[str, Any]) -> str:
    """What is about to go."""

    def counted(number: int, what: str) -> str:
        return f"{number} {what}{'' if number == 1 else 's'}"

    several = "s" if len(found["tags"]) > 1 else ""
    tags = f"the tag{several} {', '.join(found['tags'])}" if found["tags"] else "no tag"
    manifests = counted(found["manifests"], "manifest")
    return f"{tags}, {manifests}, {counted(found['layers'], 'layer')} that no other image has"


def confirmed() -> bool:
    """Whether a person says yes. Raises CommandError where there is no terminal."""
    if not sys.stdin.isatty():
        raise CommandError("nobody is there to be asked", "give --yes", USAGE)
    return input("  Remove it? [y/N] ").strip().lower() in ("y", "yes")


def _ask(action: str, machines: Sequence[Machine], request: PurgeRequest) -> Asked:
    faults, code = [], OK
    for machine, ended, output, errors in nodes.ask_all(
        action, [(machine, request) for machine in machines]
    ):
        if ended != 0:
            faults.append(f"{machine.name}: {errors}")
            code = max(code, UNREACHABLE if ended == NO_ANSWER else DRIFTED)
            continue
        try:
            found = answers.parse(output, answers.PURGED)
        except answers.BadAnswer as error:
            faults.append(f"{machine.name}: {error}")
            continue
        if found["here"]:
            return Asked(found, machine)
    return Asked(None, None, faults, code)


def _ban(mirror: Mirror, machines: Sequence[Machine], image: MirroredImage) -> list[str]:
    """Have Varnish forget the repository; machines that could not be asked, with the reason, where
    no Varnish was found on the others."""
    if not mirror.front:
        return []
    request = BanRequest(mirror.front, image.repository)
    done = nodes.ask_all("purge.ban", [(machine, request) for machine in machines])
    if any(code == 0 and output.strip("0") for _, code, output, _ in done):
        return []
    failed = [f"{machine.name}: {errors}" for machine, code, _, errors in done if code != 0]
    words = "Varnish was found on no machine, and may have the image for ten minutes more"
    return [f"{words}: {fault}" for fault in failed] or [f"{words}."]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", metavar="IMAGE", nargs="+", help="like traefik:v3.7 or ghcr.io/owner/app@sha256:…"
    )
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")


VERB = Verb(
    "purge",
    "remove images from the cache and from Varnish",
    "swarm-registry-mirror purge ghcr.io/owner/app:1 --yes",
    run,
    _arguments,
)
