"""A Varnish that is there and answers nothing: clients get a 503 within seconds, and docker then
asks the upstream."""

import time
from collections.abc import Iterator

import pytest

from components.registry_mirror.render.traefik import HEALTH_SECONDS
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror

ASK = """
import time, urllib.request as u
begun = time.monotonic()
try: status = u.urlopen("https://mirror.lab.test/v2/", timeout=20).status
except u.HTTPError as error: status = error.code
except OSError: status = 0
print(status, time.monotonic() - begun)
"""


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    mirror.up()
    yield mirror
    mirror.destroy()


def ask(lab: Lab) -> tuple[int, float]:
    """Status and seconds; 0: no answer."""
    status, seconds = lab.on("node2", f"python3 -c '{ASK}'").split()
    return int(status), float(seconds)


@pytest.mark.fault("F49", "Varnish hangs: it accepts connections and answers nothing")
def test_a_varnish_that_hangs_is_left_alone_by_traefik_and_clients_get_an_answer_at_once(
    lab: Lab, mirror: Mirror
) -> None:
    lab.wait_for_mirror("node2")
    assert ask(lab)[0] == 200
    ours = "docker ps --quiet --filter name=registry-mirror-front"
    (where,) = [node for node in lab.nodes if lab.on(node, ours).strip()]
    lab.on(where, f"docker pause $({ours})")
    hung = time.monotonic()
    try:
        time.sleep(2 * HEALTH_SECONDS + 1)
        status, seconds = ask(lab)
        assert status == 503
        assert seconds < 1
    finally:
        # Swarm has given it up by itself by then, or does so now; another one takes its place.
        lab.on(where, f"docker unpause $({ours}) 2>/dev/null || true")
    lab.wait_for_mirror("node2")
    print(f"served again {time.monotonic() - hung:.0f} s after it hung")
