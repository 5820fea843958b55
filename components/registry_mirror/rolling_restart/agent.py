"""Asks the node agent on a machine, and makes one sentence of whatever goes wrong there.

Owns which answer is believed to be the agent's. What it says is passed on as it is.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from .. import answer
from ..node_agent.request import NodeToRestart, encode
from . import ssh

SECONDS = 660
"""Longer than the limit under which the agent runs on the node (ship.py, RESTART_LIMIT)."""

Agent = Callable[[NodeToRestart, str, Any], str]
"""Node, action and request (`node_agent/request.py`) -> what the agent says. Raises
RestartFailed."""


class RestartFailed(Exception):
    """The roll-out of restarts has ended early; the message says at which node, why, and how that
    is now."""


def over_ssh(runner: str, private_keys: Mapping[str, str]) -> Agent:
    """The agent, as `runner.sh` reaches it.

    Args:
        runner: Path of that script.
        private_keys: Node name -> SSH key, of those whose key is given as text.
    """

    def ask(node: NodeToRestart, action: str, request: Any) -> str:
        key = private_keys.get(node.name)
        environment = {
            **node.environment,
            **({} if key is None else {"MIRROR_PRIVATE_KEY": key}),
        }
        try:
            done = ssh.run(runner, action, environment, json.dumps(encode(request)), SECONDS)
        except Exception as error:
            # Whatever it is (no shell, bytes that are no text): it is this node's failure, and what
            # was begun is undone.
            raise RestartFailed(
                f"{node.name}: {action} came to nothing: {error} [RM225]"
            ) from error
        if done.returncode != 0:
            # The runner names the machine.
            raise RestartFailed(answer.complaint(done.stderr, done.returncode, done.stdout))
        try:
            return answer.find(done.stdout)
        except answer.NoAnswer as error:
            raise RestartFailed(f"{node.name}: {error}") from None

    return ask


def parsed(node: NodeToRestart, text: str, kind: type) -> Any:
    """JSON of an answer. Raises RestartFailed with the node's name where it is something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, kind):
        raise RestartFailed(
            f"{node.name}: its agent answered with something else than JSON: {text[:80]!r} [RM224]"
        )
    return found
