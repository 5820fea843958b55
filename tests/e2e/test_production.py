"""The mirror under what production does to it: everybody at once, an unhealthy upstream, a damaged
cache, strangers.

Like its neighbour these tests build on one mirror that is up; each leaves it as it found it.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import deployed, internet
from lab.clients import fetch
from lab.deployed import CACHE
from lab.images import PROOF, REGISTRY_2, TRAEFIK, TRAEFIK_3_0, proof_image_bytes
from lab.internet import reset_counters
from lab.plan import IMAGES_HOST
from lab.upstream import ACCOUNT
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror, review, saved_state
from tests.lab.output import counts

NODES = ["node1", "node2", "node3"]
LAYERS = f"{CACHE}/docker/registry/v2/blobs/sha256"
UPLOADS = f"{CACHE}/docker/registry/v2/repositories/library"
"""Where a layer lies while it is written (distribution registry/storage/paths.go)."""


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    internet.behave(lab.sandbox, "well")
    mirror = Mirror(lab)
    mirror.up()
    lab.wait_for_mirror("node3")
    yield mirror
    internet.behave(lab.sandbox, "well")
    mirror.configure()
    mirror.destroy()


class Production:
    """What these tests do to a mirror again and again."""

    def __init__(self, lab: Lab, mirror: Mirror) -> None:
        self.lab = lab
        self.mirror = mirror

    def pull(self, node: str) -> float:
        """Seconds for a pull of an image that the node does not have."""
        self.lab.on(node, f"docker image rm --force {PROOF} >/dev/null 2>&1 || true")
        started = time.monotonic()
        self.lab.pull(node)
        return time.monotonic() - started

    def kill(self) -> None:
        deployed.kill(self.lab.sandbox)

    def empty(self) -> None:
        deployed.empty(self.lab.sandbox)

    def upstream_share(self) -> float:
        """Bytes that left the upstream, in sizes of the image."""
        return float(self.lab.upstream()["bytes"]) / proof_image_bytes(self.lab.sandbox)

    def ask(self, node: str, path: str) -> str:
        """The mirror's answer to a GET, or its status where that is no success."""
        ask = (
            "import sys, urllib.request as u\n"
            "try: print(u.urlopen('https://mirror.lab.test' + sys.argv[1]).read().decode())\n"
            "except u.HTTPError as e: print(e.code)"
        )
        return self.lab.on(node, f'python3 -c "$(cat)" {path}', ask.encode()).strip()

    def ask_until(self, words: str, node: str, path: str) -> str:
        """As `ask`, until `words` are in the answer or a minute is over: Traefik alone takes 30 s
        to give up a server that has ended."""
        deadline = time.monotonic() + 60
        while words not in (answer := self.ask(node, path)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return answer

    def node_of_the_task(self, among: set[str]) -> str:
        """Where the mirror runs, once it runs on one of these: a service's update goes on after
        `pulumi up` has returned."""
        ask = (
            "docker service ps --filter desired-state=running --format '{{.Node}}"
            " {{.CurrentState}}' registry-mirror"
        )
        for _ in range(60):
            tasks = [line.split() for line in self.lab.on("node1", ask).splitlines()]
            if len(tasks) == 1 and tasks[0][1:2] == ["Running"] and tasks[0][0] in among:
                return tasks[0][0]
            time.sleep(0.5)
        raise AssertionError(self.lab.on("node1", "docker service ps --no-trunc registry-mirror"))

    def log(self, service: str = "registry-mirror") -> str:
        # Of each container, gone or not: what `docker service logs` collects from the nodes may
        # lack the newest lines.
        script = (
            "for c in $(docker ps --all --quiet --filter"
            f" label=com.docker.swarm.service.name={service});"
            " do docker logs --since 60s $c 2>&1; done"
        )
        return "".join(self.lab.on(node, script) for node in NODES)


@pytest.fixture
def production(lab: Lab, mirror: Mirror) -> Iterator[Production]:
    yield Production(lab, mirror)
    internet.behave(lab.sandbox, "well")


@pytest.mark.parametrize("number", [1, 32])
def test_clients_at_the_same_moment_are_one_download(
    lab: Lab, production: Production, number: int
) -> None:
    production.empty()
    assert fetch(lab.sandbox, lab.nodes["node2"], number).whole == number
    assert 0.99 < production.upstream_share() <= 1.05


@pytest.mark.long
def test_without_varnish_every_one_of_them_downloads(
    lab: Lab, production: Production, mirror: Mirror
) -> None:
    mirror.configure(coalesce=False)
    mirror.up()
    production.empty()
    assert fetch(lab.sandbox, lab.nodes["node2"], 8).whole == 8
    assert production.upstream_share() > 1.5
    mirror.configure()
    mirror.up()
    production.kill()


def test_a_moved_tag_is_seen_within_seconds(lab: Lab, production: Production) -> None:
    production.pull("node2")
    before = lab.on("node2", f"docker image inspect --format '{{{{.Id}}}}' {PROOF}")
    lab.tag_upstream("library/swarm-mirror-proof:1", "other")
    try:
        time.sleep(2)
        production.pull("node2")
        assert lab.on("node2", f"docker image inspect --format '{{{{.Id}}}}' {PROOF}") != before
    finally:
        lab.tag_upstream("library/swarm-mirror-proof:1", "proof")
    time.sleep(2)
    production.pull("node2")
    assert lab.on("node2", f"docker image inspect --format '{{{{.Id}}}}' {PROOF}") == before


def test_ranges_and_heads_are_answered_from_what_is_there(lab: Lab, production: Production) -> None:
    production.pull("node2")
    layer = lab.on("node1", f"cd {LAYERS}; ls -S */*/data | head -1 | cut -d/ -f2").strip()
    content = hashlib.sha256(
        lab.on_bytes(
            "node1", f"dd if={LAYERS}/{layer[:2]}/{layer}/data bs=1000 count=1 skip=1 2>/dev/null"
        )
    )
    ask = (
        "import urllib.request as u,sys,hashlib\n"
        f"url='https://mirror.lab.test/v2/library/swarm-mirror-proof/blobs/sha256:{layer}'\n"
        "r=u.urlopen(u.Request(url,headers={'Range':'bytes=1000-1999'})); b=r.read()\n"
        "print(r.status,len(b),hashlib.sha256(b).hexdigest())\n"
        "print(u.urlopen(u.Request(url,method='HEAD')).headers['Content-Length'])"
    )
    ranged, size = lab.on("node2", 'python3 -c "$(cat)"', ask.encode()).splitlines()
    assert ranged.split() == ["206", "1000", content.hexdigest()]
    assert int(size) > 8 << 20


ILL = {"500": 3, "429": 3, "401": 3, "slow": 3, "silent": 12, "black-hole": 25}
"""How the upstream may be, and seconds that a warm pull may take then; docker gives up after 30 for
each answer."""


@pytest.mark.fault("F21", "the upstream answers 429, 401, 500, slowly, never, or swallows packets")
@pytest.mark.parametrize("mode", ILL)
def test_a_warm_mirror_serves_while_its_upstream_is_unhealthy(
    lab: Lab, production: Production, mode: str
) -> None:
    for node in ("node1", "node2"):
        production.pull(node)
    time.sleep(1.5)
    internet.behave(lab.sandbox, mode)
    assert production.pull("node1") < ILL[mode]
    assert production.pull("node2") < ILL[mode]


@pytest.mark.fault("F20", "the upstream is away, and the mirror starts anew")
@pytest.mark.parametrize("mode", [pytest.param("500", marks=pytest.mark.long), "black-hole"])
def test_a_mirror_starts_and_serves_its_cache_while_its_upstream_is_away(
    lab: Lab, production: Production, mode: str
) -> None:
    production.pull("node2")
    internet.behave(lab.sandbox, mode)
    production.kill()
    assert production.pull("node2") < 15


@pytest.mark.fault("F18", "the mirror dies in the middle of a layer")
def test_the_mirror_dies_in_the_middle_of_a_layer(lab: Lab, production: Production) -> None:
    production.empty()
    with ThreadPoolExecutor() as pool:
        pull = pool.submit(
            lab.on,
            "node2",
            f"docker image rm -f {PROOF} >/dev/null 2>&1; docker pull --quiet {PROOF} || true",
        )
        half = bytes_of_a_layer_on_its_way(lab)
        production.kill()
        pull.result()
    # docker checks every digest; a half layer in the cache would fail here
    production.pull("node2")
    assert damaged(lab) == []
    largest = max(int(size) for size in lab.on("node1", f"stat -c %s {LAYERS}/*/*/data").split())
    assert 0 < half < largest, "the mirror was killed before or behind the layer"


def bytes_of_a_layer_on_its_way(lab: Lab) -> int:
    """Bytes that the registry has already stored of a layer that it has not whole."""
    script = (
        "for i in $(seq 500); do"
        f" n=$(stat -c %s {UPLOADS}/*/_uploads/*/data 2>/dev/null | sort -n | tail -1);"
        ' [ "${n:-0}" -gt 0 ] && { echo $n; exit; }; sleep 0.02; done; echo 0'
    )
    return int(lab.on("node1", script))


def damaged(lab: Lab) -> list[str]:
    """Layers in the cache whose bytes are not what their name says."""
    script = (
        f"cd {LAYERS} 2>/dev/null || exit 0; for d in */*/data; do [ ! -e $d ] || echo"
        f" ${{d%/data}} $(sha256sum < $d); done"
    )
    return [
        line
        for line in lab.on("node1", script).splitlines()
        if line.split()[0][3:] != line.split()[1]
    ]


@pytest.mark.parametrize("mode", ["truncated", pytest.param("wrong", marks=pytest.mark.long)])
def test_bytes_that_are_not_the_layers_are_neither_kept_nor_believed(
    lab: Lab, production: Production, mode: str
) -> None:
    production.empty()
    internet.behave(lab.sandbox, mode)
    lab.on(
        "node2",
        f"docker image rm -f {PROOF} >/dev/null 2>&1; timeout 60 docker pull --quiet {PROOF} ||"
        " true",
    )
    assert lab.on("node2", f"docker image ls --quiet {PROOF}") == ""
    assert damaged(lab) == []
    internet.behave(lab.sandbox, "well")
    production.kill()
    production.pull("node2")


@pytest.mark.fault("F23", "a layer, a link or the list of expiries in the cache is cut off")
def test_a_damaged_cache_is_repaired_and_reported(lab: Lab, production: Production) -> None:
    production.pull("node2")
    lab.on(
        "node1",
        f"cd {LAYERS}; truncate -s 100 $(ls -S */*/data | head -1);"
        f" find {CACHE} -name link | head -1 | xargs truncate -s 0; printf '{{' >"
        f" {CACHE}/scheduler-state.json",
    )
    production.kill()
    wanted = (
        "a damaged layer was removed",
        "a damaged link was removed",
        "the list of expiries was damaged",
    )
    deadline = time.monotonic() + 30
    while (
        unsaid := [words for words in wanted if words not in production.log()]
    ) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert unsaid == []
    production.pull("node2")
    assert damaged(lab) == []


@pytest.mark.fault("F22", "the shared storage is full or read-only")
@pytest.mark.parametrize("how", ["full", pytest.param("read-only", marks=pytest.mark.long)])
def test_a_storage_that_takes_nothing_more_is_said_and_hurts_nobody(
    lab: Lab, production: Production, how: str
) -> None:
    production.pull("node2")
    options = "size=16k" if how == "full" else "ro"
    for node in NODES:
        lab.on(node, f"mount -t tmpfs -o {options} tmpfs {CACHE}")
    try:
        production.kill()
        assert "the cache cannot be written" in production.log()
        # Docker is sent on to the upstream itself, which in a lab it cannot reach; it says so and
        # soon.
        started = time.monotonic()
        lab.on(
            "node2",
            f"docker image rm -f {PROOF} >/dev/null 2>&1; timeout 60 docker pull --quiet {PROOF} ||"
            " true",
        )
        assert time.monotonic() - started < 30
    finally:
        for node in NODES:
            lab.on(node, f"umount -l {CACHE}")
    production.kill()
    production.pull("node2")
    assert damaged(lab) == []


def test_the_machine_of_the_mirror_dies_and_another_one_serves_its_cache(
    lab: Lab, production: Production, mirror: Mirror
) -> None:
    mirror.configure(placementConstraints=["node.hostname != node1"])
    mirror.up()
    where = production.node_of_the_task({"node2", "node3"})
    (other,) = {"node2", "node3"} - {where}
    lab.wait_for_mirror(other)  # Varnish looks every second where the task is now
    production.pull(other)
    reset_counters(lab.sandbox)
    lab.power_off(where)
    try:
        lab.wait_for_mirror(other, 100)
        production.pull(other)
        assert lab.upstream()["bytes"] < 50_000
    finally:
        lab.power_on(where)
    mirror.configure()
    mirror.up()
    lab.wait_for_mirror("node3")


@pytest.mark.long
def test_varnish_comes_up_without_a_registry_and_finds_it_later(
    lab: Lab, production: Production
) -> None:
    """Its health check must not end it while the registry is unavailable, or both would be
    unavailable for longer."""
    lab.on("node1", "docker service scale --detach registry-mirror=0 >/dev/null")
    try:
        deployed.kill_and_leave(lab.sandbox)
        assert production.ask_until("503", "node2", "/v2/") == "503"
    finally:
        lab.on("node1", "docker service scale --detach registry-mirror=1 >/dev/null")
    lab.wait_for_mirror("node2")
    production.pull("node2")


@pytest.mark.long
def test_credentials_are_a_secret_of_the_swarm_and_nowhere_else(
    lab: Lab, production: Production, mirror: Mirror
) -> None:
    username, token = ACCOUNT
    allowed = {
        "allowFrom": ["198.18.0.0/24"],
        "upstreamUsername": username,
        "sendTokenUnencrypted": True,
    }
    internet.behave(lab.sandbox, "token")
    production.empty()
    assert "does not reach its upstream now" in mirror_fails_soon(mirror)
    mirror.configure(**allowed)
    mirror.secret("upstreamToken", token)
    mirror.up()
    production.kill()
    production.pull("node2")
    assert 0.99 < production.upstream_share() <= 1.05

    places = {
        "the state": json.dumps(json.loads(mirror.stack.quietly("stack", "export"))),
        "Pulumi's log": mirror.stack.log.read_text(),
        "the services": lab.on(
            "node1", "docker service inspect registry-mirror registry-mirror-front"
        ),
        "the configs": lab.on("node1", "docker config ls -q | xargs docker config inspect"),
        "the secret's listing": lab.on(
            "node1", "docker secret ls -q | xargs docker secret inspect"
        ),
        "the share": lab.on(
            "node1",
            "cat /var/data/registry/*.yml; grep -rl --include=* lab-canary /var/data/registry ||"
            " true",
        ),
        "the logs": production.log() + production.log("registry-mirror-front"),
        **{
            f"processes of {node}": lab.on(
                node, "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '"
            )
            for node in NODES
        },
    }
    assert [place for place, text in places.items() if token in text] == []

    state = saved_state(mirror.stack)
    assert token not in state.read_text()
    assert review(mirror.stack, state)[1]["changes"] == []

    # Rotation: one `up`, nothing of the cache is lost. The secret is made anew, and the gate, which
    # asks the upstream with it.
    internet.behave(lab.sandbox, "hub")
    reset_counters(lab.sandbox)
    mirror.secret("upstreamToken", "another")
    assert counts(mirror.up())["replaced"] == 2
    production.kill()
    production.pull("node2")
    assert lab.upstream()["bytes"] < 50_000


def mirror_fails_soon(mirror: Mirror) -> str:
    mirror.configure(readyTimeout=30, ttlHours=1)
    return mirror.up_fails()


def test_strangers_are_kept_out_and_the_gate_says_why(
    lab: Lab, production: Production, mirror: Mirror
) -> None:
    """Traefik looks as often as it does where nobody told it otherwise; the lab's is told to look
    every 2 s. So it goes by the old labels while `up` asks, and the gate must not believe them."""
    connections = lab.connections("node2", "node3")
    lab.traefik(lab.digest("traefik"), "--providers.swarm.refreshSeconds=15")
    try:
        mirror.configure(allowFrom=["198.18.0.12/32", "198.18.0.13/32"])
        reason = mirror.up_fails()
        assert "Traefik does not let this machine in (403" in reason
        assert "does allowFrom have its address?" in reason
        assert lab.connections("node2", "node3") == connections
        mirror.configure(allowFrom=["198.18.0.11/32", "198.18.0.12/32"])
        reason = mirror.up_fails()
        assert "node3" in reason, "each node is asked whether it is let in"
        assert "403" in reason
        assert production.ask("node2", "/v2/") != "403"
        assert production.ask("node3", "/v2/") == "403"
    finally:
        lab.traefik(lab.digest("traefik"))
        mirror.configure()
        mirror.up()


@pytest.mark.long
def test_metrics_are_for_scrapers_and_for_nobody_else(
    lab: Lab, production: Production, mirror: Mirror
) -> None:
    mirror.configure(metricsFrom=["198.18.0.12/32"])
    mirror.up()
    production.kill()
    production.pull("node2")
    # The registry's own route may come after Varnish's.
    assert "registry_proxy_hits_total" in production.ask_until(
        "registry_proxy_hits_total", "node2", "/metrics"
    )
    assert production.ask("node3", "/metrics") == "403"
    mirror.configure()
    mirror.up()


@pytest.mark.long
def test_stats_say_what_the_mirror_did(lab: Lab, production: Production, mirror: Mirror) -> None:
    production.empty()
    for node in NODES:
        production.pull(node)
    code, output = mirror.operate("stats", "--json")
    assert code == 0, output
    report = json.loads(output)
    size = proof_image_bytes(lab.sandbox)
    assert report["node"] in NODES
    assert report["requests"] == report["hits"] + report["misses"]
    assert 0.9 * size < report["fetched_bytes"] <= 1.05 * size
    assert 0.9 * size < report["cached_bytes"] < 1.2 * size
    assert report["coalesced"] > 0
    code, output = mirror.operate("stats")
    assert "bytes fetched from the upstream" in output


@pytest.mark.long
def test_registry_2_mirrors_too_where_it_is_accepted(
    lab: Lab, production: Production, mirror: Mirror
) -> None:
    digest = (lab.folder.root / f"{REGISTRY_2.name}.digest").read_text().strip()
    image = f"{REGISTRY_2.repository}:{REGISTRY_2.tag}@{digest}"
    mirror.configure(image=image)
    assert "acceptRegistry2: true" in mirror.up_fails()
    mirror.configure(image=image, acceptRegistry2=True)
    mirror.up()
    production.empty()
    production.pull("node2")
    reset_counters(lab.sandbox)
    production.pull("node3")
    assert lab.upstream()["bytes"] < 50_000
    mirror.configure()
    mirror.up()


@pytest.mark.parametrize("dialect", ["v3.0", "v2"])
@pytest.mark.long
def test_the_oldest_traefik_3_finds_the_mirror_by_the_labels_of_its_time(
    lab: Lab, production: Production, mirror: Mirror, dialect: str
) -> None:
    """v2's rules are read by Traefik 3.0 itself, which was made to understand them."""
    old = (lab.folder.root / f"{TRAEFIK_3_0.name}.digest").read_text().strip()
    new = (lab.folder.root / f"{TRAEFIK.name}.digest").read_text().strip()
    lab.traefik(
        f"{IMAGES_HOST}/traefik:{TRAEFIK_3_0.tag}@{old}",
        *(["--core.defaultRuleSyntax=v2"] if dialect == "v2" else []),
    )
    try:
        mirror.configure(
            traefik=dialect, **({} if dialect == "v2" else {"allowFrom": ["198.18.0.0/24"]})
        )
        mirror.up()
        production.pull("node2")
        assert production.ask("node2", "/v2/_catalog") == "404"
    finally:
        lab.traefik(f"{IMAGES_HOST}/traefik:{TRAEFIK.tag}@{new}")
    mirror.configure()
    mirror.up()
