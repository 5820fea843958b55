"""The computer's control groups, of version 1 or 2, and the group of its own that each machine of a
lab gets in them.

Owns what a lab needs of them, and says it in one line where that is not there. It deliberately
knows nothing of machines.
"""

import shlex
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NEEDED = ("cpu", "memory", "pids")
"""Controllers without which a dockerd starts no container, or not one with a limit of memory
(runc)."""
NEEDED_V1 = (*NEEDED, "devices")
"""In version 2 devices are no controller."""
WELCOME = ("cpuset", "io")
"""Handed on where they are there."""


def is_unified(root: Path = ROOT) -> bool:
    """Version 2: one hierarchy for all controllers. A hybrid, which has it beside those of version
    1, is version 1 here."""
    return (root / "cgroup.controllers").exists()


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Where control groups are made: each controller's hierarchy on version 1, the one root on
    version 2."""
    if is_unified(root):
        return [root]
    if not root.is_dir():
        return []
    return sorted(
        path
        for path in root.iterdir()
        if path.is_dir() and not path.is_symlink() and path.name != "unified"
    )


def fault(root: Path = ROOT) -> str | None:
    """What this computer lacks for a lab, in one line, or None.

    On version 2 a controller has to be handed on to the groups below the root. systemd does that
    for those that it uses; the others are handed on here, which the kernel refuses where the root
    has processes itself, as in a container without an init.
    """
    if not is_unified(root):
        missing = [name for name in NEEDED_V1 if not (root / name).is_dir()]
        return (
            f"a lab needs the control groups {', '.join(missing)} at {root}, which this computer"
            " does not have"
            if missing
            else None
        )
    there = (root / "cgroup.controllers").read_text().split()
    missing = [name for name in NEEDED if name not in there]
    if missing:
        return (
            f"a lab needs the controllers {', '.join(missing)} in {root}/cgroup.controllers,"
            f" where this computer has {there}"
        )
    refused = [
        name
        for name in (*NEEDED, *WELCOME)
        if name in there and not _handed_on(root, name) and name in NEEDED
    ]
    if refused:
        return (
            f"a lab needs the controllers {', '.join(refused)} in {root}/cgroup.subtree_control,"
            " where the kernel does not take"
            " them: run it on the computer itself, or in a container with an init of its own"
        )
    return None


def _handed_on(root: Path, controller: str) -> bool:
    control = root / "cgroup.subtree_control"
    if controller in control.read_text().split():
        return True
    try:
        with control.open("a") as file:
            file.write(f"+{controller}\n")
    except OSError:
        return False
    return True


def joining(name: str, root: Path = ROOT) -> str:
    """Lines of a shell script that make the group `name` in every hierarchy and put the shell into
    it."""
    lines = []
    for hierarchy in hierarchies(root):
        group = hierarchy / name
        lines.append(f"mkdir -p {shlex.quote(str(group))}")
        if not is_unified(root) and (hierarchy / "cpuset.cpus").exists():
            # A new group of version 1 has no processor, and takes no process until it has.
            for file in ("cpuset.cpus", "cpuset.mems"):
                ours, above = shlex.quote(str(group / file)), shlex.quote(str(hierarchy / file))
                lines.append(f'[ -n "$(cat {ours} 2>/dev/null)" ] || cat {above} > {ours} || true')
        lines.append(f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))}")
    return "\n".join(lines)


def remove(name: str, root: Path = ROOT) -> None:
    """Remove the groups `name` that `joining` has made, children first; they are empty once their
    processes have ended."""
    for hierarchy in hierarchies(root):
        top = hierarchy / name
        for group in (
            sorted(top.glob("**/"), key=lambda path: -len(path.parts)) if top.exists() else ()
        ):
            try:
                group.rmdir()
            except OSError:  # a process is still ending; the next `make lab-down` finds it again
                break
