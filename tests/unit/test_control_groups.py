"""Control groups of version 1, version 2 and both, as folders that look like the kernel's."""

import subprocess
from pathlib import Path

import pytest

from lab import control_groups


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    """As Debian 10 has it, with the unified hierarchy beside it, where systemd keeps its own
    groups."""
    for name in ("cpu,cpuacct", "cpuset", "devices", "memory", "pids", "systemd", "unified"):
        (tmp_path / name).mkdir()
    for link in ("cpu", "cpuacct"):
        (tmp_path / link).symlink_to("cpu,cpuacct")
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-3\n")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0\n")
    (tmp_path / "unified" / "cgroup.controllers").write_text("")
    return tmp_path


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    """As a current Ubuntu has it: systemd hands on what it uses itself."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma misc\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    for name in ("system.slice", "user.slice"):
        (tmp_path / name).mkdir()
    return tmp_path


def join(root: Path, name: str = "lab-node1") -> str:
    """The process id of the shell that has run the lines."""
    script = f"echo $$\nset -e\n{control_groups.joining(name, root)}"
    return subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_on_version_1_a_machine_has_a_group_in_every_hierarchy_and_in_no_link(
    version_1: Path,
) -> None:
    assert control_groups.fault(version_1) is None
    assert not control_groups.is_unified(version_1)
    pid = join(version_1)
    groups = ("cpu,cpuacct", "cpuset", "devices", "memory", "pids", "systemd")
    assert {path.parent.parent.name for path in version_1.glob("*/lab-node1/cgroup.procs")} >= set(
        groups
    )
    assert not (version_1 / "unified" / "lab-node1").exists()
    for group in groups:
        assert (version_1 / group / "lab-node1" / "cgroup.procs").read_text().strip() == pid


def test_there_it_is_given_processors_which_a_new_group_does_not_have(version_1: Path) -> None:
    join(version_1)
    group = version_1 / "cpuset" / "lab-node1"
    assert (group / "cpuset.cpus").read_text() == "0-3\n"
    assert (group / "cpuset.mems").read_text() == "0\n"
    (group / "cpuset.cpus").write_text("2\n")
    join(version_1)
    assert (group / "cpuset.cpus").read_text() == "2\n", "one that has some keeps them"


def test_on_version_2_a_machine_has_one_group_and_the_controllers_are_handed_on_to_it(
    version_2: Path,
) -> None:
    assert control_groups.fault(version_2) is None
    handed = (version_2 / "cgroup.subtree_control").read_text().split()
    assert handed == ["cpu", "memory", "+pids", "+cpuset", "+io"], (
        "each by itself: one that the kernel refuses costs no other"
    )
    assert control_groups.hierarchies(version_2) == [version_2]
    assert (version_2 / "system.slice").is_dir()
    pid = join(version_2)
    assert (version_2 / "lab-node1" / "cgroup.procs").read_text().strip() == pid
    assert sorted(path.name for path in (version_2 / "lab-node1").iterdir()) == ["cgroup.procs"], (
        "a new group has processors there"
    )


def test_what_is_missing_is_said_in_one_line(version_1: Path) -> None:
    (version_1 / "memory").rmdir()
    assert control_groups.fault(version_1) == (
        f"a lab needs the control groups memory at {version_1}, which this computer does not have"
    )


def test_on_version_2_too(version_2: Path) -> None:
    (version_2 / "cgroup.controllers").write_text("cpuset cpu io\n")
    said = control_groups.fault(version_2) or ""
    assert said.startswith("a lab needs the controllers memory, pids in ")
    assert "\n" not in said


def test_a_kernel_that_hands_nothing_on_is_named_with_the_way_out(version_2: Path) -> None:
    """In a container without an init its root has processes, and the kernel answers "device or
    resource busy"."""
    control = version_2 / "cgroup.subtree_control"
    control.unlink()
    control.symlink_to(
        "/proc/version"
    )  # a file of the kernel's that has words in it and takes none, not from root either
    said = control_groups.fault(version_2) or ""
    assert "in a container with an init of its own" in said


def test_a_computer_without_control_groups_is_no_crash(tmp_path: Path) -> None:
    said = control_groups.fault(tmp_path / "none") or ""
    assert said.startswith("a lab needs the control groups cpu, memory, pids, devices at ")
    assert control_groups.hierarchies(tmp_path / "none") == []


def test_the_groups_go_with_the_lab_children_first_and_nobody_elses(version_2: Path) -> None:
    deep = version_2 / "lab-node1" / "payload" / "system.slice"
    deep.mkdir(parents=True)
    control_groups.remove("lab-node1", version_2)
    assert not (version_2 / "lab-node1").exists()
    assert (version_2 / "system.slice").is_dir()
    control_groups.remove("lab-node1", version_2)


def test_a_group_that_is_not_empty_yet_stays(version_1: Path) -> None:
    group = version_1 / "memory" / "lab-node1"
    group.mkdir()
    (group / "cgroup.procs").write_text("1")  # a folder that cannot be removed
    (version_1 / "pids" / "lab-node1").mkdir()
    control_groups.remove("lab-node1", version_1)
    assert group.exists()
    assert not (version_1 / "pids" / "lab-node1").exists()
