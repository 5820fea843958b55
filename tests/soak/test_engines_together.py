"""Engines of four generations and both image stores behind one mirror: the image crosses the
internet once, and an image with an attestation costs nothing more, also when everything upstream is
dead.

Docker is pointed at the mirror by hand here, in each way that an engine reads; the agent configures
the manager alone.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import by_hand, deployed, internet
from lab.by_hand import HOSTS_TOML, REGISTRY_MIRRORS
from lab.images import attested_image, proof_image_bytes, publish_at_hub, random_image
from lab.internet import reset_counters
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror

MIRROR = "https://mirror.lab.test"
HERD = "mixed-herd:1"
HERD_LAYERS = (30 << 20, 12 << 20, 1 << 20)
"""Bytes; the first is on the line for more than two seconds, so that all ask while it arrives."""
PLAIN, ATTESTED = "plain:1", "attested:1"
LAYERS = (1 << 20, 1 << 20)


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    internet.behave(lab.sandbox, "well")
    mirror = Mirror(lab)
    mirror.configure(without=("node2", "node3"))
    mirror.up()
    publish_at_hub(lab.sandbox, random_image("mixed-herd", HERD_LAYERS), f"library/{HERD}")
    publish_at_hub(lab.sandbox, random_image("plain", LAYERS), f"library/{PLAIN}")
    publish_at_hub(lab.sandbox, attested_image("attested", LAYERS), f"library/{ATTESTED}")
    yield mirror
    internet.behave(lab.sandbox, "well")
    lab.have({})
    mirror.destroy()


def pull(lab: Lab, node: str, image: str) -> float:
    """Seconds."""
    lab.on(node, f"docker image rm --force {image} >/dev/null 2>&1 || true")
    begun = time.monotonic()
    lab.on(node, f"timeout 100 docker pull --quiet {image}")
    return time.monotonic() - begun


def digest(lab: Lab, node: str, image: str) -> str:
    return lab.on(node, f"docker image inspect --format '{{{{.RepoDigests}}}}' {image}")


@pytest.mark.parametrize(
    ("engines", "way"),
    [
        ({"node2": "20.10", "node3": "29"}, HOSTS_TOML),
        ({"node2": "20.10", "node3": "29"}, REGISTRY_MIRRORS),
        ({"node2": "28.5", "node3": "28.5-containerd"}, HOSTS_TOML),
    ],
    ids=lambda value: "+".join(["26.1", *value.values()]) if isinstance(value, dict) else value,
)
def test_engines_of_every_kind_at_the_same_instant_are_one_download(
    lab: Lab, mirror: Mirror, engines: Mapping[str, str], way: str
) -> None:
    lab.have(engines)
    for node in engines:
        by_hand.use(
            lab.sandbox,
            lab.nodes[node],
            way if lab.nodes[node].has.containerd_store else REGISTRY_MIRRORS,
            MIRROR,
        )
        lab.wait_for_mirror(node)
    deployed.empty(lab.sandbox)
    for node in lab.nodes:
        lab.on(node, f"docker image rm --force {HERD} >/dev/null 2>&1 || true")
        lab.wait_for_mirror(node)
    reset_counters(lab.sandbox)
    gate = threading.Barrier(len(lab.nodes))

    def at_once(node: str) -> None:
        gate.wait()
        pull(lab, node, HERD)

    with ThreadPoolExecutor() as pool:
        list(pool.map(at_once, lab.nodes))
    assert len({digest(lab, node, HERD) for node in lab.nodes}) == 1
    share = lab.upstream()["bytes"] / proof_image_bytes(lab.sandbox, HERD)
    print(f"{share:.3f} times over the internet")
    assert share <= 1.05


@pytest.fixture
def dead(lab: Lab) -> Iterator[None]:
    """Nothing upstream answers a packet, to the mirror and to nodes."""
    yield
    internet.behave(lab.sandbox, "well")


@pytest.mark.parametrize(
    ("engine", "way"),
    [
        ("29", HOSTS_TOML),
        ("29", REGISTRY_MIRRORS),
        ("28.5-containerd", HOSTS_TOML),
        ("29-graphdriver", REGISTRY_MIRRORS),
    ],
)
def test_an_attested_image_takes_no_longer_than_a_plain_one_cold_warm_and_with_everything_upstream_dead(  # noqa: E501
    lab: Lab, mirror: Mirror, dead: None, engine: str, way: str
) -> None:
    lab.have({"node3": engine})
    by_hand.know_docker_hub(lab.sandbox, lab.nodes["node3"])
    by_hand.use(lab.sandbox, lab.nodes["node3"], way, MIRROR)
    lab.wait_for_mirror("node3")
    deployed.empty(lab.sandbox)
    seconds = {}
    for state in ("cold", "warm", "dead"):
        if state == "dead":
            internet.behave(lab.sandbox, "black-hole")
        seconds[state] = pull(lab, "node3", PLAIN), pull(lab, "node3", ATTESTED)
    print(
        {
            state: f"plain {plain:.1f} s, attested {attested:.1f} s"
            for state, (plain, attested) in seconds.items()
        }
    )
    for plain, attested in seconds.values():
        assert attested <= plain + 3
    assert max(seconds["dead"]) < 20
