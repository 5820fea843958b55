"""A machine whose docker goes by hosts.toml has images of every registry through the mirror, by the
names that they have everywhere.

The node agent is sent to node 3 directly; the mirror is that of the other two nodes, whose dockers
know Docker Hub's mirror alone and ask by explicit names.
"""

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import deployed, internet
from lab.images import random_image
from lab.plan import MIRROR_HOST
from lab.publish import image_bytes, publish_at
from lab.sandbox import SandboxError
from tests.lab.agent import SentAgent
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror

IMAGE = "owner/app:1"
LAYERS = (8 << 20, 4 << 20)
HOSTS = {"ghcr.io": "pkg-containers.githubusercontent.com", "quay.io": "quay.io"}
"""Registry -> the host that sends its layers."""
REGISTRIES = [
    {"name": "ghcr.io", "path": "ghcr.io", "fallback": True},
    {"name": "lscr.io", "path": "ghcr.io", "fallback": True},
    {"name": "quay.io", "path": "quay.io", "fallback": True},
]
STRICT = [{**entry, "fallback": False} for entry in REGISTRIES]
ENGINES = [pytest.param("28.5-containerd", marks=pytest.mark.long), "29"]


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    internet.start_other_registries(lab.sandbox, lab.folder)
    internet.know_other_registries(lab.sandbox, lab.nodes.values())
    # Of this file alone: a layer that a machine has from elsewhere is not pulled.
    archive = random_image("app-of-any-registry", LAYERS)
    for host in HOSTS:
        publish_at(lab.sandbox, host, archive, IMAGE)
    found = Mirror(lab)
    found.configure(
        without=("node3",),
        registries=[
            {"name": "ghcr.io"},
            {"name": "lscr.io", "aliasOf": "ghcr.io"},
            {"name": "quay.io"},
        ],
        upstreamCa=str(lab.folder.ca),
    )
    found.up_after_kill()
    yield found
    found.configure(without=("node3",))
    found.destroy()


@pytest.fixture(params=ENGINES)
def node3(lab: Lab, mirror: Mirror, request: pytest.FixtureRequest) -> Iterator[SentAgent]:
    """The agent for node 3, which is as it was before afterwards."""
    lab.have({"node3": request.param})
    internet.know_other_registries(lab.sandbox, [lab.nodes["node3"]])
    before = everything(lab)
    agent = SentAgent(lab, "node3", "registries")
    yield agent
    assert agent.run("node.remove")[0] == 0
    assert everything(lab) == before


def everything(lab: Lab) -> str:
    """Every file of docker's configuration on node 3, what we know of our own doings, and the
    reloads that its docker has seen."""
    files = lab.on(
        "node3",
        "cd / && find etc/docker var/lib/swarm-registry-mirror 2>/dev/null | sort | while read -r"
        ' name; do stat -c "%n %F %a %U" "$name"; [ ! -f "$name" ] || sha256sum < "$name"; done;'
        " pidof dockerd",
    )
    return f"{files}{lab.reloads('node3')} reloads"


def pull(lab: Lab, image: str, node: str = "node3") -> None:
    """Images of all these names have the same layers, so all are removed first."""
    lab.on(
        node,
        "docker images --quiet --filter 'reference=*/*/app' --filter 'reference=*/*/*/app'"
        " | sort -u | xargs -r docker image rm --force",
    )
    lab.on(node, f"timeout 60 docker pull --quiet {image}")


def sent(lab: Lab) -> dict[str, int]:
    """Registry -> bytes that it has sent, its layers' host included."""
    return {
        host: sum(
            int(str(internet.counters(lab.sandbox, internet.at(place))["bytes"]))
            for place in {host, layers}
        )
        for host, layers in HOSTS.items()
    }


@contextlib.contextmanager
def mirror_away(lab: Lab) -> Iterator[None]:
    """Varnish has no task."""
    scale = "docker service scale --detach=false registry-mirror-front=%d >/dev/null"
    lab.on("node1", scale % 0)
    try:
        yield
    finally:
        lab.on("node1", scale % 1)
        lab.wait_for_mirror("node1")


def reset(lab: Lab) -> None:
    for place in {"lscr.io", *HOSTS, *HOSTS.values()}:
        internet.reset_counters(lab.sandbox, internet.at(place))


def test_an_image_of_any_registry_crosses_the_internet_once_whatever_it_is_called(
    lab: Lab, node3: SentAgent
) -> None:
    daemon_json = lab.daemon_json("node3")
    assert node3.run("node.apply") == (0, "written")
    node3.settings["registries"] = REGISTRIES
    assert node3.run("node.apply") == (0, "written")
    assert node3.run("node.apply") == (0, "unchanged")
    seen = json.loads(node3.run("node.look")[1])
    assert seen["registries"] == ["docker.io", "ghcr.io", "lscr.io", "quay.io"]
    assert (seen["faults"], seen["mirror_faults"]) == ([], [])
    for host in HOSTS:
        pull(lab, f"{MIRROR_HOST}/{host}/{IMAGE}", "node1")
    reset(lab)
    for name in ("ghcr.io", "lscr.io", "quay.io"):
        pull(lab, f"{name}/{IMAGE}")
        # The same image, by the name that works with every docker.
        pull(lab, f"{MIRROR_HOST}/{name}/{IMAGE}", "node2")
    assert max(sent(lab).values()) < 50_000  # manifests may be asked for again; layers may not
    assert internet.counters(lab.sandbox, internet.at("lscr.io"))["requests"] == 0
    node3.settings["registries"] = REGISTRIES[:1]
    assert node3.run("node.apply") == (0, "written")
    assert lab.on("node3", "ls /etc/docker/certs.d").split() == ["docker.io", "ghcr.io"]
    assert lab.daemon_json("node3") == daemon_json


def test_three_engines_that_pull_cold_at_the_same_instant_are_one_download_for_each_registry(
    lab: Lab, node3: SentAgent
) -> None:
    """By its usual name where docker goes by hosts.toml, by the explicit one elsewhere."""
    node3.settings["registries"] = REGISTRIES
    assert node3.run("node.apply") == (0, "written")
    lab.on("node1", f"rm -rf {deployed.CACHE}/registries/*/docker")
    deployed.kill(lab.sandbox)
    for host in HOSTS:
        lab.wait_for_registry(host)
    reset(lab)
    for host in HOSTS:
        names = {"node3": f"{host}/{IMAGE}"}
        names.update(dict.fromkeys(("node1", "node2"), f"{MIRROR_HOST}/{host}/{IMAGE}"))
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: pull(lab, names[node], node), names))  # noqa: B023
    for host, count in sent(lab).items():
        assert count / image_bytes(lab.sandbox, host, IMAGE) == pytest.approx(1, abs=0.02)


def test_where_the_mirror_does_not_answer_docker_asks_the_registry_itself(
    lab: Lab, node3: SentAgent
) -> None:
    node3.settings["registries"] = REGISTRIES
    assert node3.run("node.apply") == (0, "written")
    with mirror_away(lab):
        reset(lab)
        pull(lab, f"quay.io/{IMAGE}")
        assert sent(lab)["quay.io"] == pytest.approx(
            image_bytes(lab.sandbox, "quay.io", IMAGE), rel=0.01
        )


def test_without_fallback_nobody_but_the_mirror_is_asked(lab: Lab, node3: SentAgent) -> None:
    node3.settings.update(registries=STRICT, fallback=False)
    assert node3.run("node.apply") == (0, "written")
    seen = json.loads(node3.run("node.look")[1])
    assert (seen["faults"], seen["registries"]) == (
        [],
        ["docker.io", "ghcr.io", "lscr.io", "quay.io"],
    )
    for host in HOSTS:
        pull(lab, f"{MIRROR_HOST}/{host}/{IMAGE}", "node1")
    reset(lab)
    # The machine has no way to the registries, as in a company's network.
    lab.on("node3", "ip route add blackhole 198.18.0.20/30; ip route add blackhole 198.18.0.24/29")
    try:
        for name in ("ghcr.io", "lscr.io", "quay.io"):
            pull(lab, f"{name}/{IMAGE}")
        assert max(sent(lab).values()) < 50_000
        lab.pull("node3")
    finally:
        lab.on("node3", "ip route del 198.18.0.20/30; ip route del 198.18.0.24/29")
    with mirror_away(lab):
        reset(lab)
        with pytest.raises(SandboxError):
            pull(lab, f"quay.io/{IMAGE}")
        assert internet.counters(lab.sandbox, internet.at("quay.io"))["requests"] == 0
        internet.reset_counters(lab.sandbox)
        with pytest.raises(SandboxError):
            lab.pull("node3")
        assert lab.upstream()["requests"] == 0
