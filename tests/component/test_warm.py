"""The list `warm`: when its images are fetched, and what an up is told. The engine is mocked."""

from typing import Any

import pytest

from components.registry_mirror import InvalidArgs, Registry, RegistryMirror
from tests.builders import args, node
from tests.recorder import Recorder, request, run

IMAGES = ["traefik:v3.7", "ghcr.io/owner/app@sha256:" + "a" * 64]


def build(**more: Any) -> Recorder:
    settings = args(
        nodes=[node("m1"), node("w1"), node("w2")],
        manager="m1",
        registries=[Registry(name="ghcr.io")],
        **more,
    )
    return run(lambda: RegistryMirror("mirror", settings))


def test_without_the_list_nothing_is_declared() -> None:
    assert not [item for item in build().resources if "warm" in item.name]


def test_images_are_fetched_behind_the_last_node_so_that_they_hold_up_none() -> None:
    found = build(warm=IMAGES)
    warm = found.named("mirror-warm")
    assert {*warm.depends_on} >= {"mirror-node-m1", "mirror-node-w1", "mirror-node-w2"}
    for item in found.resources:
        assert "mirror-warm" not in item.depends_on, item.name


def test_required_images_are_fetched_between_the_gate_and_the_canary() -> None:
    found = build(warm=IMAGES, warm_required=True)
    assert found.named("mirror-warm").depends_on == ["mirror-ready"]
    assert found.named("mirror-node-w1").depends_on == ["mirror-warm"], "the canary"
    assert request(found.named("mirror-warm"))["required"] is True


def test_the_manager_is_asked_for_each_image_by_its_path_at_the_mirror() -> None:
    warm = build(warm=IMAGES).named("mirror-warm")
    assert warm.inputs["create"].endswith(" warm.apply")
    assert "delete" not in warm.inputs, "there is nothing to undo"
    assert warm.inputs["environment"]["MIRROR_NODE"] == "m1"
    asked = request(warm)
    assert [(item["repository"], item["reference"], item["root"]) for item in asked["images"]] == [
        ("library/traefik", "v3.7", True),
        ("ghcr.io/owner/app", "sha256:" + "a" * 64, False),
    ]
    assert (asked["hub"], asked["required"]) == (True, False)
    assert int(warm.inputs["environment"]["MIRROR_SECONDS"]) > asked["seconds"]


def test_with_an_account_the_quota_of_the_address_says_nothing() -> None:
    found = build(warm=IMAGES, upstream_username="u", upstream_token="t", allow_from=["10.0.0.0/8"])
    assert request(found.named("mirror-warm"))["hub"] is False


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"warm": ["quay.io/a/b"]}, "warm[0]", "which this mirror does not cache"),
        ({"warm": ["traefik", "Traefik"]}, "warm[1]", "write traefik"),
        ({"warm": ["traefik", "docker.io/library/traefik:latest"]}, "warm[1]", "is warm[0] too"),
        ({"warm": ["../etc"]}, "warm[0]", "must be an image"),
        ({"warm_required": True}, "warm_required", "warm names no image"),
    ],
)
def test_what_cannot_be_fetched_is_refused_before_anything_is_declared(
    settings: dict[str, Any], key: str, words: str
) -> None:
    with pytest.raises(InvalidArgs) as refused:
        build(**settings)
    assert [fault.key for fault in refused.value.faults] == [key]
    assert words in str(refused.value)
