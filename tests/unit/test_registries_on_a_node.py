"""Registries besides Docker Hub on a node: a hosts.toml for each, nothing is reloaded, and all come
back."""

from dataclasses import replace
from pathlib import Path

import pytest

from components.registry_mirror.node_agent import files, hosts, node, seen
from components.registry_mirror.node_agent.outcome import Outcome
from components.registry_mirror.node_agent.request import NodeRegistry, NodeRequest
from tests.fake_docker import URL, FakeDocker, Killed, apply, raises, request, write
from tests.fake_hosts import OTHER, OURS, FakeHosts, kill_at, look

GHCR = NodeRegistry("ghcr.io", "ghcr.io")
ALIAS = NodeRegistry("lscr.io", "ghcr.io")
STRICT = NodeRegistry("quay.io", "quay.io", fallback=False)
WITH_PORT = NodeRegistry("registry.example.com:5000", "registry.example.com_5000")
OF_GHCR = OURS.replace(URL, f"{URL}/v2/ghcr.io") + "  override_path = true\n"
OF_QUAY = f'server = "{URL}/v2/quay.io"\ncapabilities = ["pull", "resolve"]\noverride_path = true\n'


def wanted(path: Path, *registries: NodeRegistry, guard: bool = False) -> NodeRequest:
    return replace(request(path), registries=list(registries), guard=guard)


def test_each_registry_has_a_file_of_its_own_and_nothing_is_reloaded(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path
) -> None:
    before, reloads = by_hosts.everything(), docker.reloads
    assert apply(wanted(path, GHCR, ALIAS, WITH_PORT)) == Outcome("written")
    assert by_hosts.text == OURS
    assert by_hosts.text_of("ghcr.io") == by_hosts.text_of("lscr.io") == OF_GHCR
    assert by_hosts.asked("lscr.io") == [f"{URL}/v2/ghcr.io", "lscr.io"]
    assert f'"{URL}/v2/registry.example.com_5000"' in str(
        by_hosts.text_of("registry.example.com:5000")
    )
    assert apply(wanted(path, GHCR, ALIAS, WITH_PORT)) == Outcome("unchanged")
    assert node.remove(wanted(path, GHCR, ALIAS, WITH_PORT)) == "forgotten"
    assert (by_hosts.everything(), docker.reloads) == (before, reloads)


def test_an_alias_of_the_registry_at_the_root_leads_to_the_root(
    by_hosts: FakeHosts, path: Path
) -> None:
    apply(wanted(path, NodeRegistry("hub.example.com", "")))
    assert by_hosts.text_of("hub.example.com") == OURS


def test_a_registry_that_is_added_or_removed_changes_its_file_alone(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path
) -> None:
    apply(request(path))
    there, reloads = by_hosts.everything(), docker.reloads
    stamp = by_hosts.file.stat().st_mtime_ns
    assert apply(wanted(path, GHCR)) == Outcome("written")
    assert by_hosts.text_of("ghcr.io") == OF_GHCR
    assert apply(request(path)) == Outcome("written")
    assert (by_hosts.everything(), docker.reloads) == (there, reloads)
    assert by_hosts.file.stat().st_mtime_ns == stamp


def test_without_fallback_docker_asks_the_mirror_and_nobody_else(
    by_hosts: FakeHosts, path: Path
) -> None:
    before = by_hosts.everything()
    assert apply(wanted(path, STRICT)) == Outcome("written")
    assert by_hosts.text_of("quay.io") == OF_QUAY
    assert by_hosts.asked("quay.io") == [f"{URL}/v2/quay.io"]
    assert apply(wanted(path, STRICT)) == Outcome("unchanged")
    view = look(wanted(path, STRICT))
    assert (view["registries"], view["faults"]) == (["docker.io", "quay.io"], [])
    node.remove(wanted(path, STRICT))
    assert by_hosts.everything() == before


def test_docker_hub_can_be_without_fallback_too(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path
) -> None:
    strict = replace(wanted(path, GHCR), fallback=False)
    assert apply(strict) == Outcome("written")
    assert by_hosts.text == OF_QUAY.replace("/v2/quay.io", "").replace("override_path = true\n", "")
    view = look(strict)
    assert (view["listed"], view["used"], view["faults"]) == (True, True, [])
    assert apply(strict) == Outcome("unchanged")
    assert apply(wanted(path, GHCR)) == Outcome("written")
    assert by_hosts.text == OURS
    node.remove(strict)
    assert not by_hosts.folder.exists()
    docker.daemon.live["registry-mirrors"] = ["https://other.example.com"]
    with pytest.raises(
        files.Failed, match=r"docker would ask its registry-mirrors \(https://other"
    ):
        apply(strict)
    docker.daemon.containerd_store = False
    with pytest.raises(files.Failed, match=r"fallback is false for docker\.io, and this docker"):
        apply(strict)


def test_fallback_can_be_taken_away_and_given_back(by_hosts: FakeHosts, path: Path) -> None:
    loose = replace(STRICT, fallback=True)
    for registry in (loose, STRICT, loose):
        assert apply(wanted(path, registry)) == Outcome("written")
        asked = [f"{URL}/v2/quay.io", *(["quay.io"] if registry.fallback else [])]
        assert by_hosts.asked("quay.io") == asked
    node.remove(wanted(path, loose))
    assert not by_hosts.folder.exists()


def test_a_file_of_somebody_is_never_the_mirrors_as_a_whole(
    by_hosts: FakeHosts, path: Path
) -> None:
    theirs = by_hosts.folder / "quay.io" / "hosts.toml"
    write(theirs, OTHER)
    with pytest.raises(files.Failed, match="fallback is false for this registry"):
        apply(wanted(path, GHCR, STRICT))
    assert theirs.read_text() == OTHER
    assert by_hosts.text_of("ghcr.io") is None  # where one cannot be changed, none is
    assert by_hosts.text is None


def test_what_somebody_adds_to_a_strict_file_stays_and_what_they_edit_is_theirs_to_mend(
    by_hosts: FakeHosts, path: Path
) -> None:
    file = by_hosts.folder / "quay.io" / "hosts.toml"
    apply(wanted(path, STRICT))
    write(file, f"{OF_QUAY}\n{OTHER}")
    with pytest.raises(files.Failed, match="fallback is false for this registry"):
        apply(wanted(path, STRICT))
    node.remove(wanted(path, STRICT))
    assert file.read_text() == OTHER
    file.unlink()
    apply(wanted(path, STRICT))
    edited = OF_QUAY.replace("override_path", "# a remark\noverride_path")
    write(file, edited)
    with pytest.raises(files.Failed, match="lines around it are not as this program wrote"):
        node.remove(wanted(path, STRICT))
    assert file.read_text() == edited


@pytest.mark.parametrize(
    ("version", "containerd", "why"),
    [("26.1.5", True, "it is older than 28.0"), ("29.7.2", False, "its image store is not")],
)
def test_a_docker_that_does_not_read_the_files_is_refused_strict_registries_and_told_the_others(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path, version: str, containerd: bool, why: str
) -> None:
    docker.daemon.version, docker.daemon.containerd_store = version, containerd
    before = by_hosts.everything()
    with pytest.raises(
        files.Failed, match=f"fallback is false for quay.io, and this docker .* because {why}"
    ):
        apply(wanted(path, GHCR, STRICT))
    assert by_hosts.everything() == before
    apply(wanted(path, GHCR))
    view = look(wanted(path, GHCR))
    assert (view["registries"], view["faults"]) == (["docker.io"], [])
    assert "mirror.example.com/ghcr.io/OWNER/IMAGE" in "".join(view["hazards"])
    assert by_hosts.text_of("ghcr.io") is None


def test_a_docker_that_changes_its_image_store_loses_the_files_of_all_registries(
    by_hosts: FakeHosts, docker: FakeDocker, path: Path
) -> None:
    apply(wanted(path, GHCR, STRICT))
    docker.daemon.containerd_store = False
    faults = "".join(look(wanted(path, GHCR))["faults"])
    assert "ghcr.io/hosts.toml, which docker does not read" in faults
    apply(wanted(path, GHCR))
    assert not by_hosts.folder.exists()


def test_status_names_a_file_that_is_not_as_it_should_be(by_hosts: FakeHosts, path: Path) -> None:
    apply(wanted(path, GHCR, ALIAS))
    (by_hosts.folder / "ghcr.io" / "hosts.toml").unlink()
    view = look(wanted(path, GHCR, ALIAS))
    assert view["registries"] == ["docker.io", "lscr.io"]
    assert f"the mirror is not in {by_hosts.folder}/ghcr.io/hosts.toml" in "".join(view["faults"])
    assert view["edited"]
    faults = "".join(look(wanted(path, GHCR))["faults"])
    assert f"the mirror is in {by_hosts.folder}/lscr.io/hosts.toml" in faults
    assert apply(wanted(path, GHCR)) == Outcome("written")
    assert look(wanted(path, GHCR))["faults"] == []


def test_docker_that_does_not_ask_leaves_all_files_as_they_were(
    by_hosts: FakeHosts, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = by_hosts.everything()
    monkeypatch.setattr(seen, "complaint", lambda *words: "no" if words[0] == "lscr.io" else None)
    with pytest.raises(files.Failed, match="now that it is configured, no"):
        apply(wanted(path, GHCR, ALIAS))
    assert by_hosts.everything() == before


def test_the_guard_has_both_versions_of_each_file_but_of_a_strict_one(
    by_hosts: FakeHosts, path: Path
) -> None:
    apply(wanted(path, GHCR, STRICT, guard=True))
    laid = {str(file.relative_to(by_hosts.folder)) for file in by_hosts.folder.rglob(".*.with*")}
    assert laid == {
        f"{registry}/.registry-mirror.{suffix}"
        for registry in ("docker.io", "ghcr.io")
        for suffix in ("with", "without")
    }


def test_what_lies_among_our_records_and_is_no_hosts_toml_of_ours_is_left_alone(
    by_hosts: FakeHosts, path: Path, tmp_path: Path
) -> None:
    apply(wanted(path, GHCR))
    write(tmp_path / "state/full", "somebody's file")
    write(tmp_path / "state/etc-other-daemon.json/record.json", "damaged")
    assert apply(wanted(path)) == Outcome("written")
    assert by_hosts.text_of("ghcr.io") is None
    write(tmp_path / "state" / str(by_hosts.file).strip("/").replace("/", "-") / "record.json", "?")
    with pytest.raises(files.FileProblem, match="is damaged"):
        hosts.own_paths("registry-mirror")


def test_a_port_is_part_of_the_folder() -> None:
    assert (
        hosts.path_of("a.example.com:5000") == "/etc/docker/certs.d/a.example.com_5000_/hosts.toml"
    )


@pytest.mark.fault("F1", "the agent is killed (-9) at any moment: the files of several registries")
@pytest.mark.parametrize("action", ["add", "remove one", "remove all", "fail and go back"])
def test_killed_between_any_two_steps_every_file_is_whole_and_the_next_run_converges(
    by_hosts: FakeHosts,
    docker: FakeDocker,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
) -> None:
    all_of_them, fewer = wanted(path, GHCR, STRICT), wanted(path, STRICT)
    allowed = {"docker.io": OURS, "ghcr.io": OF_GHCR, "quay.io": OF_QUAY}
    for moment in range(1, 200):
        if action.startswith("remove"):
            node.apply(all_of_them)
        with monkeypatch.context() as patch:
            answers = raises(files.Failed) if action == "fail and go back" else seen.complaint
            kill_at(patch, moment, docker, answers)
            try:
                if action == "remove all":
                    node.remove(all_of_them)
                else:
                    node.apply(fewer if action == "remove one" else all_of_them)
                survived = True
            except Killed:
                survived = False
            except files.Failed:
                survived = True
        for registry, whole in allowed.items():
            assert by_hosts.text_of(registry) in (None, whole)
        node.apply(fewer)
        assert by_hosts.asked("quay.io") == [f"{URL}/v2/quay.io"]
        assert by_hosts.asked("ghcr.io") == ["ghcr.io"]
        node.remove(fewer)
        assert not by_hosts.folder.exists(), moment
        if survived:
            assert moment > 8
            return
    pytest.fail("the run never got through")
