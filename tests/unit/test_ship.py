"""The agent as it is shipped: the same text that goes to a node, run by a Python as a node
would."""

import ast
import base64
import importlib
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
from components.registry_mirror.minify import minified

AGENT = Path(ship.__file__).parent / "node_agent"
HERE = Path(ship.__file__).parent / "rolling_restart"
SHARED = [Path(ship.__file__).parent / f"{name}.py" for name in ("answer", "plain_text")]
REMOTE = [action.name for action in ship.ACTIONS.values() if action.place != "here"]
ROOT = Path(__file__).resolve().parents[2]
OLDEST, NEWEST = (3, 8), (3, 13)


def pythons() -> list[str]:
    """This Python, and every other from 3.8 on that is on this computer under its usual name."""
    programs = [sys.executable]
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        program = shutil.which(f"python3.{minor}")
        if (
            program
            and subprocess.run([program, "--version"], capture_output=True, check=False).returncode
            == 0
        ):
            programs.append(program)
    return programs


@pytest.mark.parametrize("path", [*sorted(AGENT.glob("*.py")), *SHARED], ids=lambda path: path.name)
def test_every_module_is_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=OLDEST)


def test_the_shipped_program_writes_the_shared_storage_with_every_python(tmp_path: Path) -> None:
    for number, python in enumerate(pythons()):
        folder = tmp_path / str(number)
        folder.mkdir()
        settings = {
            "owner": "mirror",
            "config_path": f"{folder}/c.yml",
            "cache_path": f"{folder}/cache",
            "marker": "# ours",
            "config": "# ours\na: 1\n",
        }
        assert run(python, "storage.apply", settings) == (0, "written", ""), python
        assert (folder / "c.yml").read_text() == "# ours\na: 1\n"
        assert run(python, "storage.apply", settings) == (0, "unchanged", ""), python
        assert run(python, "storage.remove", settings) == (0, "removed", ""), python
        assert (folder / "cache").is_dir()


def test_a_failure_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "c.yml").mkdir()
    paths = {"config_path": f"{tmp_path}/c.yml", "cache_path": f"{tmp_path}/cache"}
    settings = {**paths, "owner": "mirror", "marker": "#", "config": "#"}
    code, output, errors = run(sys.executable, "storage.apply", settings)
    assert (code, output) == (1, "")
    assert errors == f"registry mirror: {tmp_path}/c.yml is a directory; move it away [RM213]"


def test_a_python_that_lacks_modules_gets_one_sentence(tmp_path: Path) -> None:
    # What Debian's python3-minimal looks like to us: a library without shutil.
    python = tmp_path / "python3"
    python.write_text(
        f"#!{sys.executable} -I\nimport sys\nsys.modules['shutil'] = None\ndel"
        " sys.argv[:3]\nexec(sys.argv[0])\n"
    )
    python.chmod(0o755)
    code, _, errors = run(str(python), "node.apply", {})
    assert code == 1
    assert "install the package python3" in errors
    assert "Traceback" not in errors


def test_the_packed_programs_are_the_same_every_time() -> None:
    first = [ship.program(name) for name in ship.PROGRAMS]
    for cached in (ship.program, ship.modules, ship._imports, ship._travelling):
        cached.cache_clear()
    assert [ship.program(name) for name in ship.PROGRAMS] == first


def test_a_packed_program_is_small() -> None:
    # A machine gets it at every action, and one that is far away gets it slowly.
    assert len(ship.program("node")) < 72_000


@pytest.mark.parametrize(
    "path", sorted([*AGENT.glob("*.py"), *HERE.glob("*.py"), *SHARED]), ids=lambda path: path.name
)
def test_what_is_shipped_is_the_module_without_comments_line_for_line(path: Path) -> None:
    bare = minified(path.read_text())
    assert not [
        token
        for token in tokenize.generate_tokens(io.StringIO(bare).readline)
        if token.type == tokenize.COMMENT
    ]
    assert '"""' not in bare

    def code(text: str) -> str:
        """Every statement but docstrings, with its line, and without what only a type checker
        reads."""
        tree = ast.parse(text)
        for item in ast.walk(tree):
            if isinstance(item, ast.FunctionDef):
                item.returns = None
                for argument in ast.walk(item.args):
                    if isinstance(argument, ast.arg) and not is_request(argument):
                        argument.annotation = None
                for each in [each for each in ast.walk(item) if isinstance(each, ast.AnnAssign)]:
                    each.__class__ = ast.Assign  # type: ignore[assignment]
                    each.__dict__.update(targets=[each.target])
            if isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant):
                item.value.value = 0
        lines = [item.lineno for item in ast.walk(tree) if isinstance(item, ast.stmt)]
        return ast.dump(tree) + str(lines)

    def is_request(argument: ast.arg) -> bool:
        return argument.annotation is not None and ast.unparse(argument.annotation).endswith(
            "Request"
        )

    assert code(bare) == code(path.read_text())


def test_a_command_is_short_because_it_is_printed_whole_when_it_fails() -> None:
    assert len(ship.command("restart.verify", "sudo")) < 450
    assert ship.command("node.apply", "sudo").startswith("sudo -n timeout 300 python3 -I -c ")


@pytest.mark.parametrize("action", REMOTE)
def test_a_command_means_the_same_to_every_login_shell_and_to_every_sudo(action: str) -> None:
    before, start, after = ship.command(action, "sudo").split("'")
    assert not set(before + after) - set(string.ascii_letters + string.digits + " -._")
    # A quote ends, a backslash (fish), an exclamation mark (tcsh) and a line end change what stands
    # between quotes; a space is two arguments to sudo-rs, and the others are patterns to sudo.
    assert not set(start) & set("'\\!\n \t*?[]^#")
    assert start.isascii()


def test_sudo_allows_every_action_that_goes_to_a_machine_and_no_other() -> None:
    comments = [line for line in ship.sudoers("ops").splitlines() if line.startswith("#")]
    allowed = [line for line in ship.sudoers("ops").splitlines() if line not in comments]
    assert all(line.startswith("ops ALL=(root) NOPASSWD: /usr/bin/timeout ") for line in allowed)
    assert [line.rpartition(" ")[2] for line in allowed] == REMOTE
    # Unescaped, these end an argument or a rule for sudo (sudoers(5)); wildcards would allow more
    # than is written.
    plain = [re.sub(r"\\[,:=]", "", line.partition("NOPASSWD:")[2]) for line in allowed]
    assert not any(character in line for line in plain for character in ",:=*?[\\")
    assert max(map(len, allowed)) < 1024, "sudo-rs takes no longer command (src/sudoers/tokens.rs)"


def test_what_is_run_anywhere_is_an_action_of_the_table_and_every_action_is_run() -> None:
    """By the texts of the package that name a function of a module with actions."""
    modules = "|".join({name.partition(".")[0] for name in ship.ACTIONS})
    texts = {
        item.value
        for path in HERE.parent.rglob("*.py")
        if path.name != "ship.py"
        for item in ast.walk(ast.parse(path.read_text()))
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    }
    named = {text for text in texts if re.fullmatch(rf"({modules})\.[a-z_]+", text)}
    assert named - {"node.role", "node.hostname", "node.id", "guard.sh", "usage.sh"} == set(
        ship.ACTIONS
    )


@pytest.mark.parametrize("action", ship.ACTIONS)
def test_an_action_is_a_function_of_a_module_that_travels(action: str) -> None:
    folder = "rolling_restart" if ship.ACTIONS[action].place == "here" else "node_agent"
    module, _, function = action.partition(".")
    assert f"{folder}.{module}" in ship.modules(ship.ACTIONS[action].program)
    found = importlib.import_module(f"components.registry_mirror.{folder}.{module}")
    assert callable(getattr(found, function))


@pytest.mark.parametrize("name", ship.PROGRAMS)
def test_every_module_of_a_program_imports_where_nothing_else_is(name: str) -> None:
    """In a Python of its own, which has the program and the standard library only."""
    source = zlib.decompress(base64.b64decode(ship.program(name))).decode()
    source = source.partition("\ntry:\n")[0] + "\nfor name in MODULES: __import__(name)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; exec(sys.stdin.read())"],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("become", [None, "sudo"])
def test_a_rule_is_the_command_that_is_sent(become: str | None) -> None:
    """What sudo does with a rule, in short: the backslashes off, then compare with the arguments
    joined by spaces."""
    rules = [
        re.sub(r"\\(.)", r"\1", line.partition("/usr/bin/")[2])
        for line in ship.sudoers("ops").splitlines()
    ]
    for action in REMOTE:
        sent = shlex.split(ship.command(action, become))[2 if become else 0 :]
        assert " ".join(sent) in rules
        # And what sudo-rs does: the words of the rule are the arguments, one for one.
        assert sent in [rule.split() for rule in rules]


@pytest.mark.parametrize(
    "user", ["", "ops\nroot ALL=(ALL) ALL #", "ops ALL", "%wheel", "ALL,ops", "#0", "-u", "a\\b"]
)
def test_no_rule_is_printed_for_what_is_no_user(user: str) -> None:
    with pytest.raises(InvalidArgs, match="SSH_USER"):
        ship.sudoers(user)


def test_a_rule_for_a_user_of_a_directory_service_names_that_user() -> None:
    assert '\n"john.doe@corp.example" ALL=(root) NOPASSWD: ' in ship.sudoers(
        "john.doe@corp.example"
    )
    assert "\njohn.doe ALL=(root) NOPASSWD: " in ship.sudoers("john.doe")


def test_a_command_runs_the_program_that_it_names_and_no_other(tmp_path: Path) -> None:
    mine = base64.b64encode(zlib.compress(f"open({str(tmp_path / 'x')!r}, 'w')".encode())).decode()
    line = ship.command("node.apply", None)
    done = subprocess.run(
        ["sh", "-c", line],
        input=json.dumps({"program": mine}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == "registry mirror: the program that was sent is not the one that this command names\n"
    )
    assert not (tmp_path / "x").exists()


def test_nothing_is_imported_from_the_current_folder_or_the_environment(tmp_path: Path) -> None:
    for name in ("base64", "json", "zlib", "hashlib", "types"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('mine')")
    for line in (ship.command("storage.apply", None), ship.local_command("run.run")):
        done = subprocess.run(
            ["sh", "-c", line],
            input="{}",
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
        )
        assert "KeyError: 'program'" in done.stderr


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 5, 2), (3, 7, 17)])
def test_a_python_that_is_too_old_says_so_in_one_sentence(version: tuple[int, ...]) -> None:
    source = zlib.decompress(base64.b64decode(ship.program("node"))).decode()
    assert source.isascii()
    assert source.index("OLDEST") < source.index("version_info") < source.index("exec(")
    text = f"import sys; sys.version_info = {version}; exec(sys.stdin.read())"
    done = subprocess.run(
        [sys.executable, "-c", text], input=source, capture_output=True, text=True, check=False
    )
    words = (
        "registry mirror: python3 is Python {}.{} on this machine, and the agent needs 3.8 or"
        " later; install a newer one [RM001]\n"
    )
    assert (done.returncode, done.stderr) == (1, words.format(*version))


def test_what_says_so_is_understood_by_such_a_python() -> None:
    loader = ship._LOADER
    ast.parse(ship._LOADER, feature_version=(3, 4))
    ast.parse(ship._START, feature_version=(3, 4))
    assert 'f"' not in loader


def test_settings_are_readable_in_the_request_and_come_before_the_program() -> None:
    request = ship.request("node", {"mirror": "https://m.test"})
    assert request.splitlines()[1] == ' "mirror": "https://m.test",'
    assert list(json.loads(request)) == ["mirror", "program"]


def run(
    python: str, action: str, settings: dict[str, str], env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Run the shipped command line as sshd would: through a shell."""
    line = ship.command(action, None).replace("python3", python, 1)
    done = subprocess.run(
        ["sh", "-c", line],
        input=ship.request(ship.ACTIONS[action].program, settings),
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], **(env or {})},
        check=False,
    )
    return (
        done.returncode,
        answer.find(done.stdout) if done.returncode == 0 else done.stdout,
        done.stderr.strip(),
    )


def test_what_is_no_python_travels_in_the_wheel_too() -> None:
    package = ROOT / "components/registry_mirror"
    listed = re.findall(
        r'(?m)^"?swarm_registry_mirror(\.[a-z_.]+)?"? = \[(.*)\]$',
        (ROOT / "pyproject.toml").read_text(),
    )
    patterns = [
        f"{folder.lstrip('.')}/{name}" if folder else name
        for folder, names in listed
        for name in re.findall(r'"([^"]+)"', names)
    ]
    files = [
        path.relative_to(package)
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert len(files) > 4
    assert [
        str(path) for path in files if not any(path.match(pattern) for pattern in patterns)
    ] == []
