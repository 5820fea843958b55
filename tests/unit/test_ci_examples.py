"""The pipelines that are shipped: no secret is where the code of a merge request runs."""

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
    return {name: job for name, job in read.items() if name not in KEYWORDS and not name.startswith(".")}


def conditions(job: dict[str, Any]) -> str:
    return " ".join(rule["if"] for rule in job["rules"])


def test_gitlabs_token_is_in_one_job_which_no_merge_request_starts() -> None:
    with_token = {name: job for name, job in gitlab().items() if TOKEN in yaml.safe_dump(job)}
    assert list(with_token) == ["comment"]
    (job,) = with_token.values()
    assert "merge_request" not in conditions(job)
    assert '$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH && $CI_COMMIT_REF_PROTECTED == "true"' in conditions(job)
    assert job["environment"] == "preview-comments"  # the scope of the variable, so that no other job gets it
    assert not [line for line in job["script"] if "make " in line or "python" in line], "it runs nothing of the repository"


@pytest.mark.parametrize("name", ["check", "preview"])
def test_what_runs_a_merge_requests_code_names_no_environment_and_no_secret(name: str) -> None:
    job = gitlab()[name]
    assert "merge_request_event" in conditions(job)
    assert "environment" not in job
    assert "TOKEN" not in yaml.safe_dump(job).replace("CI_JOB_TOKEN", "")


def test_githubs_workflow_has_no_secret_and_is_the_one_for_strangers() -> None:
    text = (ROOT / ".github/workflows/preview.yml").read_text()
    workflow = yaml.safe_load(text)
    assert list(workflow[True]) == ["pull_request"]  # YAML reads `on` as true
    assert "secrets." not in text
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        steps = job["steps"]
        assert [step for step in steps if "github.token" in yaml.safe_dump(step)] in ([], [steps[-1]])
        for step in steps:
            assert step.get("with", {}).get("persist-credentials", False) is False


@pytest.mark.parametrize("path", ["examples/gitlab/.gitlab-ci.yml", ".github/workflows/preview.yml"])
def test_both_say_that_policies_come_from_the_branch_and_how_to_require_them_from_elsewhere(path: str) -> None:
    text = " ".join(line.lstrip("# ") for line in (ROOT / path).read_text().splitlines() if line.startswith("#"))
    assert "come from the branch" in text
    assert "To require them from elsewhere" in text
