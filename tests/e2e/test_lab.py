"""The lab itself: it leaves the computer alone, and nothing of it outlives its sandbox."""

import json
import shutil
import subprocess
from pathlib import Path

from lab.control import prune
from lab.control_groups import hierarchies
from lab.machines import cgroup_of
from lab.plan import NODES
from lab.sandbox import Sandbox, labs_on_this_computer
from tests.lab.lab import Lab


def on_the_computer() -> list[str]:
    """What a lab must not change: interfaces, addresses, routes, mounts."""
    commands = (
        ["ip", "-oneline", "link"],
        ["ip", "-oneline", "address"],
        ["ip", "route"],
        ["cat", "/proc/self/mounts"],
    )
    return [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in commands
    ]


def test_the_computers_network_and_mounts_know_nothing_of_a_running_lab(lab: Lab) -> None:
    for text in on_the_computer():
        assert "lab0" not in text
        assert "198.18.0" not in text
        assert str(lab.folder.root) not in text


def test_a_lab_whose_checkout_was_deleted_is_found_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "gone" / ".lab" / "dev"
    before = on_the_computer()
    sandbox = Sandbox(folder)
    sandbox.start()
    sandbox.start()  # safe to repeat
    sandbox.run(["ip", "link", "add", "lab0", "type", "bridge"])
    child = sandbox.spawn(["sleep", "600"], tmp_path / "log")
    shutil.rmtree(tmp_path / "gone")
    assert folder in [found for _, found in labs_on_this_computer()]
    prune()
    assert folder not in [found for _, found in labs_on_this_computer()]
    assert child.wait(timeout=10) != 0
    assert on_the_computer() == before


def test_two_labs_do_not_see_each_other(lab: Lab, tmp_path: Path) -> None:
    other = Sandbox(tmp_path / "other")
    other.start()
    try:
        assert "lab0" not in other.run(["ip", "link"])
        assert not any("dockerd" in word for _, words in other.processes() for word in words)
        assert any("dockerd" in word for _, words in lab.sandbox.processes() for word in words)
    finally:
        other.stop()


def test_the_only_thing_that_shows_on_the_computer_is_a_control_group_with_the_labs_mark(
    lab: Lab,
) -> None:
    for node in NODES:
        assert any(
            (hierarchy / cgroup_of(lab.folder, node)).is_dir() for hierarchy in hierarchies()
        )


def test_a_machine_whose_docker_came_to_another_image_store_is_made_anew(lab: Lab) -> None:
    keys = json.dumps({"features": {"containerd-snapshotter": False}})
    lab.on(
        "node3",
        "mkdir -p /etc/docker; cat > /etc/docker/daemon.json; systemctl restart docker",
        keys.encode(),
    )
    assert lab.info("node3")["Driver"] != "overlayfs"
    lab.have({})
    assert lab.info("node3")["Driver"] == "overlayfs"
    assert lab.daemon_json("node3") is None
