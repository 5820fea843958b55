"""What runs `status` at regular times and reports it: the script, systemd's units, and the jobs."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "scheduled-status"
SCRIPT = FOLDER / "report-status.sh"
TABLE = '  node    state\n  ─────   ───────\n  node1   DRIFTED\n\n  node1: "why" \\ and <where> &\n'
SECRET = "s3cr3t-in-the-url"


class Hook(BaseHTTPRequestHandler):
    """A webhook that keeps what it gets, and answers `status`."""

    got: list[dict[str, Any]] = []  # noqa: RUF012
    status = 200

    def do_POST(self) -> None:
        """Keep it."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        Hook.got.append({"path": self.path, **json.loads(body)})
        self.send_response(Hook.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.got, Hook.status = [], 200
    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{SECRET}"
    server.shutdown()
    server.server_close()


class Job:
    """The script with a `status` that says what a test wants, and a `gh` that remembers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        self.program(
            "swarm-registry-mirror", 'echo "$@" > words; cat out; cat err >&2; exit $(cat code)'
        )
        self.program(
            "gh",
            'echo "$@" >> gh-calls; case $* in *--body-file*) cat "${@: -1}" >> gh-bodies ;; esac;'
            ' [ "$1 $2" != "issue list" ] || cat open',
            shell="/bin/bash",
        )
        self.program("curl", f'echo "$@" >> curl-words; exec {shutil.which("curl")} "$@"')
        (folder / "open").write_text("")
        self.says(0, "all healthy\n")

    def program(self, name: str, text: str, shell: str = "/bin/sh") -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!{shell}\n{text}\n")
        path.chmod(0o755)

    def says(self, code: int, out: str, errors: str = "") -> None:
        for name, text in (("code", str(code)), ("out", out), ("err", errors)):
            (self.folder / name).write_text(text)

    def __call__(self, how: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", str(SCRIPT), how, "--stack", "prod"],
            cwd=self.folder,
            env={"PATH": path, "STATE_DIRECTORY": str(self.folder / "kept"), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def read(self, name: str) -> str:
        file = self.folder / name
        return file.read_text() if file.exists() else ""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.mark.parametrize("code", [1, 2])
def test_what_is_wrong_is_posted_once_and_its_end_once(job: Job, hook: str, code: int) -> None:
    assert job("webhook", WEBHOOK_URL=hook).returncode == 0
    assert Hook.got == [], "nothing was wrong before either"
    job.says(code, TABLE)
    assert [job("webhook", WEBHOOK_URL=hook).returncode for _ in range(3)] == [code] * 3
    (posted,) = Hook.got
    assert TABLE in posted["text"], "the table, letter for letter"
    assert posted["path"].endswith(SECRET)
    job.says(code, TABLE.replace("node1", "node2"))
    job("webhook", WEBHOOK_URL=hook)
    job.says(0, "all healthy\n")
    assert job("webhook", WEBHOOK_URL=hook).returncode == 0
    assert ["again" in each["text"] for each in Hook.got] == [False, False, True]
    assert job.read("words") == "status --stack prod\n"


def test_the_secret_of_the_webhook_is_in_no_command_line_and_no_message(
    job: Job, hook: str
) -> None:
    job.says(4, "", "\nFailed: the passphrase is wrong\n")
    done = job("webhook", WEBHOOK_URL=hook, PULUMI_CONFIG_PASSPHRASE="pass-phrase")
    assert done.returncode == 4
    (posted,) = Hook.got
    assert "the passphrase is wrong" in posted["text"]
    seen = done.stdout + done.stderr + job.read("curl-words") + posted["text"]
    assert SECRET not in seen
    assert "pass-phrase" not in seen
    assert SECRET not in "".join(path.read_text() for path in (job.folder / "kept").iterdir())


def test_what_could_not_be_posted_is_tried_again(job: Job, hook: str, tmp_path: Path) -> None:
    job.says(1, TABLE)
    Hook.status = 400
    done = job("webhook", WEBHOOK_URL=hook)
    assert done.returncode == 70
    assert "could not be reported (webhook)" in done.stderr
    assert "DRIFTED" in done.stdout
    assert SECRET not in done.stderr
    Hook.status = 200
    (tmp_path / "url").write_text(hook + "\n")
    assert job("webhook", WEBHOOK_URL_FILE=str(tmp_path / "url")).returncode == 1
    assert len(Hook.got) == 2


@pytest.mark.parametrize("url", ["", "ftp://x", 'http://x"\nheader = "y', "http://x\noutput=/y"])
def test_a_url_that_is_none_is_refused(job: Job, url: str) -> None:
    job.says(1, TABLE)
    done = job("webhook", WEBHOOK_URL=url)
    assert done.returncode == 64
    assert "WEBHOOK_URL" in done.stderr
    assert job.read("curl-words") == ""


def test_an_issue_is_opened_commented_on_and_closed(job: Job) -> None:
    assert job("issue").returncode == 0
    job.says(2, TABLE)
    assert [job("issue").returncode for _ in range(2)] == [2, 2]
    (job.folder / "open").write_text("17\n")
    job.says(1, TABLE.replace("node1", "node2"))
    assert job("issue").returncode == 1
    job.says(0, "")
    assert job("issue").returncode == 0
    calls = [" ".join(line.split()[:3]) for line in job.read("gh-calls").splitlines()]
    assert [call for call in calls if "list" not in call] == [
        "label create registry-mirror-status",
        "issue create --title",
        "issue comment 17",
        "issue close 17",
    ]
    assert job.read("gh-bodies").count("DRIFTED") == 2
    assert TABLE in job.read("gh-bodies")


def test_without_a_way_to_report_it_says_so() -> None:
    done = subprocess.run(["sh", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, "say webhook or issue first" in done.stderr) == (64, True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for name in ("service", "timer"):
        text = (FOLDER / f"registry-mirror-status.{name}").read_text()
        (tmp_path / f"registry-mirror-status.{name}").write_text(
            text.replace("/srv/mirror/report-status.sh", str(SCRIPT))
        )

    def verify() -> str:
        units = [str(path) for path in sorted(tmp_path.iterdir())]
        argv = ["systemd-analyze", "verify", "--man=no", *units]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return "\n".join(
            line for line in (done.stdout + done.stderr).splitlines() if "registry-mirror" in line
        )

    assert verify() == ""
    service = tmp_path / "registry-mirror-status.service"
    service.write_text(service.read_text().replace("Type=oneshot", "Type=onceshot"))
    assert "onceshot" in verify()


@pytest.mark.parametrize("name", ["github", "gitlab"])
def test_a_job_has_its_secrets_in_no_command_and_runs_on_a_schedule_alone(name: str) -> None:
    text = (FOLDER / f"{name}.yml").read_text()
    job = yaml.safe_load(text)
    if name == "github":
        assert set(job[True]) == {"schedule", "workflow_dispatch"}  # YAML reads `on` as true
        assert job["permissions"] == {"contents": "read", "issues": "write"}
        steps = job["jobs"]["status"]["steps"]
        assert all(re.fullmatch(r"actions/\w+@[0-9a-f]{40}", step["uses"]) for step in steps[:1])
        commands = "".join(step.get("run", "") for step in steps)
    else:
        (only,) = job.values()
        assert [rule["if"].partition(" &&")[0] for rule in only["rules"]] == [
            '$CI_PIPELINE_SOURCE == "schedule"'
        ]
        assert "CI_COMMIT_REF_PROTECTED" in only["rules"][0]["if"]
        commands = "\n".join(only["script"])
    assert "report-status.sh" in commands
    assert not re.search(r"secrets\.|PASSPHRASE|WEBHOOK_URL|TOKEN", commands)
