"""The registry's container as the service declares it: its scripts, a busybox, and the registry as
process 1 on a read-only root.

The network is that of the calling thread (tests/chain.py); the cache is a folder of the test's.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.registry_mirror.render import registry
from lab.plan import LABS
from tools.toolchain import BIN

BUSYBOX = LABS / "base/bookworm/bin/busybox"
CONFIGURATION = "/etc/distribution/config.yml"
SETUP = """
set -e
root=$1 cache=$2; shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$cache" "$root/var/lib/registry"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/dev/shm"
for device in null zero urandom; do mount --bind /dev/$device "$root/dev/$device"; done
mount -t proc proc "$root/proc"
exec chroot "$root" /bin/env -i PATH=/usr/local/bin:/bin OTEL_TRACES_EXPORTER=none "$@"
"""


@dataclass(frozen=True)
class RegistryContainer:
    """A container's root file system in `folder`."""

    folder: Path
    program: Path = BIN / "registry"

    def argv(
        self, configuration: str, cache: Path, words: Sequence[str], *, with_usage: bool = True
    ) -> list[str]:
        """What starts it, as process 1 of its own processes; its end ends them all."""
        self._fill(configuration, with_usage=with_usage)
        return [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"),
            *("/bin/sh", "-c", SETUP, "sh", str(self.folder), str(cache)),
            *("/bin/sh", registry.START, CONFIGURATION, *words, "DIGEST=sha256:0"),
        ]

    def _fill(self, configuration: str, *, with_usage: bool) -> None:
        for name in ("bin", "dev/shm", "proc", "tmp", "etc/distribution", "usr/local/bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "var/lib/registry").mkdir(parents=True, exist_ok=True)
        for device in ("null", "zero", "urandom"):
            (self.folder / "dev" / device).touch()
        (self.folder / CONFIGURATION[1:]).write_text(configuration)
        scripts = {"start-registry.sh": registry.START, "credential-helper.sh": registry.HELPER}
        if with_usage:
            scripts |= {"usage.sh": registry.USAGE, "evict.sh": registry.EVICT}
        for script, target in scripts.items():
            file = self.folder / target[1:]
            file.write_text(registry.script(script))
            file.chmod(0o555)
        for source, name in ((BUSYBOX, "busybox"), (self.program, "registry")):
            copy = self.folder / "bin" / name
            if not copy.exists():
                try:
                    copy.hardlink_to(source)
                except OSError:
                    copy.write_bytes(source.read_bytes())
                    copy.chmod(0o755)
        applets = subprocess.run(
            [BUSYBOX, "--list"], capture_output=True, text=True, check=True
        ).stdout.split()
        for applet in set(applets) - {"busybox"}:
            link = self.folder / "bin" / applet
            if not os.path.lexists(link):
                link.symlink_to("busybox")


def processes(running: "subprocess.Popen[bytes]") -> dict[int, str]:
    """Process ids of a container, as this computer has them, and their command lines."""
    entered = Path(f"/proc/{running.pid}/ns/pid_for_children").readlink()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "ns/pid").readlink() == entered:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(entry.name)] = command
        except OSError:
            continue
    return found
