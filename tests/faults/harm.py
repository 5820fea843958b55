"""The harm that is done to a machine of the lab, one context manager each: done on entering, undone
on leaving, also after a failure."""

import contextlib
from collections.abc import Iterator

from lab import internet
from tests.lab.lab import Lab

DAEMON_JSON = "/etc/docker/daemon.json"
DROP_INS = "/run/systemd/system/docker.service.d"
STATE = "/var/lib/swarm-registry-mirror"


@contextlib.contextmanager
def disk_full(lab: Lab, node: str, folder: str) -> Iterator[None]:
    """The disk on which a folder lies has no byte left."""
    lab.on(
        node,
        f"mkdir -p {folder}; cp -a {folder} /tmp/kept; mount -t tmpfs -o size=16k tmpfs {folder};"
        f" cp -a /tmp/kept/. {folder};"
        f" cat /dev/zero > {folder}/full 2>/dev/null || true",
    )
    try:
        yield
    finally:
        lab.on(
            node,
            f"umount {folder}; rm -rf /tmp/kept; rmdir {STATE} 2>/dev/null || true",
        )


@contextlib.contextmanager
def read_only(lab: Lab, node: str, folder: str) -> Iterator[None]:
    """Nothing can be written in a folder."""
    lab.on(node, f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}")
    try:
        yield
    finally:
        lab.on(node, f"umount {folder}")


@contextlib.contextmanager
def docker_is_down(lab: Lab, node: str) -> Iterator[None]:
    """Somebody has stopped docker."""
    lab.on(node, "systemctl stop docker.socket docker")
    try:
        yield
    finally:
        lab.on(node, "systemctl start docker.socket docker")


@contextlib.contextmanager
def systemd_has_given_up(lab: Lab, node: str, daemon_json: bytes) -> Iterator[None]:
    """docker has failed to start again and again, because of a file that is repaired by now."""
    lab.on(node, f"systemctl stop docker.socket docker; echo '{{' > {DAEMON_JSON}")
    lab.on(node, "for i in 1 2 3 4; do systemctl start docker || true; done 2>/dev/null")
    lab.on(node, f"cat > {DAEMON_JSON}", daemon_json)
    try:
        yield
    finally:
        lab.on(node, "systemctl reset-failed docker; systemctl start docker.socket docker")


@contextlib.contextmanager
def docker_hangs(lab: Lab, node: str) -> Iterator[None]:
    """dockerd is there, and does nothing."""
    signal = "kill -{} $(systemctl show --property=MainPID --value docker)"
    lab.on(node, signal.format("STOP"))
    try:
        yield
    finally:
        lab.on(node, signal.format("CONT"))


@contextlib.contextmanager
def reload_kills(lab: Lab, node: str) -> Iterator[None]:
    """dockerd dies when it is reloaded."""
    unit = "[Service]\nExecReload=\nExecReload=/bin/kill -9 $MAINPID\n"
    _drop_in(lab, node, "dies", unit)
    try:
        yield
    finally:
        lab.on(
            node,
            f"rm {DROP_INS}/dies.conf; systemctl daemon-reload; systemctl reset-failed docker;"
            " systemctl start docker",
        )


@contextlib.contextmanager
def sudo_refuses(lab: Lab, node: str) -> Iterator[None]:
    """The user may not become root any more."""
    lab.on(node, "mv /etc/sudoers.d/ops /root/sudoers")
    try:
        yield
    finally:
        lab.on(node, "mv /root/sudoers /etc/sudoers.d/ops")


@contextlib.contextmanager
def file_that_cannot_be_used(lab: Lab, node: str, make: str) -> Iterator[None]:
    """A daemon.json, `F` in the script that makes it, where there was none."""
    lab.on(node, make.replace("F", DAEMON_JSON))
    try:
        yield
    finally:
        lab.on(
            node,
            f"chattr -i /etc/docker {DAEMON_JSON} 2>/dev/null; rm -f {DAEMON_JSON}",
        )


@contextlib.contextmanager
def no_registry(lab: Lab, seen_from: str) -> Iterator[None]:
    """The mirror's registry is removed, and its task has ended; it is back on `seen_from`
    afterwards."""
    lab.on("node1", "docker service scale --detach registry-mirror=0")
    try:
        wait_until_gone(lab, r"^registry-mirror\.", *lab.nodes)
        yield
    finally:
        lab.on("node1", "docker service scale --detach registry-mirror=1")
        lab.wait_for_mirror(seen_from)


@contextlib.contextmanager
def no_mirror(lab: Lab) -> Iterator[None]:
    """No task of the mirror's runs on any node."""
    lab.on("node1", "docker service scale --detach registry-mirror=0 registry-mirror-front=0")
    try:
        wait_until_gone(lab, "^registry-mirror", *lab.nodes)
        yield
    finally:
        lab.on("node1", "docker service scale --detach registry-mirror=1 registry-mirror-front=1")
        lab.wait_for_mirror("node3")


def wait_until_gone(lab: Lab, containers: str, *nodes: str) -> None:
    """Until none of these nodes runs a container whose name has this pattern; a task's name is
    SERVICE.NUMBER.ID."""
    ask = f"docker ps --quiet --filter 'name={containers}' | grep --quiet ."
    for node in nodes:
        lab.on(node, f"for i in $(seq 120); do {ask} || exit 0; sleep 0.5; done; exit 1")


LOSES_ITS_PLACE = """#!/bin/sh
cd /var/lib/docker
if [ -e /run/loses-its-place ]; then
  rm /run/loses-its-place
  mv swarm swarm.kept
elif [ -d swarm.kept ]; then
  rm -rf swarm
  mv swarm.kept swarm
fi
"""


@contextlib.contextmanager
def loses_its_place_at_the_next_start(lab: Lab, node: str) -> Iterator[None]:
    """docker comes back from its next start, and only from that one, as no node of the swarm."""
    lab.on(node, "cat > /run/lose; chmod +x /run/lose", LOSES_ITS_PLACE.encode())
    _drop_in(lab, node, "lose", "[Service]\nExecStartPre=/run/lose\n")
    # docker must know the drop-in, or the restart is refused for it.
    lab.on(node, "systemctl restart docker; touch /run/loses-its-place")
    lab.wait_for_mirror(node)
    try:
        yield
    finally:
        lab.on(node, f"rm -f {DROP_INS}/lose.conf /run/loses-its-place; systemctl daemon-reload")


@contextlib.contextmanager
def drained(lab: Lab, node: str) -> Iterator[None]:
    """Somebody has drained a node; what ran there of the mirror runs somewhere else."""
    lab.on("node1", f"docker node update --availability drain {node}")
    try:
        wait_until_gone(lab, "^registry-mirror", node)
        lab.wait_for_mirror(node)
        yield
    finally:
        lab.on("node1", f"docker node update --availability active {node}")


@contextlib.contextmanager
def out_of_the_swarm(lab: Lab, node: str) -> Iterator[None]:
    """A worker has left the swarm; it joins again afterwards, and its former self is removed."""
    token = lab.on("node1", "docker swarm join-token --quiet worker").strip()
    lab.on(node, "docker swarm leave")
    try:
        yield
    finally:
        lab.on(node, f"docker swarm join --token {token} 198.18.0.11:2377")
        forget = (
            "docker node ls --format '{{.ID}} {{.Status}}' | awk '$2 == \"Down\" {print $1}'"
            " | xargs -r docker node rm --force"
        )
        lab.on(
            "node1",
            "for i in $(seq 60); do docker node ls | grep -q Down && break; sleep 0.5; done;"
            f" {forget}",
        )


PROXY = (
    "import socketserver as s\n"
    "class H(s.StreamRequestHandler):\n"
    "    def handle(self):\n"
    "        self.rfile.readline()\n"
    "        self.wfile.write(b'HTTP/1.1 403 Forbidden\\r\\nContent-Length: 0\\r\\n\\r\\n')\n"
    "s.ThreadingTCPServer.allow_reuse_address = True\n"
    "s.ThreadingTCPServer(('127.0.0.1', 3128), H).serve_forever()\n"
)


@contextlib.contextmanager
def proxy_that_leads_nowhere(lab: Lab, node: str, environment: str) -> Iterator[None]:
    """docker runs with the proxy that `environment` (lines of its unit) names, and that one, on
    port 3128, refuses everything."""
    lab.on(
        node,
        "cat > /run/proxy.py; systemd-run --unit=lab-proxy python3 /run/proxy.py",
        PROXY.encode(),
    )
    try:
        restart_with(lab, node, environment)
        yield
    finally:
        restart_with(lab, node, "")
        lab.on(node, "systemctl stop lab-proxy; rm /run/proxy.py")


def restart_with(lab: Lab, node: str, environment: str) -> None:
    """Start docker anew with these lines in its unit; none: as it was."""
    _drop_in(lab, node, "proxy", f"[Service]\n{environment}\n")
    lab.on(node, "systemctl reset-failed docker; systemctl restart docker")


BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
AUTHORITIES = "/usr/local/share/ca-certificates"


@contextlib.contextmanager
def authority_younger_than_docker(lab: Lab, node: str) -> Iterator[None]:
    """The lab's authority was installed on the node after its docker had read the trust store."""
    lab.on(
        node,
        f"mkdir -p /root/kept; mv {AUTHORITIES}/*.crt /root/kept/; update-ca-certificates --fresh"
        " >/dev/null 2>&1",
    )
    lab.on(node, "systemctl reset-failed docker; systemctl restart docker")
    # dockerd reads the store when it needs it first.
    lab.on(
        node,
        "docker pull mirror.lab.test/library/swarm-mirror-proof:1 2>&1 | grep -q 'unknown"
        " authority'",
    )
    lab.on(
        node,
        f"sleep 1; mv /root/kept/*.crt {AUTHORITIES}/; update-ca-certificates --fresh >/dev/null"
        f" 2>&1; touch {BUNDLE}",
    )
    try:
        yield
    finally:
        lab.on(
            node,
            "rm -rf /etc/docker/certs.d/mirror.lab.test; systemctl reset-failed docker; systemctl"
            " restart docker",
        )


@contextlib.contextmanager
def upstream_away(lab: Lab) -> Iterator[None]:
    """The upstream answers no packet."""
    internet.behave(lab.sandbox, "black-hole")
    try:
        yield
    finally:
        internet.behave(lab.sandbox, "well")


def _drop_in(lab: Lab, node: str, name: str, text: str) -> None:
    """A file beside docker's unit, until the machine boots again."""
    lab.on(
        node,
        f"mkdir -p {DROP_INS}; cat > {DROP_INS}/{name}.conf; systemctl daemon-reload",
        text.encode(),
    )
