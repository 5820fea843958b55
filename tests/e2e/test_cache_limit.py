"""A cache that has a limit: it is kept, nobody gets a wrong or cut body, and whatever is killed or
full meanwhile, clients get what they ask for.

Real Varnish and registry, the registry in its container with its own scripts (tests/chain.py); no
lab is started. REGISTRY_PROGRAM names another build of the registry.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.registry_mirror.render import registry
from components.registry_mirror.render.registries import Behind
from tests import cache_load
from tests.bench_cache import loaded
from tests.chain import (
    DOCKERS_ACCEPT,
    REGISTRY,
    SECOND_REGISTRY,
    Answer,
    Chain,
    Content,
    SecondUpstream,
    own_network,
    random_bytes,
)
from tests.registry_container import processes
from tools.toolchain import BIN

MIB = 1 << 20
LAYER = 4 * MIB
LAYERS = "docker/registry/v2/blobs/sha256"
PROGRAM = Path(os.environ.get("REGISTRY_PROGRAM", BIN / "registry"))


@contextmanager
def limited(folder: Path, limit: int, **more: Any) -> Iterator[Chain]:
    """A chain whose cache has a limit (bytes), and an hour of three seconds."""
    words = [f"LIMIT={limit}", f"IDLE={cache_load.IDLE_SECONDS}", "ROUND=2"]
    options = {"registry_words": words, "edit": cache_load.quick_varnish, **more}
    with own_network(), Chain(folder, registry_program=PROGRAM, **options) as chain:
        chain.wait_until_ready()
        yield chain


def path_of(digest: str) -> str:
    name = digest.removeprefix("sha256:")
    return f"{LAYERS}/{name[:2]}/{name}/data"


def fill(chain: Chain, number: int, first: int = 0) -> dict[str, str]:
    """Pull images of one layer each, the first one first; path -> digest."""
    pulled = {}
    for index in range(first, first + number):
        name = f"library/fill{index}"
        _, blobs = chain.content.image(name, [random_bytes(LAYER, index)])
        path = f"/v2/{name}/blobs/{blobs[0]}"
        assert chain.get(f"/v2/{name}/manifests/latest", DOCKERS_ACCEPT).status == 200
        assert chain.get(path).digest == blobs[0]
        pulled[path] = blobs[0]
        time.sleep(0.3)
    return pulled


def gone(chain: Chain, pulled: dict[str, str]) -> list[str]:
    """Paths of what has been evicted."""
    cache = chain.folder / "cache"
    return [path for path, digest in pulled.items() if not (cache / path_of(digest)).exists()]


def remove(data: Path) -> None:
    """As the evictor does it, once the registry has written what it was asked for: it answers
    before that."""
    time.sleep(0.5)
    data.unlink()


def log(chain: Chain, address: str = REGISTRY) -> str:
    return (chain.folder / f"registry-{address}.log").read_text()


def process(chain: Chain, *words: str) -> int:
    """The newest process of the registry's container with these words in its command line; 0 for
    none."""
    found = processes(chain.registry).items()
    return max((pid for pid, line in found if all(word in line for word in words)), default=0)


def test_the_limit_holds_and_every_body_is_right(tmp_path: Path) -> None:
    """`make bench-cache` prints the same of 1,000 images."""
    with own_network():
        report = loaded(tmp_path, number=150, pulls=64, pulls_per_second=2, program=PROGRAM)
    assert (report.wrong, report.cut, report.failed) == ([], [], [])
    assert report.layer_requests == 128
    assert report.over <= 2, f"{report.peak} of {report.limit}"
    assert report.evicted_layers > 0
    assert report.hit_rate >= report.ideal_hit_rate - 12


def test_what_was_used_longest_ago_goes_first_and_is_fetched_again(tmp_path: Path) -> None:
    with limited(tmp_path, 10 * LAYER) as chain:
        pulled = fill(chain, 6)
        first, second, *_ = pulled
        time.sleep(4)
        assert chain.get(first).digest == pulled[first]  # used again, so not the oldest
        pulled |= fill(chain, 6, first=6)
        chain.wait_for(lambda: second in gone(chain, pulled))
        assert first not in gone(chain, pulled)
        for path in gone(chain, pulled):
            chain.reset()
            assert chain.get(path, method="HEAD").headers["Content-Length"] == str(LAYER)
            assert chain.get(path).digest == pulled[path]
            assert chain.sent() == LAYER


def test_an_evicted_layer_is_fetched_by_head_by_range_and_for_another_repository(
    tmp_path: Path,
) -> None:
    """At the registry itself: Varnish asks for whole layers only."""
    with limited(tmp_path, 10**12) as chain:
        layer = random_bytes(LAYER)
        _, blobs = chain.content.image("library/one", [layer])
        chain.content.image("library/two", [layer])
        paths = [f"/v2/library/{name}/blobs/{blobs[0]}" for name in ("one", "two")]
        data = chain.folder / "cache" / path_of(blobs[0])

        def ask(path: str, method: str = "GET", **headers: str) -> Answer:
            return chain.get(
                path, method=method, headers=headers, address=REGISTRY, port=registry.PORT
            )

        assert [ask(path).body == layer for path in paths] == [True, True]
        for path in paths:
            remove(data)
            head = ask(path, "HEAD")
            assert (head.status, head.headers["Content-Length"]) == (200, str(LAYER))
            chain.wait_for(data.exists)  # the registry fetches all of it for a HEAD, too
            remove(data)
            # The registry answers a range with the whole body while it fetches; the status says so.
            whole = ask(path, Range="bytes=1000-1999")
            assert (whole.status, whole.body == layer) == (200, True)
            chain.wait_for(data.exists)
            part = ask(path, Range="bytes=1000-1999")
            assert (part.status, part.body == layer[1000:2000]) == (206, True)
            remove(data)
            assert ask(path).body == layer


def test_a_layer_that_is_being_sent_is_not_evicted(tmp_path: Path) -> None:
    """However long that takes: a slow client is in no log line until it has all of it."""
    with limited(tmp_path, 12 * LAYER) as chain:
        long = random_bytes(8 * LAYER, seed=99)
        digest = chain.content.blob("library/long", long)
        path = f"/v2/library/long/blobs/{digest}"
        assert chain.get(path, address=REGISTRY, port=registry.PORT).digest == digest
        response = chain.open(path, address=REGISTRY)
        begin = response.read(MIB)
        pulled = fill(chain, 12)
        chain.wait_for(lambda: len(gone(chain, pulled)) > 2)
        assert (chain.folder / "cache" / path_of(digest)).exists()
        assert begin + response.read() == long
        pulled |= fill(chain, 8, first=12)
        chain.wait_for(lambda: not (chain.folder / "cache" / path_of(digest)).exists())


def test_one_evictor_holds_the_limit_over_all_registries(tmp_path: Path) -> None:
    second = Behind("ghcr.io")
    with limited(tmp_path, 10 * LAYER, second=second) as chain:
        content = Content()
        SecondUpstream.content = content
        others = {}
        for index in range(6):
            digest = content.blob(f"owner/i{index}", random_bytes(LAYER, 500 + index))
            others[f"/v2/ghcr.io/owner/i{index}/blobs/{digest}"] = digest
        for path, digest in others.items():
            assert chain.get(path).digest == digest
            time.sleep(0.3)
        time.sleep(4)
        fill(chain, 8)
        folder = chain.folder / "cache/registries/ghcr.io"
        chain.wait_for(
            lambda: any(not (folder / path_of(digest)).exists() for digest in others.values())
        )
        chain.wait_for(lambda: cache_load.cached(chain) <= 10 * LAYER)
        for path, digest in others.items():
            assert chain.get(path).digest == digest
        assert "were evicted" not in log(chain, SECOND_REGISTRY)


def test_a_limit_that_cannot_be_kept_is_said_and_nothing_young_is_evicted(tmp_path: Path) -> None:
    with limited(tmp_path, 3 * LAYER, registry_words=[f"LIMIT={3 * LAYER}", "ROUND=2"]) as chain:
        pulled = fill(chain, 5)
        chain.wait_for(lambda: "all of it was used in the last hour" in log(chain))
        chain.wait_for(lambda: cache_load.metrics(chain)["registry_mirror_cache_over_limit"] == 1)
        assert gone(chain, pulled) == []
        time.sleep(3)
        assert log(chain).count("all of it was used in the last hour") == 1


def test_the_evictor_and_the_keeper_are_started_again_when_killed(tmp_path: Path) -> None:
    with limited(tmp_path, 6 * LAYER) as chain:
        for words in (("mirror-evict", "IDLE"), ("mirror-usage", " keep ")):
            before = process(chain, *words)
            os.kill(before, signal.SIGKILL)
            chain.wait_for(
                lambda words=words, before=before: (  # type: ignore[misc]
                    process(chain, *words) not in (0, before)
                )
            )
        pulled = fill(chain, 10)
        chain.wait_for(lambda: gone(chain, pulled) != [])
        chain.wait_for(
            lambda: cache_load.metrics(chain)["registry_mirror_evicted_layers_total"] > 0
        )


def test_the_log_goes_on_where_its_reader_and_who_starts_it_are_killed(tmp_path: Path) -> None:
    """A registry whose log nobody reads would stop with the first full pipe, 64 KiB."""
    with limited(tmp_path, 10**12) as chain:
        (path, digest), *_ = fill(chain, 1).items()
        for _ in range(3):
            for pid, command in processes(chain.registry).items():
                if "mirror-usage supervise" in command:  # this busybox's awk has no other name
                    os.kill(pid, signal.SIGKILL)
            begun = time.monotonic()
            for _ in range(600):  # of about 190 bytes each
                answer = chain.get(path, method="HEAD", address=REGISTRY, port=registry.PORT)
                assert answer.status == 200
            assert time.monotonic() - begun < 30
        assert chain.get(path).digest == digest
        chain.wait_for(lambda: log(chain).count(f'"HEAD {path}') >= 1500)
        assert len([c for c in processes(chain.registry).values() if " keep " in c]) == 1


def test_a_registry_that_is_killed_in_the_middle_of_an_eviction_serves_what_is_right(
    tmp_path: Path,
) -> None:
    with limited(tmp_path, 8 * LAYER) as chain:
        pulled = fill(chain, 6)
        left = chain.folder / "cache/.trash/17"
        for number in range(2):
            pulled |= fill(chain, 4, first=6 + 4 * number)
            chain.wait_for(lambda so_far=dict(pulled): gone(chain, so_far) != [])  # type: ignore[misc]
            chain.registry.kill()
            chain.registry.wait()
            left.parent.mkdir(exist_ok=True)
            left.write_bytes(b"renamed, and not removed yet")
            chain.start_registry()
            chain.wait_for(lambda: chain.get("/v2/").status == 200)
            chain.wait_for(lambda: not left.exists())
            for path, digest in pulled.items():
                assert chain.receive_whole(path) == digest


def test_a_full_disk_is_made_room_on_and_stops_no_pull(tmp_path: Path) -> None:
    words = ["FLOOR=15000000", f"IDLE={cache_load.IDLE_SECONDS}", "ROUND=2"]
    mount = "mount -t tmpfs -o size=48m tmpfs"
    with limited(tmp_path, 0, registry_words=words, cache=mount) as chain:
        # It is full before anything can be evicted: what cannot be cached is passed on.
        for index in range(14):
            digest = chain.content.blob(f"library/x{index}", random_bytes(LAYER, index))
            path = f"/v2/library/x{index}/blobs/{digest}"
            assert chain.receive_whole(path) == digest
        chain.wait_for(lambda: "were evicted" in log(chain), seconds=60)

        def free() -> int:
            answer = chain.beside_the_registry("stat -f -c '%a %S' .").stdout.split()
            return int(answer[0]) * int(answer[1])

        chain.wait_for(lambda: free() >= 15_000_000, seconds=60)


def test_notes_need_no_cache_that_can_be_written(tmp_path: Path) -> None:
    mount = "mount -t tmpfs -o size=48m tmpfs"
    with limited(tmp_path, 10**12, cache=mount) as chain:
        (path, digest), *_ = fill(chain, 1).items()
        chain.beside_the_registry("rm -rf .usage; dd if=/dev/zero of=filler bs=1M")
        assert chain.beside_the_registry("echo x > one; cat one").stdout == ""
        for _ in range(600):
            answer = chain.get(path, method="HEAD", address=REGISTRY, port=registry.PORT)
            assert answer.status == 200
        assert chain.get(path).digest == digest
        chain.wait_for(lambda: log(chain).count(f'"HEAD {path}') >= 600)


def test_what_was_pulled_and_used_is_noted(tmp_path: Path) -> None:
    with limited(tmp_path, 10**12) as chain:
        (path, digest), *_ = fill(chain, 1).items()
        folder = (chain.folder / "cache" / path_of(digest)).parent
        os.utime(folder, (1_000_000_000, 1_000_000_000))
        chain.get(path, method="HEAD", address=REGISTRY, port=registry.PORT)
        chain.wait_for(lambda: folder.stat().st_mtime > time.time() - 60)
        usage = chain.folder / "cache/.usage"

        def pulls() -> str:
            return "".join(file.read_text() for file in usage.glob("pulls-*"))

        chain.wait_for(lambda: pulls() == "1 library/fill0:latest\n")
        hour = dict(pair.split("=") for pair in (usage / "hour").read_text().split()[1:])
        assert int(hour["fetched_bytes"]) >= LAYER
        assert hour["misses"] == "2"
