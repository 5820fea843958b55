"""Certificates that Traefik obtains by itself, as the recipe has them from Let's Encrypt; here from
Pebble, its test authority.

Pebble runs on the lab's gateway, asks Traefik for the proof (TLS-ALPN-01) by the mirror's own name,
and signs. What nodes must trust is Pebble's root, which is another one at each of its starts;
docker reads it from certs.d.

Traefik asks no authority for a name that a certificate of its own already has, the default one
included. The lab's default certificate has the mirror's name, so it gives way to one for another
name.
"""

import json
import shlex
import subprocess
import time
from collections.abc import Iterator

import pytest

from lab import swarm
from lab.plan import GATEWAY, MANAGER, MIRROR_HOST
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror
from tools import toolchain

NODES = ["node1", "node2", "node3"]
CERTS = f"/etc/docker/certs.d/{MIRROR_HOST}"
RESOLVER = "--certificatesresolvers.pebble.acme"
ARGUMENTS = (
    f"{RESOLVER}.caserver=https://{GATEWAY}:14000/dir",
    f"{RESOLVER}.email=admin@lab.test",
    f"{RESOLVER}.storage=/tmp/acme.json",
    f"{RESOLVER}.tlschallenge=true",
)


class Pebble:
    """A running authority."""

    def __init__(self, lab: Lab) -> None:
        toolchain.go_program("pebble", "github.com/letsencrypt/pebble/v2/cmd/pebble")
        swarm.make_certificate(lab.folder, "acme", f"IP:{GATEWAY}")
        folder, tls = lab.folder.root / "pebble", lab.folder.ca.parent
        folder.mkdir(exist_ok=True)
        addresses = {
            "listenAddress": f"{GATEWAY}:14000",
            "managementListenAddress": f"{GATEWAY}:15000",
        }
        files = {"certificate": str(tls / "acme.crt"), "privateKey": str(tls / "acme.key")}
        profiles = {"default": {"description": "as Let's Encrypt's", "validityPeriod": 7776000}}
        config = {
            "pebble": {**addresses, **files, "httpPort": 80, "tlsPort": 443, "profiles": profiles}
        }
        (folder / "config.json").write_text(json.dumps(config))
        # Pebble asks Traefik by the mirror's name, which only the lab knows.
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{MANAGER.address} {MIRROR_HOST}\n")
        script = (
            f"mount --bind {shlex.quote(str(folder / 'hosts'))} /etc/hosts && "
            f"exec {toolchain.BIN / 'pebble'} -config {shlex.quote(str(folder / 'config.json'))}"
        )
        argv = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", script]
        self.process = lab.sandbox.spawn(argv, folder / "pebble.log")
        self.lab = lab

    def root(self) -> bytes:
        """Its root certificate, once it runs."""
        ask = (
            "import ssl, sys, urllib.request as u\n"
            "context = ssl.create_default_context(cafile=sys.argv[2])\n"
            "print(u.urlopen(sys.argv[1] + '/roots/0', context=context).read().decode())"
        )
        words = ["python3", "-c", ask, f"https://{GATEWAY}:15000", str(self.lab.folder.ca)]
        for _ in range(40):
            done = subprocess.run(
                self.lab.sandbox.command(words, network_only=True), capture_output=True, check=False
            )
            if done.returncode == 0:
                return done.stdout
            time.sleep(0.5)
        raise AssertionError(done.stderr.decode())


def change_default_certificate(lab: Lab, old: str, new: str) -> None:
    """Have Traefik's default certificate be another one; the file is renamed over, because Traefik
    watches it."""
    file = "/var/data/traefik/dynamic.yml"
    lab.on("node1", f"sed s/{old}/{new}/ {file} > {file}.new && mv {file}.new {file}")


@pytest.fixture
def mirror(lab: Lab) -> Iterator[Mirror]:
    pebble = Pebble(lab)
    root = pebble.root()
    usual = json.loads(
        lab.on(
            "node1",
            "docker service inspect --format '{{json .Spec.TaskTemplate.ContainerSpec.Args}}'"
            " traefik",
        )
    )
    swarm.make_certificate(lab.folder, "other", "DNS:other.lab.test")
    tls = lab.folder.ca.parent
    for name, content in (
        ("authority.crt", lab.folder.ca.read_bytes()),
        ("other.crt", (tls / "other.crt").read_bytes()),
        ("other.key", (tls / "other.key").read_bytes()),
    ):
        lab.on("node1", f"cat > /var/data/traefik/{name}", content)
    change_default_certificate(lab, "mirror", "other")
    words = shlex.join([*usual, *ARGUMENTS])
    change = "docker service update --quiet --update-order stop-first"
    lab.on(
        "node1",
        f"{change} --env-add LEGO_CA_CERTIFICATES=/certificates/authority.crt --args"
        f" {shlex.quote(words)} traefik",
    )
    for node in NODES:
        lab.on(node, f"mkdir -p {CERTS}; cat > {CERTS}/ca.crt", root)
    mirror = Mirror(lab)
    yield mirror
    mirror.configure()
    mirror.destroy()
    change_default_certificate(lab, "other", "mirror")
    lab.on(
        "node1",
        f"{change} --env-rm LEGO_CA_CERTIFICATES --args {shlex.quote(shlex.join(usual))} traefik",
    )
    for node in NODES:
        lab.on(node, f"rm -r {CERTS}")
    pebble.process.terminate()


def test_traefik_obtains_the_mirrors_certificate_and_every_node_trusts_it(
    lab: Lab, mirror: Mirror
) -> None:
    mirror.configure(certResolver="pebble", readyTimeout=120)
    mirror.up()
    ask = (
        f"openssl s_client -connect {MIRROR_HOST}:443 -servername {MIRROR_HOST} </dev/null"
        " 2>/dev/null"
    )
    # At once: without it no node would have been configured, because the default certificate is not
    # for this name.
    assert "Pebble" in lab.on("node1", f"{ask} | openssl x509 -noout -issuer")
    for node in NODES:
        lab.on(
            node,
            "docker image rm --force swarm-mirror-proof:1 >/dev/null 2>&1; docker pull --quiet"
            " swarm-mirror-proof:1",
        )
    assert mirror.operate("status")[0] == 0
