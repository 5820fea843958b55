"""The agent as it is shipped: the same text that goes to a node, run by a Python as a node would."""

import ast
import base64
import io
import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import tokenize
import zlib
from pathlib import Path

import pytest

from components.registry_mirror import InvalidArgs, answer, ship

AGENT = Path(ship.__file__).parent / "node_agent"
HERE = Path(ship.__file__).parent / "rolling_restart"
SHARED = [Path(ship.__file__).parent / f"{name}.py" for name in ship._SHARED]
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


@pytest.mark.parametrize("path", [*sorted(AGENT.glob("*.py")), *SHARED], ids=lambda path: path.name)
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
    # What Debian's python3-minimal looks like to us: a library without shutil.
    python = tmp_path / "python3"
    python.write_text(f"#!{sys.executable} -I\nimport sys\nsys.modules['shutil'] = None\ndel sys.argv[:3]\nexec(sys.argv[0])\n")
    python.chmod(0o755)
    code, _, errors = run(str(python), "node.apply", {})
    assert code == 1
    assert "install the package python3" in errors
    assert "Traceback" not in errors


def test_the_packed_program_is_the_same_every_time_and_small() -> None:
    first = ship.program("node")
    ship.program.cache_clear()
    assert ship.program("node") == first
    # It is in the state once per node, and the state is rewritten at every step of an update.
    assert len(first) < 64_000


@pytest.mark.parametrize("path", sorted([*AGENT.glob("*.py"), *HERE.glob("*.py"), *SHARED]), ids=lambda path: path.name)
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


def test_a_command_is_short_because_it_is_printed_whole_when_it_fails() -> None:
    assert len(ship.command("restart.verify", "sudo")) < 450
    assert ship.command("node.apply", "sudo").startswith("sudo -n timeout 300 python3 -I -c ")


@pytest.mark.parametrize("action", [*ship.NODE_ACTIONS, *ship.MANAGER_ACTIONS])
def test_a_command_means_the_same_to_every_login_shell_and_to_every_sudo(action: str) -> None:
    before, start, after = ship.command(action, "sudo").split("'")
    assert not set(before + after) - set(string.ascii_letters + string.digits + " -._")
    # A quote ends, a backslash (fish), an exclamation mark (tcsh) and a line end change what stands between quotes; a space is
    # two arguments to sudo-rs, and the others are patterns to sudo.
    assert not set(start) & set("'\\!\n \t*?[]^#")
    assert start.isascii()


def test_sudo_is_asked_for_every_action_of_the_agent_and_for_no_other() -> None:
    comments = [line for line in ship.sudoers("ops").splitlines() if line.startswith("#")]
    allowed = [line for line in ship.sudoers("ops").splitlines() if line not in comments]
    assert all(line.startswith("ops ALL=(root) NOPASSWD: /usr/bin/timeout ") for line in allowed)
    # What can be sent to a node with `sudo` in front: every function that is named in one of these.
    source = "".join(path.read_text() for path in [*HERE.glob("*.py"), *HERE.parent.glob("*.py"), *HERE.parent.glob("cli/*.py")])
    modules = "node|stats|restart|swarm|ready|storage|claim|upgrade|guard"
    used = set(re.findall(rf'"((?:{modules})\.[a-z_]+)"', source)) - {"node.role", "guard.sh"}
    assert {line.rpartition(" ")[2] for line in allowed} == used
    # Unescaped, these end an argument or a rule for sudo (sudoers(5)); wildcards would allow more than is written.
    plain = [re.sub(r"\\[,:=]", "", line.partition("NOPASSWD:")[2]) for line in allowed]
    assert not any(character in line for line in plain for character in ",:=*?[\\")
    assert max(map(len, allowed)) < 1024, "sudo-rs takes no longer command (src/sudoers/tokens.rs)"


@pytest.mark.parametrize("become", [None, "sudo"])
def test_a_rule_is_the_command_that_is_sent(become: str | None) -> None:
    """What sudo does with a rule, in short: the backslashes off, then compare with the arguments joined by spaces."""
    rules = [re.sub(r"\\(.)", r"\1", line.partition("/usr/bin/")[2]) for line in ship.sudoers("ops").splitlines()]
    for action in (*ship.NODE_ACTIONS, *ship.MANAGER_ACTIONS):
        sent = shlex.split(ship.command(action, become))[2 if become else 0 :]
        assert " ".join(sent) in rules
        # And what sudo-rs does: the words of the rule are the arguments, one for one.
        assert sent in [rule.split() for rule in rules]


@pytest.mark.parametrize("user", ["", "ops\nroot ALL=(ALL) ALL #", "ops ALL", "%wheel", "ALL,ops", "#0", "-u", "a\\b"])
def test_no_rule_is_printed_for_what_is_no_user(user: str) -> None:
    with pytest.raises(InvalidArgs, match="SSH_USER"):
        ship.sudoers(user)


def test_a_rule_for_a_user_of_a_directory_service_names_that_user() -> None:
    assert '\n"john.doe@corp.example" ALL=(root) NOPASSWD: ' in ship.sudoers("john.doe@corp.example")
    assert "\njohn.doe ALL=(root) NOPASSWD: " in ship.sudoers("john.doe")


def test_a_command_runs_the_program_that_it_names_and_no_other(tmp_path: Path) -> None:
    mine = base64.b64encode(zlib.compress(f"open({str(tmp_path / 'x')!r}, 'w')".encode())).decode()
    line = ship.command("node.apply", None)
    done = subprocess.run(["sh", "-c", line], input=json.dumps({"program": mine}), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "registry mirror: the program that was sent is not the one that this command names\n"
    assert not (tmp_path / "x").exists()


def test_nothing_is_imported_from_the_current_folder_or_the_environment(tmp_path: Path) -> None:
    for name in ("base64", "json", "zlib", "hashlib", "types"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('mine')")
    for line in (ship.command("storage.apply", None), ship.local_command("run.run")):
        done = subprocess.run(
            ["sh", "-c", line], input="{}", capture_output=True, text=True, check=False, cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
        )  # fmt: skip
        assert "KeyError: 'program'" in done.stderr


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 5, 2), (3, 7, 17)])
def test_a_python_that_is_too_old_says_so_in_one_sentence(version: tuple[int, ...]) -> None:
    source = zlib.decompress(base64.b64decode(ship.program("node"))).decode()
    assert source.isascii()
    assert source.index("OLDEST") < source.index("version_info") < source.index("exec(")
    text = f"import sys; sys.version_info = {version}; exec(sys.stdin.read())"
    done = subprocess.run([sys.executable, "-c", text], input=source, capture_output=True, text=True, check=False)
    words = "registry mirror: python3 is Python {}.{} on this machine, and the agent needs 3.8 or later; install a newer one\n"
    assert (done.returncode, done.stderr) == (1, words.format(*version))


def test_what_says_so_is_understood_by_such_a_python() -> None:
    loader = ship._LOADER.partition("MODULES:")[0]
    ast.parse(ship._LOADER, feature_version=(3, 4))
    ast.parse(ship._START, feature_version=(3, 4))
    assert 'f"' not in loader


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
    return done.returncode, answer.find(done.stdout) if done.returncode == 0 else done.stdout, done.stderr.strip()


def test_what_is_no_python_travels_in_the_wheel_too() -> None:
    package = ROOT / "components/registry_mirror"
    (listed,) = re.findall(r"(?m)^swarm_registry_mirror = \[(.*)\]$", (ROOT / "pyproject.toml").read_text())
    patterns = re.findall(r'"([^"]+)"', listed)
    files = [path.relative_to(package) for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert len(files) > 4
    assert [str(path) for path in files if not any(path.match(pattern) for pattern in patterns)] == []
