"""What tests and benchmarks do to a mirror that is deployed in the lab: end its containers, empty
its cache, wait for it.

It deliberately deploys nothing: that is the product's work.
"""

import json

from lab.internet import reset_counters
from lab.machines import run_on
from lab.plan import MANAGER, MIRROR_HOST, NODES, LabNode
from lab.sandbox import Sandbox

SERVICE = "registry-mirror"
CACHE = "/var/data/registry/registry-mirror-data"

HELD = """
import json, os, subprocess
found = {}
lines = subprocess.run(["docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"], stdout=subprocess.PIPE).stdout.decode()
for identity, name in (line.split() for line in lines.splitlines()):
    peak = ticks = 0
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if identity not in open("/proc/%s/cgroup" % process).read(): continue
            status = open("/proc/%s/status" % process).read()
            times = open("/proc/%s/stat" % process).read().rpartition(")")[2].split()
        except OSError:
            continue
        peak += int(status.partition("VmHWM:")[2].split()[0])
        ticks += int(times[11]) + int(times[12])
    found[name.partition(".")[0]] = [peak / 1024, ticks / os.sysconf("SC_CLK_TCK")]
print(json.dumps(found))
"""  # noqa: E501
"""Container -> highest resident memory of its processes in MiB, and seconds of processor time so
far."""


def wait_until_it_answers(sandbox: Sandbox, node: LabNode, seconds: float = 100) -> None:
    """Wait until the mirror answers from a node. Raises SandboxError if it does not.

    A machine that was off joins its overlay network up to 30 s late (moby
    libnetwork/networkdb/cluster.go bulkSyncNode).
    """
    ask = (
        f'python3 -c \'import urllib.request as u; u.urlopen("https://{MIRROR_HOST}/v2/",'
        " timeout=5)' 2>/dev/null"
    )
    script = f"for i in $(seq {int(seconds * 2)}); do {ask} && exit 0; sleep 0.5; done; exit 1"
    run_on(sandbox, node, script, timeout=2 * seconds + 20)


def kill(sandbox: Sandbox) -> None:
    """End the mirror's containers and wait for those that swarm starts, which know nothing but what
    is in the cache."""
    kill_and_leave(sandbox)
    wait_until_it_answers(sandbox, NODES[-1])


def kill_and_leave(sandbox: Sandbox) -> None:
    """End the mirror's containers, and do not wait for others. One that ends by itself at this very
    moment is as good."""
    end = (
        "docker kill $one >/dev/null 2>&1 || ! docker ps --quiet --no-trunc | grep -qx $one || exit"
    )
    running = f"docker ps --quiet --no-trunc --filter name={SERVICE}"
    for node in NODES:
        run_on(sandbox, node, f"for one in $({running}); do {end}; done")


def empty(sandbox: Sandbox) -> None:
    """A cold mirror: no cache, and nothing in Varnish; and nothing counted at the upstream."""
    run_on(sandbox, MANAGER, f"rm -rf {CACHE}/docker {CACHE}/.checked")
    kill(sandbox)
    reset_counters(sandbox)


def tasks(sandbox: Sandbox) -> set[str]:
    """Names of the mirror's containers that run: others after one has ended."""
    listing = "docker ps --format '{{.Names}}' --filter name=" + SERVICE
    return {name for node in NODES for name in run_on(sandbox, node, listing).split()}


def limits(sandbox: Sandbox) -> dict[str, int]:
    """Container -> MiB of memory that it may use, for those of all nodes that have a limit."""
    listing = (
        "docker ps --quiet | xargs -r docker inspect --format '{{.Name}} {{.HostConfig.Memory}}'"
    )
    lines = [line.split() for node in NODES for line in run_on(sandbox, node, listing).splitlines()]
    return {name.strip("/").partition(".")[0]: int(size) >> 20 for name, size in lines if int(size)}


def held(sandbox: Sandbox) -> dict[str, tuple[float, float]]:
    """Container -> highest resident memory in MiB, seconds of processor time, as `HELD` finds them;
    where there is one on several nodes, most of any."""
    found: dict[str, tuple[float, float]] = {}
    for node in NODES:
        for name, (memory, seconds) in json.loads(
            run_on(sandbox, node, 'python3 -c "$(cat)"', stdin=HELD.encode())
        ).items():
            before = found.get(name, (0, 0))
            found[name] = (max(memory, before[0]), max(seconds, before[1]))
    return found
