"""Where a run begins: one action, one request, one sentence on stdout (kept in Pulumi's state) or
on stderr."""

import importlib
import json
import os
import sys
from typing import Any

from ..answer import printed_complaint
from ..node_agent.request import BadRequest, RestartsRequest, decode
from .agent import RestartFailed, over_ssh


def main(action: str, request: dict[str, Any]) -> int:
    """Do `action`, like `run.run`; returns the exit code. The runner says where it lies, and Pulumi
    gives the keys."""
    module, _, function = action.partition(".")
    try:
        keys = json.loads(os.environ.pop("MIRROR_PRIVATE_KEYS", "{}"))
        act = getattr(importlib.import_module(f".{module}", __package__), function)
        print(act(decode(RestartsRequest, request), over_ssh(os.environ["MIRROR_FILE"], keys)))
    except (RestartFailed, BadRequest) as error:
        print(printed_complaint(error), file=sys.stderr)
        return 1
    return 0
