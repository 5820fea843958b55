"""Simulated docker clients: many at the same instant, on one node, each fetching a whole image and checking every digest.

They do what a pull does to a registry, and nothing of what it does to a disk: unpacking is not the mirror's doing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from lab.images import PROOF
from lab.machines import run_on
from lab.plan import MIRROR_HOST, LabNode
from lab.sandbox import Sandbox

PROGRAM = """
import hashlib, json, sys, threading, time, urllib.request as u
from concurrent.futures import ThreadPoolExecutor
url, repository, tag, number = sys.argv[1], *sys.argv[2].rpartition(":")[::2], int(sys.argv[3])
ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"}
token = {}
def get(path, **headers):
    try:
        return u.urlopen(u.Request(url + "/v2/" + repository + "/" + path, headers={**headers, **token}), timeout=240)
    except u.HTTPError as error:
        if error.code != 401 or token: raise
        realm = error.headers["WWW-Authenticate"].partition('realm="')[2].partition('"')[0]
    token["Authorization"] = "Bearer " + json.loads(u.urlopen(realm).read())["token"]
    return get(path, **headers)
whole, gate = [], threading.Barrier(number + 1)
def right(layer):
    found, answer = hashlib.sha256(), get("blobs/" + layer["digest"])
    while chunk := answer.read(1 << 16):
        found.update(chunk)
    return "sha256:" + found.hexdigest() == layer["digest"]
def client():
    gate.wait()
    manifest = json.loads(get("manifests/" + tag, **ACCEPT).read())
    with ThreadPoolExecutor(3) as pool:  # as many layers at the same time as docker fetches
        if all(pool.map(right, [manifest["config"], *manifest["layers"]])):
            whole.append(1)
threads = [threading.Thread(target=client) for _ in range(number)]
for thread in threads: thread.start()
gate.wait()
begun = time.monotonic()
for thread in threads: thread.join()
print(json.dumps({"whole": len(whole), "seconds": time.monotonic() - begun}))
"""

POUR = """
import json, sys, threading, time, urllib.request as u
url, number, times, digests = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
poured = []
def client():
    buffer = bytearray(1 << 20)
    for digest in digests * times:
        with u.urlopen(url + "/v2/library/swarm-mirror-proof/blobs/" + digest) as answer:
            while size := answer.readinto(buffer):
                poured.append(size)
threads = [threading.Thread(target=client) for _ in range(number)]
begun = time.monotonic()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps({"bytes": sum(poured), "seconds": time.monotonic() - begun}))
"""


FIRST_BYTES = """
import json, sys, threading, time, urllib.request as u
def first_byte(found):
    begun = time.monotonic()
    with u.urlopen(sys.argv[1], timeout=240) as answer:
        answer.read(1)
        found.append(time.monotonic() - begun)
        end.wait()
end, leader, follower = threading.Event(), [], []
threads = [threading.Thread(target=first_byte, args=[found]) for found in (leader, follower)]
threads[0].start()
time.sleep(1)
threads[1].start()
while not (leader and follower) and any(thread.is_alive() for thread in threads): time.sleep(0.01)
end.set()
print(json.dumps(leader + follower))
"""


@dataclass(frozen=True)
class Fetched:
    """How many clients got the whole image, and seconds until the last had ended."""

    whole: int
    seconds: float


def fetch(
    sandbox: Sandbox,
    node: LabNode,
    number: int,
    url: str = f"https://{MIRROR_HOST}",
    image: str = f"library/{PROOF}",
    *,
    seconds: float = 300,
) -> Fetched:
    """Have `number` clients on a node fetch an image at the same moment, within so many seconds."""
    found = run_on(sandbox, node, f'python3 -c "$(cat)" {url} {image} {number}', stdin=PROGRAM.encode(), timeout=seconds)
    return Fetched(**json.loads(found))


def pour(sandbox: Sandbox, node: LabNode, number: int, times: int, url: str, digests: Sequence[str]) -> float:
    """Bytes a second that `number` clients get who fetch some layers again and again, and do nothing with them."""
    words = f'python3 -c "$(cat)" {url} {number} {times} {" ".join(digests)}'
    found = json.loads(run_on(sandbox, node, words, stdin=POUR.encode(), timeout=300))
    return float(found["bytes"]) / float(found["seconds"])


def first_bytes(sandbox: Sandbox, node: LabNode, url: str) -> tuple[float, float]:
    """Seconds until a body's first byte, for a client and for one that asks a second after it."""
    first, second = json.loads(run_on(sandbox, node, f'python3 -c "$(cat)" {url}', stdin=FIRST_BYTES.encode(), timeout=300))
    return float(first), float(second)
