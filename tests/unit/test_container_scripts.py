"""The scripts that run in the containers, run in a root of their own: a damaged cache is repaired
before it is served.

With the computer's shell and tools, and with a busybox where the lab's base system has one: the
registry's image is Alpine.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from components.registry_mirror.render import registry
from tests.container_root import ContainerRoot, why_not

GOOD = b"a layer"
REPOSITORIES = "docker/registry/v2/repositories"
LAYERS = "docker/registry/v2/blobs/sha256"
BUSYBOX = Path(__file__).resolve().parents[2] / ".lab/base/bookworm/bin/busybox"
DAYS_AGO = 2 * 86400

FAKE_REGISTRY = """#!/bin/sh
i=0
while [ -e /own/wait ] && [ $i -lt 200 ] && ! cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' ' ' | grep -q 'sleep 8640[0]'; do
  i=$((i + 1)); sleep 0.05
done
echo "started: $*"
"""  # noqa: E501
"""Says how it was started, after the first check of the cache, which then waits for a day. In a
container it ends with the registry, process 1."""


class Container:
    """A cache, and a registry that only says how it was started."""

    def __init__(self, folder: Path, busybox: Path | None) -> None:
        self.root = ContainerRoot(folder / "root", busybox)
        self.cache = folder / "root/var/lib/registry"
        self.cache.mkdir(parents=True)
        self.own = folder / "root/own"
        self.program("registry", FAKE_REGISTRY)
        script = registry.script("start-registry.sh")
        assert script.count("    sleep 1\n") == 1, "the pause until the registry is asked again"
        self.program("start", script.replace("    sleep 1\n", "    sleep 0.2\n"))
        (self.own / "wait").touch()
        self.path = "/own:/usr/sbin:/usr/bin:/sbin:/bin"

    def program(self, name: str, text: str) -> None:
        (self.own / name).write_text(text)
        (self.own / name).chmod(0o755)

    def start(self, *argv: str) -> list[str]:
        """What is in the log after a start, in any order."""
        running = self.root.start(
            *(argv or ("/bin/sh", "/own/start", "/c.yml", "DIGEST=sha256:0")), path=self.path
        )
        output, _ = running.communicate(timeout=30)
        return output.splitlines()

    def layer(self, content: bytes, name: str = "") -> Path:
        digest = name or hashlib.sha256(content).hexdigest()
        path = self.cache / LAYERS / digest[:2] / digest / "data"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return path

    def link(self, text: str, tag: str = "latest") -> Path:
        path = self.cache / REPOSITORIES / "library/x/_manifests/tags" / tag / "current/link"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return path

    def upload(self, name: str, repository: str = "library/x") -> Path:
        """One that nobody finished, two days old."""
        path = self.cache / REPOSITORIES / repository / "_uploads" / name
        path.mkdir(parents=True)
        (path / "data").write_bytes(GOOD)
        aged(path)
        return path

    def outside(self) -> list[str]:
        """Everything that is not the cache's."""
        found = [path for path in self.root.folder.rglob("*") if self.cache not in path.parents]
        return sorted(
            f"{path} {path.stat().st_size if path.is_file() else ''}"
            for path in found
            if self.own not in path.parents
        )


def aged(path: Path) -> None:
    long_ago = time.time() - DAYS_AGO
    os.utime(path, (long_ago, long_ago))


@pytest.fixture(params=["the computer's tools", "busybox"])
def container(request: pytest.FixtureRequest, tmp_path: Path) -> Container:
    if why_not():
        pytest.skip(why_not())
    if request.param == "busybox" and not BUSYBOX.exists():
        pytest.skip("no busybox: the lab's base system was not made here")
    return Container(tmp_path, BUSYBOX if request.param == "busybox" else None)


def test_a_sound_cache_is_served_without_a_word(container: Container) -> None:
    layer = container.layer(GOOD)
    link = container.link("sha256:" + "0" * 64)
    (container.cache / "scheduler-state.json").write_text('{"a":{"Expiry":"x"}}')
    assert container.start() == ["started: serve /c.yml"]
    assert layer.exists()
    assert link.exists()
    assert sorted(path.name for path in container.cache.iterdir()) == [
        ".checked",
        "docker",
        "scheduler-state.json",
    ]


@pytest.mark.parametrize("text", ["", "{", '{"a":{"Expiry":"x"}', "garbage"])
def test_a_list_of_expiries_that_was_cut_off_is_set_aside(container: Container, text: str) -> None:
    (container.cache / "scheduler-state.json").write_text(text)
    log = container.start()
    assert any("the list of expiries was damaged" in line for line in log)
    assert not (container.cache / "scheduler-state.json").exists()
    assert (container.cache / "scheduler-state.json.broken").read_text() == text


def test_a_link_that_was_cut_off_is_removed(container: Container) -> None:
    link = container.link("sha256:0000")
    log = container.start()
    assert not link.exists()
    assert sum("a damaged link was removed" in line for line in log) == 1


def test_a_layer_whose_bytes_are_not_its_name_is_removed_and_others_stay(
    container: Container,
) -> None:
    good, bad = (
        container.layer(GOOD),
        container.layer(b"cut off", hashlib.sha256(b"cut off here").hexdigest()),
    )
    log = container.start()
    assert good.exists()
    assert not bad.exists()
    assert [line for line in log if bad.parent.name in line]


def test_a_layer_that_was_right_before_is_not_read_again(container: Container) -> None:
    container.start()
    old = container.layer(b"changed since", "0" * 64)
    aged(old)
    container.start()
    assert old.exists()


def test_an_upload_that_nobody_finished_is_removed_after_a_day(container: Container) -> None:
    old, new = container.upload("old"), container.upload("new")
    os.utime(new)
    container.start()
    assert [old.exists(), new.exists()] == [False, True]


IN_A_FOLDER = ("/bin/sh", "/own/start", "/c.yml", "FOLDER=registries/ghcr.io")


def test_a_registry_with_a_folder_of_its_own_looks_after_that_one_alone(
    container: Container,
) -> None:
    roots = container.link("sha256:0000", tag="roots")
    own = container.cache / "registries/ghcr.io" / roots.relative_to(container.cache)
    own.parent.mkdir(parents=True)
    own.write_text("sha256:0000")
    aged(own)
    container.start(*IN_A_FOLDER)
    assert [roots.exists(), own.exists()] == [True, False]


def test_a_folder_that_is_a_link_is_not_entered(container: Container) -> None:
    (container.cache / "registries").mkdir()
    (container.cache / "registries/ghcr.io").symlink_to("/")
    before = container.outside()
    log = container.start(*IN_A_FOLDER)
    assert [line for line in log if "is no folder" in line]
    assert not [line for line in log if line.startswith("started: ")]
    assert container.outside() == before


HOSTILE = [
    "x\n/victim",
    "x\n",
    "-rf",
    "-delete",
    "a b",
    "$(rm -rf victim)",
    "`rm -rf victim`",
    "*",
    "'; rm -rf /victim; '",
    "\\n",
    "\x1b[2J",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_in_the_cache_is_a_line_or_a_word_of_a_command(
    container: Container, name: str
) -> None:
    nested = [container.cache, container.cache / REPOSITORIES / "library"]
    container.link("sha256:0000", tag=name.replace("/", "\u2215"))
    odd = container.upload(
        name.rpartition("/")[0] + "end", repository="library/" + name.lstrip("/")
    )
    if "/" in name:  # the finding: `rm -rf` of the second line
        (container.cache / REPOSITORIES / "library/x/_uploads" / name).mkdir(parents=True)
        aged(container.cache / REPOSITORIES / "library/x/_uploads" / name.partition("/")[0])
    layer = container.cache / LAYERS / "ab" / name.replace("/", "\u2215") / "data"
    layer.parent.mkdir(parents=True)
    layer.write_bytes(b"whatever")
    before = container.outside()
    log = container.start()
    assert container.outside() == before
    assert (container.root.folder / "victim/file").read_text() == "precious"
    assert all(folder.is_dir() for folder in nested)
    assert not odd.exists()
    assert layer.exists()  # not by a name that the registry writes, so not ours
    assert all(
        line.startswith(("registry mirror: a damaged link was removed", "started: "))
        for line in log
    ), log
    assert all(line.isprintable() for line in log)
    assert len(log) == 2


def linked_folder(container: Container, below: str) -> None:
    """`below` in the cache leads out of it, to a folder that has everything that would be removed
    there."""
    away = container.root.folder / "victim" / "tree"
    inside = {"docker": "registry/v2/repositories/", "docker/registry/v2": "repositories/"}.get(
        below, ""
    )
    for path, text in {
        "a/_uploads/x/data": "x",
        "a/link": "short",
        f"ab/{'0' * 64}/data": "not its name",
    }.items():
        (away / inside / path).parent.mkdir(parents=True, exist_ok=True)
        (away / inside / path).write_text(text)
    aged(away / inside / "a/_uploads/x")
    at = container.cache / below
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to("/victim/tree")


@pytest.mark.parametrize(
    "below",
    [
        "docker",
        "docker/registry/v2",
        REPOSITORIES,
        LAYERS,
        f"{REPOSITORIES}/library",
        f"{LAYERS}/ab",
    ],
)
def test_no_link_out_of_the_cache_is_followed(container: Container, below: str) -> None:
    linked_folder(container, below)
    before = container.outside()
    container.start()
    assert container.outside() == before


@pytest.mark.parametrize(
    "name", [".room", ".checked", "scheduler-state.json", "scheduler-state.json.broken"]
)
@pytest.mark.parametrize("target", ["/victim/file", "/victim", "/victim/new"])
def test_no_file_of_ours_is_written_through_a_link(
    container: Container, name: str, target: str
) -> None:
    if name.endswith(".broken"):
        (container.cache / "scheduler-state.json").write_text("{")
    (container.cache / name).symlink_to(target)
    aged(container.root.folder / "victim/file")
    before = (container.outside(), (container.root.folder / "victim/file").stat().st_mtime)
    log = container.start()
    assert (container.outside(), (container.root.folder / "victim/file").stat().st_mtime) == before
    assert "started: serve /c.yml" in log


def test_another_file_system_in_the_cache_is_not_entered(container: Container) -> None:
    away = container.root.folder / "elsewhere"
    for path in ("x/_uploads/y/data", "y/link", f"{'0' * 64}/data"):
        (away / path).parent.mkdir(parents=True)
        (away / path).write_text("short")
    aged(away / "x/_uploads/y")
    mounted = [
        f"{REPOSITORIES}/library/x/_uploads/old/mounted",
        f"{REPOSITORIES}/other",
        f"{LAYERS}/ab",
    ]
    for folder in mounted:
        (container.cache / folder).mkdir(parents=True)
    aged(container.cache / REPOSITORIES / "library/x/_uploads/old")
    mount = "".join(
        f'mount --bind "$root/tmp" "$root/var/lib/registry/{folder}"\n' for folder in mounted
    )
    container.root.prepare = (
        f'mount -t tmpfs tmpfs "$root/tmp"\ncp -a "$root/elsewhere/." "$root/tmp"\n{mount}'
    )
    container.program("registry", FAKE_REGISTRY + "find /tmp -type f\n")
    started, *left = container.start()
    assert started == "started: serve /c.yml"
    assert len(left) == 3


def test_outside_of_a_container_nothing_is_touched(container: Container) -> None:
    bad = container.layer(b"cut off", "0" * 64)
    log = container.start("/bin/sh", "-c", "/bin/sh /own/start /c.yml; echo ended with $?")
    assert log[-1] == "ended with 1"
    assert "runs in the registry's container only; nothing was done" in log[0]
    assert bad.exists()
    (container.root.folder / ".dockerenv").touch()  # docker's mark, where its own init is process 1
    assert (
        container.start("/bin/sh", "-c", "/bin/sh /own/start /c.yml; echo ended with $?")[-1]
        == "ended with 0"
    )


def test_an_image_without_the_tools_starts_and_says_that_nothing_is_checked(
    container: Container,
) -> None:
    if container.root.busybox is not None:
        pytest.skip("this busybox finds its own tools without PATH")
    (container.own / "wait").unlink()
    shell = container.root.folder / "only"
    shell.mkdir()
    for name in ("head", "rm", "cat"):
        (shell / name).symlink_to(shutil.which(name) or "")
    (shell / "registry").symlink_to("/own/registry")
    container.path = "/only"
    bad = container.layer(b"cut off", "0" * 64)
    log = container.start()
    assert any("the cache is not checked: this image has no find" in line for line in log)
    assert "started: serve /c.yml" in log
    assert bad.exists()


def test_a_cache_that_cannot_be_written_is_named_and_served(container: Container) -> None:
    (container.cache / ".room").mkdir()  # what a full disk does to root, who may write everywhere
    log = container.start()
    assert any("the cache cannot be written" in line for line in log)
    assert "started: serve /c.yml" in log


SERVES_METRICS = """#!/bin/sh
(while :; do nc -l -p 5001 -e /bin/sh -c 'read -r _ path _; printf "HTTP/1.0 200 OK\\r\\n\\r\\nis $path"'; done) 2> /dev/null &
i=0
for path in /metrics /debug/pprof/cmdline /debug/vars; do
  until wget -q -O - http://127.0.0.1:5002$path 2> /dev/null || [ $i -gt 100 ]; do i=$((i + 1)); sleep 0.05; done
done
"""  # noqa: E501
"""Plays the registry's debug server, then asks the script's answerer for three things."""


def metrics(container: Container) -> list[str]:
    """The lines of three answers."""
    if container.root.busybox is None:
        pytest.skip("the registry's image has busybox's nc")
    container.program("registry", SERVES_METRICS)
    return container.start("/bin/sh", "/own/start", "/c.yml", "METRICS=5002")


def others(answers: list[str]) -> list[str]:
    """What is answered besides the disk and the registry's counters."""
    ours = ("registry_mirror_disk_", "registry_proxy_")
    return [line for line in answers if not any(name in line for name in ours)]


def test_a_counter_that_has_not_begun_is_zero(container: Container) -> None:
    zeros = [line for line in metrics(container) if line.startswith("registry_proxy_")]
    assert len(set(zeros)) == 10
    assert 'registry_proxy_pulled_bytes_total{type="blob"} 0' in zeros


def test_whatever_is_asked_for_the_answer_is_the_metrics_and_never_the_profiler(
    container: Container,
) -> None:
    answers = metrics(container)
    assert others(answers) == ["is /metrics"] * 3
    sizes = [line for line in answers if re.fullmatch(r"registry_mirror_disk_size_bytes \d+", line)]
    assert len(sizes) == 3


def test_of_the_notes_in_the_cache_nothing_but_our_own_metrics_is_answered(
    container: Container,
) -> None:
    notes = container.cache / ".usage"
    notes.mkdir()
    good = "# TYPE registry_mirror_cache_bytes gauge\nregistry_mirror_cache_bytes 17\n"
    (notes / "metrics").write_text(
        f'{good}up 0\nregistry_mirror_cache_bytes{{x="y"}} 1\n'
        "registry_proxy_hits_total 1\n<script>registry_mirror_cache_bytes 1\n"
    )
    assert others(metrics(container)) == ["is /metrics", *good.splitlines()] * 3


def test_no_link_among_the_notes_is_followed(container: Container) -> None:
    (container.own / "secret").write_text("registry_mirror_cache_bytes 17\n")
    (container.cache / ".usage").mkdir()
    (container.cache / ".usage/metrics").symlink_to("/own/secret")
    assert not [line for line in metrics(container) if "cache_bytes" in line]


def test_nobody_serves_metrics_where_nobody_asked_for_it(container: Container) -> None:
    container.program(
        "registry", FAKE_REGISTRY + "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 0A '\n"
    )
    assert container.start() == ["started: serve /c.yml", "0"]


SAYS_ITS_WAY_OUT = """#!/bin/sh
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR; do eval "echo $name=\\${$name-}"; done
"""  # noqa: E501
NO_WAY = ["HTTP_PROXY=", "HTTPS_PROXY=", "NO_PROXY=", "SSL_CERT_FILE=", "SSL_CERT_DIR="]


def way_out(container: Container, *words: str) -> list[str]:
    """What the registry finds in its environment."""
    container.program("registry", SAYS_ITS_WAY_OUT)
    return container.start("/bin/sh", "/own/start", "/c.yml", *words, "DIGEST=sha256:0")


def test_the_registry_goes_straight_where_nothing_is_said(container: Container) -> None:
    assert way_out(container) == NO_WAY


def test_the_registry_finds_its_proxy_where_go_looks(container: Container) -> None:
    proxy = "http://proxy.example.com:3128"
    lines = way_out(container, f"PROXY={proxy}", "NO_PROXY=localhost,.corp")
    assert lines == [
        f"HTTP_PROXY={proxy}",
        f"HTTPS_PROXY={proxy}",
        "NO_PROXY=localhost,.corp",
        *NO_WAY[3:],
    ]


def test_a_proxy_with_a_password_comes_from_a_file_character_for_character(
    container: Container,
) -> None:
    proxy = "http://us%24er:$(id)'`p%40s=s*@proxy.example.com:3128"
    (container.own / "secret").write_text(proxy)
    lines = way_out(container, "PROXY_FILE=/own/secret", "NO_PROXY=localhost")
    assert lines == [
        f"HTTP_PROXY={proxy}",
        f"HTTPS_PROXY={proxy}",
        "NO_PROXY=localhost",
        *NO_WAY[3:],
    ]


def test_without_that_file_the_registry_does_not_go_another_way(container: Container) -> None:
    lines = way_out(container, "PROXY_FILE=/own/nowhere", "NO_PROXY=localhost")
    assert (
        lines[-1]
        == "registry mirror: the proxy on the way to the upstream is not known: /own/nowhere is"
        " missing"
    )
    assert not any(line.startswith("HTTP_PROXY") for line in lines)


def test_authorities_are_read_besides_those_of_the_image(container: Container) -> None:
    usual = "/etc/ssl/certs:/etc/pki/tls/certs"
    assert way_out(container, "CA=/etc/upstream-ca") == [
        *NO_WAY[:4],
        f"SSL_CERT_DIR={usual}:/etc/upstream-ca",
    ]


ANSWERS = {
    True: """#!/bin/sh
nc -ll -p 5000 -e /bin/sh -c 'read -r _ path _; echo "$path" >> /own/asked
while read -r line; do case $line in ?) break ;; esac; done # what is not read resets the connection
case $path in /v2/) status=200 ;; *) status=STATUS ;; esac; printf "HTTP/1.1 $status whatever\\r\\n\\r\\n"' &
""",  # noqa: E501
    False: """#!/bin/sh
/usr/bin/python3 -c '
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open("/own/asked", "a").write(self.path + "\\n")
        self.send_response(200 if self.path == "/v2/" else STATUS)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 5000), Answer).serve_forever()' 2> /dev/null &
""",
}
"""Plays the registry on its own port, with busybox or without: STATUS is what is answered for a
layer."""


class Tags:
    """Links to tags in the cache, and a registry whose upstream has a word of its own for a layer
    that nobody has."""

    def __init__(self, container: Container, status: int) -> None:
        self.container = container
        server = ANSWERS[container.root.busybox is not None].replace("STATUS", str(status))
        container.program("registry", server + FAKE_REGISTRY.partition("\n")[2])

    def confirmed(self, name: str, *, days: float) -> Path:
        """A tag that the upstream has confirmed so many days ago."""
        link = self.container.link("sha256:" + "0" * 64, tag=name)
        then = time.time() - days * 86400
        os.utime(link, (then, then))
        return link

    def start(self, *words: str) -> list[str]:
        """The log of a start, but for the registry's."""
        log = self.container.start("/bin/sh", "/own/start", "/c.yml", *words)
        return [line for line in log if not line.startswith("started: ")]

    def left(self) -> list[str]:
        """The tags that are still there."""
        found = (self.container.cache / REPOSITORIES).glob(
            "library/x/_manifests/tags/*/current/link"
        )
        return sorted(path.parent.parent.name for path in found)


def test_a_tag_that_the_upstream_has_not_confirmed_for_long_is_forgotten_and_said(
    container: Container,
) -> None:
    tags = Tags(container, 404)
    for name, days in {"gone": 30.1, "asked-yesterday": 1, "nearly": 29.9}.items():
        tags.confirmed(name, days=days)
    layer = container.layer(GOOD)
    (log,) = tags.start("TAG_DAYS=30")
    assert log == (
        "registry mirror: a tag was forgotten that the upstream has not confirmed for long:"
        " library/x/_manifests/tags/gone"
    )
    assert tags.left() == ["asked-yesterday", "nearly"]
    assert layer.exists()
    asked = (container.own / "asked").read_text().splitlines()
    assert [path.rpartition(":")[0] for path in asked if path != "/v2/"] == [
        "/v2/library/x/blobs/sha256"
    ]
    assert len(asked[-1].rpartition(":")[2]) == 64


@pytest.mark.parametrize("status", [200, 401, 403, 429, 500, 503])
def test_no_tag_is_forgotten_while_the_upstream_does_not_answer(
    container: Container, status: int
) -> None:
    tags = Tags(container, status)
    tags.confirmed("gone", days=99)
    assert tags.start("TAG_DAYS=30") == []
    assert tags.left() == ["gone"]


def test_where_nothing_is_said_of_days_nothing_is_forgotten_and_nobody_asked(
    container: Container,
) -> None:
    tags = Tags(container, 404)
    tags.confirmed("gone", days=999)
    assert tags.start() == []
    assert tags.left() == ["gone"]
    assert not (container.own / "asked").exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_of_a_tag_is_a_line_or_a_word_of_a_command(container: Container, name: str) -> None:
    tags = Tags(container, 404)
    tags.confirmed(name.replace("/", "∕"), days=99)
    (container.own / "asked").touch()
    before = container.outside()
    log = tags.start("TAG_DAYS=30")
    assert container.outside() == before
    assert (container.root.folder / "victim/file").read_text() == "precious"
    assert tags.left() == []
    assert [
        line.startswith("registry mirror: a tag was forgotten") and line.isprintable()
        for line in log
    ] == [True]


def test_no_link_out_of_the_cache_is_followed_to_a_tag(container: Container) -> None:
    tags = Tags(container, 404)
    away = container.root.folder / "victim/tree/_manifests/tags/a/current/link"
    away.parent.mkdir(parents=True)
    away.write_text("short")
    os.utime(away, (0, 0))
    (container.cache / REPOSITORIES / "library").mkdir(parents=True)
    (container.cache / REPOSITORIES / "library/x").symlink_to("/victim/tree")
    assert tags.start("TAG_DAYS=30") == []
    assert away.exists()


def helper(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "helper"
    script.write_text(registry.script("credential-helper.sh"))
    url = "https://registry-1.docker.io"
    return subprocess.run(
        ["/bin/sh", script, *words], input=url, capture_output=True, text=True, check=False
    )


def test_the_helper_answers_nobody_where_there_are_no_credentials(tmp_path: Path) -> None:
    answer = json.loads(helper(tmp_path, "get").stdout)
    assert answer == {"ServerURL": "https://registry-1.docker.io", "Username": "", "Secret": ""}


def test_the_helper_stores_nothing(tmp_path: Path) -> None:
    assert helper(tmp_path, "store").returncode == 1
