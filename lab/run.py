"""The way of the Makefile to the command `swarm-registry-mirror`, for the stacks of this checkout.

    python -m lab.run VERB STACK [WORD …]

The command reads the stack's state like everybody's. What is added here is what only this checkout
has: its tools, the lab's own state and network, and which stacks there are. Exit codes are the
command's.
"""

import difflib
import subprocess
import sys
from pathlib import Path

from components.registry_mirror.cli.errors import UNKNOWN, USAGE
from lab.sandbox import SandboxError
from lab.stack import LAB_STACK, Stack, stack_named
from tools import toolchain
from tools.progress import StageError, main_guard
from tools.toolchain import CHECKOUT, VENV

COMMAND = (str(VENV / "bin" / "python"), "-m", "components.registry_mirror.cli")
SAVED = "previews/{}.json"
POLICY = toolchain.TOOLS / "policy"
"""The policy pack that `make policy` makes."""
VERBS = (
    *("status", "repair", "stats", "engines", "advisories", "forget", "unlock", "policy"),
    *("metrics", "monitoring", "client-config", "cloud-init", "nodes", "preview", "save-state"),
    *("adopt", "pin", "why", "warm", "prepull", "purge"),
)
NEEDS_NO_NETWORK = frozenset(
    {"client-config", "cloud-init", "monitoring", "preview", "pin", "policy"}
)


def operate(verb: str, name: str, words: list[str]) -> int:
    """Run a verb on the user's terminal; returns its exit code. Raises StageError for an unknown
    stack."""
    stack = stack_named(name)
    if verb == "adopt":
        return adopt(stack, words)
    check_known(stack)
    if verb == "pin":
        return pin(stack)
    if verb == "save-state":
        return run(stack, "preview", "--save", SAVED.format(stack.name)).returncode
    if verb == "preview":
        return preview(stack, words)
    return run(stack, verb, *words).returncode


def preview(stack: Stack, words: list[str]) -> int:
    """What `up` would change; against nothing where the lab has no state. Raises StageError."""
    stack.check_plugins()
    has_no_state = stack.lab is not None and not stack.state.exists()
    offline = ["--offline"] if has_no_state and "--offline" not in words else []
    pack = [] if "--policy-pack" in words or not POLICY.exists() else ["--policy-pack", str(POLICY)]
    return run(stack, "preview", *words, *offline, *pack).returncode


def adopt(stack: Stack, words: list[str]) -> int:
    """Make a mirror that was set up by hand a stack of this checkout. Raises StageError."""
    if stack.lab is not None:
        raise StageError("the lab's stack is not for a mirror of yours", "say ENV=<a new name>")
    if not words or words[0].startswith("-"):
        command = f"make adopt ENV={stack.name} MANAGER=root@<address of a manager>"
        try:
            check_known(stack)
        except StageError as error:
            raise StageError(error.reason, f"to make it from a swarm: {command}") from None
        raise StageError("which swarm?", command)
    stack.check_plugins()
    toolchain.crane()
    return run(stack, "adopt", *words, "--schema", "config/stack.schema.json").returncode


def pin(stack: Stack) -> int:
    """Write digests into a stack's file. Raises StageError."""
    file = CHECKOUT / f"Pulumi.{stack.name}.yaml"
    if stack.lab is not None:
        raise StageError(
            "the lab notes the digests of its images itself", "say ENV=<stack> of a real swarm"
        )
    if not file.exists():
        raise StageError(
            f"there is no {file.name}", "copy Pulumi.prod.yaml and enter your own values"
        )
    toolchain.crane()
    return _inside(stack, [*COMMAND, "pin", file.name], needs_network=False).returncode


def make_pack(folder: Path) -> int:
    """Make the policy pack, unless it is somebody else's, and its environment; find out whether
    Pulumi runs it. Raises StageError."""
    if folder == POLICY:
        subprocess.run([*COMMAND, "policy", "--pack", str(folder)], cwd=CHECKOUT, check=True)
    elif not (folder / "PulumiPolicy.yaml").exists():
        raise StageError(f"there is no policy pack in {folder}", "leave POLICY out for our own")
    toolchain.policy_environment(folder)
    done = subprocess.run(
        [*COMMAND, "policy", "--try", str(folder)],
        cwd=CHECKOUT,
        env=stack_named(LAB_STACK).environment,
        check=False,
    )
    return done.returncode if done.returncode > 1 else 0


def check_known(stack: Stack) -> None:
    """Raises StageError, with the name that is probably meant, where a stack has neither a file
    here nor a state.

    Nothing is made: neither a stack nor a file.
    """
    names = {path.name[len("Pulumi.") : -len(".yaml")] for path in CHECKOUT.glob("Pulumi.*.yaml")}
    if stack.name in names or _exists(stack):
        return
    near = difflib.get_close_matches(stack.name, sorted(names), 1)
    question = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names))}"
    raise StageError(f"there is no stack {stack.name}; {question}", "say ENV=<one of them>")


def _exists(stack: Stack) -> bool:
    """Whether the backend has it; where there is none, there is only what lies here."""
    try:
        return stack.exists()
    except StageError:
        return False


def run(
    stack: Stack, verb: str, *words: str, capture: bool = False
) -> "subprocess.CompletedProcess[str]":
    """The command, where the stack's nodes can be reached. Raises StageError where that is
    nowhere."""
    command = [*COMMAND, verb, *words, "--stack", stack.name]
    if stack.config_file is not None and verb in ("adopt", "nodes", "preview", "up"):
        command += ["--config-file", str(stack.config_file)]
    return _inside(stack, command, capture=capture, needs_network=verb not in NEEDS_NO_NETWORK)


def _inside(
    stack: Stack, argv: list[str], *, needs_network: bool, capture: bool = False
) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            stack.inside(argv) if needs_network else argv,
            cwd=CHECKOUT,
            env=stack.environment,
            text=True,
            capture_output=capture,
            check=False,
        )
    except SandboxError:
        raise StageError(
            f"nothing is up in the stack {stack.name}: the lab does not run", "`make up` starts it"
        ) from None


def main() -> int:
    """Parse the command line; a stack that cannot be found is one message."""
    words = [word for word in sys.argv[1:] if word]
    code = 0

    def work() -> None:
        nonlocal code
        if words[:1] == ["pack"]:
            code = make_pack(Path(words[1]).absolute() if len(words) > 1 else POLICY)
        elif not words or words[0] not in VERBS:
            code = USAGE
            raise StageError(f"say {', '.join(VERBS)}", "make status ENV=…")
        else:
            code = operate(words[0], words[1] if len(words) > 1 else LAB_STACK, words[2:])

    ended = main_guard(work)
    return (code or UNKNOWN) if ended == 1 else ended or code


if __name__ == "__main__":
    sys.exit(main())
