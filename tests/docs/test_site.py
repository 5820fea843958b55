"""The site that `make docs` has built, as a reader's browser has it: a real Chromium that can reach
nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import browser
from tests.docs.browser import ORIGIN, Page

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / ".tools" / "site"
pytestmark = pytest.mark.docs

OWN = (f"{ORIGIN}/", "data:", "blob:")
"""How the addresses begin that a page may ask for."""
WITH_DIAGRAMS = {
    path.relative_to(ROOT / "docs").with_suffix(".html").as_posix(): len(
        re.findall(r"^```mermaid$", text, re.MULTILINE)
    )
    for path in sorted((ROOT / "docs").rglob("*.md"))
    for text in [path.read_text()]
    if "```mermaid" in text
}
"""Page -> how many diagrams it has in its source."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if not (SITE / "index.html").exists():
        pytest.skip("there is no site: `make docs` builds it")
    reason = browser.missing()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("browser")
    with browser.start(SITE, folder / "profile") as running:
        yield running.page()


def drawn(page: Page, number: int) -> list[list[str]]:
    """The diagrams of a page, once all of them have a drawing."""

    def diagrams() -> list[list[str]]:
        found = page.diagrams()
        return found if len(found) == number and all(found) else []

    return page.until(diagrams, "every diagram is drawn")


def searched(page: Page, word: str) -> list[str]:
    """Where the search leads for a word."""
    page.run(
        "document.querySelector('[data-md-toggle=search]').click();"
        " document.querySelector('.md-search__input').focus()"
    )
    state = "document.querySelector('.md-search-result__meta').textContent"
    page.until(lambda: "Type to start" in page.run(state), "the search is ready")
    page.type(word)
    # The search begins with the first letter; its links name the words that it was for.
    links = "[...document.querySelectorAll('.md-search-result__link')].map(link => link.href)"

    def complete() -> list[str]:
        found = [str(link) for link in page.run(links)]
        return found if any(f"h={word.lower()}" in link.lower() for link in found) else []

    return page.until(complete, f"the search finds {word}")


def test_no_page_has_an_error_or_asks_another_machine(page: Page) -> None:
    pages = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    assert len(pages) > 60
    for name in pages:
        page.open(f"{ORIGIN}/{name}")
        if name in WITH_DIAGRAMS:
            drawn(page, WITH_DIAGRAMS[name])
            page.settle()
        assert page.complaints == [], name
        assert page.requests, name
        elsewhere = [
            url for url in page.requests if not url.startswith((f"{ORIGIN}/", "data:", "blob:"))
        ]
        assert elsewhere == [], name


def test_another_machine_and_an_error_would_be_seen(page: Page) -> None:
    page.open(f"{ORIGIN}/index.html")
    page.run("fetch('http://192.0.2.1/x.js').catch(() => {}); 1")
    page.run("setTimeout(() => { throw Error('seen') }); 1")
    page.settle()
    assert "seen" in str(page.complaints)
    assert "http://192.0.2.1/x.js" in page.requests
    page.open(f"{ORIGIN}/there-is-no-such-page.html")
    assert page.complaints


@pytest.mark.parametrize("name", WITH_DIAGRAMS)
def test_every_diagram_is_drawn(page: Page, name: str) -> None:
    page.open(f"{ORIGIN}/{name}")
    roles = drawn(page, WITH_DIAGRAMS[name])
    assert not [role for diagram in roles for role in diagram if role in ("", "error")], roles


@pytest.mark.parametrize(
    ("word", "where"),
    [
        ("quorum", "explanation/roll-out.html"),
        ("coalesceDisk", "reference/configuration.html"),
        ("lsattr", "reference/troubleshooting.html"),
    ],
)
def test_the_search_leads_to_the_page_that_has_the_word(page: Page, word: str, where: str) -> None:
    page.open(f"{ORIGIN}/index.html")
    found = searched(page, word)
    assert [link for link in found if link.startswith(f"{ORIGIN}/{where}")], found
    page.settle()
    assert page.complaints == []


def test_the_site_works_without_a_server(page: Page) -> None:
    page.open((SITE / "index.html").as_uri())
    roles = drawn(page, WITH_DIAGRAMS["index.html"])
    assert all(role and role != ["error"] for role in roles)
    assert [link for link in searched(page, "quorum") if "roll-out.html" in link]
    page.settle()
    assert page.complaints == []
    assert {url.partition(":")[0] for url in page.requests} <= {"file", "data", "blob"}
