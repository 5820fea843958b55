"""The evictor and the notes of what is used, in a root of their own: nothing outside of the cache
is touched, whatever the names in it, and nothing but old layers is evicted. With a busybox, as the
registry's image has one.

tests/e2e/test_cache_limit.py has them beside the real registry.
"""

import hashlib
import os
import time
from pathlib import Path

import pytest

from components.registry_mirror.render import registry
from tests.container_root import ContainerRoot, why_not

LAYERS = "docker/registry/v2/blobs/sha256"
BUSYBOX = Path(__file__).resolve().parents[2] / ".lab/base/bookworm/bin/busybox"
MIB = 1 << 20
ONCE = "total=0 walked=0"
"""Before the evictor's endless part."""


class Cache:
    """A cache, and an evictor that brings it down to a number of bytes once."""

    def __init__(self, folder: Path, busybox: Path) -> None:
        self.root = ContainerRoot(folder / "root", busybox)
        self.folder = folder / "root/var/lib/registry"
        self.folder.mkdir(parents=True)
        (folder / "root/own/usage").write_text(registry.script("usage.sh"))
        script = registry.script("evict.sh")
        functions, main, rest = script.partition("\n" + ONCE)
        assert main
        settings = rest.partition("\nwhile :")[0]
        once = (
            '\nfree=0 size_of_all=0\nhas_trash && sweep\nevict "$TARGET" 0 10000000000\n'
            'echo "evicted $layers $freed"\n'
        )
        (folder / "root/own/evict").write_text(functions + main + settings + once)

    def layer(
        self, seed: str, *, size: int = 2 * MIB, hours: float = 2, below: str = LAYERS
    ) -> Path:
        digest = hashlib.sha256(seed.encode()).hexdigest()
        data = self.folder / below / digest[:2] / digest / "data"
        data.parent.mkdir(parents=True)
        with data.open("wb") as file:
            file.truncate(size)
        used(data, hours)
        return data

    def run(self, target: int = 0, prepare: str = "", *words: str) -> str:
        """The evictor's last line and log."""
        self.root.prepare = prepare
        command = (
            f"cd /var/lib/registry && mkdir -p /tmp/n && TARGET={target} && export TARGET"
            " && exec /bin/sh /own/evict /tmp/n LIMIT=1 " + " ".join(words)
        )
        running = self.root.start("/bin/sh", "-c", command)
        output, _ = running.communicate(timeout=60)
        return output

    def outside(self) -> list[str]:
        """Everything that is not the cache's."""
        found = [path for path in self.root.folder.rglob("*") if self.folder not in path.parents]
        return sorted(
            f"{path} {path.lstat().st_mtime if path.is_file() else ''}"
            for path in found
            if not str(path).startswith(f"{self.root.folder}/tmp")
        )


def used(data: Path, hours: float) -> None:
    then = time.time() - hours * 3600
    os.utime(data, (then, then))
    os.utime(data.parent, (then, then))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    if why_not():
        pytest.skip(why_not())
    if not BUSYBOX.exists():
        pytest.skip("no busybox: the lab's base system was not made here")
    return Cache(tmp_path, BUSYBOX)


def test_what_was_used_longest_ago_goes_first_and_no_more_than_must(cache: Cache) -> None:
    layers = [cache.layer(f"l{hours}", hours=hours) for hours in (5, 2, 9, 7, 3)]
    for layer in layers:  # when it was fetched says nothing
        os.utime(layer, (0, 0))
    output = cache.run(target=6 * MIB)
    assert [layer.exists() for layer in layers] == [True, True, False, False, True]
    assert output.splitlines()[-1] == f"evicted 2 {4 * MIB}"
    assert "2 layers (4 MiB) were evicted" in output
    assert list((cache.folder / ".trash").iterdir()) == []


def test_the_time_of_the_folder_is_the_last_use(cache: Cache) -> None:
    asked_for, written = cache.layer("asked"), cache.layer("written")
    idle = cache.layer("idle")
    os.utime(asked_for.parent)
    os.utime(written)
    cache.run()
    assert [layer.exists() for layer in (asked_for, written, idle)] == [True, True, False]


def test_what_is_young_or_small_or_no_layer_stays(cache: Cache) -> None:
    young = cache.layer("young", hours=0.9)
    small = cache.layer("small", size=MIB)
    upload = cache.folder / "docker/registry/v2/repositories/x/_uploads/y/data"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(bytes(2 * MIB))
    used(upload, 9)
    short = cache.folder / LAYERS / "ab/abcdef/data"
    short.parent.mkdir(parents=True)
    short.write_bytes(bytes(2 * MIB))
    used(short, 9)
    before = sorted(cache.folder.rglob("*"))
    assert cache.run().splitlines()[-1] == "evicted 0 0"
    assert all(path.exists() for path in (young, small, upload, short))
    assert sorted(set(cache.folder.rglob("*")) - set(before)) == [cache.folder / ".trash"]


def test_other_registries_are_part_of_the_cache(cache: Cache) -> None:
    other = cache.layer("other", below=f"registries/ghcr.io/{LAYERS}")
    port = cache.layer("port", below=f"registries/registry.example.com_5000/{LAYERS}")
    cache.run()
    assert [other.exists(), port.exists()] == [False, False]


HOSTILE = ["x\n/victim", "-rf", "$(rm -rf victim)", "`id`", "*", "'; rm -rf /victim; '", "\x1b[2J"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_a_line_or_a_word_of_a_command(cache: Cache, name: str) -> None:
    digest = hashlib.sha256(b"real").hexdigest()
    odd = [
        cache.folder / LAYERS / "ab" / name.replace("/", "\u2215") / "data",
        cache.folder / LAYERS / name.replace("/", "\u2215") / digest / "data",
        cache.folder / "registries" / name.replace("/", "\u2215") / LAYERS / "ab" / digest / "data",
        cache.folder / LAYERS / "ab" / f"x\n9999999999 1 .\u2215{digest[:2]}" / "data",
    ]
    for data in odd:
        data.parent.mkdir(parents=True, exist_ok=True)
        data.write_bytes(bytes(2 * MIB))
        used(data, 9)
    real = cache.layer("real")
    before = cache.outside()
    output = cache.run()
    assert not real.exists()
    assert all(data.exists() for data in odd)
    assert cache.outside() == before
    assert all(line.isprintable() for line in output.splitlines())
    assert len(output.splitlines()) == 2


@pytest.mark.parametrize(
    "below", ["docker", "docker/registry/v2", LAYERS, f"{LAYERS}/ab", "registries", ".trash"]
)
def test_no_link_out_of_the_cache_is_followed(cache: Cache, below: str) -> None:
    digest = "ab" + hashlib.sha256(b"victim").hexdigest()[2:]
    tree = cache.root.folder / "victim/tree"
    for inside in (
        f"registry/v2/blobs/sha256/ab/{digest}",
        f"blobs/sha256/ab/{digest}",
        f"ab/{digest}",
        digest,
    ):
        (tree / inside).mkdir(parents=True)
        (tree / inside / "data").write_bytes(bytes(2 * MIB))
        used(tree / inside / "data", 9)
    (tree / "ghcr.io").symlink_to("/victim/tree")
    (tree / "1").write_text("precious")
    link = cache.folder / below
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("/victim/tree")
    before = cache.outside()
    cache.run()
    assert cache.outside() == before


def test_another_file_system_in_the_cache_is_not_entered(cache: Cache) -> None:
    data, own = cache.layer("elsewhere"), cache.layer("own")
    folder = f'"$root/var/lib/registry/{LAYERS}/{data.parent.parent.name}"'
    prepare = (
        f'cp -a {folder} "$root/tmp/copy"; mount -t tmpfs tmpfs {folder};'
        f' cp -a "$root/tmp/copy/." {folder}'
    )
    assert cache.run(0, prepare).splitlines()[-1] == f"evicted 1 {2 * MIB}"
    assert not own.exists()


def test_the_folder_of_a_layer_that_went_an_hour_ago_is_removed(cache: Cache) -> None:
    long_ago, just_now = cache.layer("long ago"), cache.layer("just now")
    for data in (long_ago, just_now):
        data.unlink()
    used_at = time.time() - 7200
    os.utime(long_ago.parent, (used_at, used_at))
    cache.run()
    assert [long_ago.parent.exists(), just_now.parent.exists()] == [False, True]


READER = """
cd /var/lib/registry
mkdir -p /tmp/n
sed -n '/^READER=/,/^}.$/p' /own/usage > /tmp/reader
. /tmp/reader
awk -v notes=/tmp/n -v tick=TICK -v every=60 "$READER" < /own/log > /tmp/passed
cat /tmp/n/seen.* 2> /dev/null
echo passed
cat /tmp/passed
"""
DIGEST = hashlib.sha256(b"x").hexdigest()
BEGIN = "10.0.0.2 - - [27/Nov/2026:07:42:17 +0000] "


@pytest.mark.parametrize(
    ("line", "noted"),
    [
        (
            f'{BEGIN}"GET /v2/library/x/blobs/sha256:{DIGEST} HTTP/1.1" 200 5 "" "a"',
            f"used {DIGEST}",
        ),
        (f'{BEGIN}"HEAD /v2/x/blobs/sha256:{DIGEST}?ns=a HTTP/1.1" 200 0 "" ""', f"used {DIGEST}"),
        (f'{BEGIN}"GET /v2/x/blobs/sha256:{DIGEST} HTTP/1.1" 206 5 "" ""', f"used {DIGEST}"),
        (f'{BEGIN}"GET /v2/x/y/manifests/v1 HTTP/1.1" 200 5 "" ""', "pulled 1 x/y:v1"),
        (
            f'{BEGIN}"GET /v2/x/manifests/sha256:{DIGEST} HTTP/1.1" 200 5 "" ""',
            f"pulled 1 x@sha256:{DIGEST}",
        ),
        (f'{BEGIN}"HEAD /v2/x/manifests/v1 HTTP/1.1" 200 5 "" ""', ""),
        (f'{BEGIN}"GET /v2/x/blobs/sha256:{DIGEST} HTTP/1.1" 404 5 "" ""', ""),
        (f'{BEGIN}"GET /v2/x/blobs/sha256:{DIGEST[1:]} HTTP/1.1" 200 5 "" ""', ""),
        (f'{BEGIN}"GET /v2/x/blobs/sha256:{DIGEST.upper()} HTTP/1.1" 200 5 "" ""', ""),
        (
            f'{BEGIN}"GET / HTTP/1.1" 200 5 "" "GET /v2/x/blobs/sha256:{DIGEST} HTTP/1.1\\" 200 5"',
            "",
        ),
        (f'{BEGIN}"GET /v2/$(id)/manifests/v1 HTTP/1.1" 200 5 "" ""', ""),
        (f'{BEGIN}"GET /v2/{"a" * 500}/manifests/v1 HTTP/1.1" 200 5 "" ""', ""),
        (f'time="2026" msg="GET /v2/x/blobs/sha256:{DIGEST} HTTP/1.1" 200 5', ""),
        ("", ""),
    ],
)
def test_of_a_log_line_only_what_the_registry_itself_has_written_is_noted(
    cache: Cache, line: str, noted: str
) -> None:
    log = f"TICK 1000 1\n{line}\nTICK 1060 2\n"
    (cache.root.folder / "own/log").write_text(log)
    output, _ = cache.root.start("/bin/sh", "-c", READER).communicate(timeout=30)
    assert output == (f"{noted}\n" if noted else "") + f"passed\n{line}\n"
