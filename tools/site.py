"""`make docs`: the documentation as a site, every link checked, and seen in a browser.

    .tools/venv/bin/python -m tools.site [--serve]

mkdocs has an environment of its own (a rule of the Makefile). This brings the two scripts of the
site that the theme would load from elsewhere: a browser that opens the site asks nobody but the
site.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tools.progress import StageError, main_guard, run_logged, stage
from tools.toolchain import CHECKOUT, LOGS, TOOLS, VENV, environment

MKDOCS = TOOLS / "docs" / "bin" / "mkdocs"
VENDOR = TOOLS / "vendor"
SITE = TOOLS / "site"

SCRIPTS = {
    "mermaid.js": (
        "mermaid@11.17.2",
        "package/dist/mermaid.min.js",
        "V6K3C8EBdEsPFZXSKMJe6ppQOENxuHARr9GvHX4hh47lAbhMRD9qf4oEK7LoaRQxULMa80/qt5gHO73aCleBBg==",
    ),
    "iframe-worker.js": (
        "iframe-worker@1.0.4",
        "package/shim/index.js",
        "roeaaI+Lg1LJNfgpCjoRe/+WzEjy9+Z08LoEvu85MCPbBjwm+qXz8Ag5U05lHa6V1CysZyGzE0SOkAtSUA5q7Q==",
    ),
}
"""Script -> npm package, the file in it, and the SHA-512 of the package.

The first draws diagrams. With the second, the search works where the site is opened as files.
"""


def build() -> None:
    """Build the site into SITE. Raises StageError with a broken link or anchor."""
    for name, (package, member, digest) in SCRIPTS.items():
        _fetch(VENDOR / name, package, member, digest)
    with stage("site") as running:
        log = LOGS / "docs.log"
        log.unlink(missing_ok=True)
        run_logged(
            [MKDOCS, "build", "--strict", "--clean", "--quiet"],
            log,
            # A warning about a future mkdocs is no finding about these pages.
            env={"NO_MKDOCS_2_WARNING": "true"},
            cwd=CHECKOUT,
            remedy=f"all findings are in {log}",
        )
        pages = len(list(SITE.rglob("*.html")))
        running.note(f"{pages} pages, no broken link: {SITE.relative_to(CHECKOUT)}/index.html")


def look() -> None:
    """Look at the site in a browser. Raises StageError where a test of tests/docs fails."""
    argv = [str(VENV / "bin" / "python"), "-m", "pytest", "-m", "docs", "tests/docs"]
    looked = subprocess.run(argv, cwd=CHECKOUT, env={**os.environ, **environment()}, check=False)
    if looked.returncode != 0:
        raise StageError("the site does not look as it should: the reason stands above")


def _fetch(target: Path, package: str, member: str, digest: str) -> None:
    """Fetch one file of an npm package, unless the one that is there came from the same package."""
    stamp = target.with_suffix(".sha512")
    if target.exists() and stamp.exists() and stamp.read_text() == digest:
        return
    if not shutil.which("npm"):
        reason = f"the site needs {package}, and there is no npm on this computer"
        raise StageError(reason, "install npm (Debian: npm)")
    with stage(package) as running, tempfile.TemporaryDirectory() as folder:
        run_logged(
            ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", folder, package],
            LOGS / "npm.log",
            remedy="check that the npm registry can be reached, then run the same command again",
        )
        (archive,) = Path(folder).glob("*.tgz")
        actual = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if actual != digest:
            raise StageError(f"{package} has SHA-512 {actual}; {digest} is pinned", "do not use it")
        with tarfile.open(archive) as tar:
            content = tar.extractfile(member)
            if content is None:
                raise StageError(f"{package} has no file {member}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())
        stamp.write_text(digest)
        running.note("an npm package, its SHA-512 pinned")


def main() -> None:
    """Build and look; with --serve, then serve the site on the loopback until it is interrupted."""
    build()
    look()
    if "--serve" in sys.argv[1:]:
        argv = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "8000"]
        subprocess.run(argv, cwd=SITE, check=False)


if __name__ == "__main__":
    sys.exit(main_guard(main))
