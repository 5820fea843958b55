"""Base root file systems: one Debian tree per suite, shared read-only by every node of every lab of this checkout.

Owns `.lab/base/<suite>`. Nodes lay an overlay of their own over it (`machines.py`), so a base is never written to.
"""

import hashlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from lab.plan import LABS, SUITES
from tools.progress import StageError, run_logged, stage

PACKAGES = ("docker.io", "openssh-server", "sudo", "iproute2", "iptables", "ca-certificates", "python3", "busybox-static")
SYSTEMD = ("systemd", "systemd-sysv", "dbus")
SYSV = ("sysvinit-core", "sysv-rc", "procps")
SHELLS = ("tcsh", "zsh", "fish")
"""Login shells that administrators have besides bash and dash, which are there."""
EXTRA = {"trixie": ("docker-cli", "sudo-rs")}
"""trixie ships docker's client apart from its daemon; it is the first release that has the sudo that newer systems come with."""

UNUSED = ("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/info/*")
"""Nobody reads them in a lab; leaving them out keeps two bases under 1 GiB."""

SYSV_SUITE = "bookworm-sysv"
"""A machine of bookworm without systemd, for whoever wants one; no lab has it by itself."""

CUSTOMIZE = (
    # What makes a machine itself is laid over the base (machines.py), or all of them would be one.
    'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/machine-id',
    # The same accounts everywhere; which of them a node accepts is decided by its authorized_keys.
    'chroot "$1" useradd --create-home --shell /bin/bash ops',
    'rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*',
)
CUSTOMIZE_SYSTEMD = (
    'chroot "$1" systemctl enable systemd-networkd.service ssh.service docker.service',
    # There is no timer that a machine of ten minutes' life needs, and some of them would ask the internet.
    'chroot "$1" systemctl mask apt-daily.timer apt-daily-upgrade.timer systemd-timesyncd.service'
    " systemd-networkd-wait-online.service systemd-modules-load.service",
)
CUSTOMIZE_SYSV = (
    # sysvinit's own /sys hides the control groups that nspawn has mounted; docker's script mounts others where this is one.
    """echo '[ -e /sys/fs/cgroup/memory ] || mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup' >> "$1"/etc/default/docker""",
    # Not every computer lets a machine raise this limit, and the script ends where it may not.
    """sed -i 's/^\\(\\s*ulimit .*\\)$/\\1 || true/' "$1"/etc/init.d/docker""",
)

COMPLETE = ".complete"
"""Written into a base last: the recipe that it was made by. An interrupted build has none and is made again."""


def base_folder(suite: str) -> Path:
    return LABS / "base" / suite


def make_bases() -> None:
    """Make the base of every suite that is not there yet. Raises StageError naming the line of mmdebstrap that matters."""
    for suite in SUITES:
        make_base(suite)


def make_base(suite: str) -> None:
    """As `make_bases`, for one: a release of Debian, or SYSV_SUITE. What another recipe has made is made again.

    Raises StageError also where machines lie over such a base: it must not change under them.
    """
    folder = base_folder(suite)
    made_by = folder / COMPLETE
    if made_by.exists() and made_by.read_text() == _recipe(suite):
        return
    if folder.exists():
        _refuse_if_used(suite)
        shutil.rmtree(folder)
    with stage(f"base system {suite} (mmdebstrap)"):
        _make(suite, folder)


def _recipe(suite: str) -> str:
    """Another word when a base would be made in another way."""
    return hashlib.sha256("\n".join([suite, *_how(suite)]).encode()).hexdigest()


def _refuse_if_used(suite: str) -> None:
    labs = sorted(path.parent.name for path in LABS.glob("*/nodes") if any(path.iterdir()))
    if labs:
        away = " && ".join(f"python3 -m lab --name {lab} down" for lab in labs)
        raise StageError(
            f"the recipe of the base system {suite} has changed, and the machines of {', '.join(labs)} lie over the old one",
            f"`{away}`, then the same command again",
        )


def _how(suite: str) -> list[str]:
    """Words of mmdebstrap's command line, the release last."""
    release, _, init = suite.partition("-")
    include = ",".join(PACKAGES + SHELLS + (SYSV if init else SYSTEMD) + EXTRA.get(suite, ()))
    customize = CUSTOMIZE + (CUSTOMIZE_SYSV if init else CUSTOMIZE_SYSTEMD)
    return [
        "--variant=minbase", f"--include={include}", *(f"--dpkgopt=path-exclude=/{pattern}" for pattern in UNUSED),
        *(f"--customize-hook={line}" for line in customize), release,
    ]  # fmt: skip


def _make(suite: str, folder: Path) -> None:
    log = LABS / "logs" / f"base-{suite}.log"
    building = folder.with_name(f"{suite}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.parent.mkdir(parents=True, exist_ok=True)
    how = _how(suite)
    run_logged(
        # A mount namespace of its own: mounts that mmdebstrap makes vanish with it, however it ends.
        ["unshare", "--mount", "mmdebstrap", *how, building, *_sources(how[-1])],
        log, remedy="check that Debian's package servers answer (apt-get update), then run the same command again",
    )  # fmt: skip
    (building / COMPLETE).write_text(_recipe(suite))
    building.rename(folder)


def debian_tree(suite: str, target: Path, packages: str, unused: Iterable[str] = (), variant: str = "essential") -> None:
    """A small Debian with `packages` as a tar file or folder, without the files that match `unused`. Raises StageError."""
    LABS.joinpath("base").mkdir(parents=True, exist_ok=True)
    run_logged(
        ["unshare", "--mount", "mmdebstrap", f"--variant={variant}", f"--include={packages}",
         *(f"--dpkgopt=path-exclude=/{pattern}" for pattern in (*UNUSED, *unused)), suite, target, *_sources(suite)],
        LABS / "logs" / f"{target.parent.name}-image.log",
        remedy="check that Debian's package servers answer (apt-get update), then run the same command again",
    )  # fmt: skip


def _sources(suite: str) -> list[Path]:
    """The computer's own Debian sources with the suite replaced: they are known to be reachable from here.

    Empty where it has none (Ubuntu): mmdebstrap then takes Debian's own archive, which it knows.
    """
    folder = Path("/etc/apt/sources.list.d")
    texts = [path.read_text() for path in sorted(folder.glob("*.sources"))]
    debian = [text for text in texts if re.search(r"(?im)^uris:.*/debian", text)]
    if not debian:
        return []
    path = LABS / "base" / f"{suite}.sources"
    path.write_text(re.sub(r"\b(bullseye|bookworm|trixie|forky|sid)\b", suite, "\n".join(debian)))
    return [path]
