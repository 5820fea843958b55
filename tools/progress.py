"""Stages with a title, a duration and a log: how every long command of this project talks to a
person.

Owns the look of that talk. It deliberately decides nothing: a stage's work is the caller's.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path


class StageError(Exception):
    """Work that did not succeed: `reason` is the line that matters, `remedy` what to do about
    it."""

    def __init__(self, reason: str, remedy: str = "", log: Path | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.log = log


class Stage:
    """A running stage: `note` sets the words that the finished line shows after the title."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.words = ""

    def note(self, words: str) -> None:
        """Say in a few words how the stage ended (`built from its Go module`)."""
        self.words = words


@contextlib.contextmanager
def stage(title: str) -> Iterator[Stage]:
    """Show that work on `title` is in progress; when it ends, how long it took."""
    running = Stage(title)
    live = sys.stdout.isatty()
    started = time.monotonic()
    if live:
        print(f"  …  {title}", end="\r", flush=True)
    try:
        yield running
    except BaseException:
        print(f"  ✗  {title:<44}  {time.monotonic() - started:6.1f} s", flush=True)
        raise
    print(
        f"  ✓  {title:<44}  {time.monotonic() - started:6.1f} s  {running.words}".rstrip(),
        flush=True,
    )


def run_logged(
    argv: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    remedy: str = "",
) -> None:
    """Run a command with its output going to `log`; raises StageError with the last line of it that
    says something."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in argv]
    with log.open("ab") as out:
        out.write(f"\n$ {shlex.join(words)}\n".encode())
        out.flush()
        start = out.tell()
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                check=False,
            )
        except FileNotFoundError:
            raise StageError(f"the program {words[0]} is not installed", remedy, log) from None
    if done.returncode != 0:
        text = log.read_bytes()[start:].decode(errors="replace")
        raise StageError(
            telling_line(text) or f"{words[0]} ended with {done.returncode}", remedy, log
        )


def telling_line(text: str) -> str:
    """The last line of a log that names an error, else its last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or line.startswith("E:")]
    return (errors or lines or [""])[-1]


def main_guard(work: Callable[[], object]) -> int:
    """Run `work()`; a StageError becomes three short lines and exit code 1, an interruption exit
    code 130."""
    try:
        work()
    except StageError as error:
        print(f"\nFailed: {error.reason}", file=sys.stderr)
        if error.log:
            print(f"   log: {error.log}", file=sys.stderr)
        if error.remedy:
            print(f"   do:  {error.remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The same command picks up where this one stopped.", file=sys.stderr)
        return 130
    return 0
