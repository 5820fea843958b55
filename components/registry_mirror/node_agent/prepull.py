"""Has this node's docker pull images by their digests, so that tasks which need them start at once:
a worker does not ask a registry for an image that it has by digest (moby
daemon/cluster/executor/container/adapter.go `pullImage`).
"""

import json
import time
from typing import Any, Dict, Optional

from . import engine
from .verb_request import PrepullRequest


def run(request: PrepullRequest) -> str:
    """Pull each image that is not here; returns JSON, a list of `image`, `outcome` (`pulled`,
    `here` or `failed`), `reason`, `seconds`, `size` (unpacked bytes)."""
    deadline = time.monotonic() + request.seconds
    return json.dumps([_pull(image, deadline) for image in request.images])


def _pull(image: str, deadline: float) -> Dict[str, Any]:
    begun = time.monotonic()
    size, outcome, reason = _size(image), "here", ""
    if size is None:
        left = deadline - begun
        try:
            if left <= 0:
                raise engine.EngineProblem("the time for pulling was over before it began [RM267]")
            engine.run("docker", "pull", "--quiet", image, seconds=left)
            size, outcome = _size(image), "pulled"
        except engine.EngineProblem as error:
            outcome, reason = "failed", str(error)
    return {
        "image": image,
        "outcome": outcome,
        "reason": reason,
        "seconds": round(time.monotonic() - begun),
        "size": size or 0,
    }


def _size(image: str) -> Optional[int]:
    """Bytes of an image that is here; None if it is not."""
    try:
        return int(engine.run("docker", "image", "inspect", "--format", "{{.Size}}", image))
    except (engine.EngineProblem, ValueError):
        return None
