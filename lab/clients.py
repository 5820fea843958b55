"""Simulated docker clients: many at the same instant, on one node, each fetching a whole image and checking every digest.

They do what a pull does to a registry, and nothing of what it does to a disk: unpacking is not the mirror's doing.
"""

from lab.images import PROOF
from lab.machines import run_on
from lab.plan import MIRROR_HOST, LabNode
from lab.sandbox import Sandbox

PROGRAM = """
import hashlib, json, sys, threading, urllib.request as u
url, repository, tag, number = sys.argv[1], *sys.argv[2].rpartition(":")[::2], int(sys.argv[3])
ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"}
def get(path, **headers):
    return u.urlopen(u.Request(url + "/v2/" + repository + "/" + path, headers=headers), timeout=240)
whole, gate = [], threading.Barrier(number)
def client():
    gate.wait()
    manifest = json.loads(get("manifests/" + tag, **ACCEPT).read())
    for layer in [manifest["config"], *manifest["layers"]]:
        found, answer = hashlib.sha256(), get("blobs/" + layer["digest"])
        while chunk := answer.read(1 << 16):
            found.update(chunk)
        if "sha256:" + found.hexdigest() != layer["digest"]:
            return
    whole.append(1)
threads = [threading.Thread(target=client) for _ in range(number)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(whole))
"""


def run_clients(sandbox: Sandbox, node: LabNode, number: int) -> int:
    """How many of `number` clients of the mirror got the whole proof image."""
    command = f'python3 -c "$(cat)" https://{MIRROR_HOST} library/{PROOF} {number}'
    return int(run_on(sandbox, node, command, stdin=PROGRAM.encode(), timeout=300))
