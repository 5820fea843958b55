"""What looks for newer images on every manager and in every stack: Shepherd and Gantry, by the
commands that they run (containrrr/shepherd `shepherd`, shizunge/gantry `src/lib-gantry.sh`).

The tests build on each other; what comes after the first failure is skipped.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import by_hand, internet
from lab.images import publish_at_hub, random_image
from lab.plan import MIRROR_HOST
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror

pytestmark = pytest.mark.story

NODES = ["node1", "node2", "node3"]
"""With the commands of docker 26.1, 20.10 and 29."""
IMAGE = "library/watched:1"
AT_MIRROR = f"{MIRROR_HOST}/{IMAGE}"
SHEPHERDS_CHECK = "DOCKER_CLI_EXPERIMENTAL=enabled docker manifest inspect {} > /dev/null"
AT_ONCE = 8
"""Services with this image, for each checker."""


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    publish_at_hub(lab.sandbox, random_image("watched", (1 << 20,)), IMAGE)
    # Where no token is asked for, the registry asks /v2/ before each question, one after the other
    # (distribution registry/proxy/proxyregistry.go): fewer at once than Docker Hub sees.
    internet.behave(lab.sandbox, "hub")
    found = Mirror(lab)
    if found.stack.outputs():  # a lab that was kept from an earlier run (KEEP_LAB=1)
        found.destroy()
    lab.on("node1", "rm -rf /var/data/registry")
    found.up()
    lab.wait_for_mirror("node3")
    by_hand.know_docker_hub(lab.sandbox, lab.nodes["node1"])
    yield found
    found.destroy()
    internet.behave(lab.sandbox, "well")


Question = tuple[str, str, str]
"""Client, method, and the kind of reference."""


def asked_upstream(lab: Lab, work: Callable[[], object]) -> tuple[list[Question], float]:
    """What the hub is asked of the image's manifests meanwhile, and for how many seconds."""
    internet.lengthen_line(lab.sandbox, 300)  # so that what is at the same time stays so
    internet.reset_counters(lab.sandbox)
    begun = time.monotonic()
    try:
        work()
    finally:
        seconds = time.monotonic() - begun
        internet.lengthen_line(lab.sandbox, 0)
    questions = [
        (client, method, "digest" if "sha256:" in path else "tag")
        for client, method, path in internet.requests(lab.sandbox)
        if path.startswith("/v2/library/watched/manifests/")
    ]
    print(f"{seconds:.1f} s: {[question[1:] for question in questions]}")
    return questions, seconds


def assert_few_and_uncounted(questions: list[Question], seconds: float) -> None:
    """HEADs of the tag alone, and of those as many as a tag that is good for a second needs, for
    each of the two lists of kinds that dockers accept."""
    assert {(method, kind) for _, method, kind in questions} == {("HEAD", "tag")}
    assert len(questions) <= 2 * (seconds + 1)


def everywhere(lab: Lab, command: str) -> None:
    """The command at the same moment on all nodes, as often as there are services."""
    script = "; ".join(
        [
            "set -e",
            "pids=",
            *[f'{command} & pids="$pids $!"' for _ in range(AT_ONCE)],
            "for pid in $pids; do wait $pid; done",
        ]
    ).replace("&;", "&")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: lab.on(node, script), NODES))


def test_checks_of_a_name_at_the_mirror_are_one_question_upstream(lab: Lab, mirror: Mirror) -> None:
    command = SHEPHERDS_CHECK.format(AT_MIRROR)
    first, _ = asked_upstream(lab, lambda: everywhere(lab, command))
    # Docker Hub counts a GET, and no HEAD. Each kind of list that a docker accepts can be one.
    assert 1 <= len([method for _, method, _ in first if method == "GET"]) <= 2
    for _ in range(2):
        time.sleep(1.1)  # it is good for a second
        later, seconds = asked_upstream(lab, lambda: everywhere(lab, command))
        assert_few_and_uncounted(later, seconds)
    ours = {lab.nodes[node].address for node in NODES}
    assert len({client for client, _, _ in [*first, *later]} & ours) == 1, "where the registry runs"


def test_checks_of_a_plain_name_pass_the_mirror_by(lab: Lab, mirror: Mirror) -> None:
    """`docker manifest inspect` is the command's own and reads no configuration of dockerd."""
    command = SHEPHERDS_CHECK.format("watched:1")
    lab.on("node1", SHEPHERDS_CHECK.format(AT_MIRROR))  # so that the mirror need not ask
    asked, _ = asked_upstream(lab, lambda: lab.on("node1", command))
    assert (lab.nodes["node1"].address, "GET", "tag") in asked, (
        "each counts against Docker Hub's limit"
    )


def test_updates_by_a_plain_name_look_the_digest_up_at_the_mirror(lab: Lab, mirror: Mirror) -> None:
    """What Shepherd does after its check, and Gantry without one (GANTRY_MANIFEST_CMD=none)."""
    names = [f"watched-{number}" for number in range(AT_ONCE)]
    for name in names:
        lab.on(
            "node1",
            "docker service create --detach --quiet --replicas 0 --no-resolve-image"
            f" --name {name} watched:0 >/dev/null 2>&1",
        )

    def update(name: str) -> str:
        lab.on("node1", f"docker service update --detach --quiet {name} --image=watched:1")
        template = "{{.Spec.TaskTemplate.ContainerSpec.Image}}"
        return lab.on("node1", f"docker service inspect --format '{template}' {name}").strip()

    images: list[str] = []

    def update_all() -> None:
        with ThreadPoolExecutor() as pool:
            images.extend(pool.map(update, names))

    try:
        asked, seconds = asked_upstream(lab, update_all)
    finally:
        lab.on("node1", f"docker service rm {' '.join(names)} >/dev/null")
    assert len(set(images)) == 1
    assert images[0].startswith("watched:1@sha256:")
    assert_few_and_uncounted(asked, seconds)
