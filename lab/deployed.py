"""What tests and benchmarks do to a mirror that is deployed in the lab: end its containers, empty its cache, wait for it.

It deliberately deploys nothing: that is the product's work.
"""

from lab.internet import reset_counters
from lab.machines import run_on
from lab.plan import MANAGER, MIRROR_HOST, NODES, LabNode
from lab.sandbox import Sandbox

SERVICE = "registry-mirror"
CACHE = "/var/data/registry/registry-mirror-data"


def wait_until_it_answers(sandbox: Sandbox, node: LabNode, seconds: float = 100) -> None:
    """Wait until the mirror answers from a node. Raises SandboxError if it does not.

    A machine that was off joins its overlay network up to 30 s late (moby libnetwork/networkdb/cluster.go bulkSyncNode).
    """
    ask = f"python3 -c 'import urllib.request as u; u.urlopen(\"https://{MIRROR_HOST}/v2/\", timeout=5)' 2>/dev/null"
    script = f"for i in $(seq {int(seconds * 2)}); do {ask} && exit 0; sleep 0.5; done; exit 1"
    run_on(sandbox, node, script, timeout=2 * seconds + 20)


def kill(sandbox: Sandbox) -> None:
    """End the mirror's containers and wait for those that swarm starts, which know nothing but what is in the cache."""
    kill_and_leave(sandbox)
    wait_until_it_answers(sandbox, NODES[-1])


def kill_and_leave(sandbox: Sandbox) -> None:
    """End the mirror's containers, and do not wait for others."""
    for node in NODES:
        run_on(sandbox, node, f"docker ps --quiet --filter name={SERVICE} | xargs -r docker kill >/dev/null")


def empty(sandbox: Sandbox) -> None:
    """A cold mirror: no cache, and nothing in Varnish; and nothing counted at the upstream."""
    run_on(sandbox, MANAGER, f"rm -rf {CACHE}/docker {CACHE}/.checked")
    kill(sandbox)
    reset_counters(sandbox)
