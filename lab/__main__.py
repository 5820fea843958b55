"""`python3 -m lab …`: make, look at, enter and remove labs.

up | down | status | shell | ssh NODE | off NODE | on NODE      (--name NAME; default `dev`)
up --engine NODE=ENGINE …   with another docker than usual on a node: 20.10, 26.1, 28.5,
            28.5-containerd, 29, 29-graphdriver; a machine of a running lab is exchanged
list        every lab on this computer, with those whose checkout was deleted
prune       remove the labs whose checkout was deleted
"""

import argparse
import os
import subprocess
import sys

from lab import control, machines, plan
from lab.engines import ENGINES
from lab.sandbox import Sandbox, SandboxError
from tools import toolchain
from tools.progress import StageError, main_guard


def enter(name: str, argv: list[str]) -> int:
    """Run a command (a shell, if none is named) in the lab's network, with the project's tools on
    PATH."""
    box = Sandbox(plan.lab_folder(name).root)
    command = box.command(argv or [os.environ.get("SHELL", "/bin/sh")], network_only=True)
    return subprocess.run(
        command, env={**os.environ, **toolchain.environment()}, check=False
    ).returncode


def ssh_arguments(folder: plan.LabFolder, node: plan.LabNode) -> list[str]:
    """How a person logs in to a node."""
    options = [
        "-i",
        str(folder.ssh_key),
        "-o",
        f"UserKnownHostsFile={folder.known_hosts}",
        "-o",
        "BatchMode=yes",
    ]
    return ["ssh", *options, f"{node.user}@{node.address}"]


def up_with(name: str, words: list[str]) -> None:
    """A lab whose machines have the engines that `words` name, like `node2=28.5`."""
    wanted = dict(word.partition("=")[::2] for word in words)
    nodes = [node.name for node in plan.NODES]
    for node, engine in wanted.items():
        if node not in nodes or engine not in ENGINES:
            ways = (
                f"name one of {', '.join(nodes)}, and one of {', '.join(ENGINES)}, like"
                " --engine node2=28.5"
            )
            raise StageError(f"--engine {node}={engine}: no such node or engine", ways)
    control.exchange(name, wanted)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lab", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "action", choices=["up", "down", "status", "shell", "ssh", "off", "on", "list", "prune"]
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("--name", default="dev")
    parser.add_argument("--engine", action="append", default=[], metavar="NODE=ENGINE")
    chosen = parser.parse_args()
    folder = plan.lab_folder(chosen.name)
    box = Sandbox(folder.root)
    nodes = {node.name: node for node in plan.NODES}

    def the_node() -> plan.LabNode:
        if not chosen.words or chosen.words[0] not in nodes:
            raise StageError(
                f"{' '.join(chosen.words) or 'nothing'} is not a node of the lab",
                f"name one of {', '.join(nodes)}",
            )
        return nodes[chosen.words[0]]

    code = 0

    def work() -> None:
        nonlocal code
        try:
            if chosen.action == "up" and chosen.engine:
                up_with(chosen.name, chosen.engine)
            elif chosen.action in ("up", "down"):
                {"up": control.up, "down": control.down}[chosen.action](chosen.name)
            elif chosen.action == "status":
                code = control.status(chosen.name)
            elif chosen.action == "shell":
                code = enter(chosen.name, chosen.words)
            elif chosen.action == "ssh":
                code = enter(chosen.name, [*ssh_arguments(folder, the_node()), *chosen.words[1:]])
            elif chosen.action == "off":
                machines.power_off(box, the_node())
            elif chosen.action == "on":
                machines.power_on(box, folder, the_node())
                machines.wait_until_up(box, folder, the_node())
            else:
                {"list": control.list_labs, "prune": control.prune}[chosen.action]()
        except SandboxError as error:
            raise StageError(str(error)) from error

    return main_guard(work) or code


if __name__ == "__main__":
    plan.LABS.mkdir(exist_ok=True)
    sys.exit(main())
