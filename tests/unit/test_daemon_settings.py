"""What of a daemon.json docker has not taken over yet, and what else is in the way: one JSON file
per claim under cases/pending/.

`file` is daemon.json; `info`, `event`, `arguments` (behind the program's name; `argv` is all of
it), `version` are the daemon. The file is as it was at docker's start, unless `at_start` says what
it was then (null: there was none), or `edited` that nobody knows. `reload` and `restart`: a pattern
for each thing that is in the way of that step, in any order.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import daemon_keys, daemon_settings, preflight
from tests.builders import facts_of

CASES = Path(__file__).parent / "cases" / "pending"


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
    for name, key in daemon_keys.KEYS.items():
        setting = daemon_settings.SETTINGS[name]
        assert key.reloads == (setting.taken_by != daemon_settings.START), name
        if setting.default is not daemon_settings.NOT_SHOWN:
            assert setting.normal(key.default) == setting.default, name
