"""The node agent where docker goes by hosts.toml: nothing is reloaded, dockerd is asked, and
everything comes back.

dockerd's part is played by a reader of the file that is not ours (`FakeHosts.asked`); the real ones
are in tests/e2e.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from components.registry_mirror.node_agent import (
    dockerd_view,
    files,
    node,
    preflight,
    restart,
    seen,
)
from components.registry_mirror.node_agent.outcome import Outcome
from tests.builders import tomllib
from tests.fake_docker import (
    URL,
    FakeDocker,
    Killed,
    apply,
    edit,
    raises,
    request,
    write,
)
from tests.fake_hosts import OTHER, OURS, FakeHosts, kill_at, look


def test_docker_goes_by_the_file_and_daemon_json_stays_what_it_is(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path
) -> None:
    before = edit(docker, path, '{"debug": true}')
    reloads, there = docker.reloads, by_hosts.everything()
    assert apply(request(path)) == Outcome("written")
    assert by_hosts.text == OURS
    assert by_hosts.asked() == [URL, "docker.io"]
    assert apply(request(path)) == Outcome("unchanged")
    assert (path.read_bytes(), docker.reloads) == (before, reloads)
    assert node.remove(request(path)) == "forgotten"
    assert node.remove(request(path)) == "nothing-to-forget"
    assert (by_hosts.everything(), docker.reloads) == (there, reloads)


def test_nothing_is_left_of_a_node_that_had_nothing(
    by_hosts: FakeHosts, path: Path, tmp_path: Path
) -> None:
    node.apply(request(path))
    (by_hosts.file.parent / (files.TEMPORARY + "0123")).write_text("left by a run that was killed")
    node.remove(request(path))
    assert not path.parent.exists()
    assert not (tmp_path / "state").exists()


def test_a_folder_in_which_somebody_has_put_something_meanwhile_stays(
    by_hosts: FakeHosts, path: Path
) -> None:
    node.apply(request(path))
    write(by_hosts.file.parent / "notes", "mine")
    node.remove(request(path))
    assert [found.name for found in by_hosts.file.parent.iterdir()] == ["notes"]


def test_other_hosts_stay_before_and_after(by_hosts: FakeHosts, path: Path) -> None:
    before = write(by_hosts.file, "# ours\n" + OTHER)
    by_hosts.file.chmod(0o600)  # it may hold a header with a secret
    node.apply(request(path))
    assert by_hosts.asked() == [URL, "https://other.example.com", "docker.io"]
    assert by_hosts.file.stat().st_mode & 0o777 == 0o600
    node.remove(request(path))
    assert by_hosts.file.read_bytes() == before


def test_what_somebody_edits_meanwhile_stays_without_us(by_hosts: FakeHosts, path: Path) -> None:
    write(by_hosts.file, OTHER)
    node.apply(request(path))
    assert by_hosts.text is not None
    write(by_hosts.file, by_hosts.text.replace('["pull"]', '["pull", "resolve"]'))
    assert look(request(path))["edited"] is True
    node.remove(request(path))
    assert by_hosts.text == OTHER.replace('["pull"]', '["pull", "resolve"]')


def test_a_host_of_the_administrators_own_is_kept_and_not_taken_out(
    by_hosts: FakeHosts, path: Path, tmp_path: Path
) -> None:
    before = write(by_hosts.file, f'[host."{URL}"]\ncapabilities = ["resolve", "pull"]\n')
    assert apply(request(path)) == Outcome("unchanged")
    assert look(request(path))["used"] is True
    assert node.remove(request(path)) == "nothing-to-forget"
    assert by_hosts.file.read_bytes() == before
    assert not (tmp_path / "state").exists()


def test_another_mirror_of_ours_keeps_its_host(by_hosts: FakeHosts, path: Path) -> None:
    second = request(path, "https://second.example.com", "second")
    node.apply(second)
    node.apply(request(path))
    assert by_hosts.asked()[:2] == [URL, "https://second.example.com"]
    node.remove(second)
    assert by_hosts.text == OURS
    node.remove(request(path))
    assert by_hosts.text is None


def test_a_renamed_mirror_takes_the_place_of_the_former(by_hosts: FakeHosts, path: Path) -> None:
    node.apply(request(path))
    assert apply(request(path, "https://new.example.com")) == Outcome("written")
    assert by_hosts.asked() == ["https://new.example.com", "docker.io"]
    node.remove(request(path, "https://new.example.com"))
    assert by_hosts.text is None


def test_dockerds_own_view_decides_and_the_old_file_comes_back(
    by_hosts: FakeHosts, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write(by_hosts.file, OTHER)
    monkeypatch.setattr(seen, "complaint", lambda *_: "docker did not connect to it")
    with pytest.raises(
        files.Failed,
        match=r"^now that it is configured, docker did not connect.*hosts\.toml is back$",
    ):
        node.apply(request(path))
    assert by_hosts.file.read_bytes() == before
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda h: write(h.file, "not toml"), "line 1 has a key without a value"),
        (
            lambda h: write(h.file, '[host."https://o.test"]\ncapabilities = ["fetch"]\n'),
            'unknown capability "fetch"',
        ),
        (lambda h: write(h.file, f'[host."{URL}"]\n'), "with all capabilities, push among them"),
        (lambda h: write(h.file, "# Ansible managed\n"), "another program writes this file"),
        (
            lambda h: (
                write(h.folder / "other", OTHER),
                h.file.parent.mkdir(),
                h.file.symlink_to("../other"),
            ),
            "it is a link",
        ),
        (
            lambda h: (write(h.folder / "x/hosts.toml", OTHER), h.file.parent.symlink_to("x")),
            "its folder is one",
        ),
        (lambda h: h.file.mkdir(parents=True), "is a directory"),
        (lambda h: write(h.folder / "_default/hosts.toml", OTHER), "goes by .*_default today"),
        (lambda h: write(h.folder / "_default/ca.crt", "x"), "goes by .*_default today"),
        (lambda h: write(h.folder / "docker.io/ca.crt", "x"), "only where there is no hosts.toml"),
        (
            lambda h: edit(h.docker, h.docker.path, '{"registry-mirrors": ["https://o.test"]}'),
            r"ignores registry-mirrors \(https://o",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_changed(
    by_hosts: FakeHosts,
    path: Path,
    tmp_path: Path,
    prepare: Callable[[FakeHosts], object],
    words: str,
) -> None:
    prepare(by_hosts)
    before = by_hosts.everything()
    with pytest.raises(files.Failed, match=f"^nothing was changed: .*{words}"):
        node.apply(request(path))
    assert by_hosts.everything() == before
    assert not (tmp_path / "state").exists()
    found = look(request(path))
    assert found["used"] is False
    assert found["faults"]


def test_a_default_that_says_nothing_is_in_nobodys_way(by_hosts: FakeHosts, path: Path) -> None:
    write(by_hosts.folder / "_default/hosts.toml", "")
    assert apply(request(path)) == Outcome("written")


def test_the_mirrors_own_certificates_are_named_in_the_file(
    by_hosts: FakeHosts, path: Path
) -> None:
    folder = by_hosts.folder / "mirror.example.com"
    for name in ("ca.crt", "me.cert", "me.key", "lone.cert"):
        write(folder / name, "x")
    node.apply(request(path))
    entered = tomllib.loads(by_hosts.text)["host"][URL]
    assert entered["ca"] == [str(folder / "ca.crt")]
    assert entered["client"] == [[str(folder / "me.cert"), str(folder / "me.key")]]


def test_keys_are_managed_beside_it(by_hosts: FakeHosts, docker: FakeDocker, path: Path) -> None:
    wish = request(path, keys={"debug": True})
    assert apply(wish) == Outcome("written-and-reloaded")
    assert (docker.daemon.live["debug"], docker.mirrors) == (True, [])
    assert by_hosts.asked()[0] == URL
    assert apply(wish) == Outcome("unchanged")
    assert look(wish)["faults"] == []
    assert node.remove(wish) == "forgotten"
    assert not path.parent.exists() or not any(path.parent.iterdir())
    assert docker.daemon.live["debug"] is False


def test_a_managed_key_that_somebody_has_removed_is_drift(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path
) -> None:
    wish = request(path, keys={"debug": True})
    node.apply(wish)
    path.unlink()
    docker.reload()
    found = look(wish)
    assert (found["listed"], found["used"]) == (True, True)
    assert found["faults"]
    assert apply(wish) == Outcome("written-and-reloaded")
    assert look(wish)["faults"] == []


@pytest.mark.parametrize(
    "removed", [True, False], ids=["the file was removed by hand", "the file is there"]
)
def test_a_key_that_is_managed_no_more_leaves_no_empty_file(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path, removed: bool
) -> None:
    node.apply(request(path, keys={"debug": True}))
    if removed:
        path.unlink()
        docker.reload()
    node.apply(request(path))
    assert apply(request(path)) == Outcome("unchanged")
    assert node.remove(request(path)) == "forgotten"
    assert not path.exists()
    assert docker.daemon.live["debug"] is False


def test_where_the_keys_fail_the_host_goes_too(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.deaf = True
    with pytest.raises(
        files.Failed, match=r"the old daemon\.json is back; the old .*hosts\.toml is back"
    ):
        node.apply(request(path, keys={"debug": True}))
    assert by_hosts.text is None


def test_an_engine_that_has_come_to_read_the_file_is_moved_there(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path
) -> None:
    docker.daemon.containerd_store = False
    before = edit(docker, path, '{"labels": ["a=b"]}')
    node.apply(request(path))
    docker.daemon.containerd_store = True
    found = look(request(path))
    assert (found["way"], found["listed"], found["used"]) == ("hosts.toml", False, False)
    assert apply(request(path)) == Outcome("written-and-reloaded")
    assert (by_hosts.text, path.read_bytes(), docker.mirrors) == (OURS, before, [])
    assert look(request(path))["faults"] == []
    assert node.remove(request(path)) == "forgotten"
    assert (by_hosts.text, path.read_bytes()) == (None, before)


def test_an_engine_that_reads_it_no_more_is_moved_back(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path
) -> None:
    write(by_hosts.file, OTHER)
    node.apply(request(path))
    docker.daemon.containerd_store = False
    found = look(request(path))
    assert (found["way"], found["used"]) == ("daemon.json", False)
    assert "which docker does not read with this image store" in " ".join(found["faults"])
    assert apply(request(path)) == Outcome("written-and-reloaded")
    assert (by_hosts.text, docker.mirrors) == (OTHER, [URL])
    assert node.remove(request(path)) == "forgotten"
    assert (by_hosts.text, path.exists()) == (OTHER, False)


@pytest.mark.parametrize("version", ["28.0.0", "28.5.2", "29.2.1"])
def test_an_engine_that_a_reload_harms_is_moved_without_one(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path, version: str
) -> None:
    docker.daemon.containerd_store = False
    node.apply(request(path))
    docker.daemon.version, docker.daemon.containerd_store = version, True
    reloads = docker.reloads
    assert apply(request(path)) == Outcome("written")
    assert (by_hosts.asked()[0], docker.reloads) == (URL, reloads)
    assert "which does no harm" in " ".join(look(request(path))["hazards"])
    assert apply(request(path)) == Outcome("unchanged")
    # It is in the running docker yet, and would be asked again without the file.
    with pytest.raises(
        files.Failed, match=r"host-gateway.*restart docker yourself.*hosts\.toml is back"
    ):
        node.remove(request(path))
    assert by_hosts.asked()[0] == URL
    docker.daemon.version = "29.3.0"
    assert node.remove(request(path)) == "forgotten"
    assert (by_hosts.asked(), path.exists()) == (["docker.io"], False)


HURT = ["28.0.0", "28.5.2", "29.0.0", "29.2.1"]


@pytest.mark.parametrize("version", HURT)
def test_a_reload_that_harms_is_refused_with_the_remedies(
    docker: FakeDocker, path: Path, version: str
) -> None:
    docker.daemon.version = version
    with pytest.raises(
        files.Failed,
        match=r"nothing was changed: .*host-gateway.*29\.3.*when-needed.*acceptBrokenHostGateway",
    ):
        node.apply(request(path))
    assert (docker.reloads, path.exists()) == (0, False)
    assert apply(replace(request(path), accept_broken_host_gateway=True)) == Outcome(
        "written-and-reloaded"
    )
    with pytest.raises(files.Failed, match=r"nothing was changed: .*host-gateway"):
        node.remove(request(path))
    assert node.remove(replace(request(path), accept_broken_host_gateway=True)) == "forgotten"


@pytest.mark.parametrize("version", ["27.5.1", "29.3.0", "29.10.0", "20.10.24"])
def test_other_engines_are_reloaded(docker: FakeDocker, path: Path, version: str) -> None:
    docker.daemon.version = version
    assert apply(request(path)) == Outcome("written-and-reloaded")


@pytest.mark.parametrize("version", HURT)
def test_where_restarts_are_allowed_one_is_done_in_place_of_the_reload(
    docker: FakeDocker, path: Path, version: str
) -> None:
    docker.daemon.version = version
    wish = request(path, keys={"debug": True}, may="when-needed")
    assert apply(wish) == Outcome("unchanged", ("registry-mirrors", "debug"))
    assert (docker.reloads, path.exists()) == (0, False)  # a reboot by chance must not activate it
    found = json.loads(restart.due(wish))
    assert found["due"] == ["registry-mirrors", "debug"]
    for key in found["due"]:
        assert any(
            reason.startswith(f"{key} would be taken over by a reload")
            for reason in found["reasons"]
        )
    assert restart.run(wish) == "restarted"
    assert restart.verify(wish) == "healthy"
    assert (docker.mirrors, docker.daemon.live["debug"], docker.reloads) == ([URL], True, 0)
    assert apply(wish) == Outcome("unchanged")
    assert look(wish)["faults"] == []
    # With another value it is the same once more.
    wish = request(path, keys={"debug": False}, may="when-needed")
    assert apply(wish) == Outcome("unchanged", ("registry-mirrors", "debug"))
    assert restart.run(wish) == "restarted"
    assert (docker.daemon.live["debug"], docker.reloads) == (False, 0)


def test_the_reason_names_what_is_lost_in_which_engine() -> None:
    assert preflight.reload_hurts({"ServerVersion": "29.0.1"}) is not None
    assert "and its dns" in str(preflight.reload_hurts({"ServerVersion": "29.0.1"}))
    assert "dns" not in str(preflight.reload_hurts({"ServerVersion": "28.5.2+dfsg1"}))


@pytest.mark.fault(
    "F1",
    "the agent is killed (-9) at any moment: every step of the way of hosts.toml, before and after",
)
@pytest.mark.parametrize("original", [None, "", OTHER, "# odd \t\n\n" + OTHER + " \n"])
@pytest.mark.parametrize(
    "action", ["apply", "remove", "fail and go back", "move there", "move back"]
)
def test_killed_between_any_two_steps_the_file_is_whole_and_the_next_run_converges(
    by_hosts: FakeHosts,
    docker: FakeDocker,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    original: str | None,
    action: str,
) -> None:
    wish = request(path)
    for die_at in range(1, 200):
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        shutil.rmtree(path.parent, ignore_errors=True)
        docker.daemon = type(docker.daemon)("29.7.2", containerd_store=action != "move there")
        if original is not None:
            write(by_hosts.file, original)
        docker.daemon.containerd_store = action != "move there"
        if action in ("remove", "move there", "move back"):
            node.apply(wish)
        docker.daemon.containerd_store = action != "move back"
        allowed = {
            original,
            OURS if not original else OURS + "\n" + original if original.startswith("[") else None,
        }
        with monkeypatch.context() as patch:
            answers = raises(files.Failed) if action == "fail and go back" else seen.complaint
            kill_at(patch, die_at, docker, answers)
            try:
                (node.remove if action == "remove" else node.apply)(wish)
                survived = True
            except Killed:
                survived = False
            except files.Failed:
                survived = action == "fail and go back"
                assert survived
        if original is None or original.startswith("[") or not original:
            assert by_hosts.text in allowed, (die_at, by_hosts.text)
        elif by_hosts.text != original:
            assert by_hosts.text is not None
            tomllib.loads(by_hosts.text)
            assert by_hosts.text.replace(OURS + "\n", "") == original
        node.apply(wish)
        assert by_hosts.asked()[0] == URL
        assert (URL in docker.mirrors) == (action == "move back")
        node.remove(wish)
        assert (
            by_hosts.asked()
            == ["https://other.example.com", "docker.io"][
                not (original and action != "move back") :
            ]
        )
        assert by_hosts.text == original
        assert not path.exists()
        assert not (tmp_path / "state").exists()
        if original is None:
            assert not by_hosts.folder.exists(), die_at
        if survived:
            assert die_at > 8, die_at
            return
    pytest.fail("the run never got through")


def test_what_the_kernel_says_of_connections_is_read_as_it_is() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout"
        " inode\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0"
        " 100 1 0 100 0 0 10 0\n"
        "   1: 0B00000A:A1B2 0A00000A:01BB 01 00000000:00000000 00:00000000 00000000     0        0"
        " 101 1 0 20 4 30 10 -1\n"
        "   2: 0B00000A:A1B3 C0A80001:01BB 02 00000000:00000000 00:00000000 00000000     0        0"
        " 102 1 0\n"
        "   3: 0000000000000000FFFF00000B00000A:A1B4 0000000000000000FFFF00000A00000A:01BB 01 0:0"
        " 0:0 0 0 0 103 1\n"
        "   4: B80D0120000000000000000001000000:A1B4 B80D0120000000000000000002000000:01BB 01 0:0"
        " 0:0 0 0 0 104 1\n"
        "nonsense\n"
    )
    assert seen.connections(table) == [
        ("101", "10.0.0.10", 443),
        ("102", "1.0.168.192", 443),
        ("103", "10.0.0.10", 443),
        ("104", "2001:db8::2", 443),
    ]


def test_a_docker_that_goes_through_a_proxy_cannot_be_watched_and_is_not_doubted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dockerd_view, "socket_path", lambda: "/run/docker.sock")
    assert (
        seen.complaint("docker.io", "library/x:1", URL, "http://proxy.example.com:3128", "docker")
        is None
    )
