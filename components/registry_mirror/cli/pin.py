"""`pin FILE…`: looks up the digests of the images in YAML files and writes them there.

An image is the value of a key that ends in `image` (`image`, `varnishImage`), or any below a key
that ends in `images`. A digest that is there is looked up again, so that a tag which has moved is
said before it is written. Nothing is written unless every registry has answered. Comments and
layout of the file stay.
"""

import argparse
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..plain_text import lines, one_line
from .console import Verb, progress, table
from .errors import DRIFTED, OK, USAGE, CommandError

SECONDS = 60
_NO_IMAGE = frozenset({"checkimage"})
"""Keys that end in `image` and name no image that is run: this one is to follow its tag."""
_REFERENCE = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]*(@.*)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PROGRAMS: dict[str, Callable[[str], list[str]]] = {
    "crane": lambda image: ["digest", image],
    "skopeo": lambda image: [
        "inspect",
        "--no-tags",
        "--format",
        "{{.Digest}}",
        f"docker://{image}",
    ],
    "docker": lambda image: [
        "buildx",
        "imagetools",
        "inspect",
        "--format",
        "{{json .Manifest.Digest}}",
        image,
    ],
}
"""Programs that can be asked for a digest, in this order, and how."""


@dataclass(frozen=True)
class Pinned:
    """An image in a file, and what was done to it."""

    key: str
    tag: str
    done: str


def pin(text: str, digest_of: Callable[[str], str]) -> tuple[str, list[Pinned]]:
    """The text with every image pinned, and what was done. Raises ValueError for what is no YAML,
    and whatever `digest_of` raises."""
    try:
        document = yaml.compose(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {one_line(error, 200)}") from None
    images = list(_images(document)) if document is not None else []
    done, changes = [], []
    for key, node in images:
        tag, _, before = node.value.partition("@")
        digest = digest_of(tag)
        done.append(Pinned(key, tag, _what_was_done(before, digest)))
        quote = node.style if node.style in ("'", '"') else ""
        changes.append(
            (node.start_mark.index, node.end_mark.index, f"{quote}{tag}@{digest}{quote}")
        )
    for start, end, replacement in sorted(changes, reverse=True):
        text = text[:start] + replacement + text[end:]
    return text, done


def _what_was_done(before: str, digest: str) -> str:
    if before == digest:
        return "as it was"
    return f"MOVED, it was {before[:19]}…" if _DIGEST.fullmatch(before) else "pinned"


def _images(
    node: yaml.Node, key: str = "", *, inside: bool = False
) -> Iterator[tuple[str, yaml.ScalarNode]]:
    """The images below a node, each with its key; `inside`: all that is below is one."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode):
                last = name.value.rpartition(":")[2]
                word = last.lower()
                is_image = word.endswith("image") and word not in _NO_IMAGE
                yield from (
                    _images(value, last, inside=inside or is_image or word.endswith("images"))
                )
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _images(value, key, inside=inside)
    elif inside and isinstance(node, yaml.ScalarNode) and _REFERENCE.fullmatch(node.value):
        yield key, node


def digest_of(reference: str) -> str:
    """What the image's registry answers to whichever of PROGRAMS is on PATH. Raises
    CommandError."""
    name = next((name for name in PROGRAMS if shutil.which(name)), None)
    if name is None:
        raise CommandError(
            f"none of {', '.join(PROGRAMS)} is on PATH, and a registry is asked with one of them",
            "install crane (github.com/google/go-containerregistry)",
        )
    try:
        with progress(f"{reference}"):
            done = subprocess.run(
                [name, *PROGRAMS[name](reference)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise CommandError(
            f"{reference}: {name} has not ended within {SECONDS} s",
            "check that its registry can be reached",
        ) from None
    answer = done.stdout.strip().strip('"')
    if done.returncode != 0 or not _DIGEST.fullmatch(answer):
        output = lines(done.stderr)
        raise CommandError(
            f"{reference}: {output[-1] if output else 'no answer'}",
            "check the name and that its registry can be reached",
        )
    return answer


def run(options: argparse.Namespace) -> int:
    """Pin the images of all files, or of none. Raises CommandError."""
    pinned = [(file, *_pinned(file)) for file in options.files]
    for file, text, _ in pinned:
        if text != file.read_text(encoding="utf-8"):
            file.write_text(text, encoding="utf-8")
    if options.json:
        print(
            json.dumps(
                [
                    {"file": str(file), "key": each.key, "image": each.tag, "done": each.done}
                    for file, _, done in pinned
                    for each in done
                ],
                indent=1,
            )
        )
    else:
        rows = [(each.key, each.tag, each.done) for _, _, done in pinned for each in done]
        print("\n" + table(("key", "image", "what was done"), rows) + "\n")
    return OK


def _pinned(file: Path) -> tuple[str, list[Pinned]]:
    try:
        text, done = pin(file.read_text(encoding="utf-8"), digest_of)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CommandError(f"{file} cannot be read: {reason}", code=USAGE) from None
    if not done:
        raise CommandError(
            f"{file} names no image",
            "an image is the value of a key that ends in `image`, or below one that ends in"
            " `images`",
            DRIFTED,
        )
    return text, done


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="YAML, like Pulumi.prod.yaml"
    )


VERB = Verb(
    "pin",
    "look up the digests of the images in YAML files and write them there",
    "swarm-registry-mirror pin Pulumi.prod.yaml",
    run,
    _arguments,
    has_json=True,
    has_stack=False,
)
