"""Clients that are not docker, cold and warm: they speak to the mirror by its own name, as to any
registry."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import deployed
from lab.images import proof_image_bytes
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror
from tests.soak.outside import run_outside
from tools.toolchain import BIN

IMAGE = "mirror.lab.test/library/swarm-mirror-proof:1"


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    mirror.up()
    yield mirror
    mirror.destroy()


def crane(lab: Lab, folder: Path, number: int) -> None:
    run_outside(lab, folder, BIN / "crane", "pull", IMAGE, folder / f"{number}.tar")


def skopeo(lab: Lab, folder: Path, number: int) -> None:
    run_outside(
        lab,
        folder,
        "skopeo",
        "--insecure-policy",
        "copy",
        f"docker://{IMAGE}",
        f"dir:{folder / str(number)}",
    )


def containerd(lab: Lab, folder: Path, number: int) -> None:
    lab.on(
        "node1",
        f"ctr --namespace soak images rm {IMAGE} >/dev/null 2>&1; ctr --namespace soak images pull"
        f" {IMAGE} >/dev/null",
    )


def podman(lab: Lab, folder: Path, number: int) -> None:
    with tempfile.TemporaryDirectory(
        prefix="p"
    ) as short:  # podman takes a runroot of 50 characters at most
        storage = [
            "--root",
            str(folder / f"root{number}"),
            "--runroot",
            short,
            "--storage-driver",
            "vfs",
        ]
        run_outside(lab, folder, "podman", *storage, "pull", "--quiet", IMAGE)


PACKAGES: "dict[object, str]" = {skopeo: "skopeo", podman: "podman"}
"""Clients that this computer gets from Debian."""


@pytest.mark.parametrize(
    "client", [crane, skopeo, podman, containerd], ids=lambda client: client.__name__
)
def test_a_client_pulls_cold_and_warm_and_the_image_crosses_the_internet_once(
    lab: Lab, mirror: Mirror, tmp_path: Path, client: "object"
) -> None:
    assert callable(client)
    if client in PACKAGES:
        install = [
            "apt-get",
            "install",
            "--yes",
            "--no-install-recommends",
            "-qq",
            PACKAGES[client],
        ]
        subprocess.run(
            install,
            check=True,
            capture_output=True,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
    deployed.empty(lab.sandbox)
    client(lab, tmp_path, 1)
    assert 0.9 < lab.upstream()["bytes"] / proof_image_bytes(lab.sandbox) <= 1.05
    client(lab, tmp_path, 2)
    assert lab.upstream()["bytes"] / proof_image_bytes(lab.sandbox) <= 1.05
