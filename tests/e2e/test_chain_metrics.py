"""Varnish's metrics: its own counters and those of the admission, for whoever Traefik leads there.

Real Varnish and registry (tests/chain.py); no lab is started.
"""

import re
import time
from collections.abc import Iterator

import pytest

from components.registry_mirror.monitoring.metrics import BY_NAME, METRICS
from components.registry_mirror.render.varnish import METRICS_PATH
from tests.chain import DOCKERS_ACCEPT, Chain, own_network, random_bytes

SAMPLE = re.compile(r'([a-z_]+)(\{store="[a-z]+"\})? [0-9]+')


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with own_network(), Chain(tmp_path_factory.mktemp("chain")) as running:
        running.wait_until_ready()
        yield running


def metrics(chain: Chain) -> dict[str, float]:
    """Name with its label -> value."""
    answer = chain.get(METRICS_PATH)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = answer.body.decode().splitlines()
    for line in lines:
        assert line.startswith("# TYPE ") or SAMPLE.fullmatch(line), line
    for line in lines:
        if line.startswith("#"):
            _, _, name, kind = line.split()
            assert BY_NAME[name].kind == kind
    samples = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in samples}


def wait_for(chain: Chain, name: str, value: float) -> dict[str, float]:
    """The metrics, once one has a value: the file is written every ten seconds or so."""
    until = time.monotonic() + 30
    while True:
        found = metrics(chain) if chain.get(METRICS_PATH).status == 200 else {}
        if found.get(name, -1) >= value:
            return found
        assert time.monotonic() < until, found
        time.sleep(0.5)


def test_what_varnish_says_is_in_the_table_and_the_other_way_round(chain: Chain) -> None:
    found = wait_for(chain, "registry_mirror_varnish_uptime_seconds", 0)
    names = {name.partition("{")[0] for name in found}
    assert names == {metric.name for metric in METRICS if metric.source == "varnish"}
    stores = {name for name in found if name.startswith("registry_mirror_varnish_store_bytes")}
    assert len(stores) == 3


def test_a_pull_by_two_clients_is_counted(chain: Chain) -> None:
    layer = random_bytes(3_000_000)
    _, blobs = chain.content.image("library/counted", [layer])
    before = wait_for(chain, "registry_mirror_varnish_uptime_seconds", 0)
    for _ in range(2):
        chain.get("/v2/library/counted/manifests/latest", DOCKERS_ACCEPT)
        chain.get(f"/v2/library/counted/blobs/{blobs[0]}")
    sent = "registry_mirror_varnish_sent_bytes_total"
    after = wait_for(chain, sent, before[sent] + 2 * len(layer))
    assert (
        after["registry_mirror_varnish_hits_total"] > before["registry_mirror_varnish_hits_total"]
    )
    assert after['registry_mirror_varnish_store_bytes{store="memory"}'] >= len(layer)


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/metrics/", f"{METRICS_PATH}/", f"{METRICS_PATH}?x=1", "/metrics/ghcr.io"],
)
def test_nothing_else_is_answered_with_them(chain: Chain, path: str) -> None:
    assert chain.get(path).status == 404


def test_nobody_writes_to_them(chain: Chain) -> None:
    assert chain.get(METRICS_PATH, method="POST").status == 405
