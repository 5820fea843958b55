"""Simulated docker clients: many at the same instant, on one node, each fetching a whole image and
checking every digest.

They do what a pull does to a registry, and nothing of what it does to a disk: unpacking is not the
mirror's doing.
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
"""  # noqa: E501

POUR = """
import json, sys, threading, time, urllib.request as u
url, repository, number, times, digests = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
poured = []
def client():
    buffer = bytearray(1 << 20)
    for digest in digests * times:
        with u.urlopen(url + "/v2/" + repository + "/blobs/" + digest) as answer:
            while size := answer.readinto(buffer):
                poured.append(size)
threads = [threading.Thread(target=client) for _ in range(number)]
begun = time.monotonic()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps({"bytes": sum(poured), "seconds": time.monotonic() - begun}))
"""  # noqa: E501


FIRST_BYTES = """
import json, ssl, sys, threading, time, urllib.request as u
url, number = sys.argv[1], int(sys.argv[2])
trust = ssl.create_default_context()
begun, found, end, gate = time.monotonic(), [], threading.Event(), threading.Barrier(number)
def first_byte(late):
    if not late: gate.wait()
    asked = time.monotonic()
    with u.urlopen(url, timeout=240, context=trust) as answer:
        answer.read(1)
        found.append((time.monotonic() - begun, time.monotonic() - asked))
        end.wait()
threads = [threading.Thread(target=first_byte, args=[late]) for late in [False] * number + [True]]
for thread in threads[:-1]: thread.start()
while len(found) < number and any(thread.is_alive() for thread in threads): time.sleep(0.01)
time.sleep(1)
threads[-1].start()
while len(found) <= number and threads[-1].is_alive(): time.sleep(0.01)
end.set()
together, late = sorted(found[:number]), found[number]
print(json.dumps([together[0][1], together[-1][0] - together[0][0], late[1]]))
"""


REPOSITORY = f"library/{PROOF}".partition(":")[0]


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
    found = run_on(
        sandbox,
        node,
        f'python3 -c "$(cat)" {url} {image} {number}',
        stdin=PROGRAM.encode(),
        timeout=seconds,
    )
    return Fetched(**json.loads(found))


def pour(
    sandbox: Sandbox,
    node: LabNode,
    url: str,
    digests: Sequence[str],
    *,
    number: int,
    times: int,
    repository: str = REPOSITORY,
) -> float:
    """Bytes a second that `number` clients get who fetch some layers again and again, and do
    nothing with them."""
    words = f'python3 -c "$(cat)" {url} {repository} {number} {times} {" ".join(digests)}'
    found = json.loads(run_on(sandbox, node, words, stdin=POUR.encode(), timeout=600))
    return float(found["bytes"]) / float(found["seconds"])


@dataclass(frozen=True)
class FirstBytes:
    """Seconds until the first byte of a body that several clients ask for at the same moment, and
    one later."""

    leader: float
    """For the one who had it first."""
    followers: float
    """From then on until the last of the others had it."""
    late: float
    """For one that asks a second after all of them have it, while the body is still on its way."""


def first_bytes(sandbox: Sandbox, node: LabNode, url: str, number: int) -> FirstBytes:
    """Measure on a node with `number` clients that ask at the same moment."""
    found = json.loads(
        run_on(
            sandbox,
            node,
            f'python3 -c "$(cat)" {url} {number}',
            stdin=FIRST_BYTES.encode(),
            timeout=300,
        )
    )
    return FirstBytes(*map(float, found))
