"""The lab's swarm as an administrator would have it before this project: three nodes and
Traefik.

Owns certificates, SSH keys, `docker swarm init/join` and the Traefik service. It deliberately sets
up nothing of the mirror: that is the product's work.
"""

import shlex
import subprocess
import time

from lab.images import TRAEFIK
from lab.machines import run_on
from lab.other_registries import REGISTRIES
from lab.plan import (
    HUB_HOST,
    IMAGES,
    IMAGES_HOST,
    INTERNET,
    MANAGER,
    MIRROR_HOST,
    NODES,
    SECOND_HOST,
    TRAEFIK_NETWORK,
    LabFolder,
    LabNode,
)
from lab.sandbox import Sandbox, SandboxError
from tools.progress import StageError

TRAEFIK_DYNAMIC = """tls:
  stores:
    default:
      defaultCertificate:
        certFile: /certificates/mirror.crt
        keyFile: /certificates/mirror.key
"""


IDENTIFIERS = "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"

TRAEFIK_ARGUMENTS = (
    "--providers.swarm.endpoint=unix:///var/run/docker.sock",
    "--providers.swarm.exposedByDefault=false",
    f"--providers.swarm.network={TRAEFIK_NETWORK}",
    "--providers.swarm.refreshSeconds=2",
    "--providers.file.filename=/certificates/dynamic.yml",
    "--entrypoints.websecure.address=:443",
)


def make_keys(folder: LabFolder) -> None:
    """SSH key of the lab's administrator, a certificate authority, and what it signs. Private keys
    stay in the lab's folder."""
    folder.ssh_key.parent.mkdir(parents=True, exist_ok=True)
    if not folder.ssh_key.exists():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", folder.ssh_key],
            check=True,
        )
    tls = folder.ca.parent
    tls.mkdir(parents=True, exist_ok=True)
    if not (tls / "images.crt").exists():
        _openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            # Python 3.13 takes no authority without it, as RFC 5280 says.
            "-subj",
            "/CN=lab authority",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout",
            f"{tls}/ca.key",
            "-out",
            f"{tls}/ca.crt",
        )
        make_certificate(
            folder, "mirror", f"DNS:{MIRROR_HOST},DNS:{SECOND_HOST},IP:{MANAGER.address}"
        )
        make_certificate(folder, "hub", f"DNS:{HUB_HOST},IP:{INTERNET}")
        names = ",".join(f"DNS:{registry.name}" for registry in REGISTRIES)
        make_certificate(folder, "registries", names)
        make_certificate(folder, "images", f"DNS:{IMAGES_HOST},IP:{IMAGES}")


def make_certificate(folder: LabFolder, name: str, alternative_names: str) -> None:
    """A certificate `tls/<name>.crt` with its key, signed by the lab's authority."""
    tls = folder.ca.parent
    _openssl(
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        f"/CN={name}",
        "-keyout",
        f"{tls}/{name}.key",
        "-out",
        f"{tls}/{name}.csr",
    )
    (tls / f"{name}.ext").write_text(
        f"subjectAltName={alternative_names}\nbasicConstraints=CA:FALSE\n{IDENTIFIERS}"
    )
    _openssl(
        "x509",
        "-req",
        "-in",
        f"{tls}/{name}.csr",
        "-CA",
        f"{tls}/ca.crt",
        "-CAkey",
        f"{tls}/ca.key",
        "-CAcreateserial",
        "-days",
        "30",
        "-extfile",
        f"{tls}/{name}.ext",
        "-out",
        f"{tls}/{name}.crt",
    )


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StageError(
            f"openssl: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}"
        )


def write_known_hosts(folder: LabFolder) -> None:
    """The nodes' host keys as an administrator's known_hosts has them: one line plain, the others
    hashed (`ssh-keygen -H`)."""
    lines = []
    for node in NODES:
        public = (
            (folder.node(node.name) / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
        )
        lines.append(f"{node.address} {public[0]} {public[1]}\n")
    folder.known_hosts.write_text("".join(lines[1:]))
    subprocess.run(
        ["ssh-keygen", "-q", "-H", "-f", folder.known_hosts], check=True, capture_output=True
    )
    folder.known_hosts.with_suffix(".old").unlink(missing_ok=True)
    with folder.known_hosts.open("a") as file:
        file.write(lines[0])


def make_swarm(sandbox: Sandbox) -> None:
    """Node 1 becomes the manager, the others join. Safe to repeat."""
    state = "docker info --format '{{.Swarm.LocalNodeState}}'"
    if run_on(sandbox, MANAGER, state).strip() != "active":
        run_on(sandbox, MANAGER, f"docker swarm init --advertise-addr {MANAGER.address}")
    token = run_on(sandbox, MANAGER, "docker swarm join-token -q worker").strip()
    for node in NODES[1:]:
        if run_on(sandbox, node, state).strip() != "active":
            run_on(
                sandbox,
                node,
                f"docker swarm join --token {token} --advertise-addr {node.address}"
                f" {MANAGER.address}:2377",
            )


def remove_node(sandbox: Sandbox, node: LabNode) -> None:
    """Have the swarm forget a machine. One that was demoted from manager a moment ago is refused at
    first. Raises SandboxError after 30 s."""
    once = f"docker node rm --force {node.name} && exit 0; sleep 0.5"
    run_on(sandbox, MANAGER, f"for i in $(seq 60); do {once}; done; exit 1")


def start_traefik(sandbox: Sandbox, folder: LabFolder) -> None:
    """The overlay network and Traefik 3 on the manager, its ports in host mode. Safe to repeat."""
    shared = folder.shared_storage / "traefik"
    shared.mkdir(parents=True, exist_ok=True)
    files = {
        f"mirror.{part}": (folder.ca.parent / f"mirror.{part}").read_bytes()
        for part in ("crt", "key")
    }
    files["dynamic.yml"] = TRAEFIK_DYNAMIC.encode()
    for name, content in files.items():
        path = shared / name
        # Traefik watches this folder: a file that is written to while it reads leaves it without a
        # certificate for good.
        if not path.exists() or path.read_bytes() != content:
            path.with_suffix(".new").write_bytes(content)
            path.with_suffix(".new").rename(path)
    digest = (folder.root / "traefik.digest").read_text().strip()
    run_on(
        sandbox,
        MANAGER,
        f"docker network inspect {TRAEFIK_NETWORK} >/dev/null 2>&1 ||"
        f" docker network create --driver overlay --attachable {TRAEFIK_NETWORK}\n"
        "docker service inspect traefik >/dev/null 2>&1 || docker service create --quiet --detach"
        " --name traefik --mode global"
        f" --constraint node.role==manager --network {TRAEFIK_NETWORK}"
        # The routing mesh needs IPVS, which a lab's kernel may not have; host mode also keeps the
        # client's address.
        " --publish mode=host,target=443,published=443"
        " --mount type=bind,source=/var/run/docker.sock,target=/var/run/docker.sock"
        " --mount type=bind,source=/var/data/traefik,target=/certificates,readonly"
        f" {TRAEFIK.repository}:{TRAEFIK.tag}@{digest} {shlex.join(TRAEFIK_ARGUMENTS)}",
        timeout=120,
    )


def change_traefik(sandbox: Sandbox, image: str, *arguments: str) -> None:
    """Have the service run another Traefik, with arguments beside those of `start_traefik`, or in
    their place."""
    words = shlex.join([*TRAEFIK_ARGUMENTS, *arguments])
    run_on(
        sandbox,
        MANAGER,
        f"docker service update --quiet --image {image} --args {shlex.quote(words)} --update-order"
        " stop-first traefik",
        timeout=120,
    )


def wait_for_traefik(sandbox: Sandbox, seconds: float = 90) -> None:
    """Wait until Traefik's task runs. Raises StageError with what the swarm says of its tasks and
    of its nodes."""
    deadline = time.monotonic() + seconds
    tasks = ""
    while time.monotonic() < deadline:
        try:
            here = (
                f"docker service ps traefik --no-trunc --filter node={MANAGER.name} --filter"
                " desired-state=running"
            )
            tasks = run_on(
                sandbox, MANAGER, f"{here} --format '{{{{.CurrentState}}}} {{{{.Error}}}}'"
            )
        except SandboxError as error:
            tasks = str(error)
        if tasks.startswith("Running"):
            return
        time.sleep(0.5)
    raise StageError(f"Traefik does not run after {seconds:.0f} s: {_state_of_traefik(sandbox)}")


def _state_of_traefik(sandbox: Sandbox) -> str:
    """Its tasks, those that have ended too, and the nodes, in one line."""
    script = (
        "docker service ps traefik --no-trunc --format"
        " '{{.Node}} {{.DesiredState}} {{.CurrentState}} {{.Error}}' || true\n"
        "docker node ls --format 'node {{.Hostname}} {{.Status}} {{.ManagerStatus}}' || true"
    )
    try:
        return "; ".join(run_on(sandbox, MANAGER, script).splitlines())
    except SandboxError as error:
        return str(error)
