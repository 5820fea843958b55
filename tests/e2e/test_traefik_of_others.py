"""Traefik as people run it: a constraint, several entrypoints, middlewares, priorities and a
redirection of their own.

The constraint is that of dockerswarm.rocks. The tests build on one mirror.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import internet
from lab.plan import MIRROR_HOST
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror
from tests.lab.output import counts

CONSTRAINT = "Label(`traefik.constraint-label`, `traefik-public`)"
LABEL = {"traefik.constraint-label": "traefik-public"}
ROUTER = "traefik.http.routers.registry-mirror-front"
PLAIN = "traefik.http.routers.their-redirection"
OWN: dict[str, Any] = {
    "entrypoint": "websecure,internal",
    "allowFrom": ["198.18.0.0/24", "127.0.0.0/8"],
    "metricsFrom": ["198.18.0.0/24"],
}
LABELS = {
    **LABEL,
    f"{ROUTER}.middlewares": "theirs",
    "traefik.http.middlewares.theirs.headers.customresponseheaders.X-Theirs": "yes",
    f"{PLAIN}.rule": f"Host(`{MIRROR_HOST}`)",
    f"{PLAIN}.entrypoints": "web",
    f"{PLAIN}.middlewares": "to-https",
    "traefik.http.middlewares.to-https.redirectscheme.scheme": "https",
}
GREEDY = f"""http:
  routers:
    greedy:
      rule: Host(`{MIRROR_HOST}`)
      entryPoints: [websecure]
      priority: 1000
      tls: {{}}
      service: noop@internal
"""
"""A router of Traefik's own file, which answers 418 to everything."""

ASK = f"""
import socket, ssl, sys
port, path = int(sys.argv[1]), sys.argv[2]
s = socket.create_connection((sys.argv[3], port), 10)
if port != 80:
    trust = ssl.create_default_context()
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which Python 3.13 has, and docker has not
    s = trust.wrap_socket(s, server_hostname="{MIRROR_HOST}")
s.sendall(("GET %s HTTP/1.1\\r\\nHost: {MIRROR_HOST}\\r\\nConnection: close\\r\\n\\r\\n" % path).encode())
answer = b""
while piece := s.recv(65536):
    answer += piece
print(answer.partition(b"\\r\\n\\r\\n")[0].decode())
"""  # noqa: E501


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    internet.behave(lab.sandbox, "well")
    lab.traefik(
        lab.digest("traefik"),
        f"--providers.swarm.constraints={CONSTRAINT}",
        "--entrypoints.internal.address=:8443",
        "--entrypoints.web.address=:80",
    )
    mirror = Mirror(lab)
    yield mirror
    lab.traefik(lab.digest("traefik"))
    mirror.configure()
    mirror.destroy()


def ask(lab: Lab, port: int, path: str = "/v2/") -> str:
    """Status line and headers, from an entrypoint of Traefik that no port of the machine leads
    to."""
    inside = (
        "nsenter --net=/proc/$(docker inspect --format '{{.State.Pid}}' $(docker ps -q -f"
        " name=traefik))/ns/net"
    )
    return lab.on(
        "node1", f'{inside} python3 -c "$(cat)" {port} {path} 127.0.0.1', ASK.encode()
    ).lower()


def ask_until(words: str, lab: Lab, port: int) -> str:
    deadline = time.monotonic() + 30
    while words not in (answer := ask(lab, port)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return answer


def test_a_constraint_that_hides_the_mirror_is_named_with_the_label_and_no_node_is_touched(
    lab: Lab, mirror: Mirror
) -> None:
    before = lab.connections("node2", "node3")
    mirror.configure(readyTimeout=45)
    reason = mirror.up_fails()
    assert (
        f"The Traefik of the service traefik takes only what meets its constraint {CONSTRAINT}"
        in reason
    )
    assert (
        "the mirror needs these traefikLabels for it: traefik.constraint-label: traefik-public"
        in reason
    )
    assert lab.connections("node2", "node3") == before


def test_with_that_label_it_is_found_at_each_entrypoint_with_their_middleware_and_their_redirection(
    lab: Lab, mirror: Mirror
) -> None:
    mirror.configure(**OWN, traefikLabels=LABELS)
    mirror.up()
    lab.pull("node2")
    for port in (443, 8443):
        head = ask_until("x-theirs: yes", lab, port)
        assert head.startswith("http/1.1 200"), head
        assert "docker-distribution-api-version: registry/2.0" in head
        assert "x-theirs: yes" in head
    redirected = ask(lab, 80)
    assert redirected.split()[1] in ("301", "302", "307", "308"), redirected
    assert f"location: https://{MIRROR_HOST}/v2/" in redirected
    metrics = (
        "python3 -c 'import urllib.request as u;"
        f' print(u.urlopen("https://{MIRROR_HOST}/metrics").status)\''
    )
    assert lab.on("node3", metrics).strip() == "200", "the registry meets the constraint, too"


def test_who_is_not_on_the_list_does_not_come_to_their_middleware(lab: Lab, mirror: Mirror) -> None:
    mirror.configure(**{**OWN, "allowFrom": ["198.18.0.0/24"]}, traefikLabels=LABELS)
    mirror.up()
    head = ask(lab, 8443)
    assert head.startswith("http/1.1 403"), "what `up` has changed holds when it ends: " + head
    assert "x-theirs" not in head


def test_a_priority_of_their_own_decides_between_two_routers(lab: Lab, mirror: Mirror) -> None:
    file = lab.folder.shared_storage / "traefik" / "dynamic.yml"
    usual = file.read_text()

    def write(text: str) -> None:
        new = file.with_suffix(".new")
        new.write_text(text)
        new.rename(file)

    mirror.configure(**OWN, traefikLabels=LABELS)
    mirror.up()
    write(usual + GREEDY)
    try:
        assert ask_until("http/1.1 418", lab, 443).startswith("http/1.1 418")
        mirror.configure(**OWN, traefikLabels={**LABELS, f"{ROUTER}.priority": "2000"})
        assert counts(mirror.up()).get("replaced", 0) == 0
        assert ask_until("http/1.1 200", lab, 443).startswith("http/1.1 200")
    finally:
        write(usual)
    assert set(counts(mirror.up())) == {"unchanged"}
