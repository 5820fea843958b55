"""Which nodes of a configuration cannot be reached, before any of them is in a state."""

import io
import json
from typing import Any

import pytest

from components.registry_mirror.cli import nodes
from components.registry_mirror.cli.deployed import Machine
from config import reachable
from tests.unit.test_rules import ED25519
from tests.unit.test_settings import KEY, values

NODES = [{"name": name, "address": f"{name}.test", "hostKey": ED25519} for name in ("n1", "n2")]
VALUES = values(sshPrivateKey=KEY, sshPrivateKeyFile=None, knownHostsFile=None, nodes=json.dumps(NODES))


def test_each_is_asked_with_the_key_that_it_has_and_those_that_do_not_answer_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, dict[str, Any]] = {}

    def agent(action: str, machine: Machine, request: str, *_: Any) -> tuple[int, str, str]:
        assert action == "node.look"
        asked[machine.name] = {**machine.environment, "owner": json.loads(request)["owner"]}
        return (255, "", "no route to host") if machine.name == "n2" else (1, "", "docker does not answer")

    monkeypatch.setattr(nodes, "_agent", agent)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(VALUES)))
    assert reachable.main() == 0
    assert json.loads(capsys.readouterr().out) == {"n2": "no route to host"}
    assert {name: each["MIRROR_PRIVATE_KEY"].strip() for name, each in asked.items()} == {"n1": KEY.strip(), "n2": KEY.strip()}
    assert {each["owner"] for each in asked.values()} == {"registry-mirror.2"}


def test_a_configuration_with_faults_is_all_of_them_and_no_question(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({**VALUES, "hostname": "https://x", "nodez": "[]"})))
    assert reachable.main() == 1
    assert "2 faults" in capsys.readouterr().err
