"""Whether this computer's Pulumi runs the policy pack of `policy/`. Owns the mark that says so.

Which programs that takes differs with the version: until 3.220 a `pulumi-analyzer-policy-python` came with the CLI, since then
the language host does it, and an old host of either kind does not. So it is tried, once, by `make policy`.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

ENVIRONMENT = Path("policy", "venv")
_MARK = ".runs-with"
_SECONDS = 120


def usable(checkout: Path, environment: Mapping[str, str]) -> bool:
    """Whether the pack was seen to run with the Pulumi of this environment; another one has to be tried first."""
    try:
        return (checkout / ENVIRONMENT / _MARK).read_text() == _programs(environment)
    except OSError:
        return False


def try_out(checkout: Path, environment: Mapping[str, str]) -> bool:
    """Have Pulumi check a program that declares nothing against the pack, and remember whether it does."""
    mark = checkout / ENVIRONMENT / _MARK
    mark.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="policy-") as name:
        folder = Path(name)
        (folder / "state").mkdir()
        (folder / "Pulumi.yaml").write_text("name: nothing\nruntime: python\n")
        (folder / "__main__.py").write_text("import pulumi\n")
        alone = {**environment, "PULUMI_BACKEND_URL": f"file://{folder}/state", "PULUMI_CONFIG_PASSPHRASE": ""}
        for words in (["stack", "init"], ["preview", "--policy-pack", str(checkout / "policy")]):
            argv = ["pulumi", *words, "--stack", "nothing", "--non-interactive"]
            try:
                done = subprocess.run(
                    argv, cwd=folder, env=alone, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
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
        found = shutil.which(program, path=environment.get("PATH", ""))
        if found:
            about = Path(found).stat()
            lines.append(f"{found} {about.st_size} {about.st_mtime_ns}")
    return "\n".join(lines)
