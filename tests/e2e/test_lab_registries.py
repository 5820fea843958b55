"""The registries of the lab's internet besides Docker Hub: docker pulls from each by its own name,
in the ways that the real ones have, and each counts for itself."""

import pytest

from lab import internet
from lab.images import random_image
from lab.other_registries import account
from lab.plan import NODES
from lab.publish import image_bytes, publish_at
from lab.sandbox import SandboxError
from tests.lab.lab import Lab

PULLED = "owner/app:1"
PRIVATE = "private/app:1"
LAYERS = (6 << 20, 3 << 20)


@pytest.fixture(scope="module", autouse=True)
def registries(lab: Lab) -> None:
    internet.start_other_registries(lab.sandbox, lab.folder)
    internet.know_other_registries(lab.sandbox, lab.nodes.values())
    # Of this file alone: a layer that a machine has from elsewhere is not pulled.
    archive = random_image("app-of-the-labs-registries", LAYERS)
    for host in ("ghcr.io", "quay.io", "registry.k8s.io", "registry.gitlab.com"):
        publish_at(lab.sandbox, host, archive, PULLED)
    publish_at(lab.sandbox, "ghcr.io", archive, PRIVATE)


def forget_images(lab: Lab, node: str) -> None:
    """They have the same layers, so one that is there spares the next one's download."""
    lab.on(
        node,
        "docker images --quiet --filter 'reference=*/*/app' | xargs -r docker image rm --force",
    )


@pytest.mark.parametrize("node", [node.name for node in NODES])
@pytest.mark.parametrize(
    ("host", "layers_from"),
    [
        ("ghcr.io", "pkg-containers.githubusercontent.com"),
        ("quay.io", "quay.io"),
        ("registry.k8s.io", "europe-docker.pkg.dev"),
        ("registry.gitlab.com", "registry.gitlab.com"),
        ("lscr.io", "lscr.io"),
    ],
)
def test_docker_pulls_from_each_and_each_counts_for_itself(
    lab: Lab, node: str, host: str, layers_from: str
) -> None:
    forget_images(lab, node)
    for name in {host, layers_from}:
        internet.reset_counters(lab.sandbox, internet.at(name))
    lab.pull(node, f"{host}/{PULLED}")
    sent = {
        name: int(str(internet.counters(lab.sandbox, internet.at(name))["bytes"]))
        for name in (host, layers_from)
    }
    size = image_bytes(lab.sandbox, host, PULLED)
    assert sent.pop(layers_from) == pytest.approx(size, rel=0.01)
    assert all(0 <= rest < 10_000 for rest in sent.values()), "manifests alone"


def test_a_private_image_is_for_the_account_of_that_registry_alone(lab: Lab) -> None:
    with pytest.raises(SandboxError, match=r"unauthorized|denied|401"):
        lab.pull("node1", f"ghcr.io/{PRIVATE}")
    login = "docker login --username {} --password-stdin ghcr.io 2>/dev/null"
    name, token = account("quay.io")
    with pytest.raises(SandboxError):
        lab.on("node1", login.format(name), token.encode())
    name, token = account("ghcr.io")
    forget_images(lab, "node1")
    internet.reset_counters(lab.sandbox, internet.at("ghcr.io"))
    lab.on("node1", login.format(name), token.encode())
    try:
        lab.pull("node1", f"ghcr.io/{PRIVATE}")
    finally:
        lab.on("node1", "docker logout ghcr.io")
    asked = internet.headers(lab.sandbox, internet.at("ghcr.io"))
    assert f"{name}:{token}" in [request["basic"] for request in asked]


def test_one_registry_that_swallows_packets_is_none_of_the_others_business(lab: Lab) -> None:
    place = internet.at("ghcr.io")
    internet.behave(lab.sandbox, "black-hole", place)
    try:
        lab.pull("node1", f"quay.io/{PULLED}")
        with pytest.raises(SandboxError):
            lab.on("node1", f"timeout 5 docker pull --quiet ghcr.io/{PULLED}")
    finally:
        internet.behave(lab.sandbox, "well", place)
    lab.pull("node1", f"ghcr.io/{PULLED}")
