"""`up` past nodes that cannot be reached: what is excluded, left out, and refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.cli import __main__ as command
from components.registry_mirror.cli import nodes
from components.registry_mirror.cli.deployed import Machine
from tests.builders import ED25519

HEAD = "urn:pulumi:prod::estate::estate:index:Pool$swarm-registry-mirror:index:RegistryMirror$"
LOCAL = "command:local:Command"


def urn(name: str) -> str:
    return f"{HEAD}{LOCAL}::{name}"


def inputs(name: str) -> dict[str, Any]:
    """Of the command that configures a node; its name in the program says nothing of the node's."""
    return {
        "create": 'f=x; exec sh "$f" node.apply',
        "stdin": json.dumps({"service": "docker"}),
        "environment": {
            "MIRROR_NODE": name,
            "MIRROR_SSH": f"ssh://root@{name}.test:22",
            "MIRROR_HOST_KEY": ED25519,
        },
    }


STATE = {
    "deployment": {
        "resources": [
            {"urn": urn("a"), "type": LOCAL, "inputs": inputs("n1")},
            {"urn": urn("b"), "type": LOCAL, "inputs": inputs("n2")},
        ]
    }
}
PLAN = {
    "resourcePlans": {
        urn("a"): {"goal": {"type": LOCAL, "inputDiff": {}}},
        urn("b"): {"goal": {"type": LOCAL, "inputDiff": {"updates": {"stdin": "{}"}}}},
        urn("c"): {"goal": {"type": LOCAL, "inputDiff": {"adds": inputs("n3")}}},
        urn("wave"): {"goal": {"type": LOCAL, "inputDiff": {"adds": {"logging": "none"}}}},
    }
}


class Cli:
    """A Pulumi CLI with a state and a plan, which remembers how it was called."""

    def __init__(self, folder: Path, ends_with: int = 0) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "state").write_text(json.dumps(STATE))
        (folder / "plan").write_text(json.dumps(PLAN))
        (folder / "Pulumi.yaml").write_text("name: estate\nruntime: python\n")
        (folder / "Pulumi.prod.yaml").write_text("config: {}\n")
        program = folder / "bin" / "pulumi"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {folder}/calls\n'
            f'case "$*" in *--save-plan*) for word; do [ "$before" = --save-plan ] &&'
            f' cat {folder}/plan > "$word"; before=$word; done ;;\n'
            'config\\ set*) file=Pulumi.prod.yaml; for word; do [ "$before" = --config-file ] &&'
            ' file=$word; before=$word; done; echo "# set" >> "$file" ;;\n'
            f"up*) exit {ends_with} ;; *export*) cat {folder}/state ;; esac\n"
        )
        program.chmod(0o755)

    def up(self) -> list[str]:
        """The words of each `pulumi up` that was run."""
        calls = (self.folder / "calls").read_text().splitlines()
        return [call for call in calls if call.startswith("up")]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path)


def away(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """These cannot be reached; returns who is asked."""
    asked: list[str] = []

    def agent(action: str, machine: Machine, *_: Any) -> tuple[int, str, str]:
        asked.append(machine.name)
        return (255, "", "no route to host") if machine.name in names else (0, "{}", "")

    monkeypatch.setattr(nodes, "_agent", agent)
    return asked


SKIP = ["up", "--stack", "prod", "--yes", "--unreachable", "skip-and-report"]


def test_without_more_it_is_pulumi_up(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = away(monkeypatch, "n1")
    assert command.main(["up", "--stack", "prod"]) == 0
    assert (cli.up(), asked) == (["up --stack prod"], [])


def test_every_node_of_the_program_is_asked_and_one_that_the_state_knows_is_excluded(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = away(monkeypatch, "n2")
    assert command.main(SKIP) == 2
    assert sorted(asked) == ["n1", "n2", "n3"]
    assert cli.up() == [f"up --yes --exclude {urn('b')} --stack prod"]
    output = capsys.readouterr().out
    assert "n2: no route to host" in output
    assert "Skipped, left as they are: n2." in output


def test_where_all_can_be_reached_nothing_is_excluded(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(monkeypatch)
    assert command.main(SKIP) == 0
    assert cli.up() == ["up --yes --stack prod"]


def test_a_new_node_that_cannot_be_reached_is_refused_before_anything_changes(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away(monkeypatch, "n1", "n3")
    assert command.main(SKIP) == 2
    assert cli.up() == []
    error = capsys.readouterr().err
    assert "n3 cannot be reached, and the stack does not know them yet" in error
    assert "--without-key" in error


def test_it_is_left_out_by_the_programs_own_list_in_a_copy_of_the_file(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(monkeypatch, "n1", "n3")
    before = (cli.folder / "Pulumi.prod.yaml").read_text()
    assert command.main([*SKIP, "--without-key", "estate:without"]) == 2
    (up,) = cli.up()
    assert up.startswith(f"up --yes --exclude {urn('a')} --stack prod --config-file /")
    assert (cli.folder / "Pulumi.prod.yaml").read_text() == before
    calls = (cli.folder / "calls").read_text()
    assert "config set --path estate:without[0] n3 --stack prod --config-file" in calls


def test_an_up_that_fails_is_1_also_where_nodes_were_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    Cli(tmp_path, ends_with=255)
    away(monkeypatch, "n2")
    assert command.main(SKIP) == 1
