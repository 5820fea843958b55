"""The node agents as they travel: each one's modules, packed, behind the settings that a machine gets on stdin. Pure.

Why so: environment variables are refused by a stock sshd; nothing is to be installed on a node; and sudo is to allow these
programs and no others, so the command that starts one names it by its SHA-256. What is left is stdin, as JSON whose last key is
the packed program. In the state are the settings alone; `runner.py` has the programs, and adds one on the way.
"""

import base64
import functools
import hashlib
import io
import json
import re
import tokenize
import zlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from . import rules

OLDEST = (3, 8)
"""The oldest Python that runs the agent."""

_SHARED = ("plain_text", "answer")
_NODE = (
    "files", "lock", "daemon_json", "engine", "key_values", "keys", "command_line", "daemon_settings", "daemon_process",
    "started", "preflight", "plan", "https", "probe", "dockerd_view", "member", "record", "storage",
    "hosts_toml", "hosts_plan", "hosts", "seen", "node",
)  # fmt: skip


def _agent(folder: str, *names: str) -> tuple[str, ...]:
    return (*_SHARED, folder, *(f"{folder}.{name}" for name in (*names, "main")))


_MODULES = {
    "node": _agent("node_agent", *_NODE),
    "claim": _agent("node_agent", "files", "engine", "routes", "storage", "claim"),
    "storage": _agent("node_agent", "files", "storage"),
    "ready": _agent("node_agent", "files", "daemon_json", "engine", "https", "probe", "dockerd_view", "constraint", "ready"),
    "stats": _agent("node_agent", "files", "engine", "stats"),
    # What the rolling restart sends to the nodes, with what else needs all that a node's agent has; and itself.
    "restart": _agent("node_agent", *_NODE, "restart", "swarm", "guard", "upgrade"),
    "rolling_restart": _agent("rolling_restart", "order", "ssh", "run"),
}
"""Each program's modules below this package, in an order in which each module finds what it imports."""
AGENTS = tuple(_MODULES)
"""What `program` packs."""

# Says what is too old in a Python that is: nothing here, and no text outside ASCII, is newer than Python 2.7.
_LOADER = """
import sys
if sys.version_info < OLDEST:
    sys.exit("registry mirror: python3 is Python %d.%d on this machine, and the agent needs 3.8 or later; install a newer one"
        % tuple(sys.version_info[:2]))
import types
for _name, _source in MODULES:
    _full = PACKAGE + "." * bool(_name) + _name
    _module = types.ModuleType(_full)
    _module.__path__ = []
    _module.__package__ = _full
    _parent, _, _short = _full.rpartition(".")
    if _name not in FOLDERS:
        del _module.__path__
        _module.__package__ = _parent
    sys.modules[_full] = _module
    try:
        exec(compile(_source, _full, "exec"), _module.__dict__)
    except ImportError as error:
        sys.exit("registry mirror: this node's Python is not complete (%s); install the package python3" % error)
    if _parent:
        setattr(sys.modules[_parent], _short, _module)
sys.exit(sys.modules[PACKAGE + "." + MAIN].main(sys.argv[1], REQUEST))
"""

_START = (
    'b=__import__;s=b("sys");json=b("json");REQUEST=json.load(s.stdin);'
    'p=b("zlib").decompress(b("base64").b64decode(REQUEST.pop("program")));'
    'b("hashlib").sha256(p).hexdigest()=="DIGEST"or(s.exit("registry_mirror:_WORDS".replace("_",chr(32))));exec(p)'
).replace("WORDS", "the_program_that_was_sent_is_not_the_one_that_this_command_names")
"""What Python is started with. It names the program that it runs by its SHA-256, so a sudo rule with this text allows that
program and no other.

Quoted once, it must mean the same to bash, dash, zsh, fish and tcsh: no quote, no backslash, no exclamation mark. It is an
argument in a sudo rule, too: no space, because to sudo-rs an argument with a space is one and in a rule it would be two (sudo-rs
src/sudoers/tokens.rs, Command); none of `*?[]`, which are patterns to sudo (sudoers(5), Wildcards)."""

TIME_LIMIT = 300
"""Seconds after which a run on a node is ended from outside, whatever it does; a healthy one takes under one."""
RESTART_LIMIT = 600
"""Seconds for a restart on a node and, if that fails, another one with the old file; each may take three minutes."""
READY_LIMIT = rules.LONGEST_READY_TIMEOUT + 60
"""Seconds for the gate, which ends by itself before, after the time that the configuration says."""

_LIMITS = {"ready": READY_LIMIT, "restart": RESTART_LIMIT, "swarm": RESTART_LIMIT}

NODE_ACTIONS = (
    "node.apply",
    "node.remove",
    "node.look",
    "stats.look",
    "upgrade.look",
    "restart.due",
    "restart.run",
    "restart.verify",
    "restart.undo",
)
"""What is run on every node."""
MANAGER_ACTIONS = (
    "claim.take",
    "claim.release",
    "ready.wait",
    "ready.wait_again",
    "storage.apply",
    "storage.remove",
    "guard.apply",
    "guard.remove",
    "swarm.view",
    "swarm.drain",
    "swarm.await_ready",
    "swarm.give_back",
)
"""What is run on managers besides."""
LOCAL_ACTIONS = ("run.run", "run.release")
"""What runs on the computer of `pulumi up` itself."""
ACTIONS = (*NODE_ACTIONS, *MANAGER_ACTIONS, *LOCAL_ACTIONS)


def request(agent: str, settings: Mapping[str, Any]) -> str:
    """What goes on stdin: readable settings, then the program of `agent`, one of _MODULES."""
    return json.dumps({**settings, "program": program(agent)}, indent=1)


def command(action: str, become: str | None) -> str:
    """The command line that runs `action`, like `node.apply`, with the request on stdin.

    `become` is `sudo` where the SSH user is not root; `-n` because nobody is there to type a password. `-I`: nothing is imported
    from the current folder or by way of PYTHONPATH.
    """
    prefix = "sudo -n " if become == "sudo" else ""
    seconds, start = _parts(action)
    return f"{prefix}timeout {seconds} python3 -I -c '{start}' {action}"


def sudoers(user: str) -> str:
    """The lines for a file in /etc/sudoers.d that let `user` run this version's node agent, and nothing else, as root.

    For sudo from 1.8 on and sudo-rs from 0.2 on. Raises InvalidArgs if `user` is no name of a user.

    Another version of the agent is another program and needs a file of its own: both lie there until `pulumi up` has run with the
    new one, because what the old one did is undone by the old one.
    """
    faults = rules.check("SSH_USER", user, rules.user)
    if faults:
        raise rules.InvalidArgs(faults)
    # sudo-rs takes fewer characters than sudo in a name without quotes (src/sudoers/tokens.rs, Username).
    name = user if re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", user) else f'"{user}"'
    version = hashlib.sha256("".join(map(digest, sorted(_MODULES))).encode()).hexdigest()[:8]

    def line(action: str) -> str:
        seconds, start = _parts(action)
        text = re.sub(r"([,:=\\])", r"\\\1", start)  # the characters that sudoers(5) wants escaped in arguments
        return f"{name} ALL=(root) NOPASSWD: /usr/bin/timeout {seconds} python3 -I -c {text} {action}"

    return "\n".join(
        [
            f"# /etc/sudoers.d/registry-mirror-{version}: the registry mirror's node agent of this version, and nothing else.",
            "# Keep the file of the version before until `pulumi up` has run with this one.",
            *map(line, NODE_ACTIONS),
            "# On managers only; other nodes can go without.",
            *map(line, MANAGER_ACTIONS),
            "",
        ]
    )


def local_command(action: str) -> str:
    """As `command`, for the computer of `pulumi up` itself."""
    return f"python3 -I -c '{_START.replace('DIGEST', digest('rolling_restart'))}' {action}"


def agent_of(action: str) -> str:
    """The agent, one of AGENTS, that has an action."""
    module = action.partition(".")[0]
    return _AGENT_OF.get(module, module)


def limit(action: str) -> int:
    """Seconds after which an action on a node is ended, whatever it does."""
    return _LIMITS.get(action.partition(".")[0], TIME_LIMIT)


_AGENT_OF = {"swarm": "restart", "guard": "restart", "upgrade": "restart", "run": "rolling_restart"}


def _parts(action: str) -> tuple[int, str]:
    """The time limit of an action in seconds, and what Python is started with."""
    return limit(action), _START.replace("DIGEST", digest(agent_of(action)))


def digest(agent: str) -> str:
    """SHA-256 of an agent's program, before it is packed: packing differs from one zlib to the next."""
    return hashlib.sha256(zlib.decompress(base64.b64decode(program(agent)))).hexdigest()


@functools.cache
def program(agent: str) -> str:
    """The modules of an agent, packed. The same sources always give the same text, so an unchanged agent is no change."""
    package = resources.files(__package__)
    modules = [("", "")]
    for name in _MODULES[agent]:
        *folders, last = name.split(".")
        path = functools.reduce(lambda place, part: place / part, folders, package)
        path = path / last / "__init__.py" if (path / last).is_dir() else path / f"{last}.py"
        modules.append((name, _bare(path.read_text(encoding="utf-8"))))
    main = _MODULES[agent][-1]
    constants = {"OLDEST": OLDEST, "PACKAGE": "registry_mirror", "FOLDERS": ("", main.partition(".")[0]), "MAIN": main}
    source = "".join(f"{name} = {value!a}\n" for name, value in {**constants, "MODULES": modules}.items()) + _LOADER
    return base64.b64encode(zlib.compress(source.encode(), 9)).decode()


def _bare(source: str) -> str:
    """The source without comments and docstrings, which are half of it; every line keeps its number.

    By tokens and not by `ast.unparse`, whose text differs from one Python to the next: two colleagues' previews would differ.
    """
    lines = source.splitlines(keepends=True)
    cuts: list[tuple[tuple[int, int], tuple[int, int], str]] = []
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            cuts.append((token.start, token.end, ""))
        elif token.type == tokenize.STRING and before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            cuts.append((token.start, token.end, "0" + "\n" * (token.end[0] - token.start[0])))
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            before = token.type
    for (first, left), (last, right), instead in reversed(cuts):
        lines[first - 1 : last] = (lines[first - 1][:left] + instead + lines[last - 1][right:]).splitlines(keepends=True)
    return "".join(line.rstrip() + "\n" for line in lines)
