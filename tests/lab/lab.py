"""The lab: its nodes, its upstream, what docker says on a node; and the fixtures that start it."""

import base64
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from lab import control, deployed, images, internet, machines, swarm
from lab.plan import NODES, LabNode, lab_folder
from lab.sandbox import Sandbox

NAME = (
    f"test-{os.environ['PYTEST_XDIST_WORKER']}" if "PYTEST_XDIST_WORKER" in os.environ else "test"
)
"""A lab of the tests' own, so that a person's `make up` is never disturbed; one for each worker of
pytest-xdist."""


MIRROR_URL = "https://mirror.lab.test"


HOSTS_TOML = "/etc/docker/certs.d/docker.io/hosts.toml"


class Lab:
    """A running lab."""

    def __init__(self) -> None:
        self.folder = lab_folder(NAME)
        self.sandbox = Sandbox(self.folder.root)
        self.nodes: dict[str, LabNode] = {node.name: node for node in NODES}

    def have(self, engines: Mapping[str, str]) -> None:
        """Exchange the machines that have another engine than `engines` says, or than is usual
        where it says nothing."""
        control.exchange(NAME, engines)
        self.nodes = {node.name: machines.as_prepared(self.folder, node) for node in NODES}

    def on(self, node: str, script: str, stdin: bytes = b"") -> str:
        """Output of a shell script that runs as root on a node (not over SSH)."""
        return machines.run_on(self.sandbox, self.nodes[node], script, stdin=stdin, timeout=120)

    def pull(self, node: str, image: str = images.PROOF) -> str:
        """Have a node pull an image that it may have already, and return what docker said last.

        It is removed first: tests that ran before in this lab may have left it, and a pull of what
        is there asks nobody for a layer.
        """
        remove = f"docker image rm --force {image} >/dev/null 2>&1"
        return self.on(node, f"{remove}; docker pull --quiet {image}")

    def on_bytes(self, node: str, script: str) -> bytes:
        """As `on`, for output that is no text."""
        return base64.b64decode(self.on(node, f"{{ {script}; }} | base64"))

    def tag_upstream(self, reference: str, image: str) -> None:
        """Have a tag of the upstream mean another image: `proof`, or `other`, which differs from it
        by a label."""
        images.tag_at_hub(self.sandbox, reference, image)

    def traefik(self, image: str, *arguments: str) -> None:
        """Have Traefik be another one, with these arguments more than usual."""
        swarm.change_traefik(self.sandbox, image, *arguments)

    def connections(self, *nodes: str) -> int:
        """SSH connections that the nodes' sshds have seen since they booted."""
        return sum(
            int(
                self.on(
                    node, "journalctl --unit=ssh --output=cat | grep -c '^Connection from' || true"
                )
            )
            for node in nodes
        )

    def reloads(self, node: str) -> int:
        """Reloads that the node's docker has seen since the machine booted. A lab serves several
        files of tests, so what counts is the difference to the number before."""
        script = "journalctl --unit=docker --output=cat | grep -c 'Got signal to reload' || true"
        return int(self.on(node, script))

    def configured(self) -> dict[str, str]:
        """Node -> what the agent says once it has configured it: where docker reads hosts.toml
        nothing is reloaded."""
        return {
            name: "written" if node.has.containerd_store else "written and reloaded"
            for name, node in self.nodes.items()
        }

    def mirrors(self, node: str) -> list[str]:
        """The mirrors that the node's docker uses: those of its hosts.toml where it reads one, else
        those that it shows itself."""
        if self.nodes[node].has.containerd_store:
            named = re.findall(
                r'^\[host\."(.*)"\]$',
                self.on(node, f"cat {HOSTS_TOML} 2>/dev/null || true"),
                re.MULTILINE,
            )
            if named:
                return [f"{url}/" for url in named]
        found: list[str] | None = json.loads(
            self.on(node, "docker info --format '{{json .RegistryConfig.Mirrors}}'")
        )
        return found or []

    def info(self, node: str) -> dict[str, Any]:
        """`docker info` on a node."""
        found: dict[str, Any] = json.loads(self.on(node, "docker info --format '{{json .}}'"))
        return found

    def daemon_pid(self, node: str) -> str:
        """Another one after a restart of docker, the same after a reload."""
        return self.on(node, "systemctl show --property=MainPID --value docker").strip()

    def availability(self, manager: str = "node1") -> dict[str, str]:
        """Node -> active, pause or drain, as a manager sees it."""
        lines = self.on(
            manager, "docker node ls --format '{{.Hostname}} {{.Availability}}'"
        ).splitlines()
        return {name: state.lower() for name, state in (line.split() for line in lines)}

    def daemon_json(self, node: str) -> bytes | None:
        text = self.on(
            node,
            "if [ -e /etc/docker/daemon.json ]; then echo there; cat /etc/docker/daemon.json; fi",
        )
        return text.removeprefix("there\n").encode() if text else None

    def power_off(self, node: str) -> None:
        machines.power_off(self.sandbox, self.nodes[node])

    def power_on(self, node: str) -> None:
        machines.power_on(self.sandbox, self.folder, self.nodes[node])
        machines.wait_until_up(self.sandbox, self.folder, self.nodes[node])

    def wait_for_mirror(self, node: str, seconds: float = 100) -> None:
        """Wait until the mirror answers from a node."""
        deployed.wait_until_it_answers(self.sandbox, self.nodes[node], seconds)

    def wait_for_registry(self, host: str, seconds: int = 60) -> None:
        """Until the mirror reaches the task of a registry besides Docker Hub."""
        url = f"{MIRROR_URL}/v2/{host}/owner/app/manifests/none"
        ask = (
            "import sys, urllib.request as u, urllib.error as e\n"
            "try: u.urlopen(sys.argv[1], timeout=5)\n"
            "except e.HTTPError as error: sys.exit('Mirror-Registry' not in error.headers)"
        )
        once = f"python3 -c {shlex.quote(ask)} {url} && exit 0; sleep 0.5"
        self.on("node1", f"for i in $(seq {seconds * 2}); do {once}; done; exit 1")

    def upstream(self) -> dict[str, Any]:
        return dict(internet.counters(self.sandbox))

    def digest(self, image: str) -> str:
        """Reference of one of the lab's images, with its digest."""
        (found,) = [
            found
            for found in (images.REGISTRY, images.VARNISH, images.TRAEFIK)
            if found.name == image
        ]
        return f"{found.repository}:{found.tag}@{(self.folder.root / f'{image}.digest').read_text().strip()}"  # noqa: E501

    def private_key(self) -> str:
        return self.folder.ssh_key.read_text()

    def host_key(self, node: str) -> str:
        text = (
            (self.folder.node(node) / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
        )
        return f"{text[0]} {text[1]}"


def is_chosen(request: pytest.FixtureRequest, test: Callable[..., None]) -> bool:
    """Whether a test of this run is `test`, on which the others of a story build."""
    return any(getattr(item, "function", None) is test for item in request.session.items)


@pytest.fixture(scope="session")
def running_lab() -> Iterator[Lab]:
    """A lab, fresh from nothing but the base systems; KEEP_LAB=1 leaves it for a look."""
    if os.environ.get("KEEP_LAB"):
        control.up(NAME)
    else:
        control.anew(NAME)
    yield Lab()
    if not os.environ.get("KEEP_LAB"):
        control.down(NAME)


TRACES_ON_A_MACHINE = """
cd /; find etc/docker etc/sudoers.d var/lib/swarm-registry-mirror -type f 2>/dev/null | sort | while
read -r name; do echo "$name $(sha256sum < "$name")"; done
echo "docker $(systemctl is-active docker)"
"""
TRACES_IN_THE_SWARM = """
docker node ls --format '{{.Hostname}} {{.Availability}} {{.Status}}'
docker service ls --format 'service {{.Name}}'
docker config ls --format 'config {{.Name}}'
docker secret ls --format 'secret {{.Name}}'
"""
SETTLED = 40
"""Seconds that a swarm may take until it shows what was done last: a manager that was demoted is
`Unknown` at first."""


def traces(lab: Lab) -> dict[str, set[str]]:
    """What a file of tests can leave behind that the next one in this lab would stumble over:
    "swarm" and each machine -> lines. Of a machine that was made anew there are none."""
    found = {"swarm": set(lab.on("node1", TRACES_IN_THE_SWARM).splitlines())}
    for name in lab.nodes:
        # Its id is new with each machine; engines differ between them.
        found[f"{name} {lab.on(name, 'cat /etc/machine-id').strip()}"] = set(
            lab.on(name, TRACES_ON_A_MACHINE).splitlines()
        )
    return found


@pytest.fixture(scope="module")
def lab(running_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab with the engines that the file's mark `engines(node3="28.5")` names, and the usual
    ones on the other machines. A file leaves it as it was: which one comes next is chance."""
    mark = request.node.get_closest_marker("engines")
    running_lab.have(mark.kwargs if mark else {})
    before = traces(running_lab)
    yield running_lab
    deadline = time.monotonic() + SETTLED
    while (left := differences(before, traces(running_lab))) and time.monotonic() < deadline:
        time.sleep(1)
    assert not left, f"the next file of tests would find more or less than it was: {left}"


def differences(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, list[str]]:
    """Of what `traces` found both times: place -> the lines of one time alone."""
    return {
        place: sorted(before[place] ^ lines)
        for place, lines in after.items()
        if before.get(place, lines) != lines
    }
