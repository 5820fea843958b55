"""How the command talks: tables, colour, progress, exit codes, and the one kind of error that ends it."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

WELL, DRIFTED, UNREACHABLE, POLICY, UNKNOWN, USAGE, INTERRUPTED = 0, 1, 2, 3, 4, 64, 130
"""Exit codes. 3 is for what is against a policy, which no verb here finds out; `make preview` does."""

EXIT_CODES = """exit codes:
  0   all is well
  1   something has drifted, is wrong, or cannot be applied
  2   a machine cannot be reached
  3   against a policy (kept for previews)
  4   it could not be found out: no stack, no mirror, no state that this version reads
  64  wrong usage
"""


class CommandError(Exception):
    """What ends the command: `reason` is the line that matters, `remedy` what to do about it, `code` the exit code."""

    def __init__(self, reason: str, remedy: str = "", code: int = UNKNOWN) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.code = code


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


def worst(codes: Sequence[int]) -> int:
    """Of several exit codes the one that matters most: what could not be found out, then what could not be reached."""
    return max(codes, default=WELL)


_RED, _GREEN, _YELLOW = "31", "32", "33"


def has_colour(stream: IO[str]) -> bool:
    """Whether colour is wanted there (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(cell: str) -> str:
    """A state in the colour of its kind; any other text as it is."""
    word = cell.strip()
    if word in ("well", "as known"):
        return f"\x1b[{_GREEN}m{cell}\x1b[0m"
    if word in ("drained", "paused"):
        return f"\x1b[{_YELLOW}m{cell}\x1b[0m"
    return f"\x1b[{_RED}m{cell}\x1b[0m" if len(word) > 1 and word.isupper() else cell


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, colour: bool | None = None) -> str:
    """Columns as wide as their widest cell; numbers (cells that begin with a digit) to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    paint = coloured if (has_colour(sys.stdout) if colour is None else colour) else str

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if cell[:1].isdigit() and cells is not head else cell.ljust(width)
            for cell, width in zip(cells, widths, strict=True)
        ]
        padded[-1] = padded[-1].rstrip()
        return "  " + "   ".join(padded if cells is head else map(paint, padded)).rstrip()

    return "\n".join([line(head), "  " + "   ".join("─" * width for width in widths), *(line(row) for row in rows)])


@contextlib.contextmanager
def progress(title: str) -> Iterator[None]:
    """Show on a terminal that work goes on; nothing stays, and nothing is shown where nobody watches."""
    live = sys.stderr.isatty()
    if live:
        print(f"  …  {title}", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
