"""A plugin for pytest: every sentence of the program is `x`, and no test may ask for one.

Loaded by `tests/unit/test_no_decision_on_words.py`, in a process of its own. What a module of the
agent, of the rolling restart or the reader of a state says to a person becomes `x`, with its
placeholders; in the tests, an assertion that names a sentence is evaluated and not asserted, and an
error may match any pattern. Everything else must pass: then nothing is decided by how something is
worded.
"""

import ast
import importlib.abc
import importlib.util
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

import pytest

PACKAGE = "components.registry_mirror"
SPEAKING = (f"{PACKAGE}.node_agent.", f"{PACKAGE}.rolling_restart.", f"{PACKAGE}.cli.deployed")
TESTS = "tests.unit.test_"

_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[-0-9.]*[sdr%]|\{\{|\}\}")
_NOT_OURS = (
    "out of sequence",  # docker's own words, which cannot be had otherwise (node_agent/swarm.py)
    "deadline exceeded",
    "nfs %s %s",  # names of what is claimed, which other versions read (node_agent/claim.py)
    "volume %s on %s",
    "path %s",
    "printf %s",  # a shell's program (node_agent/claim.py)
    "docker service logs",
    "POST /images/create",
    "HTTP/1.1",
    "systemctl ",
    "python3 ",
    "restart due",  # words of an earlier version (node_agent/outcome.py)
    "upstream not reached",
    "Error reloading",  # dockerd's own (node_agent/engine.py)
)
"""What has spaces and is no sentence of ours: programs, and what others say."""


def is_sentence(text: str) -> bool:
    """Whether a text is said to a person: it has two words with a space between."""
    if any(piece in text for piece in _NOT_OURS) or re.search(r"[\\^|]|\{\{|\n\[|\$", text):
        return False
    return re.search(r"[A-Za-z]{2,}[,;:.)]* [A-Za-z%(]", text) is not None


def without_words(text: str) -> str:
    """`x` for all that stands between placeholders."""
    return "x" + "".join(f"{found}x" for found in _PLACEHOLDER.findall(text))


_OF_A_CASE = re.compile(r"re\.search|'reasons'|'refused'|'error'|'remedy'|\bwords\b")
"""In an assertion that gets the sentence that it asks for from a case."""


class _Code(ast.NodeTransformer):
    """Sentences of a module; docstrings stay."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and is_sentence(node.value):
            return ast.copy_location(ast.Constant(without_words(node.value)), node)
        return node


class _Test(ast.NodeTransformer):
    """A test without what it asks of wording."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        texts = [
            item.value
            for item in ast.walk(node.test)
            if isinstance(item, ast.Constant) and isinstance(item.value, str)
        ]
        asks = any(map(is_sentence, texts)) or _OF_A_CASE.search(ast.unparse(node.test))
        # What it calls is called: half of a test's actions are in its assertions.
        return ast.copy_location(ast.Expr(node.test), node) if asks else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "raises":
            node.keywords = [word for word in node.keywords if word.arg != "match"]
        return node


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, change: type[ast.NodeTransformer]) -> None:
        super().__init__(name, path)
        self.change = change

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = self.change().visit(ast.parse(self.get_data(path)))
        return compile(ast.fix_missing_locations(tree), path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = (
            _Code
            if fullname.startswith(SPEAKING)
            else _Test
            if fullname.startswith(TESTS)
            else None
        )
        spec = PathFinder.find_spec(fullname, path) if change is not None else None
        if change is None or spec is None or spec.origin is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname, spec.origin, loader=_Loader(fullname, spec.origin, change)
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs nothing of the modules above: a test of the guard, which is a shell's
    program, and takes seconds."""
    left_out = [item for item in items if "machine" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Before anything is imported: the fixtures of `conftest.py` import the agent."""
    assert not [name for name in sys.modules if name.startswith(SPEAKING)]
    sys.meta_path.insert(0, _Finder())
