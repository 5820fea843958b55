"""What a shell completes of the command, by the shells themselves where they are installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from components.registry_mirror.cli import __main__ as command
from components.registry_mirror.cli import completion

SCRIPT = """
source {file}
COMP_WORDS=({words}) COMP_CWORD={at}
_swarm_registry_mirror
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Shell -> the file that `completion` prints for it."""
    folder = tmp_path_factory.mktemp("completion")
    parser = command.parser()
    files = {}
    for shell, write in completion.SHELLS.items():
        files[shell] = folder / shell
        files[shell].write_text(write(parser.prog, completion.words(parser)))
    return files


def completed(file: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    quoted = " ".join(f"'{word}'" for word in ("swarm-registry-mirror", *words))
    script = SCRIPT.format(file=file, words=quoted, at=len(words))
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, cwd="/"
    )
    assert not done.stderr
    return done.stdout.split()


def test_bash_completes_every_verb_and_what_one_begins_with(scripts: dict[str, Path]) -> None:
    assert completed(scripts["bash"], "") == [verb.name for verb in command.VERBS]
    assert completed(scripts["bash"], "st") == ["status", "stats"]


def test_bash_completes_flags_choices_and_files(scripts: dict[str, Path]) -> None:
    bash = scripts["bash"]
    assert completed(bash, "status", "--s") == ["--stack"]
    assert {"--json", "--mirror", "--cwd", "-C", "--help"} <= set(completed(bash, "status", "-"))
    assert completed(bash, "up", "--unreachable", "") == ["fail", "skip-and-report"]
    assert completed(bash, "completion", "z") == ["zsh"]
    assert completed(bash, "preview", "--state", "/et") == ["/etc"]
    assert completed(bash, "pin", "/et") == ["/etc"]
    assert completed(bash, "no-such-verb", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_verb_and_flag_is_there_and_the_shell_reads_it(
    scripts: dict[str, Path], shell: str
) -> None:
    text = scripts[shell].read_text()
    for each in completion.words(command.parser()):
        assert each.verb in text
        for name in each.names:
            assert (name.lstrip("-") if shell == "fish" else name) in text, (each.verb, name)
    if shutil.which(shell) is None:
        assert shell != "bash", "the tests of this project need bash"
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n", scripts[shell]], check=True)


def test_zsh_offers_every_verb(scripts: dict[str, Path]) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("no zsh here")
    script = (
        "autoload -Uz compinit && compinit -D -u\n"
        "_describe() { print -l $verbs }\n"
        f"source {scripts['zsh']}\n"
        "CURRENT=2 words=(swarm-registry-mirror '') _swarm_registry_mirror"
    )
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, check=True)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        verb.name for verb in command.VERBS
    ]


def test_fish_offers_every_verb(scripts: dict[str, Path]) -> None:
    if shutil.which("fish") is None:
        pytest.skip("no fish here")

    def offered(words: str) -> set[str]:
        script = f"source {scripts['fish']}; complete -C 'swarm-registry-mirror {words}'"
        done = subprocess.run(["fish", "-c", script], capture_output=True, text=True, check=True)
        return {line.partition("\t")[0] for line in done.stdout.splitlines()}

    assert offered("") == {verb.name for verb in command.VERBS}
    assert {"--stack", "--json", "--mirror"} <= offered("status --")
    assert offered("up --unreachable ") == {"fail", "skip-and-report"}
