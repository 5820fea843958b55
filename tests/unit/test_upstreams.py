"""What may be asked for of further registries, and what is refused, all together."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.render import registries
from components.registry_mirror.upstreams import MADE_UP, Registry, faults

CASES = Path(__file__).parent / "cases" / "registries"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_a_list_of_registries_has_exactly_these_faults(path: Path) -> None:
    """`faults`: key -> words that its fault has."""
    case: dict[str, Any] = json.loads(path.read_text())
    listed = [Registry(**values) for values in case["registries"]]
    found = faults(listed, "registries", has_allow_list=case["has_allow_list"])
    assert [fault.key for fault in found] == list(case["faults"])
    for fault in found:
        assert case["faults"][fault.key] in fault.wrong


def test_no_fault_repeats_a_token() -> None:
    listed = [
        Registry(name="ghcr.io", token="s3cret"),
        Registry(name="x", username="u", token="s3cret"),
    ]
    found = faults(listed, "registries", has_allow_list=False)
    assert found
    assert "s3cret" not in "".join(map(str, found)) + repr(listed)


def test_more_registries_than_varnish_has_room_for_are_refused() -> None:
    listed = [Registry(name=f"r{index}.example.com") for index in range(registries.MOST + 1)]
    (fault,) = faults(listed, "registries", has_allow_list=True)
    assert fault.key == "registries"


def test_a_port_is_part_of_a_path_without_its_colon() -> None:
    assert registries.path_of("registry.example.com:5000") == "registry.example.com_5000"
    assert registries.suffix_of("registry.example.com:5000") == "-registry-example-com-5000"
    assert registries.folder_of("ghcr.io") == "registries/ghcr.io"


def test_an_alias_of_the_root_alone_is_a_path_too_and_without_any_nothing_is_chosen() -> None:
    text = "#@routes"
    assert registries.configuration(text, [], []) == ""
    assert '"^/v2/(hub\\.example\\.com)/"' in registries.configuration(
        text, [], ["docker.io", "hub.example.com"]
    )


@pytest.mark.parametrize(
    ("settings", "known", "made_up"),
    [
        ({"name": "ghcr.io"}, "home-assistant/home-assistant", f"{MADE_UP}/{MADE_UP}"),
        ({"name": "ghcr.io", "check_repository": "a/b"}, "a/b", f"{MADE_UP}/{MADE_UP}"),
        ({"name": "r.test"}, None, f"{MADE_UP}/{MADE_UP}"),
        ({"name": "quay.io", "repositories": ["coreos/*"]}, None, f"coreos/{MADE_UP}"),
        ({"name": "quay.io", "repositories": ["prometheus/*"]}, "prometheus/busybox", None),
        ({"name": "quay.io", "repositories": ["coreos/*", "coreos/etcd"]}, "coreos/etcd", None),
    ],
)
def test_a_registry_is_checked_by_a_repository_that_is_there_if_one_is_known(
    settings: dict[str, Any], known: str | None, made_up: str | None
) -> None:
    listed = Registry(**settings)
    assert listed.known_repository == known
    assert made_up in (None, listed.made_up_repository)
    assert all(listed.serves(name) for name in (known, listed.made_up_repository) if name)
