"""What the computer of `pulumi up` must have."""

import os
from pathlib import Path

import pytest

from components.registry_mirror import InvalidArgs, runner, workstation


def test_the_runner_is_put_into_the_users_cache_and_only_they_may_look(tmp_path: Path) -> None:
    path = workstation.place({"HOME": str(tmp_path)})
    assert path == tmp_path / ".cache" / runner.FOLDER / runner.digest()
    assert path.read_text() == runner.text()
    assert path.stat().st_mode & 0o077 == 0
    assert (path.parent / runner.CURRENT).read_text() == runner.text()


def test_one_that_is_there_is_not_written_again_and_one_that_is_not_what_its_name_says_is(
    tmp_path: Path,
) -> None:
    path = workstation.place({"XDG_CACHE_HOME": str(tmp_path)})
    before = path.stat().st_ino
    assert workstation.place({"XDG_CACHE_HOME": str(tmp_path)}).stat().st_ino == before
    path.write_text("exec rm -rf /\n")
    workstation.place({"XDG_CACHE_HOME": str(tmp_path)})
    assert path.read_text() == runner.text()
    assert {file.name for file in path.parent.iterdir()} == {runner.digest(), runner.CURRENT}


def test_a_cache_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgs) as caught:
        workstation.place({"XDG_CACHE_HOME": str(tmp_path / "file")})
    assert "cannot be written" in str(caught.value)
    assert "set XDG_CACHE_HOME to a folder that can" in str(caught.value)


@pytest.mark.parametrize(
    "environment",
    [{}, {"HOME": "/a b"}, {"XDG_CACHE_HOME": "relative"}, {"XDG_CACHE_HOME": "/a%h"}],
)
def test_a_cache_whose_name_ssh_cannot_take_is_refused(environment: dict[str, str]) -> None:
    if environment:
        with pytest.raises(InvalidArgs, match="set XDG_CACHE_HOME to such a folder"):
            workstation.cache_folder(environment)
    else:
        assert workstation.cache_folder(environment) == Path("/.cache", runner.FOLDER)


def test_what_a_computer_lacks_is_said_before_it_is_needed(tmp_path: Path) -> None:
    def said(path: str = os.environ["PATH"], **environment: str) -> str:
        warnings = workstation.warnings(
            {"private_key_file": "~/id"},
            has_key_text=True,
            needs_agent=True,
            environment={"PATH": path, "HOME": str(tmp_path), **environment},
        )
        return "\n".join(warnings)

    assert "there is no ssh on this computer" in said(path=str(tmp_path))
    everything = said()
    assert "private_key_file: ~/id cannot be read here" in everything
    assert (
        "no SSH key is given, and there is neither an ssh-agent (SSH_AUTH_SOCK) nor a key in ~/.ssh"
        in everything
    )
    assert said(SSH_AUTH_SOCK="/run/agent") == ""
    (tmp_path / "id").touch()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519").touch()
    assert said() == ""


def test_a_computer_with_ssh_and_no_agent_is_warned_where_the_key_is_text(
    tmp_path: Path,
) -> None:
    (tmp_path / "ssh").touch(mode=0o755)
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    assert "there is no ssh-agent" in "".join(
        workstation.warnings({}, has_key_text=True, needs_agent=False, environment=environment)
    )
    assert (
        list(
            workstation.warnings({}, has_key_text=False, needs_agent=False, environment=environment)
        )
        == []
    )
