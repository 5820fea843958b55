"""`policy`: checks what is deployed against the policies, or writes them as a policy pack for
Pulumi itself.

Connects to no node. A preview is checked by `preview`, before anything is deployed.
"""

import argparse
import json
import os
from pathlib import Path

from ..plain_text import one_line, without_credentials
from ..policy import rules
from . import deployed, packs, stack
from .console import Verb, progress
from .errors import DRIFTED, OK, POLICY


def run(options: argparse.Namespace) -> int:
    """3 for a violation. Raises CommandError."""
    if options.pack is not None:
        return _write(options.pack)
    if options.try_out is not None:
        return _try(options.try_out)
    violations = [
        without_credentials(one_line(violation))
        for violation in rules.check(deployed.as_declared(stack.chosen(options).state()))
    ]
    if options.json:
        print(json.dumps(violations, indent=1))
    elif violations:
        print("\n".join(["", *(f"  {violation}" for violation in violations), ""]))
    else:
        print("  What is deployed is against no policy.")
    return POLICY if violations else OK


def _write(folder: Path) -> int:
    for file in packs.write(folder):
        print(f"  written: {file}")
    print(
        f"  Install its requirements.txt into {folder / 'venv'}; then `pulumi preview --policy-pack"
        f" {folder}`."
    )
    return OK


def _try(folder: Path) -> int:
    with progress("whether this Pulumi runs the pack"):
        runs = packs.try_out(folder, os.environ)
    print(
        f"  Pulumi runs the pack: `preview --policy-pack {folder}` has it enforced."
        if runs
        else "  This Pulumi does not run policy packs (the official one does); `preview` checks the"
        " rules by itself."
    )
    return OK if runs else DRIFTED


def _arguments(parser: argparse.ArgumentParser) -> None:
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--pack",
        type=Path,
        metavar="FOLDER",
        help="write the policies as a policy pack, for `pulumi preview --policy-pack FOLDER`",
    )
    instead.add_argument(
        "--try",
        dest="try_out",
        type=Path,
        metavar="FOLDER",
        help="find out whether the Pulumi on PATH runs the pack in that folder; `preview` then has"
        " it enforced",
    )


VERB = Verb(
    "policy",
    "checks what is deployed against the policies, or writes them as a policy pack",
    "swarm-registry-mirror policy --stack prod",
    run,
    _arguments,
    has_json=True,
    has_mirrors=False,
)
