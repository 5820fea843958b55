"""The pipelines that are shipped: no secret is where the code of a merge request runs."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "GITLAB_COMMENT_TOKEN"
KEYWORDS = {"stages", "default", "variables", "include", "workflow"}


def gitlab() -> dict[str, dict[str, Any]]:
    """The jobs by name."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "examples/gitlab/.gitlab-ci.yml").read_text())
    return {
        name: job for name, job in read.items() if name not in KEYWORDS and not name.startswith(".")
    }


def conditions(job: dict[str, Any]) -> str:
    return " ".join(rule["if"] for rule in job["rules"])


def test_gitlabs_token_is_in_one_job_which_no_merge_request_starts() -> None:
    with_token = {name: job for name, job in gitlab().items() if TOKEN in yaml.safe_dump(job)}
    assert list(with_token) == ["comment"]
    (job,) = with_token.values()
    assert "merge_request" not in conditions(job)
    assert (
        '$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH && $CI_COMMIT_REF_PROTECTED == "true"'
        in conditions(job)
    )
    assert (
        job["environment"] == "preview-comments"
    )  # the scope of the variable, so that no other job gets it
    assert not [line for line in job["script"] if "make " in line or "python" in line], (
        "it runs nothing of the repository"
    )


@pytest.mark.parametrize("name", ["check", "preview"])
def test_what_runs_a_merge_requests_code_names_no_environment_and_no_secret(name: str) -> None:
    job = gitlab()[name]
    assert "merge_request_event" in conditions(job)
    assert "environment" not in job
    assert "TOKEN" not in yaml.safe_dump(job).replace("CI_JOB_TOKEN", "")


WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def github(name: str) -> dict[Any, Any]:
    read: dict[Any, Any] = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    return read


def test_githubs_workflow_for_pull_requests_is_the_one_for_strangers() -> None:
    workflow = github("preview")
    assert list(workflow[True]) == ["pull_request"]  # YAML reads `on` as true
    for job in workflow["jobs"].values():
        steps = job["steps"]
        assert [step for step in steps if "github.token" in yaml.safe_dump(step)] in (
            [],
            [steps[-1]],
        )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_github_workflow_has_a_secret_or_an_action_that_others_can_change(path: Path) -> None:
    assert "secrets." not in path.read_text()
    workflow = github(path.stem)
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert steps
    for step in steps:
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_only_a_tag_makes_a_release_and_only_that_job_may_write() -> None:
    assert list(github("release")[True]) == ["push"]
    assert list(github("release")[True]["push"]) == ["tags"]
    writing = [
        (path.stem, name, scope)
        for path in WORKFLOWS
        for name, job in github(path.stem)["jobs"].items()
        for scope, right in job.get("permissions", {}).items()
        if right == "write"
    ]
    assert writing == [("preview", "preview", "pull-requests"), ("release", "release", "contents")]


def test_every_push_is_tested_on_every_python_from_the_oldest_that_is_supported() -> None:
    assert list(github("ci")[True]) == ["push"]
    pythons = github("ci")["jobs"]["unit"]["strategy"]["matrix"]["python"]
    assert pythons == ["3.10", "3.11", "3.12", "3.13"]
    (oldest,) = re.findall(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert pythons[0] == oldest


def test_what_the_workflows_start_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [path.read_text() for path in (*WORKFLOWS, ROOT / "examples/gitlab/.gitlab-ci.yml")]
    command = re.compile(r"^\s*(?:- )?(?:run: )?make ([a-z-]+)", re.MULTILINE)
    started = {target for text in texts for target in command.findall(text)}
    assert {"unit", "dist", "docs", "preview", "policy"} <= started <= targets


@pytest.mark.parametrize(
    "path", ["examples/gitlab/.gitlab-ci.yml", ".github/workflows/preview.yml"]
)
def test_both_say_that_policies_come_from_the_branch_and_how_to_require_them_from_elsewhere(
    path: str,
) -> None:
    text = " ".join(
        line.lstrip("# ") for line in (ROOT / path).read_text().splitlines() if line.startswith("#")
    )
    assert "come from the branch" in text
    assert "To require them from elsewhere" in text
