"""Varnish, the registry and an upstream, as they stand behind each other in the swarm, in a network
of their own.

Varnish is the lab's image with the real script and configuration, as the image's user, without
capabilities, on a read-only root; the registry is the real one with the rendered configuration. The
upstream is ours: it serves what a test puts there, counts it, and can be slow. A resolver of ours
stands for docker's. The network is made for the calling thread; whatever that thread starts
(threads, processes) is in it.
"""

import contextlib
import ctypes
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import yaml

from components.registry_mirror.render import registries, registry, varnish
from lab.plan import LABS
from tests.registry_container import RegistryContainer
from tools.toolchain import BIN

CLONE_NEWNET = 0x40000000
VARNISH, REGISTRY, OTHER_TASK, UPSTREAM = "10.77.0.1", "10.77.0.2", "10.77.0.3", "10.77.0.4"
SECOND_REGISTRY, SECOND_UPSTREAM = "10.77.0.5", "10.77.0.6"
STRANGER = "10.99.0.9"
"""On this machine, and in no network of Varnish's."""
SERVICE = "registry-mirror"

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKERS_ACCEPT = ", ".join((DOCKER_LIST, OCI_INDEX, DOCKER_MANIFEST, OCI_MANIFEST))

SETUP = """
set -e
[ -z "$CGROUP" ] || echo $$ > "$CGROUP/cgroup.procs"
root=$1 files=$2; shift 2
mount --bind "$TREE" "$root"
mount -o remount,bind,ro "$root"
$WRITABLE "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for file in etc/hosts etc/resolv.conf etc/varnish/mirror.vcl usr/local/bin/start-mirror; do
  mount --bind "$files/${file##*/}" "$root/$file"
done
# Who changes his user is told no more of his parent's end, unless he asks for it again.
exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  setpriv --reuid varnish --regid varnish --clear-groups --inh-caps=-all --bounding-set=-all --pdeathsig KILL "$@"
"""  # noqa: E501
libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """A network namespace for this thread, with the addresses of the chain."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace")
    try:
        commands = [
            "link set lo up",
            "link add chain type veth peer name far",
            "link set chain up",
            "link set far up",
            f"address add {STRANGER}/32 dev lo",
        ]
        for command in [
            *commands,
            *(
                f"address add {address}/24 dev chain"
                for address in (
                    VARNISH,
                    REGISTRY,
                    OTHER_TASK,
                    UPSTREAM,
                    SECOND_REGISTRY,
                    SECOND_UPSTREAM,
                )
            ),
        ]:
            subprocess.run(["ip", *command.split()], check=True)
        yield
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(before)


@contextlib.contextmanager
def in_network(name: str) -> Iterator[None]:
    """The calling thread in a network namespace that has a name; what it opens there stays
    there."""
    before, named = (
        os.open("/proc/thread-self/ns/net", os.O_RDONLY),
        os.open(f"/run/netns/{name}", os.O_RDONLY),
    )
    try:
        if libc.setns(named, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"{name}: cannot be entered")
        yield
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(before)
        os.close(named)


def varnish_tree() -> Path:
    """The lab's image of Varnish as a folder; made once."""
    image = LABS / "images" / "varnish"
    tree, stamp = image / "tree", image / "tree-made-by"
    recipe = (image / "made-by").read_text()
    if not (stamp.exists() and stamp.read_text() == recipe):
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        with tarfile.open(image / "image.tar") as archive:
            manifest = archive.extractfile("manifest.json")
            assert manifest is not None
            for layer in json.load(manifest)[0]["Layers"]:
                content = archive.extractfile(layer)
                assert content is not None
                unpack = subprocess.Popen(["tar", "-x", "-C", str(tree)], stdin=subprocess.PIPE)
                assert unpack.stdin is not None
                with contextlib.suppress(
                    BrokenPipeError
                ):  # tar ends at the archive's end, and zeros may follow that
                    shutil.copyfileobj(content, unpack.stdin)
                    unpack.stdin.close()
                assert unpack.wait() == 0
        # Where a container's runtime lays files, the place is made by it.
        for name in (
            "etc/hosts",
            "etc/resolv.conf",
            "etc/varnish/mirror.vcl",
            "usr/local/bin/start-mirror",
        ):
            (tree / name).unlink(missing_ok=True)
            (tree / name).touch()
        stamp.write_text(recipe)
    return tree


class Long:
    """A body too long to be held: one block of random bytes over and over, each with its number, so
    no two places are alike."""

    BLOCK = 1 << 20

    def __init__(self, size: int, seed: int = 0) -> None:
        self._size = size
        self._block = random.Random(seed).randbytes(self.BLOCK)
        self._digest = ""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        first = start // self.BLOCK
        blocks = (
            number.to_bytes(8, "big") + self._block[8:]
            for number in range(first, -(-stop // self.BLOCK))
        )
        return b"".join(blocks)[start - first * self.BLOCK : stop - first * self.BLOCK]

    @property
    def digest(self) -> str:
        if not self._digest:
            self._digest = self.digest_from(0)
        return self._digest

    def digest_from(self, first: int) -> str:
        """Of what follows a byte."""
        found = hashlib.sha256()
        for start in range(first, self._size, self.BLOCK):
            found.update(self[start : start + self.BLOCK])
        return f"sha256:{found.hexdigest()}"


def digest_of(body: bytes | Long) -> str:
    """Its name as a blob."""
    return body.digest if isinstance(body, Long) else f"sha256:{hashlib.sha256(body).hexdigest()}"


@dataclass
class Content:
    """What the upstream has: path -> (media type, body)."""

    answers: dict[str, tuple[str, bytes | Long]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    """Path -> the header Link of its answer, where a list of tags goes on."""

    def blob(self, name: str, content: bytes | Long) -> str:
        digest = digest_of(content)
        self.answers[f"/v2/{name}/blobs/{digest}"] = ("application/octet-stream", content)
        return digest

    def manifest(
        self, name: str, media_type: str, body: Mapping[str, object], tag: str | None = None
    ) -> str:
        content = json.dumps({"schemaVersion": 2, "mediaType": media_type, **body}).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        for reference in filter(None, (digest, tag)):
            self.answers[f"/v2/{name}/manifests/{reference}"] = (media_type, content)
        return digest

    def image(
        self, name: str, layers: list[bytes], *, docker: bool = True, tag: str = "latest"
    ) -> tuple[str, list[str]]:
        """An image for two architectures under a tag; the digests of its list and of its blobs."""
        single, several = (DOCKER_MANIFEST, DOCKER_LIST) if docker else (OCI_MANIFEST, OCI_INDEX)
        blobs = [self.blob(name, layer) for layer in layers]
        entries = []
        for architecture in ("amd64", "arm64"):
            config = json.dumps({"architecture": architecture, "os": "linux"}).encode()
            digest = self.blob(name, config)
            described = [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": blob,
                    "size": len(layer),
                }
                for blob, layer in zip(blobs[: len(layers)], layers, strict=True)
            ]
            described_config = {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest,
                "size": len(config),
            }
            made = self.manifest(name, single, {"config": described_config, "layers": described})
            entries.append(
                {
                    "mediaType": single,
                    "digest": made,
                    "size": len(self.answers[f"/v2/{name}/manifests/{made}"][1]),
                    "platform": {"architecture": architecture, "os": "linux"},
                }
            )
            blobs.append(digest)
        return self.manifest(name, several, {"manifests": entries}, tag), blobs


class Upstream(BaseHTTPRequestHandler):
    """Serves a Content, and counts requests and bytes by path."""

    protocol_version = "HTTP/1.1"
    content: ClassVar[Content]
    requests: ClassVar[Counter[str]] = Counter()
    sent: ClassVar[Counter[str]] = Counter()
    rate = 0
    """Bytes a second of one connection; 0 is without limit."""
    refusal = 0
    """Status of every answer, as a registry words it; 0: it is well."""
    broken_off_at: ClassVar[list[int]] = []
    """After how many bytes each of the next bodies breaks off, with its connection."""
    cut = False
    """Whether everything breaks off now."""
    silent = False
    """Whether it accepts requests and answers none."""
    delay = 0.0
    """Seconds until it answers a question for a manifest."""

    def do_GET(self) -> None:
        if self.cut:
            self.close_connection = True
            return
        type(self).requests[self.path] += 1
        if "/manifests/" in self.path:
            time.sleep(self.delay)
        if self.silent:
            while type(self).silent:
                time.sleep(0.05)
            self.close_connection = True
            return
        if self.refusal:
            self._refuse(self.refusal)
            return
        media_type, body = self.content.answers.get(self.path, ("", b""))
        self.send_response(200 if media_type or self.path == "/v2/" else 404)
        self.send_header("Content-Length", str(len(body)))
        if self.path in self.content.links:
            self.send_header("Link", self.content.links[self.path])
        if media_type:
            digest = digest_of(body)
            self.send_header("Content-Type", media_type)
            self.send_header("Docker-Content-Digest", digest)
            self.send_header("ETag", f'"{digest}"')
        self.end_headers()
        if self.command == "HEAD":
            return
        step = max(self.rate // 20, 65536) if self.rate else 1 << 20
        end = self.broken_off_at.pop(0) if body and self.broken_off_at else len(body)
        for start in range(0, min(end, len(body)), step):
            if self.cut:
                end = 0
                break
            piece = body[start : min(start + step, end)]
            self.wfile.write(piece)
            type(self).sent[self.path] += len(piece)
            if self.rate:
                time.sleep(step / self.rate)
        if end < len(body):
            self.close_connection = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def _refuse(self, status: int) -> None:
        unknown = "MANIFEST_UNKNOWN" if "/manifests/" in self.path else "BLOB_UNKNOWN"
        code = {401: "UNAUTHORIZED", 403: "DENIED", 404: unknown, 429: "TOOMANYREQUESTS"}.get(
            status, "UNKNOWN"
        )
        body = json.dumps(
            {"errors": [{"code": code, "message": "the upstream's own words"}]}
        ).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class SecondUpstream(Upstream):
    """The upstream of a registry besides the one at the root."""

    content: ClassVar[Content] = Content()
    requests: ClassVar[Counter[str]] = Counter()
    sent: ClassVar[Counter[str]] = Counter()


class Resolver(threading.Thread):
    """Answers A queries on 127.0.0.53 from `names`; everything else is NXDOMAIN."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        super().__init__(daemon=True)
        self.names = names
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.53", 53))

    def run(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(512)
            if not query:  # `close`
                return
            end, labels = 12, []
            while query[end]:
                labels.append(query[end + 1 : end + 1 + query[end]].decode())
                end += query[end] + 1
            name, question = ".".join(labels), query[12 : end + 5]
            self.asked.append(name)
            is_a = question[-4:-2] == b"\0\1"
            found = self.names.get(name)
            addresses = (found or []) if is_a else []
            header = query[:2] + struct.pack(
                ">HHHHH", 0x8180 if found is not None else 0x8183, 1, len(addresses), 0, 0
            )
            answers = b"".join(
                b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(address) for address in addresses
            )
            self._socket.sendto(header + question + answers, sender)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self._socket.getsockname())
        self.join()
        self._socket.close()


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"


@dataclass
class Received:
    """What a client got of a body that it did not keep."""

    status: int
    headers: Mapping[str, str]
    digest: str
    size: int

    @property
    def complete(self) -> bool:
        """Whether a client takes it for all that it asked for."""
        return 200 <= self.status < 300 and self.size == int(self.headers["Content-Length"])


class Chain:
    """The running parts. Use as a context, in `own_network`."""

    def __init__(
        self,
        folder: Path,
        *,
        memory: int = 64,
        disk: int = 256,
        search: str = "",
        names: "dict[str, list[str]] | None" = None,
        upstream: str = f"http://{UPSTREAM}",
        environment: "Mapping[str, str] | None" = None,
        writable: str = "mount -t tmpfs -o mode=1777 tmpfs",
        edit: Callable[[str], str] = str,
        cgroup: Path | None = None,
        cache: str = "",
        referrers: str = varnish.REFERRERS[0],
        second: registries.Behind | None = None,
        root_aliases: Sequence[str] = (),
        registry_words: "Sequence[str] | None" = None,
        registry_program: Path = BIN / "registry",
        with_usage: bool = True,
    ) -> None:
        """`registry_words`: given, each registry runs in its container (registry_container.py),
        with these further words of its script, and the second one with its folder's word;
        `with_usage`: with usage.sh and evict.sh, too.

        `second`: a registry besides the one at the root, whose upstream is SecondUpstream;
        `root_aliases`: other names of the one at the root.

        `environment`: what the registry finds, as its start script leaves it; given, it starts
        without its upstream, too.

        Of Varnish: `writable` mounts its /tmp (the target is appended), `edit` changes its script
        and configuration, and `cgroup` is its control group. `cache` mounts the registry's cache.
        """
        self._upstream, self._environment = upstream, environment
        self._second, self._root_aliases = second, root_aliases
        self._words, self._program = registry_words, registry_program
        self._with_usage = with_usage
        self.content = Content()
        self.folder = folder
        self.resolver = Resolver({f"tasks.{SERVICE}": [REGISTRY]} if names is None else names)
        if second is not None:
            self.resolver.names[f"tasks.{SERVICE}{registries.suffix_of(second.name)}"] = [
                SECOND_REGISTRY
            ]
        self._memory, self._disk, self._referrers = memory, disk, referrers
        self._search = search
        self._writable, self._edit, self._cgroup, self._cache = writable, edit, cgroup, cache
        (folder / "cache").mkdir()
        self._stack = contextlib.ExitStack()
        self.log = folder / "varnish.log"

    def __enter__(self) -> "Chain":
        Upstream.content, Upstream.rate, Upstream.refusal = self.content, 0, 0
        Upstream.broken_off_at, Upstream.cut, Upstream.silent, Upstream.delay = [], False, False, 0
        self.reset()
        self.resolver.start()
        self._stack.callback(self.resolver.close)
        self.serve(UPSTREAM, 80, Upstream)
        if self._cache:
            self._mount_the_cache()
        self.start_registry()
        if self._second is not None:
            SecondUpstream.content = Content()
            SecondUpstream.requests.clear()
            SecondUpstream.sent.clear()
            self.serve(SECOND_UPSTREAM, 80, SecondUpstream)
            cache = registries.folder_of(self._second.name)
            self.start_registry(SECOND_REGISTRY, f"http://{SECOND_UPSTREAM}", cache)
        self._start_varnish()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        deadline = time.monotonic() + 5
        while (
            left := self.varnish_processes()
        ):  # a chain that outlives its test costs all the others their time
            assert time.monotonic() < deadline, f"still running: {left}"
            time.sleep(0.02)

    def serve(self, address: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        server = ThreadingHTTPServer((address, port), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)

    def _mount_the_cache(self) -> None:
        """In a namespace that lasts longer than a task of the registry."""
        argv = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            f'{self._cache} "$0" && exec sleep infinity',
            str(self.folder / "cache"),
        ]
        self._keeper = self._process(argv, self.folder / "keeper.log", dict(os.environ))
        self.wait_for(lambda: Path(f"/proc/{self._keeper.pid}/comm").read_text() == "sleep\n")

    def _beside_the_cache(self) -> list[str]:
        """Goes before a command that is to see the registry's cache; the command takes its
        place."""
        return ["nsenter", "--target", str(self._keeper.pid), "--mount"] if self._cache else []

    def beside_the_registry(self, command: str) -> "subprocess.CompletedProcess[str]":
        """A shell's command in the folder of the cache."""
        argv = [
            *self._beside_the_cache(),
            "/bin/sh",
            "-c",
            f'cd "$0" && {command}',
            str(self.folder / "cache"),
        ]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    def start_registry(
        self, address: str = REGISTRY, upstream: str | None = None, folder: str = ""
    ) -> "subprocess.Popen[bytes]":
        """A task of a registry, on a folder of the cache that there is."""
        version = registry.RegistryVersion.of("registry:3.1.2")
        assert version is not None
        text = registry.registry_config(SERVICE, upstream or self._upstream, version)
        config = yaml.safe_load(text)
        if upstream is not None:
            del config["http"]["debug"]  # in the swarm each has a loopback of its own
        if self._environment is None:
            del config["proxy"]["exec"]
        else:
            helper = self.folder / "docker-credential-upstream"
            helper.write_text(registry.script("credential-helper.sh"))
            helper.chmod(0o755)
            config["proxy"]["exec"]["command"] = str(helper)
        config["http"]["addr"] = f"{address}:{registry.PORT}"
        log = self.folder / f"registry-{address}.log"
        if self._words is not None:
            self.container = RegistryContainer(self.folder / f"root-{address}", self._program)
            words = [*self._words, *([f"FOLDER={folder}"] if folder else [])]
            cache = self.folder / "cache"
            argv = self._beside_the_cache()
            argv += self.container.argv(
                yaml.safe_dump(config), cache, words, with_usage=self._with_usage
            )
            running = self._process(argv, log, dict(os.environ))
            if upstream is None:
                self.registry = running
            return running
        config["storage"]["filesystem"]["rootdirectory"] = str(self.folder / "cache" / folder)
        file = self.folder / f"config-{address}.yml"
        file.write_text(yaml.safe_dump(config))
        argv = [
            *self._beside_the_cache(),
            str(self._program),
            "serve",
            str(file),
        ]
        environment = {"OTEL_TRACES_EXPORTER": "none", "PATH": "/bin", **(self._environment or {})}
        running = self._process(argv, log, environment)
        if upstream is None:
            self.registry = running
        return running

    def _start_varnish(self) -> None:
        (self.folder / "resolv.conf").write_text(
            f"nameserver 127.0.0.53\n{f'search {self._search}' if self._search else ''}\n"
        )
        (self.folder / "mirror.vcl").write_text(self._edit(self._configuration()))
        (self.folder / "start-mirror").write_text(self._edit(registry.script("start-varnish.sh")))
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n")
        for name in ("hosts", "resolv.conf", "mirror.vcl", "start-mirror"):
            (self.folder / name).chmod(0o644)
        self.root = self.folder / "root"
        self.root.mkdir()
        services = [
            SERVICE,
            *([] if self._second is None else [SERVICE + registries.suffix_of(self._second.name)]),
        ]
        words = varnish.words(services, self._memory, self._disk, self._referrers, metrics=True)
        argv = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            SETUP,
            "sh",
            str(self.root),
            str(self.folder),
            "/bin/sh",
            varnish.START,
            *words,
            "DIGEST=sha256:0",
        ]
        self.varnish = self._process(
            argv,
            self.log,
            {
                **os.environ,
                "TREE": str(varnish_tree()),
                "WRITABLE": self._writable,
                "CGROUP": str(self._cgroup or ""),
            },
        )

    def _configuration(self) -> str:
        behind = [] if self._second is None else [self._second]
        root = [registries.DOCKER_HUB, *self._root_aliases]
        root = root if behind or self._root_aliases else []
        return registries.configuration(registry.script("mirror.vcl"), behind, root)

    def _process(
        self, argv: list[str], log: Path, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        with log.open("wb") as output:
            running = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )
        self._stack.callback(running.wait)
        self._stack.callback(running.kill)
        self._stack.callback(running.send_signal, signal.SIGCONT)
        return running

    def wait_until_ready(self) -> None:
        """Varnish compiles its configuration first: a second of a processor, of which a busy
        computer has few."""
        self.wait_for(lambda: self.get("/v2/").status == 200, seconds=120)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if condition():
                    return
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def get(
        self,
        path: str,
        accept: str | None = None,
        *,
        method: str = "GET",
        headers: "Mapping[str, str] | None" = None,
        port: int = varnish.PORT,
        address: str = VARNISH,
        timeout: float = 30,
    ) -> Answer:
        """One request by a client of its own."""
        connection = http.client.HTTPConnection(address, port, timeout=timeout)
        try:
            connection.request(
                method,
                path,
                headers={**({"Accept": accept} if accept is not None else {}), **(headers or {})},
            )
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def receive(
        self, path: str, start: int = 0, size: "int | None" = None, *, timeout: float = 60
    ) -> Received:
        """A body read as it comes, whole or from a byte on (and so many bytes of it, after which
        the client goes away).

        A body that breaks off is what came of it; no answer at all is one of status 0.
        """
        connection = http.client.HTTPConnection(VARNISH, varnish.PORT, timeout=timeout)
        found, read, body = hashlib.sha256(), 0, bytearray(1 << 18)
        try:
            connection.request("GET", path, headers={"Range": f"bytes={start}-"} if start else {})
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            connection.close()
            return Received(0, {"Content-Length": "-1"}, "", 0)
        try:
            with contextlib.suppress(OSError, http.client.IncompleteRead):
                while (size is None or read < size) and (count := response.readinto(body)):
                    count = count if size is None else min(count, size - read)
                    found.update(memoryview(body)[:count])
                    read += count
            return Received(
                response.status, dict(response.headers), f"sha256:{found.hexdigest()}", read
            )
        finally:
            connection.close()

    def receive_whole(self, path: str, seconds: float = 60) -> str:
        """The digest of a body that comes whole within that time, as often as it has to be asked
        for."""
        deadline = time.monotonic() + seconds
        while not (received := self.receive(path)).complete:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        return received.digest

    def open(
        self, path: str, headers: "Mapping[str, str] | None" = None, address: str = VARNISH
    ) -> http.client.HTTPResponse:
        """A request whose body is not read yet, over a connection that takes little of it."""
        port = varnish.PORT if address == VARNISH else registry.PORT
        connection = http.client.HTTPConnection(address, port, timeout=60)
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.request("GET", path, headers=headers or {})
        return connection.getresponse()

    @staticmethod
    def rest(response: http.client.HTTPResponse) -> Answer:
        return Answer(response.status, dict(response.headers), response.read())

    def varnish_processes(self) -> list[int]:
        """Process ids of varnishd: the manager, then its child."""
        found, ours = [], Path("/proc/thread-self/ns/net").readlink()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name = (entry / "comm").read_text()
                if (
                    name.startswith(("varnishd", "cache-main"))
                    and (entry / "ns/net").readlink() == ours
                ):
                    found.append(int(entry.name))
        # By their age; process ids begin anew at some point.
        return sorted(
            found,
            key=lambda pid: int(
                Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
            ),
        )

    def inside(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """A command in Varnish's container."""
        enter = [
            "nsenter",
            "--target",
            str(self.varnish_processes()[0]),
            "--mount",
            "--pid",
            "--root",
            "--wd=/",
        ]
        return subprocess.run([*enter, *command], capture_output=True, text=True, check=False)

    def counter(self, name: str) -> int:
        """One of varnishstat's."""
        found = self.inside("varnishstat", "-n", "/tmp/varnish", "-1", "-f", name)
        found.check_returncode()
        return int(found.stdout.split()[1])

    def reset(self) -> None:
        Upstream.requests.clear()
        Upstream.sent.clear()

    def sent(self) -> int:
        """Bytes that left the upstream since the last `reset`."""
        return sum(Upstream.sent.values())


class Plain(http.client.HTTPConnection):
    """Without TLS, which is Traefik's part: in the place of the node agent's connection."""

    def body(self, answer: http.client.HTTPResponse) -> bytes:
        """As https.Connection has it."""
        return answer.read()


def to_varnish(_: str, __: str | None, each: float = 10, whole: float = 0) -> Any:
    """In the place of `probe.connection_to`."""
    return Plain(VARNISH, varnish.PORT, timeout=each)


def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)
