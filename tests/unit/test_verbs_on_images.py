"""`warm`, `prepull`, `why` and `purge`: what is asked of whom, what is printed, and the exit
codes."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from components.registry_mirror.cli import __main__ as command
from components.registry_mirror.cli import deployed, nodes, prepull, warm
from components.registry_mirror.cli import stack as stacks
from components.registry_mirror.cli.deployed import Machine
from components.registry_mirror.node_agent import engine, files, stats
from components.registry_mirror.node_agent import prepull as prepull_agent
from components.registry_mirror.node_agent import warm as warm_agent
from components.registry_mirror.node_agent.verb_request import (
    PrepullRequest,
    RunningRequest,
    WarmImage,
    WarmRequest,
)
from components.registry_mirror.render.clients import Served
from tests.builders import mirror, node_answer

DIGEST = "sha256:" + "d" * 64
SERVED = [Served("docker.io", "mirror.test"), Served("ghcr.io", "mirror.test/ghcr.io")]
MIRROR = replace(mirror("n1", "n2", "n3", "n4", manager="n2"), registries=SERVED)

Reply = tuple[int, str, str]
Asked = list[tuple[str, str, Any]]


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Reply]], Asked]:
    """Takes what machines answer to (action, machine, request), and gives what was asked."""

    def become(reply: Callable[[str, Machine, Any], Reply]) -> Asked:
        asked: Asked = []

        def agent(action: str, machine: Machine, request: str, *_: Any, **__: Any) -> Reply:
            asked.append((action, machine.name, json.loads(request)))
            return reply(action, machine, json.loads(request))

        class Stack:
            def state(self) -> None: ...

        monkeypatch.setattr(nodes, "_agent", agent)
        monkeypatch.setattr(stacks, "mirrors", lambda options: [MIRROR])
        monkeypatch.setattr(stacks, "chosen", lambda options: Stack())
        monkeypatch.setattr(deployed, "mirrors", lambda state, name=None: [MIRROR])
        return asked

    return become


def warmed(name: str, outcome: str = "warm", **more: Any) -> dict[str, Any]:
    usual = warm_agent.Warmed(name, outcome, digest=DIGEST if outcome == "warm" else "", size=2000)
    return {**usual._asdict(), **more}


def fine(action: str, machine: Machine, request: Any) -> Reply:
    if action == "warm.running":
        entries = [
            {"image": f"traefik:v3.7@{DIGEST}", "services": ["t"]},
            {"image": "quay.io/a/b:1", "services": ["q", "r"]},
            {"image": f"docker.io/library/traefik:v3.7@{DIGEST}", "services": ["u"]},
        ]
        return 0, json.dumps(entries), ""
    if action == "warm.run":
        (image,) = request["images"]
        return 0, json.dumps([warmed(image["name"])]), ""
    if action == "prepull.run":
        pulled = {"outcome": "pulled", "reason": "", "seconds": 1, "size": 5}
        return 0, json.dumps([{"image": image, **pulled} for image in request["images"]]), ""
    return 0, "1", ""


# -------------------------------------------------------------------------------------------- warm


def test_each_image_is_asked_for_once_of_the_manager_by_its_path_at_the_mirror(
    swarm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = swarm(fine)
    words = ["warm", "traefik:v3.7", "library/traefik:v3.7", "ghcr.io/a/b:1", "--reserve", "3"]
    assert command.main([*words, "--bandwidth", "50MB/s", "--minutes", "5"]) == 0
    assert [(action, machine) for action, machine, _ in asked] == [("warm.run", "n2")] * 2
    requests = [request for _, _, request in asked]
    assert [each["images"][0]["repository"] for each in requests] == [
        "library/traefik",
        "ghcr.io/a/b",
    ]
    assert {each["bandwidth"] for each in requests} == {50_000_000}
    assert {(each["reserve"], each["seconds"]) for each in requests} == {(3, 300)}
    out, err = capsys.readouterr()
    assert "1 of 2  traefik:v3.7: 2.0 kB, all of it was there" in err
    assert DIGEST[7:19] in out


def test_a_bad_image_is_named_and_the_rest_goes_on(
    swarm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(action: str, machine: Machine, request: Any) -> Reply:
        name = request["images"][0]["name"]
        outcome = "failed" if name == "nobody:1" else "warm"
        return 0, json.dumps([warmed(name, outcome, reason="none such" * (outcome != "warm"))]), ""

    swarm(reply)
    assert command.main(["warm", "Traefik", "quay.io/x/y", "nobody:1", "traefik", "--json"]) == 1
    found = {entry["image"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {name: entry["outcome"] for name, entry in found.items()} == {
        "Traefik": "failed",
        "quay.io/x/y": "failed",
        "nobody:1": "failed",
        "traefik:latest": "warm",
    }
    assert "does not cache" in found["quay.io/x/y"]["reason"]


def test_of_the_images_that_run_those_of_other_registries_are_no_failure(
    swarm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = swarm(fine)
    assert command.main(["warm", "--from-running", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(entry["outcome"]) for entry in found] == ["not cached", "warm"]
    assert [action for action, _, _ in asked] == ["warm.running", "warm.run"], "each image once"


def test_a_manager_that_is_away_ends_it_and_is_said(
    swarm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = swarm(lambda *_: (255, "", "no answer within 8 s"))
    assert command.main(["warm", "traefik", "ghcr.io/a/b"]) == 2
    assert len(asked) == 1
    assert "n2: no answer within 8 s" in capsys.readouterr().out
    assert command.main(["warm", "--from-running"]) == 2
    assert "n2: no answer within 8 s" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["Welcome", "{}", "[]", '[{"name": "x"}]', "[5]", "[" * 3000])
def test_an_answer_of_another_shape_is_a_failure_of_that_image(swarm: Any, text: str) -> None:
    swarm(lambda *_: (0, text, ""))
    assert command.main(["warm", "traefik"]) == 1


@pytest.mark.parametrize("verb", ["warm", "prepull"])
def test_without_an_image_it_is_said_what_to_name(
    swarm: Any, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    swarm(fine)
    assert command.main([verb]) == 64
    assert "--from-running" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "number"),
    [("50MB/s", 50_000_000), ("10MiB/s", 10 << 20), ("500kB", 500_000), ("7 B/s", 7)],
)
def test_a_bandwidth_is_read(text: str, number: int) -> None:
    assert warm.bandwidth(text) == number


@pytest.mark.parametrize(
    "text", ["", "50", "0MB/s", "-1MB/s", "1e3MB", "50Mbit/s", "fast", "50MB/h"]
)
def test_what_is_no_bandwidth_is_wrong_usage(
    swarm: Any, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    swarm(fine)
    with pytest.raises(SystemExit) as ended:
        command.main(["warm", "traefik", f"--bandwidth={text}"])
    assert ended.value.code == 64
    assert "write it like 50MB/s" in capsys.readouterr().err


class _Reader:
    def __init__(self, *_: Any) -> None: ...

    def warm(self, image: WarmImage) -> warm_agent.Warmed:
        return warm_agent.Warmed(image.name, "warm", digest=DIGEST)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "info", lambda unit: {})
    monkeypatch.setattr(files, "read", lambda path: None)
    monkeypatch.setattr(warm_agent, "swarm_platforms", lambda: ["linux/amd64"])
    monkeypatch.setattr(warm_agent, "Reader", _Reader)


def request(**more: Any) -> WarmRequest:
    images = [WarmImage("a", "library/a", "1"), WarmImage("g", "ghcr.io/g", "1", root=False)]
    images.append(WarmImage("b", "library/b", "1"))
    return WarmRequest("https://m.test", "/d.json", "docker", images, 60, hub=True, **more)


def test_of_docker_hubs_quota_so_much_is_left_for_others(
    agent: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([11, 10])
    monkeypatch.setattr(stats, "quota", lambda: {"left": next(left), "of": 100, "hours": 6})
    found = json.loads(warm_agent.run(request(reserve=10)))
    assert [entry["outcome"] for entry in found] == ["warm", "warm", "skipped"]
    assert "RM257" in found[2]["reason"]
    assert [entry["quota"].get("left") for entry in found] == [11, None, 10]


def test_where_the_quota_is_not_known_everything_is_warmed(
    agent: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stats, "quota", lambda: None)
    assert warm_agent.apply(request(reserve=10, required=True)) == "warm"
    assert capsys.readouterr().err == ""


def test_a_cold_image_is_a_warning_of_an_up_unless_it_is_required(
    agent: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stats, "quota", lambda: {"left": 0, "of": 100, "hours": 6})
    assert warm_agent.apply(request()) == "1 of 3 warm"
    assert capsys.readouterr().err.count("NOT WARMED: ") == 2
    with pytest.raises(files.Failed, match="RM257"):
        warm_agent.apply(request(required=True))


def test_the_images_of_all_services_are_named_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    services = [
        {"Spec": {"Name": name, "TaskTemplate": {"ContainerSpec": {"Image": image}}}}
        for name, image in (("a", "x:1"), ("b", "y:1"), ("c", "x:1"))
    ]
    services.append({"Spec": {"Name": "plugin", "TaskTemplate": {"PluginSpec": {}}}})
    monkeypatch.setattr(
        engine, "run", lambda *words: "1 2" if "ls" in words else json.dumps(services)
    )
    found = json.loads(warm_agent.running(RunningRequest()))
    assert found == [
        {"image": "x:1", "services": ["a", "c"]},
        {"image": "y:1", "services": ["b"]},
    ]


# ----------------------------------------------------------------------------------------- prepull


def test_nodes_pull_the_digest_that_the_mirror_has_the_canary_first(swarm: Any) -> None:
    asked = swarm(fine)
    assert command.main(["prepull", "ghcr.io/a/b:1", f"mirror.test/ghcr.io/c/d:2@{DIGEST}"]) == 0
    pulls = [
        (machine, request["images"])
        for action, machine, request in asked
        if action == "prepull.run"
    ]
    assert pulls[0][0] == "n1"
    assert sorted(machine for machine, _ in pulls) == ["n1", "n2", "n3", "n4"]
    assert pulls[0][1] == [f"ghcr.io/a/b@{DIGEST}", f"mirror.test/ghcr.io/c/d@{DIGEST}"]
    assert [action for action, _, _ in asked].index("prepull.run") == 2, "the mirror first"


def test_waves_are_as_large_as_the_last_roll_outs() -> None:
    found = prepull.waves(mirror("a", "b", "c", "d", "e", "f", at_once=2))
    assert [[node.name for node in wave] for wave in found] == [
        ["a"],
        ["b", "c"],
        ["d", "e"],
        ["f"],
    ]


def test_a_dead_node_is_named_and_the_rest_goes_on(
    swarm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(action: str, machine: Machine, request: Any) -> Reply:
        if action == "prepull.run" and machine.name == "n1":
            return 255, "", "no answer within 8 s"
        return fine(action, machine, request)

    swarm(reply)
    assert command.main(["prepull", "traefik"]) == 2
    text = capsys.readouterr().out
    assert "n1: no answer within 8 s" in text
    assert text.count("pulled") == 3


def test_what_the_mirror_cannot_have_is_pulled_nowhere(
    swarm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = swarm(lambda *_: (0, json.dumps([warmed("x:1", "failed", reason="none such")]), ""))
    assert command.main(["prepull", "x:1"]) == 1
    assert [action for action, _, _ in asked] == ["warm.run"]
    assert "pulled nowhere: none such" in capsys.readouterr().out


def test_a_node_pulls_only_what_it_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {f"a@{DIGEST}"}
    pulled: list[str] = []

    def run(*words: str, seconds: float = 0) -> str:
        if words[:2] == ("docker", "pull"):
            if words[-1].startswith("bad"):
                raise engine.EngineProblem("`docker pull` failed: no such manifest")
            pulled.append(words[-1])
            here.add(words[-1])
            return ""
        if words[-1] not in here:
            raise engine.EngineProblem("no such image")
        return "700"

    monkeypatch.setattr(engine, "run", run)
    images = [f"{name}@{DIGEST}" for name in ("a", "bad", "b")]
    found = json.loads(prepull_agent.run(PrepullRequest(images, 60)))
    assert [entry["outcome"] for entry in found] == ["here", "failed", "pulled"]
    assert pulled == [f"b@{DIGEST}"]
    late = json.loads(prepull_agent.run(PrepullRequest([f"c@{DIGEST}"], 0)))
    assert "RM267" in late[0]["reason"]


# ------------------------------------------------------------------------------------------- purge


def cache(
    on: str = "n3", found: Sequence[Any] = (["1"], 2, 3), ban: str = "n4", away: Sequence[str] = ()
) -> Callable[..., Reply]:
    """A swarm whose registry's task is on one machine, and whose Varnish is on another."""

    def reply(action: str, machine: Machine, request: Any) -> Reply:
        if machine.name in away:
            return 255, "", "no answer within 8 s"
        if action == "purge.ban":
            return 0, "1" if machine.name == ban else "0", ""
        names = ("tags", "manifests", "layers")
        values = found if machine.name == on else ([], 0, 0)
        entry = {"here": machine.name == on, **dict(zip(names, values, strict=True)), "bytes": 9}
        return 0, json.dumps(entry), ""

    return reply


def test_what_goes_is_removed_where_the_task_is_and_then_from_varnish(
    swarm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = swarm(cache())
    assert command.main(["purge", "ghcr.io/a/b:1", "--yes"]) == 0
    actions = [action for action, _, _ in asked]
    assert actions.index("purge.run") < actions.index("purge.ban")
    assert [machine for action, machine, _ in asked if action == "purge.run"] == ["n3"]
    settings = next(request for action, _, request in asked if action == "purge.run")
    assert settings == {
        "service": "s-ghcr-io",
        "folder": "registries/ghcr.io",
        "repository": "a/b",
        "reference": "1",
    }
    assert next(request for action, _, request in asked if action == "purge.ban") == {
        "front": "s-front",
        "repository": "ghcr.io/a/b",
    }
    text = capsys.readouterr().out
    assert "the tag 1, 2 manifests, 3 layers" in text
    assert "removed" in text


def test_nothing_is_removed_unless_somebody_says_yes(
    swarm: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = swarm(cache())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert command.main(["purge", "traefik"]) == 64
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "")
    assert command.main(["purge", "traefik"]) == 1
    assert {action for action, _, _ in asked} == {"purge.look"}
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert command.main(["purge", "traefik"]) == 0


@pytest.mark.parametrize(
    ("image", "reply", "code", "words"),
    [
        ("traefik", cache(found=([], 0, 0)), 1, "is not in the cache of m; nothing was removed"),
        ("quay.io/a/b", cache(), 1, "does not cache"),
        ("../x", cache(), 1, "must be an image"),
        ("traefik", cache(on="nowhere"), 1, "no machine has the task of s"),
        ("traefik", cache(away=["n3"]), 2, "n3: no answer within 8 s"),
        ("traefik", cache(ban="nowhere"), 2, "for ten minutes more"),
        ("traefik", cache(away=["n4"]), 2, "n4: no answer within 8 s"),
    ],
    ids=[
        "not there",
        "not cached",
        "no name",
        "no task",
        "task away",
        "no Varnish",
        "Varnish away",
    ],
)
def test_what_cannot_be_purged_is_said_once(
    swarm: Any,
    capsys: pytest.CaptureFixture[str],
    image: str,
    reply: Callable[..., Reply],
    code: int,
    words: str,
) -> None:
    swarm(reply)
    assert command.main(["purge", image, "--yes"]) == code
    assert capsys.readouterr().out.count(words) == 1


# --------------------------------------------------------------------------------------------- why


def test_why_asks_each_node_that_answers_and_names_the_one_that_does_not(
    swarm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    look = node_answer()
    facts = {"status": 200, "digest": DIGEST, "age": 1, "registry": "", "upstream": ""}
    facts |= {"fault": "", "refused": "", "proxy": "", "copies": [], "store": "classic"}

    def reply(action: str, machine: Machine, request: Any) -> Reply:
        if machine.name == "n3":
            return 255, "", "no answer within 8 s"
        if action == "route.look" and machine.name == "n4":
            return 1, "", "docker does not answer [RM208]"
        return 0, json.dumps(look if action == "node.look" else facts), ""

    asked = swarm(reply)
    assert command.main(["why", "traefik:v3.7", "--json"]) == 2
    found = {entry["node"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {node: entry["goes"] for node, entry in found.items()} == {
        "n1": "mirror",
        "n2": "mirror",
        "n3": "NOT KNOWN",
        "n4": "NOT KNOWN",
    }
    assert "[RM208]" in found["n4"]["reason"]
    assert sorted(machine for action, machine, _ in asked if action == "route.look") == [
        "n1",
        "n2",
        "n4",
    ]
    assert asked[-1][2]["names"] == ["traefik:v3.7", "mirror.test/library/traefik:v3.7"]


def test_why_an_image_of_a_registry_that_is_not_cached_asks_nobody(
    swarm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = swarm(fine)
    assert command.main(["why", "quay.io/a/b"]) == 1
    assert "is of quay.io, which this mirror does not cache" in capsys.readouterr().out
    assert asked == []


# ------------------------------------------------------------------------------------------- stats


def test_every_machine_is_asked_for_the_notes_of_every_registry(
    swarm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("requests", "misses", "served_bytes", "fetched_bytes", "evicted_layers")
    numbers = dict.fromkeys((*names, "evicted_bytes", "cached_bytes", "oldest_use"), 0)
    entry = {"registry": "ghcr.io", "counters": {"hits": 3}, "hours": 1, "hits": 2, **numbers}
    entry["top"] = {"a/b:1": 4}

    def reply(action: str, machine: Machine, request: Any) -> Reply:
        if machine.name == "n1":
            return 255, "", "no answer within 8 s"
        if action == "stats.look":
            known = {"registry": {"hits": 1}, "varnish": None, "quota": None, "cached": None}
            return 0, json.dumps(known), ""
        return 0, json.dumps([entry] if machine.name == "n3" else []), ""

    asked = swarm(reply)
    assert command.main(["stats", "--days", "3", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [each["registry"] for each in found["registries"]] == ["ghcr.io"]
    assert found["top"] == {"ghcr.io/a/b:1": 4}
    requests = [request for action, _, request in asked if action == "usage.look"]
    assert len(requests) == len(MIRROR.nodes)
    assert requests[0]["days"] == 3
    assert requests[0]["services"] == [
        {"registry": "", "service": "s", "folder": ""},
        {"registry": "ghcr.io", "service": "s-ghcr-io", "folder": "registries/ghcr.io"},
    ]
