"""Clients that are not docker, cold and warm: they speak to the mirror by its own name, as to any registry."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.images import proof_image_bytes
from lab.internet import reset_counters
from tests.lab_fixture import Lab, Mirror
from tools.toolchain import BIN

IMAGE = "mirror.lab.test/library/swarm-mirror-proof:1"
CACHE = "/var/data/registry/registry-mirror-data"


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    found = Mirror(lab)
    found.up()
    yield found
    found.destroy()


def here(lab: Lab, folder: Path, *argv: "str | Path") -> None:
    """Run a client of this computer in the lab's network, with the lab's names and authority."""
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n198.18.0.11 mirror.lab.test\n")
    words = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--",
        "sh",
        "-c",
        f'mount --bind {hosts} /etc/hosts && exec "$@"',
        "sh",
    ]
    command = lab.sandbox.command([*words, *map(str, argv)], network_only=True)
    environment = {**os.environ, "SSL_CERT_FILE": str(lab.folder.ca)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def crane(lab: Lab, folder: Path, number: int) -> None:
    here(lab, folder, BIN / "crane", "pull", IMAGE, folder / f"{number}.tar")


def skopeo(lab: Lab, folder: Path, number: int) -> None:
    here(lab, folder, "skopeo", "--insecure-policy", "copy", f"docker://{IMAGE}", f"dir:{folder / str(number)}")


def containerd(lab: Lab, folder: Path, number: int) -> None:
    lab.on(
        "node1", f"ctr --namespace soak images rm {IMAGE} >/dev/null 2>&1; ctr --namespace soak images pull {IMAGE} >/dev/null"
    )


@pytest.mark.parametrize("client", [crane, skopeo, containerd], ids=lambda client: client.__name__)
def test_a_client_pulls_cold_and_warm_and_the_image_crosses_the_internet_once(
    lab: Lab, mirror: Mirror, tmp_path: Path, client: "object"
) -> None:
    assert callable(client)
    if client is skopeo:
        subprocess.run(["apt-get", "install", "--yes", "-qq", "skopeo"], check=True, capture_output=True)
    lab.on("node1", f"rm -rf {CACHE}/docker")
    for node in ("node1", "node2", "node3"):
        lab.on(node, "docker ps --quiet --filter name=registry-mirror | xargs -r docker kill >/dev/null")
    lab.wait_for_mirror("node3")
    reset_counters(lab.sandbox)
    client(lab, tmp_path, 1)
    assert 0.9 < lab.upstream()["bytes"] / proof_image_bytes(lab.sandbox) <= 1.05
    client(lab, tmp_path, 2)
    assert lab.upstream()["bytes"] / proof_image_bytes(lab.sandbox) <= 1.05
