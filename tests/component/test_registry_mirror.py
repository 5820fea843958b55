"""What the component declares, one test per invariant. The engine is mocked; nothing is
contacted."""

import base64
import dataclasses
import json
import ssl
import sys
from collections.abc import Callable
from typing import Any

import pulumi
import pulumi_docker as docker
import pytest

from components.registry_mirror import Bastion, InvalidArgs, RegistryMirror, runner
from components.registry_mirror.render import common, varnish
from components.registry_mirror.render.registry import (
    DRAIN_TIMEOUT,
    RegistryVersion,
    registry_config,
)
from tests.builders import DIGEST, PRIVATE_KEY, args, node
from tests.recorder import (
    COMMAND,
    COMPONENT,
    NETWORK,
    SECRET,
    SERVICE,
    Recorder,
    Registered,
    request,
    run,
)

NODES = [node("m1"), node("w1"), node("w2", user="ops", become="sudo"), node("w3")]

SOME_CERTIFICATE = (
    "MIIBcTCCARegAwIBAgIUdcNnXTUEPBCmjilfb7pXs8gVEwAwCgYIKoZIzj0EAwIwDTELMAkGA1UEAwwCY2EwIBcNMjYxMTI2MTIz"
    "ODU2WhgPMjEyNjExMDIxMjM4NTZaMA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVcOdadz8V8IrGdMg"
    "ftn+Nrg3V6aFkQJ6GqpGDLwsB33ZwPn6rNEqI6L0Kw90nqb2slzp3TBVxMaFlO8lQvU8dqNTMFEwHQYDVR0OBBYEFFAKnJEkzcdt"
    "QYU5yULPvBmRtJriMB8GA1UdIwQYMBaAFFAKnJEkzcdtQYU5yULPvBmRtJriMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwID"
    "SAAwRQIgHhcPxqIqTg9LKGqAJxJucmmz4cUVQA/5TlhLNqEO9OYCIQD/Xmsks7wA9n40Jmq2Cu04u2dE1XZhh2/HciOBZEkiAQ=="
)
"""Of an authority called `ca`; its private key was thrown away when it was made."""

SECRET_TYPE = "docker:index/secret:Secret"


def name_of_runner() -> str:
    """Of the resource that keeps the runner of this version in the state."""
    return f"mirror-runner-{runner.digest()[:12]}"


def build(
    opts: pulumi.ResourceOptions | None = None, *, preview: bool = False, **more: Any
) -> Recorder:
    settings = args(
        **{
            "nodes": NODES,
            "manager": "m1",
            "max_parallel": 1,
            "private_key": pulumi.Output.secret(PRIVATE_KEY),
            **more,
        }
    )
    return run(lambda: RegistryMirror("mirror", settings, opts), preview=preview)


def labels(found: Recorder, name: str) -> dict[str, str]:
    return {item["label"]: item["value"] for item in found.named(name).inputs["labels"]}


def test_every_child_hangs_on_the_component_and_takes_none_of_the_callers_options() -> None:
    declared = build(
        pulumi.ResourceOptions(
            aliases=[pulumi.Alias(name="old")], ignore_changes=["x"], depends_on=[]
        )
    )
    children = [resource for resource in declared.resources if resource.type != COMPONENT]
    assert len(children) == 19
    assert {child.parent for child in children} == {"mirror"}
    assert not any(child.aliases for child in children)
    assert not any("x" in child.ignore_changes for child in children)


def test_the_component_waits_for_what_the_caller_says_and_is_protected_with_all_its_children() -> (
    None
):
    def program() -> None:
        before = docker.Network("edge", driver="overlay")
        opts = pulumi.ResourceOptions(protect=True, depends_on=[before])
        RegistryMirror("mirror", args(nodes=NODES, manager="m1"), opts)

    declared = run(program)
    assert declared.named("mirror").depends_on == ["edge"]
    assert "edge" not in declared.named("mirror-storage").depends_on  # it follows from the parent
    assert {resource.protect for resource in declared.resources if resource.parent == "mirror"} == {
        True
    }


def test_the_order_is_storage_service_ready_canary_waves() -> None:
    declared = build()
    files = ["mirror-credential-helper", "mirror-evict", "mirror-start-registry", "mirror-usage"]
    assert declared.named("mirror-service").depends_on == sorted(
        ["mirror-claim", "mirror-storage", *files]
    )
    assert "mirror-service" in declared.named("mirror-front").depends_on
    assert declared.named("mirror-ready").depends_on == ["mirror-front"]
    assert declared.named("mirror-node-w1").depends_on == ["mirror-ready"]
    assert declared.named("mirror-node-m1").depends_on == ["mirror-node-w1"]
    assert declared.named("mirror-wave-2").depends_on == ["mirror-node-m1"]
    assert declared.named("mirror-node-w2").depends_on == ["mirror-wave-2"]
    assert declared.named("mirror-wave-3").depends_on == ["mirror-node-w2"]
    assert declared.named("mirror-node-w3").depends_on == ["mirror-wave-3"]


def test_a_wave_depends_on_the_whole_wave_before_it() -> None:
    declared = build(max_parallel=2)
    assert declared.named("mirror-wave-2").depends_on == ["mirror-node-m1", "mirror-node-w2"]
    assert declared.named("mirror-node-w3").depends_on == ["mirror-wave-2"]
    assert not {"create", "update", "delete"} & set(declared.named("mirror-wave-2").inputs), (
        "it only orders"
    )


def test_nodes_are_named_by_name_so_one_more_or_less_touches_no_other() -> None:
    before, after = build(), build(nodes=[NODES[3], NODES[0]])
    for name in ("mirror-node-m1", "mirror-node-w3"):
        assert before.named(name).inputs == after.named(name).inputs


def test_no_command_has_triggers_which_would_undo_what_was_just_done() -> None:
    for command in build().of(COMMAND):
        # A check that leaves nothing behind may be made anew; what has a `delete` that undoes may
        # not.
        assert not (
            "triggers" in command.inputs
            and command.inputs.get("delete", runner.WRITE) != runner.WRITE
        )
        if command.inputs.get("delete", runner.WRITE) != runner.WRITE:
            assert not command.replacement_trigger


def on_machines(declared: Recorder) -> list[Registered]:
    """The commands that go to a machine of the swarm."""
    return [
        command
        for command in declared.of(COMMAND)
        if "MIRROR_SSH" in command.inputs.get("environment", {})
    ]


def test_every_connection_pins_the_host_key_and_has_this_versions_runner() -> None:
    commands = on_machines(build())
    assert len(commands) == 7
    for command in commands:
        assert command.inputs["environment"]["MIRROR_HOST_KEY"].startswith("ssh-ed25519 ")
        assert command.inputs["environment"]["MIRROR_RUNNER"] == runner.digest()


def test_the_gate_is_waited_for_as_long_as_it_may_take() -> None:
    declared = build(ready_timeout=200)
    assert declared.named("mirror-ready").inputs["environment"]["MIRROR_SECONDS"] == "260"
    assert "MIRROR_SECONDS" not in declared.named("mirror-node-w1").inputs["environment"]


def test_the_runner_is_in_the_state_once_and_deleted_before_all_that_needs_it() -> None:
    declared = build(daemon_keys={"log-driver": "journald"})
    kept = declared.named(name_of_runner())
    assert set(kept.depends_on) == {
        *(f"mirror-node-{name}" for name in ("m1", "w1", "w2", "w3")),
        "mirror-restarts",
    }
    assert kept.inputs["stdin"] == runner.text()
    assert "create" not in kept.inputs
    # Another version is another resource, by its name: the one that goes is written, too.
    assert "triggers" not in kept.inputs
    for command in declared.of(COMMAND):
        if command is not kept:
            assert runner.text()[:200] not in json.dumps(command.inputs)
            assert len(json.dumps(command.inputs)) < 6000


def test_with_a_key_file_or_an_agent_no_private_key_is_in_the_state_at_all() -> None:
    nodes = [dataclasses.replace(machine, private_key=None) for machine in NODES]
    for file in ("~/.ssh/id_ed25519", None):
        key: Any = {"nodes": nodes, "private_key": None, "private_key_file": file}
        declared = build(**key)
        inputs = [
            resource.inputs for resource in declared.resources if resource.name != name_of_runner()
        ]
        assert "PRIVATE KEY" not in json.dumps(inputs)
        assert declared.named("mirror-node-w1").inputs["environment"].get("MIRROR_KEY_FILE") == file


def test_a_node_is_reached_by_its_own_key_and_bastion_before_those_of_all() -> None:
    key = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
    bastions = [
        Bastion(
            address=f"b{number}.test", host_key=f"ssh-ed25519 {key} comment", user="ops", port=2222
        )
        for number in (1, 2)
    ]
    own = dataclasses.replace(
        NODES[1], bastion=bastions[1], private_key_file="~/other", private_key=None
    )
    declared = build(nodes=[NODES[0], own], bastion=bastions[0], ssh_config="~/.ssh/config")
    first, second = (
        declared.named(f"mirror-node-{name}").inputs["environment"] for name in ("m1", "w1")
    )
    assert (first["MIRROR_BASTION"], second["MIRROR_BASTION"]) == (
        "ssh://ops@b1.test:2222",
        "ssh://ops@b2.test:2222",
    )
    assert first["MIRROR_BASTION_HOST_KEY"] == f"ssh-ed25519 {key}"
    assert first["MIRROR_PRIVATE_KEY"][SECRET]
    assert "MIRROR_PRIVATE_KEY" not in second
    assert second["MIRROR_KEY_FILE"] == "~/other"
    assert second["MIRROR_SSH_CONFIG"] == "~/.ssh/config"


def test_the_private_key_is_nowhere_in_the_clear() -> None:
    def clear(value: Any) -> str:
        if isinstance(value, dict):
            return "" if SECRET in value else "".join(clear(item) for item in value.values())
        return "".join(map(clear, value)) if isinstance(value, list) else str(value)

    declared = build(private_key=pulumi.Output.secret(f"CANARY-KEY{PRIVATE_KEY}"))
    for resource in declared.resources:
        assert "CANARY-KEY" not in clear(resource.inputs)


def test_a_key_that_is_known_and_none_is_refused_in_the_preview_and_not_repeated() -> None:
    with pytest.raises(pulumi.RunError, match="private_key: is not a private key") as refused:
        build(private_key=pulumi.Output.secret("hunter2"), preview=True)
    assert "hunter2" not in str(refused.value)


def test_a_key_with_the_line_ends_of_windows_is_sent_as_ssh_reads_it() -> None:
    declared = build(private_key=PRIVATE_KEY.replace("\n", "\r\n"))
    for command in on_machines(declared):
        assert command.inputs["environment"]["MIRROR_PRIVATE_KEY"]["value"] == PRIVATE_KEY


def test_without_a_docker_provider_nothing_is_declared() -> None:
    def program(opts: pulumi.ResourceOptions | None = None) -> None:
        RegistryMirror("mirror", args(nodes=NODES, manager="m1"), opts)

    with pytest.raises(
        InvalidArgs, match=r"docker provider: is missing: pulumi.ResourceOptions\(providers=\["
    ):
        run(program, docker_host=None)
    given = run(
        lambda: program(
            pulumi.ResourceOptions(providers=[docker.Provider("swarm", host="ssh://root@m1.test")])
        ),
        docker_host=None,
    )
    assert given.of(SERVICE)
    inherited = run(lambda: InAnother(program), docker_host=None)
    assert inherited.of(SERVICE)


class InAnother(pulumi.ComponentResource):
    """An estate's own component, from which the mirror has its provider."""

    def __init__(self, program: Callable[[pulumi.ResourceOptions], None]) -> None:
        providers: list[pulumi.ProviderResource] = [
            docker.Provider("swarm", host="ssh://root@m1.test")
        ]
        super().__init__(
            "estate:index:Edge", "edge", None, pulumi.ResourceOptions(providers=providers)
        )
        program(pulumi.ResourceOptions(parent=self))


@pytest.mark.parametrize("name", ["m" * 39, "a.b", "mirror-", "ü"])
def test_a_component_whose_name_swarm_would_refuse_is_refused_before(name: str) -> None:
    with pytest.raises(InvalidArgs, match="name of the component"):
        run(lambda: RegistryMirror(name, args(nodes=NODES, manager="m1")))


def test_the_longest_name_that_is_taken_gives_names_that_swarm_takes() -> None:
    declared = run(lambda: RegistryMirror("m" * 38, args(nodes=NODES, manager="m1", **CREDENTIALS)))
    made = [*declared.of("docker:index/serviceConfig:ServiceConfig"), *declared.of(SECRET_TYPE)]
    assert len(made) >= 4
    assert max(len(resource.name) for resource in made) + len("-1234567") <= 64


def test_what_a_login_shell_prints_is_in_no_output() -> None:
    found: dict[str, Any] = {}

    def program() -> None:
        mirror = RegistryMirror("mirror", args(nodes=NODES, manager="m1"))
        mirror.nodes.apply(lambda value: found.update(nodes=value))

    run(program)
    assert found == {"nodes": dict.fromkeys(("m1", "w1", "w2", "w3"), "an-id-or-word")}


def test_only_a_non_root_user_becomes_root() -> None:
    declared = build()
    assert declared.named("mirror-node-w2").inputs["environment"]["MIRROR_BECOME"] == "sudo"
    assert "MIRROR_BECOME" not in declared.named("mirror-node-w1").inputs["environment"]


def test_each_node_is_one_command_that_applies_and_undoes() -> None:
    command = build().named("mirror-node-w1")
    assert command.inputs["create"].endswith(" node.apply")
    assert command.inputs["delete"].endswith(" node.remove")
    assert "update" not in command.inputs
    assert request(command) == {
        # Another name than that of former versions, whose deletions leave what is another's.
        "owner": "mirror.2",
        "former": "mirror",
        "mirror": "https://mirror.example.com",
        "check_image": "library/hello-world:latest",
        "daemon_json": "/etc/docker/daemon.json",
        "service": "docker",
        "keys": {},
        "restart": "never",
        "accept_broken_host_gateway": False,
        "guard": False,
        "allow_from": [],
        "shared": "/var/data/registry/registry-mirror-data",
        "fallback": True,
        "registries": [],
    }


def test_the_service_publishes_no_port_and_runs_one_task_that_stops_before_the_next_starts() -> (
    None
):
    declared = build()
    assert not any("endpointSpec" in service.inputs for service in declared.of(SERVICE))
    service = declared.named("mirror-service").inputs
    assert service["mode"]["replicated"]["replicas"] == 1
    assert service["updateConfig"]["order"] == "stop-first"


def test_the_recipes_open_port_is_there_only_by_its_loud_name() -> None:
    service = build(publish_unencrypted_port_5000=True).named("mirror-service").inputs
    (port,) = service["endpointSpec"]["ports"]
    assert (port["targetPort"], port["publishedPort"]) == (5000, 5000)


def test_varnish_is_in_front_and_the_registry_behind_is_hidden_from_traefik() -> None:
    declared = build()
    front, service = labels(declared, "mirror-front"), labels(declared, "mirror-service")
    assert front["traefik.http.services.mirror-front.loadbalancer.server.port"] == "6081"
    assert service == {"traefik.enable": "false"}
    task = declared.named("mirror-front").inputs["taskSpec"]
    assert [mount.get("source") for mount in task["containerSpec"]["mounts"]] == [None], (
        "it is no second writer"
    )
    assert task["resources"]["limits"]["memoryBytes"] > 512 * 1024 * 1024


FURTHER = {
    "traefik.constraint-label": "traefik-public",
    "traefik.http.routers.mirror-front.priority": "9",
}


def test_every_service_that_traefik_reads_meets_its_constraint_and_a_router_is_on_one_of_them() -> (
    None
):
    declared = build(metrics_from=["10.9.0.0/16"], traefik_labels=FURTHER)
    assert FURTHER.items() <= labels(declared, "mirror-front").items()
    registry = labels(declared, "mirror-service")
    assert registry["traefik.constraint-label"] == "traefik-public"
    assert not [key for key in registry if key.endswith(".priority")]
    assert labels(build(traefik_labels=FURTHER), "mirror-service") == {"traefik.enable": "false"}


@pytest.mark.parametrize("coalesce", [True, False])
def test_middlewares_of_a_users_own_come_behind_the_list_of_who_may_use_the_mirror(
    coalesce: bool,
) -> None:
    router = f"traefik.http.routers.mirror{'-front' if coalesce else ''}.middlewares"
    declared = build(
        coalesce=coalesce, allow_from=["10.0.0.0/8"], traefik_labels={router: "log@file"}
    )
    name = "mirror-front" if coalesce else "mirror-service"
    service = name.removesuffix("-service")
    assert labels(declared, name)[router] == f"{service}-labels,{service}-from,log@file"
    with pytest.raises(InvalidArgs, match="is a label that the mirror has by itself"):
        build(
            coalesce=coalesce, traefik_labels={router.replace("middlewares", "rule"): "Host(`x`)"}
        )


@pytest.mark.parametrize("coalesce", [True, False])
def test_the_gate_knows_by_which_labels_traefik_is_to_answer(coalesce: bool) -> None:
    name = "mirror-front" if coalesce else "mirror-service"
    service = name.removesuffix("-service")
    header = (
        f"traefik.http.middlewares.{service}-labels.headers.customresponseheaders.Mirror-Labels"
    )
    marks = []
    each: list[dict[str, Any]] = [
        {},
        {"allow_from": ["10.0.0.0/8"]},
        {"metrics_from": ["10.0.0.0/8"]},
    ]
    for settings in each:
        declared = build(coalesce=coalesce, **settings)
        mark = request(declared.named("mirror-ready"))["labels_mark"]
        assert labels(declared, name)[header] == mark
        marks.append(mark)
    assert len({*marks, ""}) == 4
    first = build(coalesce=coalesce, traefik="v1")
    assert request(first.named("mirror-ready"))["labels_mark"] == ""


def test_the_mirror_answers_at_several_entrypoints() -> None:
    assert labels(build(entrypoint="websecure,internal"), "mirror-front")[
        "traefik.http.routers.mirror-front.entrypoints"
    ] == ("websecure,internal")


def test_the_disk_for_large_layers_is_a_word_of_varnishs_command_and_another_one_is_an_update_of_it() -> (  # noqa: E501
    None
):
    def command(**more: Any) -> list[str]:
        words: list[str] = (
            build(**more).named("mirror-front").inputs["taskSpec"]["containerSpec"]["commands"]
        )
        return words

    assert "DISK=4096" in command()
    assert "DISK=100" in command(coalesce_disk=100)
    assert len(set(command()) ^ set(command(coalesce_disk=100))) == 4, (
        "the word, and the digest by which the gate knows the task"
    )
    other, usual = build(coalesce_disk=100), build()
    changed = [
        one.name
        for one, two in zip(usual.resources, other.resources, strict=True)
        if one.inputs != two.inputs
    ]
    assert sorted(changed) == ["mirror-front", "mirror-ready"]
    assert request(other.named("mirror-ready"))["disk"] == 100
    assert request(build(coalesce=False, varnish_image=None).named("mirror-ready"))["disk"] == 0


def test_a_preview_says_what_the_two_sizes_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "info", lambda text, *_: said.append(text))
    build(preview=True, coalesce_memory=600, coalesce_disk=1600)
    assert said == [varnish.meaning(600, 1600)]
    build(preview=True, coalesce=False, varnish_image=None)
    build()
    assert len(said) == 1, "not where there is no Varnish, and not by each `up`"


def test_without_varnish_traefik_leads_to_the_registry() -> None:
    declared = build(coalesce=False, varnish_image=None)
    assert [service.name for service in declared.of(SERVICE)] == ["mirror-service"]
    assert (
        labels(declared, "mirror-service")["traefik.http.services.mirror.loadbalancer.server.port"]
        == "5000"
    )
    assert declared.named("mirror-ready").depends_on == ["mirror-service"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, {"MEMORY=512", "DISK=4096", "REFERRERS=empty"}),
        ({"coalesce_memory": 1024, "coalesce_disk": 24576}, {"MEMORY=1024", "DISK=24576"}),
        ({"referrers": "upstream"}, {"REFERRERS=upstream"}),
    ],
)
def test_varnish_is_configured_by_arguments_of_its_command(
    settings: dict[str, Any], words: set[str]
) -> None:
    container = build(**settings).named("mirror-front").inputs["taskSpec"]["containerSpec"]
    assert words <= set(container["commands"])


@pytest.mark.parametrize("coalesce", [True, False])
def test_metrics_are_routed_from_the_registry_for_scrapers_only(coalesce: bool) -> None:
    found = labels(build(coalesce=coalesce, metrics_from=["10.9.0.0/16"]), "mirror-service")
    assert (
        found["traefik.http.middlewares.mirror-metrics-from.ipallowlist.sourcerange"]
        == "10.9.0.0/16"
    )
    assert found["traefik.http.services.mirror-metrics.loadbalancer.server.port"] == "5002"


def test_varnish_shows_its_metrics_to_scrapers_only() -> None:
    declared = build(metrics_from=["10.9.0.0/16"])
    found = labels(declared, "mirror-front")
    router = "traefik.http.routers.mirror-front-metrics"
    assert "Path(`/metrics/varnish`)" in found[f"{router}.rule"]
    assert found[f"{router}.middlewares"] == "mirror-front-metrics-from"
    assert (
        found["traefik.http.middlewares.mirror-front-metrics-from.ipallowlist.sourcerange"]
        == "10.9.0.0/16"
    )
    assert found["traefik.http.services.mirror-front-metrics.loadbalancer.server.port"] == "6081"
    spec = declared.named("mirror-front").inputs["taskSpec"]["containerSpec"]
    assert "METRICS=yes" in spec["commands"]


def test_without_scrapers_nothing_leads_to_metrics_and_varnish_says_none() -> None:
    declared = build()
    assert not [label for label in labels(declared, "mirror-front") if "metrics" in label]
    spec = declared.named("mirror-front").inputs["taskSpec"]["containerSpec"]
    assert not [word for word in spec["commands"] if word.startswith("METRICS")]


def test_registry_2_has_its_configuration_where_it_looks_and_no_helper() -> None:
    declared = build(image=f"registry:2.8.3@{DIGEST}", accept_registry_2=True)
    container = declared.named("mirror-service").inputs["taskSpec"]["containerSpec"]
    assert "/etc/docker/registry/config.yml" in [mount["target"] for mount in container["mounts"]]
    assert container["commands"][2] == "/etc/docker/registry/config.yml"
    assert "mirror-credential-helper" not in [resource.name for resource in declared.resources]


@pytest.mark.parametrize(
    ("cache", "source", "options"),
    [
        ({"cache_volume": "mine", "placement_constraints": ["node.hostname == w1"]}, "mine", None),
        (
            {"cache_nfs": "nfs.test:/cache", "cache_nfs_options": "rw"},
            "mirror-cache",
            {"type": "nfs", "o": "addr=nfs.test,rw", "device": ":/cache"},
        ),
    ],
)
def test_without_a_shared_path_nothing_is_written_to_machines_and_the_configuration_is_a_swarm_config(  # noqa: E501
    cache: dict[str, Any], source: str, options: dict[str, str] | None
) -> None:
    declared = build(**cache)
    assert "mirror-storage" not in [resource.name for resource in declared.resources]
    container = declared.named("mirror-service").inputs["taskSpec"]["containerSpec"]
    (mount,) = container["mounts"]
    assert (mount["type"], mount["source"]) == ("volume", source)
    assert mount.get("volumeOptions", {}).get("driverOptions") == options
    assert "/etc/distribution/config.yml" in [config["fileName"] for config in container["configs"]]
    assert request(declared.named("mirror-node-w1"))["shared"] is None


CREDENTIALS: dict[str, Any] = {
    "upstream_username": "bot",
    "upstream_token": "CANARY-TOKEN",
    "allow_from": ["10.0.0.0/24"],
}


def test_the_upstreams_token_is_a_swarm_secret_and_nowhere_else() -> None:
    declared = build(**CREDENTIALS)
    (secret,) = declared.of("docker:index/secret:Secret")
    assert secret.inputs["data"][SECRET]
    answer = json.loads(base64.b64decode(secret.inputs["data"]["value"]))
    assert answer == {
        "ServerURL": "https://registry-1.docker.io",
        "Username": "bot",
        "Secret": "CANARY-TOKEN",
    }
    (mounted,) = declared.named("mirror-service").inputs["taskSpec"]["containerSpec"]["secrets"]
    assert (mounted["secretId"], mounted["fileMode"]) == ("mirror-credentials-id", 0o400)
    for resource in declared.resources:
        if resource is not secret:
            text = json.dumps(resource.inputs)
            assert "CANARY-TOKEN" not in text
            assert secret.inputs["data"]["value"] not in text


def test_rotated_credentials_make_a_new_task_that_the_gate_waits_for() -> None:
    plain, declared = build(allow_from=["10.0.0.0/24"]), build(**CREDENTIALS)
    assert (
        request(plain.named("mirror-ready"))["services"][0]["word"]
        != request(declared.named("mirror-ready"))["services"][0]["word"]
    )


def test_a_network_that_exists_is_found_by_its_name_and_what_a_refresh_finds_of_it_replaces_no_service() -> (  # noqa: E501
    None
):
    services = build(network="web").of(SERVICE)
    assert len(services) == 2
    for service in services:
        assert service.inputs["taskSpec"]["networksAdvanceds"] == [{"id": "web"}]
        assert "taskSpec.networksAdvanceds" in service.ignore_changes
        assert service.replacement_trigger == "web"


PROXY = "http://proxy.example.com:3128"
WITH_PASSWORD = "http://user:CANARY-PW@proxy.example.com:3128"
CERTIFICATE = ssl.DER_cert_to_PEM_cert(base64.b64decode(SOME_CERTIFICATE))


def registrys(declared: Recorder) -> dict[str, Any]:
    """The registry's container."""
    container: dict[str, Any] = declared.named("mirror-service").inputs["taskSpec"]["containerSpec"]
    return container


def test_a_proxy_in_the_clear_is_a_word_of_the_command_and_no_environment_variable() -> None:
    registry = registrys(build(upstream_proxy=PROXY, upstream_no_proxy=[".corp"]))
    assert f"PROXY={PROXY}" in registry["commands"]
    assert "NO_PROXY=localhost,127.0.0.0/8,::1,mirror,tasks.mirror,.corp" in registry["commands"]
    assert registry["env"] == {"OTEL_TRACES_EXPORTER": "none"}
    assert not registry.get("secrets")


def test_a_proxy_with_a_password_is_a_swarm_secret_and_nowhere_else() -> None:
    declared = build(upstream_proxy=pulumi.Output.secret(WITH_PASSWORD))
    (secret,) = declared.of("docker:index/secret:Secret")
    assert secret.inputs["data"][SECRET]
    assert base64.b64decode(secret.inputs["data"]["value"]).decode() == WITH_PASSWORD
    (mounted,) = registrys(declared)["secrets"]
    assert (mounted["secretId"], mounted["fileName"], mounted["fileMode"]) == (
        "mirror-upstream-proxy-id",
        "upstream-proxy",
        0o400,
    )
    assert "PROXY_FILE=/run/secrets/upstream-proxy" in registrys(declared)["commands"]
    for resource in declared.resources:
        if resource is not secret:
            text = json.dumps(resource.inputs)
            assert "CANARY-PW" not in text
            assert secret.inputs["data"]["value"] not in text


def test_a_secret_that_is_known_and_no_proxy_is_refused_in_the_preview_and_not_repeated() -> None:
    with pytest.raises(pulumi.RunError, match="upstream_proxy: must begin with http://") as refused:
        build(upstream_proxy=pulumi.Output.secret("ftp://user:CANARY-PW@proxy"), preview=True)
    assert "CANARY-PW" not in str(refused.value)


def test_authorities_are_a_swarm_config_in_a_folder_of_their_own() -> None:
    declared = build(upstream_ca=CERTIFICATE)
    assert declared.named("mirror-upstream-ca").inputs["dataRaw"] == CERTIFICATE
    (mounted,) = [
        config
        for config in registrys(declared)["configs"]
        if config["configId"] == "mirror-upstream-ca-id"
    ]
    assert (mounted["fileName"], mounted["fileMode"]) == ("/etc/upstream-ca/ca.pem", 0o444)
    assert "CA=/etc/upstream-ca" in registrys(declared)["commands"]


WAYS: list[dict[str, Any]] = [
    {"upstream_proxy": PROXY},
    {"upstream_proxy": PROXY, "upstream_no_proxy": [".corp"]},
    {"upstream_proxy": pulumi.Output.secret(WITH_PASSWORD)},
    {"upstream_ca": CERTIFICATE},
]


@pytest.mark.parametrize("way", WAYS, ids=["proxy", "exceptions", "secret proxy", "authorities"])
def test_another_way_out_is_a_new_task_of_the_same_service_and_a_gate_that_is_strict_again(
    way: dict[str, Any],
) -> None:
    before, after = build(), build(**way)
    new = {resource.name for resource in after.resources} - {
        resource.name for resource in before.resources
    }
    assert new <= {"mirror-upstream-proxy", "mirror-upstream-ca"}
    ours = [resource for resource in before.resources if resource.parent == "mirror"]
    assert {found.name for found in ours if found.inputs != after.named(found.name).inputs} == {
        "mirror-service",
        "mirror-ready",
    }
    assert (
        before.named("mirror-ready").inputs["triggers"]
        != after.named("mirror-ready").inputs["triggers"]
    )
    words = [
        request(found.named("mirror-ready"))["services"][0]["word"] for found in (before, after)
    ]
    assert words[0] != words[1]


def test_other_authorities_under_the_same_name_are_a_new_task_too() -> None:
    one, other = (
        build(upstream_ca=CERTIFICATE * number).named("mirror-ready") for number in (1, 2)
    )
    assert request(one)["services"][0]["word"] != request(other)["services"][0]["word"]
    assert one.inputs["triggers"] != other.inputs["triggers"]


def test_the_registry_gets_the_days_after_which_a_tag_is_forgotten() -> None:
    usual = registrys(build())["commands"]
    assert [word for word in usual if word.startswith("TAG_DAYS=")] == ["TAG_DAYS=30"]
    assert not [
        word for word in registrys(build(tag_days=0))["commands"] if word.startswith("TAG_DAYS=")
    ]


PINNED = "images.example.com:5000/mine/registry:3.2.0@sha256:" + "0123456789abcdef" * 4


def test_the_image_is_the_pinned_one() -> None:
    assert (
        build(image=PINNED).named("mirror-service").inputs["taskSpec"]["containerSpec"]["image"]
        == PINNED
    )


def test_a_changed_configuration_changes_storage_service_and_gate_and_no_node() -> None:
    before, after = build(), build(upstream="https://other.example.com")
    changed = {r.name for r in before.resources if r.inputs != after.named(r.name).inputs}
    assert changed == {"mirror-storage", "mirror-service", "mirror-ready"}


def test_varnish_is_declared_alike_whatever_the_registrys_arguments() -> None:
    before, after = build(), build(upstream="https://other.example.com", ttl_hours=9)
    assert before.named("mirror-front").inputs == after.named("mirror-front").inputs


def test_a_changed_route_leaves_the_task_alone() -> None:
    before, after = (
        build(entrypoint=name).named("mirror-front").inputs for name in ("websecure", "https")
    )
    assert before["labels"] != after["labels"]
    assert before["taskSpec"] == after["taskSpec"]


def test_the_gate_waits_for_exactly_this_configuration_and_image() -> None:
    declared = build()
    gate = request(declared.named("mirror-ready"))
    for service, wanted in zip(declared.of(SERVICE), gate["services"], strict=True):
        container = service.inputs["taskSpec"]["containerSpec"]
        assert service.inputs["name"] == wanted["service"]
        assert container["commands"][-1] == wanted["word"]
        assert container["image"] == wanted["image"]
    assert "delete" not in declared.named("mirror-ready").inputs


def test_nothing_is_declared_that_the_docker_plugin_replaces_a_service_for() -> None:
    for service in build(**CREDENTIALS, metrics_from=["10.0.0.0/8"]).of(SERVICE):
        assert "labels" not in service.inputs["taskSpec"]["containerSpec"]
        # There at the first `up`; a service that was there before, an adopted one, stays as it is.
        assert "taskSpec.containerSpec.sysctl" in service.ignore_changes
        assert "taskSpec.containerSpec.labels" in service.ignore_changes


def test_a_container_has_what_it_needs_and_nothing_else() -> None:
    declared = build(metrics_from=["10.0.0.0/8"])
    front, mirror = (
        declared.named(name).inputs["taskSpec"]["containerSpec"]
        for name in ("mirror-front", "mirror-service")
    )
    assert [container["readOnly"] for container in (front, mirror)] == [True, True]
    assert [container["capDrops"] for container in (front, mirror)] == [["ALL"], ["ALL"]]
    assert "capAdds" not in front
    assert mirror["capAdds"] == ["CAP_DAC_OVERRIDE"]
    assert [mount["target"] for mount in front["mounts"] if not mount["readOnly"]] == ["/tmp"]
    assert [mount["target"] for mount in mirror["mounts"] if not mount["readOnly"]] == [
        "/var/lib/registry"
    ]


def test_the_metrics_are_served_alone_where_somebody_may_read_them() -> None:
    for scrapers, words in (["10.0.0.0/8"], ["METRICS=5002"]), ([], []):
        commands = (
            build(metrics_from=scrapers)
            .named("mirror-service")
            .inputs["taskSpec"]["containerSpec"]["commands"]
        )
        assert [word for word in commands if "METRICS" in word] == words


def test_what_docker_adds_to_a_service_by_itself_is_no_change() -> None:
    for service in build().of(SERVICE):
        assert "taskSpec.placement.platforms" in service.ignore_changes
        assert service.inputs["taskSpec"]["restartPolicy"]["window"] == "0s"


def test_a_container_has_one_environment_variable_at_most_because_several_come_in_another_order_each_time() -> (  # noqa: E501
    None
):
    for service in build(**CREDENTIALS, metrics_from=["10.0.0.0/8"]).of(SERVICE):
        assert len(service.inputs["taskSpec"]["containerSpec"].get("env", {})) <= 1


def test_a_task_that_is_stopped_has_time_for_what_it_is_sending() -> None:
    drain = int(DRAIN_TIMEOUT.removesuffix("s"))
    for service in build().of(SERVICE):
        assert (
            int(service.inputs["taskSpec"]["containerSpec"]["stopGracePeriod"].removesuffix("s"))
            > 2 * drain
        )


def test_a_network_that_the_caller_has_as_an_output_is_asked_nobody_for() -> None:
    declared = build(network_id=pulumi.Output.from_input("the-id"))
    assert [resource for resource in declared.resources if resource.name == "mirror-network"] == []
    for name in ("mirror-service", "mirror-front"):
        assert declared.named(name).inputs["taskSpec"]["networksAdvanceds"] == [{"id": "the-id"}]
        assert "taskSpec.networksAdvanceds" not in declared.named(name).ignore_changes
        assert declared.named(name).replacement_trigger is None
    assert request(declared.named("mirror-claim"))["network"] is None


def test_a_network_of_our_own_is_a_resource() -> None:
    (network,) = build(create_network=True).of(NETWORK)
    assert network.inputs == {"name": "traefik_public", "driver": "overlay", "attachable": True}
    assert request(build(create_network=True).named("mirror-claim"))["network"] is None


def test_a_preview_with_everything_unknown_declares_the_same_resources() -> None:
    # Sorted: those that wait for the same are registered in any order.
    previewed, built = build(preview=True), build()
    assert sorted(r.name for r in previewed.resources) == sorted(r.name for r in built.resources)


def test_outputs_are_what_the_class_promises() -> None:
    outputs: dict[str, Any] = {}

    def program() -> None:
        mirror = RegistryMirror("mirror", args(nodes=NODES, manager="m1"))
        for name in RegistryMirror.__annotations__:
            getattr(mirror, name).apply(lambda value, name=name: outputs.__setitem__(name, value))

    run(program)
    config = registry_config("mirror", "https://registry-1.docker.io", RegistryVersion((3, 1, 1)))
    assert outputs.pop("config_digest") == common.digest(config)
    assert outputs == {
        "url": "https://mirror.example.com",
        "registries": [{"name": "docker.io", "prefix": "mirror.example.com", "fallback": True}],
        "metrics": [],
        "service_id": "mirror-service-id",
        "network": "traefik_public",
        "nodes": dict.fromkeys(["m1", "w1", "w2", "w3"], "an-id-or-word"),
        "restarts": "",
    }


def test_the_gate_is_strict_with_another_upstream_or_account_and_warns_where_the_mirror_has_served_from_it() -> (  # noqa: E501
    None
):
    before = build().named("mirror-ready").inputs
    assert before["create"].endswith(" ready.wait")
    assert before["update"].endswith(" ready.wait_again")
    assert before["logging"] == "stderr", "a warning is shown"
    assert before["triggers"] == build(coalesce_memory=500).named("mirror-ready").inputs["triggers"]
    other = build(upstream="https://registry.example.com").named("mirror-ready").inputs
    account = (
        build(upstream_username="me", upstream_token="token", allow_from=["10.0.0.0/8"])
        .named("mirror-ready")
        .inputs
    )
    assert len({json.dumps(inputs["triggers"]) for inputs in (before, other, account)}) == 3
    assert "token" not in json.dumps(account["triggers"])


def test_keys_that_every_docker_reloads_need_no_rolling_restart() -> None:
    declared = build(daemon_keys={"debug": True}, restart="never")
    assert "mirror-restarts" not in [command.name for command in declared.of(COMMAND)]
    assert request(declared.named("mirror-node-w1"))["keys"] == {"debug": True}


def test_where_restarts_are_allowed_a_key_that_was_managed_before_can_be_taken_back_by_one() -> (
    None
):
    command = build(restart="when-needed").named("mirror-restarts")
    assert command.inputs["create"].endswith(" run.run")


@pytest.mark.parametrize("restart", ["never", "when-needed"])
def test_keys_that_may_need_a_restart_declare_one_after_the_last_wave_and_a_way_back(
    restart: str,
) -> None:
    declared = build(daemon_keys={"log-driver": "journald"}, restart=restart)
    command = declared.named("mirror-restarts")
    assert (command.name, command.parent) == ("mirror-restarts", "mirror")
    assert set(command.depends_on) >= {"mirror-node-w3", "mirror-node-w1"}
    assert command.inputs["create"].endswith(" run.run")
    assert command.inputs["delete"].endswith(" run.release")
    assert "update" not in command.inputs
    keys = command.inputs["environment"]["MIRROR_PRIVATE_KEYS"]
    assert set(json.loads(keys["value"])) == {"m1", "w1", "w2", "w3"}
    assert keys[SECRET]
    asked = request(command)
    assert asked["nodes"][1]["environment"]["MIRROR_SSH"] == "ssh://root@w1.example.com:22"
    assert not any("MIRROR_PRIVATE_KEY" in node["environment"] for node in asked["nodes"])
    assert (asked["restart"], asked["restart_keys"], asked["manager"]) == (
        restart,
        ["log-driver"],
        "m1",
    )
    said = {"outcome": "an-id-or-word", "pending": [], "upstream_reached": True}
    assert asked["told"] == dict.fromkeys(["m1", "w1", "w2", "w3"], said)


def test_a_changed_allow_list_is_a_reason_to_ask_every_node_whether_it_is_let_in() -> None:
    before, after = build(), build(allow_from=["10.0.0.0/24"])
    assert request(before.named("mirror-node-w1")) != request(after.named("mirror-node-w1"))


def test_the_service_takes_the_callers_name() -> None:
    declared = build(service_name="cache")
    assert declared.named("mirror-service").inputs["name"] == "cache"
    assert request(declared.named("mirror-node-w1"))["owner"] == "cache.2"


def test_constraints_place_the_task_and_the_last_one_is_never_taken_away_which_would_end_the_managers_docker() -> (  # noqa: E501
    None
):
    tied = (
        build(placement_constraints=["node.labels.storage == shared"])
        .named("mirror-service")
        .inputs["taskSpec"]
    )
    assert tied["placement"] == {
        "constraints": ["node.platform.os == linux", "node.labels.storage == shared"]
    }
    assert (
        request(build(placement_constraints=["node.role == manager"]).named("mirror-node-w1"))[
            "shared"
        ]
        is None
    )
    for service in build().of(SERVICE):
        assert service.inputs["taskSpec"]["placement"] == {
            "constraints": ["node.platform.os == linux"]
        }


def test_two_mirrors_live_side_by_side() -> None:
    def program() -> None:
        for name in ("hub", "quay"):
            RegistryMirror(name, args(hostname=f"{name}.example.com", nodes=NODES))

    assert len({resource.name for resource in run(program).of(SERVICE)}) == 4


@pytest.mark.parametrize("count", [1, 50])
def test_the_graph_grows_by_one_resource_per_node_and_one_per_wave(count: int) -> None:
    nodes = [node(f"n{index}") for index in range(count)]
    assert len(build(nodes=nodes, manager="n0", max_parallel=10).resources) == count + 14 + max(
        0, (count - 2) // 10
    )


def test_many_nodes_one_after_the_other_are_no_depth_of_recursion() -> None:
    nodes = [node(f"n{index}") for index in range(160)]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)  # of 1000: for those it takes some 450 nodes, and seconds
    try:
        last = build(nodes=nodes, manager="n0", max_parallel=1).named("mirror-node-n159")
    finally:
        sys.setrecursionlimit(limit)
    assert last.depends_on == ["mirror-wave-159"]


MAKES_NOTHING = {"mirror", "mirror-identity"}
"""What may come before the claim: it makes nothing on the swarm."""


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"create_network": True},
        {"coalesce": False, "varnish_image": None},
        {"cache_nfs": "nfs.test:/cache"},
        {"upstream_username": "bot", "upstream_token": "t", "allow_from": ["10.0.0.0/24"]},
        {"daemon_keys": {"log-driver": "journald"}, "restart": "when-needed"},
    ],
)
def test_nothing_is_made_before_hostname_names_and_cache_are_claimed(
    settings: dict[str, Any],
) -> None:
    declared = build(**settings)
    made = {
        resource.name: resource
        for resource in declared.resources
        if resource.type != "pulumi:pulumi:Stack"
    }

    def follows_the_claim(name: str) -> bool:
        return name == "mirror-claim" or any(
            follows_the_claim(before) for before in made[name].depends_on if before in made
        )

    early = {name for name in made if not follows_the_claim(name)}
    assert early == MAKES_NOTHING
    assert declared.named("mirror-claim").inputs["create"].endswith(" claim.take")
    assert declared.named("mirror-claim").inputs["delete"].endswith(" claim.release")


def test_the_claim_names_all_that_only_one_mirror_can_have_and_who_asks() -> None:
    asked = request(build(service_name="cache").named("mirror-claim"))
    assert asked == {
        "identity": "an-id-or-word.2",
        "former": "an-id-or-word",
        "stack": "swarm-registry-mirror/test/mirror",
        "hostname": "mirror.example.com",
        "entrypoint": "websecure",
        "services": ["cache", "cache-front"],
        "front": "cache-front",
        "routers": ["cache", "cache-front", "cache-metrics", "cache-front-metrics"],
        "cache": {"path": "/var/data/registry/registry-mirror-data"},
        "cache_target": "/var/lib/registry",
        "config_path": "/var/data/registry/registry-mirror-config.yml",
        "marker": "# Written by swarm-registry-mirror",
        "network": "traefik_public",
    }
    nfs = request(build(cache_nfs="nfs.test:/cache").named("mirror-claim"))
    assert (nfs["cache"], nfs["config_path"]) == (
        {"nfs": {"addr": "nfs.test", "device": ":/cache"}},
        None,
    )


def test_an_identity_is_drawn_once_and_marks_the_cache_too() -> None:
    declared = build()
    assert declared.named("mirror-identity").ignore_changes == ["create"]
    assert request(declared.named("mirror-storage"))["identity"] == "an-id-or-word.2"


def test_where_a_daemon_key_is_a_secret_every_request_that_carries_it_is_one() -> None:
    keys = {"proxies": {"http-proxy": "http://user:CANARY@proxy:3128"}}
    declared = build(daemon_keys=keys, restart="when-needed", daemon_keys_are_secret=True)
    carrying = [
        resource for resource in declared.resources if "CANARY" in json.dumps(resource.inputs)
    ]
    nodes = {f"mirror-node-{name}" for name in ("m1", "w1", "w2", "w3")}
    assert {resource.name for resource in carrying} == {*nodes, "mirror-restarts"}
    for resource in carrying:
        stdin = resource.inputs.pop("stdin")
        assert stdin[SECRET]
        assert "CANARY" in stdin["value"]
        assert "CANARY" not in json.dumps(resource.inputs)


def test_where_none_is_a_secret_a_preview_can_show_a_nodes_request() -> None:
    assert isinstance(
        build(daemon_keys={"debug": True}).named("mirror-node-w1").inputs["stdin"], str
    )


def test_a_limit_of_the_cache_is_words_of_the_registrys_command_and_nothing_else() -> None:
    without, limited = build(), build(cache_limit="200GB", cache_free_floor="10%")
    before = without.named("mirror-service").inputs
    after = limited.named("mirror-service").inputs
    commands = [service["taskSpec"]["containerSpec"].pop("commands") for service in (before, after)]
    assert before == after
    assert [word for word in commands[1] if word not in commands[0]] == [
        "LIMIT=200000000000",
        "FLOOR=10%",
        "ROUND=2",
    ]
    assert {resource.name for resource in without.resources} == {
        resource.name for resource in limited.resources
    }
    front = [declared.named("mirror-front").inputs for declared in (without, limited)]
    assert front[0] == front[1]


def test_no_more_of_its_files_are_made_or_removed_at_once_than_an_sshd_lets_in() -> None:
    """Ten that are not logged in yet (sshd_config(5), MaxStartups), with two mirrors at once."""
    declared = build(**CREDENTIALS)
    made = {resource.name: resource for resource in declared.resources}
    waits = {
        name: [
            before
            for before in made[name].depends_on
            if before in ("mirror-start-registry", "mirror-usage")
        ]
        for name in ("mirror-start-registry", "mirror-usage", "mirror-evict")
    }
    assert waits["mirror-start-registry"] == []
    assert waits["mirror-usage"] == ["mirror-start-registry"]
    assert "mirror-usage" in waits["mirror-evict"]
