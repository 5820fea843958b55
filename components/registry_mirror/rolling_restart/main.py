"""Where a run begins: one action, one request, one sentence on stdout (kept in Pulumi's state) or on stderr."""

import importlib
import json
import os
import sys
from typing import Any

from ..answer import printed_complaint


def main(action: str, request: dict[str, Any]) -> int:
    """Do `action`, like `run.run`; returns the exit code. The runner says where it lies, and Pulumi gives the keys."""
    module, _, function = action.partition(".")
    run = importlib.import_module(f".{module}", __package__)
    try:
        keys = json.loads(os.environ.pop("MIRROR_PRIVATE_KEYS", "{}"))
        print(getattr(run, function)({**request, "runner": os.environ["MIRROR_FILE"], "private_keys": keys}))
    except run.RestartFailed as error:
        print(printed_complaint(error), file=sys.stderr)
        return 1
    return 0
