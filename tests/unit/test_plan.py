"""What is done to a node, by what it is like: one JSON file per claim under cases/plan/.

`file` (or `file_hex`) is daemon.json; `wanted` has keys, gone, former; `node` has version, mirrors,
info, arguments, at_start (what the file said at docker's start, where that is not `file`),
started_with; `expect` has either `refused` (a pattern per refusal) or `step` with the new `file`,
and perhaps between, due, reasons.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.registry_mirror.node_agent import daemon_json, daemon_keys, started
from components.registry_mirror.node_agent.daemon_settings import AtStart
from components.registry_mirror.node_agent.plan import Plan, Wanted, plan
from components.registry_mirror.node_agent.preflight import Facts
from lab.fleet.dockerd import Dockerd

CASES = Path(__file__).parent / "cases" / "plan"
URL = "https://mirror.example.com"


def facts_of(case: dict[str, Any]) -> Facts:
    data = (
        bytes.fromhex(case["file_hex"])
        if "file_hex" in case
        else None
        if case["file"] is None
        else case["file"].encode()
    )
    data = None if data is None else data.replace(b"NEST", b"[" * 100_000)
    node = case.get("node", {})
    info = {
        "RegistryConfig": {"Mirrors": node.get("mirrors", [])},
        "ServerVersion": node.get("version", "20.10.24"),
    }
    arguments = node.get("arguments", ["/usr/sbin/dockerd", "-H", "fd://"])
    ours = [URL, *case.get("wanted", {}).get("gone", [])]
    facts = {**info, **node.get("info", {})}
    text = daemon_json.decode(data)
    before_restart = node.get("started_with")
    return Facts(
        "/etc/docker/daemon.json",
        text,
        facts,
        arguments,
        ours,
        started_with=before_restart,
        at_start=AtStart(
            values_of(node.get("at_start", text if before_restart is None else before_restart)),
            True,
        ),
    )


def values_of(text: str) -> dict[str, Any]:
    try:
        return started.values(text)
    except daemon_json.Refused:  # what is refused is not what these facts are for
        return {}


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_node(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    expect, wanted = (
        case["expect"],
        {"gone": [], "keys": {}, "former": {}, **case.get("wanted", {})},
    )

    def the_plan() -> Plan:
        facts = facts_of(case)
        return plan(
            Wanted(mirror=URL, **wanted),
            facts,
            case.get("restart", "never"),
            case.get("restarting", False),
        )

    if "refused" in expect:
        try:
            refusals = the_plan().refusals
        except daemon_json.Refused as error:
            refusals = [str(error)]
        assert len(refusals) == len(expect["refused"]), refusals
        for pattern, found in zip(expect["refused"], refusals, strict=True):
            assert re.search(pattern, found), found
        return
    done = the_plan()
    assert done.refusals == []
    assert (done.step, done.due) == (expect["step"], expect.get("due", []))
    assert done.after == expect.get("file", case.get("file"))
    assert done.between == expect.get("between", done.after)
    texts = [reason.text for reason in done.reasons]
    assert {reason.key for reason in done.reasons if reason.needs_restart} == set(done.due)
    assert [reason for reason in expect.get("reasons", []) if reason not in texts] == []


values = {
    bool: st.booleans(),
    int: st.integers(1, 100),
    str: st.sampled_from(["a", "b"]),
    list: st.lists(st.sampled_from(["a", "b"]), unique=True),
    dict: st.dictionaries(st.sampled_from(["a", "b"]), st.booleans()),
}
handed_over = st.sets(st.sampled_from(sorted(daemon_keys.KEYS)), max_size=4).flatmap(
    lambda names: st.fixed_dictionaries(
        {name: values[daemon_keys.KEYS[name].kind] for name in names}
    )
)


@given(handed_over, st.sampled_from(["20.10.24", "26.1.5"]))
def test_what_was_done_needs_not_be_done_again(wanted: dict[str, Any], version: str) -> None:
    daemon = Dockerd(version)

    def planned(text: str, restarting: bool) -> Plan:
        facts = Facts("f", text, daemon.info(), [], [URL])
        return plan(Wanted(URL, [], wanted, {}), facts, "when-needed", restarting)

    first = planned("", False)
    daemon.reload(first.between.encode())
    waiting = planned(first.after, False)
    assert (waiting.step, waiting.due) == ("none", first.due)
    last = planned(first.after, True)
    if {"log-driver", "log-opts"} & set(
        wanted
    ):  # the model knows the real ones only, and refuses to start
        return
    daemon.restart(last.after.encode())
    done = planned(last.after, True)
    assert (done.step, done.due, done.after) == ("none", [], last.after)


@given(
    handed_over,
    st.sampled_from(["{}", '{\n "debug": false,\n  "dns": ["1.1.1.1"]\n}', '{"labels": [ "a" ]}']),
)
def test_handing_keys_over_and_taking_them_back_gives_the_same_bytes(
    wanted: dict[str, Any], text: str
) -> None:
    def planned(now: str, keys_now: dict[str, Any], former: dict[str, Any]) -> str:
        facts = Facts("f", now, Dockerd().info(), [], [URL])
        return plan(Wanted(URL, [], keys_now, former), facts, "when-needed", restarting=True).after

    with_mirror = planned(text, {}, {})
    there = planned(with_mirror, wanted, {})
    assert (
        planned(there, {}, {key: daemon_json.spelling(text, key) for key in wanted}) == with_mirror
    )
