"""`client-config`: what podman, containerd, buildkit and a docker outside the swarm need in their
own files to ask the mirror first.

Printed only: the machines are none of the stack's, so nothing here goes to them.
"""

import argparse
import json
from typing import Any

from ..render.clients import CLIENTS, ClientConfig
from . import stack
from .console import Verb
from .deployed import Mirror
from .errors import OK


def run(options: argparse.Namespace) -> int:
    """Print the files of the client, for each mirror; for scripts as a list."""
    configs = [
        (mirror, CLIENTS[options.client](mirror.served)) for mirror in stack.mirrors(options)
    ]
    if options.json:
        entries = [_as_json(mirror, options.client, config) for mirror, config in configs]
        print(json.dumps(entries, indent=1))
    else:
        for mirror, config in configs:
            print(_as_text(mirror, config))
    return OK


def _as_json(mirror: Mirror, client: str, config: ClientConfig) -> dict[str, Any]:
    return {
        "mirror": mirror.name,
        "url": mirror.url,
        "client": client,
        "files": [
            {"path": file.path, "text": file.text, "effect": file.effect} for file in config.files
        ],
        "notes": _notes(mirror, config),
    }


def _as_text(mirror: Mirror, config: ClientConfig) -> str:
    """The files one after the other. Each text stands alone, so that it can be copied; what is said
    of it is a comment of a shell."""
    parts = [
        f"# {file.path}\n# {file.effect[0].upper()}{file.effect[1:]}.\n\n{file.text}"
        for file in config.files
    ]
    notes = "".join(f"# Note: {note}\n" for note in _notes(mirror, config))
    return "\n".join([*parts, notes])


def _notes(mirror: Mirror, config: ClientConfig) -> list[str]:
    if not mirror.allow_from:
        return list(config.notes)
    networks = ", ".join(mirror.allow_from)
    return [*config.notes, f"The mirror answers clients in these networks only: {networks}."]


VERB = Verb(
    "client-config",
    "what podman, containerd, buildkit or a docker outside the swarm needs to use the mirror",
    "swarm-registry-mirror client-config podman --stack prod",
    run,
    lambda parser: parser.add_argument(
        "client", choices=tuple(CLIENTS), help="the client that is to use the mirror"
    ),
    has_json=True,
)
