"""Images at the lab's registries besides Docker Hub.

Apart from `images.py`, whose every change has all of a lab's images made anew.
"""

import json
from pathlib import Path

from lab.images import publish_at_hub
from lab.internet import HUB_PORT, NAMESPACE
from lab.other_registries import named
from lab.sandbox import Sandbox
from tools.toolchain import BIN


def publish_at(sandbox: Sandbox, host: str, archive: Path, reference: str) -> None:
    """Push an archive, or a folder of OCI's layout, to a registry besides Docker Hub
    (`other_registries.py`) as `reference`, like `owner/image:1`."""
    publish_at_hub(sandbox, archive, f"{named(host).content}/{reference}")


def image_bytes(sandbox: Sandbox, host: str, reference: str) -> int:
    """Bytes of an image of one manifest as that registry serves it: manifest, configuration and
    compressed layers."""
    there = f"127.0.0.1:{HUB_PORT}/{named(host).content}/{reference}"
    inside = ["ip", "netns", "exec", NAMESPACE]
    text = sandbox.run([*inside, str(BIN / "crane"), "manifest", "--insecure", there])
    manifest = json.loads(text)
    parts = [manifest["config"], *manifest["layers"]]
    return len(text.rstrip("\n")) + sum(int(part["size"]) for part in parts)
