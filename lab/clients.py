"""Simulated docker clients: many at the same instant, on one node, each fetching a whole image and checking every digest.

They do what a pull does to a registry, and nothing of what it does to a disk: unpacking is not the mirror's doing.
"""

import json

from lab.images import PROOF
from lab.machines import run_on
from lab.plan import LabNode
from lab.sandbox import Sandbox

PROGRAM = """
import hashlib, json, sys, threading, time, urllib.request as u
url, repository, tag, number = sys.argv[1], *sys.argv[2].rpartition(":")[::2], int(sys.argv[3])
ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"}
def get(path, **headers):
    return u.urlopen(u.Request(url + "/v2/" + repository + "/" + path, headers=headers), timeout=240)
seconds, gate = [], threading.Barrier(number)
def client():
    gate.wait()
    started = time.monotonic()
    manifest = json.loads(get("manifests/" + tag, **ACCEPT).read())
    for layer in [manifest["config"], *manifest["layers"]]:
        found, answer = hashlib.sha256(), get("blobs/" + layer["digest"])
        while chunk := answer.read(1 << 16):
            found.update(chunk)
        if "sha256:" + found.hexdigest() != layer["digest"]:
            return
    seconds.append(time.monotonic() - started)
threads = [threading.Thread(target=client) for _ in range(number)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(seconds))
"""


def run_clients(sandbox: Sandbox, node: LabNode, url: str, number: int) -> list[float]:
    """Seconds of each client that got the proof image whole; fewer than `number` if some did not."""

    command = f'python3 -c "$(cat)" {url} library/{PROOF} {number}'
    found: list[float] = json.loads(run_on(sandbox, node, command, stdin=PROGRAM.encode(), timeout=300))
    return found
