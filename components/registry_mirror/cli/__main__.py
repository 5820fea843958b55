"""Where the command begins: its verbs, its flags, and how it ends."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ..rules import InvalidArgs
from . import (
    advisories,
    client_config,
    cloud_init,
    completion,
    engines,
    enrol,
    forget,
    hostkeys,
    metrics,
    monitoring,
    pin,
    policy,
    prepull,
    purge,
    repair,
    stats,
    status,
    sudoers,
    unlock,
    up,
    warm,
    why,
)
from .adopt import command as adopt
from .console import Verb
from .errors import EXIT_CODES, INTERRUPTED, UNKNOWN, USAGE, CommandError
from .preview import command as preview

PROGRAM = "swarm-registry-mirror"
VERBS: tuple[Verb, ...] = (
    status.VERB,
    repair.VERB,
    stats.VERB,
    metrics.VERB,
    monitoring.VERB,
    why.VERB,
    warm.VERB,
    prepull.VERB,
    purge.VERB,
    preview.VERB,
    up.VERB,
    policy.VERB,
    adopt.VERB,
    pin.VERB,
    client_config.VERB,
    enrol.VERB,
    cloud_init.VERB,
    engines.VERB,
    advisories.VERB,
    hostkeys.VERB,
    forget.VERB,
    unlock.VERB,
    sudoers.VERB,
    completion.verb(lambda: parser()),
)


class _Parser(argparse.ArgumentParser):
    """argparse ends with 2 on wrong usage, which means something else here."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    raw = argparse.RawDescriptionHelpFormatter
    whole = _Parser(
        prog=PROGRAM,
        description="Looks after the registry mirrors of a Pulumi stack: reads the stack's state"
        " and asks its nodes.",
        epilog=EXIT_CODES,
        formatter_class=raw,
    )
    verbs = whole.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        sub = verbs.add_parser(
            verb.name,
            help=verb.summary,
            description=verb.summary[0].upper() + verb.summary[1:] + ".",
            epilog=f"example:\n  {verb.example}\n\n{EXIT_CODES}",
            formatter_class=raw,
        )
        if verb.arguments is not None:
            verb.arguments(sub)
        if verb.has_stack:
            sub.add_argument(
                "--stack", "-s", help="the stack (default: the one that is selected in the folder)"
            )
            sub.add_argument(
                "--cwd",
                "-C",
                type=Path,
                default=Path(),
                metavar="FOLDER",
                help="the folder of the program (default: this one)",
            )
        if verb.has_configuration:
            sub.add_argument(
                "--config-file",
                type=Path,
                metavar="FILE",
                help="the stack's configuration, where it is not Pulumi.<stack>.yaml",
            )
        if verb.has_stack and verb.has_mirrors:
            sub.add_argument(
                "--mirror",
                metavar="NAME",
                help="one of several mirrors in the stack (default: all)",
            )
        if verb.has_json:
            sub.add_argument("--json", action="store_true", help="for scripts")
        sub.set_defaults(run=verb.run)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; every failure is two short lines, and an exit code of
    EXIT_CODES."""
    try:
        options = parser().parse_args(argv)
        code: int = options.run(options)
    except CommandError as error:
        return _failed(error)
    except InvalidArgs as error:  # of this computer: the folder for the runner
        return _failed(CommandError("; ".join(map(str, error.faults)), code=UNKNOWN))
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    return code


def _failed(error: CommandError) -> int:
    print("", *error.lines(), sep="\n", file=sys.stderr)
    return error.code


if __name__ == "__main__":
    sys.exit(main())
