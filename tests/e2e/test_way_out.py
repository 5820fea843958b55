"""A company's swarm: the upstream is reached through a proxy with a password, and has a certificate
of the company's authority.

The hub is a black hole to the nodes here; only the proxy (`lab/way_out.py`) leads there. These
tests build on one mirror.
"""

import json
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from lab import deployed, internet
from lab.clients import fetch
from lab.deployed import CACHE
from lab.images import PROOF, REGISTRY_2, proof_image_bytes, tag_at_hub
from lab.plan import HUB_HOST, WAY_OUT
from lab.way_out import ACCOUNT, PORT
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror, review, saved_state
from tests.lab.output import counts

USER, PASSWORD = (quote(word, safe="") for word in ACCOUNT)
PROXY = f"http://{USER}:{PASSWORD}@{WAY_OUT}:{PORT}"
UPSTREAM = f"https://{HUB_HOST}"
LED = f"{HUB_HOST}:443"
TAG_LINK = f"{CACHE}/docker/registry/v2/repositories/library/swarm-mirror-proof/_manifests/tags/1/current/link"  # noqa: E501


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    internet.behave(lab.sandbox, "well")
    internet.start_company_proxy(lab.sandbox, lab.folder)
    mirror = Mirror(lab)
    yield mirror
    internet.behave(lab.sandbox, "well")
    mirror.configure()
    mirror.destroy()


def configure(mirror: Mirror, proxy: str = PROXY, **more: object) -> None:
    mirror.configure(upstream=UPSTREAM, **more)
    mirror.secret("upstreamProxy", proxy)


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        pytest.param(
            f"http://{USER}:{PASSWORD}@{WAY_OUT}:9",
            "proxyconnect tcp: dial tcp 198.18.0.5:9: connect: connection refused",
            id="nobody is there",
            marks=pytest.mark.long,
        ),
        pytest.param(
            f"http://{USER}:wrong@{WAY_OUT}:{PORT}",
            "Proxy Authentication Required",
            id="a proxy that refuses",
        ),
        pytest.param(
            PROXY,
            "x509: certificate signed by unknown authority",
            id="an authority that nobody has named",
            marks=pytest.mark.long,
        ),
    ],
)
def test_the_gate_says_in_the_registrys_words_what_stands_in_the_way_out(
    lab: Lab, mirror: Mirror, proxy: str, words: str
) -> None:
    internet.behave(lab.sandbox, "black-hole")
    internet.reset_way_out_counters(lab.sandbox)
    configure(mirror, proxy, readyTimeout=30)
    reason = mirror.up_fails()
    assert "does not reach its upstream now (500" in reason
    assert "(upstreamProxy, upstreamCa); the registry says: " in reason
    assert words in reason
    assert PASSWORD not in reason
    if ":wrong@" in proxy:
        assert internet.way_out_counters(lab.sandbox)["407"] > 0


def test_an_upstream_of_another_authority_is_mirrored_through_the_proxy_alone(
    lab: Lab, mirror: Mirror
) -> None:
    internet.behave(lab.sandbox, "black-hole")
    configure(mirror, upstreamCa=str(lab.folder.ca))
    done = counts(mirror.up())
    assert "deleted" not in done
    lab.wait_for_mirror("node3")
    deployed.empty(lab.sandbox)
    internet.reset_way_out_counters(lab.sandbox)
    assert fetch(lab.sandbox, lab.nodes["node2"], 4).whole == 4
    led = internet.way_out_counters(lab.sandbox)
    assert led[LED] > 0
    assert set(led) == {LED}
    found = lab.upstream()
    assert set(found["clients"]) == {WAY_OUT}, "somebody went another way"
    assert 0.99 < found["bytes"] / proof_image_bytes(lab.sandbox) <= 1.05
    lab.pull("node3")


def test_its_password_is_a_secret_of_the_swarm_and_nowhere_else(lab: Lab, mirror: Mirror) -> None:
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
            "node1", "cat /var/data/registry/*.yml; grep -rl lab-canary /var/data/registry || true"
        ),
        **{
            f"containers and logs of {node}": lab.on(
                node,
                "docker ps -aq | xargs -r docker inspect;"
                " for c in $(docker ps -aq --filter name=registry-mirror); do docker logs $c 2>&1;"
                " done;"
                " cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
            )
            for node in lab.nodes
        },
    }
    assert [place for place, text in places.items() if PASSWORD in text or ACCOUNT[1] in text] == []
    # Go reads a proxy from the environment and from nowhere else: the registry's own process, and
    # no other one, has it there.
    script = (
        "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ 2>/dev/null | grep -q"
        " lab-canary && cat $p/comm; done; true"
    )
    assert {line for node in lab.nodes for line in lab.on(node, script).splitlines()} == {
        "registry"
    }
    state = saved_state(mirror.stack)
    assert PASSWORD not in state.read_text()
    assert review(mirror.stack, state)[1]["changes"] == []


def test_another_way_out_is_an_update_in_place_and_an_unchanged_one_is_none(
    lab: Lab, mirror: Mirror
) -> None:
    ask = "docker service inspect --format '{{.ID}}' registry-mirror registry-mirror-front"
    before = lab.on("node1", ask)
    assert set(counts(mirror.up())) == {"unchanged"}
    # Both at once: another authority beside the first, and another list of exceptions.
    more = lab.folder.root / "two.crt"
    more.write_text("# the lab's, twice\n" + lab.folder.ca.read_text() * 2)
    configure(mirror, upstreamCa=str(more), upstreamNoProxy=[".corp.example"])
    mirror.up()
    assert lab.on("node1", ask) == before
    lab.wait_for_mirror("node3")


@pytest.mark.long
def test_registry_2_takes_the_same_way(lab: Lab, mirror: Mirror) -> None:
    digest = (lab.folder.root / f"{REGISTRY_2.name}.digest").read_text().strip()
    image = f"{REGISTRY_2.repository}:{REGISTRY_2.tag}@{digest}"
    configure(mirror, upstreamCa=str(lab.folder.ca), image=image, acceptRegistry2=True)
    mirror.up()
    lab.wait_for_mirror("node3")
    deployed.empty(lab.sandbox)
    internet.reset_way_out_counters(lab.sandbox)
    assert fetch(lab.sandbox, lab.nodes["node2"], 1).whole == 1
    assert internet.way_out_counters(lab.sandbox)[LED] > 0
    configure(mirror, upstreamCa=str(lab.folder.ca))
    mirror.up()
    lab.wait_for_mirror("node3")


def status(lab: Lab) -> int:
    """Of the tag's manifest, at the mirror."""
    ask = (
        "import urllib.request as u, urllib.error as e\n"
        "try: print(u.urlopen('https://mirror.lab.test/v2/library/swarm-mirror-proof/manifests/1').status)\n"
        "except e.HTTPError as x: print(x.code)"
    )
    return int(lab.on("node2", 'python3 -c "$(cat)"', ask.encode()))


@pytest.mark.long
def test_a_tag_that_was_deleted_upstream_is_served_until_it_is_forgotten(
    lab: Lab, mirror: Mirror
) -> None:
    assert status(lab) == 200
    internet.forget_tag(lab.folder, f"library/{PROOF}")
    try:
        deployed.kill(lab.sandbox)
        assert status(lab) == 200, "to the registry, an upstream that says no is one that is ill"
        long_ago = "touch -d '40 days ago' "
        # While the upstream is unhealthy nothing is forgotten, however old.
        lab.on("node1", long_ago + TAG_LINK)
        internet.behave(lab.sandbox, "500")
        deployed.kill(lab.sandbox)
        time.sleep(5)
        assert status(lab) == 200
        internet.behave(lab.sandbox, "well")
        deployed.kill(lab.sandbox)
        deadline = time.monotonic() + 30
        while status(lab) != 404 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert status(lab) == 404
    finally:
        internet.behave(lab.sandbox, "well")
        tag_at_hub(lab.sandbox, f"library/{PROOF}", "proof")
    time.sleep(1.5)
    assert status(lab) == 200
