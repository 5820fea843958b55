"""A root file system of a test's own, in which a container's script runs as it does in the
container.

What a script deletes by mistake must not be this computer's. It is process 1 of its own process,
mount and network namespaces, and its root is a folder of the test, with the computer's programs
laid in read-only, or a busybox alone as in Alpine's images. Whatever it has started ends with it.
"""

import functools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

AS_ROOT = () if os.geteuid() == 0 else ("--user", "--map-root-user")
NAMESPACES = (
    "unshare",
    *AS_ROOT,
    "--mount",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
    "--propagation",
    "private",
)
SETUP = """
set -e
root=$1; shift
for folder in $PROGRAMS; do
  mount --bind "/$folder" "$root/$folder"
  mount -o remount,bind,ro "$root/$folder"
done
for device in null zero urandom; do mount --bind /dev/$device "$root/dev/$device"; done
mount -t proc proc "$root/proc"
ip link set lo up
eval "$PREPARE"
exec chroot "$root" /bin/sh -c 'cd / && exec "$@"' sh "$@"
"""
FOLDERS = ("dev", "proc", "tmp", "etc", "own", "victim", "elsewhere")


@functools.cache
def why_not() -> str:
    """Why there can be no such root here; empty if there can."""
    done = subprocess.run(
        [*NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else f"no namespaces here: {done.stderr.strip()}"


@dataclass
class ContainerRoot:
    """`folder` is the root; `busybox` the only program in it, or None for the computer's own."""

    folder: Path
    busybox: Path | None = None
    prepare: str = ""
    """Shell commands in the namespaces, before the root is entered."""

    def __post_init__(self) -> None:
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True)
        for device in ("null", "zero", "urandom"):
            (self.folder / "dev" / device).touch()
        (self.folder / "victim" / "file").write_text("precious")
        self._programs: list[str] = []
        if self.busybox is not None:
            (self.folder / "bin").mkdir()
            (self.folder / "bin/busybox").write_bytes(self.busybox.read_bytes())
            (self.folder / "bin/busybox").chmod(0o755)
            listed = subprocess.run(
                [self.busybox, "--list"], capture_output=True, text=True, check=True
            ).stdout.split()
            for applet in set(listed) - {"busybox"}:
                (self.folder / "bin" / applet).symlink_to("busybox")
            return
        for name in ("bin", "sbin", "lib", "lib64", "usr"):
            source = Path("/", name)
            if source.is_symlink():
                (self.folder / name).symlink_to(source.readlink())
            elif source.is_dir():
                (self.folder / name).mkdir()
                self._programs.append(name)

    def start(
        self, *argv: str, path: str = "/own:/usr/sbin:/usr/bin:/sbin:/bin"
    ) -> "subprocess.Popen[str]":
        """`argv` as process 1, with its output (both kinds) in a pipe."""
        settings = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PROGRAMS": " ".join(self._programs),
            "PREPARE": f"{self.prepare}\nexport PATH={path}",
        }
        # The computer's chroot by its full name: the PATH is the container's already.
        setup = SETUP.replace("exec chroot", f"exec {_program('chroot')}")
        return subprocess.Popen(
            [*NAMESPACES, "/bin/sh", "-c", setup, "sh", str(self.folder), *argv],
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _program(name: str) -> str:
    return next(
        str(path)
        for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
        if (path := Path(folder, name)).exists()
    )
