"""The agent's answer between marks of our own, so that whatever else a machine prints does not
matter.

A login shell may print before and after a command (`echo Welcome` in ~/.bashrc; sshd's bash reads
it), and nothing that comes over SSH is believed to be ours without the marks. Owns both sides: what
the agent prints, and how it is found again. Pure; standard library only and Python 3.8, because
agents carry it along.
"""

import json
import re

from .plain_text import lines, one_line

BEGIN, END = "registry-mirror-answer:<", ">"
"""Also printed by a shell (`component.py`), so without characters that a shell would have to quote
within double quotes."""
PREFIX = "registry mirror: "
"""Begins every complaint of ours on stderr."""

UNREACHABLE = 255
"""ssh's own exit code where the connection, not the command, failed (ssh(1), EXIT STATUS); its
reason is the last line."""

_ANSWER = re.compile(re.escape(BEGIN) + "([^<>\r\n]*)" + re.escape(END))


class NoAnswer(Exception):
    """What came is not an answer of the agent; the message says what came instead, in plain
    text."""


def marked(answer: str) -> str:
    """`answer` as it is printed: one line, ASCII, and with nothing in it that could be taken for a
    mark."""
    body = json.dumps(answer)[1:-1].replace("<", "\\u003c").replace(">", "\\u003e")
    return BEGIN + body + END


def find(output: str) -> str:
    """The answer in what a machine printed; the last one if there are several. Raises NoAnswer."""
    found = _ANSWER.findall(output)
    if found:
        try:
            return str(json.loads(f'"{found[-1]}"'))
        except ValueError:
            pass
    came = lines(output, limit=200)
    words = f"only this: {came[-1]}" if came else "nothing"
    raise NoAnswer(
        f"the command ended well and the agent's answer is missing; there came {words}; does the"
        " login shell run commands?"
    )


def shown(output: str) -> str:
    """The answer for a person; what an agent before the marks has left in the state is its own
    answer."""
    try:
        return one_line(find(output))
    except NoAnswer:
        return one_line(output)


def complaint(errors: str, code: int, output: str = "") -> str:
    """Why a command failed, in one plain line: our own words if there are any, else the last that
    the machine said."""
    said = lines(errors) or lines(output)
    ours = [line for line in said if line.startswith(PREFIX)]
    theirs = [line for line in said if line not in ours]
    if code == UNREACHABLE and ours and theirs:
        return f"{_without_prefix(ours[-1])}: {theirs[-1]}"
    return (
        _without_prefix((ours or said)[-1])
        if said
        else f"the command ended with {code} and said nothing"
    )


def _without_prefix(line: str) -> str:
    return line[len(PREFIX) :] if line.startswith(PREFIX) else line


def printed_complaint(error: object, limit: int = 4000) -> str:
    """A complaint as the agent prints it: in plain text, because part of it may come from
    anywhere."""
    return PREFIX + one_line(error, limit)
