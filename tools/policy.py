"""`make policy`: an environment for the policy pack, so that Pulumi itself enforces the policies in every later `make preview`.

    python3 -m tools.policy

Without it, and where Pulumi runs no policy packs, `make preview` asks the same rules by itself.
"""

import sys

from tools import toolchain
from tools.preview import review
from tools.progress import main_guard, run_logged, stage
from tools.stack import LAB_STACK
from tools.toolchain import CHECKOUT, LOGS

ENVIRONMENT = CHECKOUT / "policy" / "venv"


def policy() -> None:
    """Make the environment and say who enforces the policies. Raises StageError."""
    toolchain.bring(with_lab=False)
    with stage("the policy pack's packages") as running:
        uv, log = toolchain.VENV / "bin" / "uv", LOGS / "policy.log"
        run_logged([uv, "venv", "--clear", "--python", sys.executable, ENVIRONMENT], log)
        pins = CHECKOUT / "policy" / "requirements.txt"
        run_logged([uv, "pip", "install", "--python", ENVIRONMENT / "bin" / "python", "--require-hashes", "-r", pins], log)
        running.note("pinned and hashed, into policy/venv")
    with stage("whether this Pulumi runs the pack") as running:
        runs = review("pack", LAB_STACK).returncode == 0
        running.note("yes" if runs else "no")
    if runs:
        print("\n  From now on `make preview` has Pulumi itself enforce the policies.\n")
    else:
        print("\n  This Pulumi does not run policy packs (the official one does); `make preview` asks the rules by itself.\n")


if __name__ == "__main__":
    sys.exit(main_guard(policy))
