"""The requirements of the computer that runs `pulumi up`: the runner's file in the user's cache, an
ssh program, a key or an agent.

Owns that folder of the cache. It opens no connection: previews come by here too.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import runner
from .args import InvalidProgram
from .rules import Fault

_FOLDER_NAME = re.compile(r"/[A-Za-z0-9_./+@,=-]*")
"""What ssh's options and a shell take as it is."""


def place(environment: Mapping[str, str] = os.environ) -> Path:
    """Have this version's runner lie in the user's cache; returns its path. Raises InvalidProgram
    if it cannot be written there.

    Whatever else lies under its name is replaced: the name says what the file is.
    """
    path = keep(runner.text(), runner.digest(), environment)
    _have(path.parent / runner.CURRENT, runner.text())
    return path


def keep(text: str, digest: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Have a runner of whichever version lie in the user's cache; returns its path.

    Raises InvalidProgram if it cannot be written there, and where its text is not the one that its
    name says.
    """
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise InvalidProgram(
            [
                Fault(
                    "runner",
                    digest,
                    "is not the SHA-256 of the program that the state has under it",
                )
            ]
        )
    path = cache_folder(environment) / digest
    _have(path, text)
    return path


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for runners, as the commands in the state find it too. Raises InvalidProgram for a
    name that ssh cannot take."""
    cache = environment.get("XDG_CACHE_HOME") or environment.get("HOME", "") + "/.cache"
    folder = f"{cache}/{runner.FOLDER}"
    if not _FOLDER_NAME.fullmatch(folder):
        words = (
            "must be an absolute path of letters, digits and ._/+@,=-; set XDG_CACHE_HOME to"
            " such a folder"
        )
        raise InvalidProgram([Fault("cache folder", folder, words)])
    return Path(folder)


def warnings(
    key_files: Mapping[str, str],
    *,
    has_key_text: bool,
    needs_agent: bool,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[str]:
    """What this computer lacks to reach a machine. These are warnings, because the computer of a
    preview may be another than that of the change.

    `key_files`: what the user calls it -> name of a file with an SSH key. `needs_agent`: some
    machine has no key of its own.
    """
    if shutil.which("ssh", path=environment.get("PATH")) is None:
        yield "there is no ssh on this computer, and `pulumi up` needs it; install openssh-client"
    elif has_key_text and shutil.which("ssh-agent", path=environment.get("PATH")) is None:
        yield (
            "there is no ssh-agent on this computer, and a private key that is given as text"
            " needs it; install openssh-client"
        )
    home = environment.get("HOME", "~")
    for key, file in key_files.items():
        path = Path(home + file[1:] if file.startswith("~/") else file)
        if not os.access(path, os.R_OK) and "SSH_AUTH_SOCK" not in environment:
            yield (
                f"{key}: {file} cannot be read here, and there is no ssh-agent (SSH_AUTH_SOCK)"
                " that may have its key"
            )
    usual = [
        Path(home, ".ssh", name)
        for name in ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
    ]
    if (
        needs_agent
        and "SSH_AUTH_SOCK" not in environment
        and not any(os.access(path, os.R_OK) for path in usual)
    ):
        yield (
            "no SSH key is given, and there is neither an ssh-agent (SSH_AUTH_SOCK) nor a key in"
            " ~/.ssh on this computer"
        )


def _have(path: Path, text: str) -> None:
    try:
        if not _is(path, text.encode()):
            _write(path, text.encode())
    except OSError as error:
        words = f"cannot be written: {error.strerror}; set XDG_CACHE_HOME to a folder that can"
        raise InvalidProgram([Fault("cache folder", str(path.parent), words)]) from None


def _is(path: Path, text: bytes) -> bool:
    with contextlib.suppress(OSError):
        return path.read_bytes() == text
    return False


def _write(path: Path, text: bytes) -> None:
    """Replaced as a whole, because another run may read it at this moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
