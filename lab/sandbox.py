"""A sandbox for one lab: its own network, mount and process namespaces.

Owns: the namespaces in which a lab lives, how to start a process in them, how to find them again
and how to end them.

Why namespaces and not a bridge on the computer itself: the computer's interfaces, packet filter,
`/run` and docker are never touched, two labs on one computer may use the same addresses, and ending
**one** process (the sandbox's first) makes the kernel end every other process, unmount every mount
and remove every interface of the lab. There is nothing that an interruption could leave behind but
files in the lab's own folder.

It deliberately knows nothing of nodes, docker or images.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "swarm-registry-mirror-lab"
"""First argument of the sandbox's init process: `labs_on_this_computer` finds it in the process
table."""

INIT = """
import os, signal, sys
# The first process of a process namespace inherits every orphan, so it must reap; when it ends, all of them end.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
signal.signal(signal.SIGINT, signal.SIG_IGN)
# One standing child: without it wait() would raise when the lab has no process yet.
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        signal.pause()
while True:
    os.wait()
"""  # noqa: E501

SETUP = """
set -e
[ ! -e /run/swarm-registry-mirror-lab ] || exit 0
# systemd-nspawn keeps its state in /run/systemd and wants a tmpfs there; a private /run leaves the computer's alone.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/nspawn /run/lock
mkdir -p {folder}
ip link set lo up
touch /run/swarm-registry-mirror-lab
"""  # noqa: E501
"""Written last: a run that was interrupted before it starts over."""


class SandboxError(Exception):
    """The sandbox could not be made or entered; the message says why and what to do."""


@dataclass(frozen=True)
class Sandbox:
    """The namespaces of the lab that lives in `folder` (an absolute path)."""

    folder: Path

    @property
    def init_pid(self) -> int | None:
        """Process id of the running sandbox's init on this computer, or None."""
        for pid, folder in labs_on_this_computer():
            if folder == self.folder:
                return pid
        return None

    def start(self) -> None:
        """Make the namespaces unless they are there already.

        Raises SandboxError if the kernel refuses (no root, namespaces switched off).
        """
        if self.init_pid is None:
            self._start_init()
        self.run(["sh", "-c", SETUP.format(folder=shlex.quote(str(self.folder)))])

    def _start_init(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = (self.folder / "sandbox.log").open("ab")
        subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--propagation",
                "private",
                "--mount-proc",
                "--",
                "python3",
                "-c",
                INIT,
                MARK,
                str(self.folder),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
        deadline = time.monotonic() + 10
        while self.init_pid is None:
            if time.monotonic() > deadline:
                msg = (
                    f"the sandbox did not start within 10 s; see {self.folder / 'sandbox.log'}"
                    " (namespaces need root)"
                )
                raise SandboxError(msg)
            time.sleep(0.05)

    def command(self, argv: Sequence[str], *, network_only: bool = False) -> list[str]:
        """`argv` prefixed so that it runs inside the sandbox.

        `network_only` joins just the network: what a person's own programs need to reach the nodes.
        """
        pid = self.init_pid
        if pid is None:
            msg = f"the lab in {self.folder} is not running; start it with `make lab`"
            raise SandboxError(msg)
        spaces = ["--net"] if network_only else ["--net", "--mount", "--pid"]
        return ["nsenter", "--target", str(pid), *spaces, "--", *argv]

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> str:
        """Run `argv` inside and return its stdout; raises SandboxError with its stderr if it
        fails."""
        try:
            done = subprocess.run(
                self.command(argv), input=stdin, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            msg = f"`{shlex.join(argv)[:200]}` did not end within {timeout:.0f} s"
            raise SandboxError(msg) from None
        if done.returncode != 0:
            reason = (done.stderr or done.stdout).decode(errors="replace").strip()
            msg = f"`{shlex.join(argv)[:200]}` ended with {done.returncode}: {reason[-600:]}"
            raise SandboxError(msg)
        return done.stdout.decode(errors="replace")

    def spawn(
        self, argv: Sequence[str], log: Path, *, network_only: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a process inside that outlives the caller; its output goes to `log`."""
        with log.open("ab") as out:
            return subprocess.Popen(
                self.command(argv, network_only=network_only),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd="/",
            )

    def processes(self) -> list[tuple[int, list[str]]]:
        """(process id inside, words of its command line) of everything that runs in the sandbox,
        nodes included."""
        listing = self.run(
            [
                "sh",
                "-c",
                "cd /proc; for p in [0-9]*; do printf '%s\\t' $p; tr '\\0' '\\t' < $p/cmdline;"
                " echo; done 2>/dev/null; :",
            ]
        )
        rows = [line.split("\t") for line in listing.splitlines()]
        return [(int(row[0]), row[1:]) for row in rows if row[0].isdigit() and len(row) > 1]

    def stop(self) -> None:
        """End the sandbox: every process in it ends, every mount and interface of it is removed.
        Safe to repeat."""
        pid = self.init_pid
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while self.init_pid is not None and time.monotonic() < deadline:
            time.sleep(0.05)


def labs_on_this_computer() -> list[tuple[int, Path]]:
    """(init's process id, folder) of every sandbox that runs on this computer, whoever's checkout
    it belongs to."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            status = (entry / "status").read_text()
        except OSError:  # the process ended while we looked
            continue
        if len(words) < 5 or words[3] != MARK.encode() or b"python" not in words[0]:
            continue
        # NSpid lists one number per nested process namespace: the init is number 1 in its own.
        numbers = next(
            (line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), []
        )
        if numbers[-1:] == ["1"] and "State:\tZ" not in status:
            found.append((int(entry.name), Path(os.fsdecode(words[4]))))
    return found
