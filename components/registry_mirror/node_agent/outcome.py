"""What an action came to, as typed words: programs read these, people read `sentence`. Standard
library only.

On the wire it is JSON, `{"outcome": "reloaded", "pending": ["log-driver"]}`, so that no decision
hangs on the wording of a message. Both ends use this module.
"""

import contextlib
import json
from typing import NamedTuple, Tuple

UNCHANGED = "unchanged"
WRITTEN = "written"
RELOADED = "reloaded"
WRITTEN_AND_RELOADED = "written-and-reloaded"
FORGOTTEN = "forgotten"
NOTHING_TO_FORGET = "nothing-to-forget"
RESTARTED = "restarted"
NOT_NEEDED = "not-needed"

_FOR_A_PERSON = {
    WRITTEN_AND_RELOADED: "written and reloaded",
    NOTHING_TO_FORGET: "nothing to forget",
    NOT_NEEDED: "not needed",
}

UNKNOWN_KEY = "?"
"""A pending key in an answer of a version that did not name it."""


class Outcome(NamedTuple):
    """What a change of a node came to."""

    outcome: str
    """One of the words above."""
    pending: Tuple[str, ...] = ()
    """Managed keys that wait for a restart."""
    upstream_reached: bool = True
    """Whether the mirror can fetch something new at this moment."""

    def as_json(self) -> str:
        """The text on the wire."""
        return json.dumps(self._asdict())

    def sentence(self) -> str:
        """For a person, in one line."""
        return "%s%s%s" % (
            _FOR_A_PERSON.get(self.outcome, self.outcome),
            "; restart pending: %s" % ", ".join(self.pending) if self.pending else "",
            "" if self.upstream_reached else "; upstream not reached",
        )


def read(answer: object) -> Outcome:
    """What a node's answer says: JSON (or what was parsed of it), or the words of a version before
    0.3, in which two phrases carried what is typed today."""
    if isinstance(answer, str):
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(answer)
    if isinstance(answer, dict) and isinstance(answer.get("outcome"), str):
        pending = answer.get("pending")
        return Outcome(
            answer["outcome"],
            tuple(map(str, pending)) if isinstance(pending, list) else (),
            answer.get("upstream_reached") is not False,
        )
    former = str(answer).split("; ")
    return Outcome(
        former[0],
        (UNKNOWN_KEY,) if FORMER_PENDING in former else (),
        FORMER_NO_UPSTREAM not in former,
    )


FORMER_PENDING = "restart due"
FORMER_NO_UPSTREAM = "upstream not reached"
"""How a version before 0.3 said so (docs: CHANGELOG)."""
