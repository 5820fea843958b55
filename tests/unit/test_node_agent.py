"""The node agent's decisions, against a dockerd that keeps moby's rules (lab/fleet/dockerd.py).

The same rules are held against real daemons in tests/e2e; here every branch is reached in
milliseconds.
"""

import json
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import (
    context,
    daemon_json,
    dockerd_view,
    engine,
    files,
    lock,
    node,
    probe,
    record,
    restart,
)
from components.registry_mirror.node_agent.outcome import Outcome
from lab.fleet.dockerd import Dockerd
from tests.fake_docker import (
    OTHER,
    URL,
    FakeDocker,
    KillAt,
    Killed,
    apply,
    edit,
    raises,
    request,
    write,
)


def test_a_node_without_a_file_gets_one_and_loses_it_again(
    docker: FakeDocker, path: Path, tmp_path: Path
) -> None:
    assert apply(request(path)) == Outcome("written-and-reloaded")
    assert docker.mirrors == [URL]
    assert node.remove(request(path)) == "forgotten"
    assert docker.mirrors == []
    assert not path.exists()
    assert not (tmp_path / "state").exists()


def test_a_node_with_a_file_gets_the_same_bytes_back(docker: FakeDocker, path: Path) -> None:
    before = edit(
        docker, path, '{\n\t"registry-mirrors" : [ "https://other.example.com" ],\n"debug":true}'
    )
    node.apply(request(path))
    assert docker.mirrors == [URL, OTHER]
    node.remove(request(path))
    assert path.read_bytes() == before
    assert docker.mirrors == [OTHER]


def test_a_node_that_is_right_is_neither_written_to_nor_reloaded(
    docker: FakeDocker, path: Path
) -> None:
    node.apply(request(path))
    stamp, reloads = path.stat().st_mtime_ns, docker.reloads
    inode = path.stat().st_ino
    assert apply(request(path)) == Outcome("unchanged")
    assert (path.stat().st_mtime_ns, path.stat().st_ino, docker.reloads) == (stamp, inode, reloads)


def test_a_right_file_that_docker_has_not_read_is_only_reloaded(
    docker: FakeDocker, path: Path
) -> None:
    write(path, json.dumps({"registry-mirrors": [URL]}))
    inode = path.stat().st_ino
    assert apply(request(path)) == Outcome("reloaded")
    assert path.stat().st_ino == inode
    assert docker.mirrors == [URL]


def test_mode_and_keys_stay_as_they_were(docker: FakeDocker, path: Path) -> None:
    edit(docker, path, '{"log-driver": "journald"}')
    path.chmod(0o640)
    node.apply(request(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert json.loads(path.read_text())["log-driver"] == "journald"


def test_the_copy_of_the_original_is_for_root_only(
    docker: FakeDocker, path: Path, tmp_path: Path
) -> None:
    edit(docker, path, '{"proxies": {"http-proxy": "http://user:password@proxy"}}')
    node.apply(request(path))
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    (original,) = (tmp_path / "state").glob("*/original")
    assert stat.S_IMODE(original.stat().st_mode) == 0o600
    assert stat.S_IMODE(original.parent.stat().st_mode) == 0o700


def test_a_refused_reload_puts_the_old_bytes_back_and_says_what_docker_said(
    docker: FakeDocker, path: Path, tmp_path: Path
) -> None:
    before = write(path, '{"no-such-key": 1}')
    docker.deaf = True
    with pytest.raises(files.Failed, match=r"unknown key.*the old daemon.json is back"):
        node.apply(request(path))
    assert path.read_bytes() == before
    assert not (tmp_path / "state").exists()


def test_a_refused_reload_removes_a_file_that_was_not_there(docker: FakeDocker, path: Path) -> None:
    docker.deaf = True
    with pytest.raises(files.Failed, match="did not use"):
        node.apply(request(path))
    assert not path.exists()


def test_a_mirror_that_does_not_answer_from_the_node_changes_nothing(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "fault", lambda *_, **__: "the name does not resolve")
    with pytest.raises(
        files.Failed, match="nothing was changed: from this node, the name does not resolve"
    ):
        node.apply(request(path))
    assert not path.exists()
    assert docker.reloads == 0


def test_a_docker_that_hangs_is_found_out_before_anything_is_written(
    docker: FakeDocker, path: Path
) -> None:
    docker.hangs = True
    with pytest.raises(files.Failed, match=r"nothing was changed.*did not answer"):
        node.apply(request(path))
    assert not path.exists()


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1, "a": 1}', '{"registry-mirrors": "x"}'])
@pytest.mark.parametrize("action", ["apply", "remove"])
def test_a_file_that_cannot_be_edited_is_left_alone(
    docker: FakeDocker, path: Path, text: str, action: str
) -> None:
    before = write(path, text)
    with pytest.raises(files.Failed, match=r"nothing was changed: .*daemon.json: "):
        getattr(node, action)(request(path))
    assert path.read_bytes() == before
    assert docker.reloads == 0


def test_an_unfinished_edit_of_somebody_else_is_not_activated_by_telling_the_node(
    docker: FakeDocker, path: Path
) -> None:
    before = write(path, '{"debug": true}')
    with pytest.raises(files.Failed, match="nothing was changed: debug was edited"):
        node.apply(request(path))
    assert (path.read_bytes(), docker.reloads, docker.daemon.live["debug"]) == (before, 0, False)


def test_nor_by_having_it_forget(docker: FakeDocker, path: Path) -> None:
    edit(docker, path, '{"debug": false}')
    node.apply(request(path))
    before, reloads = write(path, path.read_text().replace("false", "true")), docker.reloads
    with pytest.raises(files.Failed, match="nothing was changed: debug was edited"):
        node.remove(request(path))
    assert (path.read_bytes(), docker.reloads, docker.mirrors) == (before, reloads, [URL])


def test_an_unfinished_edit_does_not_matter_where_there_is_nothing_to_do(
    docker: FakeDocker, path: Path
) -> None:
    edit(docker, path, '{"debug": false}')
    node.apply(request(path))
    write(path, path.read_text().replace("false", "true"))
    assert apply(request(path)) == Outcome("unchanged")


def test_another_hostname_takes_the_place_of_the_former_one(docker: FakeDocker, path: Path) -> None:
    before = edit(docker, path, '{"debug": true}')
    node.apply(request(path))
    node.apply(request(path, "https://renamed.example.com"))
    assert docker.mirrors == ["https://renamed.example.com"]
    node.remove(request(path, "https://renamed.example.com"))
    assert path.read_bytes() == before


def test_what_somebody_edited_since_is_kept_when_the_mirror_is_removed(
    docker: FakeDocker, path: Path
) -> None:
    edit(docker, path, '{"debug": true}')
    node.apply(request(path))
    edit(
        docker, path, path.read_text().replace('"debug": true', '"debug": false, "labels": ["new"]')
    )
    node.remove(request(path))
    assert path.read_text() == '{"debug": false, "labels": ["new"]}'
    assert docker.mirrors == []


@pytest.mark.parametrize("url", [URL, "https://renamed.example.com"])
def test_what_somebody_edited_between_two_applies_is_kept_too(
    docker: FakeDocker, path: Path, url: str
) -> None:
    edit(docker, path, '{"debug": true}')
    node.apply(request(path))
    edit(
        docker, path, path.read_text().replace('"debug": true', '"debug": false, "labels": ["new"]')
    )
    node.apply(request(path, url))
    node.remove(request(path, url))
    assert path.read_text() == '{"debug": false, "labels": ["new"]}'


def test_restoring_by_hand_what_we_once_wrote_is_an_edit_too(
    docker: FakeDocker, path: Path
) -> None:
    edit(docker, path, '{"labels": ["rack=b"]}')
    node.apply(request(path))
    once = path.read_text()
    edit(docker, path, '{"labels": ["rack=c"], "registry-mirrors": []}')
    node.apply(request(path))
    edit(docker, path, once)
    node.remove(request(path))
    assert path.read_text() == '{"labels": ["rack=b"]}'


def test_an_entry_that_was_there_before_us_is_removed_too_because_the_mirror_is(
    docker: FakeDocker, path: Path
) -> None:
    edit(docker, path, json.dumps({"registry-mirrors": [URL], "debug": True}))
    assert apply(request(path)) == Outcome("unchanged")
    node.remove(request(path))
    assert json.loads(path.read_text()).get("registry-mirrors", []) == []
    assert docker.mirrors == []


def test_two_mirrors_on_one_node_do_not_disturb_each_other(docker: FakeDocker, path: Path) -> None:
    before = edit(docker, path, '{"debug": true}')
    node.apply(request(path))
    node.apply(request(path, OTHER, owner="second"))
    assert docker.mirrors == [OTHER, URL]
    node.remove(request(path))
    assert docker.mirrors == [OTHER]
    node.remove(request(path, OTHER, owner="second"))
    assert docker.mirrors == []
    assert path.read_bytes() == before


def test_a_renamed_service_leaves_nothing_of_its_former_name(
    docker: FakeDocker, path: Path, tmp_path: Path
) -> None:
    before = edit(docker, path, '{"debug": true}')
    node.apply(request(path, owner="former"))
    node.apply(request(path, owner="renamed"))
    node.remove(request(path, owner="renamed"))
    assert path.read_bytes() == before
    assert not (tmp_path / "state").exists()


def test_removing_where_nothing_is_left_succeeds(docker: FakeDocker, path: Path) -> None:
    assert node.remove(request(path)) == "nothing-to-forget"
    assert docker.reloads == 0


def test_a_mirror_that_docker_has_but_no_file_mentions_is_forgotten(
    docker: FakeDocker, path: Path
) -> None:
    node.apply(request(path))
    path.unlink()
    assert node.remove(request(path)) == "forgotten"
    assert docker.mirrors == []
    assert not path.exists()


def test_a_docker_that_will_not_forget_keeps_its_file(docker: FakeDocker, path: Path) -> None:
    node.apply(request(path))
    before = path.read_bytes()
    docker.deaf = True
    with pytest.raises(files.Failed, match="did not forget"):
        node.remove(request(path))
    assert path.read_bytes() == before
    docker.deaf = False
    assert node.remove(request(path)) == "forgotten"
    assert not path.exists()


def test_a_second_run_that_waits_in_vain_is_refused(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.1)
    with (
        lock.held(context.LOCK, "apply of the mirror other"),
        pytest.raises(files.Failed, match="another roll-out is at work"),
    ):
        node.apply(request(path))


def test_the_end_of_one_mirror_leaves_another_ones_entry_even_where_both_have_one_hostname(
    docker: FakeDocker, path: Path
) -> None:
    node.apply(request(path, owner="first"))
    node.apply(request(path, owner="second"))  # which has taken it over, as a renamed service does
    before = path.read_bytes()
    assert node.remove(request(path, owner="first")) == "nothing-to-forget"
    assert (path.read_bytes(), docker.mirrors) == (before, [URL])
    assert node.remove(request(path, owner="second")) == "forgotten"


def test_what_a_former_version_has_entered_becomes_ours_without_a_write_and_its_removal_leaves_it(
    docker: FakeDocker, path: Path
) -> None:
    former = request(path, owner="hub", keys={"debug": True})
    original = write(path, '{"log-driver": "journald"}\n')
    node.apply(former)
    written, reloads = path.read_bytes(), docker.reloads
    successor = replace(former, owner="hub.2", former="hub")
    assert apply(successor) == Outcome("unchanged")
    assert node.remove(former) == "nothing-to-forget"
    assert (path.read_bytes(), docker.reloads) == (written, reloads)
    assert node.remove(successor) == "forgotten"
    assert path.read_bytes() == original


def test_a_key_that_a_former_version_has_entered_is_taken_back_where_the_new_one_does_not_want_it(
    docker: FakeDocker, path: Path
) -> None:
    former = request(path, owner="hub", keys={"debug": True})
    node.apply(former)
    node.apply(replace(former, owner="hub.2", former="hub", managed_keys={}))
    assert "debug" not in json.loads(path.read_text())


KEYS: dict[str, Any] = {"debug": True, "max-concurrent-downloads": 9}


def test_managed_keys_are_entered_and_given_back(docker: FakeDocker, path: Path) -> None:
    before = edit(docker, path, '{"max-concurrent-downloads":   7}')
    assert apply(request(path, keys=KEYS)) == Outcome("written-and-reloaded")
    assert (docker.daemon.live["debug"], docker.daemon.live["max-concurrent-downloads"]) == (
        True,
        9,
    )
    assert apply(request(path, keys=KEYS)) == Outcome("unchanged")
    node.remove(request(path, keys=KEYS))
    assert path.read_bytes() == before
    assert (docker.daemon.live["debug"], docker.daemon.live["max-concurrent-downloads"]) == (
        False,
        7,
    )


def test_a_key_that_is_no_longer_managed_is_as_it_was(docker: FakeDocker, path: Path) -> None:
    edit(docker, path, '{"max-concurrent-downloads":   7}')
    node.apply(request(path, keys=KEYS))
    node.apply(request(path, keys={"max-concurrent-downloads": 9}))
    assert docker.daemon.live["debug"] is False
    assert "debug" not in json.loads(path.read_text())
    node.apply(request(path))
    assert docker.daemon.live["max-concurrent-downloads"] == 7
    assert (
        path.read_text()
        == '{"max-concurrent-downloads":   7, "registry-mirrors": ["https://mirror.example.com"]}'
    )


def test_a_key_that_somebody_has_changed_since_stays_so(docker: FakeDocker, path: Path) -> None:
    edit(docker, path, '{"max-concurrent-downloads": 7}')
    node.apply(request(path, keys=KEYS))
    edit(docker, path, path.read_text().replace("9", "4"))
    node.remove(request(path, keys=KEYS))
    assert path.read_text() == '{"max-concurrent-downloads": 4}'


def test_two_mirrors_may_hand_over_the_same_and_nothing_else(
    docker: FakeDocker, path: Path
) -> None:
    before = edit(docker, path, "{}")
    node.apply(request(path, keys=KEYS))
    with pytest.raises(
        files.Failed, match="nothing was changed: debug is managed by another mirror"
    ):
        node.apply(request(path, OTHER, owner="second", keys={"debug": False}))
    node.apply(request(path, OTHER, owner="second", keys={"debug": True}))
    node.remove(request(path))
    assert docker.daemon.live["debug"] is True
    assert json.loads(path.read_text()) == {"registry-mirrors": [OTHER], "debug": True}
    node.remove(request(path, OTHER, owner="second"))
    assert path.read_bytes() == before
    assert docker.daemon.live["debug"] is False


def test_a_key_that_docker_does_not_take_over_is_taken_back(docker: FakeDocker, path: Path) -> None:
    before = edit(docker, path, '{"max-concurrent-downloads": 7}')
    node.apply(request(path))
    with_mirror = path.read_bytes()
    docker.deaf = True
    with pytest.raises(
        files.Failed, match=r"did not take the file over.*the old daemon.json is back"
    ):
        node.apply(request(path, keys=KEYS))
    assert path.read_bytes() == with_mirror
    docker.deaf = False
    node.remove(request(path))
    assert path.read_bytes() == before


def test_a_file_that_is_edited_at_the_very_moment_stays_the_editors(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(docker, path, "{}")
    begin = record.Record.begin

    def with_an_editor(*arguments: Any) -> None:
        begin(*arguments)
        write(path, '{"debug": false}')

    monkeypatch.setattr(record.Record, "begin", with_an_editor)
    reloads = docker.reloads
    with pytest.raises(
        files.Failed, match=r"^nothing was changed: .*edited by somebody else at this very moment"
    ):
        node.apply(request(path))
    assert (path.read_text(), docker.reloads) == ('{"debug": false}', reloads)


DRIVER: dict[str, Any] = {"log-driver": "journald"}


def test_what_needs_a_restart_is_refused_unless_restarts_are_allowed(
    docker: FakeDocker, path: Path
) -> None:
    with pytest.raises(
        files.Failed,
        match=r"nothing was changed: log-driver is read by this docker .* at its start only",
    ):
        node.apply(request(path, keys=DRIVER))
    assert not path.exists()


def test_a_restart_is_waited_for_then_done_then_given_back(docker: FakeDocker, path: Path) -> None:
    wish = request(path, keys=DRIVER, may="when-needed")
    assert apply(wish) == Outcome("written-and-reloaded", ("log-driver",))
    assert "log-driver" not in json.loads(
        path.read_text()
    )  # a reboot by chance must not activate it
    assert json.loads(restart.due(wish))["reasons"] == [
        'log-driver is "json-file" and becomes "journald", which needs a restart'
    ]
    assert (restart.run(wish), restart.run(wish)) == ("restarted", "not-needed")
    assert (docker.daemon.live["log-driver"], docker.mirrors) == ("journald", [URL])
    assert json.loads(restart.due(wish))["due"] == []
    assert apply(wish) == Outcome("unchanged")
    release = request(path, may="when-needed")
    assert restart.run(release) == "restarted"
    assert docker.daemon.live["log-driver"] == "json-file"
    assert node.remove(release) == "forgotten"
    assert not path.exists()


def test_a_docker_that_does_not_start_gets_its_old_file_back_and_starts(
    docker: FakeDocker, path: Path
) -> None:
    wish = request(path, keys={"log-opts": {"no-such": "1"}}, may="when-needed")
    node.apply(wish)
    before = path.read_bytes()
    with pytest.raises(
        files.Failed,
        match=r"unknown log opt 'no-such'.*the old daemon.json is back, and docker runs",
    ):
        restart.run(wish)
    assert path.read_bytes() == before
    assert docker.daemon.running
    assert docker.mirrors == [URL]
    assert apply(request(path)) == Outcome("unchanged")


def test_a_log_driver_that_is_not_there_is_refused_because_docker_would_start_with_it_and_no_container_would(  # noqa: E501
    docker: FakeDocker, path: Path
) -> None:
    with pytest.raises(
        files.Failed,
        match="nothing was changed: docker here has no log driver no-such; it has fluentd, gelf",
    ):
        node.apply(request(path, keys={"log-driver": "no-such"}, may="when-needed"))


def test_a_node_that_is_unhealthy_after_its_restart_is_rolled_back(
    docker: FakeDocker, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(docker, path, '{"labels": ["a=b"]}')
    first = request(path, keys=DRIVER, may="when-needed")
    node.apply(first)
    restart.run(first)
    restart.verify(first)
    before = path.read_bytes()
    second = request(path, keys={**DRIVER, "dns": ["192.0.2.1"]}, may="when-needed")
    restart.run(second)
    monkeypatch.setattr(restart, "VERIFY_SECONDS", -1)
    with monkeypatch.context() as patch:
        patch.setattr(probe, "fault", lambda *_, **__: "the name does not resolve")
        with pytest.raises(
            files.Failed,
            match="docker was restarted, and then, from this node, the name does not resolve",
        ):
            restart.verify(second)
    assert restart.undo(second) == "the old daemon.json is back, and docker runs with it"
    assert path.read_bytes() == before
    assert restart.undo(second) == "there is nothing to restore"
    assert not list((tmp_path / "state").glob("*/before-restart"))
    assert json.loads(restart.due(second))["due"] == ["dns"]
    restart.run(request(path, may="when-needed"))
    node.remove(request(path))
    assert path.read_text() == '{"labels": ["a=b"]}'


def test_a_bad_file_that_an_interrupted_run_has_written_is_not_what_comes_back(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = request(path, keys={"log-opts": {"no-such": "1"}}, may="when-needed")
    node.apply(wish)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "restart", raises(Killed))
        with pytest.raises(Killed):
            restart.run(wish)
    assert path.read_bytes() != before
    assert json.loads(restart.due(wish))["unverified"] is True
    with pytest.raises(
        files.Failed,
        match=r"unknown log opt 'no-such'.*the old daemon.json is back, and docker runs",
    ):
        restart.run(wish)
    assert path.read_bytes() == before
    assert docker.daemon.running
    assert json.loads(restart.due(wish))["unverified"] is False
    node.remove(wish)
    assert not path.exists()


def test_an_edit_that_followed_an_interrupted_run_is_what_comes_back(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = request(path, keys={"log-opts": {"no-such": "1"}}, may="when-needed")
    node.apply(wish)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "restart", raises(Killed))
        with pytest.raises(Killed):
            restart.run(wish)
    theirs = edit(docker, path, f'{{"registry-mirrors": ["{URL}"], "debug": true}}')
    with pytest.raises(files.Failed, match=r"the old daemon\.json is back, and docker runs"):
        restart.run(wish)
    assert path.read_bytes() == theirs


def test_a_restart_whose_run_was_killed_is_known_to_be_unverified_until_the_mirror_answers(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = request(path, keys=DRIVER, may="when-needed")
    node.apply(wish)
    before = path.read_bytes()
    for verdict in ("well", "ill"):
        restart.run(wish)
        pending = json.loads(restart.due(wish))
        assert (pending["due"], pending["unverified"]) == ([], True)
        if verdict == "well":
            assert restart.verify(wish) == "healthy"
            assert json.loads(restart.due(wish))["unverified"] is False
            restart.run(request(path, may="when-needed"))
            restart.verify(request(path, may="when-needed"))
        else:
            assert restart.undo(wish) == "the old daemon.json is back, and docker runs with it"
            assert path.read_bytes() == before


def test_live_restore_in_a_swarm_is_in_the_status_and_forbids_the_restart(
    docker: FakeDocker, path: Path
) -> None:
    edit(docker, path, '{"live-restore": true}')
    wish = request(path, keys=DRIVER, may="when-needed")
    assert apply(wish) == Outcome("written-and-reloaded", ("log-driver",))
    with pytest.raises(files.Failed, match="nothing was changed: live-restore is true"):
        restart.run(wish)
    assert docker.daemon.restarts == 0
    status = json.loads(node.look(wish))
    assert status["due"] == ["log-driver"]
    assert "the next start of docker fails" in status["hazards"][0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"data-root": "/srv/docker"}',
            "data-root was edited in .*, but docker has not taken that over, and our restart would",
        ),
        (
            '{"bip": "10.1.0.1/24"}',
            "docker does not show what it has of bip, which our restart may change",
        ),
        (
            '{"default-shm-size": "1m"}',
            "default-shm-size was edited in .*, and our reload would|what it has of"
            " default-shm-size",
        ),
    ],
)
def test_no_restart_finishes_what_somebody_else_has_begun(
    docker: FakeDocker, path: Path, text: str, words: str
) -> None:
    write(path, text)
    with pytest.raises(files.Failed, match=f"nothing was changed: .*({words})"):
        restart.run(request(path, keys=DRIVER, may="when-needed"))
    assert (path.read_text(), docker.daemon.restarts) == (text, 0)
    docker.run("systemctl", "restart", "docker")
    assert restart.run(request(path, keys=DRIVER, may="when-needed")) == "restarted"


def test_our_own_edit_does_not_hide_somebody_elses(docker: FakeDocker, path: Path) -> None:
    write(path, '{"bip": "10.1.0.1/24"}')
    wish = request(path, keys=DRIVER, may="when-needed")
    assert apply(wish) == Outcome("written-and-reloaded", ("log-driver",))
    with pytest.raises(
        files.Failed,
        match="what it has of bip, which our restart may change; restart docker yourself",
    ):
        restart.run(wish)
    assert docker.daemon.restarts == 0
    assert docker.mirrors == [URL]


def test_what_docker_was_started_with_is_no_edit_however_often_we_write(
    docker: FakeDocker, path: Path
) -> None:
    write(path, '{"bip": "10.1.0.1/24", "data-root": "/srv/docker"}')
    docker.run("systemctl", "restart", "docker")
    wish = request(path, keys=DRIVER, may="when-needed")
    assert apply(wish) == Outcome("written-and-reloaded", ("log-driver",))
    node.remove(wish)
    node.apply(wish)
    assert restart.run(wish) == "restarted"
    assert docker.daemon.live["bip"] == "10.1.0.1/24"


def test_a_managed_key_beside_the_flag_of_one_of_its_entries_is_refused_and_no_value_is_printed(
    docker: FakeDocker, path: Path
) -> None:
    docker.arguments = ["/usr/sbin/dockerd", "--http-proxy=http://user:secret@a.test:1"]
    wish = request(path, keys={"proxies": {"http-proxy": "http://b.test:1"}}, may="when-needed")
    with pytest.raises(
        files.Failed, match="on its command line it has flags for http-proxy too"
    ) as failed:
        restart.run(wish)
    assert "secret" not in str(failed.value)
    assert docker.daemon.restarts == 0


def test_a_key_beside_its_flag_is_refused_before_anything_is_written(
    docker: FakeDocker, path: Path
) -> None:
    docker.arguments = ["/usr/sbin/dockerd", "-H=fd://"]
    before = write(path, '{"hosts": ["unix:///var/run/docker.sock"]}')
    for act in (node.apply, restart.run):
        with pytest.raises(
            files.Failed,
            match="nothing was changed: dockerd has the flag --host on its command line",
        ):
            act(request(path, keys=DRIVER, may="when-needed"))
    assert (path.read_bytes(), docker.daemon.restarts, docker.reloads) == (before, 0, 0)


def whole_files(docker: FakeDocker, path: Path, original: str | None) -> set[bytes | None]:
    """Every content that the file may have on the way: with our entries, and what is read once on
    the way there or back."""
    contents: set[bytes | None] = set()
    text = original or ""
    for keys in (KEYS, {**KEYS, **DRIVER}):
        after = daemon_json.add_mirror(text, URL)
        for key, value in keys.items():
            after = daemon_json.set_key(after, key, json.dumps(value))
        defaults = {"debug": False, "max-concurrent-downloads": 3}
        before = text
        for key in KEYS:
            if daemon_json.spelling(before, key) is None:
                before = daemon_json.set_key(before, key, json.dumps(defaults[key]))
        contents |= {after.encode(), daemon_json.add_empty_list(before).encode()}
    return contents


@pytest.mark.parametrize(
    "original",
    [None, "", '{"labels": ["a=b"]}\n', '{"registry-mirrors": ["https://other.example.com"]}'],
)
@pytest.mark.fault(
    "F1",
    "the agent is killed (-9) at any moment: every write, removal and command, before and after",
)
@pytest.mark.fault("F27", "the way back is interrupted itself")
@pytest.mark.parametrize("action", ["apply", "remove", "restart", "fail and go back"])
def test_killed_between_any_two_changes_the_file_is_whole_and_the_next_run_converges(
    docker: FakeDocker,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    original: str | None,
    action: str,
) -> None:
    """Every write, removal and reload is a place to die at; each is died at once, before and after
    it happens."""
    replace, remove, run = files.replace, files.remove, docker.run
    between_and_after = whole_files(docker, path, original)

    for die_at in range(1, 90):
        for folder in (path.parent,):
            folder.mkdir(parents=True, exist_ok=True)
        docker.daemon = Dockerd()
        path.unlink(missing_ok=True)
        if original is not None:
            edit(docker, path, original)
        wish = (
            request(path, keys={**KEYS, **DRIVER}, may="when-needed")
            if action == "restart"
            else request(path, keys=KEYS)
        )
        if action in ("remove", "restart"):
            node.apply(wish)
        docker.deaf = action == "fail and go back"
        allowed = {
            path.read_bytes() if path.exists() else None,
            None if original is None else original.encode(),
        }
        with monkeypatch.context() as patch:
            mortal = KillAt(die_at).mortal
            patch.setattr(files, "replace", mortal(replace))
            patch.setattr(files, "remove", mortal(remove))
            patch.setattr(engine, "run", mortal(run))
            try:
                {"remove": node.remove, "restart": restart.run}.get(action, node.apply)(wish)
                survived = True
            except Killed:
                survived = False
            except files.Failed:
                survived = action == "fail and go back"
        docker.deaf = False
        content = path.read_bytes() if path.exists() else None
        assert content in allowed | between_and_after, (die_at, content)
        if not docker.daemon.running:  # systemd starts what has died (Restart= in docker.service)
            docker.daemon.restart(docker.data, time.time())
        node.apply(wish)
        assert URL in docker.mirrors
        assert docker.daemon.live["debug"] is True
        if action == "restart":
            restart.run(wish)
            assert docker.daemon.live["log-driver"] == "journald"
            restart.run(request(path, may="when-needed"))
            assert docker.daemon.live["log-driver"] == "json-file"
        node.remove(wish)
        assert URL not in docker.mirrors
        assert docker.daemon.live["debug"] is False
        assert (path.read_bytes() if path.exists() else None) == (
            None if original is None else original.encode()
        )
        if survived:
            assert die_at > 8, die_at
            return
    pytest.fail("the run never got through")


MOVED: dict[str, Any] = {"log-level": "warn"}


def loses(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, times: int, **lost: Any) -> None:
    """Have docker come back from its next restarts as something less than it was."""
    info, restarts = docker.daemon.info, docker.daemon.restarts

    def less() -> dict[str, Any]:
        now = info()
        return {**now, **lost} if restarts < docker.daemon.restarts <= restarts + times else now

    monkeypatch.setattr(docker.daemon, "info", less)


LOSSES: list[tuple[dict[str, Any], str]] = [
    (
        {"Swarm": {"LocalNodeState": "inactive", "NodeID": ""}},
        "no active node of its swarm any more",
    ),
    ({"Swarm": {"LocalNodeState": "active", "NodeID": "another"}}, "another node id in the swarm"),
    ({"DockerRootDir": "/elsewhere"}, "its data root is /elsewhere and was /var/lib/docker"),
    ({"Images": 0}, "it has none of its 3 images"),
]


@pytest.mark.parametrize(("lost", "words"), LOSSES)
def test_a_docker_that_comes_back_as_less_than_it_was_is_rolled_back(
    docker: FakeDocker,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: dict[str, Any],
    words: str,
) -> None:
    wish = request(path, keys=MOVED, may="when-needed")
    node.apply(wish)
    before = path.read_bytes()
    loses(docker, monkeypatch, 1, **lost)
    with pytest.raises(
        files.Failed,
        match=rf"docker was restarted, and then .*{words}.*the old daemon.json is back, and docker"
        r" runs",
    ):
        restart.run(wish)
    assert path.read_bytes() == before
    assert docker.daemon.restarts == 2
    assert json.loads(restart.due(wish))["unverified"] is False


def test_a_way_back_that_does_not_lead_back_is_said_to_have_failed(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = request(path, keys=MOVED, may="when-needed")
    node.apply(wish)
    loses(docker, monkeypatch, 2, **LOSSES[0][0])
    with pytest.raises(
        files.Failed,
        match=r"docker runs with it, BUT IS NOT WHAT IT WAS: .*no active node of its swarm",
    ):
        restart.run(wish)


def test_a_node_that_leaves_its_swarm_after_its_restart_is_not_verified(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = request(path, keys=MOVED, may="when-needed")
    node.apply(wish)
    restart.run(wish)
    monkeypatch.setattr(restart, "VERIFY_SECONDS", -1)
    docker.daemon.in_swarm = False
    with pytest.raises(
        files.Failed,
        match="docker was restarted, and then, from this node, it is no active node of its swarm",
    ):
        restart.verify(wish)
    docker.daemon.in_swarm = True
    docker.word = "docker itself does not get the image"
    with pytest.raises(files.Failed, match="from this node, docker itself does not get the image"):
        restart.verify(wish)
    docker.word = None
    assert restart.verify(wish) == "healthy"


def test_where_docker_starts_with_the_old_file_no_more_the_last_one_that_it_was_healthy_with_comes_back(  # noqa: E501
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = request(path, keys=DRIVER, may="when-needed")
    node.apply(first)
    restart.run(first)
    restart.verify(first)
    healthy = path.read_bytes()
    # Somebody's edit that nobody has tried: a reload takes it, a start does not (an option of the
    # driver).
    theirs = write(path, path.read_text().replace("{", '{"log-opts": {"no-such": "1"}, ', 1))
    monkeypatch.setattr(
        restart, "refuse", lambda todo, facts: None
    )  # what refuses such an edit is not what this is about
    second = request(path, keys={**DRIVER, **MOVED}, may="when-needed")
    with pytest.raises(
        files.Failed,
        match=r"DID NOT START WITH IT: .*it runs with the last one that it was healthy with, and",
    ):
        restart.run(second)
    assert path.read_bytes() == healthy
    assert docker.daemon.running
    kept = Path(str(path) + restart.REFUSED)
    assert kept.read_bytes() == theirs
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_docker_that_was_started_with_the_file_is_known_to_be_healthy_with_it(
    docker: FakeDocker, path: Path
) -> None:
    wish = request(path, keys=DRIVER, may="when-needed")
    node.apply(wish)
    before = path.read_bytes()
    docker.started = path.stat().st_mtime + 5
    restart.run(wish)
    assert record.Record(str(path), "registry-mirror").healthy == before


@pytest.mark.parametrize("act", [node.apply, restart.run])
def test_a_file_that_cannot_be_replaced_is_said_to_be_unchanged_and_docker_is_left_alone(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch, act: Any, tmp_path: Path
) -> None:
    before = edit(docker, path, "{}")
    wish = request(path, keys=MOVED, may="when-needed")
    if act is restart.run:
        node.apply(wish)
        before = path.read_bytes()
    counts = (docker.reloads, docker.daemon.restarts)
    replace = files.replace

    def immutable(where: str, *arguments: Any, **more: Any) -> None:
        if where == str(path):
            raise files.FileProblem(f"{path} cannot be replaced: Operation not permitted")
        replace(where, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace", immutable)
        with pytest.raises(
            files.Failed,
            match=r"^nothing was changed: .*cannot be replaced: Operation not permitted$",
        ):
            act(wish)
        if act is restart.run:
            with pytest.raises(
                files.Failed,
                match=r"^nothing was changed: .*cannot be replaced: Operation not permitted$",
            ):
                node.remove(wish)
    assert (path.read_bytes(), docker.reloads, docker.daemon.restarts) == (before, *counts)
    assert json.loads(restart.due(wish))["unverified"] is False
    act(wish)


def test_what_an_interrupted_run_has_written_stays_untried_where_the_next_one_cannot_write(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = request(path, keys=MOVED, may="when-needed")
    node.apply(wish)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "restart", raises(Killed))
        with pytest.raises(Killed):
            restart.run(wish)
    untried, replace = path.read_bytes(), files.replace

    def immutable(where: str, *arguments: Any, **more: Any) -> None:
        if where == str(path):
            raise files.FileProblem(f"{path} cannot be replaced: Operation not permitted")
        replace(where, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace", immutable)
        with pytest.raises(files.Failed, match=r"^nothing was changed: "):
            restart.run(request(path, keys={**MOVED, **DRIVER}, may="when-needed"))
    known = record.Record(str(path), "registry-mirror")
    assert (path.read_bytes(), known.untried, known.before_restart) == (untried, True, before)
    assert restart.run(wish) == "restarted"


def test_a_docker_that_does_not_get_to_the_mirror_is_refused_before_anything_is_changed(
    docker: FakeDocker, path: Path
) -> None:
    docker.word = "docker itself does not get the image; it goes there through its proxy"
    with pytest.raises(
        files.Failed,
        match=r"^nothing was changed: from this node, docker itself does not get the image",
    ):
        node.apply(request(path))
    assert not path.exists()
    assert docker.reloads == 0


def test_a_docker_that_does_not_get_to_the_mirror_once_configured_has_its_old_file_back(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        dockerd_view,
        "refusal",
        lambda *_: "docker itself does not get it" if docker.reloads else None,
    )
    with pytest.raises(
        files.Failed,
        match=r"now that it is configured, docker itself does not get it; the old daemon.json is"
        r" back",
    ):
        node.apply(request(path))
    assert not path.exists()
    assert docker.mirrors == []


def test_a_mirror_without_its_upstream_is_used_and_that_is_said(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        probe, "upstream_fault", lambda *_, **__: "the mirror does not reach its upstream now"
    )
    assert apply(request(path)) == Outcome("written-and-reloaded", (), False)
    assert apply(request(path, keys=DRIVER, may="when-needed")) == Outcome(
        "unchanged", ("log-driver",), False
    )
    status = json.loads(node.look(request(path)))
    assert status["mirror_faults"] == ["the mirror does not reach its upstream now"]
    assert status["faults"] == []


def test_a_status_separates_the_mirrors_faults_from_the_nodes(
    docker: FakeDocker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.apply(request(path))
    for answer, where in (
        (probe.Answer("no route", probe.LONG), "mirror_faults"),
        (probe.Answer("no name"), "faults"),
    ):
        monkeypatch.setattr(probe, "ask", lambda *_, answer=answer: answer)
        status = json.loads(node.look(request(path)))
        assert status[where] == [answer.fault]
        assert sum(len(status[name]) for name in ("faults", "mirror_faults", "swarm_faults")) == 1
    monkeypatch.setattr(probe, "ask", lambda *_: probe.Answer(None))
    docker.daemon.in_swarm = False
    assert (
        "no active node of a swarm here" in json.loads(node.look(request(path)))["swarm_faults"][0]
    )
    docker.word = "docker itself does not get it"
    assert json.loads(node.look(request(path)))["faults"] == ["docker itself does not get it"]


def test_a_key_that_is_taken_out_after_half_a_roll_out_is_given_back_or_one_refusal_says_how(
    docker: FakeDocker, path: Path
) -> None:
    half = request(path, keys=DRIVER, may="when-needed")
    node.apply(half)
    restart.run(half)
    restart.verify(half)
    words = (
        r"log-driver, which is not in daemonKeys any more, and only a restart takes that back"
        r" \[RM138\]; set restart to when-needed"
    )
    with pytest.raises(files.Failed, match=words) as refused:
        node.apply(request(path, may="never"))
    assert "take it out" not in str(refused.value)
    assert docker.daemon.live["log-driver"] == "journald"
    without = request(path, may="when-needed")
    assert apply(without) == Outcome("unchanged", ("log-driver",))
    assert restart.run(without) == "restarted"
    assert docker.daemon.live["log-driver"] == "json-file"
    assert restart.verify(without) == "healthy"
    assert apply(request(path, may="never")) == Outcome("unchanged")


def test_without_systemd_the_end_of_dockers_log_file_says_why_if_it_was_written_to_since(
    tmp_path: Path,
) -> None:
    log = tmp_path / "docker.log"
    log.write_text("x" * 2 * engine.LOG_BYTES + "\nfailed to start daemon: because\n")
    written = log.stat().st_mtime
    assert engine._last_lines(str(log), written - 1)[-1] == "failed to start daemon: because"
    assert len("\n".join(engine._last_lines(str(log), written - 1))) < engine.LOG_BYTES
    assert engine._last_lines(str(log), written + 1) == []
