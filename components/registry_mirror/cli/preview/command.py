"""`preview`: what `pulumi up` would change, in a few lines, checked against the policies.

It compares with the stack's own state, from its backend, or with a saved one (`--state`), and needs
neither the swarm nor a secret for that: it opens no connection to any node. `--offline` asks no
backend either, which is for previews of pull requests; `--save` writes the state for them, without
secrets.
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from .. import stack
from ..console import Verb, progress
from ..errors import DRIFTED, OK, POLICY, USAGE, CommandError
from ..stack import Stack
from . import report as reports
from .configuration import Conventions, NoStackFile, secrets_of
from .redact import SHAPES, without_secrets
from .sandbox import Sandbox, sandbox

SAVED = "previews/{}.json"
"""Where `--offline` finds a saved state, if none is named; in the program's folder."""


def run(options: argparse.Namespace) -> int:
    """1 if it cannot be applied, 3 if it is against a policy. Raises CommandError."""
    chosen = stack.chosen(options)
    if options.save is not None:
        return save(chosen, options.save)
    if options.offline and not chosen.name:
        raise CommandError("--offline asks nobody which stack is selected", "say --stack", USAGE)
    state = _state(options, chosen)
    with sandbox(
        chosen.folder,
        chosen.short_name,
        chosen.file,
        os.environ,
        (state or {}).get(SHAPES),
        options.policy_packs,
    ) as made:
        return preview(made, state, options)


def preview(made: Sandbox, state: dict[str, Any] | None, options: argparse.Namespace) -> int:
    """Run Pulumi in the sandbox, and report. Raises CommandError."""
    with progress("pulumi preview"):
        answer = made.preview(state)
    report = reports.read(made.stack, answer.report)
    if not report.faults:
        declared = reports.resources(answer.report, answer.inputs)
        report.violations.extend(map(reports.plain, reports.violations(declared)))
        if not answer.accepted and not report.violations:
            # An error would be a fault by now. What a policy pack finds is not in Pulumi's JSON.
            report.violations.append(
                "Pulumi's policy packs refuse this; `pulumi preview --policy-pack FOLDER` says why"
            )
    report.notes.extend(made.notes)
    if state is None and not report.faults:
        report.notes.append("no state was given, so everything counts as new")
    report = dataclasses.replace(report, compared_with=reports.time_of(state))
    if options.json:
        print(json.dumps(report.as_json(), indent=1))
    else:
        print("\n" + reports.as_text(report))
    if options.markdown:
        options.markdown.write_text(reports.as_markdown(report), encoding="utf-8")
    return DRIFTED if report.faults else POLICY if report.violations else OK


def save(chosen: Stack, file: Path) -> int:
    """Write the stack's state, without secrets. Raises CommandError."""
    state = cleaned_state(chosen)
    if state is None:
        raise CommandError(f"there is no stack {chosen.short_name} yet", "`pulumi up` makes it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(state, indent=1), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from None
    print(
        f"  {file}: the state without secrets; commit it, so that pull requests are compared with"
        " it"
    )
    return OK


def cleaned_state(chosen: Stack) -> dict[str, Any] | None:
    """The stack's state without its secrets; None where the stack does not exist yet. Raises
    CommandError."""
    if not chosen.exists():
        return None
    conventions = Conventions(str(stack.project(chosen.folder)["name"]))

    def read(name: str) -> str:
        path = chosen.folder / Path(name).expanduser()
        return path.read_text(encoding="utf-8")

    try:
        secrets = secrets_of(
            chosen.file.read_text(encoding="utf-8"), chosen.configuration(), read, conventions
        )
    except (OSError, UnicodeDecodeError) as error:
        name = error.filename if isinstance(error, OSError) else "a file of the configuration"
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandError(
            f"{name} cannot be read: {reason}",
            "its content must be known, so that it can be taken out of the state",
        ) from None
    except NoStackFile as error:
        raise CommandError(f"{chosen.file.name} is not a stack's file: {error}") from None
    return without_secrets(chosen.state(), secrets)


def _state(options: argparse.Namespace, chosen: Stack) -> dict[str, Any] | None:
    """What to compare with; None: everything is new. Raises CommandError."""
    if options.state is not None:
        return _saved(options.state)
    if not options.offline:
        return cleaned_state(chosen)
    file = chosen.folder / SAVED.format(chosen.short_name)
    return _saved(file) if file.exists() else None


def _saved(file: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"the state {file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{file} is not a state: {error}") from None
    if not isinstance(state, dict) or not isinstance(state.get("deployment"), dict):
        raise CommandError(f"{file} is not a state", "`preview --save FILE` writes one")
    return state


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="compare with a state that --save has written"
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="ask no backend: compare with --state, or with previews/<stack>.json if that is there,"
        " or else everything is new",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="write the stack's state without secrets, and do nothing else",
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write a comment for a pull request, too"
    )
    parser.add_argument(
        "--policy-pack",
        dest="policy_packs",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="have Pulumi itself enforce this pack, if `policy --try` has seen it run",
    )


VERB = Verb(
    "preview",
    "what `pulumi up` would change, checked against the policies; connects to no node",
    "swarm-registry-mirror preview --stack prod --markdown comment.md",
    run,
    _arguments,
    has_json=True,
    has_mirrors=False,
    has_configuration=True,
)
