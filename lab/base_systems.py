"""Base root file systems: one Debian tree per docker, shared read-only by every node of every lab
of this checkout.

Owns `.lab/base/<name>`, and how the name decides what is in it: a release of Debian, SYSV_SUITE, or
one of `newer_docker.VERSIONS`. Nodes lay an overlay of their own over it (`machines.py`), so a base
is never written to.
"""

import contextlib
import fcntl
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import newer_docker
from lab.newer_docker import Source
from lab.plan import BASES, LABS
from tools import toolchain
from tools.progress import Stage, StageError, run_logged, stage

PACKAGES = (
    "openssh-server",
    "sudo",
    "iproute2",
    "iptables",
    "ca-certificates",
    "python3",
    "busybox-static",
)
SYSTEMD = ("systemd", "systemd-sysv", "dbus")
SYSV = ("sysvinit-core", "sysv-rc", "procps")
SHELLS = ("tcsh", "zsh", "fish")
"""Login shells that administrators have besides bash and dash, which are there."""
DOCKER = {"trixie": ("docker.io", "docker-cli")}
"""Its release's own docker; trixie ships the client apart from the daemon."""
EXTRA = {"trixie": ("sudo-rs", "e2fsprogs")}
"""The first release that has the sudo that newer systems come with, and the first whose smallest
tree has no chattr."""

UNUSED = ("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/info/*")
"""Nobody reads them in a lab; leaving them out keeps two bases under 1 GiB."""

SYSV_SUITE = "bookworm-sysv"
"""A machine of bookworm without systemd, for tests that ask for one; no lab has it by default."""

CUSTOMIZE = (
    # What makes a machine itself is laid over the base (machines.py), or all of them would be one.
    'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/machine-id',
    # The same accounts everywhere; which of them a node accepts is decided by its authorized_keys.
    'chroot "$1" useradd --create-home --shell /bin/bash ops',
    'rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*',
)
CUSTOMIZE_SYSTEMD = (
    'chroot "$1" systemctl enable systemd-networkd.service ssh.service docker.service',
    # There is no timer that a machine of ten minutes' life needs, and some of them would ask the
    # internet.
    'chroot "$1" systemctl mask apt-daily.timer apt-daily-upgrade.timer systemd-timesyncd.service'
    " systemd-networkd-wait-online.service systemd-modules-load.service",
)
CUSTOMIZE_SYSV = (
    # sysvinit's own /sys hides the control groups that nspawn has mounted; docker's script mounts
    # others where this is one.
    """echo '[ -e /sys/fs/cgroup/memory ] || mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup' >> "$1"/etc/default/docker""",  # noqa: E501
    # Not every computer lets a machine raise this limit, and the script ends where it may not.
    """sed -i 's/^\\(\\s*ulimit .*\\)$/\\1 || true/' "$1"/etc/init.d/docker""",
)

OLDER, BUILT = "docker-28", "docker-29"
"""BUILT is OLDER with another dockerd, where there are no packages of it."""
DOCKERD_VERSION = "29.8.1"
"""The release that the Go module v2.0.0-beta.24 of tools/go/dockerd was tagged for: both are of
2026-09-15."""
DOCKERD_LDFLAGS = f"-X github.com/moby/moby/v2/dockerversion.Version={DOCKERD_VERSION}"

_NEXT_OF_DEFAULT = (
    f"sed -n 's/^\\(deb .*\\) {newer_docker.RELEASE} /\\1 {newer_docker.NEXT} /p'"
    ' "$1"/etc/apt/sources.list'
    ' > "$1"/etc/apt/sources.list.d/next.list'
)
"""For a computer that has no sources of Debian's: mmdebstrap has put its own default there by
then."""

COMPLETE = ".complete"
"""Written into a base last: the recipe that it was made by. An interrupted build has none and is
made again."""


def base_folder(name: str) -> Path:
    return LABS / "base" / name


def make_bases() -> None:
    """Make the base of every machine of a lab that is not there yet, side by side.

    Raises StageError naming the line of mmdebstrap that matters.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        # The slowest first: it may have to compile.
        list(pool.map(make_base, sorted(BASES, key=lambda name: name not in newer_docker.VERSIONS)))


def make_base(name: str) -> None:
    """As `make_bases`, for one. What another recipe has made is made again.

    Raises StageError also where machines lie over such a base: it must not change under them.
    """
    folder = base_folder(name)
    made_by = folder / COMPLETE
    with _alone(name):
        if made_by.exists() and made_by.read_text() == _recipe(name):
            return
        if folder.exists():
            _refuse_if_used(name)
            shutil.rmtree(folder)
        with stage(f"base system {name}") as running:
            _make(name, folder, running)


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Two labs may want the same base at the same time."""
    path = LABS / "base" / f".{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _recipe(name: str) -> str:
    """Another word when a base would be made in another way."""
    words = [name, *_how(name)]
    if name in newer_docker.VERSIONS:
        words += [newer_docker.VERSIONS[name], Path(newer_docker.__file__).read_text()]
    if name == BUILT:
        words += [DOCKERD_VERSION, toolchain.go_digest("dockerd")]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _refuse_if_used(name: str) -> None:
    labs = sorted(path.parent.name for path in LABS.glob("*/nodes") if any(path.iterdir()))
    if labs:
        commands = " && ".join(f"python3 -m lab --name {lab} down" for lab in labs)
        raise StageError(
            f"the recipe of the base system {name} has changed, and the machines of"
            f" {', '.join(labs)} lie over the old one",
            f"`{commands}`, then the same command again",
        )


def _how(name: str, source: Source | None = None) -> list[str]:
    """Words of mmdebstrap's command line, the release last."""
    release, _, init = name.partition("-")
    if name in newer_docker.VERSIONS:
        release, init = newer_docker.RELEASE, ""
    packages = (*PACKAGES, *DOCKER.get(release, ("docker.io",)))
    options: list[str] = []
    if source:
        packages = (*PACKAGES, *source.packages)
        options = [f"--aptopt={option}" for option in source.options]
    include = ",".join((*packages, *SHELLS, *(SYSV if init else SYSTEMD), *EXTRA.get(release, ())))
    customize = CUSTOMIZE + (CUSTOMIZE_SYSV if init else CUSTOMIZE_SYSTEMD)
    return [
        "--variant=minbase",
        *options,
        f"--include={include}",
        *(f"--dpkgopt=path-exclude=/{pattern}" for pattern in UNUSED),
        *(f"--customize-hook={line}" for line in customize),
        release,
    ]


def _make(name: str, folder: Path, running: Stage) -> None:
    building = folder.with_name(f"{name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.parent.mkdir(parents=True, exist_ok=True)
    if name not in newer_docker.VERSIONS:
        _bootstrap(name, building)
    elif _from_docker(name, building):
        running.note("Docker's own packages")
    elif name == BUILT:
        _build_dockerd_over(base_folder(OLDER), building)
        running.note(
            f"dockerd {DOCKERD_VERSION} built from its Go module, go.sum pinned: Docker's packages"
            " cannot be reached"
        )
    else:
        _bootstrap(name, building, newer_docker.from_next_release())
        running.note(f"packages of Debian {newer_docker.NEXT}: Docker's own cannot be reached")
    (building / COMPLETE).write_text(_recipe(name))
    building.rename(folder)


def _from_docker(name: str, building: Path) -> bool:
    source = newer_docker.from_docker(name, LABS / "base")
    if source is None:
        return False
    try:
        _bootstrap(name, building, source)
    except StageError:  # the reason is in the log; there is another way
        shutil.rmtree(building, ignore_errors=True)
        return False
    return True


def _bootstrap(name: str, building: Path, source: Source | None = None) -> None:
    how = _how(name, source)
    sources = _sources(how[-1])
    if source:
        more = source.deb822 or newer_docker.next_of(
            "\n\n".join(path.read_text() for path in sources)
        )
        texts = {
            f"preferences.d/{name}": source.preferences,
            f"sources.list.d/{name}.sources": more,
        }
        for target, text in texts.items():
            added = LABS / "base" / target.replace("/", "-")
            added.write_text(text)
            how.insert(0, f'--setup-hook=cp {added} "$1"/etc/apt/{target}')
        if not more:
            how.insert(0, f"--setup-hook={_NEXT_OF_DEFAULT}")
    run_logged(
        # A mount namespace of its own: mounts that mmdebstrap makes vanish with it, however it
        # ends.
        ["unshare", "--mount", "mmdebstrap", *how, building, *sources],
        LABS / "logs" / f"base-{name}.log",
        remedy="check that Debian's package servers answer (apt-get update), then run the same"
        " command again",
    )


def _build_dockerd_over(older: Path, building: Path) -> None:
    """The base with the docker before it, as hard links, which cost nothing: no machine writes to a
    base."""
    with ThreadPoolExecutor() as pool:
        made = pool.submit(make_base, older.name)
        toolchain.go_program(
            "dockerd", "github.com/moby/moby/v2/cmd/dockerd", ldflags=DOCKERD_LDFLAGS
        )
        made.result()
    subprocess.run(["cp", "--archive", "--link", older, building], check=True)
    (building / COMPLETE).unlink()
    (program,) = [
        path
        for path in (building / "usr/sbin/dockerd", building / "usr/bin/dockerd")
        if path.exists()
    ]
    program.unlink()
    shutil.copy2(toolchain.BIN / "dockerd", program)


def debian_tree(
    suite: str, target: Path, packages: str, unused: Iterable[str] = (), variant: str = "essential"
) -> None:
    """A small Debian with `packages` as a tar file or folder, without the files that match
    `unused`. Raises StageError."""
    LABS.joinpath("base").mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)  # mmdebstrap makes the last folder only
    run_logged(
        [
            "unshare",
            "--mount",
            "mmdebstrap",
            f"--variant={variant}",
            f"--include={packages}",
            *(f"--dpkgopt=path-exclude=/{pattern}" for pattern in (*UNUSED, *unused)),
            suite,
            target,
            *_sources(suite),
        ],
        LABS / "logs" / f"{target.parent.name}-image.log",
        remedy="check that Debian's package servers answer (apt-get update), then run the same"
        " command again",
    )


def _sources(suite: str) -> list[Path]:
    """The computer's own Debian sources with the suite replaced: they are known to be reachable
    from here.

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
