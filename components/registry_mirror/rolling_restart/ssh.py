"""Runs a command on another machine with the ssh program, for a key and a host key that are given as text.

Owns where the key is meanwhile, and what of a machine's answer is believed: its first bytes, as text, without control characters.
"""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

UNREACHABLE = 255
"""ssh's own exit code where the connection, not the command, failed (ssh(1), EXIT STATUS)."""

OUTPUT_LIMIT = 1 << 20
"""Bytes of output and of errors that are read. An answer of the agent has a few hundred; a machine that was taken over may send
without end, to a process that holds the keys of all others."""
_TOO_MUCH = 1

_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?")
"""A terminal's sequences as a whole (ECMA-48, CSI and OSC); of every other one the character that begins it is dropped."""


@contextlib.contextmanager
def ssh_command(host: str, *, user: str, port: int, private_key: str, host_key: str, connect_seconds: int) -> Iterator[list[str]]:
    """The command line to put a remote command behind, good for as long as this lasts.

    The key is in no file that could stay: on Linux it is in memory that ends with this process, however that ends.
    """
    texts = (private_key.rstrip("\n") + "\n", f"* {host_key}\n")
    with _in_memory(*texts) if hasattr(os, "memfd_create") else _in_files(*texts) as (key, known_hosts):
        options = {
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "UserKnownHostsFile": known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "ConnectTimeout": str(connect_seconds),
            "StrictHostKeyChecking": "yes",
            "HostKeyAlgorithms": host_key.split()[0],
        }
        flat = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        yield ["ssh", "-T", "-F", "/dev/null", "-i", key, *flat, "-p", str(port), f"{user}@{host}", "--"]


@contextlib.contextmanager
def _in_memory(*texts: str) -> Iterator[list[str]]:
    """Names under which a child reads each text from this process's own memory.

    By this process's folder in /proc and not by /proc/self: ssh closes what it inherits (openssh ssh.c, closefrom).
    """
    with contextlib.ExitStack() as opened:
        names = []
        for text in texts:
            memory = os.memfd_create("swarm-registry-mirror")
            opened.callback(os.close, memory)
            os.fchmod(memory, 0o600)  # ssh refuses a key that others may read (openssh authfile.c, sshkey_perm_ok)
            os.write(memory, text.encode())
            # As this /proc calls us: in a namespace of its own a process has another number there than os.getpid() says.
            names.append(f"/proc/{Path('/proc/self').readlink()}/fd/{memory}")
        yield names


@contextlib.contextmanager
def _in_files(*texts: str) -> Iterator[list[str]]:
    """Names of files for their owner only, for systems without memory that has a name: gone afterwards, also after SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="swarm-registry-mirror-") as folder, _signals_are_exits():
        names = []
        for index, text in enumerate(texts):
            file = Path(folder, str(index))
            file.touch(mode=0o600)
            file.write_text(text)
            names.append(str(file))
        yield names


@contextlib.contextmanager
def _signals_are_exits() -> Iterator[None]:
    """SIGTERM and SIGHUP end the process by an exception, so that what was opened is closed. Only the main thread may say so."""
    before = {}
    with contextlib.suppress(ValueError):
        for number in (signal.SIGTERM, signal.SIGHUP):
            before[number] = signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(ssh: list[str], command: str, stdin: str, seconds: float) -> "subprocess.CompletedProcess[str]":
    """Run a remote command. One that does not end in `seconds` counts as unreachable; of one that says more than OUTPUT_LIMIT
    nothing is believed. What it says is text without control characters but the ends of lines."""
    with subprocess.Popen(
        [*ssh, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as running:
        try:
            output, errors = _talk(running, stdin.encode(), time.monotonic() + seconds)
            code = running.wait(timeout=seconds)
        except (TimeoutError, subprocess.TimeoutExpired):
            return _failed(ssh, running, UNREACHABLE, f"no answer within {seconds:.0f} s")
        except OverflowError:
            reason = "it answered with more than 1 MiB, which the node agent never does; look at that machine"
            return _failed(ssh, running, _TOO_MUCH, reason)
        except BaseException:
            running.kill()
            raise
    return subprocess.CompletedProcess(ssh, code, printable(output), printable(errors))


def printable(answer: bytes) -> str:
    """Bytes from a machine as text that is safe on a terminal: neither escape sequences nor marks that reorder or hide."""
    text = _ESCAPE.sub("", answer.decode(errors="replace")).replace("\t", " ")
    return "".join(character for character in text if character.isprintable() or character == "\n")


def _talk(running: "subprocess.Popen[bytes]", stdin: bytes, until: float) -> tuple[bytes, bytes]:
    """Give `stdin` and take what comes. Raises TimeoutError, and OverflowError where too much comes."""
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


def _failed(ssh: list[str], running: "subprocess.Popen[bytes]", code: int, reason: str) -> "subprocess.CompletedProcess[str]":
    running.kill()
    return subprocess.CompletedProcess(ssh, code, "", reason)
