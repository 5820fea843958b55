"""`make pin ENV=…`: looks up the digests of a stack's images and writes them into `Pulumi.<stack>.yaml`.

    python3 -m tools.pin STACK

A digest that is there is looked up again, so a tag that has moved is said out loud before it is written. Nothing is written
that a registry has not answered. Comments and order of the file stay.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools import toolchain
from tools.progress import StageError, main_guard, stage
from tools.stack import LAB_STACK
from tools.table import table
from tools.toolchain import BIN, CHECKOUT

_LINE = re.compile(
    r"(?m)^(?P<head>\s+swarm-registry-mirror:(?P<key>image|varnishImage):\s+)(?P<quote>[\"']?)(?P<value>[^\s\"'#]+)"
)


def pin(text: str, digest_of: Callable[[str], str]) -> tuple[str, list[tuple[str, str, str]]]:
    """The text of a stack's file with every image pinned, and (key, tag, what was done) for each."""
    done = []

    def replace(found: "re.Match[str]") -> str:
        tag, _, before = found["value"].partition("@")
        digest = digest_of(tag)
        words = "pinned" if not before else "as it was" if before == digest else f"MOVED, it was {before[:19]}…"
        done.append((found["key"], tag, words))
        return f"{found['head']}{found['quote']}{tag}@{digest}"

    return _LINE.sub(replace, text), done


def digest_of(reference: str) -> str:
    """What the image's registry answers, by crane. Raises StageError."""
    asked = subprocess.run([BIN / "crane", "digest", reference], capture_output=True, text=True, timeout=60, check=False)
    answer = asked.stdout.strip()
    if asked.returncode != 0 or not re.fullmatch(r"sha256:[0-9a-f]{64}", answer):
        lines = asked.stderr.strip().splitlines()
        raise StageError(
            f"{reference}: {lines[-1] if lines else 'no answer'}", "check the name and that its registry can be reached"
        )
    return answer


def main(name: str) -> None:
    """Pin the images of the stack `name`."""
    file: Path = CHECKOUT / f"Pulumi.{name}.yaml"
    if name == LAB_STACK:
        raise StageError("the lab notes the digests of its images itself", "say ENV=<stack> of a real swarm")
    if not file.exists():
        raise StageError(f"there is no {file.name}", "copy Pulumi.dev.yaml and enter your own values")
    toolchain.bring(with_lab=False)
    toolchain.go_program("crane", "github.com/google/go-containerregistry/cmd/crane")
    before = file.read_text()
    with stage("digests of the images"):
        after, done = pin(before, digest_of)
    if not done:
        raise StageError(f"{file.name} names no image", "enter swarm-registry-mirror:image and varnishImage")
    if after != before:
        file.write_text(after)
    print("\n" + table(("key", "image", "what was done"), done) + "\n")


if __name__ == "__main__":
    sys.exit(main_guard(lambda: main(sys.argv[1] if len(sys.argv) > 1 else LAB_STACK)))
