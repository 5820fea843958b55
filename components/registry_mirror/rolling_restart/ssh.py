"""Runs an action on a machine, through the runner (`runner.sh`) that whoever has started us uses
too.

Owns what of a machine's answer is believed: its first bytes, as text, without control characters.
"""

import os
import re
import selectors
import subprocess
import time
from collections.abc import Mapping
from typing import IO

from ..answer import UNREACHABLE

OUTPUT_LIMIT = 1 << 20
"""Bytes of output and of errors that are read. An answer of the agent has a few hundred; a machine
that was taken over may send without end, to a process that holds the keys of all others."""
_TOO_MUCH = 1

_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?")
"""A terminal's sequences as a whole (ECMA-48, CSI and OSC); of every other one the character that
begins it is dropped."""


def run(
    runner: str, action: str, environment: Mapping[str, str], stdin: str, seconds: float
) -> "subprocess.CompletedProcess[str]":
    """Do `action` on the machine that `environment` leads to (`runner.sh`), with settings on stdin.

    One that does not end in `seconds` counts as unreachable; of one that says more than
    OUTPUT_LIMIT nothing is believed. What it says is text without control characters but the ends
    of lines.
    """
    argv = ["sh", runner, action]
    # The runner ends by itself, with the machine's name in its words; we do where it cannot.
    variables = {**os.environ, **environment, "MIRROR_SECONDS": str(int(seconds))}
    with subprocess.Popen(
        argv,
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as running:
        try:
            output, errors = _talk(running, stdin.encode(), time.monotonic() + seconds + _MARGIN)
            code = running.wait(timeout=seconds)
        except (TimeoutError, subprocess.TimeoutExpired):
            return _failed(argv, running, UNREACHABLE, f"no answer within {seconds:.0f} s")
        except OverflowError:
            reason = (
                "it answered with more than 1 MiB, which the node agent never does; look at"
                " that machine [RM207]"
            )
            return _failed(argv, running, _TOO_MUCH, reason)
        except BaseException:
            running.kill()
            raise
    return subprocess.CompletedProcess(argv, code, printable(output), printable(errors))


_MARGIN = 5.0
"""Seconds for the runner to end by itself."""


def printable(answer: bytes) -> str:
    """Bytes from a machine as text that is safe on a terminal: neither escape sequences nor marks
    that reorder or hide."""
    text = _ESCAPE.sub("", answer.decode(errors="replace")).replace("\t", " ")
    return "".join(character for character in text if character.isprintable() or character == "\n")


def _talk(running: "subprocess.Popen[bytes]", stdin: bytes, until: float) -> tuple[bytes, bytes]:
    """Give `stdin` and take what comes. Raises TimeoutError, and OverflowError where too much
    comes."""
    assert running.stdin is not None
    assert running.stdout is not None
    assert running.stderr is not None
    said: dict[IO[bytes], bytearray] = {running.stdout: bytearray(), running.stderr: bytearray()}
    os.set_blocking(running.stdin.fileno(), False)
    with selectors.DefaultSelector() as waiting:
        for stream in said:
            waiting.register(stream, selectors.EVENT_READ)
        waiting.register(running.stdin, selectors.EVENT_WRITE)
        while waiting.get_map():
            ready = waiting.select(max(until - time.monotonic(), 0))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                if key.fileobj is running.stdin:
                    try:
                        stdin = stdin[os.write(key.fd, stdin[:65536]) :] if stdin else b""
                    except BrokenPipeError:  # it has ended without reading, and says why itself
                        stdin = b""
                    if not stdin:
                        waiting.unregister(running.stdin)
                        running.stdin.close()
                    continue
                stream = running.stdout if key.fileobj is running.stdout else running.stderr
                piece = os.read(key.fd, 65536)
                if not piece:
                    waiting.unregister(stream)
                said[stream] += piece
                if len(said[stream]) > OUTPUT_LIMIT:
                    raise OverflowError
    return bytes(said[running.stdout]), bytes(said[running.stderr])


def _failed(
    argv: list[str], running: "subprocess.Popen[bytes]", code: int, reason: str
) -> "subprocess.CompletedProcess[str]":
    running.kill()
    return subprocess.CompletedProcess(argv, code, "", reason)
