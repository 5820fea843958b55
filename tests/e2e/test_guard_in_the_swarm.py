"""The guard in a real swarm: a machine in no list is covered, a sick mirror costs a pull seconds,
nothing is left behind.

Node 3 is in the swarm and in no list. Its docker goes by hosts.toml, and what plays Docker Hub is
there under its real name.
"""

import json
import time
from collections.abc import Callable, Iterator

import pytest

from components.registry_mirror.node_agent import hosts_plan, hosts_toml
from components.registry_mirror.render import registry
from lab import internet, swarm
from lab.images import publish_at_hub, random_image
from lab.internet import SICK_MIRROR
from lab.plan import HUB_HOST, INTERNET, SICK, SICK_HOST
from lab.publish import publish_at
from tests.lab.lab import MIRROR_URL, Lab
from tests.lab.mirror import Mirror

CERTS = "/etc/docker/certs.d"
SMALL = "bench-small:1"
OF_GHCR = "owner/bench-small:1"
LAYERS = (64 << 10,) * 6
CALLED_OFF = 100
"""Seconds after which a pull is called off."""


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    mirror.configure(without=("node3",), guard=True)
    mirror.up_after_kill()
    yield mirror
    mirror.configure(without=("node3",), guard=True)
    mirror.destroy()


def until(true: Callable[[], bool], seconds: float) -> float:
    """Seconds until it was so."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds
        time.sleep(0.3)
    return time.monotonic() - begun


def hosts(lab: Lab, node: str = "node3", registry: str = "docker.io") -> str:
    return lab.on(node, f"cat {CERTS}/{registry}/hosts.toml 2>/dev/null || true")


def test_a_machine_in_no_list_is_covered(lab: Lab, mirror: Mirror) -> None:
    until(lambda: MIRROR_URL in hosts(lab), 60)
    lab.pull("node1")
    internet.reset_counters(lab.sandbox)
    lab.pull("node3")
    assert int(str(lab.upstream()["bytes"])) < 100_000
    # A docker that does not go by that file has none, and its guard leaves it alone.
    assert [hosts(lab, node) for node in ("node1", "node2")] == ["", ""]
    until(
        lambda: (
            lab.on("node1", "docker service ls --format '{{.Name}} {{.Replicas}}'").count(
                "guard 3/3"
            )
            == 1
        ),
        60,
    )


@pytest.mark.long
def test_it_costs_next_to_nothing(lab: Lab, mirror: Mirror) -> None:
    # Of each process: what it and those that it has waited for have used, in hundredths of a
    # second, and its memory. VmRSS of a process so small says 0 (it is counted in batches, linux
    # include/linux/percpu_counter.h).
    used = """
for pid in $(docker top $(docker ps --quiet --filter name=registry-mirror-guard | head -n 1) -o pid | tail -n +2); do
  sed 's/.*) //' /proc/$pid/stat | { read -r s a b c d e f g h i j u k v w z; echo $((u + k + v + w)); }
  sed -n 's/^Rss: *\\([0-9]*\\) kB/rss \\1/p' /proc/$pid/smaps_rollup
done
"""  # noqa: E501

    def now() -> tuple[int, int]:
        lines = lab.on("node3", used).splitlines()
        ticks = sum(int(line) for line in lines if not line.startswith("rss"))
        return ticks, sum(int(line.split()[1]) for line in lines if line.startswith("rss"))

    before, _ = now()
    begun = time.monotonic()
    time.sleep(45)
    after, rss = now()
    share = (after - before) / 100 / (time.monotonic() - begun)
    print(f"\nthe guard: {rss / 1024:.1f} MiB, {share:.3%} of a core")
    assert 0 < rss <= 10 * 1024
    assert share <= 0.001


def test_a_mirror_that_is_away_is_taken_out_and_status_says_so(lab: Lab, mirror: Mirror) -> None:
    there = hosts(lab)
    assert MIRROR_URL in there
    lab.on("node1", "docker service scale --detach registry-mirror-front=0")
    taken = until(lambda: hosts(lab) == "", 60)
    lab.on("node1", "docker service scale --detach registry-mirror-front=1")
    put = until(lambda: hosts(lab) == there, 90)
    print(f"\ntaken out after {taken:.1f} s, put back after {put:.1f} s")
    assert "taken out of hosts.toml" in lab.on(
        "node1", "docker service logs registry-mirror-guard 2>&1"
    )
    lab.wait_for_mirror("node1")


ILL = ("refused", "404", "429", "500", "503", "black-hole", "silent", "slow", "truncated", "wrong")
AT_ONCE = {"refused": 2.0, "404": 2.0, "429": 2.0, "500": 2.0, "503": 2.0, "black-hole": 8.0}
"""Extra seconds of a pull that begins the moment the mirror becomes unhealthy; the issue's goal,
and half as much for the lab's two busy cores. The others are bounded by what the mirror's own side
does (`tests/e2e/test_dialect.py`)."""
NOTICED = {**AT_ONCE, "silent": 2.0}
"""The same, once the guard has seen it."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("engine", "of", "image"),
    [
        ("28.5-containerd", "docker.io", SMALL),
        ("29", "docker.io", SMALL),
        ("29", "ghcr.io", f"ghcr.io/{OF_GHCR}"),
    ],
)
def test_a_sick_mirror_costs_a_pull_seconds(lab: Lab, engine: str, of: str, image: str) -> None:
    """As `make bench-mirror` does for older engines, with a mirror that is unhealthy in each
    way."""
    lab.have({"node3": engine})
    swarm.make_certificate(lab.folder, "sick", f"DNS:{SICK_HOST},IP:{SICK}")
    internet.start_sick_mirror(lab.sandbox, lab.folder)
    internet.start_other_registries(lab.sandbox, lab.folder)
    internet.know_other_registries(lab.sandbox, [lab.nodes["node3"]])
    archive, folder = random_image("bench-small", LAYERS), f"{CERTS}/{of}"
    publish_at_hub(lab.sandbox, archive, f"library/{SMALL}")
    publish_at(lab.sandbox, "ghcr.io", archive, OF_GHCR)
    lab.on("node3", f"printf '{INTERNET} {HUB_HOST}\\n{SICK} {SICK_HOST}\\n' >> /etc/hosts")
    lab.on("node3", f"mkdir -p {folder}")
    until(
        lambda: pull(lab, image)[1], 30
    )  # dockerd reads /etc/hosts anew after 5 s (go net/hosts.go)
    direct = min(pull(lab, image)[0] for _ in range(3))
    found: dict[str, list[str]] = {}
    for ill in ILL:
        host = SICK_HOST if ill != "refused" else f"{SICK_HOST}:444"
        url = f"https://{host}" + (f"/v2/{of}" if of != "docker.io" else "")
        text = hosts_toml.table(url, hosts_plan.settings(url, hosts_plan.Around()))
        for name, content in (("hosts.toml", text), (".sick.with", text), (".sick.without", "")):
            lab.on("node3", f"cat > {folder}/{name}", content.encode())
        internet.behave(lab.sandbox, ill if ill != "refused" else "well", SICK_MIRROR)
        seconds, there = pull(lab, image)
        row = [f"{seconds - direct:+.1f}" + ("" if there else " NO IMAGE")]
        if ill in AT_ONCE:
            assert there, ill
            assert seconds - direct <= AT_ONCE[ill], (ill, seconds)
        if ill in NOTICED:
            start_guard(lab, host, of, text)
            noticed = until(lambda: hosts(lab, registry=of) == "", 60)
            seconds, there = pull(lab, image)
            row += [f"{seconds - direct:+.1f}" + ("" if there else " NO IMAGE"), f"{noticed:.0f}"]
            lab.on("node3", "docker rm --force guard >/dev/null")
            assert there, ill
            assert seconds - direct <= NOTICED[ill], (ill, seconds)
        else:
            again, there = pull(lab, image)
            row += [f"second attempt {again - direct:+.1f}" + ("" if there else " NO IMAGE")]
        found[ill] = row
        internet.behave(lab.sandbox, "well", SICK_MIRROR)
    lab.on("node3", f"rm -rf {folder}; sed -i '/{HUB_HOST}/d;/{SICK_HOST}/d' /etc/hosts")
    print(
        f"\n{engine}, {of}, without a mirror {direct:.1f} s; at once, with the guard, seconds until"
        " it noticed\n" + json.dumps(found, indent=1)
    )


def start_guard(lab: Lab, host: str, of: str, text: str) -> None:
    name, _, port = host.partition(":")
    lab.on("node3", "cat > /root/guard.sh", registry.script("guard.sh").encode())
    lab.on("node3", "cat > /root/table", text.encode())
    image = lab.digest("registry")
    words = (
        "docker run --detach --name guard --network host --read-only --tmpfs /tmp --cap-drop"
        " ALL --entrypoint /bin/sh"
    )
    given = f'"$(cat /root/guard.sh)" guard {name} {port or 443} sick {of} "$(cat /root/table)"'
    lab.on("node3", f"{words} --volume /etc/docker/certs.d:/certs {image} -c {given}")


def pull(lab: Lab, image: str) -> tuple[float, bool]:
    """Seconds of a pull, and whether there was an image."""
    lab.on("node3", f"docker image rm --force {SMALL} ghcr.io/{OF_GHCR} >/dev/null 2>&1 || true")
    begun = time.monotonic()
    said = lab.on(
        "node3",
        f"timeout {CALLED_OFF} docker pull --quiet {image} >/dev/null 2>&1 && echo there || true",
    )
    return time.monotonic() - begun, "there" in said


def test_nothing_is_left_where_nobody_was_asked(lab: Lab, mirror: Mirror) -> None:
    lab.have({})
    lab.on(
        "node1", "docker service update --force --detach registry-mirror-guard"
    )  # it covers a machine when it begins there
    until(lambda: MIRROR_URL in hosts(lab), 120)
    mirror.destroy()
    for node in ("node1", "node2", "node3"):
        left = (
            "find /etc/docker/certs.d /var/lib/swarm-registry-mirror -mindepth 1 2>/dev/null ||"
            " true"
        )
        until(lambda node=node, left=left: lab.on(node, left) == "", 60)  # type: ignore[misc]
