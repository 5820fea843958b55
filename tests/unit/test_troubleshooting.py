"""Every sentence that an agent says to a person stands in docs/troubleshooting.md, so that a search for it ends there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("node_agent", "rolling_restart")
LONG_ENOUGH = 30
"""Characters from which on a text is a sentence and not a name, a command or a joint."""


def docstrings(tree: ast.Module) -> set[int]:
    """Nodes that explain something: docstrings, and texts behind constants."""
    return {id(item.value) for item in ast.walk(tree) if isinstance(item, ast.Expr)}


def sentences(path: Path) -> Iterator[str]:
    """What a module says, with … for what it fills in."""
    tree = ast.parse(path.read_text())
    silent = docstrings(tree)
    for item in ast.walk(tree):
        if isinstance(item, ast.Constant) and isinstance(item.value, str) and id(item) not in silent:
            text = re.sub(r"%[sdr]", "…", item.value).strip(" :;,\n")
            if len(text) >= LONG_ENOUGH and text.count(" ") >= 4 and not re.search(r"2>&1|\^|--\w+ \d|\{\{", text):
                yield text


SAID = sorted(
    {
        (path.name, sentence)
        for room in ROOMS
        for path in (ROOT / "components" / "registry_mirror" / room).glob("*.py")
        for sentence in sentences(path)
    }
)


def test_no_sentence_of_the_component_names_the_makefile_of_this_checkout() -> None:
    """Whoever imports the component has none."""
    here = ROOT / "components" / "registry_mirror"
    texts = [
        item.value
        for path in here.rglob("*.py")
        for tree in [ast.parse(path.read_text())]
        for item in ast.walk(tree)
        if isinstance(item, ast.Constant) and isinstance(item.value, str) and id(item) not in docstrings(tree)
    ]
    shell = [line for path in here.rglob("*.sh") for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
    pattern = re.compile(rf"\bmake ({'|'.join(targets)})\b")
    assert pattern.search("then `make pin`"), "or this test shows nothing"
    assert [text for text in (*texts, *shell) if pattern.search(text)] == []


@pytest.mark.parametrize(("module", "sentence"), SAID, ids=[sentence[:60] for _, sentence in SAID])
def test_what_an_agent_says_is_explained(module: str, sentence: str) -> None:
    document = " ".join((ROOT / "docs" / "troubleshooting.md").read_text().split())
    assert " ".join(sentence.split()) in document
