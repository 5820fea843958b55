"""Every way in which an administrator's own ssh reaches a machine, with real sshds: the whole
program goes that way, too.

Node 1 is the manager, node 3 has a user with sudo. Each test leaves the lab as it found it, with a
mirror on all three nodes.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.plan import CHECKOUT, NODE2_DAEMON_JSON
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror
from tests.lab.output import counts

NODES = ["node1", "node2", "node3"]
URL = "https://mirror.lab.test/"
SSHD = "/run/lab-sshd"
"""Folder on a node with what a second sshd of a test's own needs."""


@pytest.fixture(scope="module")
def computer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of an administrator, where the runner and the host keys go."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def mirror(lab: Lab, computer: Path) -> Iterator[Mirror]:
    mirror = Mirror(lab)
    mirror.stack.environment |= {"HOME": str(computer), "XDG_CACHE_HOME": f"{computer}/cache"}
    mirror.stack.environment.pop("SSH_AUTH_SOCK", None)
    mirror.up_after_kill()  # a lab that was kept from an interrupted run (KEEP_LAB=1) may be locked
    yield mirror
    mirror.configure()
    mirror.destroy()
    assert [lab.daemon_json(node) for node in NODES] == [None, NODE2_DAEMON_JSON.encode(), None]


def nodes(mirror: Mirror, **changes: dict[str, Any]) -> list[dict[str, Any]]:
    """The stack's nodes with changes: `node3={"port": 2222}`; a value of None removes a key."""
    found: list[dict[str, Any]] = json.loads(
        json.dumps(mirror.base["config"]["swarm-registry-mirror:nodes"])
    )
    for node in found:
        for key, value in changes.get(node["name"], {}).items():
            node[key] = value
            if value is None:
                del node[key]
    return found


def everything_goes_that_way(lab: Lab, mirror: Mirror, node: str) -> None:
    """A change arrives, status asks, and a repair mends."""
    assert mirror.operate("status")[0] == 0
    # As it was before us: what an administrator writes would count as theirs from then on.
    original = "cat > /etc/docker/daemon.json" if node == "node2" else "rm /etc/docker/daemon.json"
    lab.on(node, f"{original}; systemctl reload docker; sleep 1", NODE2_DAEMON_JSON.encode())
    assert mirror.status()[node]["drifted"]
    code, output = mirror.operate("repair")
    assert code == 0, output
    assert lab.mirrors(node)[0] == URL
    assert mirror.operate("status")[0] == 0


@contextlib.contextmanager
def only_from(lab: Lab, node: str, address: str) -> Iterator[None]:
    """Have a node's sshd be out of reach but for one address."""
    rule = f"INPUT -p tcp --dport 22 ! -s {address} -j REJECT"
    lab.on(node, f"iptables -I {rule}")
    try:
        yield
    finally:
        lab.on(node, f"iptables -D {rule}")


def came_from(lab: Lab, node: str) -> set[str]:
    """Addresses that the node's sshd has seen since `forget_connections`."""
    lines = lab.on(
        node,
        "journalctl --unit=ssh --output=cat --since=@$(cat /run/since) | grep '^Connection from' ||"
        " true",
    )
    return {line.split()[2] for line in lines.splitlines()}


def forget_connections(lab: Lab, node: str) -> None:
    lab.on(node, "sleep 1; date +%s > /run/since")


@contextlib.contextmanager
def second_sshd(
    lab: Lab, node: str, port: int, settings: str = "", host_key: str = "ed25519"
) -> Iterator[str]:
    """Another sshd on a node, on a port and with a host key of its own; yields that key."""
    make = f"mkdir -p {SSHD}; rm -f {SSHD}/key*; ssh-keygen -q -t {host_key} -N '' -f {SSHD}/key"
    lab.on(node, make)
    text = (
        f"Port {port}\nHostKey {SSHD}/key\nPidFile none\nUsePAM yes\nPasswordAuthentication"
        f" no\n{settings}\n"
    )
    lab.on(
        node,
        f"cat > {SSHD}/config; systemd-run --quiet --unit=lab-sshd /usr/sbin/sshd -D -f"
        f" {SSHD}/config",
        text.encode(),
    )
    try:
        lab.on(
            node,
            f"for i in $(seq 50); do ss -Hltn sport = :{port} | grep -q . && exit; sleep 0.1; done;"
            " exit 1",
        )
        yield " ".join(lab.on(node, f"cat {SSHD}/key.pub").split()[:2])
    finally:
        lab.on(
            node,
            f"systemctl stop lab-sshd; systemctl reset-failed lab-sshd 2>/dev/null; rm -rf {SSHD}",
        )


@contextlib.contextmanager
def ssh_agent(mirror: Mirror, folder: Path, *keys: str) -> Iterator[None]:
    """An agent that the stack's commands find, with keys that are nowhere else."""
    folder.mkdir()
    socket = folder / "agent"
    running = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            if socket.exists():
                break
            time.sleep(0.05)
        for key in keys:
            environment = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
            subprocess.run(
                ["ssh-add", "-q", "-"],
                input=key,
                text=True,
                env=environment,
                check=True,
                capture_output=True,
            )
        mirror.stack.environment["SSH_AUTH_SOCK"] = str(socket)
        yield
    finally:
        mirror.stack.environment.pop("SSH_AUTH_SOCK", None)
        running.terminate()
        running.wait()


def new_key(folder: Path, passphrase: str = "") -> tuple[Path, str, str]:
    """A file with a new key, its text without a passphrase, and its public half."""
    file = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    text = file.read_text()
    if passphrase:
        subprocess.run(
            ["ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", str(file)],
            check=True,
            capture_output=True,
        )
    return file, text, file.with_suffix(".pub").read_text()


@contextlib.contextmanager
def accepted(lab: Lab, public: str, *names: str, alone: bool = True) -> Iterator[None]:
    """Have nodes accept a key, and by default no other."""
    for name in names:
        home = "/root" if lab.nodes[name].user == "root" else f"/home/{lab.nodes[name].user}"
        file = f"{home}/.ssh/authorized_keys"
        lab.on(
            name, f"cp -p {file} {file}.kept; cat {'>' if alone else '>>'} {file}", public.encode()
        )
    try:
        yield
    finally:
        for name in names:
            home = "/root" if lab.nodes[name].user == "root" else f"/home/{lab.nodes[name].user}"
            lab.on(name, f"mv {home}/.ssh/authorized_keys.kept {home}/.ssh/authorized_keys")


def state(mirror: Mirror) -> str:
    """Everything that Pulumi keeps, secrets in the clear."""
    return mirror.stack.quietly("stack", "export", "--show-secrets")


def body(key: str) -> str:
    """A line of a private key that no other file has."""
    return key.splitlines()[3]


def test_a_node_that_only_a_bastion_reaches(lab: Lab, mirror: Mirror) -> None:
    bastion = {"address": "198.18.0.11"}
    with only_from(lab, "node3", "198.18.0.11"):
        forget_connections(lab, "node3")
        mirror.configure(
            nodes=nodes(mirror, node3={"bastion": bastion}), daemonKeys={"debug": True}
        )
        mirror.up()
        assert lab.info("node3")["Debug"]
        everything_goes_that_way(lab, mirror, "node3")
        assert came_from(lab, "node3") == {"198.18.0.11"}
        # Taken out of the list and put back: the way is in the state.
        mirror.configure(without=("node3",))
        mirror.up()
        assert lab.daemon_json("node3") is None
        mirror.configure(nodes=nodes(mirror, node3={"bastion": bastion}))
        mirror.up()
        assert lab.mirrors("node3") == [URL]
    mirror.configure()
    mirror.up()


@pytest.mark.long
def test_a_rolling_restart_and_destroy_go_through_the_bastion(lab: Lab, mirror: Mirror) -> None:
    changes: dict[str, Any] = {
        "nodes": nodes(mirror, node3={"bastion": {"address": "198.18.0.11"}}),
        "without": ("node2",),
        "restart": "when-needed",
        "allowQuorumLoss": True,
    }
    with only_from(lab, "node3", "198.18.0.11"):
        mirror.configure(**changes, daemonKeys={"log-level": "warn"})
        before = lab.daemon_pid("node3")
        mirror.up()
        assert lab.daemon_pid("node3") != before
        assert json.loads(lab.daemon_json("node3") or b"{}")["log-level"] == "warn"
        before = lab.daemon_pid("node3")
        assert set(counts(mirror.destroy())) == {"deleted"}
        assert lab.daemon_json("node3") is None
        assert lab.daemon_pid("node3") != before
        assert set(lab.availability().values()) == {"active"}
    mirror.configure()
    mirror.up()


@pytest.mark.long
def test_a_manager_behind_a_bastion_and_a_bastion_for_all_nodes(lab: Lab, mirror: Mirror) -> None:
    # What docker's provider changes goes there too, by its own connections.
    with only_from(lab, "node1", "198.18.0.12"), only_from(lab, "node3", "198.18.0.12"):
        for node in ("node1", "node3"):
            forget_connections(lab, node)
        mirror.configure(bastion={"address": "198.18.0.12"}, memory=300, daemonKeys={"debug": True})
        mirror.up()
        assert lab.on(
            "node1",
            "docker service inspect --format '{{.Spec.TaskTemplate.Resources.Limits.MemoryBytes}}'"
            " registry-mirror",
        ).strip() == str(300 << 20)
        assert [lab.info(node)["Debug"] for node in NODES] == [True] * 3
        everything_goes_that_way(lab, mirror, "node1")
        assert came_from(lab, "node1") == came_from(lab, "node3") == {"198.18.0.12"}
        mirror.configure(bastion={"address": "198.18.0.12"})
        mirror.up()
    mirror.configure()
    mirror.up()


def test_a_bastion_that_is_down_or_another_is_named_and_nothing_is_changed(
    lab: Lab, mirror: Mirror
) -> None:
    before = lab.daemon_json("node3")
    for bastion, words in (
        (
            {"address": "198.18.0.99", "hostKey": lab.host_key("node1")},
            "connect to host 198.18.0.99 port 22: No route to host",
        ),
        (
            {"address": "198.18.0.11", "hostKey": lab.host_key("node2")},
            "198.18.0.11 has another host key than the one",
        ),
    ):
        mirror.configure(
            nodes=nodes(mirror, node3={"bastion": bastion}), daemonKeys={"debug": True}
        )
        started = time.monotonic()
        reason = mirror.up_fails()
        assert time.monotonic() - started < 40
        assert reason.startswith(
            "node3: ssh://ops@198.18.0.13:22 cannot be reached through ssh://root@198.18.0."
        )
        assert words in reason
        assert lab.daemon_json("node3") == before
        # Of what that `up` asked for there is nothing in the state, and everything else is as an
        # `up` left it.
        assert mirror.operate("status")[0] == 0
    mirror.configure()
    mirror.up()


def test_a_key_that_only_an_agent_has_is_nowhere_else(
    lab: Lab, mirror: Mirror, tmp_path: Path
) -> None:
    file, key, public = new_key(tmp_path)
    file.unlink()
    mirror.base["config"].pop("swarm-registry-mirror:sshPrivateKeyFile")
    try:
        mirror.configure(daemonKeys={"debug": True}, memory=300)
        with accepted(lab, public, *NODES):
            # Without an agent, and with one that has another key: one sentence, and nothing is
            # changed.
            files = [lab.daemon_json(node) for node in NODES]
            (tmp_path / "other").mkdir()
            _, other, _ = new_key(tmp_path / "other")
            for keys in ((), (other,)):
                with ssh_agent(mirror, tmp_path / f"agent-{len(keys)}", *keys):
                    assert "Permission denied (publickey)" in mirror.up_fails()
                assert [lab.daemon_json(node) for node in NODES] == files
            with ssh_agent(mirror, tmp_path / "agent", key):
                mirror.up()
                everything_goes_that_way(lab, mirror, "node2")
                assert set(counts(mirror.up())) == {"unchanged"}
                found = state(mirror)
        assert [lab.info(node)["Debug"] for node in NODES] == [True] * 3
        assert "PRIVATE KEY" not in found
        assert body(key) not in found
    finally:
        mirror.base["config"]["swarm-registry-mirror:sshPrivateKeyFile"] = str(
            lab.folder.ssh_key.relative_to(CHECKOUT)
        )
        mirror.configure()
    mirror.up()


@pytest.mark.long
def test_a_key_file_with_a_passphrase_whose_key_the_agent_has(
    lab: Lab, mirror: Mirror, tmp_path: Path
) -> None:
    file, key, public = new_key(tmp_path, "correct horse")
    mirror.configure(sshPrivateKeyFile=str(file), daemonKeys={"debug": True}, memory=300)
    with accepted(lab, public, *NODES):
        assert "Permission denied (publickey)" in mirror.up_fails()
        with ssh_agent(mirror, tmp_path / "agent", key):
            mirror.up()
            everything_goes_that_way(lab, mirror, "node3")
            found = state(mirror)
    assert [lab.info(node)["Debug"] for node in NODES] == [True] * 3
    assert "PRIVATE KEY" not in found
    mirror.configure()
    mirror.up()


@pytest.mark.long
def test_a_key_that_is_a_secret_leaves_no_file_and_is_in_the_state_as_a_secret_only(
    lab: Lab, mirror: Mirror, computer: Path, tmp_path: Path
) -> None:
    # docker's provider has no such key: the agent has one for the manager, which the nodes do not
    # take.
    (tmp_path / "for-docker").mkdir()
    _, of_docker, public_of_docker = new_key(tmp_path / "for-docker")
    file, key, public = new_key(tmp_path)
    file.unlink()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    mirror.base["config"].pop("swarm-registry-mirror:sshPrivateKeyFile")
    mirror.stack.environment["TMPDIR"] = str(temporary)
    try:
        with (
            accepted(lab, public, "node2", "node3"),
            accepted(lab, public + public_of_docker, "node1"),
            ssh_agent(mirror, tmp_path / "agent", of_docker),
        ):
            mirror.configure(daemonKeys={"debug": True}, memory=300)
            mirror.secret("sshPrivateKey", key)
            mirror.up()
            everything_goes_that_way(lab, mirror, "node3")
        assert [lab.info(node)["Debug"] for node in NODES] == [True] * 3
        assert body(key) not in mirror.stack.quietly("stack", "export")
        assert body(key) not in mirror.stack.log.read_text()
        kept = json.loads(state(mirror))["deployment"]["resources"]
        where = {
            path for resource in kept for path in _places(resource.get("inputs", {}), body(key))
        }
        assert where == {"environment.MIRROR_PRIVATE_KEY"}
        searched = [computer, temporary, lab.folder.root / "state"]
        assert [file for folder in searched for file in _files_with(folder, body(key))] == []
    finally:
        del mirror.stack.environment["TMPDIR"]
        mirror.base["config"]["swarm-registry-mirror:sshPrivateKeyFile"] = str(
            lab.folder.ssh_key.relative_to(CHECKOUT)
        )
        mirror.configure()
    mirror.up()
    assert body(key) not in state(mirror)


def _places(value: object, text: str, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _places(
                item, text, f"{path}.{key}" if path and key != "plaintext" else path or key
            )
    elif isinstance(value, list):
        for item in value:
            yield from _places(item, text, path)
    elif isinstance(value, str) and text in value:
        yield path


def _files_with(folder: Path, text: str) -> list[str]:
    """Files below a folder that have the text; what grep cannot read it does not list."""
    done = subprocess.run(
        ["grep", "-rlsF", "--devices=skip", "--", text, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split()


@pytest.mark.long
def test_a_host_certificate_is_believed_when_the_configured_authority_has_signed_it(
    lab: Lab, mirror: Mirror, tmp_path: Path
) -> None:
    (tmp_path / "stranger").mkdir()
    ours, _, authority = new_key(tmp_path)
    theirs, _, _ = new_key(tmp_path / "stranger")
    believed = "@cert-authority " + " ".join(authority.split()[:2])
    before = lab.daemon_json("node2")
    with second_sshd(lab, "node2", 2222, f"HostCertificate {SSHD}/key-cert.pub"):
        changed = nodes(mirror, node2={"port": 2222, "hostKey": believed})
        mirror.configure(nodes=changed, daemonKeys={"debug": True})
        for signer, address, code in (
            (theirs, "198.18.0.12", 1),
            (ours, "198.18.0.13", 1),
            (ours, "198.18.0.12", 0),
        ):
            public = tmp_path / "host.pub"
            public.write_text(lab.on("node2", f"cat {SSHD}/key.pub"))
            subprocess.run(
                [
                    "ssh-keygen",
                    "-q",
                    "-s",
                    str(signer),
                    "-I",
                    "node2",
                    "-h",
                    "-n",
                    address,
                    str(public),
                ],
                check=True,
            )
            certificate = (tmp_path / "host-cert.pub").read_bytes()
            lab.on(
                "node2",
                f"cat > {SSHD}/key-cert.pub; systemctl kill --signal=HUP lab-sshd; sleep 0.5",
                certificate,
            )
            if code:
                reason = mirror.up_fails()
                assert "node2: ssh://root@198.18.0.12:2222 cannot be reached" in reason
                assert lab.daemon_json("node2") == before
            else:
                mirror.up()
        assert lab.info("node2")["Debug"]
        everything_goes_that_way(lab, mirror, "node2")
        # From a file of host keys the authority is taken, too.
        known_hosts = tmp_path / "known_hosts"
        known_hosts.write_text(
            f"{lab.folder.known_hosts.read_text()}@cert-authority [198.18.0.12]:2222 {authority}"
        )
        mirror.configure(
            nodes=nodes(mirror, node2={"port": 2222}),
            knownHostsFile=str(known_hosts),
            daemonKeys={"debug": True},
        )
        assert set(counts(mirror.up())) <= {"updated", "unchanged"}
        assert set(counts(mirror.up())) == {"unchanged"}
    mirror.configure()
    mirror.up()


@pytest.mark.long
def test_an_sshd_that_has_nothing_but_rsa(lab: Lab, mirror: Mirror) -> None:
    with second_sshd(lab, "node2", 2222, "HostKeyAlgorithms rsa-sha2-256", "rsa") as key:
        assert key.startswith("ssh-rsa ")
        mirror.configure(
            nodes=nodes(mirror, node2={"port": 2222, "hostKey": key}), daemonKeys={"debug": True}
        )
        mirror.up()
        assert lab.info("node2")["Debug"]
        everything_goes_that_way(lab, mirror, "node2")
    mirror.configure()
    mirror.up()


@pytest.mark.long
def test_another_port_and_an_address_of_ipv6_for_a_node_with_sudo_and_for_the_manager(
    lab: Lab, mirror: Mirror
) -> None:
    lab.sandbox.run(["ip", "-6", "addr", "add", "fd00::1/64", "dev", "lab0", "nodad"])
    for number, node in enumerate(NODES, 11):
        lab.on(node, f"ip -6 addr add fd00::{number}/64 dev host0 nodad")
    try:
        with second_sshd(lab, "node3", 2222, "ListenAddress ::") as key:
            manager = {"address": "fd00::11", "hostKey": lab.host_key("node1")}
            changed = nodes(
                mirror, node3={"address": "fd00::13", "port": 2222, "hostKey": key}, node1=manager
            )
            known_hosts = mirror.file.with_name("known_hosts-6")
            known_hosts.write_text(
                f"{lab.folder.known_hosts.read_text()}fd00::11 {lab.host_key('node1')}\n"
            )
            settings: dict[str, Any] = {
                "nodes": changed,
                "knownHostsFile": str(known_hosts),
                "daemonKeys": {"debug": True},
            }
            forget_connections(lab, "node1")
            mirror.configure(**settings, memory=300)
            mirror.up()
            assert lab.info("node3")["Debug"]
            everything_goes_that_way(lab, mirror, "node3")
            assert came_from(lab, "node1") == {"fd00::1"}
            mirror.configure(**settings)
            mirror.up()
            # A bastion, too.
            bastion = {"address": "fd00::12", "hostKey": lab.host_key("node2")}
            changed = nodes(
                mirror,
                node3={"address": "fd00::13", "port": 2222, "hostKey": key, "bastion": bastion},
            )
            mirror.configure(nodes=changed)
            mirror.up()
            assert not lab.info("node3")["Debug"]
        mirror.configure()
        mirror.up()
    finally:
        for node in NODES:
            lab.on(node, "ip -6 addr flush dev host0 scope global")
        lab.sandbox.run(["ip", "-6", "addr", "flush", "dev", "lab0", "scope", "global"])


@pytest.mark.long
def test_the_administrators_own_configuration_of_ssh_is_read_where_it_is_named(
    lab: Lab, mirror: Mirror, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"Host the-third\n  HostName 198.18.0.13\nHost *\n  IdentityFile {lab.folder.ssh_key}\n "
        " StrictHostKeyChecking no\n"
        f"  ControlMaster auto\n  ControlPath {tmp_path}/master-%C\n  ControlPersist 60\n"
    )
    mirror.base["config"].pop("swarm-registry-mirror:sshPrivateKeyFile")
    try:
        changed = nodes(mirror, node3={"address": "the-third", "hostKey": lab.host_key("node3")})
        mirror.configure(
            nodes=changed, sshConfig=str(config), daemonKeys={"debug": True}, memory=300
        )
        mirror.up()
        assert lab.info("node3")["Debug"]
        everything_goes_that_way(lab, mirror, "node3")
        assert list(tmp_path.glob("master-*")) == [], "no connection stays behind"
        # His file cannot make another machine believed.
        changed = nodes(mirror, node3={"address": "the-third", "hostKey": lab.host_key("node2")})
        mirror.configure(nodes=changed, sshConfig=str(config))
        assert (
            "198.18.0.13 has another host key than the one that is configured" in mirror.up_fails()
        )
        assert lab.info("node3")["Debug"]
    finally:
        mirror.base["config"]["swarm-registry-mirror:sshPrivateKeyFile"] = str(
            lab.folder.ssh_key.relative_to(CHECKOUT)
        )
        mirror.configure()
    mirror.up()


def _path_without_ssh(path: str, folder: Path) -> str:
    """As PATH, with a copy by links of each folder that has ssh."""
    found = []
    for number, name in enumerate(path.split(":")):
        if Path(name, "ssh").exists():
            copy = folder / f"bin{number}"
            copy.mkdir()
            for file in Path(name).iterdir():
                if not file.name.startswith("ssh"):
                    (copy / file.name).symlink_to(file)
            name = str(copy)
        found.append(name)
    return ":".join(found)


def test_a_computer_without_ssh_or_without_a_place_for_the_runner_says_so_and_changes_nothing(
    lab: Lab, mirror: Mirror, tmp_path: Path
) -> None:
    before = lab.connections(*NODES)
    usual = dict(mirror.stack.environment)
    mirror.configure(daemonKeys={"debug": True})
    try:
        (tmp_path / "cache").write_text("a file")
        mirror.stack.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
        reason = mirror.up_fails()
        assert reason.startswith("1 fault in the configuration")
        assert "cannot be written" in reason
        assert "set XDG_CACHE_HOME to a folder that can" in reason
        mirror.stack.environment |= usual
        mirror.stack.environment["PATH"] = _path_without_ssh(usual["PATH"], tmp_path)
        assert "there is no ssh on this computer, and `pulumi up` needs it" in mirror.stack.run(
            "preview"
        )
        assert "there is no ssh on this computer; install it (openssh-client)" in mirror.up_fails()
        assert lab.connections(*NODES) == before
    finally:
        mirror.stack.environment.clear()
        mirror.stack.environment |= usual
    mirror.configure()
    assert set(counts(mirror.up())) == {"unchanged"}
