"""The list of published advisories, and what is compared with it."""

import re
from pathlib import Path

import pytest

from components.registry_mirror import advisories
from components.registry_mirror.render.varnish import VARNISH_FLOOR
from components.registry_mirror.rules import REGISTRY_FLOOR
from lab.images import REGISTRY, VARNISH

DIGEST = "sha256:" + "0" * 64
ROOT = Path(__file__).resolve().parents[2]


def ids(component: str, image: str) -> list[str]:
    return [advisory.id for advisory in advisories.concerning(component, image)]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (f"varnish:7.7.0@{DIGEST}", ["VSV00016", "VSV00018"]),
        (f"varnish:7.6.3@{DIGEST}", ["VSV00018"]),  # a line of releases with a fix of its own
        (f"varnish:7.6.2@{DIGEST}", ["VSV00016", "VSV00018"]),
        (f"varnish:7.7.1@{DIGEST}", ["VSV00018"]),
        (f"varnish:8.0.1@{DIGEST}", []),
        (f"varnish:9.0.0@{DIGEST}", []),
        ("host:5000/varnish:v7.5.0", ["VSV00016", "VSV00018"]),
        ("varnish", []),
        ("varnish:latest", []),
    ],
)
def test_an_image_is_compared_with_the_fix_of_its_line_of_releases(
    image: str, expected: list[str]
) -> None:
    assert ids("varnish", image) == expected


def test_each_component_has_its_own() -> None:
    assert ids("registry", "registry:3.1.1") == ["CVE-2026-46595"]
    assert ids("registry", "registry:2.8.1") == [
        "CVE-2026-33540",
        "CVE-2026-41888",
        "CVE-2026-46595",
        "CVE-2023-2253",
    ]


def test_a_preview_has_one_line_for_each_image_the_worst_first() -> None:
    registry, varnish = advisories.warnings(f"registry:2.8.1@{DIGEST}", f"varnish:7.7.0@{DIGEST}")
    assert registry.startswith(
        "image: registry:2.8.1 is older than the fix of CVE-2026-33540 (high"
    )
    assert varnish.startswith(
        "Varnish's image: varnish:7.7.0 is older than the fix of VSV00016 (medium, fixed in 7.6.3"
        " and"
        " 7.7.1"
    )
    assert advisories.warnings(f"registry:3.1.2@{DIGEST}", None) == []


def test_the_list_is_complete_in_itself() -> None:
    for advisory in advisories.known():
        assert advisory.component in ("registry", "varnish")
        assert advisory.severity in ("low", "medium", "high")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", advisory.date)
        assert advisory.url.startswith("https://")
        assert all(re.fullmatch(r"\d+\.\d+\.\d+", fix) for fix in advisory.fixed)


def test_what_is_shipped_is_older_than_no_fix_of_high_severity() -> None:
    pinned = re.findall(
        r"(?m)^  swarm-registry-mirror:(image|varnishImage): (\S+)",
        "".join(path.read_text() for path in ROOT.glob("Pulumi.*.yaml")),
    )
    assert len(pinned) >= 4
    floors = [
        ("registry", ".".join(map(str, REGISTRY_FLOOR))),
        ("varnish", ".".join(map(str, VARNISH_FLOOR))),
    ]
    images = [("registry" if key == "image" else "varnish", value) for key, value in pinned]
    images += [("registry", REGISTRY.reference), ("varnish", VARNISH.reference)]
    images += [(component, f"{component}:{version}") for component, version in floors]
    for component, image in images:
        assert [
            each.id for each in advisories.concerning(component, image) if each.severity == "high"
        ] == [], image
