"""The mirror's cache on GlusterFS: three machines with a brick each, and every machine's own client
in user space (FUSE).

GlusterFS runs as where a machine has no packages of it: in a container of its own docker, whose
mount the machine sees. What is looked for is a wrong byte: a body that was sent to its end, and is
not what its name says. Figures are printed.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from lab import deployed, internet
from lab.images import PROOF, debian_image, publish_at_hub, random_image
from lab.internet import reset_counters
from lab.plan import MIRROR_HOST, NODES
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror

LAYERS = [60 << 20] * 2
IMAGE = "library/soak-layers:1"
BYTES = sum(LAYERS)
SMALL_MIB = 100
"""Of a volume that has room for one of the two layers."""
START = (
    "set -e; test -e /dev/fuse || mknod /dev/fuse c 10 229; mkdir -p /var/lib/docker/bricks/small"
    " /mnt/gluster;"
    f" mount -t tmpfs -o size={SMALL_MIB}m tmpfs /var/lib/docker/bricks/small; mount --make-rshared"
    " /;"
    " docker run --detach --name gluster --network host --device /dev/fuse --cap-add SYS_ADMIN"
    " --cap-add DAC_READ_SEARCH"
    " --security-opt apparmor=unconfined --security-opt seccomp=unconfined"
    " --mount type=bind,source=/var/lib/docker/bricks,target=/bricks"
    " --mount type=bind,source=/mnt/gluster,target=/mnt/gluster,bind-propagation=rshared"
    " lab/glusterfs:1"
    # A shell waits for what others leave behind; glusterd takes a brick that died for one that runs
    # while nobody has.
    " sh -c 'glusterd; while sleep 1; do :; done'"
)
STOP = (
    "for m in /mnt/gluster/*; do umount -l $m; done; docker rm --force gluster; umount -l"
    " /var/lib/docker/bricks/small;"
    " rm -rf /var/lib/docker/bricks"
)

READ = f"""
import hashlib, http.client, json, ssl, sys
from concurrent.futures import ThreadPoolExecutor
def get(path):
    connection = http.client.HTTPSConnection("{MIRROR_HOST}", timeout=240)
    connection.request("GET", path, headers={{"Accept": "application/vnd.oci.image.manifest.v1+json,"
        "application/vnd.docker.distribution.manifest.v2+json"}})
    return connection.getresponse()
def layer(digest):
    size, found = 0, hashlib.sha256()
    try:
        answer = get("/v2/" + sys.argv[1] + "/blobs/" + digest)
        wanted = int(answer.headers["Content-Length"])
        while piece := answer.read(1 << 20):
            size += len(piece)
            found.update(piece)
    except (OSError, http.client.HTTPException, TypeError):
        return "cut off"
    if answer.status != 200:
        return "refused"
    return "cut off" if size != wanted else "whole" if "sha256:" + found.hexdigest() == digest else "WRONG"
answer = get("/v2/" + sys.argv[1] + "/manifests/" + sys.argv[2])
if answer.status != 200:
    print('["refused", "refused"]')
    sys.exit()
layers = [one["digest"] for one in json.loads(answer.read())["layers"]]
with ThreadPoolExecutor() as pool:
    print(json.dumps(list(pool.map(layer, layers))))
"""  # noqa: E501


class Gluster:
    """Volumes of three bricks, mounted below /mnt/gluster of every machine."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def inside(self, node: str, script: str) -> str:
        return self.lab.on(node, 'docker exec -i gluster sh -c "$(cat)"', script.encode())

    def start(self) -> None:
        archive = debian_image(
            "glusterfs", "glusterfs-server", ["glusterd", "--no-daemon"]
        ).read_bytes()

        def on(node: str) -> None:
            self.lab.on(node, "docker load --quiet", archive)
            self.lab.on(node, START)

        with ThreadPoolExecutor() as pool:
            list(pool.map(on, self.lab.nodes))
        self.until("node1", "gluster pool list | grep -q Connected")
        for node in NODES[1:]:
            self.until("node1", f"gluster --mode=script peer probe {node.address}")
        self.until("node1", "test $(gluster pool list | grep -c Connected) = 3")

    def volume(self, name: str) -> None:
        """A volume with a brick on each machine, which each machine mounts."""
        bricks = " ".join(f"{node.address}:/bricks/{name}/brick" for node in NODES)
        for node in self.lab.nodes:
            self.inside(node, f"mkdir -p /bricks/{name}")
        self.until("node1", f"gluster --mode=script volume create {name} replica 3 {bricks} force")
        self.until("node1", f"gluster --mode=script volume start {name}")
        for node in self.lab.nodes:
            mount = f"glusterfs --volfile-server=localhost --volfile-id={name} /mnt/gluster/{name}"
            mounted = f"grep -q ' /mnt/gluster/{name} fuse.glusterfs ' /proc/mounts"
            self.until(node, f"mkdir -p /mnt/gluster/{name}; {mounted} || {mount}; {mounted}")
            self.lab.on(node, mounted)

    def until(self, node: str, script: str, seconds: float = 60) -> None:
        """Run a script in a machine's container until it succeeds. Raises SandboxError with its
        last words."""
        self.inside(
            node,
            f"for i in $(seq {int(seconds)}); do ({script}) && exit 0; sleep 1; done 2>&1; exit 1",
        )

    def kill_brick(self, node: str, volume: str) -> None:
        """End the process of a machine's brick, which gets no chance to finish anything."""
        self.inside(node, f"kill -9 $(cat /var/run/gluster/vols/{volume}/*.pid)")

    def heal(self, volume: str) -> None:
        """Have dead bricks run again, and wait until they have what they missed."""
        self.until("node1", f"gluster --mode=script volume start {volume} force")
        # Once is not enough: a brick that is only just back has not been asked yet.
        left = (
            f"gluster volume heal {volume} info | sed -n 's/^Number of entries: //p' | tr -d '\\n'"
        )
        healed = (
            f"gluster volume heal {volume} >/dev/null && for i in 1 2 3; do sleep 1; test"
            f' "$({left})" = 000 || exit 1; done'
        )
        self.until("node1", healed, 120)

    def stop(self) -> None:
        for node in self.lab.nodes:
            self.lab.on(node, STOP)


@dataclass
class Cache:
    """A mirror whose cache is on one of the volumes, or on the lab's usual storage."""

    lab: Lab
    mirror: Mirror
    volume: str = ""

    def on(self, volume: str, where: str) -> None:
        """Put the cache on a volume (the usual storage without a name), and the registry's task on
        a machine."""
        self.volume = volume
        place: dict[str, Any] = {"placementConstraints": [f"node.hostname == {where}"]}
        if volume:
            place |= {
                "cachePath": f"/mnt/gluster/{volume}/data",
                "configPath": f"/mnt/gluster/{volume}/config.yml",
            }
        self.mirror.configure(readyTimeout=150, **place)
        self.mirror.up()
        self.lab.wait_for_mirror("node3")
        reset_counters(self.lab.sandbox)

    def empty(self) -> None:
        """Nothing in the cache, and nothing in Varnish."""
        path = f"/mnt/gluster/{self.volume}/data" if self.volume else deployed.CACHE
        self.lab.on("node1", f"rm -rf {path}/docker {path}/.checked")
        self.forget()

    def forget(self) -> None:
        """New containers, which know nothing but what is in the cache."""
        deployed.kill(self.lab.sandbox)
        reset_counters(self.lab.sandbox)

    def read(self, image: str = IMAGE) -> list[str]:
        """How each layer came to a client: `whole`, `cut off`, `refused`, or `WRONG` if it came to
        its end with other bytes."""
        repository, _, tag = image.rpartition(":")
        found: list[str] = json.loads(
            self.lab.on("node3", f'python3 -c "$(cat)" {repository} {tag}', READ.encode())
        )
        assert len(found) >= len(LAYERS)
        return found

    def seconds(self) -> float:
        started = time.monotonic()
        assert self.read() == ["whole", "whole"]
        return time.monotonic() - started

    def share(self) -> float:
        """Bytes that left the upstream, in sizes of the image."""
        return float(self.lab.upstream()["bytes"]) / BYTES

    def damaged(self, node: str) -> list[str]:
        """Layers in the cache whose bytes are not what their name says, as a machine sees them;
        none where none could be kept."""
        script = (
            f"cd /mnt/gluster/{self.volume}/data/docker/registry/v2/blobs/sha256 2> /dev/null ||"
            " exit 0; for f in */*/data; do"
            ' test "$(sha256sum < $f | cut -d " " -f 1)" = "$(basename $(dirname $f))" || echo $f;'
            " done"
        )
        return self.lab.on(node, script).split()


@pytest.fixture(scope="module")
def gluster(lab: Lab) -> Iterator[Gluster]:
    publish_at_hub(lab.sandbox, random_image("soak-layers", LAYERS), IMAGE)
    gluster = Gluster(lab)
    gluster.start()
    gluster.volume("cache")
    gluster.volume("small")
    yield gluster
    gluster.stop()


@pytest.fixture(scope="module")
def cache(lab: Lab, gluster: Gluster) -> Iterator[Cache]:
    internet.behave(lab.sandbox, "well")
    mirror = Mirror(lab)
    yield Cache(lab, mirror)
    mirror.configure()
    mirror.destroy()
    # A cache that is given up for another one stays its stack's, and the next stack is another one.
    lab.on("node1", f"rm -f {deployed.CACHE}/.swarm-registry-mirror")


def test_the_cache_is_warm_after_the_registrys_task_has_moved_and_this_is_what_it_costs(
    lab: Lab, cache: Cache
) -> None:
    figures = {}
    for volume, title in (("", "the local directory"), ("cache", "GlusterFS, replica 3")):
        cache.on(volume, "node2")
        cache.empty()
        cold = cache.seconds()
        assert 0.99 < cache.share() < 1.05
        cache.forget()
        figures[title] = cold, cache.seconds()
        assert cache.share() < 0.01
    cache.on("cache", "node3")
    assert cache.read() == ["whole", "whole"]
    assert cache.share() < 0.01, "another machine's client finds what that of the first has written"
    print(f"\n{BYTES >> 20} MiB to one client, two layers at once; seconds cold, warm:")
    for title, (cold, warm) in figures.items():
        print(f"  {title:<24}{cold:6.2f} {warm:6.2f}   warm {BYTES / 1e6 / warm:.0f} MB/s")


@pytest.mark.parametrize("bricks", [("node2",), ("node1", "node2")], ids=["one", "two"])
def test_bricks_that_die_in_the_middle_of_a_write_cost_nobody_a_right_byte(
    lab: Lab, gluster: Gluster, cache: Cache, bricks: tuple[str, ...]
) -> None:
    """Without one of three the volume works; without two it has no quorum, and takes and gives
    nothing."""
    cache.on("cache", "node3")
    cache.empty()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(cache.read)
        writing = "ls /mnt/gluster/cache/data/docker/registry/v2/repositories/library/soak-layers/_uploads/*/data"  # noqa: E501
        lab.on(
            "node3",
            f"for i in $(seq 200); do {writing} >/dev/null 2>&1 && exit 0; sleep 0.05; done; exit"
            " 1",
        )
        for node in bricks:
            gluster.kill_brick(node, "cache")
        first = reading.result()
    assert "WRONG" not in first
    if len(bricks) == 1:
        assert first == ["whole", "whole"]
    without = cache.read()
    assert "WRONG" not in without
    gluster.heal("cache")
    cache.forget()
    assert cache.read() == ["whole", "whole"]
    assert [cache.damaged(node.name) for node in NODES] == [[], [], []]
    print(
        f"\n{len(bricks)} of 3 bricks died in the middle of a write: {first}; then, with them away:"
        f" {without}"
    )


def test_a_full_volume_cuts_off_what_it_has_no_room_for_and_keeps_what_it_has(
    lab: Lab, cache: Cache
) -> None:
    """GlusterFS says so only once a good part is written; the registry then ends the body, and
    docker goes to the upstream."""
    cache.on("small", "node3")
    first, again = cache.read(), cache.read()
    print(f"\nA volume of {SMALL_MIB} MiB, {BYTES >> 20} wanted at once: {first}, then {again}")
    assert "WRONG" not in first + again
    assert cache.damaged("node1") == []
    cache.forget()
    assert set(cache.read(f"library/{PROOF}")) == {"whole"}, (
        "what was begun in vain takes no room any more"
    )
    cache.forget()
    assert set(cache.read(f"library/{PROOF}")) == {"whole"}
    assert lab.upstream()["bytes"] < 50_000
    assert cache.damaged("node1") == []
