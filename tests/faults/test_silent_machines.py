"""A machine that says nothing, or nothing more, at any point of a connection: it is given up in
seconds, with its name and why.

Node 2 is the canary here, node 3 is configured in the wave after it. The limits are those of
`ssh.py`.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.registry_mirror.ssh import CONNECT_SECONDS, SILENCE_SECONDS, SILENCES
from lab.plan import NODE2_DAEMON_JSON
from tests.lab.lab import MIRROR_URL, Lab
from tests.lab.mirror import Mirror
from tests.lab.output import counts
from tools.progress import StageError

SILENT = CONNECT_SECONDS
STOPPED = SILENCE_SECONDS * (SILENCES + 1)
"""Seconds that a connection may take to end; in the worst case the machine has just said
something."""
PULUMI = 20
"""Seconds for Pulumi's own work, on a computer that does other things too."""

LISTEN = """import socket, time
server, kept = socket.create_server(("", 22)), []
while True:
    kept.append(server.accept()[0])
    kept[-1].sendall(WORDS)
"""
KINDS = {
    "accepts the connection and says nothing": (SILENT, "timed out"),
    "swallows every packet": (SILENT, "timed out"),
    "stops after its first words": (STOPPED, ""),
    "stops while it looks for the key": (STOPPED, ""),
    "stops once the agent is there": (STOPPED, ""),
}
"""Kind -> (seconds until it is given up, what ssh says of it)."""
OF_A_CANARY = "stops once the agent is there"
"""Of these, the one that `make test` tries on a canary; those before anybody is logged in it tries
in a wave, at destroy, and when somebody interrupts."""


@contextlib.contextmanager
def silent(lab: Lab, node: str, kind: str) -> Iterator[None]:
    """Have a node's sshd behave so; everything else there keeps running."""
    settings = {
        "stops while it looks for the key": "AuthorizedKeysFile none\nAuthorizedKeysCommand"
        " /usr/bin/sleep 600\n"
        "AuthorizedKeysCommandUser root\n",
        "stops once the agent is there": "ForceCommand kill -STOP $PPID; sleep 600\n",
    }.get(kind)
    try:
        if kind == "swallows every packet":
            lab.on(node, "iptables -I INPUT -p tcp --dport 22 -j DROP")
        elif settings is not None:
            lab.on(
                node,
                "cat > /etc/ssh/sshd_config.d/silent.conf; systemctl restart ssh",
                settings.encode(),
            )
        else:
            words = (
                b""
                if kind == "accepts the connection and says nothing"
                else b"SSH-2.0-OpenSSH_9.2p1\r\n"
            )
            start = (
                "cat > /run/silent.py; systemctl stop ssh; systemd-run --quiet"
                " --unit=lab-silent python3 /run/silent.py"
            )
            lab.on(node, start, LISTEN.replace("WORDS", repr(words)).encode())
            lab.on(
                node,
                "for i in $(seq 50); do ss -Hltn sport = :22 | grep -q . && exit; sleep 0.1; done;"
                " exit 1",
            )
        yield
    finally:
        lab.on(
            node,
            "iptables -D INPUT -p tcp --dport 22 -j DROP 2>/dev/null; systemctl stop lab-silent"
            " 2>/dev/null;"
            " rm -f /run/silent.py /etc/ssh/sshd_config.d/silent.conf;"
            " pkill -KILL -f '[s]leep 600'; pkill -CONT sshd; systemctl restart ssh",
        )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for runner and host keys: every ssh of ours has its name in the command line."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def mirror(lab: Lab, cache: Path) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    mirror.stack.environment["XDG_CACHE_HOME"] = str(cache)
    mirror.up_after_kill()  # a lab that was kept from an interrupted run (KEEP_LAB=1) may be locked
    yield mirror
    mirror.configure()
    mirror.destroy()
    assert [lab.daemon_json(node) for node in lab.nodes] == [None, NODE2_DAEMON_JSON.encode(), None]


def fails_at(mirror: Mirror, node: str, kind: str, *, destroy: bool = False) -> None:
    """The next `up` (or `destroy`) ends in time, with the node's name and what is wrong."""
    seconds, words = KINDS[kind]
    started = time.monotonic()
    if destroy:
        with pytest.raises(StageError) as failed:
            mirror.destroy()
        reason = failed.value.reason
    else:
        reason = mirror.up_fails()
    took = time.monotonic() - started
    print(f"{node} {kind}: {took:.1f} s: {reason}")
    user = "ops" if node == "node3" else "root"
    assert reason.startswith(
        f"{node}: ssh://{user}@198.18.0.1{node[-1]}:22 cannot be reached, or has stopped answering"
    )
    assert words in reason
    assert took < seconds + PULUMI
    assert _ours(mirror) == []


def _ours(mirror: Mirror) -> list[str]:
    """Command lines of the processes that this stack's commands have started on this computer."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
                if mirror.stack.environment["XDG_CACHE_HOME"] in words:
                    found.append(words)
    return found


@pytest.mark.fault("F6", "a node swallows every packet, says nothing, or stops later on")
@pytest.mark.parametrize(
    "kind",
    [kind if kind == OF_A_CANARY else pytest.param(kind, marks=pytest.mark.long) for kind in KINDS],
)
def test_a_canary_that_is_silent_ends_the_roll_out_before_anything_is_changed(
    lab: Lab, mirror: Mirror, kind: str
) -> None:
    files = {node: lab.daemon_json(node) for node in lab.nodes}
    mirror.configure(daemonKeys={"debug": True})
    with silent(lab, "node2", kind):
        fails_at(mirror, "node2", kind)
        assert {node: lab.daemon_json(node) for node in lab.nodes} == files
    mirror.configure()
    mirror.up()


@pytest.mark.fault("F6", "a node swallows every packet, says nothing, or stops later on")
@pytest.mark.parametrize(
    "kind",
    [
        "accepts the connection and says nothing",
        pytest.param("stops while it looks for the key", marks=pytest.mark.long),
    ],
)
def test_a_silent_machine_in_a_wave_costs_the_others_nothing(
    lab: Lab, mirror: Mirror, kind: str
) -> None:
    before = lab.daemon_json("node3")
    mirror.configure(daemonKeys={"debug": True})
    with silent(lab, "node3", kind):
        fails_at(mirror, "node3", kind)
        assert [lab.info(node)["Debug"] for node in lab.nodes] == [True, True, False]
        assert lab.daemon_json("node3") == before
    assert counts(mirror.up())["updated"] == 1
    assert lab.info("node3")["Debug"]
    mirror.configure()
    mirror.up()


@pytest.mark.fault("F6", "a node swallows every packet, says nothing, or stops later on")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("accepts the connection and says nothing", marks=pytest.mark.long),
        "stops once the agent is there",
    ],
)
def test_a_silent_machine_that_is_taken_out_of_the_list_is_named(
    lab: Lab, mirror: Mirror, kind: str
) -> None:
    mirror.configure(without=("node3",))
    with silent(lab, "node3", kind):
        fails_at(mirror, "node3", kind)
        assert lab.mirrors("node3") == [f"{MIRROR_URL}/"]
    assert counts(mirror.up())["deleted"] == 1
    assert lab.mirrors("node3") == []
    mirror.configure()
    mirror.up()


@pytest.mark.fault("F6", "a node swallows every packet, says nothing, or stops later on")
@pytest.mark.parametrize(
    "kind",
    [
        "swallows every packet",
        pytest.param("stops while it looks for the key", marks=pytest.mark.long),
    ],
)
def test_a_silent_machine_at_destroy_is_named_and_the_next_destroy_goes_on(
    lab: Lab, mirror: Mirror, kind: str
) -> None:
    before = lab.daemon_json("node2")
    with silent(lab, "node2", kind):
        fails_at(mirror, "node2", kind, destroy=True)
        assert lab.daemon_json("node2") == before
        # The others have forgotten it; the mirror itself is there as long as a node may use it.
        assert lab.mirrors("node3") == []
        assert (
            "registry-mirror" in lab.on("node1", "docker service ls --format '{{.Name}}'").split()
        )
    assert set(counts(mirror.destroy())) == {"deleted"}
    assert lab.daemon_json("node2") == NODE2_DAEMON_JSON.encode()
    mirror.up()


@pytest.mark.fault("F6", "a node swallows every packet, says nothing, or stops later on")
def test_status_of_a_silent_machine_takes_seconds_too(lab: Lab, mirror: Mirror) -> None:
    with silent(lab, "node3", "stops while it looks for the key"):
        started = time.monotonic()
        status = mirror.status()["node3"]
        assert time.monotonic() - started < STOPPED + PULUMI
        assert not status["reachable"]
        assert "ssh://ops@198.18.0.13:22 cannot be reached" in status["faults"][0]


@pytest.mark.fault("F39", "ctrl-c while a machine is silent")
@pytest.mark.parametrize(
    "to", [pytest.param("pulumi", marks=pytest.mark.long), "everybody on the terminal"]
)
def test_one_ctrl_c_ends_a_run_that_waits_for_a_silent_machine(
    lab: Lab, mirror: Mirror, to: str
) -> None:
    files = {node: lab.daemon_json(node) for node in lab.nodes}
    mirror.configure(daemonKeys={"debug": True})
    with silent(lab, "node2", "stops once the agent is there"):
        running = mirror.start()
        for _ in range(300):
            if lab.on("node2", "pgrep -f '[s]leep 600' || true"):
                break
            time.sleep(0.1)
        assert any("ssh -T" in words for words in _ours(mirror))
        started = time.monotonic()
        os.kill(running.pid, signal.SIGINT) if to == "pulumi" else os.killpg(
            running.pid, signal.SIGINT
        )
        output, _ = running.communicate(timeout=60)
        took = time.monotonic() - started
        print(f"ctrl-c to {to}: {took:.1f} s")
        assert running.returncode != 0
        assert took < 10, output
        time.sleep(2)
        assert _ours(mirror) == []
        assert {node: lab.daemon_json(node) for node in lab.nodes} == files
    mirror.configure()
    mirror.up_after_kill()
    assert mirror.operate("status")[0] == 0
