"""The readiness gate: waits until the mirror's new task runs and answers over HTTPS through Traefik, or says why it does not.

Runs on the manager, changes nothing. Until it has passed, no node is told of the mirror.
"""

import json
import time
from typing import Any, Dict, List, Optional

from . import engine, files, probe

POLL_SECONDS = 0.5


class NotReady(files.Failed):
    """The mirror does not answer in time; the message says what is wrong and what to do. No node was touched."""


def wait(request: Dict[str, Any]) -> str:
    """Wait for a task with the label `digest` and the image that are wanted; returns `ready`. Raises NotReady."""
    deadline = time.monotonic() + request["timeout"]
    while True:
        wrong = _task_fault(request) or probe.fault(request["mirror"], image=request["check_image"])
        if wrong is None:
            return "ready"
        if time.monotonic() > deadline:
            raise NotReady("the mirror is not ready after %d s, so no node was touched: %s" % (request["timeout"], wrong))
        time.sleep(POLL_SECONDS)


def _task_fault(request: Dict[str, Any]) -> Optional[str]:
    """What is wrong with the service's newest task; None if one with our configuration runs (and is healthy)."""
    service = request["service"]
    try:
        tasks = _tasks(service)
    except engine.EngineProblem as error:
        return "the service %s cannot be looked at: %s" % (service, error)
    current = [task for task in tasks if _is_wanted(task["Spec"]["ContainerSpec"], request)]
    if any(task["Status"]["State"] == "running" for task in current):
        return None
    if not current:
        return "docker has not made a task of the service %s with this configuration yet" % service
    newest = max(current, key=lambda task: str(task["CreatedAt"]))
    # A task that is being tried again is younger than the one whose failure tells the reason.
    failed = [task for task in current if task["Status"].get("Err")]
    reason = max(failed, key=lambda task: str(task["CreatedAt"]))["Status"]["Err"] if failed else ""
    words = "its task is %s" % newest["Status"]["State"]
    return words + (": " + reason if reason else "") + _last_log_line(service)


def _tasks(service: str) -> List[Dict[str, Any]]:
    names = engine.run("docker", "service", "ps", "--quiet", "--no-trunc", service).split()
    tasks: List[Dict[str, Any]] = json.loads(engine.run("docker", "inspect", "--type", "task", *names)) if names else []
    return tasks


def _is_wanted(spec: Dict[str, Any], request: Dict[str, Any]) -> bool:
    labels = spec.get("Labels") or {}
    return bool(labels.get(request["label"]) == request["digest"] and spec["Image"] == request["image"])


def _last_log_line(service: str) -> str:
    try:
        lines = engine.run("docker", "service", "logs", "--raw", "--tail", "3", service).splitlines()
    except engine.EngineProblem:
        return ""
    return "; its log ends with: %s" % lines[-1][-300:] if lines else ""
