"""`make sudoers SSH_USER=ops`: what a user that is not root must be allowed on a node, for /etc/sudoers.d.

    python3 -m tools.sudoers USER

Printed, and installed by whoever looks after the nodes: nothing here has the right to. The rules are made by the Python that has
the component's dependencies.
"""

import subprocess
import sys

from tools.progress import StageError, main_guard
from tools.toolchain import CHECKOUT, VENV

_PROGRAM = """import sys
from components.registry_mirror import InvalidArgs, ship
try:
    print(ship.sudoers(sys.argv[1]), end="")
except InvalidArgs as error:
    sys.exit("; ".join(map(str, error.faults)))
"""


def sudoers(user: str) -> None:
    """Print the rules. Raises StageError if that is no user."""
    argv = [str(VENV / "bin" / "python"), "-c", _PROGRAM, user]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise StageError(said[-1] if said else "the rules cannot be made", "make sudoers SSH_USER=<the account on the nodes>")
    print(done.stdout, end="")


if __name__ == "__main__":
    sys.exit(main_guard(lambda: sudoers(sys.argv[1] if len(sys.argv) > 1 else "")))
