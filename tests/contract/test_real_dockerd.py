"""What we know of dockerd's flags and keys, beside the lab's real dockerds, which read their
configuration and start nothing.

The programs are those of the lab's base systems (`make lab` makes them); each is asked in a mount
namespace of its own, the one without `--validate` as the agent asks it. What our preflight lets
pass by itself, dockerd lets pass.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.registry_mirror.node_agent import (
    command_line,
    daemon_keys,
    daemon_process,
    daemon_settings,
    key_values,
)
from lab.base_systems import DOCKERD_VERSION, base_folder

BASES = {
    "bookworm": "20.10.24",
    "trixie": "26.1.5",
    "docker-28": "28.5.2",
    "docker-29": DOCKERD_VERSION,
}
PROGRAM = "/usr/sbin/dockerd"
ASKING = f"""
import json, os, sys
from components.registry_mirror.node_agent import daemon_process
os.chroot(sys.argv[1])
for line in sys.stdin:
    data, arguments, version = json.loads(line)
    process = daemon_process.Process(["{PROGRAM}", *arguments], "{PROGRAM}", {{"PATH": os.environ["PATH"]}}, None, "")
    print(json.dumps(daemon_process.complaint(data.encode(), process, version)), flush=True)
"""  # noqa: E501


class Dockerd:
    """One real dockerd, asked what it has against a file beside a command line."""

    def __init__(self, base: str) -> None:
        self.version = BASES[base]
        self.root = base_folder(base)
        script = (
            f"mount --bind /proc {self.root}/proc && exec {sys.executable} -c '{ASKING}'"
            f" {self.root}"
        )
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path.cwd()),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        self.running = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def refuses(self, configured: dict[str, Any] | str, arguments: list[str]) -> str | None:
        """Its words, or None."""
        text = configured if isinstance(configured, str) else json.dumps(configured)
        assert self.running.stdin is not None
        assert self.running.stdout is not None
        self.running.stdin.write(json.dumps([text, arguments, self.version]) + "\n")
        self.running.stdin.flush()
        found: str | None = json.loads(self.running.stdout.readline())
        return found

    def has(self, words: list[str]) -> bool:
        """Whether it has the flags of a command line, and takes their values."""
        command = ["chroot", str(self.root), PROGRAM, "--version", *words]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def help(self) -> str:
        """`dockerd --help`."""
        command = ["chroot", str(self.root), PROGRAM, "--help"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module", params=sorted(BASES))
def dockerd(request: pytest.FixtureRequest) -> Any:
    if (
        not (base_folder(request.param) / PROGRAM.lstrip("/")).exists()
        or not shutil.which("unshare")
        or os.geteuid() != 0
    ):
        pytest.skip("no base system of the lab here")
    asked = Dockerd(request.param)
    yield asked
    assert asked.running.stdin is not None
    asked.running.stdin.close()
    asked.running.wait(timeout=30)


def test_it_is_asked_without_being_started(dockerd: Dockerd) -> None:
    assert dockerd.refuses("{}", ["-H", "fd://"]) is None
    assert "no-such-key" in (dockerd.refuses({"no-such-key": 1}, []) or "")
    assert "hosts" in (dockerd.refuses({"hosts": ["fd://"]}, ["-H=fd://"]) or "")
    assert dockerd.refuses("{", []) is not None


def test_every_flag_that_it_has_is_in_our_list_and_takes_a_value_or_not_as_there(
    dockerd: Dockerd,
) -> None:
    found = re.findall(
        r"^ {2,6}(?:-(\w), )?--([a-z0-9-]+)(?: (\S+))? {2,}", dockerd.help(), flags=re.MULTILINE
    )
    assert len(found) > 70
    for short, name, value in found:
        assert name in (command_line.WITH_VALUE if value else command_line.BOOLEAN), name
        assert not short or command_line.SHORT[short] == name


WITHOUT_EFFECT = ("allow-nondistributable-artifacts", "api-cors-header")
"""Taken by later versions too, which do nothing with them."""


def test_it_knows_the_keys_that_our_table_says_it_knows(dockerd: Dockerd) -> None:
    version = daemon_keys.version_of(dockerd.version)
    for key, setting in daemon_settings.SETTINGS.items():
        if key == "default-init":
            continue  # there is a field for it and no flag, so that dockerd refuses it
        if key in WITHOUT_EFFECT and version >= setting.until:
            continue
        words = dockerd.refuses({key: {"http-proxy": ""} if key == "proxies" else None}, []) or ""
        assert ("match any configuration option" not in words) == (
            setting.since <= version < setting.until
        ), key


STARTED = [
    ({}, ["-H", "unix:///run/x.sock"]),
    ({"hosts": ["unix:///run/x.sock"]}, []),
    ({"hosts": ["unix:///run/x.sock"]}, ["-H=unix:///run/x.sock"]),
    ({"debug": False}, ["-DHunix:///run/x.sock"]),
    ({"runtimes": {"a": {"path": "/a"}}}, ["--add-runtime=b=/b"]),
    ({"label": ["a=b"]}, ["--label=c=d"]),
    ({"log-opts": {"max-file": 3}}, []),
    ({"no-such-key": 1}, []),
    ({"dns": ["no address"]}, []),
]


@pytest.mark.parametrize(("configured", "arguments"), STARTED)
def test_what_it_says_when_asked_is_what_it_does_when_started(
    dockerd: Dockerd, tmp_path: Path, configured: dict[str, Any], arguments: list[str]
) -> None:
    """A start as root, with nothing of the machine in reach and all that it writes thrown away; it
    is ended once it has begun."""
    script = (
        f"mount --make-rprivate /; mount -t tmpfs none {tmp_path}; cd {tmp_path}; mkdir upper work"
        " root;"
        f"mount -t overlay overlay -o lowerdir={dockerd.root},upperdir=upper,workdir=work root;"
        " mount -t proc proc root/proc;"
        f'cat > root/daemon.json; exec chroot root {PROGRAM} --config-file /daemon.json "$@"'
    )
    command = [
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-ec",
        script,
        "sh",
        *arguments,
    ]
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }
    with subprocess.Popen(command, **pipes) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        limit = threading.Timer(20, started.kill)
        limit.start()
        started.stdin.write(json.dumps(configured))
        started.stdin.close()
        said = ""
        for line in started.stdout:
            said += line
            if "Starting up" in line:
                started.kill()
                break
        limit.cancel()
    refused = "unable to configure the Docker daemon" in said
    assert refused != ("Starting up" in said), said
    assert refused == (dockerd.refuses(configured, arguments) is not None)


def cases(folder: str) -> list[Path]:
    return sorted((Path(__file__).parent.parent / "unit" / "cases" / folder).glob("*.json"))


@pytest.mark.parametrize("path", cases("command_line"), ids=lambda path: path.stem)
def test_it_reads_a_command_line_as_we_say(dockerd: Dockerd, path: Path) -> None:
    case = json.loads(path.read_text())
    if not dockerd.has(case["words"]):
        pytest.skip("this version has no such flag, or does not take that value")
    words = dockerd.refuses(case["file"], case["words"]) or ""
    if "match any configuration option" in words:
        pytest.skip("this version has no such key")
    assert ("both as a flag" in words) == bool(case["conflicts"]), words
    for key in case["conflicts"]:
        assert f"{key}: (from flag" in words


@pytest.mark.parametrize("path", cases("key_values"), ids=lambda path: path.stem)
def test_it_takes_every_value_that_we_let_pass(dockerd: Dockerd, path: Path) -> None:
    case = json.loads(path.read_text())
    if case["fault"] is None and not (case["key"] == "proxies" and dockerd.version < "23"):
        assert dockerd.refuses({case["key"]: case["value"]}, []) is None


WORDS = st.sampled_from(
    [
        "",
        "a",
        "a=b",
        "https://a.test",
        "http://a.test:1",
        "1.1.1.1",
        "a.test",
        "10m",
        "warn",
        "overlay2",
        "-x",
    ]
)
NAMES = st.sampled_from(["nofile", "gc", "http-proxy", "buildkit", "max-size"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70000) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS | NAMES, inner, max_size=2),
    max_leaves=4,
)
CONFIGURED = st.dictionaries(
    st.sampled_from(sorted(daemon_settings.SETTINGS)), st.none() | VALUES, max_size=3
)
HOSTS = st.sampled_from(["fd://", "unix:///run/x.sock", "tcp://127.0.0.1:2375"])
FLAGS = st.one_of(
    HOSTS.flatmap(
        lambda host: st.sampled_from(
            [["-H", host], ["-H=" + host], ["-H" + host], ["--host", host]]
        )
    ),
    st.sampled_from(
        [["-D"], ["-D=false"], ["--debug"], ["-Dl", "warn"], ["-lwarn"], ["--log-level=warn"]]
    ),
    st.sampled_from(
        [
            ["-b", "br0"],
            ["-bbr0"],
            ["--bridge=br0"],
            ["-p", "/run/x.pid"],
            ["-p=/run/x.pid"],
            ["-Gdocker"],
        ]
    ),
    st.sampled_from(
        [
            ["--label", "a=b"],
            ["--label=-a=b"],
            ["--label", "-a=b"],
            ["--dns", "1.1.1.1"],
            ["--dns=1.1.1.1"],
        ]
    ),
    st.sampled_from(
        [
            ["--insecure-registry=a.test"],
            ["--registry-mirror", "https://a.test"],
            ["--add-runtime", "a=/a"],
        ]
    ),
    st.sampled_from(
        [["--iptables=false"], ["--live-restore"], ["--data-root=/srv"], ["--log-opt", "a=b"]]
    ),
    st.sampled_from([["--exec-opt=native.cgroupdriver=cgroupfs"]]),
    st.sampled_from(
        [
            ["--mtu", "1400"],
            ["--bip=10.1.0.1/24"],
            ["--storage-driver", "overlay2"],
            ["-soverlay2"],
            ["--init"],
        ]
    ),
)
COMMAND_LINE = st.lists(FLAGS, max_size=3).map(
    lambda found: [word for flag in found for word in flag]
)


@settings(
    max_examples=int(os.environ.get("DOCKERD_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(configured=CONFIGURED, arguments=COMMAND_LINE)
def test_flags_and_keys_that_we_let_pass_together_it_lets_pass_and_the_other_way_round(
    dockerd: Dockerd, configured: dict[str, Any], arguments: list[str]
) -> None:
    ours = command_line.conflicts(configured, [PROGRAM, *arguments])
    known = dict.fromkeys(configured)
    words = (
        dockerd.refuses(
            {
                **known,
                **{key: value for key, value in configured.items() if isinstance(value, dict)},
            },
            arguments,
        )
        or ""
    )
    if "match any configuration option" in words or "Code: 125" in words:
        return  # no such key, or a command line that no dockerd runs with
    assert ("both as a flag" in words) == bool(ours), words
    assert all(f"{key}: (from flag" in words for key in ours), words


MANAGED = st.dictionaries(st.sampled_from(sorted(daemon_keys.KEYS)), VALUES, min_size=1, max_size=2)


@settings(
    max_examples=int(os.environ.get("DOCKERD_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(configured=MANAGED, arguments=COMMAND_LINE)
def test_managed_keys_that_we_let_pass_it_lets_pass_beside_any_command_line(
    dockerd: Dockerd, configured: dict[str, Any], arguments: list[str]
) -> None:
    if any(
        daemon_keys.fault(key, value) for key, value in configured.items()
    ) or command_line.conflicts(configured, [PROGRAM, *arguments]):
        return
    words = dockerd.refuses(configured, arguments)
    if words and "match any configuration option" in words and "proxies" in configured:
        return  # docker 20 has no such key, and says so
    if words and "Code: 125" in words:
        return  # a command line that no dockerd runs with
    assert words is None, words


def test_the_checks_of_values_are_for_keys_that_there_are() -> None:
    assert set(key_values.CHECKS) <= set(daemon_keys.KEYS)
    assert daemon_process.NOBODY > 2**16
