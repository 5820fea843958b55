"""Which manifests and layers a pull fetches, and what of a stranger's manifest is not believed."""

import json
from typing import Any

import pytest

from components.registry_mirror.node_agent import manifests
from components.registry_mirror.node_agent.manifests import BadManifest, Blob

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def entry(digest: str, *platform: str) -> dict[str, Any]:
    names = ("os", "architecture", "variant")
    return {"digest": digest, "platform": dict(zip(names, platform, strict=False))}


@pytest.mark.parametrize(
    ("shown", "platform"),
    [
        (("linux", "x86_64"), "linux/amd64"),
        (("linux", "aarch64"), "linux/arm64"),
        (("linux", "armv7l"), "linux/arm/v7"),
        (("linux", "armv6l"), "linux/arm/v6"),
        (("linux", "s390x"), "linux/s390x"),
        (("windows", "x86_64"), "windows/amd64"),
    ],
)
def test_a_nodes_platform_is_named_as_images_have_it(shown: tuple[str, str], platform: str) -> None:
    assert manifests.platform_of(*shown) == platform


ATTESTATION = entry(C, "unknown", "unknown")


@pytest.mark.parametrize(
    ("entries", "platforms", "chosen"),
    [
        (
            [entry(A, "linux", "amd64"), entry(B, "linux", "arm64", "v8"), ATTESTATION],
            ["linux/amd64", "linux/arm64"],
            {A: ["linux/amd64"], B: ["linux/arm64"]},
        ),
        ([entry(A, "linux", "amd64")], ["linux/arm64"], {}),
        ([entry(A, "windows", "amd64")], ["linux/amd64"], {}),
        (
            [entry(A, "linux", "arm", "v6"), entry(B, "linux", "arm", "v7")],
            ["linux/arm/v6", "linux/arm/v7"],
            {A: ["linux/arm/v6"], B: ["linux/arm/v7"]},
        ),
        (
            [entry(A, "linux", "arm", "v6")],
            ["linux/arm/v6", "linux/arm/v7"],
            {A: ["linux/arm/v6", "linux/arm/v7"]},
        ),
        ([entry(A, "linux", "arm")], ["linux/arm/v6", "linux/arm/v7"], {A: ["linux/arm/v7"]}),
        ([{"digest": A}], ["linux/amd64"], {}),
    ],
)
def test_of_an_index_each_node_has_the_best_that_it_runs(
    entries: list[Any], platforms: list[str], chosen: dict[str, list[str]]
) -> None:
    assert manifests.chosen({"manifests": entries}, platforms) == chosen


def image(**more: Any) -> dict[str, Any]:
    layers = [{"digest": B, "size": 5}, {"digest": B, "size": 5}]
    return {"config": {"digest": A, "size": 2}, "layers": layers, **more}


def test_of_an_image_everything_is_fetched_once_and_nothing_that_is_elsewhere() -> None:
    assert manifests.blobs(image()) == [Blob(A, 2), Blob(B, 5)]
    elsewhere = [
        {"digest": B, "size": 5, "urls": ["https://example.com/layer"]},
        {"digest": C, "size": 5, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff"},
    ]
    assert manifests.blobs(image(layers=elsewhere)) == [Blob(A, 2)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"5",
        b"[" * 100_000,
        b"\xff",
        json.dumps({"config": {}, "layers": []}).encode(),
        json.dumps({"layers": []}).encode(),
        json.dumps(image(layers=[5])).encode(),
        json.dumps(image(layers=[{"digest": "sha256:../../etc", "size": 1}])).encode(),
        json.dumps(image(layers=[{"digest": B + "\n", "size": 1}])).encode(),
        json.dumps(image(layers=[{"digest": B, "size": "1"}])).encode(),
        json.dumps(image(layers=[{"digest": B, "size": -1}])).encode(),
        json.dumps({"manifests": ["x"]}).encode(),
        json.dumps({"manifests": [{"digest": B, "platform": "linux"}]}).encode(),
        json.dumps({"manifests": [entry("../x", "linux", "amd64")]}).encode(),
    ],
)
def test_what_is_no_manifest_is_said_and_not_followed(body: bytes) -> None:
    with pytest.raises(BadManifest):
        read_wholly(body)


def read_wholly(body: bytes) -> None:
    manifest = manifests.read(body)
    if manifests.is_index(manifest):
        manifests.chosen(manifest, ["linux/amd64"])
    else:
        manifests.blobs(manifest)
