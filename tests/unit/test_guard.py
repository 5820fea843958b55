"""The guard: what it does to a machine's hosts.toml, run in a root of its own; its service; what
the agent lays beside it."""

import contextlib
import json
import re
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import dockerd_view, files, guard, hosts, node
from components.registry_mirror.node_agent.outcome import Outcome
from components.registry_mirror.node_agent.request import GuardRequest, NodeRequest
from components.registry_mirror.render import registry
from tests.container_root import ContainerRoot, why_not
from tests.fake_docker import URL, FakeDocker, apply, request, write
from tests.fake_hosts import OTHER, OURS, FakeHosts, look
from tests.serving import self_signed

BUSYBOX = Path(__file__).resolve().parents[2] / ".lab/base/trixie/bin/busybox"
OF_GHCR = OURS.replace(URL, f"{URL}/v2/ghcr.io")
SERVER = r"""
import os, socket, ssl, threading, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("FOLDER/mirror.example.com.crt", "FOLDER/mirror.example.com.key")
def mode():
    return open("FOLDER/mode").read().strip()
def serve(raw):
    try:
        with open("FOLDER/connections", "a") as file: file.write("x")
        connection = context.wrap_socket(raw, server_side=True)
        while True:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += connection.recv(4096) or exit()
            while mode() == "silent": time.sleep(0.1)
            if mode() == "refuse": return raw.close()
            status = b"503 no" if mode() == "503" else b"200 OK"
            connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n")
    except (OSError, SystemExit):
        raw.close()
while True:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 443)); listener.listen(); listener.settimeout(0.1)
    while mode() != "refuse":
        try: threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
        except TimeoutError: pass
    listener.close()
    while mode() == "refuse": time.sleep(0.1)
"""


class Machine:
    """A machine's certs.d, a mirror, and the guard between them. Its seconds are tenths."""

    def __init__(self, folder: Path) -> None:
        prepare = f"python3 {folder}/server.py & "
        self.root = ContainerRoot(folder / "root", BUSYBOX, prepare)
        self.folder = folder
        self.certs = folder / "root/certs"
        self.certs.mkdir()
        self.file = self.certs / "docker.io/hosts.toml"
        (folder / "root/etc/hosts").write_text("127.0.0.1 mirror.example.com\n")
        self_signed(folder, "mirror.example.com")
        (folder / "server.py").write_text(SERVER.replace("FOLDER", str(folder)))
        script = registry.script("guard.sh").replace("every=3 patience=3", "every=0.2 patience=1")
        (folder / "root/own/guard").write_text(script.replace("look_again=20", "look_again=4"))
        self.mirror("well")
        self.log = folder / "log"

    def mirror(self, mode: str) -> None:
        (self.folder / "mode.new").write_text(mode)
        (self.folder / "mode.new").rename(self.folder / "mode")

    def prepared(self, with_us: str, without: str, registry: str = "docker.io") -> None:
        """As the node agent leaves the machine."""
        write(self.certs / registry / "hosts.toml", with_us)
        write(self.certs / registry / ".hub.with", with_us)
        write(self.certs / registry / ".hub.without", without)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        tables = ("docker.io", OURS, "ghcr.io", OF_GHCR)
        running = self.root.start(
            "/bin/sh", "/own/guard", "mirror.example.com", "443", "hub", *tables
        )
        try:
            time.sleep(0.5)
            yield
        finally:
            # The first process of the namespace is unshare's child: it gets what docker would send.
            child = subprocess.run(
                ["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=False
            ).stdout.split()
            if child:
                subprocess.run(["kill", "-TERM", child[0]], check=False)
            try:
                self.said = running.communicate(timeout=10)[0]
            except subprocess.TimeoutExpired:
                running.kill()
                raise

    def text(self, registry: str = "docker.io") -> str | None:
        file = self.certs / registry / "hosts.toml"
        return file.read_text() if file.exists() else None


def until(true: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if why_not():
        pytest.skip(why_not())
    if not BUSYBOX.exists():
        pytest.skip("no busybox: the lab's base system is not there")
    return Machine(tmp_path)


@pytest.mark.parametrize("mode", ["refuse", "silent", "503"])
@pytest.mark.parametrize("without", ["", OTHER])
def test_a_mirror_that_does_not_answer_is_taken_out_and_put_back(
    machine: Machine, mode: str, without: str
) -> None:
    machine.prepared(f"{OURS}\n{without}" if without else OURS, without)
    there = machine.text()
    with machine.guarded():
        time.sleep(1)
        assert machine.text() == there
        machine.mirror(mode)
        until(lambda: machine.text() == without)
        machine.mirror("well")
        until(lambda: machine.text() == there)
    assert "taken out of hosts.toml" in machine.said
    assert "put back into hosts.toml" in machine.said
    assert machine.text() == there


def test_the_mirror_is_taken_out_of_all_registries_that_the_agent_has_entered(
    machine: Machine,
) -> None:
    machine.prepared(OURS, "")
    machine.prepared(OF_GHCR, OTHER, "ghcr.io")
    write(machine.certs / "quay.io/hosts.toml", OTHER)  # somebody's, or one without fallback
    with machine.guarded():
        machine.mirror("refuse")
        until(lambda: (machine.text(), machine.text("ghcr.io")) == ("", OTHER))
        machine.mirror("well")
        until(lambda: (machine.text(), machine.text("ghcr.io")) == (OURS, OF_GHCR))
    assert machine.text("quay.io") == OTHER
    assert "ghcr.io: the mirror does not answer" in machine.said


def test_one_connection_is_kept_and_asked_again(machine: Machine) -> None:
    machine.prepared(OURS, "")
    with machine.guarded():
        until(lambda: (machine.folder / "connections").exists())
        time.sleep(3)
        # The first handshake may be tried twice: busybox's own client knows no -I.
        assert len((machine.folder / "connections").read_text()) <= 2


def test_what_somebody_has_edited_stays_his(machine: Machine) -> None:
    machine.prepared(OURS, "")
    edited = OURS + "\n" + OTHER
    write(machine.file, edited)
    with machine.guarded():
        machine.mirror("refuse")
        time.sleep(4)
        assert machine.text() == edited
    assert machine.text() == edited


def test_a_guard_that_ends_while_the_mirror_is_away_leaves_what_the_agent_has_written(
    machine: Machine,
) -> None:
    machine.prepared(OURS, "")
    with machine.guarded():
        machine.mirror("refuse")
        until(lambda: machine.text() == "")
    assert machine.text() == OURS


def test_a_machine_that_no_agent_has_come_to_is_covered_and_left_without_a_trace(
    machine: Machine,
) -> None:
    with machine.guarded():
        until(lambda: (machine.text(), machine.text("ghcr.io")) == (OURS, OF_GHCR))
        machine.mirror("refuse")
        until(lambda: (machine.text(), machine.text("ghcr.io")) == ("", ""))
        machine.mirror("well")
        until(lambda: (machine.text(), machine.text("ghcr.io")) == (OURS, OF_GHCR))
    assert list(machine.certs.iterdir()) == []


def test_a_registry_of_which_docker_has_files_is_left_and_the_others_are_covered(
    machine: Machine,
) -> None:
    write(machine.certs / "docker.io/ca.crt", "somebody's")
    with machine.guarded():
        until(lambda: machine.text("ghcr.io") == OF_GHCR)
        assert machine.text() is None
    assert [str(file.relative_to(machine.certs)) for file in machine.certs.rglob("*.*t")] == [
        "docker.io/ca.crt"
    ]


@pytest.mark.parametrize(
    "there", ["docker.io/hosts.toml", "docker.io/ca.crt", "_default/hosts.toml", ".hub.leave"]
)
def test_a_machine_with_files_of_its_own_is_left_as_it_is(machine: Machine, there: str) -> None:
    write(machine.certs / there, OTHER)
    before = {
        str(found): found.read_text() for found in machine.certs.rglob("*") if found.is_file()
    }
    with machine.guarded():
        time.sleep(2)
    assert {
        str(found): found.read_text() for found in machine.certs.rglob("*") if found.is_file()
    } == before
    assert "left as it is" in machine.said


def guarded(path: Path) -> NodeRequest:
    return replace(request(path), guard=True)


def beside(by_hosts: FakeHosts, suffix: str) -> Path:
    return by_hosts.file.parent / f".registry-mirror.{suffix}"


def test_the_agent_lays_both_versions_beside_the_file(by_hosts: FakeHosts, path: Path) -> None:
    write(by_hosts.file, OTHER)
    by_hosts.file.chmod(0o600)
    assert apply(guarded(path)) == Outcome("written")
    assert (beside(by_hosts, "with").read_text(), beside(by_hosts, "without").read_text()) == (
        OURS + "\n" + OTHER,
        OTHER,
    )
    assert beside(by_hosts, "with").stat().st_mode & 0o777 == 0o600
    stamp = beside(by_hosts, "with").stat().st_mtime_ns
    assert apply(guarded(path)) == Outcome("unchanged")
    assert beside(by_hosts, "with").stat().st_mtime_ns == stamp
    assert apply(request(path)) == Outcome("unchanged")  # the guard is given up
    assert [found.name for found in by_hosts.file.parent.iterdir()] == ["hosts.toml"]
    node.apply(guarded(path))
    node.remove(guarded(path))
    assert [found.name for found in by_hosts.file.parent.iterdir()] == ["hosts.toml"]
    assert by_hosts.text == OTHER


def test_what_the_guard_has_taken_out_is_no_drift_and_is_told(
    by_hosts: FakeHosts, path: Path
) -> None:
    node.apply(guarded(path))
    by_hosts.file.write_bytes(beside(by_hosts, "without").read_bytes())
    beside(by_hosts, "state").write_text("out 1764172800\n")
    found = look(guarded(path))
    assert (found["listed"], found["used"], found["edited"], found["faults"]) == (
        True,
        True,
        False,
        [],
    )
    assert (
        "since 2025-11-26 16:00:00 UTC the guard has the mirror out of" in found["mirror_faults"][0]
    )
    assert apply(guarded(path)) == Outcome("written")
    assert by_hosts.text == OURS
    beside(by_hosts, "state").write_text("in 1764172800\n")
    assert "put it back at 2025-11-26 16:00:00 UTC" in look(guarded(path))["hazards"][0]
    by_hosts.file.write_bytes(beside(by_hosts, "without").read_bytes())
    node.remove(guarded(path))
    assert not by_hosts.folder.exists()


def test_the_agent_takes_a_machine_over_that_the_guard_came_to_first(
    by_hosts: FakeHosts, path: Path, tmp_path: Path
) -> None:
    for suffix, text in (("with", OURS), ("without", ""), ("made", "")):
        write(beside(by_hosts, suffix), text)
    write(by_hosts.file, OURS)
    assert apply(guarded(path)) == Outcome("written")
    assert not beside(by_hosts, "made").exists()
    assert look(guarded(path))["faults"] == []
    assert apply(guarded(path)) == Outcome("unchanged")
    node.remove(guarded(path))
    assert not by_hosts.file.parent.exists()
    assert not (tmp_path / "state").exists()


def test_a_guard_is_kept_from_machines_that_do_not_read_the_file(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path
) -> None:
    docker.daemon.containerd_store = False
    before = by_hosts.everything()
    node.apply(guarded(path))
    assert (by_hosts.folder / ".registry-mirror.leave").exists()
    docker.daemon.containerd_store = True
    node.apply(guarded(path))
    assert not (by_hosts.folder / ".registry-mirror.leave").exists()
    docker.daemon.containerd_store = False
    node.apply(guarded(path))
    node.remove(guarded(path))
    assert by_hosts.everything() == before


class Api:
    """docker's API, as far as services go."""

    def __init__(self) -> None:
        self.services: dict[str, Any] = {}
        self.asked: list[str] = []

    def __call__(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, str]:
        self.asked.append(f"{method} {path.partition('?')[0]}")
        if path == "/services/create":
            assert body is not None
            self.services[body["Name"]] = {
                "ID": "id-" + body["Name"],
                "Version": {"Index": 7},
                "Spec": body,
            }
            return 201, json.dumps({"ID": "id1"})
        name = path.split("/")[2]
        found = next(
            (found for key, found in self.services.items() if name in (key, found["ID"])), None
        )
        if found is None:
            return 404, json.dumps({"message": "no such service"})
        if method == "DELETE":
            self.services.pop(found["Spec"]["Name"])
        elif method == "POST":
            assert path.endswith("?version=7")
            found["Spec"] = body
        return 200, json.dumps(found)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    found = Api()
    monkeypatch.setattr(guard, "_request", found)
    return found


WISH = GuardRequest(
    name="hub-guard",
    owner="hub",
    image="registry@sha256:0",
    script="x",
    arguments=["mirror.example.com"],
)


def test_the_service_is_made_kept_changed_and_removed(api: Api) -> None:
    assert guard.apply(WISH) == "created"
    container = api.services["hub-guard"]["Spec"]["TaskTemplate"]["ContainerSpec"]
    binds = [mount for mount in container["Mounts"] if mount["Type"] == "bind"]
    assert [bind["Source"] for bind in binds] == ["/etc/docker/certs.d"]
    # Which a machine that has just joined has not: a task makes it, once on each, and is over.
    job = api.services["hub-guard-folder"]["Spec"]
    assert (job["Mode"], job["TaskTemplate"]["RestartPolicy"]["Condition"]) == (
        {"Global": {}},
        "on-failure",
    )
    assert job["TaskTemplate"]["ContainerSpec"]["Command"] == [
        "mkdir",
        "-p",
        "/host/docker/certs.d",
    ]
    assert (container["ReadOnly"], container["CapabilityDrop"]) == (True, ["ALL"])
    api.asked.clear()
    assert guard.apply(WISH) == "unchanged"
    assert api.asked == ["GET /services/hub-guard-folder", "GET /services/hub-guard"]
    assert guard.apply(replace(WISH, script="y")) == "updated"
    assert guard.remove(WISH) == "removed"
    assert api.services == {}
    assert guard.remove(WISH) == "nothing to remove"


def test_somebody_elses_service_of_that_name_stays(api: Api) -> None:
    api.services["hub-guard"] = {"ID": "id1", "Version": {"Index": 7}, "Spec": {"Labels": {}}}
    for act in (guard.apply, guard.remove):
        with pytest.raises(
            files.Failed, match="nothing was changed: the service hub-guard is somebody else's"
        ):
            act(WISH)


class Docker(socketserver.ThreadingUnixStreamServer):
    """docker's socket: keeps what was asked, and answers what it is given."""

    def __init__(self, address: str, answer: bytes) -> None:
        asked: list[str] = []

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += self.rfile.readline()
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = self.rfile.read(int(length[1])) if length else b""
                asked.append(f"{head.decode().splitlines()[0]} {body.decode()}")
                self.wfile.write(answer)

        super().__init__(address, Handler)
        self.asked = asked
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", (200, "{}")),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\n\xff", (404, "\ufffd")),
        (b"", "nothing was changed: docker's API does not answer"),
        (b"no HTTP\r\n\r\n", "nothing was changed: docker's API does not answer"),
    ],
)
def test_docker_is_asked_through_its_socket_and_what_is_no_answer_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, outcome: tuple[int, str] | str
) -> None:
    server = Docker(f"{tmp_path}/docker.sock", answer)
    monkeypatch.setattr(dockerd_view, "socket_path", lambda: f"{tmp_path}/docker.sock")
    try:
        if isinstance(outcome, str):
            with pytest.raises(files.Failed, match=outcome):
                guard._request("GET", "/services/hub-guard")
        else:
            assert guard._request("POST", "/services/create", {"Name": "x"}) == outcome
            assert server.asked == ['POST /services/create HTTP/1.1 {"Name": "x"}']
    finally:
        server.shutdown()
        server.server_close()


def test_a_docker_whose_socket_is_elsewhere_is_asked_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dockerd_view, "socket_path", lambda: None)
    with pytest.raises(files.Failed, match="docker's socket is not on this machine"):
        guard._request("GET", "/services/hub-guard")


def test_a_service_that_docker_does_not_take_is_told_in_its_own_words(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        return api(method, path) if method == "GET" else (400, '{"message": "invalid mount"}')

    monkeypatch.setattr(guard, "_request", refuses)
    with pytest.raises(
        files.Failed,
        match="nothing was changed: docker does not take the guard's service: invalid mount",
    ):
        guard.apply(WISH)
    assert api.services == {}


def test_url_of_the_table_is_the_mirrors() -> None:
    assert URL in OURS
    assert hosts.beside("/c/docker.io/hosts.toml", "hub", "with") == "/c/docker.io/.hub.with"
