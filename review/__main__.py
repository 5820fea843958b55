"""`python -m review preview|clean STACK …`: started by `tools/preview.py`, in the project's Python environment.

    preview STACK [--state FILE] [--file FILE] [--markdown FILE] [--json]   what would change; against a state, or as new
    clean STACK                                                             stdin: a state with secrets; stdout: without
    pack STACK                                                              whether this Pulumi runs the policy pack

Exit code: 0 it can be applied, 1 it cannot, 3 it is against the policy; of `pack` 0 it does, 1 it does not.
"""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from policy import rules
from review import pack
from review import report as reports
from review.configuration import NoStackFile, secrets_of
from review.room import Room, RoomError, room
from review.state import SHAPES, without_secrets

WELL, FAULTY, AGAINST_POLICY = 0, 1, 3
CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m review")
    parser.add_argument("action", choices=["preview", "clean", "pack"])
    parser.add_argument("stack")
    parser.add_argument("--file", type=Path, help="the stack's file, where it is not Pulumi.STACK.yaml")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    try:
        if chosen.action == "clean":
            return _clean(json.load(sys.stdin))
        if chosen.action == "pack":
            return WELL if pack.try_out(CHECKOUT, os.environ) else FAULTY
        state = _state(chosen.state)
        file = chosen.file or CHECKOUT / f"Pulumi.{chosen.stack}.yaml"
        with room(CHECKOUT, chosen.stack, file, os.environ, (state or {}).get(SHAPES)) as made:
            return _preview(made, state, chosen)
    except RoomError as error:
        print(f"{chosen.stack}: {reports.plain_lines(str(error))}", file=sys.stderr)
        return FAULTY


def _preview(made: Room, state: dict[str, Any] | None, chosen: argparse.Namespace) -> int:
    preview = made.preview(state)
    found = reports.read(chosen.stack, preview.report)
    if not found.faults:
        found.violations.extend(map(reports.plain, rules.check(reports.resources(preview.report, preview.inputs))))
        if not preview.accepted and not found.violations:
            # An error would be a fault by now. What a policy pack finds is not in Pulumi's JSON.
            found.violations.append("Pulumi's policy packs refuse this; `pulumi preview --policy-pack policy` says why")
    found.notes.extend(made.notes)
    if state is None and not found.faults:
        found.notes.append("no state was given, so everything counts as new")
    if chosen.json:
        print(json.dumps({**dataclasses.asdict(found), "headline": found.headline}, indent=1))
    else:
        print("\n" + reports.as_text(found))
    if chosen.markdown:
        chosen.markdown.write_text(reports.as_markdown(found))
    return FAULTY if found.faults else AGAINST_POLICY if found.violations else WELL


def _state(file: Path | None) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except OSError as error:
        raise RoomError(f"the state {file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RoomError(f"{file} is not a state: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("deployment"), dict):
        raise RoomError(f"{file} is not a state; `make save-state` writes one")
    return found


def _clean(given: dict[str, Any]) -> int:
    try:
        secrets = secrets_of(given["file"], given["values"], lambda name: Path(name).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise RoomError(f"sshPrivateKeyFile {error.filename} cannot be read: {error.strerror}") from None
    except NoStackFile as error:
        raise RoomError(f"this is not a stack's file: {error}") from None
    print(json.dumps(without_secrets(given["state"], secrets), indent=1))
    return WELL


if __name__ == "__main__":
    sys.exit(main())
