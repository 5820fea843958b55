"""How the command talks to a person: tables, colour and progress; and what a verb is."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from .errors import OK


@dataclass(frozen=True)
class Verb:
    """A sub-command. `run` returns the exit code."""

    name: str
    summary: str
    example: str
    run: Callable[[argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], object] | None = None
    has_json: bool = False
    has_stack: bool = True
    has_mirrors: bool = True
    has_configuration: bool = False
    """Whether it may be given another file with the stack's configuration."""


def worst(codes: Sequence[int]) -> int:
    """Of several exit codes the one that matters most: what could not be found out, then what could
    not be reached."""
    return max(codes, default=OK)


_RED, _GREEN, _YELLOW = "31", "32", "33"


def has_colour(stream: IO[str]) -> bool:
    """Whether colour is wanted there (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(cell: str) -> str:
    """A state in the colour of its kind; any other text as it is."""
    word = cell.strip()
    if word in ("healthy", "as known"):
        return f"\x1b[{_GREEN}m{cell}\x1b[0m"
    if word in ("drained", "paused"):
        return f"\x1b[{_YELLOW}m{cell}\x1b[0m"
    return f"\x1b[{_RED}m{cell}\x1b[0m" if len(word) > 1 and word.isupper() else cell


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, colour: bool | None = None) -> str:
    """Columns as wide as their widest cell; numbers (cells that begin with a digit) to the
    right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    paint = coloured if (has_colour(sys.stdout) if colour is None else colour) else str

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if cell[:1].isdigit() and cells is not head else cell.ljust(width)
            for cell, width in zip(cells, widths, strict=True)
        ]
        padded[-1] = padded[-1].rstrip()
        return "  " + "   ".join(padded if cells is head else map(paint, padded)).rstrip()

    return "\n".join(
        [
            line(head),
            "  " + "   ".join("─" * width for width in widths),
            *(line(row) for row in rows),
        ]
    )


@contextlib.contextmanager
def progress(title: str) -> Iterator[None]:
    """Show on a terminal that work is in progress. It is erased at the end; without a terminal
    nothing is printed."""
    live = sys.stderr.isatty()
    if live:
        print(f"  …  {title}", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
