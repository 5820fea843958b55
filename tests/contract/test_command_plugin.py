"""What this project relies on in the command plugin: run against the official one where it is, else
against the stand-in."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.lab.output import counts
from tests.lab.project import Project


@pytest.fixture
def project(lab: Lab, tmp_path: Path) -> Iterator[Project]:
    lab.on("node1", "rm -rf /tmp/contract; mkdir /tmp/contract")
    project = Project(lab, tmp_path)
    yield project
    lab.on("node1", "mkdir -p /tmp/contract")
    project.destroy()


def command(inputs: str, host_key: str = "HOST_KEY", host: str = "198.18.0.11") -> str:
    connection = (
        f"remote.ConnectionArgs(host='{host}', private_key=KEY, host_key={host_key},"
        " dial_error_limit=1, per_dial_timeout=3)"
    )
    return (
        f"remote.Command('c', connection={connection}, add_previous_output_in_env=False,"
        f" logging=remote.Logging.NONE, {inputs})"
    )


LOG = "cat >> /tmp/contract/log; echo {word} >> /tmp/contract/log"
ALL = (
    f"create='{LOG.format(word='create')}', update='{LOG.format(word='update')}',"
    f" delete='{LOG.format(word='delete')}'"
)


def log(lab: Lab) -> list[str]:
    return lab.on("node1", "cat /tmp/contract/log 2>/dev/null || true").split()


def test_a_preview_connects_to_nothing(lab: Lab, project: Project) -> None:
    before = lab.connections("node1")
    project.write(command(ALL))
    assert "c" in project.plan()["create"]
    assert lab.connections("node1") == before


def test_create_update_delete_each_get_the_data_on_stdin(lab: Lab, project: Project) -> None:
    project.write(command(f"{ALL}, stdin='one\\n'"))
    project.up()
    assert log(lab) == ["one", "create"]
    project.write(command(f"{ALL}, stdin='two\\n'"))
    assert project.plan() == {"update": ["c"]}
    project.up()
    assert log(lab) == ["one", "create", "two", "update"]
    project.destroy()
    assert log(lab) == ["one", "create", "two", "update", "two", "delete"]


@pytest.mark.long
def test_without_an_update_command_a_change_runs_create(lab: Lab, project: Project) -> None:
    inputs = f"create='{LOG.format(word='create')}'"
    project.write(command(f"{inputs}, stdin='one\\n'"))
    project.up()
    project.write(command(f"{inputs}, stdin='two\\n'"))
    assert counts(project.up())["updated"] == 1
    assert log(lab) == ["one", "create", "two", "create"]


@pytest.mark.long
def test_an_unchanged_program_opens_no_connection(lab: Lab, project: Project) -> None:
    project.write(command(f"{ALL}, stdin='one\\n'"))
    project.up()
    before = lab.connections("node1")
    assert counts(project.up()) == {"unchanged": 2}
    assert lab.connections("node1") == before


@pytest.mark.long
def test_a_changed_trigger_replaces_and_the_old_delete_comes_last(
    lab: Lab, project: Project
) -> None:
    # This is why no command of ours has triggers: the old delete would undo what the new create has
    # done.
    project.write(command(f"{ALL}, triggers=[1]"))
    project.up()
    project.write(command(f"{ALL}, triggers=[2]"))
    assert "replace" in project.plan()
    project.up()
    assert log(lab) == ["create", "create", "delete"]


def test_stdout_is_kept_without_its_last_newline(lab: Lab, project: Project) -> None:
    project.write(
        f"c = {command('create=' + repr('echo one; echo two'))}\npulumi.export('out', c.stdout)"
    )
    project.up()
    assert project("stack", "output", "out", "--stack", "t").strip() == "one\ntwo"


@pytest.mark.long
def test_a_command_that_fails_is_not_remembered_and_its_output_is_shown(
    lab: Lab, project: Project
) -> None:
    project.write(
        command("create='echo the reason >&2; exit 3', delete='echo delete >> /tmp/contract/log'")
    )
    text = project.up(fails=True)
    assert "exited with status 3" in text
    assert "the reason" in text
    project.destroy()
    assert log(lab) == []


def test_another_host_key_is_refused_before_anything_is_sent(lab: Lab, project: Project) -> None:
    project.write(command(ALL, host_key=repr(lab.host_key("node2"))))
    project.up(fails=True)
    assert log(lab) == []


SERVER = """
import socket, sys, time
server = socket.create_server(("", 2222))
server.settimeout(60)
for _ in range(int(sys.argv[1])):
    connection, _ = server.accept()
    print("dial", flush=True)
    time.sleep(float(sys.argv[2]))
    connection.close()
"""
"""A machine that takes a number of connections, says nothing for a while, and hangs up."""


def a_dial_of(
    lab: Lab, project: Project, connections: int, seconds: float, limits: str
) -> tuple[str, int, float]:
    """What `up` says of a machine like that, how often it was dialled, and how long it took."""
    lab.on("node1", "cat > /tmp/contract/server.py", SERVER.encode())
    serve = (
        f"nohup timeout 90 python3 server.py {connections} {seconds} > dials 2>&1 < /dev/null"
        " & echo $!"
    )
    server = lab.on("node1", f"cd /tmp/contract; {serve}").strip()
    lab.on(
        "node1",
        "for i in $(seq 50); do grep -q ':08AE ' /proc/net/tcp /proc/net/tcp6 && break; sleep 0.1;"
        " done",
    )
    project.write(
        "connection = remote.ConnectionArgs(host='198.18.0.11', port=2222, private_key=KEY,"
        " host_key=HOST_KEY, "
        f"{limits}, per_dial_timeout=2)\n"
        "soon = pulumi.CustomTimeouts(create='5s')\n"
        "remote.Command('c', connection=connection, create='true',"
        " opts=pulumi.ResourceOptions(custom_timeouts=soon))"
    )
    started = time.monotonic()
    text = project.up(fails=True)
    took = time.monotonic() - started
    lab.on(
        "node1",
        f"kill {server} 2>/dev/null; for i in $(seq 50); do kill -0 {server} 2>/dev/null || break;"
        " sleep 0.1; done",
    )
    return text, lab.on("node1", "cat /tmp/contract/dials").count("dial"), took


@pytest.mark.long
def test_no_limit_ends_a_machine_that_accepts_a_connection_and_says_nothing(
    lab: Lab, project: Project
) -> None:
    _, dials, took = a_dial_of(lab, project, 1, 20, "dial_error_limit=0")
    assert dials == 1
    assert took > 20  # neither the limit of 2 s on the dial nor that of 5 s on the resource


def test_the_private_key_is_a_secret_inside_the_secret_connection(project: Project) -> None:
    project.write(command(ALL))
    project.up()
    state = json.loads(project("stack", "export", "--show-secrets"))
    (found,) = [
        resource
        for resource in state["deployment"]["resources"]
        if resource["type"] == "command:remote:Command"
    ]
    for kept in ("inputs", "outputs"):
        inner = json.loads(found[kept]["connection"]["plaintext"])
        assert inner["host"] == "198.18.0.11"
        assert json.loads(inner["privateKey"]["plaintext"]).startswith("-----BEGIN")
    assert "BEGIN OPENSSH" not in project("stack", "export")


def test_an_input_that_does_not_exist_is_refused(project: Project) -> None:
    project.write("""
        class Raw(pulumi.CustomResource):
            def __init__(self, name, props):
                super().__init__('command:remote:Command', name, props)
        Raw('c', {'connection': {'host': '198.18.0.11'}, 'craete': 'x'})
    """)
    assert "craete" in project("preview", fails=True)


HERE = (
    "create='cat > {f}; echo create >> {f}', delete='cat > {f}; echo delete >> {f}',"
    " logging=local.Logging.STDERR"
)


def test_a_local_command_gets_its_data_on_stdin_and_runs_create_where_there_is_no_update(
    project: Project, tmp_path: Path
) -> None:
    file = tmp_path / "seen"
    for words in ("one", "two"):
        project.write(
            f"local.Command('c', {HERE.format(f=file)}, stdin='{words}\\n',"
            " add_previous_output_in_env=False)"
        )
        assert list(project.plan()) == ["create" if words == "one" else "update"]
        project.up()
        assert file.read_text().split() == [words, "create"]
    assert set(counts(project.up())) == {"unchanged"}
    project.destroy()
    assert file.read_text().split() == ["two", "delete"]


def test_a_local_commands_progress_and_its_failure_are_shown(project: Project) -> None:
    project.write(
        "local.Command('c', create='echo under way >&2; echo the word',"
        " logging=local.Logging.STDERR)"
    )
    text = project.up()
    assert "under way" in text
    assert "the word" not in text
    project.destroy()
    project.write("local.Command('c', create='echo the reason >&2; exit 3')")
    assert "the reason" in project.up(fails=True)


def test_a_secret_in_a_local_commands_environment_is_one_alone_and_the_rest_is_readable(
    project: Project,
) -> None:
    secret = "pulumi.Output.secret('CANARY')"
    project.write(
        f"local.Command('c', create='echo $OPEN $HIDDEN', environment={{'OPEN': 'seen', 'HIDDEN':"
        f" {secret}}})"
    )
    project.up()
    (found,) = [
        r
        for r in json.loads(project("stack", "export"))["deployment"]["resources"]
        if r["type"].endswith(":Command")
    ]
    for kept in ("inputs", "outputs"):
        assert found[kept]["environment"]["OPEN"] == "seen"
        assert "ciphertext" in found[kept]["environment"]["HIDDEN"]


def test_a_local_command_without_create_runs_nothing_and_is_in_the_state(
    project: Project, tmp_path: Path
) -> None:
    project.write(f"local.Command('c', delete='cat > {tmp_path}/seen', stdin='text')")
    assert counts(project.up())["created"] == 2
    assert not (tmp_path / "seen").exists()
    project.destroy()
    assert (tmp_path / "seen").read_text() == "text"


REPLACED = """
version, nodes = {version!r}, {nodes!r}
commands = [local.Command(name, delete="echo " + name + " >> {log}") for name in nodes]
local.Command("kept-" + version, delete="echo kept " + version + " >> {log}",
              opts=pulumi.ResourceOptions(depends_on=commands))
"""


def test_what_depended_on_another_is_deleted_before_it_where_both_go(
    project: Project, tmp_path: Path
) -> None:
    # So the runner of the version that goes is on this computer when the nodes that go need it.
    log = tmp_path / "deleted"
    project.write(REPLACED.format(version="one", nodes=["a", "b"], log=log))
    project.up()
    project.write(REPLACED.format(version="two", nodes=["a"], log=log))
    project.up()
    assert log.read_text().splitlines() == ["kept one", "b"]
    project.destroy()
    assert log.read_text().splitlines() == ["kept one", "b", "kept two", "a"]


def test_one_interrupt_ends_a_local_command_and_the_run(project: Project, tmp_path: Path) -> None:
    project.write(f"local.Command('c', create='echo $$ > {tmp_path}/pid; exec sleep 300')")
    argv = project.lab.sandbox.command(
        ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", "t"],
        network_only=True,
    )
    running = subprocess.Popen(
        argv,
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert running.poll() is None
        time.sleep(0.1)
    started = time.monotonic()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert time.monotonic() - started < 30
    assert not Path("/proc", (tmp_path / "pid").read_text().strip(), "cwd").exists()


def test_a_remote_command_cannot_become_a_local_one(lab: Lab, project: Project) -> None:
    # That is why an upgrade makes new resources, and why their entries on nodes have another owner
    # (node.py, SUCCESSOR).
    project.write(command(ALL))
    project.up()
    alias = "pulumi.Alias(type_='command:remote:Command')"
    project.write(
        f"local.Command('c', create='true', opts=pulumi.ResourceOptions(aliases=[{alias}]))"
    )
    assert "Unrecognized field 'connection'" in project("preview", fails=True)
