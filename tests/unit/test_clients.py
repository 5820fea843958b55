"""What clients outside the swarm need in their files, and the verb that prints it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.cli import __main__ as command
from components.registry_mirror.cli import stack as stacks
from components.registry_mirror.cli.deployed import Mirror
from components.registry_mirror.node_agent import hosts_toml
from components.registry_mirror.render.clients import CLIENTS, Served
from tests.builders import mirror, tomllib

CASES = Path(__file__).parent / "cases" / "clients"
GHCR = Served("ghcr.io", "mirror.test/ghcr.io")
STRICT = Served("quay.io", "mirror.test/quay.io", fallback=False)
ALL = [Served("docker.io", "mirror.test"), GHCR, STRICT]


def read(path: str, text: str) -> Any:
    """A file as its own format has it."""
    return json.loads(text) if path.endswith(".json") else tomllib.loads(text)


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_a_client_gets_exactly_these_files_and_notes(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    config = CLIENTS[case["client"]]([Served(**values) for values in case["registries"]])
    assert {file.path: read(file.path, file.text) for file in config.files} == case["files"]
    assert len(config.notes) == len(case["notes"])
    for note, words in zip(config.notes, case["notes"], strict=True):
        assert words in note


def test_every_client_has_its_three_cases() -> None:
    for client in CLIENTS:
        assert len(list(CASES.glob(f"{client}-*.json"))) == 3


@pytest.mark.parametrize("client", ["containerd", "docker"])
def test_every_hosts_toml_is_one_that_docker_28_reads(client: str) -> None:
    texts = [file.text for file in CLIENTS[client](ALL).files if file.path.endswith("/hosts.toml")]
    assert texts
    for text in texts:
        document = hosts_toml.parse(text)
        assert hosts_toml.ignored_because(document, (28, 0, 0)) is None
        assert document.hosts or document.root["server"].startswith("https://mirror.test/")


def test_containerd_finds_a_host_in_every_file_because_its_version_1_ignores_one_without() -> None:
    for file in CLIENTS["containerd"](ALL).files:
        assert hosts_toml.parse(file.text).hosts, file.path


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> list[Mirror]:
    """What the stack's state has: one mirror that serves ghcr.io and quay.io, too."""
    found = [replace(mirror("n1"), registries=ALL)]
    monkeypatch.setattr(stacks, "mirrors", lambda options: found)
    return found


@pytest.mark.parametrize("client", CLIENTS)
def test_the_verb_prints_each_file_as_it_is_with_its_place_and_what_it_does(
    mirrors: list[Mirror], capsys: pytest.CaptureFixture[str], client: str
) -> None:
    assert command.main(["client-config", client]) == 0
    printed = capsys.readouterr().out
    config = CLIENTS[client](mirrors[0].served)
    for file in config.files:
        assert (
            f"# {file.path}\n# {file.effect[0].upper()}{file.effect[1:]}.\n\n{file.text}" in printed
        )
    assert all(f"# Note: {note}\n" in printed for note in config.notes)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_script_gets_the_same_as_a_list_of_mirrors(
    mirrors: list[Mirror], capsys: pytest.CaptureFixture[str], client: str
) -> None:
    mirrors.append(replace(mirrors[0], name="second", registries=[]))
    assert command.main(["client-config", client, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    config = CLIENTS[client](mirrors[0].served)
    assert first == {
        "mirror": "m",
        "url": "https://mirror.test",
        "client": client,
        "files": [vars(file) for file in config.files],
        "notes": list(config.notes),
    }
    assert second["mirror"] == "second"
    assert "ghcr.io" not in json.dumps(second)


def test_a_mirror_that_answers_some_networks_only_says_so(
    mirrors: list[Mirror], capsys: pytest.CaptureFixture[str]
) -> None:
    mirrors[0] = replace(mirrors[0], gate={**mirrors[0].gate, "allow_from": ["10.0.0.0/8"]})
    assert command.main(["client-config", "podman"]) == 0
    assert "in these networks only: 10.0.0.0/8." in capsys.readouterr().out


def test_another_client_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["client-config", "rkt"])
    assert ended.value.code == 64
    assert "podman" in capsys.readouterr().err
