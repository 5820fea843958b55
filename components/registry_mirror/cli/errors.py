"""How the command ends when it cannot do what was asked: exit codes, and the one type of error.
Pure."""

OK, DRIFTED, UNREACHABLE, POLICY, UNKNOWN, USAGE, INTERRUPTED = 0, 1, 2, 3, 4, 64, 130
"""Exit codes. The reasons are in EXIT_CODES."""

EXIT_CODES = """exit codes:
  0   everything is healthy
  1   something has drifted, is wrong, or cannot be applied
  2   a machine cannot be reached
  3   against a policy
  4   it could not be found out: no stack, no mirror, no state that this version reads
  64  wrong usage
"""


class CommandError(Exception):
    """Ends the command.

    Attributes:
        reason: The line that matters.
        remedy: What to do about it; empty where there is nothing to add.
        code: The exit code.
        docs: The page of the documentation that says more, like
            `docs/reference/troubleshooting.md`; empty where there is none.
    """

    def __init__(self, reason: str, remedy: str = "", code: int = UNKNOWN, docs: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.code = code
        self.docs = docs

    def lines(self) -> list[str]:
        """What a person reads of it."""
        return [
            f"Failed: {self.reason}",
            *([f"   do:  {self.remedy}"] if self.remedy else []),
            *([f"   see: {self.docs}"] if self.docs else []),
        ]


class StateError(CommandError):
    """A stack's state does not say what is asked for."""

    def __init__(
        self, reason: str, remedy: str, docs: str = "docs/reference/troubleshooting.md"
    ) -> None:
        super().__init__(reason, remedy, UNKNOWN, docs)
