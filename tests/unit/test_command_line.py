"""dockerd's command line as dockerd reads it: one JSON file per claim under cases/command_line/.

`words` behind the program's name give `flags`; beside a daemon.json with the content `file`,
dockerd refuses the keys of `conflicts` because of the flags there.
tests/contract/test_real_dockerd.py asks real ones the same.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import command_line

CASES = Path(__file__).parent / "cases" / "command_line"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_command_line(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    arguments = ["/usr/sbin/dockerd", *case["words"]]
    assert [list(flag) for flag in command_line.flags(arguments)] == case["flags"]
    assert command_line.conflicts(case["file"], arguments) == case["conflicts"]


def test_of_a_flag_that_holds_one_value_the_last_counts() -> None:
    arguments = ["dockerd", "--config-file", "/a", "-D", "--config-file=/b"]
    assert command_line.last_value(arguments, "config-file") == "/b"
    assert command_line.last_value(arguments, "bip") is None
