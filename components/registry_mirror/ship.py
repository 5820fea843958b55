"""The programs of the node agent as they travel, and the ONE table of its actions. Pure.

A program's modules are packed behind the settings that a machine gets on stdin. Which modules
those are follows from the imports of the modules that have its actions; sudo rules, time limits,
the runner and the call sites follow from `ACTIONS`.

Why so: environment variables are refused by a stock sshd; nothing is to be installed on a node; and
sudo is to allow these programs and no others, so the command that starts one names it by its
SHA-256. What is left is stdin, as JSON whose last key is the packed program. In the state are the
settings alone; `runner.py` has the programs, and adds one on the way.
"""

import ast
import base64
import functools
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Literal, NamedTuple

from . import rules
from .minify import minified

OLDEST = (3, 8)
"""The oldest Python that runs the agent."""

TIME_LIMIT = 300
"""Seconds after which a run on a node is ended from outside, whatever it does; a healthy one takes
under one."""
RESTART_LIMIT = 600
"""Seconds for a restart on a node and, if that fails, another one with the old file; each may take
three minutes."""
WARM_LIMIT = 7200
"""Seconds for what moves whole images, which ends by itself before."""
READY_LIMIT = rules.LONGEST_READY_TIMEOUT + 60
"""Seconds for the gate, which ends by itself before, after the time that the configuration says."""

Place = Literal["node", "manager", "here"]
"""Where an action runs: on every node, on managers only, or on the computer of `pulumi up`."""


class Action(NamedTuple):
    """One thing that the node agent, or the rolling restart, does."""

    name: str
    """`module.function`, in the folder of its program; the function's parameter `request` has the
    type of the request (`node_agent/request.py`)."""
    program: str
    """The program that travels for it: a key of `_FOLDERS`."""
    place: Place
    seconds: int = TIME_LIMIT
    """After which it is ended, whatever it does."""
    needs_root: bool = True
    """Whether it runs with `sudo` where the SSH user is not root, so that sudo must allow it."""


ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action("node.apply", "node", "node"),
        Action("node.remove", "node", "node"),
        Action("node.look", "node", "node"),
        Action("stats.look", "stats", "node"),
        Action("usage.look", "stats", "node"),
        Action("prepull.run", "images", "node", WARM_LIMIT),
        Action("purge.look", "images", "node"),
        Action("purge.run", "images", "node"),
        Action("purge.ban", "images", "node"),
        Action("route.look", "images", "node"),
        Action("upgrade.look", "restart", "node"),
        Action("restart.due", "restart", "node", RESTART_LIMIT),
        Action("restart.run", "restart", "node", RESTART_LIMIT),
        Action("restart.verify", "restart", "node", RESTART_LIMIT),
        Action("restart.undo", "restart", "node", RESTART_LIMIT),
        Action("claim.take", "claim", "manager"),
        Action("claim.release", "claim", "manager"),
        Action("ready.wait", "ready", "manager", READY_LIMIT),
        Action("ready.wait_again", "ready", "manager", READY_LIMIT),
        Action("storage.apply", "storage", "manager"),
        Action("storage.remove", "storage", "manager"),
        Action("guard.apply", "restart", "manager"),
        Action("guard.remove", "restart", "manager"),
        Action("swarm.view", "restart", "manager", RESTART_LIMIT),
        Action("swarm.drain", "restart", "manager", RESTART_LIMIT),
        Action("swarm.await_ready", "restart", "manager", RESTART_LIMIT),
        Action("swarm.give_back", "restart", "manager", RESTART_LIMIT),
        Action("warm.run", "images", "manager", WARM_LIMIT),
        Action("warm.apply", "images", "manager", WARM_LIMIT),
        Action("warm.running", "images", "manager"),
        Action("members.view", "members", "manager"),
        Action("run.run", "rolling_restart", "here", needs_root=False),
        Action("run.release", "rolling_restart", "here", needs_root=False),
    )
}
"""Every action by its name. What runs on many nodes shares a program (`restart`): the file of the
runner has each program once, and a sudo rule names it."""

PROGRAMS = tuple(dict.fromkeys(action.program for action in ACTIONS.values()))
"""What `program` packs."""

_FOLDERS = dict.fromkeys(PROGRAMS, "node_agent") | {"rolling_restart": "rolling_restart"}
"""Program -> the folder with its `main` and its actions."""

_PACKAGE = "registry_mirror"
"""What this package is called where the program runs."""

# Says what is too old in a Python that is: nothing here, and no text outside ASCII, is newer than
# Python 2.7 up to that sentence.
_LOADER = """
import sys
if sys.version_info < OLDEST:
    sys.exit("registry mirror: python3 is Python %d.%d on this machine, and the agent needs 3.8"
        " or later; install a newer one [RM001]" % tuple(sys.version_info[:2]))
from importlib.machinery import ModuleSpec
class _Packed:
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            return ModuleSpec(name, self, is_package=name in FOLDERS)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(MODULES[module.__name__], module.__name__, "exec"), module.__dict__)
sys.meta_path.insert(0, _Packed())
try:
    _main = __import__(FOLDER + ".main", fromlist=["main"]).main
    __import__(FOLDER + "." + sys.argv[1].partition(".")[0])
except ImportError as error:
    sys.exit("registry mirror: this node's Python is not complete (%s);"
        " install the package python3 [RM002]" % error)
sys.exit(_main(sys.argv[1], REQUEST))
"""

_START = (
    'b=__import__;s=b("sys");json=b("json");REQUEST=json.load(s.stdin);'
    'p=b("zlib").decompress(b("base64").b64decode(REQUEST.pop("program")));'
    'b("hashlib").sha256(p).hexdigest()=="DIGEST"or(s.exit("registry_mirror:_WORDS".replace("_",chr(32))));exec(p)'
).replace("WORDS", "the_program_that_was_sent_is_not_the_one_that_this_command_names")
"""What Python is started with. It names the program that it runs by its SHA-256, so a sudo rule
with this text allows that program and no other.

Quoted once, it must mean the same to bash, dash, zsh, fish and tcsh: no quote, no backslash, no
exclamation mark. It is an argument in a sudo rule, too: no space, because to sudo-rs an argument
with a space is one and in a rule it would be two (sudo-rs src/sudoers/tokens.rs, Command); none of
`*?[]`, which are patterns to sudo (sudoers(5), Wildcards)."""


def request(name: str, settings: Mapping[str, Any]) -> str:
    """What goes on stdin: readable settings, then the program `name`, one of PROGRAMS."""
    return json.dumps({**settings, "program": program(name)}, indent=1)


def command(action: str, become: str | None) -> str:
    """The command line that runs `action`, like `node.apply`, with the request on stdin.

    `become` is `sudo` where the SSH user is not root; `-n` because nobody is there to type a
    password. `-I`: nothing is imported from the current folder or by way of PYTHONPATH.
    """
    prefix = "sudo -n " if become == "sudo" and ACTIONS[action].needs_root else ""
    return f"{prefix}timeout {ACTIONS[action].seconds} python3 -I -c '{_start(action)}' {action}"


def local_command(action: str) -> str:
    """As `command`, for the computer of `pulumi up` itself."""
    return f"python3 -I -c '{_start(action)}' {action}"


def _start(action: str) -> str:
    """What Python is started with for an action."""
    return _START.replace("DIGEST", digest(ACTIONS[action].program))


def sudoers(user: str) -> str:
    """The lines for a file in /etc/sudoers.d that let `user` run this version's node agent, and
    nothing else, as root.

    For sudo from 1.8 on and sudo-rs from 0.2 on. Raises InvalidArgs if `user` is no name of a user.

    Another version of the agent is another program and needs a file of its own: both lie there
    until `pulumi up` has run with the new one, because what the old one did is undone by the old
    one.
    """
    faults = rules.check("SSH_USER", user, rules.user)
    if faults:
        raise rules.InvalidArgs(faults)
    # sudo-rs takes fewer characters than sudo in a name without quotes (src/sudoers/tokens.rs,
    # Username).
    name = user if re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", user) else f'"{user}"'
    programs = sorted({action.program for action in ACTIONS.values() if action.needs_root})
    version = hashlib.sha256("".join(map(digest, programs)).encode()).hexdigest()[:8]

    def rules_for(place: Place) -> Iterator[str]:
        for action in ACTIONS.values():
            if action.place == place and action.needs_root:
                # The characters that sudoers(5) wants escaped in arguments.
                start = re.sub(r"([,:=\\])", r"\\\1", _start(action.name))
                command = f"/usr/bin/timeout {action.seconds} python3 -I -c {start} {action.name}"
                yield f"{name} ALL=(root) NOPASSWD: {command}"

    return "\n".join(
        [
            f"# /etc/sudoers.d/registry-mirror-{version}: the registry mirror's node agent of this"
            " version, and nothing else.",
            "# Keep the file of the version before until `pulumi up` has run with this one.",
            *rules_for("node"),
            "# On managers only; other nodes can go without.",
            *rules_for("manager"),
            "",
        ]
    )


def digest(name: str) -> str:
    """SHA-256 of a program before it is packed: packing differs from one zlib to the next."""
    return hashlib.sha256(zlib.decompress(base64.b64decode(program(name)))).hexdigest()


@functools.cache
def program(name: str) -> str:
    """The modules of a program, packed. The same sources always give the same text, so an unchanged
    program is no change."""
    sources = {f"{_PACKAGE}.{module}": _travelling(module) for module in modules(name)}
    folders = {module.rpartition(".")[0] for module in sources}
    constants = {
        "OLDEST": OLDEST,
        "FOLDER": f"{_PACKAGE}.{_FOLDERS[name]}",
        "FOLDERS": sorted(folders),
        "MODULES": {_PACKAGE: "", **sources},
    }
    text = "".join(f"{constant} = {value!a}\n" for constant, value in constants.items()) + _LOADER
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


@functools.cache
def modules(name: str) -> tuple[str, ...]:
    """The modules of a program below this package, like `node_agent.files`: those of its actions,
    its `main`, and whatever they import."""
    folder = _FOLDERS[name]
    actions = [action for action in ACTIONS.values() if action.program == name]
    waiting = [f"{folder}.{action.name.partition('.')[0]}" for action in actions]
    waiting.append(f"{folder}.main")
    closure: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in closure:
            closure.add(module)
            waiting += _imports(module)
    return tuple(sorted(closure))


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    """The modules of this package that a module needs: its folder, and what it imports."""
    folders = module.split(".")[:-1]
    needed = [*folders]
    for item in ast.walk(ast.parse(_source(module))):
        if not isinstance(item, ast.ImportFrom) or not item.level:
            continue
        origin = folders[: len(folders) - item.level + 1]
        origin += item.module.split(".") if item.module else []
        named = [".".join([*origin, alias.name]) for alias in item.names]
        needed += [name for name in [".".join(origin), *named] if name and _file(name)]
    return tuple(dict.fromkeys(needed))


@functools.cache
def _travelling(module: str) -> str:
    """The source of a module as it travels. Most modules are in several programs."""
    return minified(_source(module))


def _source(module: str) -> str:
    return (resources.files(__package__) / _file(module)).read_text(encoding="utf-8")


def _file(module: str) -> str:
    """The file of a module, or the `__init__` of a folder, below this package; empty if there is
    none."""
    name = module.replace(".", "/")
    paths = (f"{name}.py", f"{name}/__init__.py")
    return next((path for path in paths if (resources.files(__package__) / path).is_file()), "")
