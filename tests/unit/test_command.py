"""What the command says of a stack, what it does to it, and the exit code that a script can use."""

import hashlib
import io
import json
import os
import re
import stat
import subprocess
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror import InvalidArgs, runner
from components.registry_mirror.advisories import Advisory
from components.registry_mirror.cli import __main__ as command
from components.registry_mirror.cli import advisories, console, nodes, repair, status, verdict
from components.registry_mirror.cli import stack as stacks
from components.registry_mirror.cli.deployed import Machine, Restart
from components.registry_mirror.cli.look import Look
from components.registry_mirror.render.registries import HUB_URL
from components.registry_mirror.rolling_restart import ssh
from tests.builders import mirror, node_answer

CASES = Path(__file__).parent / "cases"


WELL: dict[str, Any] = {
    "reachable": True,
    "engine": "26.1.5",
    "listed": True,
    "used": True,
    "recorded": True,
}


def look(name: str = "n1", **more: Any) -> Look:
    return Look(name, **{**WELL, **more})


@pytest.mark.parametrize(
    ("changed", "drifted"),
    [
        ({}, False),
        ({"edited": True}, False),  # by somebody who left our entry: allowed
        ({"listed": False}, True),
        ({"used": False}, True),
        ({"recorded": False}, True),
        ({"faults": ["the name does not resolve"]}, True),
        ({"reachable": False, "used": False}, False),
    ],
)
def test_a_node_has_drifted_if_it_does_not_use_the_mirror_as_we_left_it(
    changed: dict[str, Any], drifted: bool
) -> None:
    assert look(**changed).drifted is drifted


def test_the_exit_code_is_the_worst_nodes() -> None:
    off = look("n3", reachable=False)
    assert verdict.exit_code([look(), look(availability="drain")]) == 0
    assert verdict.exit_code([look(), look(used=False)]) == 1
    assert verdict.exit_code([look(), look(mirror_faults=["no route"])]) == 1
    assert verdict.exit_code([look(), look(swarm_faults=["down"])]) == 1
    assert verdict.exit_code([look(used=False), off]) == 2


@pytest.mark.parametrize(
    "path", sorted((CASES / "verdict").glob("*.json")), ids=lambda path: path.stem
)
def test_what_is_said_of_a_node(path: Path) -> None:
    """`node`: what it says of itself; `member`: how the swarm sees it, or null; `fault`: a pattern
    of what is wrong with that."""
    case: dict[str, Any] = json.loads(path.read_text())
    member = None if case["member"] is None else {**MEMBER, **case["member"]}
    placed = nodes._placed(look(id="i1", **case["node"]), {"i1": member} if member else {})
    assert verdict.state(placed) == case["state"], placed
    assert placed.drifted is (case["state"] == "DRIFTED")
    assert bool(placed.swarm_faults) is ("fault" in case)
    assert re.search(case.get("fault", ""), " ".join(placed.swarm_faults)), placed.swarm_faults


MEMBER = {"role": "worker", "ready": True, "reachable": False, "availability": "active", "held": ""}


def test_a_swarm_that_cannot_be_asked_is_said_and_hides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def agent(action: str, *_: Any) -> tuple[int, str, str]:
        answer = asdict(Look("a", **WELL))
        for name in ("node", "reachable", "availability"):  # what the node does not say itself
            answer.pop(name)
        return (
            (255, "", "no route to host")
            if action == "members.view"
            else (0, json.dumps(answer), "")
        )

    monkeypatch.setattr(nodes, "_agent", agent)
    (found,) = nodes.look(mirror("a"))
    assert found.hazards == ["the swarm's view of the nodes is not known: no route to host"]
    assert verdict.state(found) == "healthy"
    for nonsense in ("Welcome", "[1]", '[{"name": "a"}]', "{}x", "[" * 3000):
        monkeypatch.setattr(nodes, "_agent", lambda action, *_, text=nonsense: (0, text, ""))
        assert nodes._members(mirror("a"))[0] is None


def test_the_table_has_a_row_per_node_and_the_faults_below() -> None:
    lines = status.as_table(
        [look(), look("n2", used=False, faults=["the reason"]), look("n3", reachable=False)]
    ).splitlines()
    assert [line.split()[:2] for line in lines[3:6]] == [
        ["n1", "healthy"],
        ["n2", "DRIFTED"],
        ["n3", "UNREACHABLE"],
    ]
    assert lines[-1] == "  n2: the reason"


def test_the_table_says_which_registries_a_node_asks_the_mirror_for_where_there_are_several() -> (
    None
):
    alone, several = look(registries=["docker.io"]), look("n2", registries=["docker.io", "ghcr.io"])
    assert "docker.io" not in status.as_table([alone])
    rows = status.as_table([alone, several]).splitlines()
    assert rows[1].endswith("asks the mirror for")
    assert [row.split("   ")[-1].strip() for row in rows[3:5]] == ["docker.io", "docker.io ghcr.io"]


def test_repair_begins_with_a_worker_and_goes_on_to_those_that_can_be_repaired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_work, most = 0, 0
    asked: list[tuple[str, int]] = []
    lock = threading.Lock()

    def agent(action: str, machine: Machine, *_: Any) -> tuple[int, str, str]:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
            asked.append((machine.name, at_work))
        time.sleep(0.05)
        with lock:
            at_work -= 1
        return (1, "", "no " + machine.name) if machine.name in "bc" else (0, "reloaded", "")

    monkeypatch.setattr(nodes, "_agent", agent)
    done = nodes.repair(mirror("b", "a", "c", "d", "e", "f", "g", manager="a"), set("abcdeg"))
    assert [(name, succeeded) for name, succeeded, _ in done] == [
        ("b", False),
        ("c", False),
        ("d", True),
        ("e", True),
        ("g", True),
        ("a", True),
    ]
    assert done[0][2] == "no b"
    assert [running for _, running in asked[:3]] == [1, 1, 1], "one at a time until one is repaired"
    assert asked[-1] == ("a", 1)
    assert most == 2
    asked.clear()
    nodes.repair(mirror("b", "a", "d", "e", manager="a"), set("ade"))
    assert asked[-1] == ("a", 1), "the manager alone"


def test_repair_asks_for_what_the_last_up_has_asked_for_by_its_own_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The request is not made anew: not a byte of it, and the agent is the one of that version."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = (
        'cat > "$XDG_CACHE_HOME/request"; echo "$1 $MIRROR_NODE $MIRROR_EXTRA" >'
        ' "$XDG_CACHE_HOME/asked"; '
    )
    program += "echo 'registry-mirror-answer:<reloaded>'\n"
    digest = hashlib.sha256(program.encode()).hexdigest()
    deployed = mirror("n1", n1={"MIRROR_RUNNER": digest, "MIRROR_EXTRA": "of that version"})
    deployed = replace(deployed, runners={digest: program})
    assert nodes.repair(deployed, {"n1"}) == [("n1", True, "reloaded")]
    assert (tmp_path / "request").read_text() == deployed.nodes[0].request
    assert (tmp_path / "asked").read_text() == "node.apply n1 of that version\n"


def test_a_program_that_is_nowhere_or_is_not_what_its_name_says_is_never_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    deployed = mirror("n1", n1={"MIRROR_RUNNER": "0f" * 32})
    ((_, succeeded, message),) = nodes.repair(deployed, {"n1"})
    assert not succeeded
    assert "is not in the state; run `pulumi up` to its end" in message
    with pytest.raises(InvalidArgs, match="is not the SHA-256"):
        nodes.repair(replace(deployed, runners={"0f" * 32: "touch /tmp/never"}), {"n1"})
    assert not (tmp_path / runner.FOLDER / ("0f" * 32)).exists()


def test_the_restart_is_the_one_of_the_last_up_for_the_nodes_that_wait_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = (
        'cat > "$XDG_CACHE_HOME/request"; echo "n1: its docker is restarted" >&2; echo'
        ' "restarted: n1 $MIRROR_PRIVATE_KEYS"\n'
    )
    failing = 'cat > /dev/null; echo "registry mirror: n1: not restarted: why" >&2; exit 1\n'
    texts = {hashlib.sha256(text.encode()).hexdigest(): text for text in (program, failing)}
    given, failing_one = (
        {"MIRROR_RUNNER": digest, "MIRROR_PRIVATE_KEYS": "{}"} for digest in texts
    )
    request = json.dumps({"told": {"n9": "restart due"}, "nodes": [1]})
    deployed = replace(mirror("n1"), runners=texts, restart=Restart(given, request))
    assert nodes.restart(deployed, {"n1": "reloaded; restart due"}) == (True, "restarted: n1 {}")
    assert json.loads((tmp_path / "request").read_text()) == {
        "told": {"n1": "reloaded; restart due"},
        "nodes": [1],
    }
    assert capfd.readouterr().err == "n1: its docker is restarted\n"
    assert nodes.restart(replace(deployed, restart=Restart(failing_one, request)), {"n1": "x"}) == (
        False,
        "n1: not restarted: why",
    )
    succeeded, message = nodes.restart(replace(deployed, restart=None), {"n1": "x"})
    assert not succeeded
    assert (
        message
        == "n1 wait for a restart, and the state has none, because no `pulumi up` came to it; run"
        " that"
    )


def test_a_restart_that_ends_before_it_reads_is_reported_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = 'exec 0<&-; echo "registry mirror: this computer: why" >&2; exit 1\n'
    digest = hashlib.sha256(program.encode()).hexdigest()
    request = json.dumps({"nodes": ["x" * 1_000_000]})
    deployed = replace(
        mirror("n1"), runners={digest: program}, restart=Restart({"MIRROR_RUNNER": digest}, request)
    )
    assert nodes.restart(deployed, {"n1": "x"}) == (False, "this computer: why")


def test_a_machine_that_cannot_be_reached_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = "echo 'registry mirror: n1: ssh://n1 cannot be reached' >&2; exit 255"
    monkeypatch.setattr(
        ssh, "run", lambda *_: subprocess.run(["sh", "-c", failed], capture_output=True, text=True)
    )
    (found,) = [each for each in nodes.look(mirror("n1")) if each.node == "n1"]
    assert (found.reachable, found.faults) == (False, ["ssh://n1 cannot be reached"])


def test_repair_gives_a_reason_for_each_node_that_it_does_not_repair(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        nodes,
        "repair",
        lambda *_: [("n1", False, "nothing was changed: why"), ("n2", True, "reloaded")],
    )
    looks = [
        look("n1", used=False),
        look("n2", used=False),
        look("n3", swarm_faults=["the swarm sees it down"]),
        look("n4", reachable=False, faults=["no route to host"]),
        look("n5"),
        look("n6", availability="drain"),
    ]
    assert repair.repair(mirror("n1"), looks) == 1
    output = capsys.readouterr().out
    assert "n1: nothing was changed: why" in output
    assert "n3: NOT IN SWARM: the swarm sees it down" in output
    assert "n4: UNREACHABLE: no route to host" in output
    assert "n5" not in output
    assert "n6" not in output
    assert repair.repair(mirror("n1"), looks[2:]) == 2
    assert repair.repair(mirror("n1"), looks[4:]) == 0
    assert "Nothing to repair." in capsys.readouterr().out


def test_a_restart_that_fails_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nodes, "repair", lambda *_: [("n1", True, "reloaded; restart due")])
    monkeypatch.setattr(nodes, "restart", lambda *_: (False, "no docker was restarted: why"))
    assert repair.repair(mirror("n1"), [look("n1", due=["x"])]) == 1
    assert "  No docker was restarted: why." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "hub"),
    [
        ({}, False),
        ({"upstream": HUB_URL}, True),
        ({"upstream": HUB_URL, "has_credentials": True}, False),
    ],
)
def test_stats_ask_the_manager_for_the_storage_and_docker_hub_only_where_it_counts_by_address(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], hub: bool
) -> None:
    asked: dict[str, dict[str, Any]] = {}

    def agent(action: str, machine: Machine, request: str, *_: Any) -> tuple[int, str, str]:
        asked[machine.name] = json.loads(request)
        return 0, json.dumps({"registry": None, "varnish": None, "quota": None, "cached": None}), ""

    monkeypatch.setattr(nodes, "_agent", agent)
    stats = nodes.stats(replace(mirror("n2", "n3", manager="head"), **answer))
    assert {name: request["cache_path"] for name, request in asked.items()} == {
        "n2": None,
        "n3": None,
        "head": "/var/data/registry",
    }
    assert {request["hub"] for request in asked.values()} == {hub}
    assert {(request["service"], request["front"]) for request in asked.values()} == {
        ("s", "s-front")
    }
    assert stats.disk_asked_bytes == 4096 << 20


def test_a_registry_that_runs_on_a_machine_of_another_mirror_is_found_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    runs_on = "n3"

    def agent(action: str, machine: Machine, *_: Any) -> tuple[int, str, str]:
        asked.append(machine.name)
        registry = {"hits": 1, "requests": 2} if machine.name == runs_on else None
        return (
            0,
            json.dumps({"registry": registry, "varnish": None, "quota": None, "cached": None}),
            "",
        )

    monkeypatch.setattr(nodes, "_agent", agent)
    others = [*mirror("n1", "n3", "n4").nodes, *mirror("n3", "n4").nodes]
    assert nodes.stats(mirror("n1", "n2"), others).node == "n3"
    assert sorted(asked) == ["n1", "n2", "n3", "n4"], "each once"
    asked.clear()
    runs_on = "n2"
    assert nodes.stats(mirror("n1", "n2"), others).node == "n2"
    assert sorted(asked) == ["n1", "n2"], "and only where that is needed"


def test_an_upgrade_is_asked_about_with_each_nodes_own_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    def agent(action: str, machine: Machine, request: str, *_: Any) -> tuple[int, str, str]:
        asked[machine.name] = json.loads(request)
        return 0, json.dumps({"engine": "26.1.5", "way": "daemon.json", "hazards": []}), ""

    monkeypatch.setattr(nodes, "_agent", agent)
    nodes.upgrade(mirror("n1", "n2"), "29.2.1")
    assert asked == {
        name: {"service": "docker", "daemon_json": f"/{name}", "to": "29.2.1"}
        for name in ("n1", "n2")
    }


# --------------------------------------------------------------------------------- the command line


class Cli:
    """A Pulumi CLI that prints a state, keeps what is imported, and remembers how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "bin" / "pulumi"
        program.parent.mkdir()
        program.write_text(
            f"#!/bin/sh\npwd > {folder}/called-in\ncd {folder}\n"
            'echo "$@" >> calls; [ "$1 $2" != "stack import" ] || { cat > imported; exit; }\n'
            "[ ! -e complaint ] || { cat complaint >&2; exit 255; }\n"
            "case $* in *--show-secrets*) cat state ;; *) cat sealed ;; esac\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def state(self, name: str, sealed: str | None = None) -> None:
        case = json.loads((CASES / "deployed" / f"{name}.json").read_text())
        (self.folder / "state").write_text(json.dumps(case["state"]))
        given = json.loads((CASES / "deployed" / f"{sealed or name}.json").read_text())
        (self.folder / "sealed").write_text(json.dumps(given["state"]))

    def complain(self, words: str) -> None:
        (self.folder / "complaint").write_text(words)

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return Cli(tmp_path)


ANSWER = node_answer(registries=[])


def answering(monkeypatch: pytest.MonkeyPatch, unreachable: str = "") -> None:
    """Every node but one is healthy."""

    def agent(action: str, machine: Machine, *_: Any) -> tuple[int, str, str]:
        if machine.name == unreachable:
            return 255, "", "no route to host"
        return 0, "[]" if action == "members.view" else json.dumps(ANSWER), ""

    monkeypatch.setattr(nodes, "_agent", agent)


def test_the_state_of_the_stack_that_is_named_is_read_in_the_folder_that_is_named(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answering(monkeypatch)
    cli.state("one-mirror")
    assert (
        command.main(["status", "--json", "--stack", "org/estate/prod", "--cwd", str(tmp_path)])
        == 0
    )
    assert cli.calls == ["stack export --show-secrets --stack org/estate/prod --non-interactive"]
    assert (tmp_path / "called-in").read_text().strip() == str(tmp_path)
    report = json.loads(capsys.readouterr().out)
    assert [(entry["node"], entry["state"], entry["mirror"]) for entry in report] == [
        ("n1", "healthy", "m"),
        ("n2", "healthy", "m"),
        ("n3", "healthy", "m"),
    ]
    assert command.main(["status"]) == 0
    assert cli.calls[1] == "stack export --show-secrets --non-interactive"


def test_several_mirrors_have_a_heading_each_and_one_can_be_picked(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, unreachable="n7")
    cli.state("two-mirrors")
    assert command.main(["status"]) == 2
    output = capsys.readouterr().out
    assert "  build: https://build.test\n" in output
    assert "  serve: https://serve.test\n" in output
    assert "n7: no route to host" in output
    assert command.main(["status", "--mirror", "build"]) == 0
    assert "https://" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing-deployed", "nothing is up in this stack"),
        ("no-mirror", "there is no registry mirror in this stack"),
        ("a-stack-of-version-0.1", "version 0.1 has made the mirror m"),
        ("a-list-is-no-state", "this version cannot read the state: it has no deployment"),
        ("an-up-that-never-got-to-a-node", "the mirror m has no node yet"),
    ],
)
@pytest.mark.parametrize(
    "words",
    [
        "status",
        "repair",
        "stats",
        "engines",
        "advisories",
        "hostkeys",
        "forget n1",
        "client-config podman",
        "metrics",
        "monitoring scrape",
    ],
)
def test_what_cannot_be_found_out_is_one_sentence_a_remedy_and_4(
    cli: Cli, capsys: pytest.CaptureFixture[str], words: str, name: str, reason: str
) -> None:
    cli.state(name)
    assert command.main(words.split()) == 4
    told = capsys.readouterr()
    assert told.out == ""
    failed, remedy, page = told.err.strip().splitlines()
    assert failed.startswith(f"Failed: {reason}")
    assert remedy.startswith("   do:  ")
    assert page == "   see: docs/reference/troubleshooting.md"


@pytest.mark.parametrize(
    ("complaint", "remedy"),
    [
        ("error: no stack named 'prod' found\n", "pulumi stack ls"),
        (
            "error: the stack is currently locked by 1 lock(s)",
            "swarm-registry-mirror unlock --stack prod",
        ),
        ("warning: x\nerror: incorrect passphrase\n", "PULUMI_CONFIG_PASSPHRASE"),
        ("error: unable to open bucket file:///nowhere\n", "pulumi stack ls"),
        ("", "pulumi stack ls"),
    ],
)
def test_a_pulumi_that_fails_is_reported_in_its_own_words_with_a_remedy(
    cli: Cli, capsys: pytest.CaptureFixture[str], complaint: str, remedy: str
) -> None:
    cli.complain(complaint)
    assert command.main(["status", "--stack", "prod"]) == 4
    errors = capsys.readouterr().err
    assert remedy in errors
    assert complaint.strip().rpartition("error: ")[2] in errors


def test_a_pulumi_that_is_missing_or_prints_no_json_is_reported(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("Welcome")
    assert command.main(["status"]) == 4
    assert "has printed something that is not JSON" in capsys.readouterr().err
    assert command.main(["status", "--cwd", str(tmp_path / "nowhere")]) == 4
    monkeypatch.setenv("PATH", "/nowhere")
    assert command.main(["status"]) == 4
    assert "there is no `pulumi` on this computer" in capsys.readouterr().err


def test_a_dead_node_is_struck_from_the_state_as_it_is_encrypted(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answering(monkeypatch, unreachable="n2")
    cli.state("secret-settings-and-a-key-per-node", "secret-settings-that-are-encrypted")
    assert command.main(["forget", "n2", "--stack", "prod"]) == 0
    assert "n2 is struck" in capsys.readouterr().out
    imported = (tmp_path / "imported").read_text()
    assert "plaintext" not in imported
    names = [
        entry["urn"].rpartition("::")[2]
        for entry in json.loads(imported)["deployment"]["resources"]
    ]
    assert "m-node-n2" not in names
    assert {"m-node-n1", "m-node-n3", "m-claim"} <= set(names)


@pytest.mark.parametrize(
    ("node", "code", "words"),
    [("n1", 1, "n1 can be reached"), ("n9", 4, "name one of its nodes: n1, n2, n3")],
)
def test_only_a_node_that_was_asked_in_vain_is_struck(
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    node: str,
    code: int,
    words: str,
) -> None:
    answering(monkeypatch, unreachable="n2")
    cli.state("one-mirror")
    assert command.main(["forget", node]) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "imported").exists()


def test_a_lock_is_taken_away_by_the_cli(cli: Cli) -> None:
    cli.state("one-mirror")
    assert command.main(["unlock", "-s", "prod"]) == 0
    assert cli.calls == ["cancel --yes --stack prod --non-interactive"]


def test_advisories_are_those_of_the_images_in_the_state(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.state("one-mirror")
    code = command.main(["advisories", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert {entry["component"] for entry in report} <= {"registry", "varnish"}
    assert report, "registry 3.0.0 is older than a fix"
    assert code == int(any(entry["severity"] == "high" for entry in report))


@pytest.mark.parametrize(("severity", "code"), [("low", 0), ("medium", 0), ("high", 1)])
def test_an_advisory_of_high_severity_is_the_exit_code(
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    severity: str,
    code: int,
) -> None:
    cli.state("two-mirrors")
    known = Advisory(
        "CVE-1", "registry", ("9.0.0",), severity, "2026-01-01", "https://x.test", "an effect"
    )
    monkeypatch.setattr(
        advisories,
        "concerning",
        lambda component, image: [known] if component == "registry" else [],
    )
    assert command.main(["advisories"]) == code
    output = capsys.readouterr().out
    assert output.count("CVE-1") == 1, "of both mirrors, and printed once"
    assert severity in output


def test_sudo_rules_need_no_stack(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["sudoers", "ops"]) == 0
    assert "ops ALL=(root) NOPASSWD" in capsys.readouterr().out
    assert command.main(["sudoers", "a b"]) == 64
    assert "must be a Unix user name" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [[], ["stat"], ["status", "--no-such"], ["forget"], ["engines", "--to", "newest"]]
)
def test_wrong_usage_is_64(cli: Cli, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = command.main(words)
    except SystemExit as ended:
        code = ended.code
    assert code == 64
    assert capsys.readouterr().err


@pytest.mark.parametrize("verb", command.VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_help_with_an_example_and_the_exit_codes(
    verb: console.Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([verb.name, "--help"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert f"example:\n  swarm-registry-mirror {verb.name}" in output
    assert "64  wrong usage" in output
    example = re.sub(r" > .*", "", verb.example).split()[1:]
    assert command.parser().parse_args(example).run is verb.run, "the example is one"


def test_colour_is_for_terminals_whose_users_have_not_declined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    stream: Any = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert console.has_colour(stream)
    assert not console.has_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not console.has_colour(stream)
    plain = console.table(
        ("node", "state"), [("n1", "healthy"), ("n10", "NOT IN SWARM")], colour=False
    )
    coloured = console.table(
        ("node", "state"), [("n1", "healthy"), ("n10", "NOT IN SWARM")], colour=True
    )
    assert "\x1b[32mhealthy\x1b[0m" in coloured
    assert re.sub("\x1b\\[[0-9]*m", "", coloured) == plain
    assert "\x1b" not in plain


def test_nodes_are_in_the_order_in_which_a_person_looks_them_up() -> None:
    assert sorted(["node10", "node2", "10", "a-2-b", "node", ""], key=status.natural) == [
        "",
        "10",
        "a-2-b",
        "node",
        "node2",
        "node10",
    ]


def test_an_interruption_is_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stacks.Stack, "state", interrupted)
    assert command.main(["status"]) == 130
