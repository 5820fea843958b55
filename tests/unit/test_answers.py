"""What a node answers is one node's fault where it is not what the node agent answers."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.registry_mirror.cli import answers, nodes
from components.registry_mirror.cli.answers import BadAnswer, parse
from tests.builders import mirror, node_answer

GOOD = node_answer(id="i1")


def test_a_good_answer_is_taken_as_it_is() -> None:
    assert parse(json.dumps(GOOD), answers.LOOK) == GOOD
    stats = {"registry": {"hits": 5}, "varnish": None, "quota": None, "cached": 7}
    assert parse(json.dumps(stats), answers.STATS, nullable=True) == stats


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "",
        "[]",
        "null",
        "5",
        "[" * 200_000,
        "{}",
        json.dumps({**GOOD, "extra": 1}),
        json.dumps({**GOOD, "used": 1}),
        json.dumps({**GOOD, "due": "x"}),
        json.dumps({**GOOD, "faults": [5]}),
        json.dumps({**GOOD, "faults": ["x"] * 5000}),
        json.dumps({**GOOD, "engine": None}),
    ],
)
def test_any_other_answer_is_refused_with_a_message(text: str) -> None:
    with pytest.raises(BadAnswer, match="look at that machine"):
        parse(text, answers.LOOK)


@pytest.mark.parametrize("value", [-1, 1e999, 1 << 80, True, "5", {"hits": 1.5}, {"hits": 1e999}])
def test_a_number_that_no_counter_has_is_refused(value: object) -> None:
    stats = {"registry": value, "varnish": None, "quota": None, "cached": None}
    with pytest.raises(BadAnswer):
        parse(json.dumps(stats), answers.STATS, nullable=True)


def test_no_control_character_comes_through() -> None:
    parsed = parse(
        json.dumps({**GOOD, "engine": "1\x1b[2J", "faults": ["\u202ea\nb\x07"]}), answers.LOOK
    )
    assert (parsed["engine"], parsed["faults"]) == ("1", ["a b"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_answer_is_a_traceback(value: object) -> None:
    for shape in (answers.LOOK, answers.STATS):
        with contextlib.suppress(BadAnswer):
            parse(json.dumps(value), shape)


def test_one_bad_node_is_one_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "a": (0, json.dumps(GOOD), ""),
        "b": (0, "[]", ""),
        "c": (255, "", "no answer within 8 s"),
    }
    monkeypatch.setattr(nodes, "_agent", lambda action, asked, *_: said[asked.name])
    looks = nodes.look(mirror("a", "b", "c", manager="a"))
    assert [(look.reachable, look.drifted) for look in looks] == [
        (True, False),
        (True, True),
        (False, False),
    ]
    assert "not an object" in looks[1].faults[0]
    stats = nodes.stats(mirror("b", "c", manager="b"))
    assert [fault.partition(":")[0] for fault in stats.faults] == ["b", "c"]
