"""A module's source as it travels: every line keeps its number, and everything that a node does not
need is left out. Pure.

Left out are comments, docstrings, annotations of functions (but for the type of a request, by which
it is decoded) and three of four spaces of an indentation. By positions and not by `ast.unparse`,
whose text differs from one Python to the next: two colleagues' previews would differ.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

_BEGINS_A_STATEMENT = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
_REQUEST = "Request"
"""How the name of a type ends by which a request is decoded (`node_agent/main.py`)."""


class _Cut(NamedTuple):
    """A piece of the source, by the numbers of its characters, and what replaces it."""

    start: int
    end: int
    replacement: str


def minified(source: str) -> str:
    """`source` as it travels; a docstring leaves `0`, which needs no other statement in its
    block."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    cuts = [*_remarks(source, tokens), *_annotations(source), *_indents(source, tokens)]
    text = source
    for cut in sorted(cuts, reverse=True):
        text = text[: cut.start] + cut.replacement + text[cut.end :]
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def _remarks(source: str, tokens: list[tokenize.TokenInfo]) -> Iterator[_Cut]:
    """Every comment, and every text that is a statement of its own."""
    before = tokenize.NEWLINE
    place = _places(source)
    for token in tokens:
        start, end = place[token.start[0]] + token.start[1], place[token.end[0]] + token.end[1]
        if token.type == tokenize.COMMENT:
            yield _Cut(start, end, "")
        elif token.type == tokenize.STRING and before in _BEGINS_A_STATEMENT:
            yield _Cut(start, end, "0" + "\n" * source[start:end].count("\n"))
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            before = token.type


def _annotations(source: str) -> Iterator[_Cut]:
    """The annotations of functions, and of the variables in them."""
    lines, place = source.splitlines(keepends=True), _places(source)

    def offset(line: int, column: int) -> int:
        """Of a position as `ast` gives it, in bytes of UTF-8."""
        return place[line] + len(lines[line - 1].encode()[:column].decode())

    def cut(start: int, annotation: ast.expr) -> _Cut:
        assert annotation.end_lineno is not None
        assert annotation.end_col_offset is not None
        end = offset(annotation.end_lineno, annotation.end_col_offset)
        return _Cut(start, end, "\n" * source[start:end].count("\n"))

    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        arguments = function.args
        extra = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
        for argument in [*arguments.args, *arguments.kwonlyargs, *extra]:
            annotation = argument.annotation
            if annotation is not None and not ast.unparse(annotation).endswith(_REQUEST):
                start = offset(argument.lineno, argument.col_offset) + len(argument.arg)
                yield cut(start, annotation)
        if function.returns is not None:
            start = source.rindex(
                "->", 0, offset(function.returns.lineno, function.returns.col_offset)
            )
            yield cut(start, function.returns)
        for item in function.body:
            yield from (
                cut(
                    offset(each.target.end_lineno or 0, each.target.end_col_offset or 0),
                    each.annotation,
                )
                for each in _within(item)
                if isinstance(each, ast.AnnAssign) and each.value is not None
            )


def _within(statement: ast.AST) -> Iterator[ast.AST]:
    """A statement and what is in it, without functions and classes of their own."""
    yield statement
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            yield from _within(child)


def _indents(source: str, tokens: list[tokenize.TokenInfo]) -> Iterator[_Cut]:
    """The indentation of every line that no text goes on in: a quarter of it says the same."""
    place = _places(source)
    continued: set[int] = set()
    for token in tokens:
        if token.start[0] != token.end[0] and token.type not in (tokenize.NEWLINE, tokenize.NL):
            continued.update(range(token.start[0] + 1, token.end[0] + 1))
    for number, line in enumerate(source.splitlines(), 1):
        indent = re.match(" *", line)
        if number not in continued and indent and indent.end():
            yield _Cut(place[number], place[number] + indent.end(), " " * (indent.end() // 4))


def _places(source: str) -> list[int]:
    """Number of a line, from 1 on, and of the line behind the last -> number of its first
    character."""
    lengths = [len(line) for line in source.splitlines(keepends=True)]
    return [0, *accumulate([0, *lengths]), len(source)]
