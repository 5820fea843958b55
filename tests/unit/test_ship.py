"""The agent as it is shipped: the same text that goes to a node, run by a Python as a node would."""

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from components.registry_mirror import ship

AGENT = Path(ship.__file__).parent / "node_agent"
HERE = Path(ship.__file__).parent / "rolling_restart"
ROOT = Path(__file__).resolve().parents[2]
OLDEST, NEWEST = (3, 8), (3, 13)


def pythons() -> list[str]:
    """This Python, and every other from 3.8 on that is on this computer under its usual name."""
    found = [sys.executable]
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        program = shutil.which(f"python3.{minor}")
        if program and subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0:
            found.append(program)
    return found


@pytest.mark.parametrize("path", sorted(AGENT.glob("*.py")), ids=lambda path: path.name)
def test_every_module_is_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=OLDEST)


@pytest.mark.parametrize("python", pythons())
def test_the_shipped_program_writes_the_shared_storage(python: str, tmp_path: Path) -> None:
    settings = {
        "owner": "mirror",
        "config_path": f"{tmp_path}/c.yml",
        "cache_path": f"{tmp_path}/cache",
        "marker": "# ours",
        "config": "# ours\na: 1\n",
    }
    assert run(python, "storage.apply", settings) == (0, "written", "")
    assert (tmp_path / "c.yml").read_text() == "# ours\na: 1\n"
    assert run(python, "storage.apply", settings) == (0, "unchanged", "")
    assert run(python, "storage.remove", settings) == (0, "removed", "")
    assert (tmp_path / "cache").is_dir()


def test_a_failure_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "c.yml").mkdir()
    paths = {"config_path": f"{tmp_path}/c.yml", "cache_path": f"{tmp_path}/cache"}
    settings = {**paths, "owner": "mirror", "marker": "#", "config": "#"}
    code, output, errors = run(sys.executable, "storage.apply", settings)
    assert (code, output) == (1, "")
    assert errors == f"registry mirror: {tmp_path}/c.yml is a directory; move it away"


def test_a_python_that_lacks_modules_is_told_so(tmp_path: Path) -> None:
    # What Debian's python3-minimal looks like to us: -I -S and a library path without shutil.
    (tmp_path / "shutil.py").write_text("raise ImportError(\"No module named 'shutil'\")\n")
    code, _, errors = run(sys.executable, "node.apply", {}, {"PYTHONPATH": str(tmp_path)})
    assert code == 1
    assert "install the package python3" in errors
    assert "Traceback" not in errors


def test_the_packed_program_is_the_same_every_time_and_small() -> None:
    first = ship.program("node")
    ship.program.cache_clear()
    assert ship.program("node") == first
    # It is in the state once per node, and the state is rewritten at every step of an update.
    assert len(first) < 46_000


@pytest.mark.parametrize("path", sorted([*AGENT.glob("*.py"), *HERE.glob("*.py")]), ids=lambda path: path.name)
def test_what_is_shipped_is_the_module_without_comments_line_for_line(path: Path) -> None:
    bare = ship._bare(path.read_text())
    assert not [token for token in tokenize.generate_tokens(io.StringIO(bare).readline) if token.type == tokenize.COMMENT]
    assert '"""' not in bare

    def code(text: str) -> list[tuple[str, int]]:
        """Kind and line of every statement but docstrings."""
        found = [item for item in ast.walk(ast.parse(text)) if isinstance(item, ast.stmt)]
        return [
            (type(s).__name__, s.lineno) for s in found if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
        ]

    assert code(bare) == code(path.read_text())


def test_the_rolling_restart_runs_here_as_it_is_shipped() -> None:
    settings = {"restart": "never", "told": {}, "nodes": []}
    stdin = ship.request("rolling_restart", settings)
    line = ship.local_command("run.run").replace("python3", sys.executable, 1)
    done = subprocess.run(["sh", "-c", line], input=stdin, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no restart was needed\n", "")


def test_a_command_is_short_because_it_is_printed_whole_when_it_fails() -> None:
    assert len(ship.command("node.apply", "sudo")) < 250
    assert ship.command("node.apply", "sudo").startswith("sudo -n timeout 300 python3 -c ")


def test_sudo_is_asked_for_every_action_of_the_agent_and_for_no_other() -> None:
    allowed = ship.sudoers("ops").splitlines()
    assert all(line.startswith("ops ALL=(root) NOPASSWD: /usr/bin/timeout ") for line in allowed)
    actions = {line.rpartition(" ")[2] for line in allowed}
    assert actions == {
        "node.apply", "node.remove", "node.look", "restart.due", "restart.run", "restart.verify", "restart.undo",
        "swarm.view", "swarm.drain", "swarm.await_ready", "swarm.give_back", "stats.look",
    }  # fmt: skip
    # Unescaped, these end an argument or a rule for sudo (sudoers(5)); wildcards would allow more than is written.
    plain = [line.partition("NOPASSWD:")[2].replace("\\,", "").replace("\\=", "") for line in allowed]
    assert not any(character in line for line in plain for character in ",:=*?[")


def test_settings_are_readable_in_the_request_and_come_before_the_program() -> None:
    request = ship.request("node", {"mirror": "https://m.test"})
    assert request.splitlines()[1] == ' "mirror": "https://m.test",'
    assert list(json.loads(request)) == ["mirror", "program"]


def run(python: str, action: str, settings: dict[str, str], env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run the shipped command line as sshd would: through a shell."""
    line = ship.command(action, None).replace("python3", python, 1)
    done = subprocess.run(
        ["sh", "-c", line],
        input=ship.request(action.partition(".")[0], settings),
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], **(env or {})},
        check=False,
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def test_what_is_no_python_travels_in_the_wheel_too() -> None:
    package = ROOT / "components/registry_mirror"
    (listed,) = re.findall(r"(?m)^swarm_registry_mirror = \[(.*)\]$", (ROOT / "pyproject.toml").read_text())
    patterns = re.findall(r'"([^"]+)"', listed)
    files = [path.relative_to(package) for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert len(files) > 4
    assert [str(path) for path in files if not any(path.match(pattern) for pattern in patterns)] == []
