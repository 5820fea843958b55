"""Clients that are no node's docker, configured by exactly what `client-config` prints: images of
every registry come through the mirror, once over the internet, by their own names.

Each client finds all registries under their own names, too, as it does everywhere; so who was asked
is read off the registries' counters by the address of who asked.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import deployed, internet
from lab.images import random_image
from lab.other_registries import REGISTRIES
from lab.plan import GATEWAY, HUB_HOST, INTERNET, MANAGER, NODES
from lab.publish import image_bytes, publish_at
from lab.sandbox import SandboxError
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror
from tests.soak.outside import run_outside
from tools import toolchain
from tools.toolchain import BIN

pytestmark = pytest.mark.engines(node1="29")
"""The mirror's only node reads hosts.toml, without which a registry without a fallback is
refused."""

NAMES = {HUB_HOST: INTERNET, **{each.name: each.address for each in REGISTRIES}}
"""Every registry's own name, to be found by what is no machine of the lab."""
LAYERS = (3_000_000, 1_000_000)
"""Bytes."""
LAYERS_OF_GHCR = "pkg-containers.githubusercontent.com"
"""Where ghcr.io redirects to for layers."""
NOT_SERVED = "elsewhere/app:1"
"""An image that both registries have, of a repository that the mirror does not serve."""
PROOF = "docker.io/library/swarm-mirror-proof:1"
REGISTRIES_KEY = [
    {"name": "ghcr.io", "repositories": ["owner/*"]},
    {"name": "lscr.io", "aliasOf": "ghcr.io"},
    {"name": "quay.io", "repositories": ["owner/*"], "fallback": False},
]


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    """A mirror of Docker Hub, ghcr.io and quay.io, on the manager alone, which no other machine's
    docker is configured to use."""
    internet.start_other_registries(lab.sandbox, lab.folder)
    internet.know_other_registries(lab.sandbox, lab.nodes.values())
    other = random_image("soak-elsewhere", LAYERS[1:])
    for host in ("ghcr.io", "quay.io"):
        publish_at(lab.sandbox, host, other, NOT_SERVED)
    found = Mirror(lab)
    found.configure(
        without=("node2", "node3"),
        registries=REGISTRIES_KEY,
        upstreamCa=str(lab.folder.ca.relative_to(toolchain.CHECKOUT)),
        placementConstraints=[f"node.hostname == {MANAGER.name}"],
    )
    # What an earlier run has left in a lab that is kept.
    lab.on(MANAGER.name, f"rm -rf {deployed.CACHE}/registries")
    found.up()
    yield found
    found.destroy()


def printed(mirror: Mirror, client: str) -> dict[str, str]:
    """Path -> text of each file that the verb prints for a client."""
    code, output = mirror.operate("client-config", client, "--json")
    assert code == 0, output
    (entry,) = json.loads(output)
    return {file["path"]: file["text"] for file in entry["files"]}


Pull = Callable[[str], None]
"""Has the client pull an image that it has not; raises where it gets none."""


def install(package: str) -> None:
    """A client that this computer gets from Debian."""
    subprocess.run(
        ["apt-get", "install", "--yes", "--no-install-recommends", "-qq", package],
        check=True,
        capture_output=True,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )


def podman(lab: Lab, folder: Path, files: dict[str, str]) -> Iterator[tuple[str, Pull]]:
    install("podman")
    with tempfile.TemporaryDirectory(prefix="p") as short:  # a runroot has 50 characters at most
        storage = ["--root", str(folder / "root"), "--runroot", short, "--storage-driver", "vfs"]

        def pull(image: str) -> None:
            run_outside(
                lab,
                folder,
                *("podman", *storage, "pull", "--quiet", image),
                names=NAMES,
                files=files,
            )

        version = run_outside(lab, folder, "podman", "--version")
        yield version, pull


def skopeo(lab: Lab, folder: Path, files: dict[str, str]) -> Iterator[tuple[str, Pull]]:
    install("skopeo")

    def pull(image: str) -> None:
        target = tempfile.mkdtemp(dir=folder)
        words = ("skopeo", "--insecure-policy", "copy", f"docker://{image}", f"dir:{target}")
        run_outside(lab, folder, *words, names=NAMES, files=files)

    yield run_outside(lab, folder, "skopeo", "--version"), pull


def containerd(lab: Lab, node: str, files: dict[str, str]) -> Iterator[tuple[str, Pull]]:
    """The containerd that docker runs on."""

    def pull(image: str) -> None:
        ctr = "ctr --namespace soak images"
        lab.on(
            node,
            f"{ctr} ls --quiet | xargs -r {ctr} rm >/dev/null; {ctr} pull --hosts-dir"
            f" /etc/containerd/certs.d {image} >/dev/null",
        )

    with files_on(lab, node, files):
        yield lab.on(node, "containerd --version"), pull
        lab.on(node, "ctr --namespace soak images ls --quiet | xargs -r ctr -n soak images rm")


def buildkit(lab: Lab, node: str, files: dict[str, str]) -> Iterator[tuple[str, Pull]]:
    """A buildkitd of its own on a machine that has runc."""
    for name in ("buildkitd", "buildctl"):
        package = f"github.com/moby/buildkit/cmd/{name}"
        toolchain.go_program(name, package, pins="buildkit")
        program = f"/usr/local/bin/{name}"
        lab.on(node, f"cat > {program}; chmod 755 {program}", (BIN / name).read_bytes())
    (config,) = files
    start = (
        "systemd-run --quiet --collect --unit=soak-buildkitd /usr/local/bin/buildkitd --config"
        f" {config} --root /var/lib/soak-buildkit --oci-worker-snapshotter=native\n"
        "for i in $(seq 60); do buildctl debug workers >/dev/null 2>&1 && exit 0; sleep 0.5; done\n"
        "journalctl --unit=soak-buildkitd --no-pager; exit 1"
    )

    def pull(image: str) -> None:
        lab.on(
            node,
            "export PATH=/usr/local/bin:$PATH; buildctl prune --all >/dev/null; cd $(mktemp -d);"
            f" echo 'FROM {image}' > Dockerfile; buildctl build --no-cache --frontend dockerfile.v0"
            " --local context=. --local dockerfile=. --output type=tar,dest=/dev/null 2>&1",
        )

    with files_on(lab, node, files):
        lab.on(node, f"export PATH=/usr/local/bin:$PATH\n{start}")
        yield lab.on(node, "/usr/local/bin/buildkitd --version"), pull
        lab.on(
            node,
            "systemctl stop soak-buildkitd; rm -rf /var/lib/soak-buildkit /usr/local/bin/build*",
        )


def docker(lab: Lab, node: str, files: dict[str, str]) -> Iterator[tuple[str, Pull]]:
    """One that the mirror's stack does not have among its nodes."""

    def pull(image: str) -> None:
        lab.on(
            node,
            "docker image prune --all --force >/dev/null;"
            f" docker image rm --force {image} >/dev/null 2>&1; docker pull --quiet {image}",
        )

    with files_on(lab, node, files):
        lab.on(node, "systemctl restart docker")
        lab.wait_for_mirror(node)
        yield lab.on(node, "docker version --format '{{.Server.Version}}'"), pull
    lab.on(node, "systemctl restart docker")


@contextlib.contextmanager
def files_on(lab: Lab, node: str, files: dict[str, str]) -> Iterator[None]:
    """Files on a node that has none of them yet; they are removed afterwards."""
    for path, text in files.items():
        script = f"[ ! -e {path} ] && mkdir -p {path.rpartition('/')[0]} && cat > {path}"
        lab.on(node, script, text.encode())
    yield
    lab.on(node, f"rm -f {' '.join(files)}")


@dataclass(frozen=True)
class Client:
    """A client, and where it is."""

    name: str
    address: str
    """From which registries see it ask."""
    version: str
    pull: Pull
    is_strict: bool
    """Whether it can be kept from asking a registry itself."""


CLIENTS = {
    "podman": ("podman", podman, "", True),
    "skopeo": ("podman", skopeo, "", True),
    "containerd-1": ("containerd", containerd, "node2", True),
    "containerd-2": ("containerd", containerd, "node3", True),
    "buildkit": ("buildkit", buildkit, "node2", False),
    "docker-29": ("docker", docker, "node3", True),
}
"""Client -> for what it is printed, what starts it, its machine (empty: this computer), and whether
it can be kept from asking a registry itself."""


@pytest.fixture(scope="module", params=CLIENTS)
def client(
    lab: Lab,
    mirror: Mirror,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Client]:
    kind, start, node, is_strict = CLIENTS[request.param]
    files = printed(mirror, kind)
    place = node or tmp_path_factory.mktemp(request.param)
    address = next((each.address for each in NODES if each.name == node), GATEWAY)
    image = random_image(f"soak-{request.param}", LAYERS)
    for host in ("ghcr.io", "quay.io"):
        publish_at(lab.sandbox, host, image, f"owner/{request.param}:1")
    running = start(lab, place, files)  # type: ignore[operator]
    version, pull = next(running)
    print(f"{request.param}: {version.strip()}")
    yield Client(request.param, address, version, pull, is_strict)
    next(running, None)


def asked_by(lab: Lab, *hosts: str) -> set[str]:
    """Addresses that have asked these registries since the last reset."""
    counted = [internet.counters(lab.sandbox, internet.at(host))["clients"] for host in hosts]
    return {address for clients in counted for address in clients}  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def nothing_counted(lab: Lab, client: Client) -> None:
    for host in NAMES:
        internet.reset_counters(lab.sandbox, internet.at(host))


def test_docker_hubs_images_come_through_the_mirror(lab: Lab, client: Client) -> None:
    client.pull(PROOF)
    assert client.address not in asked_by(lab, HUB_HOST)


def test_another_registrys_image_comes_through_the_mirror_and_once_over_the_internet(
    lab: Lab, client: Client
) -> None:
    image = f"owner/{client.name}:1"
    client.pull(f"ghcr.io/{image}")
    client.pull(f"ghcr.io/{image}")
    assert asked_by(lab, "ghcr.io", LAYERS_OF_GHCR) == {MANAGER.address}
    counted = internet.counters(lab.sandbox, internet.at(LAYERS_OF_GHCR))["bytes"]
    share = int(str(counted)) / image_bytes(lab.sandbox, "ghcr.io", image)
    print(f"{client.name}: {share:.3f} times over the internet")
    assert 0.9 < share <= 1.05


def test_an_alias_has_the_images_of_the_registry_itself_and_is_never_asked(
    lab: Lab, client: Client
) -> None:
    client.pull(f"lscr.io/owner/{client.name}:1")
    assert asked_by(lab, "lscr.io") == set()
    assert asked_by(lab, "ghcr.io", LAYERS_OF_GHCR) <= {MANAGER.address}


def test_what_the_mirror_does_not_serve_is_asked_of_the_registry_itself(
    lab: Lab, client: Client
) -> None:
    client.pull(f"ghcr.io/{NOT_SERVED}")
    assert client.address in asked_by(lab, "ghcr.io")


def test_a_registry_without_a_fallback_is_never_asked_by_a_client_that_can_do_so(
    lab: Lab, client: Client
) -> None:
    client.pull(f"quay.io/owner/{client.name}:1")
    assert asked_by(lab, "quay.io") == {MANAGER.address}
    if client.is_strict:
        with pytest.raises((AssertionError, SandboxError)):
            client.pull(f"quay.io/{NOT_SERVED}")
        assert asked_by(lab, "quay.io") == {MANAGER.address}
    else:  # as the printed note says of it
        client.pull(f"quay.io/{NOT_SERVED}")
        assert client.address in asked_by(lab, "quay.io")
