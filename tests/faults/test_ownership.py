"""Two stacks want the same thing: the second is refused before anything of it is made, and its end
takes nothing away.

Both stacks have the same project, name and component, each in a state of its own, so that nothing
but what is on the swarm can tell them apart.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.plan import CHECKOUT
from tests.lab.lab import Lab
from tests.lab.project import Project

FIRST = {
    "hostname": "mirror.lab.test",
    "service_name": "owned",
    "cache_path": "/var/data/owned/cache",
    "config_path": "/var/data/owned/config.yml",
}
SECOND = {
    "hostname": "second.lab.test",
    "service_name": "other",
    "cache_path": "/var/data/other/cache",
    "config_path": "/var/data/other/config.yml",
}


class Stack(Project):
    """A program with one mirror for node 2, and no Varnish."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        folder.mkdir()
        super().__init__(lab, folder)
        self.environment["PYTHONPATH"] = os.environ.get("MIRROR_SOURCE", str(CHECKOUT))

    def want(self, **settings: Any) -> None:
        """Write the program."""
        self.write(
            "from components.registry_mirror import RegistryMirror, RegistryMirrorArgs, SwarmNode\n"
            "swarm = docker.Provider('swarm', host='ssh://root@198.18.0.11', ssh_opts=SSH)\n"
            "manager = SwarmNode(name='node1', address='198.18.0.11', host_key=HOST_KEY)\n"
            "node = SwarmNode(name='node2', address='198.18.0.12',"
            f" host_key={self.lab.host_key('node2')!r})\n"
            "RegistryMirror('mirror', RegistryMirrorArgs(image=REGISTRY, coalesce=False,"
            " nodes=[node], manager=manager,"
            " private_key=pulumi.Output.secret(KEY), upstream='http://198.18.0.2',"
            " check_image='library/swarm-mirror-proof:1',"
            f" **{settings!r}), pulumi.ResourceOptions(providers=[swarm]))\n"
        )


def everything(lab: Lab) -> dict[str, Any]:
    """What there is on the swarm, on its storage and in the nodes' daemon.json."""
    lists = (
        "service ls --format '{{.ID}} {{.Name}}'",
        "config ls --quiet",
        "secret ls --quiet",
        "network ls --quiet",
    )
    return {
        **{words: sorted(lab.on("node1", f"docker {words}").splitlines()) for words in lists},
        "storage": lab.on(
            "node1", "find /var/data ! -path '*/cache/*' -printf '%p %s %T@\\n' | sort"
        ),
        **{node: (lab.daemon_json(node), lab.mirrors(node)) for node in lab.nodes},
    }


@pytest.fixture(scope="module")
def first(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(lab, tmp_path_factory.mktemp("first") / "stack")
    stack.want(**FIRST)
    stack.up()
    yield stack
    stack.destroy()
    assert "swarm-registry-mirror" not in lab.on("node1", "docker config ls"), (
        "its claims went with it"
    )
    lab.on("node1", "rm -rf /var/data/owned /var/data/other")


@pytest.fixture
def second(lab: Lab, first: Stack, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(lab, tmp_path / "stack")
    yield stack
    stack.destroy()


@pytest.mark.fault(
    "F40",
    "a second stack wants a hostname, a service name, a cache or a configuration file that is"
    " taken",
)
@pytest.mark.parametrize(
    ("taken", "words"),
    [
        (
            "hostname",
            "the hostname mirror.lab.test is taken by the mirror of the stack contract/t/mirror",
        ),
        pytest.param(
            "service_name",
            "the service owned is taken by the mirror of the stack contract/t/mirror",
            marks=pytest.mark.long,
        ),
        ("cache_path", "the cache path /var/data/owned/cache is taken by the mirror of the stack"),
        pytest.param(
            "config_path",
            "the config /var/data/owned/config.yml is taken by the mirror of the stack",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_is_taken_is_refused_before_anything_is_made(
    lab: Lab, first: Stack, second: Stack, taken: str, words: str
) -> None:
    before = everything(lab)
    second.want(**{**SECOND, taken: FIRST[taken]})
    assert words in second.up(fails=True)
    assert everything(lab) == before
    second.destroy()
    assert everything(lab) == before


@pytest.mark.fault("F41", "a service that somebody made by hand has the hostname or the name")
@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            "--name theirs --label 'traefik.http.routers.x.rule=Host(`second.lab.test`)'",
            "leads the hostname second.lab.test",
        ),
        pytest.param(
            "--name other",
            "there is a service other already, which is not this mirror's",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "--name theirs --mount type=bind,src=/var/data/other,dst=/var/lib/registry",
            "the service theirs writes to the cache",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_was_made_by_hand_counts_too_and_the_remedy_that_is_printed_works(
    lab: Lab, first: Stack, second: Stack, made: str, words: str
) -> None:
    lab.on("node1", "mkdir -p /var/data/other")
    create = f"docker service create --quiet --detach --replicas 0 {made} {lab.digest('registry')}"
    theirs = lab.on("node1", create).split()[0]
    try:
        before = everything(lab)
        second.want(**SECOND)
        assert words in second.up(fails=True)
        assert everything(lab) == before
    finally:
        lab.on("node1", f"docker service rm {theirs}")
    second.up()
    assert lab.mirrors("node2")[:2] == ["https://second.lab.test/", "https://mirror.lab.test/"]


@pytest.mark.fault("F42", "a stack takes another service name after a first `up` that failed")
def test_a_half_made_stack_goes_on_under_another_name_and_its_own_marks_do_not_stop_it(
    lab: Lab, first: Stack, second: Stack
) -> None:
    second.want(**SECOND, ready_timeout=5, entrypoint="nowhere")
    assert "the mirror is not ready" in second.up(fails=True)
    second.want(**{**SECOND, "service_name": "renamed"})
    second.up()
    assert lab.mirrors("node2")[0] == "https://second.lab.test/"
    before = lab.on("node1", "docker config ls --format '{{.Name}}'")
    second.destroy()
    assert lab.mirrors("node2")[0] == "https://mirror.lab.test/"
    assert len(lab.on("node1", "docker config ls --format '{{.Name}}'")) < len(before)


LOCKS = (
    "/run/lock/swarm-registry-mirror",
    "/run/swarm-registry-mirror/lock",
    "/run/swarm-registry-mirror",
)


@pytest.mark.fault("F43", "a local user of a node takes the lock, or puts a link in its place")
def test_a_local_user_holds_nothing_up(lab: Lab, first: Stack, second: Stack) -> None:
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    lab.on("node2", "printf kept > /etc/victim")
    for path in LOCKS:
        lab.on(
            "node2",
            f"{nobody} flock {path} sleep 60 >/dev/null 2>&1 & {nobody} ln -sfn /etc/victim {path}"
            " 2>/dev/null; true",
        )
    try:
        second.want(**SECOND)
        second.up()
        second.destroy()
        look = "cat /etc/victim; echo; stat -c '%U %a' /run/swarm-registry-mirror"
        assert lab.on("node2", look).split() == ["kept", "root", "700"]
    finally:
        lab.on("node2", f"rm -f /etc/victim; [ ! -L {LOCKS[0]} ] || rm {LOCKS[0]}")
