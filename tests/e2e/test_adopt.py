"""A mirror that somebody has set up by hand, as the recipe says, becomes a stack of ours; and a
stack of ours can be left.

`recipe/` is what that person wrote: the recipe's own two files, with the lab's names, and with
labels for the lab's Traefik beside those for the recipe's. The tests build on each other.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.registry_mirror.cli.pin import pin
from lab import run
from lab.images import proof_image_bytes
from lab.internet import reset_counters
from lab.stack import Stack
from tests.lab.lab import NAME, Lab
from tests.lab.mirror import review, saved_state
from tests.lab.output import counts
from tools.toolchain import CHECKOUT

pytestmark = [pytest.mark.story, pytest.mark.engines(node3="20.10")]
"""What is seen here is daemon.json and its reloads; hosts.toml has tests of its own
(`tests/e2e/test_two_ways.py`)."""

NODES = ["node1", "node2", "node3"]
RECIPE = Path(__file__).parent / "recipe"
MIRROR = "https://mirror.lab.test"


def pull(lab: Lab, node: str) -> None:
    lab.pull(node)


class ByHand:
    """What an administrator who followed the recipe did, and its undoing in the end."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.files = {node: lab.daemon_json(node) for node in NODES}

    def set_up(self) -> None:
        # Destroy keeps the cache: an earlier mirror's would be warm.
        self.lab.on("node1", "rm -rf /var/data/registry")
        for name, path in (
            ("registry-mirror-config.yml", "/var/data/registry"),
            ("registry.yml", "/var/data/config/registry"),
        ):
            self.lab.on(
                "node1", f"mkdir -p {path}; cat > {path}/{name}", (RECIPE / name).read_bytes()
            )
        self.lab.on("node1", "mkdir -p /var/data/registry/registry-mirror-data")
        self.lab.on(
            "node1",
            "docker stack deploy registry -c /var/data/config/registry/registry.yml >/dev/null"
            " 2>&1",
        )
        self.lab.wait_for_mirror("node3")
        for node, before in self.files.items():
            edited = {**json.loads(before or b"{}"), "registry-mirrors": [MIRROR]}
            self.lab.on(
                node, "cat > /etc/docker/daemon.json", json.dumps(edited, indent=4).encode()
            )
            self.lab.on(node, "systemctl reload docker")

    def undo(self) -> None:
        self.lab.on(
            "node1",
            "docker service ls --quiet --filter name=registry_registry-mirror | xargs -r docker"
            " service rm",
        )
        for node, before in self.files.items():
            self.lab.on(
                node,
                "rm -rf /var/lib/swarm-registry-mirror; cat > /etc/docker/daemon.json",
                b'{"registry-mirrors": []}',
            )
            self.lab.on(node, "systemctl reload docker; sleep 1")
            if before is None:
                self.lab.on(node, "rm /etc/docker/daemon.json")
            else:
                self.lab.on(node, "cat > /etc/docker/daemon.json; systemctl reload docker", before)
        self.lab.on(
            "node1",
            "docker config ls --quiet | xargs -r docker config rm >/dev/null; rm -rf"
            " /var/data/registry",
        )


@pytest.fixture(scope="module")
def by_hand(lab: Lab) -> Iterator[ByHand]:
    by_hand = ByHand(lab)
    by_hand.set_up()
    yield by_hand
    by_hand.undo()


@pytest.fixture(scope="module")
def stack(lab: Lab) -> Stack:
    stack = Stack("dev", lab=NAME, config_file=lab.folder.root / "Pulumi.adopted.yaml")
    assert stack.config_file is not None
    stack.config_file.unlink(missing_ok=True)
    stack.state.mkdir(parents=True, exist_ok=True)
    return stack


def adopt(lab: Lab, stack: Stack, *words: str) -> tuple[int, str]:
    """Exit code and output of the verb, as `make adopt` runs it."""
    login = ["--key", str(lab.folder.ssh_key), "--known-hosts", str(lab.folder.known_hosts)]
    done = run.run(
        stack, "adopt", "root@198.18.0.11", "--users", "node3=ops", *login, *words, capture=True
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_there_is_written_down_as_a_stack(lab: Lab, by_hand: ByHand, stack: Stack) -> None:
    code, output = adopt(lab, stack, "--only", "describe")
    assert code == 0, output
    assert "port 5000 is open on every node" in output
    assert stack.config_file is not None
    text = stack.config_file.read_text()
    values = {key.partition(":")[2]: value for key, value in yaml.safe_load(text)["config"].items()}
    assert values["serviceName"] == "registry_registry-mirror"
    assert [node["name"] for node in values["nodes"]] == NODES
    assert (values["upstream"], values["publishUnencryptedPort5000"]) == ("http://198.18.0.2", True)
    # What is the lab's own: digests instead of `make pin`, an image that its upstream has, the salt
    # of its throwaway state.
    pinned, _ = pin(
        text, lambda image: lab.digest(image.rpartition("/")[2].partition(":")[0]).partition("@")[2]
    )
    salt = yaml.safe_load((CHECKOUT / "Pulumi.dev.yaml").read_text())["encryptionsalt"]
    own = (
        "  swarm-registry-mirror:checkImage: library/swarm-mirror-proof:1\nencryptionsalt:"
        f" {salt}\n"
    )
    stack.config_file.write_text(pinned.rstrip() + "\n" + own)


def test_taking_it_over_changes_nothing(lab: Lab, by_hand: ByHand, stack: Stack) -> None:
    assert stack.config_file is not None
    look = "docker service inspect --format '{{json .}}' registry_registry-mirror"
    before = lab.on("node1", look)
    code, output = adopt(lab, stack)
    assert code == 0, output
    assert lab.on("node1", look) == before
    code, output = adopt(lab, stack)
    assert (code, "has taken it over already" in output) == (0, True), output


def test_the_first_preview_shows_the_improvements_and_that_nothing_is_replaced(
    lab: Lab, stack: Stack
) -> None:
    code, report = review(stack, saved_state(stack))
    assert code == 3  # port 5000, which was open before, is against the policy, and said so
    assert {change["op"] for change in report["changes"]} == {"create", "update"}
    (update,) = [change for change in report["changes"] if change["op"] == "update"]
    assert update["name"] == "registry-mirror-service"
    text = "\n".join(update["lines"])
    assert "registry:2.8.2@" in text
    assert "registry:3.1.2@" in text
    assert "traefik.http.routers.mirror.rule" in text
    assert "name:" not in text


def test_up_improves_it_without_a_second_download_and_without_a_restart_of_docker(
    lab: Lab, by_hand: ByHand, stack: Stack
) -> None:
    reset_counters(lab.sandbox)
    pull(lab, "node2")  # the old mirror's cache is warm
    assert lab.upstream()["bytes"] > 0.9 * proof_image_bytes(lab.sandbox)
    daemons = {node: lab.daemon_pid(node) for node in NODES}
    reset_counters(lab.sandbox)
    assert counts(stack.run("up", "--yes", "--skip-preview"))["updated"] == 1
    for node in NODES:
        pull(lab, node)
    assert lab.upstream()["bytes"] < 50_000
    assert {node: lab.daemon_pid(node) for node in NODES} == daemons
    assert stack.outputs()["nodes"] == dict.fromkeys(NODES, "unchanged")
    assert set(counts(stack.run("up", "--yes", "--skip-preview"))) == {"unchanged"}


def test_leaving_leaves_everything_running(lab: Lab, by_hand: ByHand, stack: Stack) -> None:
    stack.run("stack", "rm", "--yes", "--force", "--preserve-config")
    reset_counters(lab.sandbox)
    pull(lab, "node3")
    assert lab.upstream()["bytes"] < 50_000
    assert lab.mirrors("node3") == [f"{MIRROR}/"]
