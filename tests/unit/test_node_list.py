"""`nodes`: the list as configuration. What is in it stays, what is not gets an entry that the
configuration takes, and what a member says of itself stays on its line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.registry_mirror import Bastion, SwarmNode
from components.registry_mirror.cli import __main__ as command
from components.registry_mirror.cli import deployed, hostkeys, nodes
from components.registry_mirror.cli import stack as stacks
from components.registry_mirror.cli.adopt.find import Ssh
from components.registry_mirror.cli.deployed import Machine
from config.settings import parse
from tests.builders import ED25519, mirror, read, values
from tests.fake_swarm import SAYS, answer, inspected

JUMP = {"MIRROR_BASTION": "ssh://jump@10.0.0.1:2222", "MIRROR_BASTION_HOST_KEY": ED25519}
OPS = {"MIRROR_SSH": "ssh://ops@10.0.0.2:23", "MIRROR_BECOME": "sudo"}


class Stack:
    """A stack whose swarm has these members besides those of its list."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        self.members = [answer("i1", "n1"), answer("i2", "n2")]
        self.environments: Any = {}
        self.scanned: dict[str, str] = {}
        (folder / "Pulumi.yaml").write_text("name: estate\nruntime: python\n")
        patch.setattr(nodes, "_agent", self.agent)
        patch.setattr(stacks.Stack, "state", lambda self: {})
        patch.setattr(
            deployed, "mirrors", lambda state, name=None: [mirror("n1", "n2", **self.environments)]
        )
        patch.setattr(hostkeys, "scan", self.scan)

    def agent(self, action: str, machine: Machine, *_: Any) -> tuple[int, str, str]:
        if action == "members.view":
            return 0, json.dumps(self.members), ""
        return 0, json.dumps({**SAYS, "id": f"i{machine.name[1:]}"}), ""

    def scan(self, machine: hostkeys.Machine) -> str:
        key = self.scanned.get(machine.address, "")
        return f"{machine.host} {key}\n" if key else ""

    def file(self, *entries: dict[str, Any]) -> None:
        text = yaml.safe_dump({"config": {"estate:nodes": list(entries)}})
        (self.folder / "Pulumi.prod.yaml").write_text(text)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stack:
    monkeypatch.chdir(tmp_path)
    return Stack(monkeypatch, tmp_path)


Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, code: int = 0) -> str:
        assert command.main(["nodes", *words]) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return run


def entries(text: str, project: str = "estate") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(text)["config"][f"{project}:nodes"]
    return found


def test_an_entry_of_the_file_stays_letter_for_letter_and_a_new_one_is_like_the_others(
    stack: Stack, run: Run
) -> None:
    stack.environments = {"n1": OPS, "n2": {**OPS, "MIRROR_SSH": "ssh://ops@10.0.0.3:23"}}
    own = {"name": "n1", "address": "10.0.0.2", "port": 23, "user": "ops", "become": "sudo"}
    not_deployed_yet = {"name": "n7", "address": "10.0.0.7"}
    stack.file(own, not_deployed_yet)
    stack.members += [answer("i7", "seven", address="10.0.0.7"), answer("i9", "n9.example.com")]
    stack.scanned = {"n9.example.com.test": ED25519}
    text = run("--stack", "prod")
    first, second, third, new = entries(text)
    assert (first, second) == (own, not_deployed_yet)
    assert third == {
        "name": "n2",
        "address": "10.0.0.3",
        "user": "ops",
        "port": 23,
        "become": "sudo",
        "hostKey": ED25519,
        "daemonJson": "/n2",
    }
    assert new == {
        "name": "n9",
        "address": "n9.example.com.test",
        "user": "ops",
        "port": 23,
        "become": "sudo",
        "hostKey": ED25519,
    }
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in text
    assert f"must say {hostkeys.fingerprint(ED25519)}" in text


def test_what_is_printed_is_taken_by_the_configuration_and_by_a_program(
    stack: Stack, run: Run
) -> None:
    stack.environments = {name: {**OPS, **JUMP} for name in ("n1", "n2")}
    stack.environments["n2"]["MIRROR_SSH"] = "ssh://ops@[2001:db8::2]:22"
    evil = "n9'\"\n#: - {x}\x1b[31m"
    stack.members.append(answer("i9", evil, address="2001:db8::9", labels={"a\nb": "c\n- name: x"}))
    text = run("--stack", "prod")
    found = entries(text)
    assert "\x1b" not in text
    assert [entry["name"] for entry in found][:2] == ["n1", "n2"]
    assert "hostKey" not in found[2], "behind a bastion nobody is asked"
    assert "Its hostKey is not known" in text
    found[2]["hostKey"] = ED25519
    mirror_args = parse(values(nodes=json.dumps(found)), read).mirror
    assert [node.address for node in mirror_args.nodes][1:] == ["2001:db8::2", "2001:db8::9"]
    python = run("--stack", "prod", "--python")
    namespace = {
        "SwarmNode": lambda **given: SwarmNode(**{"host_key": ED25519, **given}),
        "Bastion": Bastion,
    }
    code = "nodes=" + python.partition("nodes=")[2]
    exec(code, namespace)
    nodes_of_the_program: Any = namespace["nodes"]
    assert [node.bastion.port for node in nodes_of_the_program] == [2222] * 3


def test_role_and_label_choose_among_the_new_alone(stack: Stack, run: Run) -> None:
    stack.members += [
        answer("i3", "n3", role="manager"),
        answer("i4", "n4", labels={"disk": "ssd", "zone": "a"}),
        answer("i5", "n5", labels={"disk": "hdd", "zone": "a"}),
    ]

    def names(*words: str) -> list[str]:
        return [entry["name"] for entry in entries(run("--stack", "prod", *words))]

    assert names() == ["n1", "n2", "n3", "n4", "n5"]
    assert names("--role", "manager") == ["n1", "n2", "n3"]
    assert names("--label", "zone=a") == ["n1", "n2", "n4", "n5"]
    assert names("--label", "zone=a", "--label", "disk=ssd") == ["n1", "n2", "n4"]
    assert "--label is disk, and must be like disk=ssd" in run("--label", "disk", code=64)
    text = run("--stack", "prod", "--label", "zone=b")
    assert "# n4 (i4) is not among those that --label and --role ask for" in text


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"ready": False}, "is down"),
        ({"labels": {"registry-mirror": "off"}}, None),
        ({"os": "windows"}, None),
        ({"address": "0.0.0.0"}, "has no address"),
    ],
)
def test_a_member_that_cannot_be_an_entry_is_named_at_most(
    stack: Stack, run: Run, more: dict[str, Any], why: str | None
) -> None:
    stack.members.append(answer("i9", "n9", **more))
    text = run("--stack", "prod")
    assert [entry["name"] for entry in entries(text)] == ["n1", "n2"]
    assert (why or "n9") in text if why else "n9" not in text


def test_an_entry_that_is_no_member_stays_and_is_marked(stack: Stack, run: Run) -> None:
    stack.members.pop()
    text = run("--stack", "prod")
    assert [entry["name"] for entry in entries(text)] == ["n1", "n2"]
    assert "# n2 is no member of the swarm" in text


def test_two_machines_of_one_host_name_get_names_of_their_own(stack: Stack, run: Run) -> None:
    stack.members += [
        answer("i8", "n1", address="10.0.0.8"),
        answer("i9", "n1", address="10.0.0.9"),
    ]
    found = entries(run("--stack", "prod"))
    assert len({entry["name"] for entry in found}) == 4
    assert [entry["address"] for entry in found[2:]] == ["10.0.0.8", "10.0.0.9"]


def test_for_scripts_there_is_json(stack: Stack, run: Run) -> None:
    stack.members.append(answer("i9", "n9"))
    stack.scanned = {"n9.test": ED25519}
    found = json.loads(run("--stack", "prod", "--json"))
    assert [entry["is_new"] for entry in found["nodes"]] == [False, False, True]
    assert found["nodes"][2]["fingerprint"] == hostkeys.fingerprint(ED25519)


def test_a_first_list_is_made_from_a_manager_alone(
    stack: Stack, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm = [inspected("i1", "m1", "0.0.0.0", "manager"), inspected("i2", "w1", "10.0.0.2")]
    said = f'"i1"\n{json.dumps(swarm)}\n'
    monkeypatch.setattr(Ssh, "__call__", lambda *_: said)
    stack.scanned = {"10.0.0.1": ED25519, "10.0.0.2": ED25519}
    text = run("--from", "ops@10.0.0.1", "--users", "w1=deploy")
    assert entries(text) == [
        {
            "name": "m1",
            "address": "10.0.0.1",
            "user": "ops",
            "become": "sudo",
            "hostKey": ED25519,
        },
        {
            "name": "w1",
            "address": "10.0.0.2",
            "user": "deploy",
            "become": "sudo",
            "hostKey": ED25519,
        },
    ]
    for nonsense in ("", "Welcome", '"i1"\n{}', '"i1"\n[{}]', '"i1"\n[1]'):
        monkeypatch.setattr(Ssh, "__call__", lambda *_, text=nonsense: text)
        assert "is not what docker answers on a manager" in run("--from", "10.0.0.1", code=4)


def test_without_a_manager_there_is_no_list(
    stack: Stack, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "_agent", lambda *_: (255, "", "no route to host"))
    assert "no route to host" in run("--stack", "prod", code=2)
