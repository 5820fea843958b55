"""The simulated nodes: one sshd that answers on many loopback addresses, and a folder of its own
for each address.

A log-in to 127.0.1.7 finds itself in a mount namespace in which /etc/docker, our lock and our own
record are that node's. All of it is in a sandbox, over a Debian tree of the lab's; what a node is
configured by is real (sshd, sh, Python), and only its docker is simulated (`shim.py`).
"""

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.base_systems import base_folder
from lab.fleet import shim
from lab.fleet.dockerd import Dockerd
from lab.plan import LABS
from lab.sandbox import Sandbox
from tools.progress import StageError

FOLDER = LABS / "fleet"
MIRROR_HOST = "mirror.fleet.test"
MIRROR_ADDRESS = "127.0.0.1"
SUITE = "bookworm"

SSHD_CONFIG = """
ListenAddress 0.0.0.0
HostKey /fleet/host_key
PidFile none
PasswordAuthentication no
AuthorizedKeysFile /fleet/authorized_keys
ForceCommand /fleet/enter
LogLevel VERBOSE
UseDNS no
UsePAM no
# What throttles on one machine would not, were they many.
MaxStartups 1000
"""

ENTER = """#!/bin/sh
# $SSH_CONNECTION: client address, client port, server address, server port
set -- $SSH_CONNECTION
export NODE=/fleet/nodes/$3 PATH=/fleet/bin:$PATH
exec unshare --mount --propagation private -- /bin/sh -ec '
mount --bind $NODE/etc-docker /etc/docker
mount --bind $NODE/record /var/lib/swarm-registry-mirror
mount --bind $NODE/run /run/swarm-registry-mirror
echo "$(date +%s.%N) begin ${NODE##*/}" >> /fleet/sessions
code=0
/bin/sh -c "$SSH_ORIGINAL_COMMAND" || code=$?
echo "$(date +%s.%N) end ${NODE##*/}" >> /fleet/sessions
exit $code'
"""

MIRROR = """
import http.server, ssl
class Mirror(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_HEAD = do_GET
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
    def get_request(self):
        connection, address = self.socket.accept()
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/fleet/mirror.crt", "/fleet/mirror.key")
Server(("127.0.0.1", 443), Mirror).serve_forever()
"""  # noqa: E501


@dataclass(frozen=True)
class Session:
    """A stay on a node, in seconds since the first one began."""

    address: str
    begin: float
    end: float


class Fleet:
    """`count` simulated nodes, at `addresses`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.sandbox = Sandbox(FOLDER)
        self.root = FOLDER / "root"
        self.inside = FOLDER / "inside"
        """The folder /fleet of the machine, as this computer sees it."""

    @property
    def addresses(self) -> list[str]:
        """Loopback addresses, from 127.0.1.1 on."""
        return [f"127.0.{1 + n // 250}.{1 + n % 250}" for n in range(self.count)]

    @property
    def key(self) -> Path:
        """The SSH private key that opens every node."""
        return FOLDER / "id_ed25519"

    @property
    def host_key(self) -> str:
        """All nodes are one sshd, so they share it."""
        return " ".join((self.inside / "host_key.pub").read_text().split()[:2])

    def start(self) -> None:
        """Make the nodes, fresh. Raises StageError."""
        self.stop()
        shutil.rmtree(FOLDER, ignore_errors=True)
        for folder in ("work", "upper"):
            (FOLDER / folder).mkdir(parents=True)
        self.root.mkdir()
        for folder in ("bin", "nodes"):
            (self.inside / folder).mkdir(parents=True)
        for key, comment in ((self.key, "fleet"), (self.inside / "host_key", "fleet")):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", key],
                check=True,
            )
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "30",
                "-subj",
                f"/CN={MIRROR_HOST}",
                "-addext",
                f"subjectAltName=DNS:{MIRROR_HOST}",
                "-keyout",
                self.inside / "mirror.key",
                "-out",
                self.inside / "mirror.crt",
            ],
            check=True,
            capture_output=True,
        )
        shutil.copy(self.key.with_suffix(".pub"), self.inside / "authorized_keys")
        for name, text in (
            ("sshd_config", SSHD_CONFIG),
            ("enter", ENTER),
            ("mirror.py", MIRROR),
            ("sessions", ""),
        ):
            (self.inside / name).write_text(text)
        (self.inside / "enter").chmod(0o755)
        here = Path(__file__).parent
        (self.inside / "bin" / "lab" / "fleet").mkdir(parents=True)
        for name in ("dockerd.py", "shim.py"):
            shutil.copy(here / name, self.inside / "bin" / "lab" / "fleet")
        for name, front in shim.FRONTS.items():
            program = self.inside / "bin" / name
            # -S: starting Python would cost more than what it does.
            program.write_text(
                f"#!/bin/sh\n{front}\ncd /fleet/bin && exec /usr/bin/python3 -S -m lab.fleet.shim"
                f' {name} "$@"\n'
            )
            program.chmod(0o755)
        self.sandbox.start()
        base = base_folder(SUITE)
        self.sandbox.run(
            [
                "sh",
                "-ec",
                f"cd {FOLDER}; mount -t overlay overlay -o"
                f" lowerdir={base},upperdir=upper,workdir=work {self.root}\n"
                f"cd {self.root}; mount -t proc proc proc; mount --rbind /dev dev; mount -t tmpfs"
                " tmpfs run\n"
                f"mkdir -p fleet; mount --bind {self.inside} fleet\n"
                "mkdir -p run/sshd run/swarm-registry-mirror run/systemd/system etc/docker"
                " var/lib/swarm-registry-mirror\n"
                f"echo '{MIRROR_ADDRESS} {MIRROR_HOST}' >> etc/hosts; chown -R 0:0 fleet\n"
                "cp fleet/mirror.crt usr/local/share/ca-certificates/; chroot ."
                " update-ca-certificates >/dev/null 2>&1",
            ]
        )
        self.reset()
        log = FOLDER / "log"
        self.sandbox.spawn(["chroot", str(self.root), "/usr/bin/python3", "/fleet/mirror.py"], log)
        self.sandbox.spawn(
            ["chroot", str(self.root), "/usr/sbin/sshd", "-D", "-e", "-f", "/fleet/sshd_config"],
            log,
        )
        deadline = time.monotonic() + 10
        while "Server listening" not in log.read_text():
            if time.monotonic() > deadline:
                raise StageError("the simulated nodes' sshd did not start", "see the log", log)
            time.sleep(0.05)

    def reset(self) -> None:
        """Every node as it was before us, and no session remembered."""
        shutil.rmtree(self.inside / "nodes")
        for address in self.addresses:
            node = self.inside / "nodes" / address
            for folder in ("etc-docker", "record", "run"):
                (node / folder).mkdir(parents=True)
            shim.write(node, Dockerd())
        (self.inside / "sessions").write_text("")

    def configured(self) -> int:
        """How many nodes' dockers use a mirror."""
        states = [
            json.loads((node / "dockerd.json").read_text())
            for node in (self.inside / "nodes").iterdir()
        ]
        return sum(bool(state["live"]["registry-mirrors"]) for state in states)

    def sessions(self) -> list[Session]:
        """Every stay on a node since `reset`, in the order in which they began."""
        begun: dict[str, float] = {}
        found = []
        for line in (self.inside / "sessions").read_text().splitlines():
            when, what, address = line.split()
            if what == "begin":
                begun[address] = float(when)
            else:
                found.append(Session(address, begun[address], float(when)))
        first = min((session.begin for session in found), default=0.0)
        return sorted(
            (Session(s.address, s.begin - first, s.end - first) for s in found),
            key=lambda session: session.begin,
        )

    def stop(self) -> None:
        """End every process of the fleet."""
        self.sandbox.stop()

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv` where the nodes can be reached."""
        return self.sandbox.command(argv, network_only=True)


def most_at_once(sessions: Sequence[Session]) -> int:
    """The largest number of nodes on which somebody was at the same time."""
    edges = sorted(
        [(session.begin, 1) for session in sessions] + [(session.end, -1) for session in sessions]
    )
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most
