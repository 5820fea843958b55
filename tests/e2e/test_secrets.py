"""A string of its own in the secrets of a stack that lives: it is in nothing that is printed, kept
or logged on the way."""

import base64
import json
import re
from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab
from tests.lab.mirror import Mirror, review, saved_state
from tests.lab.output import counts

CANARY = "CANARY-rack-of-node"
NODES = ["node1", "node2", "node3"]


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    configure(mirror, CANARY)
    yield mirror
    mirror.destroy()


def configure(mirror: Mirror, label: str, **changes: object) -> None:
    """A label of every docker, which a reload takes over, as a secret deep in the configuration."""
    mirror.configure(daemonKeys={"debug": True, "labels": ["placeholder"]}, **changes)
    mirror.stack.quietly(
        "config", "set", "--secret", "--path", "daemonKeys.labels[0]", stdin=f"rack={label}"
    )


def found_in(text: str) -> bool:
    """Whether the string is there, in the clear or inside base64."""
    tokens = (
        token[shift : shift + (len(token) - shift) // 4 * 4]
        for token in re.findall(r"[A-Za-z0-9+/]{12,}", text)
        for shift in range(4)
    )
    return "CANARY" in text or any(b"CANARY" in base64.b64decode(token) for token in tokens)


def test_it_is_on_the_nodes_and_in_nothing_that_an_up_prints_or_keeps(
    lab: Lab, mirror: Mirror
) -> None:
    preview, output = mirror.stack.run("preview", "--diff"), mirror.up()
    assert {node: CANARY in str(lab.info(node)["Labels"]) for node in NODES} == dict.fromkeys(
        NODES, True
    )
    places = {
        "preview": preview,
        "up": output,
        "up again": mirror.up(),
        "outputs": json.dumps(mirror.stack.outputs()),
        "export": mirror.stack.quietly("stack", "export"),
        "log": mirror.stack.log.read_text(),
        "status": "".join(mirror.operate("status", *flags)[1] for flags in ((), ("--json",))),
        "stats": mirror.operate("stats")[1],
        "nodes": mirror.operate("nodes", "--config-file", str(mirror.file))[1],
        "cloud-init": mirror.operate("cloud-init")[1],
        "the stack's file": mirror.file.read_text(),
        "the services": lab.on(
            "node1", "docker service inspect registry-mirror registry-mirror-front"
        ),
    }
    assert [place for place, text in places.items() if found_in(text)] == []
    # The search finds it where it is.
    assert found_in(mirror.stack.quietly("stack", "export", "--show-secrets"))


def test_a_saved_state_and_the_previews_against_it_are_without_it_and_quiet(mirror: Mirror) -> None:
    state = saved_state(mirror.stack)
    code, report = review(mirror.stack, state)
    assert (code, report["changes"]) == (0, [])
    configure(mirror, "ANOTHER-CANARY", maxParallel=3)
    rotated = saved_state(mirror.stack).read_text()
    code, shown = review(mirror.stack, state)
    assert not [
        text
        for text in (state.read_text(), rotated, json.dumps(report), json.dumps(shown))
        if found_in(text)
    ]
    assert not [
        word
        for word in ("stackTrace", "sourcePosition", "__main__.py")
        if word in state.read_text()
    ]
    configure(mirror, CANARY)


def test_a_failure_of_a_node_does_not_repeat_it(lab: Lab, mirror: Mirror) -> None:
    before = lab.daemon_json("node2") or b""
    lab.on("node2", "echo '{' > /etc/docker/daemon.json")
    try:
        mirror.configure(daemonKeys={"debug": False, "labels": ["placeholder"]})
        mirror.stack.quietly(
            "config", "set", "--secret", "--path", "daemonKeys.labels[0]", stdin="rack=CANARY-other"
        )
        reason = mirror.up_fails()
    finally:
        lab.on("node2", "cat > /etc/docker/daemon.json", before)
    assert reason.startswith("node2: nothing was changed")
    assert not found_in(reason + mirror.stack.log.read_text() + mirror.operate("repair")[1])
    configure(mirror, CANARY)
    assert "errored" not in counts(mirror.up())
