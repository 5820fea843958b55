"""Where a run begins: one action, one request, one sentence on stdout (kept in Pulumi's state) or on stderr."""

import importlib
import sys
from typing import Any

from ..answer import printed_complaint


def main(action: str, request: dict[str, Any]) -> int:
    """Do `action`, like `run.run`; returns the exit code."""
    module, _, function = action.partition(".")
    run = importlib.import_module(f".{module}", __package__)
    try:
        print(getattr(run, function)(request))
    except run.RestartFailed as error:
        print(printed_complaint(error), file=sys.stderr)
        return 1
    return 0
