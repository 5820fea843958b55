"""The mirror's cache on shared storage that a test has made: what is looked for is the same, whatever the storage is.

That is a wrong byte: a body that was sent to its end, and is not what its name says. Figures are printed.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lab import deployed, internet
from lab.images import PROOF, debian_image, publish_at_hub, random_image
from lab.internet import reset_counters
from lab.plan import MIRROR_HOST
from tests.lab_fixture import Lab, Mirror

LAYERS = [60 << 20] * 2
IMAGE = "library/soak-layers:1"
BYTES = sum(LAYERS)
SMALL_MIB = 100
"""Of storage that has room for one of the two layers."""

RUN = """
set -e
test -e /dev/fuse || mknod /dev/fuse c 10 229
mkdir -p {store} /mnt/{name}
mount --make-rshared /
docker run --detach --name {name} --network host --device /dev/fuse --cap-add SYS_ADMIN --cap-add DAC_READ_SEARCH \
  --security-opt apparmor=unconfined --security-opt seccomp=unconfined --mount type=bind,source={store},target=/store \
  --mount type=bind,source=/mnt/{name},target=/mnt/{name},bind-propagation=rshared lab/{name}:1 \
  sh -c 'while sleep 1; do :; done'
"""
"""A container that can mount with FUSE, what the machine then sees; its first process takes in what others leave behind."""
STOP = "umount -l /mnt/{name} /mnt/{name}/* 2> /dev/null; docker rm --force {name}; umount -l {store}/*; rm -rf {store}"

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
"""


@dataclass
class Cache:
    """A mirror whose cache is on storage that a test has made, or on the lab's usual storage."""

    lab: Lab
    mirror: Mirror
    folder: str = ""

    def on(self, folder: str, where: str) -> None:
        """Put the cache into a folder (the usual storage without one), and the registry's task on a machine."""
        self.folder = folder
        place: dict[str, Any] = {"placementConstraints": [f"node.hostname == {where}"]}
        if folder:
            place |= {"cachePath": f"{folder}/data", "configPath": f"{folder}/config.yml"}
        self.mirror.configure(readyTimeout=150, **place)
        self.mirror.up()
        self.lab.wait_for_mirror("node3")
        reset_counters(self.lab.sandbox)

    @property
    def path(self) -> str:
        """Where it is on each machine."""
        return f"{self.folder}/data" if self.folder else deployed.CACHE

    def empty(self) -> None:
        """Nothing in the cache, and nothing in Varnish."""
        self.lab.on("node1", f"rm -rf {self.path}/docker {self.path}/.checked")
        self.forget()

    def forget(self) -> None:
        """New containers, which know nothing but what is in the cache."""
        deployed.kill(self.lab.sandbox)
        reset_counters(self.lab.sandbox)

    def read(self, image: str = IMAGE) -> list[str]:
        """How each layer came to a client: `whole`, `cut off`, `refused`, or `WRONG` if it came to its end with other bytes."""
        repository, _, tag = image.rpartition(":")
        found: list[str] = json.loads(self.lab.on("node3", f'python3 -c "$(cat)" {repository} {tag}', READ.encode()))
        assert len(found) >= len(LAYERS)
        return found

    def seconds(self) -> float:
        started = time.monotonic()
        assert self.read() == ["whole", "whole"]
        return time.monotonic() - started

    def wait_for_a_write(self, node: str) -> None:
        """Until a layer of the image is on its way into the cache, as a machine sees it."""
        writing = f"ls {self.path}/docker/registry/v2/repositories/{IMAGE.partition(':')[0]}/_uploads/*/data"
        self.lab.on(node, f"for i in $(seq 200); do {writing} >/dev/null 2>&1 && exit 0; sleep 0.05; done; exit 1")

    def share(self) -> float:
        """Bytes that left the upstream, in sizes of the image."""
        return float(self.lab.upstream()["bytes"]) / BYTES

    def damaged(self, node: str) -> list[str]:
        """Layers in the cache whose bytes are not what their name says, as a machine sees them; none where none could be kept."""
        script = (
            f"cd {self.path}/docker/registry/v2/blobs/sha256 2> /dev/null || exit 0; for f in */*/data; do"
            ' test "$(sha256sum < $f | cut -d " " -f 1)" = "$(basename $(dirname $f))" || echo $f; done'
        )
        return self.lab.on(node, script).split()


@contextlib.contextmanager
def mirror_of_its_own(lab: Lab) -> Iterator[Cache]:
    """A mirror whose cache can be put anywhere; destroyed afterwards."""
    publish_at_hub(lab.sandbox, random_image("soak-layers", LAYERS), IMAGE)
    internet.behave(lab.sandbox, "well")
    found = Mirror(lab)
    yield Cache(lab, found)
    found.configure()
    found.destroy()


@dataclass(frozen=True)
class Containers:
    """One on each machine, of the image `lab/<name>:1` with Debian's packages in it; what they mount is below /mnt/<name>.

    A machine on which storage is used has no packages of it there. What it keeps is in /store.
    """

    lab: Lab
    name: str
    packages: str

    @property
    def store(self) -> str:
        """Where that is on the machine."""
        return f"/var/lib/docker/{self.name}"

    def start(self, first: str = "") -> None:
        """`first`: a script for each machine, before its container runs."""
        archive = debian_image(self.name, self.packages, ["sleep", "infinity"]).read_bytes()

        def on(node: str) -> None:
            self.lab.on(node, "docker load --quiet", archive)
            self.lab.on(node, f"mkdir -p {self.store}; {first}\n{RUN.format(name=self.name, store=self.store)}")

        with ThreadPoolExecutor() as pool:
            list(pool.map(on, self.lab.nodes))

    def inside(self, node: str, script: str) -> str:
        """What a script says in a machine's container."""
        return self.lab.on(node, f'docker exec -i {self.name} sh -c "$(cat)"', script.encode())

    def until(self, node: str, script: str, seconds: float = 60) -> None:
        """Run a script in a machine's container until it succeeds. Raises SandboxError with its last words."""
        self.inside(node, f"for i in $(seq {int(seconds)}); do ({script}) && exit 0; sleep 1; done 2>&1; exit 1")

    def stop(self) -> None:
        for node in self.lab.nodes:
            self.lab.on(node, STOP.format(name=self.name, store=self.store))


def is_warm_after_the_task_has_moved(cache: Cache, folder: str, title: str) -> None:
    """Measure a folder beside the local directory, and have another machine's client find what that of the first has written."""
    figures = {}
    for place, words in (("", "the local directory"), (folder, title)):
        cache.on(place, "node2")
        cache.empty()
        cold = cache.seconds()
        assert 0.99 < cache.share() < 1.05
        cache.forget()
        figures[words] = cold, cache.seconds()
        assert cache.share() < 0.01
    cache.on(folder, "node3")
    assert cache.read() == ["whole", "whole"]
    assert cache.share() < 0.01
    print(f"\n{BYTES >> 20} MiB to one client, two layers at once; seconds cold, warm:")
    for words, (cold, warm) in figures.items():
        print(f"  {words:<24}{cold:6.2f} {warm:6.2f}   warm {BYTES / 1e6 / warm:.0f} MB/s")


def is_right_where_there_is_no_room(cache: Cache, folder: str) -> None:
    """In a folder with room for SMALL_MIB: what does not fit is cut off or refused, and what is there is right."""
    cache.on(folder, "node3")
    first, again = cache.read(), cache.read()
    print(f"\nRoom for {SMALL_MIB} MiB, {BYTES >> 20} wanted at once: {first}, then {again}")
    assert "WRONG" not in first + again
    assert cache.damaged("node1") == []
    cache.forget()
    assert set(cache.read(f"library/{PROOF}")) == {"whole"}, "what was begun in vain takes no room any more"
    cache.forget()
    assert set(cache.read(f"library/{PROOF}")) == {"whole"}
    assert cache.lab.upstream()["bytes"] < 50_000
    assert cache.damaged("node1") == []
