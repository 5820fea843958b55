"""A DNS name on a moving address, as in the recipe's ingredients: keepalived gives the managers
one, and its holder dies.

keepalived runs as the recipe's authors run it, in a container of each manager's own docker, with
unicast between them.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.images import PROOF, debian_image
from lab.internet import reset_counters
from lab.plan import MANAGER, MIRROR_HOST, MOVING, NODES, SECOND_HOST
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror

NAMES = f"{MIRROR_HOST} {SECOND_HOST}"
KEEPALIVED = """
vrrp_instance mirror {{
  state BACKUP
  interface host0
  virtual_router_id 51
  priority {priority}
  advert_int 1
  unicast_src_ip {own}
  unicast_peer {{
    {others}
  }}
  virtual_ipaddress {{ {moving}/24 }}
}}
"""
START = (
    "cat > /etc/keepalived.conf; docker run --detach --name keepalived --restart unless-stopped"
    " --network host"
    " --cap-add NET_ADMIN --cap-add NET_BROADCAST --cap-add NET_RAW --mount"
    " type=bind,source=/etc/keepalived.conf,"
    "target=/etc/keepalived/keepalived.conf,readonly lab/keepalived:1"
)
WATCH = f"""
import json, sys, time, urllib.request as u
answers, end = [], time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    begun = time.monotonic()
    try:
        u.urlopen("https://{MIRROR_HOST}/v2/", timeout=1).read()
        well = True
    except OSError:
        well = False
    answers.append([begun, well])
    time.sleep(max(0, 0.1 - (time.monotonic() - begun)))
print(json.dumps(answers))
"""
"""Asks the mirror ten times a second, and prints when it answered."""


@pytest.fixture
def managers(lab: Lab) -> Iterator[None]:
    """Three managers with Traefik and keepalived on each; the mirror's name is on the moving
    address, which node1 holds."""
    archive = debian_image(
        "keepalived", "keepalived", ["keepalived", "--dont-fork", "--log-console"]
    ).read_bytes()
    lab.on("node1", "docker node promote node2 node3")
    for node, priority in zip(NODES, (150, 100, 50), strict=True):
        others = "\n    ".join(other.address for other in NODES if other is not node)
        lab.on(node.name, "docker load --quiet", archive)
        config = KEEPALIVED.format(
            priority=priority, own=node.address, others=others, moving=MOVING
        )
        lab.on(node.name, START, config.encode())
        lab.on(
            node.name,
            f"sed -i 's/^{MANAGER.address} {NAMES}/{MOVING} {NAMES}/' /etc/hosts; grep -q"
            f" '^{MOVING}' /etc/hosts",
        )
    yield
    for node in NODES:
        # Stopped and not killed: it then takes the address away itself.
        lab.on(
            node.name,
            "docker stop keepalived; docker rm keepalived; rm /etc/keepalived.conf; docker image rm"
            " lab/keepalived:1",
        )
        lab.on(node.name, f"sed -i 's/^{MOVING} /{MANAGER.address} /' /etc/hosts")
    lab.on("node1", "docker node demote node2 node3")


@pytest.fixture
def mirror(lab: Lab, managers: None) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    # Elsewhere than on the machine that dies: that case is e2e's, and would hide how long the
    # address takes.
    mirror.configure(placementConstraints=["node.hostname != node1"])
    mirror.up()
    yield mirror
    mirror.destroy()


def holder(lab: Lab) -> list[str]:
    return [
        node.name
        for node in NODES
        if f" {MOVING}/" in lab.on(node.name, "ip -oneline address show host0")
    ]


def test_pulls_go_on_when_the_manager_that_holds_the_mirrors_address_dies(
    lab: Lab, mirror: Mirror
) -> None:
    assert holder(lab) == ["node1"]
    for node in ("node2", "node3"):
        lab.wait_for_mirror(node)
        lab.on(
            node, f"docker image rm --force {PROOF} >/dev/null 2>&1; docker pull --quiet {PROOF}"
        )
    reset_counters(lab.sandbox)
    with ThreadPoolExecutor() as pool:
        watching = pool.submit(lab.on, "node3", 'python3 -c "$(cat)" 40', WATCH.encode())
        time.sleep(3)
        lab.power_off("node1")
    try:
        answers = json.loads(watching.result())
        bad = [when for when, succeeded in answers if not succeeded]
        assert bad, "the address did not move, so nothing was tried"
        assert all(succeeded for when, succeeded in answers if when > bad[-1])
        after = next(when for when, succeeded in answers if when > bad[-1])
        gap = after - bad[0]
        print(f"\nThe mirror's address moved; the mirror did not answer for {gap:.1f} s.")
        assert gap < 15
        for node in ("node2", "node3"):
            lab.on(node, f"docker image rm --force {PROOF} >/dev/null; docker pull --quiet {PROOF}")
        assert lab.upstream()["bytes"] < 50_000
    finally:
        lab.power_on("node1")
    deadline = time.monotonic() + 60
    while "Ready" not in lab.on(
        "node2", "docker node ls --filter name=node1 --format '{{.Status}}'"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    lab.wait_for_mirror("node2")
