"""Login shells as administrators have them: they print, they are fish or tcsh; and the sudo of
newer systems.

Everything that is sent to a node passes through its login shell, so each of them is tried with
everything that is sent.
"""

import json
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from components.registry_mirror import answer, ship
from tests.lab.agent import Agent
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror
from tests.lab.output import counts

pytestmark = pytest.mark.engines(node3="20.10")
"""What is seen here is daemon.json and its reloads; hosts.toml has tests of its own
(`tests/e2e/test_two_ways.py`)."""

SHELLS = ("bash", "dash", "zsh", "fish", "tcsh")
NODES = ("node1", "node2", "node3")
LOUD = (
    'printf \'Welcome to \\033]0;pwned\\007\\033[2J%s\\n{"faults": [1]}\\n\' "$(hostname)";'
    " echo loud >&2"
)
"""What a shell prints before the command is run: a greeting, escape sequences, and what looks like
an answer."""


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    mirror.up_after_kill()
    yield mirror
    mirror.configure()
    mirror.destroy()


def account(lab: Lab, node: str) -> tuple[str, str]:
    """The user that we log in as, and their home."""
    user = lab.nodes[node].user
    return user, "/root" if user == "root" else f"/home/{user}"


def over_ssh(
    lab: Lab, node: str, command: str, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    folder = lab.folder
    options = [
        "-F",
        "/dev/null",
        "-i",
        str(folder.ssh_key),
        "-o",
        f"UserKnownHostsFile={folder.known_hosts}",
        "-T",
    ]
    argv = ["ssh", *options, f"{lab.nodes[node].user}@{lab.nodes[node].address}", command]
    inside = lab.sandbox.command(argv, network_only=True)
    return subprocess.run(
        inside, input=stdin, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.fault("F45", "the ~/.bashrc of a node prints")
@pytest.mark.parametrize("node", [pytest.param("node2", marks=pytest.mark.long), "node3"])
def test_what_a_login_shell_prints_does_not_matter(lab: Lab, mirror: Mirror, node: str) -> None:
    _, home = account(lab, node)
    lab.on(
        node,
        f"cp -a {home}/.bashrc /tmp/bashrc; {{ cat; cat /tmp/bashrc; }} > {home}/.bashrc",
        f"{LOUD}\n".encode(),
    )
    try:
        assert "Welcome" in over_ssh(lab, node, "true").stdout, "or this test shows nothing"
        mirror.configure(daemonKeys={"max-concurrent-downloads": 4 + NODES.index(node)})
        assert counts(mirror.up())["updated"] >= 3
        assert mirror.stack.outputs()["nodes"] == lab.configured()
        for action in ("status", "stats"):
            code, text = mirror.operate(action)
            assert code == 0, text
            assert "Welcome" not in text
            assert "\x1b" not in text
        status = mirror.status()
        assert [
            name for name in NODES if status[name]["reachable"] and not status[name]["faults"]
        ] == list(NODES)
        # And a failure is reported in the agent's words, not in the shell's last ones.
        agent = Agent(lab, node)
        agent.settings["daemon_json"] = "/etc"
        code, text = agent.run("node.apply")
        assert code == 1
        assert "loud" in text
        assert answer.complaint(text, code).startswith("nothing was changed: /etc ")
    finally:
        lab.on(node, f"mv /tmp/bashrc {home}/.bashrc")


# the swarm's only manager is restarted, and then some engines have lost a service's name (seen once
# on 20.10)
@pytest.mark.long
@pytest.mark.fault("F45", "the ~/.bashrc of a node prints")
def test_the_rolling_restart_finds_the_answers_too(lab: Lab, mirror: Mirror) -> None:
    for node in ("node2", "node3"):
        _, home = account(lab, node)
        lab.on(
            node,
            f"cp -a {home}/.bashrc /tmp/bashrc; {{ cat; cat /tmp/bashrc; }} > {home}/.bashrc",
            f"{LOUD}\n".encode(),
        )
    try:
        before = {node: lab.daemon_pid(node) for node in NODES}
        mirror.configure(
            daemonKeys={"log-level": "warn"}, restart="when-needed", allowQuorumLoss=True
        )
        mirror.up()
        assert not [node for node in NODES if lab.daemon_pid(node) == before[node]]
    finally:
        for node in ("node2", "node3"):
            _, home = account(lab, node)
            lab.on(node, f"mv /tmp/bashrc {home}/.bashrc")
        mirror.configure(restart="when-needed", allowQuorumLoss=True)
        mirror.up()


@pytest.mark.fault("F46", "the login shell of a node is another one: bash, dash, zsh, fish, tcsh")
@pytest.mark.parametrize("shell", SHELLS)
def test_every_login_shell_runs_what_is_sent(lab: Lab, mirror: Mirror, shell: str) -> None:
    for node in NODES:
        lab.on(node, f"usermod --shell $(command -v {shell}) {account(lab, node)[0]}")
    try:
        mirror.configure(daemonKeys={"max-concurrent-uploads": 6 + SHELLS.index(shell)})
        mirror.up()
        assert mirror.stack.outputs()["nodes"] == lab.configured()
        assert mirror.operate("status")[0] == 0
        output = Agent(lab, "node2").run("node.look")[1]
        assert json.loads(output)["faults"] == []
        # The way in which `make adopt` asks.
        asked = over_ssh(lab, "node1", "sh -s", 'set -e\necho "it\'s $0!"\n')
        assert asked.stdout == "it's sh!\n"
    finally:
        for node in NODES:
            lab.on(node, f"usermod --shell /bin/bash {account(lab, node)[0]}")


@pytest.mark.fault("F46", "the login shell of a node is another one: bash, dash, zsh, fish, tcsh")
def test_a_fresh_stack_is_made_through_fish_on_the_manager(lab: Lab, mirror: Mirror) -> None:
    mirror.configure()
    mirror.destroy()
    lab.on("node1", "usermod --shell /usr/bin/fish root")
    try:
        mirror.up()
        assert mirror.operate("status")[0] == 0
    finally:
        lab.on("node1", "usermod --shell /bin/bash root")


@pytest.mark.fault("F47", "sudo is sudo-rs, or the sudo that was always there")
@pytest.mark.parametrize("sudo", ["sudo", "sudo-rs"])
def test_what_make_sudoers_prints_lets_every_action_in_and_nothing_else(
    lab: Lab, mirror: Mirror, sudo: str
) -> None:
    rules = "/etc/sudoers.d/registry-mirror"
    lab.on(
        "node1",
        f"cat > {rules}; chmod 440 {rules}; visudo -cq; visudo-rs -c -q",
        ship.sudoers("ops").encode(),
    )

    def run(command: str, request: str) -> str:
        line = command.replace("sudo", sudo, 1)
        script = f"su - ops -c {shlex.quote(line)} 2>&1 || true"
        return lab.on("node1", script, request.encode())

    try:
        settings = Agent(lab, "node1").settings
        look = run(ship.command("node.look", "sudo"), ship.request("node", settings))
        assert json.loads(answer.find(look))["engine"].startswith("26.")
        assert json.loads(
            answer.find(run(ship.command("swarm.view", "sudo"), ship.request("restart", {})))
        )
        for action in (each.name for each in ship.ACTIONS.values() if each.needs_root):
            said = run(ship.command(action, "sudo"), ship.request(ship.ACTIONS[action].program, {}))
            # Without settings it gets no further than to the first one that it looks for; it runs.
            assert "KeyError" in said or "registry mirror" in said or answer.BEGIN in said, said
        for refused in (
            ship.command("node.look", "sudo") + " more",
            ship.command("node.look", "sudo").replace("node.look", "node.other"),
            ship.command("node.look", "sudo").replace("timeout 300", "timeout 301"),
            "sudo -n timeout 300 sh -c id",
        ):
            assert (
                "a password is required" in (said := run(refused, "{}")) or "I'm sorry ops" in said
            )
        other = run(ship.command("node.look", "sudo"), ship.request("stats", settings))
        assert "the program that was sent is not the one that this command names" in other
    finally:
        lab.on("node1", f"rm {rules}")
