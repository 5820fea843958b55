"""What the site needs besides the pages: two scripts, and pages from the top of the repository.

mkdocs calls these functions (`mkdocs.yml`). Links of a page to files outside of docs/ work where
the repository is read. On the site they lead to the repository, if REPOSITORY_URL says where that
is, and are plain text otherwise. A file that does not exist is a warning, which ends a strict
build.
"""

import logging
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

REPOSITORY = Path(__file__).resolve().parents[2]
VENDOR = REPOSITORY / ".tools" / "vendor"
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}
"""Pages at the top of the repository -> their names on the site."""

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
_log = logging.getLogger("mkdocs.hooks.site")


def on_files(files: Any, config: Any) -> Any:
    """Add the scripts, and the pages of the top folder."""
    for script in sorted(VENDOR.glob("*.js")):
        files.append(
            File.generated(config, f"assets/vendor/{script.name}", abs_src_path=str(script))
        )
    for source, target in PAGES.items():
        # As if it lay in docs/: its links are relative to the folder above.
        text = _LINK.sub(
            lambda m: f"[{m[1]}]({_from_docs(m[2])}{m[3] or ''})", (REPOSITORY / source).read_text()
        )
        files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links that leave docs/ become links to the repository, to a page of the site, or text."""
    folder = posixpath.dirname(page.file.src_uri)

    def site_link(link: re.Match[str]) -> str:
        text, path, anchor = (
            link[1],
            posixpath.normpath(posixpath.join("docs", folder, link[2])),
            link[3] or "",
        )
        if path.startswith("docs/"):
            return link[0]
        if path in PAGES:
            return f"[{text}]({posixpath.relpath(PAGES[path], folder or '.')}{anchor})"
        if not (REPOSITORY / path).exists():
            _log.warning("%s links to %s, which is not in the repository", page.file.src_uri, path)
        url = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        return f"[{text}]({url}/blob/HEAD/{path}{anchor})" if url else text

    return _LINK.sub(site_link, markdown)


def _from_docs(path: str) -> str:
    """A link of a page in the top folder, as one of a page in docs/."""
    return posixpath.relpath(path, "docs")
