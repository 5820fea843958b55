"""What plain `pulumi preview --diff` shows of a node, and how much of the state is a node's:
settings, and no program."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.registry_mirror import runner
from lab.plan import CHECKOUT
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror
from tests.lab.output import counts

NODES = ["node1", "node2", "node3"]
PER_NODE = 6000
"""Bytes of the state that a node may cost, everything included, without the blanks that lay it
out."""
SUDOERS = "/etc/sudoers.d/ops-another-version"
ENCODED = re.compile(r"[A-Za-z0-9+/=]{80,}")
"""A piece of a packed program; a SHA-256 has 64 characters, a host key 68."""


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    # Previews here run in another folder too.
    mirror.base = json.loads(json.dumps(mirror.base).replace(".lab/", f"{CHECKOUT}/.lab/"))
    mirror.configure()
    if mirror.stack.outputs():  # a lab that was kept from an earlier run (KEEP_LAB=1)
        mirror.destroy()
    mirror.up()
    yield mirror
    mirror.configure()
    mirror.destroy()


def changed(text: str) -> dict[str, list[str]]:
    """Of what `--diff` prints: name of a resource -> lines that differ, without those that say
    which resource it is."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.partition("\nResources:")[0].splitlines():
        urn = re.search(r"\[urn=urn:pulumi:\S+::(\S+)\]", line)
        if urn:
            name = urn[1]
        words = line.strip()
        if words[:2] in ("+ ", "- ", "~ ") and "command:local:Command: " not in words and name:
            found.setdefault(name, []).append(words)
    return found


def nodes_of(changes: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name.rpartition("-")[2]: lines for name, lines in changes.items() if "-node-" in name}


def test_a_changed_key_is_shown_as_that_key_and_no_program_is(lab: Lab, mirror: Mirror) -> None:
    mirror.configure(daemonKeys={"debug": True})
    text = mirror.stack.run("preview", "--diff")
    nodes = nodes_of(changed(text))
    assert set(nodes) == set(NODES)
    for lines in nodes.values():
        assert [" ".join(line.split()) for line in lines] == [
            "~ stdin: (json) {",
            "~ keys : {",
            "+ debug: true",
        ]
    assert not ENCODED.search(text)
    mirror.configure()


def test_another_version_of_the_agent_is_one_line_for_a_node_and_no_program_is_shown(
    lab: Lab, mirror: Mirror, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.mkdir()
    for name in ("components", "config"):
        shutil.copytree(
            CHECKOUT / name, program / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("__main__.py", "Pulumi.yaml", "Pulumi.dev.yaml"):
        shutil.copy(CHECKOUT / name, program)
    (program / ".tools").symlink_to(CHECKOUT / ".tools")
    with (program / "components/registry_mirror/node_agent/plan.py").open("a") as file:
        file.write("\nANOTHER_VERSION = True\n")
    before = lab.connections(*NODES)

    def pulumi(*words: str) -> str:
        done = subprocess.run(
            mirror.stack.command(*words),
            cwd=program,
            env=mirror.stack.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    text = pulumi("preview", "--diff")
    nodes = nodes_of(changed(text))
    assert set(nodes) == set(NODES)
    for lines in nodes.values():
        (line,) = [line for line in lines if "environment" not in line]
        assert re.fullmatch(rf'~ MIRROR_RUNNER: "{runner.digest()}" => "[0-9a-f]{{64}}"', line)
    assert not ENCODED.search(text)
    assert "import " not in text
    assert "known_hosts" not in text
    assert lab.connections(*NODES) == before
    # The new version is applied, and undone by the one that is there, without a change on any node.
    files = {node: lab.daemon_json(node) for node in NODES}
    daemons = {node: lab.daemon_pid(node) for node in NODES}
    lab.on("node3", f"cat > {SUDOERS}; chmod 440 {SUDOERS}", _sudoers(program))
    try:
        pulumi("up", "--yes", "--skip-preview")
        assert mirror.stack.outputs()["nodes"] == dict.fromkeys(NODES, "unchanged")
        mirror.up()
        assert mirror.stack.outputs()["nodes"] == dict.fromkeys(NODES, "unchanged")
    finally:
        lab.on("node3", f"rm {SUDOERS}")
    assert {node: lab.daemon_json(node) for node in NODES} == files
    assert {node: lab.daemon_pid(node) for node in NODES} == daemons
    assert set(counts(mirror.up())) == {"unchanged"}


def _sudoers(program: Path) -> bytes:
    """The rules for the agent of another checkout, which are installed beside those of this one."""
    script = "from components.registry_mirror.ship import sudoers; print(sudoers('ops'), end='')"
    python = CHECKOUT / ".tools/venv/bin/python"
    return subprocess.run(
        [python, "-c", script], cwd=program, capture_output=True, check=True
    ).stdout


def compact(mirror: Mirror) -> str:
    """The state without the blanks that lay it out."""
    return json.dumps(json.loads(mirror.stack.quietly("stack", "export")), separators=(",", ":"))


def test_a_node_is_a_few_kilobytes_of_the_state(mirror: Mirror) -> None:
    whole = compact(mirror)
    mirror.configure(without=("node3",))
    mirror.up()
    less = compact(mirror)
    mirror.configure()
    mirror.up()
    print(f"{len(whole)} B with three nodes, {len(less)} B with two")
    assert len(whole) - len(less) < PER_NODE
    of_node = [
        resource
        for resource in json.loads(whole)["deployment"]["resources"]
        if "-node-" in resource["urn"]
    ]
    assert len(of_node) == len(NODES)
    for resource in of_node:
        assert not ENCODED.search(json.dumps(resource))
