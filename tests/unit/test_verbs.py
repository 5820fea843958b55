"""`policy` and `adopt` on a stack, with a Pulumi CLI that remembers how it was called."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.registry_mirror.cli import __main__ as command
from components.registry_mirror.cli import errors, pin
from components.registry_mirror.cli.adopt import command as adopt
from components.registry_mirror.cli.adopt.describe import Found
from components.registry_mirror.cli.deployed import changed_at
from components.registry_mirror.policy import rules
from tests.builders import DIGEST

ROOT = Path(__file__).resolve().parents[2]
SERVICE_ID = "3x6vsb8bcg70ct5xes6zmr333"
FOUND = Found(
    SERVICE_ID,
    {
        "hostname": "mirror.test",
        "image": "registry:3.1.2",
        "manager": "n1",
        "serviceName": "registry_mirror",
        "nodes": [{"name": "n1", "address": "10.0.0.1"}],
    },
    ["port 5000 is open on every node"],
)


class Cli:
    """A Pulumi CLI in a program's folder, with a state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "Pulumi.yaml").write_text("name: estate\nruntime: python\n")
        program = folder / "bin" / "pulumi"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {folder}/calls\n'
            f'case "$1 $2" in "stack ls") echo "[]" ;; "stack export") cat {folder}/state ;;'
            f' "import --file") cat "$3" > {folder}/imported ;; esac\n'
        )
        program.chmod(0o755)
        self.state()

    def state(self, *resources: dict[str, Any]) -> None:
        state = {"version": 3, "deployment": {"resources": list(resources)}}
        (self.folder / "state").write_text(json.dumps(state))

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def file(self) -> Path:
        return self.folder / "Pulumi.prod.yaml"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adopt, "find", lambda *_: FOUND)
    monkeypatch.setattr(adopt, "find_service", lambda *_: {"ID": SERVICE_ID})
    monkeypatch.setattr(pin, "digest_of", lambda _: DIGEST)
    return Cli(tmp_path)


def service(image: str) -> dict[str, Any]:
    container = {"taskSpec": {"containerSpec": {"image": image}}}
    return {
        "urn": f"urn:pulumi:prod::estate::{rules.SERVICE}::web",
        "type": rules.SERVICE,
        "inputs": container,
    }


def test_what_is_deployed_against_a_policy_is_3(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.state(service("web:1"))
    assert command.main(["policy", "--stack", "prod"]) == 3
    assert "web: the image web:1 has no digest" in capsys.readouterr().out
    assert command.main(["policy", "--json"]) == 3
    (violation,) = json.loads(capsys.readouterr().out)
    assert violation.endswith("[images-by-digest]")
    cli.state(service(f"web:1@{DIGEST}"))
    assert command.main(["policy"]) == 0


def test_a_pack_is_written_for_pulumi_to_run(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "pack"
    assert command.main(["policy", "--pack", str(pack)]) == 0
    assert yaml.safe_load((pack / "PulumiPolicy.yaml").read_text())["runtime"]["name"] == "python"
    assert "from swarm_registry_mirror.policy import pack" in (pack / "__main__.py").read_text()
    assert "swarm-registry-mirror" in (pack / "requirements.txt").read_text()
    assert cli.calls == []
    assert command.main(["policy", "--pack", str(pack)]) == 0, "again"
    assert command.main(["policy", "--try", str(pack)]) == 0
    assert f"--policy-pack {pack}" in cli.calls[-1]


def adopting(*words: str) -> int:
    return command.main(["adopt", "root@10.0.0.1", "--stack", "prod", *words])


def test_adopting_writes_the_file_with_digests_and_imports_the_service(cli: Cli) -> None:
    assert adopting() == 0
    config = yaml.safe_load(cli.file.read_text())["config"]
    assert config["estate:image"] == f"registry:3.1.2@{DIGEST}"
    assert config["estate:serviceName"] == "registry_mirror"
    given = json.loads((cli.folder / "imported").read_text())
    (imported,) = given["resources"]
    assert (imported["id"], imported["name"]) == (SERVICE_ID, "registry-mirror-service")
    assert given["nameTable"][imported["parent"]].endswith("RegistryMirror::registry-mirror")
    assert given["nameTable"][imported["provider"]].endswith("providers:docker::manager")
    verbs = [" ".join(call.split()[:2]) for call in cli.calls]
    assert verbs == ["stack ls", "stack init", "stack export", "up --yes", "import --file"]


def test_it_goes_on_where_it_stopped_and_never_writes_over_a_file(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopting("--only", "describe") == 0
    assert cli.calls == []
    text = cli.file.read_text()
    assert "registry:3.1.2\n" in text, "pinned by the user"
    assert adopting("--mirror", "m", "--provider", "swarm") == 0
    assert cli.file.read_text() == text
    assert json.loads((cli.folder / "imported").read_text())["resources"][0]["name"] == "m-service"
    urn = f"urn:pulumi:prod::estate::swarm-registry-mirror:index:RegistryMirror${rules.SERVICE}"
    cli.state({"urn": f"{urn}::m-service", "type": rules.SERVICE})
    (cli.folder / "imported").unlink()
    assert adopting("--mirror", "m") == 0
    assert "has taken it over already" in capsys.readouterr().out
    assert not (cli.folder / "imported").exists()


def test_a_file_of_something_else_is_refused_and_stays(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.file.write_text("config:\n  estate:machines: []\n")
    assert adopting() == 64
    assert "is there already, and names no serviceName" in capsys.readouterr().err
    assert cli.file.read_text() == "config:\n  estate:machines: []\n"
    assert cli.calls == []


def test_what_pulumi_stack_init_has_written_is_kept(cli: Cli) -> None:
    cli.file.write_text("encryptionsalt: v1:abc\n")
    assert adopting("--only", "describe") == 0
    values = yaml.safe_load(cli.file.read_text())
    assert values["encryptionsalt"] == "v1:abc"
    assert values["config"]["estate:hostname"] == "mirror.test"


def test_a_digest_that_cannot_be_had_leaves_no_file(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(image: str) -> str:
        raise errors.CommandError("no answer")

    monkeypatch.setattr(pin, "digest_of", silent)
    assert adopting() == 4
    assert not cli.file.exists()


def test_a_program_is_printed_and_nothing_is_written(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopting("--python") == 0
    assert 'RegistryMirror(\n    "registry-mirror",' in capsys.readouterr().out
    assert (cli.calls, cli.file.exists()) == ([], False)
    assert adopting("--only", "import") == 0
    assert (cli.folder / "imported").exists()
    assert not cli.file.exists()


@pytest.mark.parametrize("manager", ["root@-oProxyCommand=x", "ro x@10.0.0.1", "root@"])
def test_what_is_no_manager_is_wrong_usage(cli: Cli, manager: str) -> None:
    assert command.main(["adopt", "--stack", "prod", "--", manager]) == 64
    assert not cli.file.exists()


def test_a_node_was_touched_where_its_command_has_run_since() -> None:
    def state(*times: str) -> dict[str, Any]:
        return {
            "deployment": {
                "resources": [
                    {
                        "urn": f"urn::x::{number}",
                        "type": "command:local:Command",
                        "modified": time,
                        "inputs": {
                            "create": 'f=x; exec sh "$f" node.apply',
                            "environment": {"MIRROR_NODE": f"n{number}"},
                        },
                    }
                    for number, time in enumerate(times)
                ]
            }
        }

    assert changed_at(state("a", "b")) == {"n0": "a", "n1": "b"}
    assert changed_at({"version": 3, "deployment": None}) == {}


def test_every_page_that_an_error_names_is_there() -> None:
    named = {
        page
        for path in (ROOT / "components/registry_mirror/cli").rglob("*.py")
        for page in re.findall(r'"(docs/[a-z/-]+\.md)"', path.read_text())
    }
    assert len(named) > 1
    assert [page for page in named if not (ROOT / page).exists()] == []
