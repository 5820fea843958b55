"""What of a daemon.json docker has not taken over yet, and what else is in the way: one JSON file per claim under cases/pending/.

`file` is daemon.json; `info`, `event`, `arguments` (behind the program's name; `argv` is all of it), `version` are the daemon.
The file is as it was at docker's start, unless `at_start` says what it was then (null: there was none), or `edited` that nobody
knows. `reload` and `restart`: a pattern for each thing that is in the way of that step, in any order.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import daemon_settings, keys, preflight, started
from components.registry_mirror.node_agent.daemon_settings import AtStart
from components.registry_mirror.node_agent.preflight import Facts

CASES = Path(__file__).parent / "cases" / "pending"


def facts_of(case: dict[str, Any]) -> Facts:
    text = case["file"]
    info = {"RegistryConfig": {"Mirrors": []}, "ServerVersion": case.get("version", "26.1.5"), **case.get("info", {})}
    then = case.get("at_start", text)
    at_start = AtStart(started.values(then), not case.get("edited", False), then is None)
    return Facts(
        "/etc/docker/daemon.json", text, info,
        case.get("argv", ["/usr/sbin/dockerd", "-H", "fd://", *case.get("arguments", [])]), ["https://mirror.example.com"],
        program=case.get("program", "/usr/sbin/dockerd"), at_start=at_start, event=case.get("event"),
        written_by_us=case.get("written_by_us", False), stale_unit=case.get("stale_unit", ()), data_root=case.get("data_root"),
    )  # fmt: skip


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_node(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    facts, managed = facts_of(case), case.get("managed", [])
    reload = preflight.findings(facts, managed)
    restart = reload + preflight.restart_findings(facts, managed)
    for expected, found in ((case["reload"], reload), (case["restart"], restart)):
        assert len(found) == len(expected), found
        for pattern in expected:
            assert [words for words in found if re.search(pattern, words)], (pattern, found)


def test_every_key_that_can_be_managed_is_in_the_table_and_agrees_on_who_takes_it_over() -> None:
    for name, key in keys.KEYS.items():
        setting = daemon_settings.SETTINGS[name]
        assert key.reloads == (setting.taken_by != daemon_settings.START), name
        if setting.default is not daemon_settings.NOT_SHOWN:
            assert setting.normal(key.default) == setting.default, name
