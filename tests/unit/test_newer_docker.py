"""Where a lab's docker 28 and 29 come from: Docker's own packages if they are Docker's, else
Debian's next release and Go."""

import hashlib
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lab import base_systems, newer_docker
from lab.engines import ENGINES
from lab.newer_docker import Source
from lab.plan import NODES
from tests.serving import in_background
from tools import toolchain
from tools.progress import StageError

KEY = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
SHA256 = hashlib.sha256(KEY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/linux/debian/gpg" else 404)
        self.send_header("Content-Length", str(len(KEY)))
        self.end_headers()
        self.wfile.write(KEY)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    in_background(running)
    yield f"http://127.0.0.1:{running.server_port}/linux/debian"
    running.shutdown()
    running.server_close()


def test_dockers_own_packages_are_taken_with_the_key_that_is_known(
    server: str, tmp_path: Path
) -> None:
    found = newer_docker.from_docker("docker-28", tmp_path, server, SHA256)
    assert found is not None
    assert found.packages == ("docker-ce", "docker-ce-cli", "containerd.io")
    assert "Pin: version 5:28.5.*" in found.preferences
    assert f"URIs: {server}\n" in found.deb822
    assert f"Signed-By: {tmp_path}/docker.asc" in found.deb822
    assert (tmp_path / "docker.asc").read_bytes() == KEY


def test_another_key_is_nobodys(server: str, tmp_path: Path) -> None:
    assert newer_docker.from_docker("docker-28", tmp_path, server, "0" * 64) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["", "/linux"])
def test_a_server_that_is_not_there_or_has_no_key_is_passed_by(
    server: str, path: str, tmp_path: Path
) -> None:
    url = "http://127.0.0.1:1" if not path else server.replace("/linux/debian", "/elsewhere")
    assert newer_docker.from_docker("docker-29", tmp_path, url, SHA256) is None


DEB822 = """Types: deb
URIs: http://archive.test/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://archive.test/debian-security
Suites: trixie-security
Components: main
"""


def test_the_next_releases_sources_are_those_of_this_one_without_updates_and_security() -> None:
    assert newer_docker.next_of(DEB822) == (
        "Types: deb\nURIs: http://archive.test/debian\nSuites: forky\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    one_line = (
        "deb http://archive.test/debian trixie main\ndeb http://archive.test/debian"
        " trixie-updates main\n"
    )
    assert newer_docker.next_of(one_line) == "deb http://archive.test/debian forky main\n"
    assert newer_docker.next_of("") == ""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """What was made, and of which packages, in order; Docker's server is not there."""
    found: list[tuple[str, str]] = []

    def bootstrap(name: str, building: Path, source: Source | None = None) -> None:
        program = building / "usr/sbin/dockerd"
        program.parent.mkdir(parents=True)
        program.write_text(f"docker of {name}")
        found.append((name, source.packages[0] if source else "its release's"))

    def build(name: str, package: str, **_: Any) -> None:
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"built from {package}")

    monkeypatch.setattr(base_systems, "LABS", tmp_path)
    monkeypatch.setattr(base_systems, "_bootstrap", bootstrap)
    monkeypatch.setattr(toolchain, "go_program", build)
    monkeypatch.setattr(toolchain, "BIN", tmp_path / "bin")
    monkeypatch.setattr(newer_docker, "from_docker", lambda *_: None)
    return found


def test_docker_29_is_28_with_a_dockerd_that_was_built_and_28_stays_what_it_is(
    made: list[tuple[str, str]],
) -> None:
    base_systems.make_base("docker-29")
    assert made == [("docker-28", "docker.io")]
    programs = [
        (base_systems.base_folder(name) / "usr/sbin/dockerd").read_text()
        for name in ("docker-28", "docker-29")
    ]
    assert programs == ["docker of docker-28", "built from github.com/moby/moby/v2/cmd/dockerd"]
    base_systems.make_base("docker-28")
    base_systems.make_base("docker-29")
    assert len(made) == 1, "each is made once"


def test_dockers_own_come_first(
    made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        newer_docker, "from_docker", lambda *_: Source(("docker-ce",), "", "Types: deb")
    )
    base_systems.make_base("docker-29")
    assert made == [("docker-29", "docker-ce")]


def test_where_they_cannot_be_installed_there_is_the_other_way(
    made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = base_systems._bootstrap

    def bootstrap(name: str, building: Path, source: Source | None = None) -> None:
        if source and source.packages[0] == "docker-ce":
            (building / "half").mkdir(parents=True)
            raise StageError("no such version")
        usual(name, building, source)

    monkeypatch.setattr(
        newer_docker, "from_docker", lambda *_: Source(("docker-ce",), "", "Types: deb")
    )
    monkeypatch.setattr(base_systems, "_bootstrap", bootstrap)
    base_systems.make_base("docker-29")
    assert made == [("docker-28", "docker.io")]
    assert not (base_systems.base_folder("docker-28") / "half").exists()


def test_a_lab_has_a_containerd_store_an_old_engine_and_a_manager_with_the_store_that_most_have() -> (  # noqa: E501
    None
):
    assert [node.engine for node in NODES] == ["26.1", "20.10", "29"]
    assert [node.has.containerd_store for node in NODES] == [False, False, True]
    assert {engine.base for engine in ENGINES.values()} >= {
        *newer_docker.VERSIONS,
        "bookworm",
        "trixie",
        base_systems.SYSV_SUITE,
    }


def test_on_a_computer_without_debians_sources_the_next_release_comes_from_where_mmdebstrap_goes_by_itself(  # noqa: E501
    tmp_path: Path,
) -> None:
    """Ubuntu: mmdebstrap has written its default into the new tree when its setup hooks run."""
    apt = tmp_path / "etc/apt"
    (apt / "sources.list.d").mkdir(parents=True)
    signed = (
        'deb [signed-by="/usr/share/keyrings/debian-archive-keyring.gpg"]'
        " http://archive.test/debian"
    )
    (apt / "sources.list").write_text(f"{signed} trixie main\n{signed} trixie-updates main\n")
    subprocess.run(["sh", "-c", base_systems._NEXT_OF_DEFAULT, "exec", tmp_path], check=True)
    assert (apt / "sources.list.d/next.list").read_text() == f"{signed} forky main\n"
