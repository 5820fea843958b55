"""Makes, shows and removes whole labs: the order in which the other modules of this package do
their work.

Owns nothing of its own but that order, and the check whether this computer can have a lab at all.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from lab import base_systems, control_groups, images, internet, machines, plan, sandbox, swarm
from lab.sandbox import Sandbox, SandboxError
from tools import toolchain
from tools.progress import StageError, run_logged, stage

DEBIAN_PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "tc": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "ssh": "openssh-client",
    "openssl": "openssl",
}
"""Program -> the Debian or Ubuntu package that has it."""


def prepare() -> None:
    """Make what all labs share, unless it is there. Not for two at the same time."""
    check_computer()
    install_packages()
    base_systems.make_bases()
    images.make_images()


def up(name: str, engines: Mapping[str, str] | None = None) -> None:
    """Make the lab `name` and start it; a lab that runs is left as it is.

    `engines`: node -> name of an engine (`engines.ENGINES`), for those that are to have another one
    than usual.
    """
    prepare()
    folder = plan.lab_folder(name)
    box = Sandbox(folder.root)
    nodes = (
        _with_engines(engines or {})
        if engines is not None
        else [machines.as_prepared(folder, node) for node in plan.NODES]
    )
    for base in {node.has.base for node in nodes}:
        base_systems.make_base(base)
    swarm.make_keys(folder)
    with stage("three machines (systemd, sshd, dockerd)") as running:
        box.start()
        machines.make_bridge(box)
        internet.start_internet(box, folder, toolchain.BIN / "registry")
        _boot(box, folder, nodes)
        running.note(", ".join(f"{node.name}: {node.engine}" for node in nodes))
    published = folder.root / "published"
    if not published.exists() or published.read_text() != images.recipe():
        with stage("images published in the lab's registries"):
            images.publish_images(box, folder)
            published.write_text(images.recipe())
    with stage("a swarm, and Traefik on its manager"):
        swarm.make_swarm(box)
        swarm.start_traefik(box, folder)
        swarm.wait_for_traefik(box)


def anew(name: str, engines: Mapping[str, str] | None = None) -> None:
    """The lab `name` from nothing, as `up` makes it.

    One that does not come up is made once more, and why is printed: of some hundred labs there was
    one whose swarm gave Traefik no task. Raises StageError if that does not come up either.
    """
    down(name)
    try:
        up(name, engines)
    except StageError as error:
        print(f"lab {name} is made once more: {error.reason}", file=sys.stderr)
        down(name)
        up(name, engines)


def exchange(name: str, engines: Mapping[str, str]) -> None:
    """Give a lab's machines these engines (as in `up`), and the usual ones where none is named.

    A machine that has another engine, or keeps its images in another store than that engine had at
    first, is deleted with everything on it, and a new one of its name joins the swarm. The whole
    lab is made anew where it does not run, or where that machine is the manager.
    """
    folder = plan.lab_folder(name)
    box = Sandbox(folder.root)
    wanted = _with_engines(engines)
    runs = box.init_pid is not None
    changed = [
        node
        for node in wanted
        if machines.as_prepared(folder, node).engine != node.engine
        or (runs and machines.has_changed_its_store(box, node))
    ]
    if not runs or plan.MANAGER.name in {node.name for node in changed}:
        anew(name, engines)
        return
    if not changed:
        return
    with stage("machines with other engines") as running:
        for node in changed:
            base_systems.make_base(node.has.base)
            machines.run_on(box, plan.MANAGER, f"docker node demote {node.name}")
            machines.remove(box, folder, node)
            swarm.remove_node(box, node)
        _boot(box, folder, changed)
        swarm.make_swarm(box)
        running.note(", ".join(f"{node.name}: {node.engine}" for node in changed))


def _with_engines(engines: Mapping[str, str]) -> list[plan.LabNode]:
    return [replace(node, engine=engines.get(node.name, node.engine)) for node in plan.NODES]


def _boot(box: Sandbox, folder: plan.LabFolder, nodes: Sequence[plan.LabNode]) -> None:
    for node in nodes:
        machines.prepare(folder, node)
        machines.power_on(box, folder, node)
    swarm.write_known_hosts(folder)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: machines.wait_until_up(box, folder, node), nodes))
    for node in nodes:
        machines.allow_agent(box, node)


def down(name: str) -> None:
    """End the lab and remove its folder; the base systems and images stay for the next one."""
    folder = plan.lab_folder(name)
    if not folder.root.exists():
        return
    with stage(f"lab {name} removed"):
        _remove(folder)


def _remove(folder: plan.LabFolder) -> None:
    Sandbox(folder.root).stop()
    machines.remove_cgroups(folder)
    # Immutable files would survive rmtree; tests make some.
    subprocess.run(
        ["chattr", "-R", "-i", str(folder.root / "nodes")], capture_output=True, check=False
    )
    shutil.rmtree(folder.root, ignore_errors=False)


def check_computer() -> None:
    """Refuse, in one message, a computer on which no lab can be."""
    problem = None
    if not sys.platform.startswith("linux"):
        problem = "a lab needs Linux"
    elif os.geteuid() != 0:
        problem = "a lab needs root: it boots machines with systemd-nspawn"
    elif shutil.which("apt-get") is None and any(
        shutil.which(program) is None for program in DEBIAN_PACKAGES
    ):
        missing = sorted(program for program in DEBIAN_PACKAGES if shutil.which(program) is None)
        problem = (
            f"a lab needs {', '.join(missing)}, and this is neither Debian nor Ubuntu, so"
            " they cannot be installed for you"
        )
    problem = problem or control_groups.fault()
    if problem:
        raise StageError(
            problem,
            "use Debian or Ubuntu as root (a virtual machine will do), or `make up ENV=prod` on a"
            " real swarm",
        )


def install_packages() -> None:
    """Install the Debian packages that are missing, saying so first."""
    missing = sorted(
        {package for program, package in DEBIAN_PACKAGES.items() if shutil.which(program) is None}
    )
    if not missing:
        return
    print(
        f"  The lab needs Debian packages that are not installed: {' '.join(missing)}. Installing"
        " them with apt-get.",
        flush=True,
    )
    with stage("Debian packages"):
        log = plan.LABS / "logs" / "apt.log"
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        remedy = f"run `apt-get install {' '.join(missing)}` by hand, then the same command again"
        run_logged(["apt-get", "update"], log, env=quiet, remedy=remedy)
        run_logged(
            ["apt-get", "install", "-y", "--no-install-recommends", *missing],
            log,
            env=quiet,
            remedy=remedy,
        )


def status(name: str) -> int:
    """Print a table of the lab's nodes; exit code 0 if all are up."""
    folder = plan.lab_folder(name)
    box = Sandbox(folder.root)
    if box.init_pid is None:
        print(f"lab {name}: not running")
        return 1
    print(f"{'node':<8}{'address':<14}{'user':<6}{'engine':<22}state")
    for node in plan.NODES:
        try:
            engine = machines.run_on(
                box, node, "docker version --format '{{.Server.Version}}'", timeout=10
            ).strip()
            state = "up"
        except SandboxError:
            engine, state = (
                "-",
                "off" if machines.leader(box, node) is None else "docker does not answer",
            )
        print(f"{node.name:<8}{node.address:<14}{node.user:<6}{engine:<22}{state}")
    return 0


def list_labs() -> None:
    """Print every lab that runs on this computer."""
    for pid, folder in sandbox.labs_on_this_computer():
        print(
            f"{folder}  (process"
            f" {pid}){'' if folder.exists() else '   checkout was deleted: `python3 -m lab prune` removes it'}"  # noqa: E501
        )


def prune() -> None:
    """Remove the labs whose checkout was deleted."""
    for _, folder in sandbox.labs_on_this_computer():
        if not folder.exists():
            with stage(f"left-over lab {folder}"):
                Sandbox(folder).stop()
                machines.remove_cgroups(plan.LabFolder(folder))
