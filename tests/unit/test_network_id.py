"""Learning a network's id: whatever shell the SSH user has, the id comes out, or a reason and an exit code."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from components.registry_mirror import render

SHELLS = [shell for shell in ("dash", "bash", "fish", "tcsh", "zsh") if shutil.which(shell)]
"""Those of this computer; all five were tried (fish 3.6, tcsh 6.24, zsh 5.9)."""

DOCKER = """#!/bin/sh
[ "$4" = '{{if eq .Driver "overlay"}}{{.ID}}{{end}}' ] || { echo "template parsing error: $4" >&2; exit 1; }
case $ANSWER in
  id) echo abc123def456;;
  missing) echo "Error: No such network: $5" >&2; exit 1;;
  bridge) echo;;
  warning) echo "WARNING: something"; echo abc123def456;;
esac
"""


def learn(folder: Path, shell: str, answer: str) -> "subprocess.CompletedProcess[str]":
    for name, text in (("docker", DOCKER), ("sudo", '#!/bin/sh\nshift\nexec "$@"\n')):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "ANSWER": answer, "HOME": str(folder)}
    command = [shell, "-c", render.network_id_command("traefik_public", sudo=True)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_id_of_an_overlay_network_is_all_that_is_said(tmp_path: Path, shell: str) -> None:
    done = learn(tmp_path, shell, "id")
    assert (done.returncode, done.stdout, done.stderr) == (0, "abc123def456\n", "")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("answer", "words"), [("missing", "No such network: traefik_public"), ("bridge", ""), ("warning", "WARNING")]
)
def test_anything_else_is_a_failure_with_the_reason_and_never_an_empty_id(
    tmp_path: Path, shell: str, answer: str, words: str
) -> None:
    done = learn(tmp_path, shell, answer)
    assert done.returncode == 1
    assert done.stdout == ""
    assert words in done.stderr
    assert "no overlay network traefik_public on this swarm: create it, or set createNetwork to true" in done.stderr
