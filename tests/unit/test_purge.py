"""What belongs to an image in the cache, and what a stranger's names in it cannot do. The scripts
themselves run on a real cache in tests/e2e/test_chain_images.py."""

import json
from typing import Any

import pytest

from components.registry_mirror.node_agent import containers, purge
from components.registry_mirror.node_agent.files import Failed
from components.registry_mirror.node_agent.verb_request import BanRequest, PurgeRequest

INDEX, OTHER, CHILD, SHARED, LAYER, CONFIG, THEIRS = (letter * 64 for letter in "abcdef0")


def listing(*lines: str) -> purge.Listed:
    return purge.read_list("\n".join(lines))


LIST = listing(
    f"tag 1 sha256:{INDEX}",
    f"tag stable sha256:{INDEX}",
    f"tag 2 sha256:{OTHER}",
    *(f"revision {digits}" for digits in (INDEX, OTHER, CHILD)),
    *(f"layer {digits}" for digits in (SHARED, LAYER, CONFIG, THEIRS)),
    f"names {INDEX} {CHILD}",
    *(f"names {CHILD} {digits}" for digits in (SHARED, LAYER, CONFIG)),
    *(f"names {OTHER} {digits}" for digits in (SHARED, THEIRS)),
)


@pytest.mark.parametrize(
    ("reference", "going"),
    [
        ("1", (["1", "stable"], [INDEX, CHILD], [LAYER, CONFIG])),
        (f"sha256:{INDEX}", (["1", "stable"], [INDEX, CHILD], [LAYER, CONFIG])),
        ("2", (["2"], [OTHER], [THEIRS])),
        ("3", ([], [], [])),
        (f"sha256:{LAYER}", ([], [], [])),
    ],
)
def test_an_image_goes_with_its_tags_and_with_what_no_other_image_needs(
    reference: str, going: tuple[list[str], list[str], list[str]]
) -> None:
    assert tuple(purge.what_goes(LIST, reference)) == tuple(map(sorted, going))


def test_a_manifest_that_another_index_names_stays_with_its_layers() -> None:
    text = listing(
        f"tag 1 sha256:{INDEX}",
        *(f"revision {digits}" for digits in (INDEX, OTHER, CHILD)),
        f"layer {LAYER}",
        f"names {INDEX} {CHILD}",
        f"names {OTHER} {CHILD}",
        f"names {CHILD} {LAYER}",
    )
    assert purge.what_goes(text, "1") == (["1"], [INDEX], [])


def test_a_tag_whose_manifest_is_gone_goes_alone() -> None:
    assert purge.what_goes(listing(f"tag 1 sha256:{INDEX}"), "1") == (["1"], [], [])


def test_a_name_in_the_cache_that_is_none_of_the_registrys_is_left_out() -> None:
    found = listing(
        f"tag ../../x sha256:{INDEX}",
        f"tag -rf sha256:{INDEX}",
        f"tag a;reboot sha256:{INDEX}",
        f"tag ok sha256:{INDEX}x",
        "layer ../../../etc",
        f"layer {LAYER.upper()}",
        "revision",
        f"names {INDEX}",
        f"names {INDEX} $(id)",
        "",
    )
    assert found == purge.Listed({}, set(), {}, set())


@pytest.mark.parametrize(
    ("folder", "repository", "reference"),
    [
        ("../etc", "a", "1"),
        ("registries/..", "a", "1"),
        ("registries/a/b", "a", "1"),
        ("", "../a", "1"),
        ("", "a/../b", "1"),
        ("", "/a", "1"),
        ("", "a/", "1"),
        ("", "a b", "1"),
        ("", "a\nb", "1"),
        ("", "a", "../1"),
        ("", "a", "-rf"),
        ("", "a", "sha256:abc"),
        ("", "a", f"sha256:{INDEX}/.."),
        ("", "a", ""),
    ],
)
def test_nothing_is_run_for_a_name_that_no_registry_has(
    monkeypatch: pytest.MonkeyPatch, folder: str, repository: str, reference: str
) -> None:
    monkeypatch.setattr(containers, "script_in", lambda *words: pytest.fail(f"ran {words}"))
    with pytest.raises(Failed, match="RM269"):
        purge.run(PurgeRequest("registry", folder, repository, reference))


@pytest.mark.parametrize("repository", ["", "a/../b", "a|b", '.*"', "a b", "a\nvcl.discard"])
def test_varnish_is_told_nothing_but_the_path_of_a_repository(
    monkeypatch: pytest.MonkeyPatch, repository: str
) -> None:
    monkeypatch.setattr(containers, "of_service", lambda service: pytest.fail("asked"))
    with pytest.raises(Failed, match="RM268"):
        purge.ban(BanRequest("front", repository))


def test_every_varnish_of_a_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []

    def run_in(*words: str) -> str:
        ran.append(words)
        return ""

    monkeypatch.setattr(containers, "of_service", lambda service: ["one", "two"])
    monkeypatch.setattr(containers, "run_in", run_in)
    assert purge.ban(BanRequest("front", "ghcr.io/a/b")) == "2"
    assert {words[0] for words in ran} == {"one", "two"}
    assert ran[0][-3:] == ("req.url", "~", "^/v2/ghcr[.]io/a/b/")


def test_where_the_task_is_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "of_service", lambda service: [])
    found: dict[str, Any] = json.loads(purge.run(PurgeRequest("registry", "", "a", "1")))
    assert (found["here"], found["manifests"]) == (False, 0)


def test_a_layer_that_another_repository_has_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def script_in(_: str, script: str, *words: str) -> str:
        if script == purge.LIST:
            return "\n".join(
                [f"tag 1 sha256:{CHILD}", f"revision {CHILD}"]
                + [f"layer {each}\nnames {CHILD} {each}" for each in (SHARED, LAYER)]
            )
        if script == purge.ELSEWHERE:
            assert words[2].split() == sorted([SHARED, LAYER])
            return SHARED
        ran.extend(words[2:])
        return "data 7\ndata x\n"

    monkeypatch.setattr(containers, "script_in", script_in)
    found = json.loads(purge.run(PurgeRequest("registry", "", "a", "1")))
    assert found == {"here": True, "tags": ["1"], "manifests": 1, "layers": 1, "bytes": 7}
    assert ran == ["tag:1", f"revision:{CHILD}", f"layer:{LAYER}", f"data:{CHILD}", f"data:{LAYER}"]
