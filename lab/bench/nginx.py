"""nginx with the files that the mirror has, as the measure for what the mirror gives. Owns how it
is configured and started.

It serves whole layers by their digest, and answers no other request.
"""

import contextlib
from collections.abc import Iterator

from lab import deployed
from lab.images import debian_image
from lab.machines import run_on
from lab.plan import MANAGER, MIRROR_HOST, NODES, TRAEFIK_NETWORK, LabNode
from lab.sandbox import Sandbox

NAME = "bench-nginx"
TLS_PORT, PORT = 8443, 8080
FILES = f"alias {deployed.CACHE}/docker/registry/v2/blobs/sha256/$1/$1$2/data"
CONFIGURATION = f"""
worker_processes auto;
events {{}}
http {{
  sendfile on; tcp_nopush on; access_log off;
  server {{
    LISTEN;
    location ~ /v2/.*/blobs/sha256:(..)(.*)$ {{ {FILES}; }}
  }}
}}
"""
CERTIFICATE = (
    "ssl_certificate /var/data/traefik/mirror.crt; ssl_certificate_key /var/data/traefik/mirror.key"
)
MOUNTS = (
    f"--mount type=bind,source=/etc/{NAME}.conf,target=/etc/nginx/nginx.conf,readonly"
    " --mount type=bind,source=/var/data,target=/var/data,readonly"
)
START = f"docker run --detach --name {NAME} --network host {MOUNTS} lab/nginx:1"
LABELS = {
    "enable": "true",
    f"http.routers.{NAME}.rule": f"Host(`{MIRROR_HOST}`) && PathPrefix(`/{NAME}/`)",
    f"http.routers.{NAME}.entrypoints": "websecure",
    f"http.routers.{NAME}.tls": "true",
    f"http.services.{NAME}.loadbalancer.server.port": str(PORT),
}
START_SERVICE = (
    f"docker service create --quiet --detach --no-resolve-image --name {NAME} --network"
    f" {TRAEFIK_NETWORK} {MOUNTS}"
    " --constraint node.hostname=={node} "
    + " ".join(f"--label 'traefik.{name}={value}'" for name, value in LABELS.items())
) + " lab/nginx:1"


@contextlib.contextmanager
def alone(sandbox: Sandbox) -> Iterator[str]:
    """Its address: TLS by nginx itself, on the manager."""
    _prepare(sandbox, MANAGER, f"listen {TLS_PORT} ssl; {CERTIFICATE}")
    run_on(sandbox, MANAGER, START)
    try:
        yield f"https://{MIRROR_HOST}:{TLS_PORT}"
    finally:
        run_on(sandbox, MANAGER, f"docker rm --force {NAME}")


@contextlib.contextmanager
def behind_traefik(sandbox: Sandbox, digest: str) -> Iterator[str]:
    """Its address: in Varnish's place, on Varnish's machine, behind the same Traefik. `digest` is
    of a layer that it has."""
    front = (
        f"docker service ps {deployed.SERVICE}-front --filter desired-state=running --format"
        f" '{{{{.Node}}}}'"
    )
    name = run_on(sandbox, MANAGER, front).strip()
    node = next(node for node in NODES if node.name == name)
    _prepare(sandbox, node, f"listen {PORT}")
    run_on(sandbox, MANAGER, START_SERVICE.format(node=name))
    url = f"https://{MIRROR_HOST}/{NAME}"
    ask = (
        f'python3 -c \'import urllib.request as u; u.urlopen("{url}/v2/x/blobs/{digest}",'
        " timeout=5).close()' 2>/dev/null"
    )
    try:
        run_on(
            sandbox,
            NODES[-1],
            f"for i in $(seq 60); do {ask} && exit 0; sleep 0.5; done; exit 1",
            timeout=120,
        )
        yield url
    finally:
        run_on(sandbox, MANAGER, f"docker service rm {NAME}")


def _prepare(sandbox: Sandbox, node: LabNode, listen: str) -> None:
    archive = debian_image("nginx", "nginx-light", ["nginx", "-g", "daemon off;"])
    run_on(sandbox, node, "docker load --quiet", stdin=archive.read_bytes())
    run_on(
        sandbox,
        node,
        f"cat > /etc/{NAME}.conf",
        stdin=CONFIGURATION.replace("LISTEN", listen).encode(),
    )
