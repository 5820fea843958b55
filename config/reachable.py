"""Which nodes of a configuration cannot be reached, for `make up UNREACHABLE=skip-and-report`.

    python -m config.reachable     the configuration on stdin, as JSON; prints {"node3": "why not"}

The command asks the nodes in a stack's state; this asks those in its configuration, which `pulumi up` may never have come to.
"""

import json
import sys

from components.registry_mirror import InvalidArgs
from components.registry_mirror.cli import nodes
from components.registry_mirror.cli.deployed import Node
from components.registry_mirror.node import PRIVATE_KEY, node_settings, settings_text, way
from config.keys import KEYS
from config.settings import Settings, parse_files


def unreachable(settings: Settings) -> dict[str, str]:
    """Name of each node that cannot be reached -> the reason."""
    args = settings.mirror
    asked = []
    for node in args.nodes:
        variables = way(node, args)
        if settings.private_key is not None and node.private_key_file is None:
            variables[PRIVATE_KEY] = settings.private_key
        asked.append(Node(node.name, variables, settings_text(node_settings(settings.service, node, args))))
    return {look.node: look.faults[0] for look in nodes.reach(asked) if not look.reachable}


def main() -> int:
    """Ask, and print what cannot be reached."""
    try:
        # What may be a secret is treated as one: nothing here is kept, and no fault repeats a value of it.
        settings = parse_files(json.load(sys.stdin), [key for key, entry in KEYS.items() if entry.stays_secret])
    except InvalidArgs as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(unreachable(settings)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
