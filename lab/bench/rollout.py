"""`make bench-rollout`: configuring 100 and 500 simulated nodes, beside Ansible, pyinfra and bare
ssh. Prints, asserts nothing.

Everyone runs the same node agent with the same request on the same nodes (`lab/fleet/`), checks
host keys, and is tuned by its own documentation; client and nodes share this computer's cores. The
contestants take turns within each round.

    python -m lab.bench.rollout [NODES…]

ROUNDS says how often, WHO (like `pulumi up,ansible`) who takes part beside bare ssh; all do if it
is not set. With AGENT=small everyone runs an agent of a dozen lines that checks nothing: what the
contestants themselves cost. With KEY=state Pulumi has the SSH key as a secret in its state, not as
a file's name.
"""

import base64
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from components.registry_mirror.cli.console import table
from lab.fleet.machines import FOLDER, MIRROR_HOST, Fleet, most_at_once
from tools import plugins, toolchain
from tools.progress import StageError, main_guard, run_logged, stage
from tools.toolchain import CHECKOUT, TOOLS, VENV

COUNTS = (100, 500)
ROUNDS = int(os.environ.get("ROUNDS", "2"))
CONTESTANTS = ("bare ssh", "pulumi up", "pyinfra", "ansible")
WHO = os.environ["WHO"].split(",") if "WHO" in os.environ else CONTESTANTS
AT_ONCE = 10
"""Nodes at the same time, for everyone: the component's default. Where that does a contestant no
good, it gets its own best."""
FORKS = 20
"""Of Ansible: 100 were slower on two cores."""
RIVALS = TOOLS / "bench"

SMALL_AGENT = """
import json, os, subprocess, sys
path, wanted = "/etc/docker/daemon.json", [REQUEST["mirror"]]
data = json.load(open(path)) if os.path.exists(path) else {}
if data.get("registry-mirrors") != wanted:
    with open(path + ".new", "w") as file:
        json.dump({**data, "registry-mirrors": wanted}, file)
    os.replace(path + ".new", path)
    subprocess.run(["systemctl", "reload", "docker"], check=True)
sys.exit(wanted[0] not in subprocess.run(["docker", "info"], stdout=subprocess.PIPE).stdout.decode())
"""  # noqa: E501

KEY = os.environ.get("KEY", "file")
AGENT = os.environ.get("AGENT", "ours")
WITH_AGENT = (
    f"""
from components.registry_mirror import ship
ship.program = lambda agent: {base64.b64encode(zlib.compress(SMALL_AGENT.encode())).decode()!r}
"""
    if AGENT == "small"
    else ""
)

PROGRAM = """
import asyncio, json, pulumi
from components.registry_mirror import RegistryMirrorArgs, SwarmNode, workstation
from components.registry_mirror.nodes import keep_runner, roll_out
fleet = json.load(open("fleet.json"))
nodes = [SwarmNode(name=f"n{i}", address=address, host_key=fleet["host_key"]) for i, address in enumerate(fleet["addresses"])]
args = RegistryMirrorArgs(hostname=fleet["mirror"], image="registry:3.1.2@sha256:" + "0" * 64, nodes=nodes,
                          **({"private_key": pulumi.Output.secret(fleet["key"])} if fleet["key_in_state"] else
                             {"private_key_file": fleet["key_file"]}), max_parallel=fleet["at_once"],
                          coalesce=False, placement_constraints=["node.role == manager"])

async def program():  # as the project's own __main__.py
    fleet, ready = (pulumi.ComponentResource(f"fleet:index:{name}", name) for name in ("Fleet", "Ready"))
    workstation.place()
    keep_runner("mirror", list(roll_out("mirror", args, "mirror", after=ready, parent=fleet).values()), fleet)
    await asyncio.sleep(0)

pulumi.run(program)
"""  # noqa: E501

REQUEST = """
import json
from components.registry_mirror import ship
settings = {"owner": "mirror", "mirror": "https://%s", "check_image": "library/hello-world:latest", "keys": {},
            "daemon_json": "/etc/docker/daemon.json", "service": "docker", "restart": "never"}
print(json.dumps([ship.command("node.apply", None), ship.request("node", settings)]))
"""  # noqa: E501

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.shell: {cmd: "{{ lookup('file', 'command') }}", stdin: "{{ lookup('file', 'request.json') }}"}
"""  # noqa: E501

DEPLOY = """
from pyinfra.operations import server
server.shell(commands=[open("pipeline").read()])
"""


@dataclass(frozen=True)
class Run:
    """One roll-out: seconds, seconds of the client's processors, MiB of memory, nodes configured,
    stays on nodes, most at once."""

    wall: float
    cpu: float
    memory: float
    configured: int
    sessions: int
    at_once: int
    canary_first: bool
    """Whether the first node was done with before anybody went to another one."""


def bench(counts: tuple[int, ...]) -> None:
    """Measure and print. Raises StageError."""
    if AGENT not in ("ours", "small"):
        raise StageError(f"AGENT={AGENT}: there is no such agent", "small, or ours")
    unknown = set(WHO) - set(CONTESTANTS)
    if unknown:
        raise StageError(
            f"WHO: {', '.join(sorted(unknown))}: no such contestant",
            f"name some of {', '.join(CONTESTANTS)}",
        )
    _bring_rivals()
    for count in counts:
        fleet = Fleet(count)
        with stage(f"{count} simulated nodes"):
            fleet.start()
        try:
            _measure(fleet)
        finally:
            fleet.stop()


def _measure(fleet: Fleet) -> None:
    contestants = Contestants(fleet)
    rows: dict[str, list[Run]] = {}
    for number in range(1, ROUNDS + 1):
        for name, (first, again) in contestants.all().items():
            with stage(f"round {number}: {name}") as running:
                fleet.reset()
                contestants.forget()
                found = _timed(fleet, first)
                rows.setdefault(name, []).append(found)
                running.note(f"{found.wall:.1f} s")
                if found.configured != fleet.count:
                    raise StageError(
                        f"{name} configured {found.configured} of {fleet.count} nodes",
                        "see the log",
                        contestants.log,
                    )
                if again is not None:
                    rows.setdefault(f"{name}, nothing to do", []).append(_timed(fleet, again))
    _print(fleet, rows)


def _print(fleet: Fleet, rows: dict[str, list[Run]]) -> None:
    def median(name: str, what: str) -> float:
        return float(statistics.median(getattr(run, what) for run in rows[name]))

    bare = median("bare ssh", "wall")
    shown = []
    for name in rows:
        cells = [
            f"{median(name, 'wall'):.1f} s",
            f"{median(name, 'cpu'):.1f} s",
            f"{median(name, 'memory'):.0f} MiB",
        ]
        figures = [
            f"{median(name, 'sessions'):.0f}",
            f"{median(name, 'at_once'):.0f}",
            f"{median(name, 'wall') / bare:.2f}",
        ]
        canary = "yes" if all(run.canary_first for run in rows[name]) else "no"
        shown.append((name, *cells, *figures, canary if figures[0] != "0" else ""))
    head = (
        "contestant",
        "wall",
        "its CPU",
        "its memory",
        "commands",
        "most at once",
        "× bare ssh",
        "canary first",
    )
    print("\n" + table(head, shown))
    cores = f"{os.cpu_count()} cores shared with them, Linux {platform.release()}"
    print(f"\n  {fleet.count} nodes, agent: {AGENT}, {cores}, medians of {ROUNDS}.")
    print(
        f"  {plugins.in_words()}. Memory: the most at any moment of all its processes, shared pages"
        " counted once (PSS).\n"
    )


def _timed(fleet: Fleet, work: Callable[[], None]) -> Run:
    (fleet.inside / "sessions").write_text("")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with _watched() as memory:
        work()
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    sessions = fleet.sessions()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    canary_first = len(sessions) > 1 and sessions[0].end <= sessions[1].begin
    return Run(
        wall,
        cpu,
        max(memory),
        fleet.configured(),
        len(sessions),
        most_at_once(sessions),
        canary_first,
    )


@contextlib.contextmanager
def _watched() -> Iterator[list[float]]:
    """MiB of all processes that are started meanwhile and their children, looked at once a
    second."""
    seen, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(1):
            seen.append(sum(map(_proportional, _descendants(os.getpid()))) / 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended while we looked
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(
                int(path.parent.name)
            )
    found, left = [], [root]
    while left:
        new = children.get(left.pop(), [])
        found += new
        left += new
    return found


def _proportional(process: int) -> int:
    """KiB, by smaps_rollup; 0 for a process of the nodes, which live in a mount namespace of their
    own."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{process}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink():
            return 0
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


class Contestants:
    """Each way to configure all nodes, as (first time, again or None)."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.folder = FOLDER / "client"
        self.folder.mkdir(exist_ok=True)
        self.log = FOLDER / "client.log"
        self.environment = {
            **os.environ,
            **toolchain.environment(),
            "PYTHONPATH": str(CHECKOUT),
            "HOME": str(self.folder),
        }
        self.environment |= {
            "PULUMI_BACKEND_URL": f"file://{self.folder}/state",
            "PULUMI_CONFIG_PASSPHRASE": "",
        }
        answer = subprocess.run(
            [VENV / "bin" / "python", "-c", WITH_AGENT + REQUEST % MIRROR_HOST],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        )
        self.command, self.request = json.loads(answer.stdout)
        self._write_files()

    def all(self) -> dict[str, tuple[Callable[[], None], Callable[[], None] | None]]:
        """Bare ssh first: it is what the others are measured by."""
        ways: list[tuple[Callable[[], None], Callable[[], None] | None]] = [
            (self.bare_ssh, None),
            (self.pulumi, self.pulumi),
            (self.pyinfra, None),
            (self.ansible, self.ansible),
        ]
        return {
            name: way
            for name, way in zip(CONTESTANTS, ways, strict=True)
            if name in (CONTESTANTS[0], *WHO)
        }

    def forget(self) -> None:
        """An empty stack, no connection kept open by an earlier run."""
        subprocess.run(["rm", "-rf", self.folder / "state", self.folder / ".ansible"], check=True)
        (self.folder / "state").mkdir()
        self._run(["pulumi", "stack", "init", "t"])

    def bare_ssh(self) -> None:
        """As many ssh processes as may be; nothing that uses OpenSSH can be faster."""

        def configure(address: str) -> None:
            argv = [
                "ssh",
                "-T",
                "-F",
                "/dev/null",
                *self.options,
                f"root@{address}",
                "--",
                self.command,
            ]
            self._run(argv, stdin=self.request)

        configure(self.fleet.addresses[0])
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            list(pool.map(configure, self.fleet.addresses[1:]))

    def pulumi(self) -> None:
        """The component's own commands and waves, at the parallelism that `make up` has; starting
        Pulumi included."""
        self._run(["pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", "t"])

    def pyinfra(self) -> None:
        """As its documentation has it, all nodes in one inventory."""
        self._run(
            [str(RIVALS / "bin" / "pyinfra"), "-y", "--parallel", "50", "inventory.py", "deploy.py"]
        )

    def ansible(self) -> None:
        """Pipelining, no facts, FORKS forks, no callback but the default."""
        self._run([str(RIVALS / "bin" / "ansible-playbook"), "-i", "hosts", "playbook.yml"])

    @property
    def options(self) -> list[str]:
        """Of the ssh program: host keys are checked, and no connection is shared."""
        return [
            "-i",
            str(self.fleet.key),
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
            "-o",
            "LogLevel=ERROR",
            "-o",
            f"UserKnownHostsFile={self.folder}/.ssh/known_hosts",
            "-o",
            "GlobalKnownHostsFile=/dev/null",
        ]

    def _run(self, argv: list[str], stdin: str = "") -> None:
        done = subprocess.run(
            self.fleet.command(argv),
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(argv)[:200]}\n{done.stdout}{done.stderr}")
        if done.returncode != 0:
            raise StageError(
                f"{Path(argv[0]).name} ended with {done.returncode}", "see the log", self.log
            )

    def _write_files(self) -> None:
        fleet = self.fleet
        encoded = base64.b64encode(self.request.encode()).decode()
        data = (
            f"{{'ssh_user': 'root', 'ssh_key': {str(fleet.key)!r}, 'ssh_known_hosts_file':"
            f" '{self.folder}/.ssh/known_hosts'}}"
        )
        hosts = "\n".join(f"{address}" for address in fleet.addresses)
        common = "ansible_user=root\nansible_python_interpreter=/usr/bin/python3\n"
        files = {
            ".ssh/known_hosts": "".join(
                f"{address} {fleet.host_key}\n" for address in fleet.addresses
            ),
            "Pulumi.yaml": "name: fleet\nruntime: python\n",
            "__main__.py": WITH_AGENT + PROGRAM,
            "fleet.json": json.dumps(
                {
                    "addresses": fleet.addresses,
                    "host_key": fleet.host_key,
                    "mirror": MIRROR_HOST,
                    "key": fleet.key.read_text(),
                    "key_file": str(fleet.key),
                    "key_in_state": KEY == "state",
                    "at_once": AT_ONCE,
                }
            ),
            "command": self.command,
            "request.json": self.request,
            "pipeline": f"echo {encoded} | base64 -d | {self.command}",
            "deploy.py": DEPLOY,
            "inventory.py": f"nodes = ([{', '.join(map(repr, fleet.addresses))}], {data})\n",
            "playbook.yml": PLAYBOOK,
            "hosts": f"[all]\n{hosts}\n[all:vars]\n{common}ansible_ssh_private_key_file={fleet.key}\n",  # noqa: E501
            "ansible.cfg": f"[defaults]\nforks={FORKS}\n[ssh_connection]\npipelining=True\n"
            "ssh_args=-o ControlMaster=auto -o ControlPersist=60s -o"
            f" UserKnownHostsFile={self.folder}/.ssh/known_hosts\n",
        }
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(text)


def _bring_rivals() -> None:
    locked = toolchain.REQUIREMENTS / "bench.txt"
    stamp = RIVALS / ".stamp"
    if stamp.exists() and stamp.read_text() == locked.read_text():
        return
    with stage("Ansible and pyinfra, in an environment of their own"):
        log = toolchain.LOGS / "bench.log"
        run_logged([sys.executable, "-m", "venv", "--clear", RIVALS], log)
        run_logged(
            [RIVALS / "bin" / "pip", "install", "--quiet", "--require-hashes", "-r", locked], log
        )
        stamp.write_text(locked.read_text())


if __name__ == "__main__":
    sys.exit(main_guard(lambda: bench(tuple(int(word) for word in sys.argv[1:]) or COUNTS)))
