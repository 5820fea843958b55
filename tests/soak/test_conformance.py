"""The OCI's own conformance suite against the mirror, cold and warm: its verdicts are those on the
upstream itself, but for one.

The suite first pushes what it is made of (images, indexes, artifacts, empty and odd blobs) to the
upstream, which a mirror cannot take; then it reads that, where it is and through the mirror.
"""

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab import deployed
from lab.internet import HUB_PORT, NAMESPACE
from lab.plan import INTERNET, MIRROR_HOST
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror
from tests.soak.outside import run_outside
from tools import toolchain
from tools.toolchain import BIN

REPOSITORY = "conformance/repo1"
SUITE = BIN / "conformance"
ROOT = "OCI Conformance Test/"
DIFFERENT = {
    "read-only/tag-list": "the registry lists all tags of its upstream, and ignores `last`, when it"
    " is a cache",
}
"""Verdicts that CNCF Distribution 3.1.2 itself costs; no pull asks for it. 3.1.1 cost
missing-manifest/by-digest, too: it answered 500 for a digest that its upstream answers 404 for."""


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    toolchain.go_program("conformance", "github.com/opencontainers/distribution-spec/conformance")
    mirror = Mirror(lab)
    # What its upstream says of referrers; `empty` passes where the upstream, which has none, fails.
    mirror.configure(referrers="upstream")
    mirror.up()
    yield mirror
    mirror.destroy()


@pytest.fixture(scope="module")
def content(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Push the suite's own content to the hub; returns what there is then, as the suite takes
    it."""
    toolchain.go_program("conformance", "github.com/opencontainers/distribution-spec/conformance")
    folder = tmp_path_factory.mktemp("pushed")
    kept = dict.fromkeys(
        ("BLOBS_DELETE", "MANIFESTS_DELETE", "TAGS_DELETE", "BLOBS_UPLOAD_CANCEL"), "false"
    )
    settings = {f"OCI_API_{name}": value for name, value in kept.items()}
    inside = ["ip", "netns", "exec", NAMESPACE]
    run_suite(lab, folder, f"127.0.0.1:{HUB_PORT}", {"OCI_TLS": "disabled", **settings}, inside)

    def crane(*words: str) -> str:
        return lab.sandbox.run([*inside, str(BIN / "crane"), *words, "--insecure"])

    repository = f"127.0.0.1:{HUB_PORT}/{REPOSITORY}"
    tags = crane("ls", repository).split()
    manifests, blobs = set(), set()
    for tag in tags:
        manifests.add(crane("digest", f"{repository}:{tag}").strip())
        manifest = json.loads(crane("manifest", f"{repository}:{tag}"))
        blobs |= {
            entry["digest"]
            for entry in [*manifest.get("layers", []), *filter(None, [manifest.get("config")])]
        }
    assert len(tags) > 3
    return {
        "OCI_RO_DATA_TAGS": " ".join(tags),
        "OCI_RO_DATA_MANIFESTS": " ".join(sorted(manifests)),
        "OCI_RO_DATA_BLOBS": " ".join(sorted(blobs)),
    }


def run_suite(
    lab: Lab,
    folder: Path,
    registry: str,
    settings: Mapping[str, str],
    inside: "list[str] | None" = None,
) -> "Counter[tuple[str, str]]":
    """(test, verdict) -> how often: a test is run for each manifest and blob."""
    environment = {
        "OCI_REGISTRY": registry,
        "OCI_REPO1": REPOSITORY,
        "OCI_RESULTS_DIR": str(folder / "results"),
        **settings,
    }
    if inside is None:
        output = run_outside(lab, folder, str(SUITE), environment=environment, may_fail=True)
    else:
        argv = lab.sandbox.command([*inside, str(SUITE)])
        done = subprocess.run(
            argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        output = done.stdout
    # The report on stdout, because the suite of this version ends with a nil pointer before it has
    # written the other ones.
    outcomes = Counter(
        re.findall(r"^\s*(OCI Conformance Test/[^:]+): (\w+)$", output, re.MULTILINE)
    )
    assert outcomes, output
    return outcomes


def test_the_suites_verdicts_on_the_mirror_are_those_on_its_upstream(
    lab: Lab, mirror: Mirror, content: Mapping[str, str], tmp_path: Path
) -> None:
    reading = {
        "OCI_API_PUSH": "false",
        "OCI_API_BLOBS_DELETE": "false",
        "OCI_API_MANIFESTS_DELETE": "false",
    }
    reading |= {"OCI_API_TAGS_DELETE": "false", **content}
    upstream = run_suite(lab, tmp_path, INTERNET, {"OCI_TLS": "disabled", **reading})
    deployed.empty(lab.sandbox)
    cold = run_suite(lab, tmp_path, MIRROR_HOST, reading)
    warm = run_suite(lab, tmp_path, MIRROR_HOST, reading)
    print(f"\nOn the upstream: {dict(Counter(verdict for _, verdict in upstream.elements()))}")
    assert sum(verdict == "Pass" for _, verdict in upstream.elements()) > 50
    assert differences(upstream, cold) == set(DIFFERENT)
    assert differences(upstream, warm) == set(DIFFERENT)


def differences(one: "Counter[tuple[str, str]]", other: "Counter[tuple[str, str]]") -> set[str]:
    """Names of the tests whose verdicts differ, without those that only sum others up."""
    names = {name for name, _ in [*(one - other), *(other - one)]}
    return {
        name.removeprefix(ROOT)
        for name in names
        if not any(longer.startswith(f"{name}/") for longer in names)
    }
