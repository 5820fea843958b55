"""Where an agent's run begins on a node: one action, one request, one word on stdout or one
sentence on stderr.

What goes to stdout is kept in Pulumi's state, so it is a fixed status word between our marks and
nothing else.
"""

import importlib
import os
import sys
from typing import Any, Dict

from ..answer import marked, printed_complaint
from .files import Failed
from .request import BadRequest, decode


def main(action: str, request: Dict[str, Any]) -> int:
    """Do `action`, like `node.apply`; returns the exit code: 0 done, 1 failed and everything is as
    it was."""
    os.umask(0o022)
    module, _, function = action.partition(".")
    try:
        # By name, because only the modules that an action needs have travelled.
        act = getattr(importlib.import_module("." + module, __package__), function)
        kind, *_ = act.__annotations__.values()  # of the one parameter
        print(marked(act(decode(kind, request))))
    except (Failed, BadRequest) as error:
        print(printed_complaint(error), file=sys.stderr)
        return 1
    except OSError as error:
        where = "%s: " % error.filename if error.filename else ""
        print("registry mirror: %s%s" % (where, error.strerror or error), file=sys.stderr)
        return 1
    return 0
