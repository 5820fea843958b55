"""The file with which a computer reaches the machines of the swarm: the script `runner.sh`, and the
node agents behind it. Pure.

It lies in a folder of the user's cache (`workstation.py`), so that the state has a machine's
settings and no program. Its name is its SHA-256: a version of it is one word in a resource, and
what an earlier version has done can be undone by that version.
"""

import functools
import hashlib
import shlex
from importlib import resources

from . import ship, ssh

FOLDER = "swarm-registry-mirror"
"""Below `$XDG_CACHE_HOME`, by default `~/.cache` (XDG Base Directory Specification)."""
CURRENT = "current"
"""In that folder: the version that was put there last. It also undoes what an earlier version did
whose own file no longer exists."""

PATIENCE = 60
"""Seconds beyond the time in which an agent ends itself, after which its connection is ended from
here."""

_FOLDER = f'd="${{XDG_CACHE_HOME:-$HOME/.cache}}/{FOLDER}"; f="$d/$MIRROR_RUNNER"; '
_MISSING = (
    '[ -r "$f" ] || { echo "registry mirror: $f is missing; pulumi preview writes it" >&2;'
    " exit 1; }; "
)


@functools.cache
def text() -> str:
    """The whole file: script, then a line `:agent:program` for each agent that it can take
    along."""
    script = resources.files(__package__).joinpath("runner.sh").read_text(encoding="utf-8")
    comments = [line for line in script.splitlines() if not line.lstrip().startswith("#")]
    options = " ".join(ssh.options())
    script = (
        "\n".join(comments)
        .replace("OPTIONS", options)
        .replace("ACTIONS) ;;", "\n".join(map(_case, ship.ACTIONS)))
    )
    return (
        script + "\nexit\n" + "".join(f":{name}:{ship.program(name)}\n" for name in ship.PROGRAMS)
    )


@functools.cache
def digest() -> str:
    """SHA-256 of the file, and its name."""
    return hashlib.sha256(text().encode()).hexdigest()


def command(action: str) -> str:
    """What Pulumi runs on this computer for `action`; it reads the settings from stdin and where to
    go from `environment`."""
    return f'{_FOLDER}{_MISSING}exec sh "$f" {action}'


def undo_command(action: str) -> str:
    """As `command`, for what undoes: by the version that did it, or by the newest if that one is no
    longer on this computer."""
    return f'{_FOLDER}[ -r "$f" ] || f="$d/{CURRENT}"; {_MISSING}exec sh "$f" {action}'


WRITE = (
    f'umask 077; {_FOLDER}mkdir -p "$d" && cat > "$f.$$" && {{ [ -r "$d/{CURRENT}" ] || cp "$f.$$"'
    f' "$d/{CURRENT}"; }}'
    f' && mv -f "$f.$$" "$f"'
)
"""What writes the file that it gets on stdin, as `workstation.py` does where the program runs; a
version that is there already stays the current one, because the one that comes from the state may
be on its way out."""


def environment(**values: str | None) -> dict[str, str]:
    """The variables that `runner.sh` reads: `host_key="…"` is `MIRROR_HOST_KEY`; what is None or
    empty is left out."""
    return {f"MIRROR_{name.upper()}": value for name, value in values.items() if value}


def _case(action: str) -> str:
    """How the script runs an action: the program to take along, what to run, and how long to wait
    for it."""
    entry = ship.ACTIONS[action]
    here = entry.place == "here"
    command = ship.local_command(action) if here else ship.command(action, None)
    settings = {
        "agent": entry.program,
        "here": "yes" if here else "",
        "seconds": f"${{MIRROR_SECONDS:-{entry.seconds + PATIENCE}}}",
        "command": shlex.quote(command),
    }
    return f"{action}) " + " ".join(f"{name}={value}" for name, value in settings.items()) + " ;;"
