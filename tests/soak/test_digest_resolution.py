"""Which questions a manager asks, and where, when it looks up the digest of an image: `docker
service create`, `service update` and `docker stack deploy`, on each engine.

Each engine is the manager of a swarm of its own here. The mirror is one that writes down what it is
asked; the hub answers under Docker Hub's own name. What is said here is the table of
docs/explanation/digests.md.
"""

import time
from collections.abc import Iterator

import pytest

from lab import by_hand, internet, swarm
from lab.by_hand import HOSTS_TOML, REGISTRY_MIRRORS
from lab.images import attested_image, publish_at_hub
from lab.internet import SICK_MIRROR
from lab.plan import SICK, SICK_HOST
from tests.lab.lab import Lab

IMAGE = "resolved:1"
MIRROR = f"https://{SICK_HOST}"
NODE = "node3"

COMMANDS = {
    "create": f"docker service create --detach --quiet --replicas 0 --name seen {IMAGE} >/dev/null",
    "update": (
        "docker service create --detach --quiet --replicas 0 --no-resolve-image --name seen other:1"
        " >/dev/null 2>&1;"
        f" docker service update --detach --quiet --image {IMAGE} seen >/dev/null"
    ),
    "deploy": (
        f'printf \'version: "3.8"\\nservices: {{seen: {{image: "{IMAGE}", deploy: {{replicas:'
        f" 0}}}}}}\\n' > /tmp/stack.yml;"
        " docker stack deploy --compose-file /tmp/stack.yml s >/dev/null 2>&1"
    ),
}
SERVICE = {"create": "seen", "update": "seen", "deploy": "s_seen"}


@pytest.fixture(scope="module")
def written_down(lab: Lab) -> Iterator[Lab]:
    """A mirror that writes down what it is asked, and an image at the hub."""
    internet.behave(lab.sandbox, "well")
    swarm.make_certificate(lab.folder, "sick", f"DNS:{SICK_HOST},IP:{SICK}")
    internet.start_sick_mirror(lab.sandbox, lab.folder)
    publish_at_hub(lab.sandbox, attested_image("attested", (1 << 20, 1 << 20)), f"library/{IMAGE}")
    yield lab
    for place in (internet.HUB, SICK_MIRROR):
        internet.behave(lab.sandbox, "well", place)
    lab.have({NODE: "28.5"})  # out of its own swarm, and into the lab's


class Manager:
    """A machine that has left the lab's swarm for one of its own, whose docker uses the mirror in
    one way."""

    def __init__(self, lab: Lab, engine: str, way: str) -> None:
        self.lab = lab
        lab.have({NODE: engine})
        lab.on(NODE, f"echo '{SICK} {SICK_HOST}' >> /etc/hosts")
        by_hand.know_docker_hub(lab.sandbox, lab.nodes[NODE])
        lab.on(
            NODE,
            "docker swarm leave --force; docker swarm init --advertise-addr"
            f" {lab.nodes[NODE].address}",
        )
        by_hand.use(lab.sandbox, lab.nodes[NODE], way, MIRROR)

    def resolve(self, command: str) -> tuple[bool, set[str], set[str]]:
        """Whether the service has the digest, and what was asked of the mirror and of the hub, as
        `METHOD kind`."""
        for place in (internet.HUB, SICK_MIRROR):
            internet.reset_counters(self.lab.sandbox, place)
        self.lab.on(NODE, COMMANDS[command])
        look = (
            f"docker service inspect --format '{{{{.Spec.TaskTemplate.ContainerSpec.Image}}}}'"
            f" {SERVICE[command]}"
        )
        image = self.lab.on(NODE, look).strip()
        self.lab.on(NODE, f"docker service rm {SERVICE[command]} >/dev/null")
        ours = self.lab.nodes[NODE].address
        asked = [
            internet.requests(self.lab.sandbox, place) for place in (SICK_MIRROR, internet.HUB)
        ]
        mirror, hub = (
            {_kind(method, path) for client, method, path in place if client == ours}
            for place in asked
        )
        return "@sha256:" in image, mirror, hub


def _kind(method: str, path: str) -> str:
    name = path.partition("?")[0]
    if name == "/v2/":
        return f"{method} /v2/"
    kind, _, reference = name.rpartition("/")
    return f"{method} {kind.rpartition('/')[2]} by {'digest' if ':' in reference else 'tag'}"


PINGED = {"GET /v2/"}
LOOKED_UP = {*PINGED, "HEAD manifests by tag", "GET manifests by digest"}


@pytest.mark.parametrize(
    ("engine", "way", "at_the_mirror", "at_the_hub"),
    [
        ("20.10", REGISTRY_MIRRORS, LOOKED_UP, set()),
        ("26.1", REGISTRY_MIRRORS, LOOKED_UP, PINGED),
        ("28.5", REGISTRY_MIRRORS, LOOKED_UP, PINGED),
        ("29", REGISTRY_MIRRORS, LOOKED_UP, PINGED),
        ("29", HOSTS_TOML, set(), LOOKED_UP),
    ],
)
def test_a_manager_looks_digests_up_where_registry_mirrors_says_and_never_where_hosts_toml_does(
    written_down: Lab, engine: str, way: str, at_the_mirror: set[str], at_the_hub: set[str]
) -> None:
    manager = Manager(written_down, engine, way)
    for command in COMMANDS:
        assert manager.resolve(command) == (True, at_the_mirror, at_the_hub), command
    # Docker Hub is a black hole to the nodes, and the mirror has the image.
    internet.behave(written_down.sandbox, "black-hole")
    try:
        for command in ("create", "deploy"):
            begun = time.monotonic()
            found, _, _ = manager.resolve(command)
            seconds = time.monotonic() - begun
            assert found == bool(at_the_mirror), command
            assert seconds < (10 if not at_the_hub else 40), command
    finally:
        internet.behave(written_down.sandbox, "well")
