"""What the values of managed keys may look like inside: one JSON file per claim under
cases/key_values/."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import daemon_keys
from components.registry_mirror.node_agent.plan import Wanted, plan
from tests.builders import facts_of

CASES = Path(__file__).parent / "cases" / "key_values"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_value(path: Path) -> None:
    """The preview asks `daemon_keys.fault`, and the agent refuses the plan; both say the same."""
    case: dict[str, Any] = json.loads(path.read_text())
    key, value = case["key"], case["value"]
    fault = daemon_keys.fault(key, value)
    wanted = Wanted("https://mirror.example.com", [], {key: value}, {})
    refusals = plan(wanted, facts_of({"file": "{}"}), "when-needed").refusals
    if case["fault"] is None:
        assert fault is None
        assert refusals == []
    else:
        assert fault is not None
        assert re.search(case["fault"], fault), fault
        assert refusals == [f"daemonKeys: {key} {fault}"]
