"""The gate: what it waits for, what it takes for proof, and what it ends at once for."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import engine, probe, ready, registries
from components.registry_mirror.node_agent.registries import Fault
from components.registry_mirror.node_agent.request import (
    CachedRegistry,
    ExpectedTask,
    ReadyRequest,
)
from tests.builders import without_code


def service(name: str, mode: str, port: int = 443, network: str = "net-id") -> dict[str, Any]:
    return {
        "Spec": {"Name": name, "TaskTemplate": {"Networks": [{"Target": network}]}},
        "Endpoint": {"Ports": [{"PublishedPort": port, "PublishMode": mode}]},
    }


def hidden(
    monkeypatch: pytest.MonkeyPatch,
    *services: dict[str, Any],
    allow_from: tuple[str, ...] = ("10.0.0.0/8",),
) -> str | None:
    answers = {"network": "net-id", "ls": "id", "inspect": json.dumps(services)}
    monkeypatch.setattr(
        engine, "run", lambda *words: answers["network" if words[1] == "network" else words[2]]
    )
    return ready._hidden_addresses(replace(request(Path("/")), allow_from=list(allow_from)))


def test_a_traefik_behind_the_routing_mesh_sees_nobodys_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reason = hidden(monkeypatch, service("traefik", "ingress")) or ""
    assert reason.startswith("the service traefik publishes port 443 through the routing mesh")
    assert "publish it with mode=host" in reason


@pytest.mark.parametrize(
    "other",
    [
        service("traefik", "host"),
        service("web", "ingress", port=80),
        service("web", "ingress", network="another-network"),
    ],
)
def test_everything_else_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    assert hidden(monkeypatch, other) is None


def test_without_an_allow_list_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hidden(monkeypatch, service("traefik", "ingress"), allow_from=()) is None


OLD, NEW = "registry:3.1.0@sha256:aa", "registry:3.1.1@sha256:bb"


def task(
    created: int,
    image: str,
    digest: str,
    state: str = "running",
    desired: str = "running",
    error: str = "",
) -> dict[str, Any]:
    return {
        "CreatedAt": f"2026-11-26T09:00:{created:02}Z",
        "DesiredState": desired,
        "Status": {"State": state, "Err": error},
        "Spec": {
            "ContainerSpec": {
                "Image": image,
                "Command": ["/bin/sh", "/usr/local/bin/start-mirror", digest],
            }
        },
    }


class Swarm:
    """A manager whose service has some tasks, and a mirror that answers; every poll is a second."""

    def __init__(self) -> None:
        self.tasks: list[dict[str, Any]] = []
        self.is_manager = True
        self.answer = probe.Answer(None)
        self.images: list[str | None] = []
        """The image that was asked for, each time that the mirror was."""
        self.upstream: str | None = None
        self.disk: tuple[int, int] | None = (4096, 4096)
        self.faults: dict[str, Fault] = {}
        """Of the registries besides the one at the root."""
        self.asked: list[list[str]] = []
        """Their names, each time that they were asked for."""
        self.log = ""
        self.services: list[dict[str, Any]] | None = []
        """Of the swarm; None: docker does not say."""
        self.looks = 0
        self.now = 0.0
        self.later: dict[float, Callable[[], None]] = {}

    def run(self, *command: str, **_: Any) -> str:
        words = command[1:]
        if words[0] == "info":
            return json.dumps(
                {"RegistryConfig": {"Mirrors": []}, "Swarm": {"ControlAvailable": self.is_manager}}
            )
        if words[:2] == ("service", "ps"):
            return "\n".join(str(number) for number, _ in enumerate(self.tasks))
        if words[:3] == ("inspect", "--type", "task"):
            return json.dumps(self.tasks)
        if words[:2] in (("service", "ls"), ("service", "inspect")):
            if self.services is None:
                raise engine.EngineProblem("docker does not answer")
            self.looks += words[1] == "ls"
            return json.dumps(self.services) if words[1] == "inspect" else "id" * len(self.services)
        assert command[0] == "sh"
        return self.log

    def ask(self, url: str, image: str | None, proxy: str | None) -> probe.Answer:
        self.images.append(image)
        return self.answer

    def registry_faults(
        self, url: str, asked: list[CachedRegistry], proxy: str | None
    ) -> dict[str, Fault]:
        names = [item.name for item in asked]
        self.asked.append(names)
        return {name: fault for name, fault in self.faults.items() if name in names}

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 1
        self.later.get(self.now, lambda: None)()


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Swarm:
    found = Swarm()
    monkeypatch.setattr(engine, "run", found.run)
    monkeypatch.setattr(probe, "ask", found.ask)
    monkeypatch.setattr(probe, "upstream_fault", lambda *_: found.upstream)
    monkeypatch.setattr(probe, "disk", lambda *_: found.disk)
    monkeypatch.setattr(registries, "faults", found.registry_faults)
    monkeypatch.setattr(ready, "time", found)
    return found


def request(folder: Path) -> ReadyRequest:
    return ReadyRequest(
        mirror_url="https://mirror.example.com",
        services=[ExpectedTask("mirror", "new", NEW)],
        check_image="library/hello-world:latest",
        network="traefik_public",
        allow_from=[],
        timeout=60,
        disk=4096,
        unit="docker",
        path=str(folder / "daemon.json"),
        labels=[{"traefik.enable": "true"}],
    )


def test_a_new_task_that_runs_and_a_mirror_that_answers_are_ready(
    swarm: Swarm, tmp_path: Path
) -> None:
    swarm.tasks = [task(1, OLD, "old", "shutdown", "shutdown"), task(2, NEW, "new")]
    assert ready.wait(request(tmp_path)) == "ready"
    assert swarm.now == 0


@pytest.mark.parametrize(
    "old",
    [
        task(1, OLD, "new"),  # the image of before, with today's configuration
        task(1, NEW, "old"),  # and the other way round
        task(1, NEW, "new", "starting"),
        task(1, NEW, "new", "running", "shutdown"),  # it runs still, and swarm is ending it
    ],
)
def test_an_old_task_that_answers_is_not_taken_for_the_new_one(
    swarm: Swarm, tmp_path: Path, old: dict[str, Any]
) -> None:
    swarm.tasks = [old]
    with pytest.raises(
        ready.NotReady, match="the mirror is not ready after 60 s, so no node was touched"
    ):
        ready.wait(request(tmp_path))
    swarm.now = 0.0
    swarm.later[7.0] = lambda: swarm.tasks.append(task(2, NEW, "new"))
    assert ready.wait(request(tmp_path)) == "ready"
    assert swarm.now == 7


def test_the_reason_of_the_youngest_failure_and_the_end_of_the_log_are_reported(
    swarm: Swarm, tmp_path: Path
) -> None:
    swarm.tasks = [
        task(1, NEW, "new", "failed", "shutdown", "an older reason"),
        task(2, NEW, "new", "failed", "shutdown", "task: non-zero exit (1)"),
        task(3, NEW, "new", "preparing"),
    ]
    swarm.log = "first\nconfiguration error: open /etc/distribution/config.yml"
    words = (
        r"its task is preparing: task: non-zero exit \(1\); its log ends with: configuration"
        r" error: open"
    )
    with pytest.raises(ready.NotReady, match=words):
        ready.wait(request(tmp_path))


def test_a_mirror_without_its_upstream_is_not_ready_before_it_has_served_anybody(
    swarm: Swarm, tmp_path: Path
) -> None:
    swarm.tasks, swarm.upstream = (
        [task(1, NEW, "new")],
        "the mirror does not reach its upstream now (500)",
    )
    with pytest.raises(ready.NotReady, match="does not reach its upstream now"):
        ready.wait(request(tmp_path))
    swarm.now = 0.0
    swarm.later[9.0] = lambda: setattr(swarm, "upstream", None)
    assert ready.wait(request(tmp_path)) == "ready"
    assert swarm.now == 9


def test_one_that_has_served_is_ready_with_a_warning(
    swarm: Swarm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swarm.tasks, swarm.upstream = (
        [task(1, NEW, "new")],
        "the mirror does not reach its upstream now (500)",
    )
    assert ready.wait_again(request(tmp_path)) == "ready"
    assert (
        "READY ONLY WITH WHAT IS IN ITS CACHE: the mirror does not reach its upstream now (500)"
        in capsys.readouterr().err
    )
    assert swarm.now == 0
    swarm.upstream = None
    assert ready.wait_again(request(tmp_path)) == "ready"
    assert capsys.readouterr().err == ""


LITTLE_DISK = (
    "READY WITH LESS DISK THAN coalesceDisk SAYS: Varnish took 1200 MiB of 4096, half of what its"
    " machine has free; layers of"
    " over 1125 MiB that do not fit into memory are downloaded once for each client; make room"
    " there (it looks at its next"
    " start), or set coalesceDisk to 1200"
)


@pytest.mark.parametrize("act", [ready.wait, ready.wait_again])
def test_a_disk_with_less_room_than_varnish_is_configured_to_take_is_a_warning(
    swarm: Swarm,
    tmp_path: Path,
    act: Callable[[ReadyRequest], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    swarm.tasks = [task(1, NEW, "new")]
    swarm.disk = (1200, 4096)
    assert act(request(tmp_path)) == "ready"
    assert capsys.readouterr().err == f"registry mirror: {LITTLE_DISK}\n"
    assert swarm.now == 0


@pytest.mark.parametrize(
    ("said", "wanted", "seconds"),
    [
        ((4096, 4096), 4096, 0),
        (
            None,
            4096,
            0,
        ),  # without Varnish, by an earlier version of it, or where something takes the header away
        ((1200, 4096), 0, 0),  # no disk is wanted: nobody is asked
        (
            (1200, 8192),
            4096,
            21,
        ),  # the old task answers for longer than Traefik takes: no word about the new one is right
    ],
)
def test_otherwise_nothing_is_said_of_the_disk(
    swarm: Swarm,
    tmp_path: Path,
    said: tuple[int, int] | None,
    wanted: int,
    seconds: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    swarm.tasks, swarm.disk = [task(1, NEW, "new")], said
    assert ready.wait(replace(request(tmp_path), disk=wanted)) == "ready"
    assert capsys.readouterr().err == ""
    assert swarm.now == seconds


def test_what_the_old_task_says_of_the_disk_is_not_taken_for_the_new_ones_word(
    swarm: Swarm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swarm.tasks, swarm.disk = [task(1, NEW, "new")], (8192, 8192)
    swarm.later[5.0] = lambda: setattr(swarm, "disk", (1200, 4096))
    assert ready.wait(request(tmp_path)) == "ready"
    assert LITTLE_DISK in capsys.readouterr().err


@pytest.mark.parametrize("act", [ready.wait, ready.wait_again])
def test_what_no_waiting_repairs_ends_the_gate_at_once(
    swarm: Swarm, tmp_path: Path, act: Callable[[ReadyRequest], str]
) -> None:
    swarm.tasks = [task(1, NEW, "new")]
    swarm.answer = probe.Answer("the upstream has no image", final=True)
    with pytest.raises(ready.NotReady, match="so no node was touched: the upstream has no image"):
        act(request(tmp_path))
    swarm.is_manager = False
    with pytest.raises(
        ready.NotReady, match=r"no manager of a swarm .*so no node was touched; set manager"
    ):
        act(request(tmp_path))
    assert swarm.now == 0


def test_what_may_pass_is_waited_for(swarm: Swarm, tmp_path: Path) -> None:
    swarm.tasks = [task(1, NEW, "new")]
    swarm.answer = probe.Answer("Traefik has no route to the mirror (404)", probe.LONG)
    swarm.later[12.0] = lambda: setattr(swarm, "answer", probe.Answer(None))
    assert ready.wait(request(tmp_path)) == "ready"
    assert swarm.now == 12


def marked(swarm: Swarm, folder: Path) -> ReadyRequest:
    """A gate behind a Traefik that goes by labels of before."""
    swarm.tasks = [task(1, NEW, "new")]
    swarm.answer = probe.Answer(None, labels_mark="old")
    return replace(request(folder), labels_mark="new")


REFUSED = probe.Answer("Traefik does not let this machine in (403)", probe.TRAEFIK_LOOKS)


@pytest.mark.parametrize("act", [ready.wait, ready.wait_again])
def test_what_comes_by_labels_of_before_is_taken_as_proof_of_nothing(
    swarm: Swarm,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    act: Callable[[ReadyRequest], str],
) -> None:
    asked = marked(swarm, tmp_path)
    swarm.later[15.0] = lambda: setattr(swarm, "answer", probe.Answer(None, labels_mark="new"))
    assert act(asked) == "ready"
    assert swarm.now == 15
    assert capsys.readouterr().err == ""
    # Meanwhile nobody's upstream is asked for anything.
    assert [image for image in swarm.images if image] == [asked.check_image] * 2


@pytest.mark.parametrize("mark", ["new", ""], ids=["it says so", "of an old Traefik's refusal"])
def test_a_route_that_the_new_labels_close_is_seen(swarm: Swarm, tmp_path: Path, mark: str) -> None:
    asked = marked(swarm, tmp_path)
    swarm.later[15.0] = lambda: setattr(swarm, "answer", REFUSED._replace(labels_mark=mark))
    with pytest.raises(ready.NotReady, match="so no node was touched: Traefik does not let"):
        ready.wait(asked)
    # What today's labels refuse they go on refusing.
    assert (swarm.now == 15) == (mark == "new")


def test_a_refusal_by_labels_of_before_may_pass(swarm: Swarm, tmp_path: Path) -> None:
    asked = marked(swarm, tmp_path)
    swarm.answer = REFUSED._replace(labels_mark="old")
    swarm.later[15.0] = lambda: setattr(swarm, "answer", probe.Answer(None, labels_mark="new"))
    assert ready.wait(asked) == "ready"
    assert swarm.now == 15


def test_a_traefik_that_never_goes_by_our_labels_is_waited_for_a_minute_and_named(
    swarm: Swarm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = replace(marked(swarm, tmp_path), timeout=180)
    assert ready.wait(asked) == "ready"
    assert "READY, BUT NOT BY TODAY'S LABELS: what answers at https://" in capsys.readouterr().err
    assert swarm.now == pytest.approx(ready.LABELS_SECONDS, abs=1)
    swarm.now = 0
    assert ready.wait(replace(asked, timeout=20)) == "ready"
    assert swarm.now == pytest.approx(20, abs=1), "no longer than anything may take"


def test_where_nobody_can_say_by_which_labels_nobody_is_waited_for(
    swarm: Swarm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = marked(swarm, tmp_path)
    swarm.answer = probe.Answer(None, labels_mark="")
    assert ready.wait(replace(asked, labels_mark="")) == "ready"  # Traefik 1
    swarm.answer = probe.Answer(None)  # only docker itself could ask
    assert ready.wait(asked) == "ready"
    assert swarm.now == 0
    assert capsys.readouterr().err == ""


CONSTRAINED = {
    "Spec": {
        "Name": "edge",
        "TaskTemplate": {
            "ContainerSpec": {"Args": ["--providers.swarm.constraints=Label(`a`, `b`)"]}
        },
    }
}


def test_a_constraint_of_traefik_that_hides_the_mirror_is_named_and_looked_for_once(
    swarm: Swarm, tmp_path: Path
) -> None:
    swarm.tasks, swarm.services = [task(1, NEW, "new")], [CONSTRAINED]
    swarm.answer = probe.Answer("Traefik has no route (404)?", probe.LONG, no_route=True)
    with pytest.raises(ready.NotReady) as failed:
        ready.wait(request(tmp_path))
    assert str(without_code(str(failed.value))).endswith(
        "Traefik has no route (404)? The Traefik of the service edge takes only what meets its"
        " constraint Label(`a`, `b`);"
        " the mirror needs these traefikLabels for it: a: b"
    )
    assert swarm.looks == 1


@pytest.mark.parametrize(
    ("answer", "services"),
    [
        (
            probe.Answer("no route", probe.LONG, no_route=True),
            [],
        ),  # no Traefik of this swarm has one
        (probe.Answer("no route", probe.LONG, no_route=True), None),
        (
            probe.Answer("Traefik reaches no mirror (502)", probe.LONG),
            [CONSTRAINED],
        ),  # so it knows the mirror
    ],
)
def test_otherwise_no_constraint_is_named(
    swarm: Swarm, tmp_path: Path, answer: probe.Answer, services: list[dict[str, Any]] | None
) -> None:
    swarm.tasks, swarm.answer, swarm.services = [task(1, NEW, "new")], answer, services
    with pytest.raises(ready.NotReady) as failed:
        ready.wait(request(tmp_path))
    assert str(failed.value).endswith(f"so no node was touched: {answer.fault}")


def test_a_mirror_whose_task_has_ended_meanwhile_is_not_called_hidden(
    swarm: Swarm, tmp_path: Path
) -> None:
    swarm.tasks, swarm.services = [task(1, NEW, "new")], [CONSTRAINED]
    swarm.answer = probe.Answer("Traefik has no route (404)?", probe.LONG, no_route=True)
    swarm.later[50.0] = swarm.tasks.clear
    with pytest.raises(
        ready.NotReady,
        match=r"the service mirror with this configuration yet \[RM178\]$",
    ):
        ready.wait(request(tmp_path))


def cached(name: str, *, required: bool = False) -> CachedRegistry:
    upstream = f"https://{name}"
    return CachedRegistry(name, name, upstream, "owner/app", is_known=True, required=required)


AWAY = Fault("the mirror does not reach quay.io now")


@pytest.mark.parametrize("act", [ready.wait, ready.wait_again])
def test_a_registry_that_is_away_is_named_and_does_not_hold_up_the_others(
    swarm: Swarm,
    tmp_path: Path,
    act: Callable[[ReadyRequest], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    swarm.tasks, swarm.faults = [task(1, NEW, "new")], {"quay.io": AWAY}
    wanted = [cached("ghcr.io"), cached("quay.io")]
    assert act(replace(request(tmp_path), registries=wanted)) == "ready"
    shown = capsys.readouterr().err
    assert shown == f"registry mirror: READY, BUT NOT FOR quay.io: {AWAY.reason}\n"
    assert swarm.now == 21, "Traefik may take so long to find Varnish's new task"
    assert swarm.asked == [["ghcr.io", "quay.io"], *[["quay.io"]] * 21]


def test_a_registry_that_comes_in_time_is_no_warning(
    swarm: Swarm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swarm.tasks, swarm.faults = [task(1, NEW, "new")], {"quay.io": AWAY}
    swarm.later[3.0] = swarm.faults.clear
    assert ready.wait(replace(request(tmp_path), registries=[cached("quay.io")])) == "ready"
    assert capsys.readouterr().err == ""
    assert swarm.now == 3


def test_a_registry_that_is_required_is_waited_for_and_then_nothing_is_ready(
    swarm: Swarm, tmp_path: Path
) -> None:
    swarm.tasks, swarm.faults = [task(1, NEW, "new")], {"quay.io": AWAY}
    wanted = replace(request(tmp_path), registries=[cached("quay.io", required=True)])
    with pytest.raises(ready.NotReady, match=r"no node was touched: .*quay\.io now .*required"):
        ready.wait(wanted)
    assert swarm.now == 61, "all of the time that the configuration gives"
    swarm.now = 0.0
    swarm.later[40.0] = swarm.faults.clear
    assert ready.wait(wanted) == "ready"
    assert swarm.now == 40


def test_one_that_has_served_is_ready_without_a_registry_that_is_required(
    swarm: Swarm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As without the upstream at the root: it serves what is in its cache."""
    swarm.tasks, swarm.faults = [task(1, NEW, "new")], {"quay.io": AWAY}
    wanted = replace(request(tmp_path), registries=[cached("quay.io", required=True)])
    assert ready.wait_again(wanted) == "ready"
    assert "READY, BUT NOT FOR quay.io" in capsys.readouterr().err
    assert swarm.now == 21


def test_a_gate_that_is_ready_at_the_last_moment_asks_for_a_registry_some_seconds_more(
    swarm: Swarm, tmp_path: Path
) -> None:
    swarm.faults = {"quay.io": AWAY}
    swarm.later[58.0] = lambda: swarm.tasks.append(task(1, NEW, "new"))
    wanted = replace(request(tmp_path), registries=[cached("quay.io")])
    assert ready.wait(wanted) == "ready"
    assert swarm.now == 69, "it is ended from outside a minute after its time"


@pytest.mark.parametrize("required", [True, False])
def test_a_registry_that_no_waiting_brings_is_not_waited_for(
    swarm: Swarm, tmp_path: Path, required: bool
) -> None:
    swarm.tasks = [task(1, NEW, "new")]
    swarm.faults = {"lscr.io": Fault("lscr.io gives its tokens at ghcr.io", final=True)}
    wanted = replace(request(tmp_path), registries=[cached("lscr.io", required=required)])
    if required:
        with pytest.raises(ready.NotReady, match=r"gives its tokens at ghcr\.io"):
            ready.wait(wanted)
    else:
        assert ready.wait(wanted) == "ready"
    assert swarm.now == 0


def test_no_registry_is_asked_for_before_the_root_is_ready(swarm: Swarm, tmp_path: Path) -> None:
    swarm.tasks, swarm.upstream = [task(1, NEW, "new")], "the mirror does not reach its upstream"
    with pytest.raises(ready.NotReady, match="does not reach its upstream"):
        ready.wait(replace(request(tmp_path), registries=[cached("quay.io", required=True)]))
    assert swarm.asked == []
