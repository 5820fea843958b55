"""Which members of the swarm are in no list, and which entries are no members; what `status` makes
of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.cli import __main__ as command
from components.registry_mirror.cli import deployed, enrolment, nodes, status
from components.registry_mirror.cli import stack as stacks
from components.registry_mirror.cli.deployed import Machine
from components.registry_mirror.cli.enrolment import Member
from components.registry_mirror.cli.look import Look
from tests.builders import mirror
from tests.fake_swarm import SAYS, answer

CASES = Path(__file__).parent / "cases" / "enrolment"
USUAL: dict[str, Any] = {"role": "worker", "engine": "26.1.5", "address": ""}


def member(**values: Any) -> Member:
    return Member(**{**USUAL, **values})


def look(name: str, identity: str | None) -> Look:
    """`identity`: None where it could not be reached, `?` where its docker does not answer."""
    engine = "" if identity in (None, "?") else "26.1.5"
    return Look(name, identity is not None, engine=engine, id=(identity or "").strip("?"))


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_the_list_and_the_swarm_are_compared(path: Path) -> None:
    """`nodes`: name -> id that the node itself gives, null where it was not reached; `addresses`:
    name -> where ssh goes; `others`: further machines of the stack."""
    case: dict[str, Any] = json.loads(path.read_text())
    looks = [look(name, identity) for name, identity in case["nodes"].items()]
    addresses = {**{name: f"{name}.test" for name in case["nodes"]}, **case.get("addresses", {})}
    listed = [
        Machine(name, {"MIRROR_SSH": f"ssh://root@{address}:22"})
        for name, address in {**addresses, **case.get("others", {})}.items()
    ]
    found = enrolment.compare(looks, listed, [member(**each) for each in case["members"]])
    assert {each.name: each.state for each in found.unlisted} == case["unlisted"]
    assert found.absent == case["absent"]
    told = {name: " ".join(hazards) for name, hazards in found.hazards.items()}
    assert set(told) == set(case.get("hazards", {}))
    for name, part in case.get("hazards", {}).items():
        assert part in told[name]


@pytest.mark.parametrize(
    ("more", "covered"),
    [
        ({"guarded": True, "engine": "29.1.0"}, True),
        ({"guarded": True, "engine": "27.5.1"}, False),
        ({"engine": "29.1.0"}, False),
    ],
)
def test_a_guard_is_named_where_it_can_have_an_effect_and_is_no_reason_to_be_silent(
    more: dict[str, Any], covered: bool
) -> None:
    each = member(id="i", name="n", **more)
    assert ("the guard runs there" in each.sentence) is covered
    assert status.exit_code([], [each]) == 1


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stack with two mirrors in one swarm: the first has n1, the second n2. `members`: what the
    manager says; `down`: names of nodes that cannot be reached."""
    given: dict[str, Any] = {"members": [answer("i1", "n1"), answer("i2", "n2")], "down": []}
    mirrors = [mirror("n1"), mirror("n2")]

    def agent(action: str, machine: Machine, *_: Any) -> tuple[int, str, str]:
        if action == "members.view":
            return (
                (255, "", "silent")
                if given["members"] is None
                else (
                    0,
                    json.dumps(given["members"]),
                    "",
                )
            )
        if machine.name in given["down"]:
            return 255, "", "no route to host"
        return 0, json.dumps({**SAYS, "id": f"i{machine.name[1:]}"}), ""

    monkeypatch.setattr(nodes, "_agent", agent)
    monkeypatch.setattr(stacks.Stack, "state", lambda self: {})
    monkeypatch.setattr(
        deployed, "mirrors", lambda state, name=None: mirrors[:1] if name else mirrors
    )
    return given


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = command.main(["status", *words])
    return code, capsys.readouterr().out


def test_a_node_of_another_mirror_of_the_stack_is_in_a_list(
    stack: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ((), ("--mirror", "m")):
        code, text = run(capsys, *words)
        assert code == 0, text
        assert "NOT LISTED" not in text


def test_a_member_in_no_list_is_a_row_a_sentence_and_a_drift(
    stack: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    stack["members"].append(answer("i9", "n9\x1b[31m", labels={"disk": "ssd"}))
    code, text = run(capsys, "--mirror", "m")
    assert code == 1
    (row,) = [line for line in text.splitlines() if " NOT LISTED " in line]
    assert row.split() == ["n9", "NOT", "LISTED", "26.1.5"]
    assert "  n9: it is a worker of the swarm at n9" in text
    assert "--label-add registry-mirror=off i9" in text
    assert "\x1b" not in text
    code, text = run(capsys, "--json", "--mirror", "m")
    listed, unlisted = json.loads(text)
    assert (code, listed["in_list"], listed["is_member"]) == (1, True, True)
    assert {name: unlisted[name] for name in ("node", "state", "in_list", "reachable", "role")} == {
        "node": "n9",
        "state": "NOT LISTED",
        "in_list": False,
        "reachable": None,
        "role": "worker",
    }
    assert set(listed) <= set(unlisted), "a script finds the same fields in all"
    stack["members"][-1]["labels"] = {"registry-mirror": "off"}
    assert run(capsys)[0] == 0


def test_a_machine_that_may_be_one_that_cannot_be_reached_is_not_said_to_be_in_no_list(
    stack: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    stack["members"][0] = answer("i1", "otherwise-called", address="192.0.2.1")
    stack["down"] = ["n1"]
    code, text = run(capsys, "--mirror", "m")
    assert code == 2
    assert " NOT LISTED " not in text
    assert "otherwise-called   PERHAPS LISTED" in text
    assert "and perhaps n1 of the list" in text
    unlisted = json.loads(run(capsys, "--json", "--mirror", "m")[1])[-1]
    assert (unlisted["in_list"], unlisted["perhaps"]) == (None, ["n1"])


def test_without_a_manager_nothing_is_said_of_members(
    stack: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    stack["members"] = None
    (entry, _) = json.loads(run(capsys, "--json")[1])
    assert entry["is_member"] is None
    assert "the swarm's view of the nodes is not known: silent" in entry["hazards"][0]
