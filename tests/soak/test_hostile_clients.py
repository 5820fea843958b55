"""Ten minutes of clients that may send anything: what an honest one gets is always right, and
Varnish is the same process."""

import os
import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chain import Chain, own_network
from tests.hostile_clients import Honest, accepts, headers, methods, send, targets

SECONDS = float(os.environ.get("HOSTILE_SECONDS", "600"))


def test_ten_minutes_of_anything_change_nothing_that_an_honest_client_gets(tmp_path: Path) -> None:
    with own_network(), Chain(tmp_path) as chain:
        chain.wait_until_ready()
        processes = chain.varnish_processes()
        end, sent = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            # New tags all the time: a tag is in danger before Varnish has it.
            images = [
                Honest(chain, f"library/soak{sent}-{number}", docker=number % 2 == 0)
                for number in range(4)
            ]
            paths = [path for image in images for path in image.paths]

            @settings(
                max_examples=100,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(
                st.lists(
                    st.tuples(methods, targets(paths), accepts, headers), min_size=1, max_size=4
                ),
                st.sampled_from(images),
            )
            def attack(requests: list[tuple[str, str, str, list[str]]], image: Honest) -> None:
                nonlocal sent
                for request in requests:
                    send(*request)
                    sent += 1
                image.check(chain)

            attack()
        print(f"\n{sent} hostile requests; Varnish holds {chain.counter('MAIN.n_object')} objects")
        assert chain.varnish_processes() == processes
        assert chain.counter("MGT.child_panic") == 0
        assert chain.counter("MAIN.n_object") < 10_000
