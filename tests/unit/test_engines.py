"""Which docker each machine of a lab has, and the daemon.json that it begins with."""

import json
from dataclasses import replace

import pytest

from lab.__main__ import up_with
from lab.engines import ENGINES
from lab.machines import first_daemon_json
from lab.plan import NODE2_DAEMON_JSON, NODES
from tools.progress import StageError

NODE1, NODE2, NODE3 = NODES


def test_the_usual_machines_have_no_daemon_json_but_the_one_of_an_odd_administrator() -> None:
    assert [first_daemon_json(node) for node in NODES] == ["", NODE2_DAEMON_JSON, ""]


@pytest.mark.parametrize(
    ("engine", "features"),
    [
        ("28.5-containerd", {"containerd-snapshotter": True}),
        ("29-graphdriver", {"containerd-snapshotter": False}),
    ],
)
def test_a_store_that_is_not_the_usual_one_is_asked_for_beside_what_is_there(
    engine: str, features: dict[str, bool]
) -> None:
    assert json.loads(first_daemon_json(replace(NODE3, engine=engine))) == {"features": features}
    both = first_daemon_json(replace(NODE2, engine=engine))
    assert json.loads(both) == {"features": features, **json.loads(NODE2_DAEMON_JSON)}
    assert both.endswith(NODE2_DAEMON_JSON.partition("{")[2])


def test_an_engine_says_of_itself_which_store_it_has() -> None:
    for name, engine in ENGINES.items():
        asked = engine.daemon_json.get("features", {}).get("containerd-snapshotter")
        assert engine.containerd_store == (name.startswith("29") if asked is None else asked), name


@pytest.mark.parametrize("word", ["node9=28.5", "node2=27", "node2"])
def test_a_machine_or_engine_that_there_is_not_is_named_with_those_that_there_are(
    word: str,
) -> None:
    with pytest.raises(StageError) as refused:
        up_with("nothing", [word])
    assert "no such node or engine" in refused.value.reason
    assert (
        "20.10, 20.10-sysv, 26.1, 28.5, 28.5-containerd, 29, 29-graphdriver" in refused.value.remedy
    )
