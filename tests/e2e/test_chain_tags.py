"""A tag that the mirror knows, and that many ask for at the same moment.

Real Varnish and registry (tests/chain.py); no lab is started.
"""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chain import DOCKERS_ACCEPT, OCI_INDEX, Chain, Upstream, own_network

MANY = 24
GOOD_FOR = 1.1
"""Seconds; then the mirror asks again."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with own_network(), Chain(tmp_path_factory.mktemp("chain")) as found:
        found.wait_until_ready()
        yield found


@pytest.fixture
def chain(running: Chain) -> Iterator[Chain]:
    yield running
    Upstream.delay, Upstream.silent = 0, False


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository of the test's own, so that nothing of it is cached."""
    return f"library/t{abs(hash(request.node.nodeid)) % 10**12}"


def all_at_once(chain: Chain, path: str, *accepts: str) -> tuple[list[str], float]:
    """The digest that each of many gets, and after how many seconds the last one had it."""
    begun = time.monotonic()
    with ThreadPoolExecutor(MANY) as pool:
        wanted = [accepts[number % len(accepts)] for number in range(MANY)]
        answers = list(pool.map(lambda accept: chain.get(path, accept), wanted))
    assert {answer.status for answer in answers} == {200}
    return [answer.digest for answer in answers], time.monotonic() - begun


def known(chain: Chain, name: str, *accepts: str) -> tuple[str, str]:
    """A tag that the mirror knows and would ask for again; its path and what it stands for."""
    digest, _ = chain.content.image(name, [b"one"], docker=False)
    path = f"/v2/{name}/manifests/latest"
    for accept in accepts:
        assert chain.get(path, accept).digest == digest
    time.sleep(GOOD_FOR)
    chain.reset()
    return path, digest


@pytest.mark.parametrize("accepts", [(DOCKERS_ACCEPT,), (DOCKERS_ACCEPT, OCI_INDEX)])
def test_they_are_one_question_for_each_kind_of_list_and_see_where_it_was_moved(
    chain: Chain, name: str, accepts: tuple[str, ...]
) -> None:
    path, _ = known(chain, name, *accepts)
    moved, _ = chain.content.image(name, [b"two"], docker=False)
    Upstream.delay = 0.5
    digests, seconds = all_at_once(chain, path, *accepts)
    assert set(digests) == {moved}
    # A HEAD for each kind, and a GET for what is new.
    assert 2 <= Upstream.requests[path] + Upstream.requests[path.replace("latest", moved)] <= 4
    assert seconds < 4
    time.sleep(GOOD_FOR)
    chain.reset()
    digests, _ = all_at_once(chain, path, *accepts)
    assert set(digests) == {moved}
    assert Upstream.requests[path] == len(accepts)


def test_of_a_silent_upstream_they_wait_as_long_as_one_of_them(chain: Chain, name: str) -> None:
    """Each after the other would be minutes."""
    path, digest = known(chain, name, DOCKERS_ACCEPT)
    Upstream.silent = True
    digests, seconds = all_at_once(chain, path, DOCKERS_ACCEPT)
    assert set(digests) == {digest}
    assert seconds < 7
    Upstream.silent = False
    moved, _ = chain.content.image(name, [b"two"], docker=False)
    chain.wait_for(lambda: chain.get(path, DOCKERS_ACCEPT).digest == moved, seconds=10)


def test_of_a_registry_that_stands_still_they_wait_as_long_as_one_of_them(
    chain: Chain, name: str
) -> None:
    path, digest = known(chain, name, DOCKERS_ACCEPT)
    os.kill(chain.registry.pid, signal.SIGSTOP)
    try:
        digests, seconds = all_at_once(chain, path, DOCKERS_ACCEPT)
        assert set(digests) == {digest}
        assert seconds < 7
    finally:
        os.kill(chain.registry.pid, signal.SIGCONT)
