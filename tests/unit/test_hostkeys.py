"""What is said of the keys that machines have now, and what `make hostkeys` writes."""

import argparse
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from components.registry_mirror.cli import hostkeys as command
from components.registry_mirror.cli import stack
from components.registry_mirror.cli.hostkeys import (
    BEHIND,
    KNOWN,
    NEW,
    OTHER,
    SILENT,
    Found,
    Machine,
    preferred,
)
from config import hostkeys
from config.hostkeys import machines, merged
from config.known_hosts import find_host_key
from tests.builders import ED25519, mirror

OTHER_KEY = ED25519[:-4] + "AAAA"
MACHINE = Machine("n1", "n1.test", 22, None, False)


def test_every_machine_that_ssh_goes_to_is_asked_once() -> None:
    config = {
        "bastion": {"address": "b.test", "port": 2222},
        "nodes": [
            {"name": "n1", "address": "n1.test"},
            {"name": "n2", "address": "n2.test", "bastion": {"address": "b.test", "port": 2222}},
        ],
    }
    names = [machine for machine, _ in machines(config, "")]
    assert [(machine.name, machine.host, machine.hidden) for machine in names] == [
        ("bastion", "[b.test]:2222", False),
        ("n1", "n1.test", True),
        ("n2", "n2.test", True),
    ]


def test_so_is_every_machine_of_a_state_with_the_key_that_it_is_known_by() -> None:
    through = {"MIRROR_BASTION": "ssh://root@b.test:2222", "MIRROR_BASTION_HOST_KEY": OTHER_KEY}
    machines = command.machines(
        [mirror("n1", "n10", "n2", n2=through), mirror("n6", manager="n6", n6={"MIRROR_SSH": V6})]
    )
    assert [
        (machine.name, machine.host, machine.hidden, machine.known) for machine in machines
    ] == [
        ("bastion", "[b.test]:2222", False, OTHER_KEY),
        ("n1", "n1.test", False, ED25519),
        ("n2", "n2.test", True, ED25519),
        ("n6", "[2001:db8::6]:23", False, ED25519),
        ("n10", "n10.test", False, ED25519),
    ]


def test_a_machine_of_two_mirrors_is_asked_once_whatever_they_call_it() -> None:
    same = {"MIRROR_SSH": "ssh://root@n1.test:22"}
    machines = command.machines([mirror("n1"), mirror("another", manager="another", another=same)])
    assert [machine.name for machine in machines] == ["n1"]
    other = {"MIRROR_SSH": "ssh://root@n1.test:2222"}
    assert len(command.machines([mirror("n1"), mirror("n1", manager="n1", n1=other)])) == 2


V6 = "ssh://ops@[2001:db8::6]:23"


@pytest.mark.parametrize(
    ("scans", "code"),
    [
        ({"n1": ED25519, "n2": ED25519}, 0),
        ({"n1": ED25519, "n2": OTHER_KEY}, 1),
        ({"n1": ED25519}, 2),
        ({"n1": OTHER_KEY}, 2),
    ],
)
def test_the_exit_code_of_the_verb_is_the_worst_machines(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    scans: dict[str, str],
    code: int,
) -> None:
    monkeypatch.setattr(
        command, "scan", lambda machine: f"{machine.host} {scans.get(machine.name, '')}\n"
    )
    monkeypatch.setattr(stack, "mirrors", lambda options: [mirror("n1", "n2")])
    assert command.run(argparse.Namespace(json=True)) == code
    entries = json.loads(capsys.readouterr().out)
    assert [entry["machine"] for entry in entries] == ["n1", "n2"]
    assert {entry["state"] for entry in entries} <= {KNOWN, OTHER, SILENT}


def test_what_is_behind_a_bastion_is_not_said_to_be_as_known() -> None:
    assert Found(Machine("n1", "n1.test", 22, ED25519, True), None).state == BEHIND


def test_the_best_of_the_keys_that_a_machine_has_is_taken() -> None:
    assert preferred(f"# n1.test:22 SSH-2.0\nn1.test ssh-rsa AAAA\nn1.test {ED25519}\n") == ED25519
    assert preferred("n1.test ssh-unknown AAAA\n") is None


@pytest.mark.parametrize(
    ("known", "now", "word"),
    [
        ("", ED25519, NEW),
        (f"n1.test {ED25519}", ED25519, KNOWN),
        (f"n1.test {ED25519}", OTHER_KEY, OTHER),
        (f"n1.test {ED25519}", None, SILENT),
        (f"@cert-authority *.test {OTHER_KEY}", ED25519, KNOWN),
    ],
)
def test_a_key_is_known_new_or_another(known: str, now: str | None, word: str) -> None:
    machine = Machine("n1", "n1.test", 22, find_host_key(known, "n1.test"), False)
    assert Found(machine, now).state == word


def test_a_key_in_the_stacks_file_counts_and_one_behind_a_bastion_cannot_be_asked_for() -> None:
    ((machine, given),) = machines(
        {"nodes": [{"name": "n1", "address": "n1.test", "hostKey": f"{ED25519} comment"}]}, ""
    )
    assert (given, Found(machine, ED25519).state) == (True, KNOWN)
    hidden = Found(Machine("n1", "n1.test", 22, None, True), None)
    assert hostkeys.state(hidden) == BEHIND
    assert hostkeys.state(Found(Machine("n1", "n1.test", 22, ED25519, True), None)) == KNOWN


def test_writing_changes_the_lines_of_these_machines_and_no_other() -> None:
    before = f"# ours\nn1.test {OTHER_KEY}\nn10.test {OTHER_KEY}\n@cert-authority * {OTHER_KEY}\n"
    assert merged(before, [(MACHINE, ED25519)]) == (
        f"# ours\nn10.test {OTHER_KEY}\n@cert-authority * {OTHER_KEY}\nn1.test {ED25519}\n"
    )


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")
def test_a_fingerprint_is_the_one_that_ssh_keygen_shows(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(ED25519 + "\n")
    fingerprint = subprocess.check_output(
        ["ssh-keygen", "-lf", str(tmp_path / "key.pub")], text=True
    )
    assert command.fingerprint(ED25519) in fingerprint.split()


def test_keys_are_printed_first_and_written_when_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        command,
        "scan",
        lambda machine: f"{machine.host} {ED25519}\n" if machine.name == "n1" else "",
    )
    known, stack = tmp_path / "hosts" / "prod", tmp_path / "Pulumi.prod.yaml"
    nodes = [{"name": "n1", "address": "n1.test"}, {"name": "n2", "address": "n2.test"}]
    stack.write_text(
        yaml.safe_dump(
            {
                "config": {
                    hostkeys.PREFIX + "nodes": nodes,
                    hostkeys.PREFIX + "knownHostsFile": str(known),
                }
            }
        )
    )
    assert hostkeys.main([str(stack)]) == 1
    assert not known.exists()
    printed = capsys.readouterr().out
    assert command.fingerprint(ED25519) in printed
    assert NEW in printed
    assert SILENT in printed
    assert hostkeys.main([str(stack), "--write"]) == 1  # n2 has not answered
    assert known.read_text() == f"\nn1.test {ED25519}\n".lstrip("\n")
    assert KNOWN in (hostkeys.main([str(stack)]), capsys.readouterr().out)[1]


def test_a_file_that_is_none_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hostkeys.main([str(tmp_path / "Pulumi.none.yaml")]) == 64
    assert "cannot be read as a stack's file" in capsys.readouterr().err
