"""Where an agent's run begins on a node: one action, one request, one word on stdout or one sentence on stderr.

What goes to stdout is kept in Pulumi's state, so it is a fixed status word and nothing else.
"""

import os
import sys
from typing import Any, Callable, Dict

from . import daemon_json, engine, files, node, ready, storage

ACTIONS: Dict[str, Callable[[Dict[str, Any]], str]] = {
    "node-apply": lambda request: node.run("apply", request),
    "node-remove": lambda request: node.run("remove", request),
    "storage-apply": storage.apply,
    "storage-remove": storage.remove,
    "ready": ready.wait,
}


def main(action: str, request: Dict[str, Any]) -> int:
    """Do `action`; returns the exit code: 0 done, 1 failed and everything is as it was."""
    os.umask(0o022)
    try:
        print(ACTIONS[action](request))
    except (node.Failed, ready.NotReady, daemon_json.Refused, files.FileProblem, engine.EngineProblem) as error:
        print("registry mirror: %s" % error, file=sys.stderr)
        return 1
    return 0
