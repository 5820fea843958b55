"""The folder of a policy pack: writes it, and knows whether this computer's Pulumi runs it.

Which programs that takes differs with the version: until 3.220 a `pulumi-analyzer-policy-python`
came with the CLI, since then the language host does it, and an old host of either kind does not. So
it is tried once, and a mark in the folder keeps the outcome.
"""

import importlib.metadata
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .errors import USAGE, CommandError

DISTRIBUTION = "swarm-registry-mirror"
PULUMI_POLICY = "pulumi-policy>=1.20,<2"
_PROJECT = """\
description: Images by digest, no published port, host keys, no credentials for everybody, one writer, restarts in waves only
runtime:
  name: python
  options:
    toolchain: pip
    virtualenv: venv
"""  # noqa: E501
_PROGRAM = '''\
"""The policies of swarm-registry-mirror: `pulumi preview --policy-pack FOLDER`."""

from swarm_registry_mirror.policy import pack

pack.register()
'''
_MARK = ".runs-with"
_SECONDS = 120


def write(folder: Path) -> list[Path]:
    """Write the pack; files of the same name are replaced if they are this pack's. Returns what was
    written.

    Raises CommandError for a folder that holds another pack.
    """
    files = {
        "PulumiPolicy.yaml": _PROJECT,
        "__main__.py": _PROGRAM,
        "requirements.txt": f"{_requirement()}\n{PULUMI_POLICY}\n",
    }
    program = folder / "__main__.py"
    if program.exists() and program.read_text(encoding="utf-8") != _PROGRAM:
        raise CommandError(
            f"{folder} holds another program",
            "name a folder that is empty or does not exist",
            USAGE,
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{folder} cannot be written: {error.strerror}") from None
    return [folder / name for name in files]


def _requirement() -> str:
    """This package, of the version that writes the pack; a checkout has none."""
    try:
        return f"{DISTRIBUTION}=={importlib.metadata.version(DISTRIBUTION)}"
    except importlib.metadata.PackageNotFoundError:
        return DISTRIBUTION


def usable(pack: Path, environment: Mapping[str, str]) -> bool:
    """Whether the pack was seen to run with the Pulumi of this environment; another one has to be
    tried first."""
    try:
        return (pack / _MARK).read_text() == _programs(environment)
    except OSError:
        return False


def try_out(pack: Path, environment: Mapping[str, str]) -> bool:
    """Have Pulumi check a program that declares nothing against the pack, and remember whether it
    does."""
    mark = pack / _MARK
    mark.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="policy-") as name:
        folder = Path(name)
        (folder / "state").mkdir()
        (folder / "Pulumi.yaml").write_text("name: nothing\nruntime: python\n")
        (folder / "__main__.py").write_text("import pulumi\n")
        alone = {
            **environment,
            "PULUMI_BACKEND_URL": f"file://{folder}/state",
            "PULUMI_CONFIG_PASSPHRASE": "",
        }
        for words in (["stack", "init"], ["preview", "--policy-pack", str(pack.absolute())]):
            argv = ["pulumi", *words, "--stack", "nothing", "--non-interactive"]
            try:
                done = subprocess.run(
                    argv,
                    cwd=folder,
                    env=alone,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_SECONDS,
                    check=False,
                )
            except (FileNotFoundError, subprocess.TimeoutExpired):
                return False
            if done.returncode != 0:
                return False
    mark.write_text(_programs(environment))
    return True


def _programs(environment: Mapping[str, str]) -> str:
    """CLI and language host: where they are, and which files."""
    lines = []
    for program in ("pulumi", "pulumi-language-python"):
        path = shutil.which(program, path=environment.get("PATH", ""))
        if path:
            about = Path(path).stat()
            lines.append(f"{path} {about.st_size} {about.st_mtime_ns}")
    return "\n".join(lines)
