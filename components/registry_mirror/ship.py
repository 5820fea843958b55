"""How the node agent travels: its modules are packed into the request, which goes to the node on stdin. Pure.

Why so: a command's text is printed whole when it fails, shown in every preview and kept two or three times in the state, so
it must be short; environment variables are refused by a stock sshd; nothing is to be installed on a node. What is left is
stdin, as JSON whose settings a person can read in a preview and whose last key is the packed program.
"""

import base64
import functools
import io
import json
import re
import tokenize
import zlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

_NODE = (
    "files", "lock", "daemon_json", "engine", "key_values", "keys", "command_line", "daemon_settings", "daemon_process",
    "started", "preflight", "plan", "https", "probe", "dockerd_view", "member", "record",
    "storage", "node",
)  # fmt: skip
_MODULES = {
    "node": ("node_agent", ("__init__", *_NODE, "main")),
    "claim": ("node_agent", ("__init__", "files", "engine", "routes", "storage", "claim", "main")),
    "storage": ("node_agent", ("__init__", "files", "storage", "main")),
    "ready": ("node_agent", ("__init__", "files", "daemon_json", "engine", "https", "probe", "dockerd_view", "ready", "main")),
    "stats": ("node_agent", ("__init__", "files", "engine", "stats", "main")),
    # What the rolling restart sends to the nodes, and itself.
    "restart": ("node_agent", ("__init__", *_NODE, "restart", "swarm", "main")),
    "rolling_restart": ("rolling_restart", ("__init__", "order", "ssh", "run", "main")),
}
"""Each program's folder and modules, in an order in which each module finds what it imports."""
AGENTS = tuple(_MODULES)
"""What `program` packs."""

_LOADER = """
import sys, types
for _name, _source in MODULES:
    _full = FOLDER if _name == "__init__" else FOLDER + "." + _name
    _module = types.ModuleType(_full)
    _module.__package__ = FOLDER
    _module.__path__ = []
    sys.modules[_full] = _module
    try:
        exec(compile(_source, _full, "exec"), _module.__dict__)
    except ImportError as error:
        sys.exit("registry mirror: this node's Python is not complete (%s); install the package python3" % error)
    if _name != "__init__":
        setattr(sys.modules[FOLDER], _name, _module)
sys.exit(sys.modules[FOLDER + ".main"].main(sys.argv[1], REQUEST))
"""

_START = (
    "import base64,json,sys,zlib;REQUEST=json.load(sys.stdin);"
    'exec(zlib.decompress(base64.b64decode(REQUEST.pop("program"))).decode())'
)

TIME_LIMIT = 300
"""Seconds after which a run on a node is ended from outside, whatever it does; a healthy one takes under one."""
RESTART_LIMIT = 600
"""Seconds for a restart on a node and, if that fails, another one with the old file; each may take three minutes."""


def request(agent: str, settings: Mapping[str, Any]) -> str:
    """What goes on stdin: readable settings, then the program of `agent`, one of _MODULES."""
    return json.dumps({**settings, "program": program(agent)}, indent=1)


def command(action: str, become: str | None, time_limit: int = TIME_LIMIT) -> str:
    """The command line that runs `action`, like `node.apply`, with the request on stdin.

    `become` is `sudo` where the SSH user is not root; `-n` because nobody is there to type a password.
    """
    prefix = "sudo -n " if become == "sudo" else ""
    return f"{prefix}timeout {time_limit} python3 -c '{_START}' {action}"


SUDO_ACTIONS = {
    TIME_LIMIT: ("node.apply", "node.remove", "node.look", "stats.look"),
    RESTART_LIMIT: (
        "restart.due",
        "restart.run",
        "restart.verify",
        "restart.undo",
        "swarm.view",
        "swarm.drain",
        "swarm.await_ready",
        "swarm.give_back",
    ),
}
"""What is run on a node by `sudo`, by its time limit."""


def sudoers(user: str) -> str:
    """The lines for a file in /etc/sudoers.d that let `user` run the node agent, and nothing else, as root.

    Against accidents, not against malice: the agent's program comes with the request, so whoever may send one is root.
    """
    text = re.sub(r"([,:=\\\\])", r"\\\1", _START)  # the characters that sudoers(5) wants escaped in arguments
    lines = [
        f"{user} ALL=(root) NOPASSWD: /usr/bin/timeout {limit} python3 -c {text} {action}"
        for limit, actions in SUDO_ACTIONS.items()
        for action in actions
    ]
    return "\n".join(lines) + "\n"


def local_command(action: str) -> str:
    """As `command`, for the computer of `pulumi up` itself."""
    return f"python3 -c '{_START}' {action}"


@functools.cache
def program(agent: str) -> str:
    """The modules of an agent, packed. The same sources always give the same text, so an unchanged agent is no change."""
    name_of_folder, names = _MODULES[agent]
    folder = resources.files(f"{__package__}.{name_of_folder}")
    modules = [(name, _bare((folder / f"{name}.py").read_text(encoding="utf-8"))) for name in names]
    source = f"FOLDER = {name_of_folder!r}\nMODULES = {modules!r}\n{_LOADER}"
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
