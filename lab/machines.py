"""The lab's machines: systemd-nspawn containers with real systemd, sshd and dockerd, on a bridge
inside the sandbox.

Owns how a node's root is put together, booted, powered off and entered from outside. It
deliberately knows nothing of swarms (`swarm.py`); what it leaves behind is a machine on which
docker and sshd run.
"""

import json
import secrets
import shlex
import shutil
import subprocess
import time
import zlib
from dataclasses import replace

from lab import control_groups
from lab.base_systems import base_folder
from lab.plan import (
    CHECKOUT,
    GATEWAY,
    IMAGES,
    IMAGES_HOST,
    MANAGER,
    MIRROR_HOST,
    NODE2_DAEMON_JSON,
    NODES,
    SECOND_HOST,
    LabFolder,
    LabNode,
)
from lab.sandbox import Sandbox, SandboxError
from tools.progress import StageError
from tools.toolchain import VENV

BRIDGE = "lab0"

HOSTS = (
    f"127.0.0.1 localhost\n{MANAGER.address} {MIRROR_HOST} {SECOND_HOST}\n{IMAGES} {IMAGES_HOST}\n"
    + "".join(f"{node.address} {node.name}\n" for node in NODES)
)

LEGACY_CGROUPS = (
    "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
    "SYSTEMD_PROC_CMDLINE=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 systemd.unified_cgroup_hierarchy=0",
)
"""trixie's systemd refuses a cgroup v1 computer unless it is overruled twice: as nspawn's and as
the machine's own argument."""

# Images are kept outside the machine's own overlay, whichever store has them: one overlay does not
# mount on another.
BOOT = """
set -e
dir={dir} name={name}
mkdir -p $dir/upper $dir/work $dir/root $dir/docker $dir/containerd
mountpoint -q $dir/root || mount -t overlay overlay -o lowerdir={base},upperdir=$dir/upper,workdir=$dir/work $dir/root
# dockerd reads the system's certificates once, at its first TLS connection: the lab's authority must be there before.
chroot $dir/root update-ca-certificates >/dev/null 2>&1
# A control group of its own, or the systemds of all nodes would fight over the same names.
{join}
export {legacy}
exec systemd-nspawn --quiet -D $dir/root --boot --register=no --keep-unit --machine=$name --hostname=$name \
  --network-bridge={bridge} --private-users=no --capability=all --system-call-filter='add_key keyctl bpf' \
  --resolv-conf=off --timezone=off --link-journal=no \
  --bind=$dir/docker:/var/lib/docker --bind=$dir/containerd:/var/lib/containerd --bind={shared}:/var/data {setenv}
"""  # noqa: E501


def cgroup_of(folder: LabFolder, node: LabNode) -> str:
    """Name of a node's control group: unlike everything else of a lab it is visible on the
    computer, so it carries the lab."""
    return f"swarm-registry-mirror-lab-{zlib.crc32(str(folder.root).encode()):08x}-{node.name}"


def make_bridge(sandbox: Sandbox) -> None:
    """The bridge that nodes are plugged into, inside the sandbox's network. Safe to repeat."""
    sandbox.run(
        [
            "sh",
            "-ec",
            f"ip link show {BRIDGE} >/dev/null 2>&1 || ip link add {BRIDGE} type bridge; "
            f"ip addr replace {GATEWAY}/24 dev {BRIDGE}; ip addr replace {IMAGES}/24 dev {BRIDGE};"
            f" ip link set {BRIDGE} up",
        ]
    )


def prepare(folder: LabFolder, node: LabNode) -> None:
    """Lay out what makes a node itself: name, address, host key, accounts, authority, its
    administrator's daemon.json."""
    upper = folder.node(node.name) / "upper"
    if (folder.node(node.name) / "prepared").exists():
        return
    shutil.rmtree(folder.node(node.name), ignore_errors=True)
    files = {
        "etc/hostname": f"{node.name}\n",
        "etc/hosts": HOSTS,
        "etc/machine-id": secrets.token_hex(16) + "\n",
        "etc/resolv.conf": "# a lab has no name server: names are in /etc/hosts\n",
        "etc/systemd/network/10-host0.network": f"[Match]\nName=host0\n[Network]\nAddress={node.address}/24\n",  # noqa: E501
        # VERBOSE logs every connection, not only successful log-ins: the tests count them.
        "etc/ssh/sshd_config.d/lab.conf": "PasswordAuthentication no\nLogLevel VERBOSE\n",
        "usr/local/share/ca-certificates/lab.crt": folder.ca.read_text(),
    }
    home = "root" if node.user == "root" else f"home/{node.user}"
    files[f"{home}/.ssh/authorized_keys"] = folder.ssh_key.with_suffix(".pub").read_text()
    daemon_json = first_daemon_json(node)
    if daemon_json:
        files["etc/docker/daemon.json"] = daemon_json
    for name, text in files.items():
        (upper / name).parent.mkdir(parents=True, exist_ok=True)
        (upper / name).write_text(text)
    for private in (f"{home}/.ssh", f"{home}/.ssh/authorized_keys"):
        path = upper / private
        path.chmod(0o700 if path.is_dir() else 0o600)
    if node.user != "root":
        # The first account that useradd makes in a base is 1000:1000 (login.defs UID_MIN).
        for path in (
            upper / home,
            upper / home / ".ssh",
            upper / home / ".ssh" / "authorized_keys",
        ):
            shutil.chown(path, 1000, 1000)
    host_key = upper / "etc/ssh/ssh_host_ed25519_key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", node.name, "-f", host_key], check=True
    )
    (folder.node(node.name) / "prepared").write_text(node.engine)


def first_daemon_json(node: LabNode) -> str:
    """What a node's administrator, or its engine's installation, has there before anybody else;
    empty: no file."""
    text = NODE2_DAEMON_JSON if node.name == "node2" else ""
    if not node.has.daemon_json:
        return text
    keys = json.dumps(dict(node.has.daemon_json))
    return text.replace("{", f"{keys[:-1]},", 1) if text else f"{keys}\n"


def as_prepared(folder: LabFolder, node: LabNode) -> LabNode:
    """The node with the engine that it has in this lab, where that is not the usual one."""
    stamp = folder.node(node.name) / "prepared"
    return replace(node, engine=stamp.read_text()) if stamp.exists() else node


def has_changed_its_store(sandbox: Sandbox, node: LabNode) -> bool:
    """Whether a running docker keeps its images in another store than its engine has when it is
    prepared: a daemon.json, or images from an older engine, can have brought that about. False
    where docker does not answer."""
    ask = "timeout 20 docker info --format '{{json .DriverStatus}}' 2>/dev/null || true"
    try:
        answer = run_on(sandbox, node, ask).strip()
    except SandboxError:
        return False
    has_containerd = "io.containerd.snapshotter" in answer
    return answer not in ("", "null") and has_containerd != node.has.containerd_store


def remove(sandbox: Sandbox, folder: LabFolder, node: LabNode) -> None:
    """Delete a machine with all that is on it; `prepare` and `power_on` make a new one of the
    same name and address."""
    power_off(sandbox, node)
    place = folder.node(node.name)
    sandbox.run(
        [
            "sh",
            "-c",
            f"! mountpoint -q {shlex.quote(f'{place}/root')} || umount --recursive"
            f" {shlex.quote(f'{place}/root')}",
        ]
    )
    # Immutable files would survive rmtree; tests make some.
    subprocess.run(["chattr", "-R", "-i", str(place)], capture_output=True, check=False)
    shutil.rmtree(place)


def allow_agent(sandbox: Sandbox, node: LabNode) -> None:
    """Let a node's user run the agent of this checkout as root, and nothing else; another agent
    needs other rules."""
    if node.user != "root":
        path = f"/etc/sudoers.d/{node.user}"
        script = (
            f"cat > {path}.new && chmod 440 {path}.new && visudo -cqf {path}.new && mv"
            f" {path}.new {path}"
        )
        run_on(sandbox, node, script, stdin=_sudoers(node.user).encode())


def _sudoers(user: str) -> str:
    """The sudo rule that the documentation gives, so that every test in the lab shows
    that it is enough."""
    program = (
        "import sys; from components.registry_mirror.ship import sudoers;"
        " print(sudoers(sys.argv[1]), end='')"
    )
    done = subprocess.run(
        [VENV / "bin" / "python", "-c", program, user],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def power_on(sandbox: Sandbox, folder: LabFolder, node: LabNode) -> None:
    """Boot a node unless it runs. Returns at once; `wait_until_up` waits."""
    if leader(sandbox, node) is not None:
        return
    legacy = () if control_groups.is_unified() else LEGACY_CGROUPS
    script = BOOT.format(
        dir=shlex.quote(str(folder.node(node.name))),
        name=node.name,
        bridge=BRIDGE,
        base=base_folder(as_prepared(folder, node).has.base),
        join=control_groups.joining(cgroup_of(folder, node)),
        legacy=legacy[0] if legacy else "LAB=1",
        shared=shlex.quote(str(folder.shared_storage)),
        setenv=" ".join(f"--setenv={shlex.quote(word)}" for word in legacy),
    )
    folder.shared_storage.mkdir(parents=True, exist_ok=True)
    folder.logs.mkdir(parents=True, exist_ok=True)
    sandbox.spawn(["sh", "-c", script], folder.logs / f"{node.name}-console.log")


def power_off(sandbox: Sandbox, node: LabNode) -> None:
    """Pull a node's plug: nothing on it gets a chance to tidy up. Returns when it is off."""
    # The machine's own init: with it the kernel ends all of the machine. nspawn alone would leave
    # it running.
    pid = leader(sandbox, node)
    if pid is None:
        return
    sandbox.run(["kill", "-KILL", str(pid)])
    deadline = time.monotonic() + 20
    while _nspawn(sandbox, node) is not None and time.monotonic() < deadline:
        time.sleep(0.1)


def wait_until_up(sandbox: Sandbox, folder: LabFolder, node: LabNode, seconds: float = 60) -> None:
    """Wait until docker and sshd answer on a node. Raises StageError with what its own init says is
    wrong."""
    deadline = time.monotonic() + seconds
    problem = "it did not boot"
    remounted = False
    while time.monotonic() < deadline:
        try:
            if not remounted:
                _make_controllers_writable(sandbox, node)
                remounted = True
            run_on(
                sandbox, node, f"{_SSH_RUNS} >/dev/null && docker version >/dev/null", timeout=10
            )
        except SandboxError as error:
            problem = str(error)
            time.sleep(0.3)
        else:
            return
    raise StageError(
        f"{node.name} is not up after {seconds:.0f} s: {problem}",
        "run `make lab-down`, then the same command again",
        folder.logs / f"{node.name}-console.log",
    )


_SSH_RUNS = (
    "if [ -d /run/systemd/system ]; then systemctl is-active ssh; else service ssh status; fi"
)


def run_on(
    sandbox: Sandbox, node: LabNode, script: str, *, stdin: bytes = b"", timeout: float = 60
) -> str:
    """Run a shell script as root on a node, past sshd (so that tests which count connections do not
    count ours)."""
    pid = leader(sandbox, node)
    if pid is None:
        raise SandboxError(f"{node.name} is powered off")
    argv = [
        "nsenter",
        "--target",
        str(pid),
        "--all",
        "--",
        "env",
        "-i",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME=/root",
    ]
    return sandbox.run([*argv, "sh", "-c", script], stdin=stdin, timeout=timeout)


def leader(sandbox: Sandbox, node: LabNode) -> int | None:
    """Process id (inside the sandbox) of a node's own init, or None while the node is off."""
    nspawn = _nspawn(sandbox, node)
    if nspawn is None:
        return None
    children = sandbox.run(
        ["sh", "-c", f"cat /proc/{nspawn}/task/*/children 2>/dev/null || true"]
    ).split()
    return int(children[0]) if children else None


def _nspawn(sandbox: Sandbox, node: LabNode) -> int | None:
    for pid, words in sandbox.processes():
        if words[0].endswith("systemd-nspawn") and f"--machine={node.name}" in words:
            return pid
    return None


def _make_controllers_writable(sandbox: Sandbox, node: LabNode) -> None:
    """On cgroup v1 nspawn mounts the controllers read-only, and then no container starts
    ("read-only file system", runc)."""
    pid = leader(sandbox, node)
    if pid is None:
        raise SandboxError("it is not booted yet")
    if not control_groups.is_unified():
        sandbox.run(
            [
                "nsenter",
                "--target",
                str(pid),
                "--mount",
                "--pid",
                "--cgroup",
                "--",
                "sh",
                "-c",
                # `bind` matters: without it the kernel answers "mount point is busy".
                # A machine without systemd mounts its own.
                "for c in /sys/fs/cgroup/*/; do [ ! -d $c ] || mount -o remount,bind,rw $c; done",
            ]
        )


def remove_cgroups(folder: LabFolder) -> None:
    """Remove the lab's control groups; they are empty once the sandbox has ended."""
    for node in NODES:
        control_groups.remove(cgroup_of(folder, node))
