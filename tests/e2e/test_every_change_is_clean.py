"""Every change of a setting: one update, in place, and then nothing: `up`, `up`, `refresh`,
`preview`, `up`.

`make test` leaves out the previews between changes, whose answers `refresh` and `up` give too. What
is compared is docker's own ids: of the services, which must stay, and of their tasks. The
tests build on one mirror.
"""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from lab import internet
from lab.upstream import ACCOUNT
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror
from tests.lab.output import counts

SERVICES = ("registry-mirror", "registry-mirror-front")
ALLOWED = ["198.18.0.0/24"]
CLEAR = {"sendTokenUnencrypted": True}
"""The lab's upstream speaks plain HTTP."""


class Settings(NamedTuple):
    """Settings of a stack, and which of its two services gets a new task by them (compared with the
    step before)."""

    title: str
    changes: dict[str, Any]
    registry: bool
    varnish: bool
    token: str | None = None
    gate: bool = False
    """Whether the gate is made anew: it must be strict where the account at the upstream is
    another, and leaves nothing."""


# A task that runs where new constraints let it run is left alone (swarmkit
# manager/orchestrator/task.go, IsTaskDirtyPlacementConstraintsOnly).
STEPS = (
    Settings("who may use it: labels only", {"allowFrom": ALLOWED}, False, False),
    Settings("metrics", {"allowFrom": ALLOWED, "metricsFrom": ALLOWED}, True, True),
    Settings(
        "memory, no metrics, and where tasks may run",
        {"memory": 700, "placementConstraints": ["node.role == manager"]},
        True,
        True,
    ),
    Settings(
        "a volume",
        {"cacheVolume": "a-cache", "placementConstraints": ["node.hostname == node1"]},
        True,
        False,
    ),
    Settings(
        "a published port, and other times",
        {"publishUnencryptedPort5000": True, "ttlHours": 9},
        True,
        False,
    ),
    Settings(
        "credentials",
        {"allowFrom": ALLOWED, "upstreamUsername": ACCOUNT[0], **CLEAR},
        True,
        False,
        ACCOUNT[1],
        gate=True,
    ),
    Settings(
        "Varnish's memory, and no credentials", {"coalesceMemory": 600}, True, True, gate=True
    ),
    Settings("Varnish's disk", {"coalesceMemory": 600, "coalesceDisk": 512}, False, True),
)


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    internet.behave(lab.sandbox, "well")
    mirror = Mirror(lab)
    mirror.up()
    yield mirror
    mirror.configure()
    mirror.up()
    mirror.destroy()
    lab.on("node1", "docker volume rm a-cache >/dev/null 2>&1 || true")


def services(lab: Lab) -> dict[str, tuple[str, str]]:
    """Service -> its id, and its running task's."""
    return {
        name: (
            lab.on("node1", f"docker service inspect --format '{{{{.ID}}}}' {name}").strip(),
            lab.on(
                "node1", f"docker service ps --quiet --filter desired-state=running {name}"
            ).strip(),
        )
        for name in SERVICES
    }


def assert_nothing_more_to_do(
    mirror: Mirror, *, previews: bool = "FAULT_REPEATS" in os.environ
) -> None:
    """`previews`: ask them too, which is half of the time."""
    refresh, up = ("refresh", "--yes", "--skip-preview"), ("up", "--yes", "--skip-preview")
    for words in (("preview",), refresh, ("preview",), up) if previews else (refresh, up):
        output = mirror.stack.run(*words)
        assert set(counts(output)) == {"unchanged"}, f"{words[0]}: {output}"


def test_a_new_mirror_is_clean(mirror: Mirror) -> None:
    assert_nothing_more_to_do(mirror, previews=True)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.title)
def test_a_change_is_one_update_in_place_and_then_nothing(
    lab: Lab, mirror: Mirror, step: Settings
) -> None:
    before = services(lab)
    mirror.configure(**step.changes)
    if step.token is not None:
        mirror.secret("upstreamToken", step.token)
    assert counts(mirror.up()).get("replaced", 0) == int(step.gate)
    after = services(lab)
    for name, has_new_task in zip(SERVICES, (step.registry, step.varnish), strict=True):
        assert after[name][0] == before[name][0], f"{name} was replaced"
        assert (after[name][1] != before[name][1]) == has_new_task, name
    assert_nothing_more_to_do(mirror)


def test_without_varnish_the_registry_stays_and_is_clean(lab: Lab, mirror: Mirror) -> None:
    before = services(lab)["registry-mirror"][0]
    mirror.configure(coalesce=False)
    mirror.up()
    assert (
        lab.on("node1", "docker service inspect --format '{{.ID}}' registry-mirror").strip()
        == before
    )
    assert_nothing_more_to_do(mirror)
