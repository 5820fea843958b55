"""What is read off a mirror that somebody has set up by hand, and what cannot be taken over."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import event, given
from hypothesis import strategies as st

from components import registry_mirror
from components.registry_mirror import InvalidArgs, RegistryMirrorArgs
from components.registry_mirror.cli.adopt.describe import (
    ORDER,
    AdoptError,
    Found,
    Machine,
    config_path,
    mirror_among,
    program,
    settings_of,
    stack_file,
)
from components.registry_mirror.cli.adopt.find import Ssh, _files, find, json_values
from config.keys import KEYS
from config.settings import parse
from tests.builders import DIGEST, ED25519, PRIVATE_KEY

RECIPE = Path(__file__).resolve().parents[1] / "e2e" / "recipe"
CONFIG = (RECIPE / "registry-mirror-config.yml").read_text()
NETWORKS = {"n1": "traefik_public", "n2": "other"}


def service(**changes: Any) -> dict[str, Any]:
    """The recipe's, as `docker service inspect` shows it."""
    about: dict[str, Any] = {
        "name": "registry_registry-mirror",
        "image": "registry:2@sha256:abc",
        "labels": {
            "traefik.frontend.rule": "Host:mirror.example.com",
            "traefik.docker.network": "traefik_public",
            "traefik.port": "5000",
        },
        "mounts": [
            {"Type": "bind", "Source": "/var/data/cache", "Target": "/var/lib/registry"},
            {
                "Type": "bind",
                "Source": "/var/data/mirror.yml",
                "Target": "/etc/docker/registry/config.yml",
            },
        ],
        "networks": ["n1"],
        "ports": [5000],
        "mode": {"Replicated": {"Replicas": 1}},
        "constraints": [],
        "env": [],
        "args": None,
        **changes,
    }
    return {
        "ID": "3x6vsb8bcg70ct5xes6zmr333",
        "Spec": {
            "Name": about["name"],
            "Labels": about["labels"],
            "Mode": about["mode"],
            "EndpointSpec": {"Ports": [{"PublishedPort": port} for port in about["ports"]]},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": about["image"],
                    "Mounts": about["mounts"],
                    "Env": about["env"],
                    "Args": about["args"],
                },
                "Networks": [{"Target": network} for network in about["networks"]],
                "Placement": {"Constraints": about["constraints"]},
            },
        },
    }


def traefik(tag: str) -> dict[str, Any]:
    return service(name="traefik", image=f"traefik:{tag}", labels={}, mounts=[], ports=[443])


def found(
    *others: dict[str, Any],
    config: str = CONFIG,
    machines: Any = (),
    runs_on: Machine | None = None,
    **changes: Any,
) -> Found:
    mine = service(**changes)
    return settings_of(
        mine,
        config=config,
        services=[mine, *others],
        networks=NETWORKS,
        machines=list(machines),
        manager="node1",
        runs_on=runs_on,
    )


def mount(target: str, source: str = "/srv/x", kind: str = "bind", **more: Any) -> dict[str, Any]:
    return {"Type": kind, "Source": source, "Target": target, **more}


CONFIG_MOUNT = mount("/etc/docker/registry/config.yml", "/srv/mirror.yml")


def test_the_recipes_mirror_is_read_as_it_is() -> None:
    told = {
        "/etc/docker-latest/daemon.json": '{"registry-mirrors": ["https://mirror.example.com"]}'
    }
    result = found(machines=[Machine("node1", "10.0.0.1", told), Machine("node2", "10.0.0.2", {})])
    assert result.values == {
        "hostname": "mirror.example.com",
        "image": "registry:3.1.2",
        "varnishImage": "varnish:7.7.0",
        "manager": "node1",
        "serviceName": "registry_registry-mirror",
        "network": "traefik_public",
        "traefik": "v1",
        "upstream": "http://198.18.0.2",
        "cachePath": "/var/data/cache",
        "configPath": "/var/data/mirror.yml",
        "publishUnencryptedPort5000": True,
        "nodes": [
            {
                "name": "node1",
                "address": "10.0.0.1",
                "daemonJson": "/etc/docker-latest/daemon.json",
                "service": "docker-latest",
            },
            {"name": "node2", "address": "10.0.0.2"},
        ],
    }
    assert "node2 was not configured to use the mirror until now, and will be" in result.notes
    assert "port 5000 is open" in result.notes[0]


@pytest.mark.parametrize(
    ("tag", "dialect"),
    [
        ("1.7", "v1"),
        ("v2.11.3", "v2"),
        ("v3.0.4", "v3.0"),
        ("v3.2.1", "v3.0"),
        ("v3.2.2", "v3"),
        ("v3.7.15@sha256:a", "v3"),
    ],
)
def test_traefiks_generation_is_that_of_the_one_that_runs(tag: str, dialect: str) -> None:
    assert found(traefik(tag)).values["traefik"] == dialect


def test_a_modern_route_keeps_entrypoint_and_resolver() -> None:
    router = "traefik.http.routers.m"
    labels = {
        f"{router}.rule": "Host(`m.example.com`) && PathPrefix(`/v2`)",
        f"{router}.entrypoints": "https",
        f"{router}.tls.certresolver": "le",
    }
    values = found(traefik("v3.4"), labels=labels).values
    assert (values["hostname"], values["entrypoint"], values["certResolver"]) == (
        "m.example.com",
        "https",
        "le",
    )


PROXY = "http://proxy.example.com:3128"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"])
def test_a_proxy_and_what_goes_past_it_stay(name: str) -> None:
    result = found(env=[f"{name}={PROXY}/", "NO_PROXY=localhost, .corp,10.0.0.0/8,*"])
    assert result.values["upstreamProxy"] == PROXY
    assert result.values["upstreamNoProxy"] == ["localhost", ".corp", "10.0.0.0/8"]
    assert any(
        "'*' of its NO_PROXY is left out: it excepts everybody" in note for note in result.notes
    )


def test_no_proxy_alone_is_nothing_to_take_over() -> None:
    assert not {"upstreamProxy", "upstreamNoProxy"} & set(
        found(env=["NO_PROXY=localhost", "HTTPS_PROXY="]).values
    )


def test_where_two_proxies_are_named_that_of_https_is_taken_and_said() -> None:
    result = found(env=["HTTP_PROXY=http://other.example.com:3128", f"HTTPS_PROXY={PROXY}"])
    assert result.values["upstreamProxy"] == PROXY
    assert any("HTTP_PROXY is another one than its HTTPS_PROXY" in note for note in result.notes)


def test_a_proxys_password_is_named_and_never_copied() -> None:
    result = found(env=["HTTPS_PROXY=http://user:hunter2@proxy.example.com:3128", "NO_PROXY=.corp"])
    assert not {"upstreamProxy", "upstreamNoProxy"} & set(result.values)
    notes = " ".join(result.notes)
    assert "pulumi config set --secret upstreamProxy" in notes
    assert "set upstreamNoProxy with it: .corp" in notes
    assert "hunter2" not in stack_file(result, {}, "swarm-registry-mirror")


def test_a_proxy_that_would_be_refused_is_said_and_left_out() -> None:
    result = found(env=["HTTPS_PROXY=proxy.example.com:3128"])
    assert "upstreamProxy" not in result.values
    assert any(
        "is not taken over: upstreamProxy must begin with http://" in note for note in result.notes
    )


def test_authorities_that_it_has_are_noted_with_what_to_do() -> None:
    mounts = [
        *service()["Spec"]["TaskTemplate"]["ContainerSpec"]["Mounts"],
        mount("/etc/ssl/certs/corp.pem", "/srv/corp.pem"),
    ]
    notes = found(mounts=mounts, env=["SSL_CERT_FILE=/certs/corp.pem"]).notes
    about_authorities = [note for note in notes if "name it in upstreamCa" in note]
    assert "(SSL_CERT_FILE=/certs/corp.pem)" in about_authorities[0]
    assert "(/etc/ssl/certs/corp.pem)" in about_authorities[1]
    assert len(about_authorities) == 2
    assert not [note for note in found().notes if "upstreamCa" in note]


def test_credentials_are_named_and_never_copied() -> None:
    config = CONFIG.replace("http://198.18.0.2", "https://registry-1.docker.io")
    result = found(config=config + "  username: bot\n  password: hunter2\n")
    assert result.values["upstreamUsername"] == "bot"
    assert "pulumi config set --secret upstreamToken" in " ".join(result.notes)
    assert "hunter2" not in stack_file(result, {}, "swarm-registry-mirror")


def test_images_stay_in_the_registry_they_come_from_and_constraints_stay() -> None:
    values = found(
        image="images.example.com/hub/registry:2.8.3", constraints=["node.labels.disk == big"]
    ).values
    assert values["varnishImage"] == "images.example.com/hub/varnish:7.7.0"
    assert values["placementConstraints"] == ["node.labels.disk == big"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": {}}, "no Traefik rule with a Host"),
        ({"mounts": []}, "the cache goes with each container"),
        ({"mode": {"Replicated": {"Replicas": 3}}}, "has 3 replicas"),
        ({"config": "version: 0.1\n"}, "no proxy.remoteurl"),
        ({"config": "a: ["}, "is not YAML"),
        (
            {"networks": ["n1", "n2"], "labels": {"traefik.frontend.rule": "Host:m.example.com"}},
            "on 2 networks",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_said_with_the_reason(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(AdoptError, match=words):
        found(**changes)


def test_the_one_registry_is_found_and_of_several_one_must_be_named() -> None:
    mine, second = service(), service(name="push", image="distribution/distribution:3.0.0")
    assert mirror_among([traefik("v3.4"), mine]) is mine
    with pytest.raises(
        AdoptError, match="several services run a registry: push, registry_registry-mirror"
    ):
        mirror_among([mine, second])
    assert mirror_among([mine, second], "push") is second
    with pytest.raises(AdoptError, match="there are: traefik"):
        mirror_among([traefik("v3.4")])


def test_other_registries_of_the_swarm_are_named_and_not_taken_for_part_of_the_mirror() -> None:
    mine = found(service(name="cache_ghcr"), service(name="push", image="registry:3.0.0"))
    (note,) = [note for note in mine.notes if "registry, too" in note]
    assert "cache_ghcr, push; they stay as they are" in note
    assert not [note for note in found(traefik("v3.4")).notes if "registry, too" in note]


@pytest.mark.parametrize(
    ("upstream", "is_hub"),
    [
        ("https://registry-1.docker.io", True),
        ("https://index.docker.io/", True),
        ("https://ghcr.io", False),
        ("https://harbor.example.com", False),
    ],
)
def test_a_mirror_of_another_registry_is_not_taken_for_one_of_docker_hub(
    upstream: str, is_hub: bool
) -> None:
    config = CONFIG.replace("http://198.18.0.2", upstream)
    assert upstream in config
    notes = [note for note in found(config=config).notes if "no cache of Docker Hub" in note]
    assert len(notes) == (0 if is_hub else 1)


def test_the_file_has_the_keys_in_the_order_of_the_reference_and_of_the_stacks_project() -> None:
    assert tuple(key for key in KEYS if key in ORDER) == ORDER
    text = stack_file(found(), {"sshPrivateKeyFile": "~/.ssh/id"}, "estate")
    keys = list(yaml.safe_load(text)["config"])
    assert keys == [f"estate:{key}" for key in ORDER if f"estate:{key}" in keys]


def declared(text: str) -> tuple[RegistryMirrorArgs, dict[str, Any]]:
    """What a printed program declares: the component's args, and those of the docker provider."""
    args: list[RegistryMirrorArgs] = []
    providers: list[dict[str, Any]] = []
    package = types.ModuleType("swarm_registry_mirror")
    package.__dict__.update(vars(registry_mirror))

    def component(name: str, given: RegistryMirrorArgs, opts: object) -> mock.Mock:
        args.append(given)
        return mock.Mock()

    def provider(name: str, **given: Any) -> mock.Mock:
        providers.append(given)
        return mock.Mock()

    package.__dict__["RegistryMirror"] = component
    with (
        mock.patch.dict(sys.modules, {"swarm_registry_mirror": package}),
        mock.patch("pulumi_docker.Provider", provider),
        mock.patch("pulumi.ResourceOptions"),
        mock.patch("pulumi.export"),
    ):
        exec(compile(text, "printed", "exec"), {})
    return args[0], providers[0]


def test_the_printed_program_declares_what_the_file_would() -> None:
    machines = [Machine("node1", "10.0.0.1"), Machine('w"1', "fd00::1", {}, "ops")]
    result = found(
        machines=machines,
        labels={**service()["Spec"]["Labels"], "odd": 'a "quoted" \\ word with ä'},
    )
    result.values["image"] += f"@{DIGEST}"
    result.values["varnishImage"] += f"@{DIGEST}"
    login = {"sshPrivateKeyFile": "key", "knownHostsFile": "known_hosts"}
    keys = {machine.address: ED25519 for machine in machines}
    args, provider = declared(program(result, login, keys))
    known_hosts = "".join(f"{address} {key}\n" for address, key in keys.items())
    values = {**result.values, **login}
    settings = parse(values, {"key": PRIVATE_KEY, "known_hosts": known_hosts}.__getitem__)
    assert args == settings.mirror
    assert provider["host"] in settings.docker_host
    assert "UserKnownHostsFile=known_hosts" in provider["ssh_opts"]


def test_a_host_key_that_nobody_knows_is_left_open_and_refused() -> None:
    text = program(found(machines=[Machine("node1", "10.0.0.1")]), {"sshPrivateKeyFile": "k"}, {})
    with pytest.raises(InvalidArgs, match="host_key"):
        declared(text)


def test_values_one_after_the_other_are_separated() -> None:
    assert json_values('"a"\n[{"b": 1}]\n\n[]\n') == ["a", [{"b": 1}], []]


def test_of_several_routers_the_one_with_tls_is_taken_whole() -> None:
    labels = {
        "traefik.http.routers.plain.rule": "Host(`old.example.com`)",
        "traefik.http.routers.plain.entrypoints": "http",
        "traefik.http.routers.plain.middlewares": "to-https",
        "traefik.http.routers.secure.rule": 'Host("Mirror.example.com") && PathPrefix("/v2/")',
        "traefik.http.routers.secure.entrypoints": "https, other",
        "traefik.http.routers.secure.tls": "true",
        "traefik.http.routers.secure.tls.certresolver": "le",
        "traefik.http.routers.nothing.priority": "5",
    }
    for order in (labels, dict(reversed(labels.items()))):
        result = found(traefik("v3.4"), labels=order)
        values = result.values
        assert (values["hostname"], values["entrypoint"], values["certResolver"]) == (
            "mirror.example.com",
            "https,other",
            "le",
        )
        assert (
            "of its routers, secure is taken over; plain are removed by the first `pulumi up`"
            in result.notes
        )


def test_a_router_whose_tls_is_the_entrypoints_is_known_by_its_entrypoint() -> None:
    labels = {
        "traefik.http.routers.a.rule": "Host(`a.example.com`)",
        "traefik.http.routers.a.entrypoints": "web",
        "traefik.http.routers.b.rule": "Host(`b.example.com`)",
        "traefik.http.routers.b.entrypoints": "websecure",
    }
    assert found(labels=labels).values["hostname"] == "b.example.com"


def test_labels_of_their_own_stay_and_those_that_we_or_docker_write_do_not() -> None:
    labels = {
        "traefik.enable": "true",
        "traefik.constraint-label": "traefik-public",
        "traefik.docker.network": "traefik_public",
        "traefik.docker.lbswarm": "false",
        "traefik.http.routers.m.rule": "Host(`m.example.com`)",
        "traefik.http.services.m.loadbalancer.server.port": "5000",
        "com.docker.stack.namespace": "registry",
        "com.example.team": "platform",
    }
    assert found(labels=labels).values["traefikLabels"] == {
        "com.example.team": "platform",
        "traefik.constraint-label": "traefik-public",
        "traefik.docker.lbswarm": "false",
    }


@pytest.mark.parametrize(
    ("config", "env", "expected"),
    [
        (
            "",
            ["REGISTRY_PROXY_REMOTEURL=https://registry-1.docker.io"],
            {"upstream": "https://registry-1.docker.io"},
        ),
        (CONFIG, ["REGISTRY_PROXY_REMOTEURL=https://ghcr.io/"], {"upstream": "https://ghcr.io"}),
        (CONFIG, ["REGISTRY_PROXY_TTL=168h"], {"ttlHours": 168}),
        (CONFIG + "  ttl: 168h\n", [], {"ttlHours": 168}),
        (CONFIG + "  ttl: 1h30m\n", [], {"ttlHours": 2}),
        (CONFIG + "  ttl: 30s\n", [], {"ttlHours": 1}),
        (CONFIG + "  ttl: 3600000000000\n", [], {"ttlHours": 1}),
        (CONFIG + "  ttl: 0s\n", [], {}),
        (CONFIG + "  ttl: 0\n", [], {}),
        (CONFIG + "  ttl: often\n", [], {}),
    ],
)
def test_the_environment_overrides_the_file_as_the_registry_reads_it(
    config: str, env: list[str], expected: dict[str, Any]
) -> None:
    values = found(config=config, env=env).values
    assert {key: values[key] for key in ("upstream", "ttlHours") if key in values} == {
        "upstream": "http://198.18.0.2",
        **expected,
    }


def test_a_token_in_the_environment_is_spoken_of_and_never_copied() -> None:
    env = [
        "REGISTRY_PROXY_REMOTEURL=https://h.test",
        "REGISTRY_PROXY_USERNAME=bot",
        "REGISTRY_PROXY_PASSWORD=hunter2",
    ]
    result = found(env=env)
    assert result.values["upstreamUsername"] == "bot"
    assert "publishUnencryptedPort5000" not in result.values, (
        "our settings refuse it beside credentials"
    )
    assert "make a new one, and revoke the old one" in " ".join(result.notes)
    assert "hunter2" not in stack_file(result, {}, "swarm-registry-mirror")


@pytest.mark.parametrize(
    ("mounts", "root", "expected"),
    [
        (
            [mount("/data"), CONFIG_MOUNT],
            "/data/registry",
            {"cachePath": "/srv/x/registry", "configPath": "/srv/mirror.yml"},
        ),
        (
            [mount("/var/lib/registry")],
            None,
            {"cachePath": "/srv/x", "configPath": "/srv/x-config.yml"},
        ),
        (
            [mount("/var/lib/registry"), mount("/etc/docker/registry", "/srv/etc")],
            None,
            {"cachePath": "/srv/x", "configPath": "/srv/etc/config.yml"},
        ),
        (
            [mount("/data", "/srv/a"), mount("/data/registry", "/srv/b")],
            "/data/registry/cache",
            {"cachePath": "/srv/b/cache", "configPath": "/srv/b/cache-config.yml"},
        ),
        (
            [mount("/data"), mount("/data/config.yml", "/srv/x/config.yml")],
            "/data",
            {"cachePath": "/srv/x", "configPath": "/srv/x-config.yml"},
        ),
    ],
)
def test_the_cache_is_where_the_root_directory_lies(
    mounts: list[dict[str, Any]], root: str | None, expected: dict[str, str]
) -> None:
    config = CONFIG if root is None else CONFIG.replace("/var/lib/registry", root)
    values = found(config=config, mounts=mounts).values
    assert {key: values[key] for key in ("cachePath", "configPath")} == expected


def test_the_configuration_is_where_the_registry_was_started_with() -> None:
    mine = service(
        args=["serve", "/cfg/mirror.yml"],
        mounts=[mount("/var/lib/registry"), mount("/cfg", "/srv/cfg")],
    )
    assert config_path(mine) == "/srv/cfg/mirror.yml"


def test_a_volume_is_tied_to_the_machine_that_it_is_on() -> None:
    mounts = [mount("/var/lib/registry", "cache", "volume"), CONFIG_MOUNT]
    values = found(mounts=mounts, runs_on=Machine("w1.example.com", "10.0.0.1", id="abc")).values
    assert (values["cacheVolume"], values["placementConstraints"]) == (
        "cache",
        ["node.hostname == w1.example.com"],
    )
    values = found(mounts=mounts, runs_on=Machine("odd\nname", "10.0.0.1", id="abc")).values
    assert values["placementConstraints"] == ["node.id == abc"]
    kept = found(mounts=mounts, constraints=["node.hostname == w2"]).values
    assert kept["placementConstraints"] == ["node.hostname == w2"]


def test_a_volume_that_docker_mounts_from_a_server_is_that_server() -> None:
    options = {"type": "nfs", "o": "addr=10.0.0.9,rw,nfsvers=4.1", "device": ":/export/cache"}
    nfs = mount(
        "/var/lib/registry",
        "cache",
        "volume",
        VolumeOptions={"DriverConfig": {"Name": "local", "Options": options}},
    )
    values = found(mounts=[nfs, CONFIG_MOUNT]).values
    assert (values["cacheNfs"], values["cacheNfsOptions"]) == (
        "10.0.0.9:/export/cache",
        "rw,nfsvers=4.1",
    )
    assert "cacheVolume" not in values


def test_a_mirror_that_is_scaled_to_nothing_is_taken_and_said_so() -> None:
    result = found(mode={"Replicated": {"Replicas": 0}})
    assert (
        "the service registry_registry-mirror is scaled to 0; the first `pulumi up` runs it"
        in result.notes
    )


def test_host_names_with_dots_become_names_that_our_settings_take() -> None:
    hosts = [
        "m1.example.com",
        "w1.a.example.com",
        "w1.b.example.com",
        "w1\nconfig: {}\n",
        "-",
        "w_2",
        "-_",
    ]
    machines = [Machine(host, f"10.0.0.{number}") for number, host in enumerate(hosts, 1)]
    names = [node["name"] for node in found(machines=machines).values["nodes"]]
    assert names == [
        "m1",
        "w1-a-example-com",
        "w1-b-example-com",
        "w1-config",
        "node",
        "w_2",
        "node-2",
    ]


def test_a_host_name_with_a_line_end_begins_no_line_of_the_file() -> None:
    evil = "w1\nsecretsprovider: evil\nencryptedkey: x"
    text = stack_file(found(machines=[Machine(evil, "10.0.0.1")]), {}, "swarm-registry-mirror")
    assert list(yaml.safe_load(text)) == ["config"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": CONFIG.replace("filesystem:", "s3:")}, "only a folder or a volume"),
        ({"env": ["REGISTRY_STORAGE=s3"]}, "only a folder or a volume"),
        ({"mounts": [mount("/var/lib/registry", kind="tmpfs")]}, "of the kind tmpfs"),
        ({"mounts": [mount("/var/lib/registry", "v", "volume")]}, "no task says of which"),
        ({"mounts": [mount("/var/lib", "v", "volume")]}, "the folder /registry in a volume"),
        ({"mode": {"Global": {}}}, "runs on every node"),
        ({"labels": {"traefik.frontend.rule": "Host:mirror"}}, "hostname: must be a full DNS name"),
        (
            {"config": CONFIG.replace("http://198.18.0.2", "https://u:hunter2@h.test")},
            "must not contain a user",
        ),
        ({"config": CONFIG + "  username: bot\n"}, "unencrypted"),
        (
            {"machines": [Machine("a", "10.0.0.1"), Machine("b", "10.0.0.1")]},
            "b: it has the address of a, too",
        ),
        ({"machines": [Machine("a", "-oProxyCommand=x y")]}, "a: its address"),
        (
            {"mounts": [mount("/var/lib/registry", "/srv/../x")]},
            "cachePath: must be an absolute path",
        ),
    ],
)
def test_what_our_settings_would_refuse_is_said_before_anything_is_written(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(AdoptError) as refused:
        found(**changes)
    assert words in str(refused.value)
    assert "hunter2" not in str(refused.value)


HOSTS = st.sampled_from(
    ["m1", "w1.example.com", "w1.b", "w1", "ü", "a b", "x\ny: z", "-", "a" * 80, ""]
)


def mostly(usual: Any, odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Where everything is odd at once, nothing is ever taken over."""
    return st.integers(0, 9).flatmap(lambda number: st.just(usual) if number < 8 else odd)


RULES = st.sampled_from(
    [
        "Host(`m.example.com`)",
        "Host:m.example.com",
        "Host(`M.test.`)",
        "HostRegexp(`x`)",
        "Path(`/`)",
        "Host(`a.b`) || Host(`c.d`)",
    ]
)
LABELS = st.dictionaries(
    st.sampled_from(
        [
            "traefik.enable",
            "traefik.http.routers.a.rule",
            "traefik.http.routers.b.rule",
            "traefik.frontend.rule",
            "a b",
            "x=y",
            "traefik.http.routers.a.entrypoints",
            "traefik.http.routers.a.tls.certresolver",
            "traefik.constraint-label",
            "team",
            "Traefik.Enable",
            "traefik.swarm.network",
            "traefik.http.routers.b.tls",
            "com.docker.stack.image",
        ]
    ),
    RULES | st.sampled_from(["true", "a b", "x\ny", "websecure", "le,other", ""]),
)
PATHS = st.sampled_from(
    ["/var/lib/registry", "/data", "/data/registry", "/", "/var/lib", "/etc/docker/registry"]
)
MOUNTS = st.lists(
    st.builds(
        mount,
        PATHS,
        st.sampled_from(["/srv/x", "/srv/x/", "/", "cache", "/a\x00", "/a b"]),
        st.sampled_from(["bind", "volume"]),
    ),
    max_size=3,
)
CONFIGS = st.builds(
    lambda url, root, more: (
        f"storage: {{filesystem: {{rootdirectory: {root}}}}}\nproxy:\n  remoteurl: {url}\n{more}"
    ),
    st.sampled_from(
        [
            "https://h.test",
            "http://h.test:5000/",
            "h.test",
            "https://u:p@h.test",
            "https://h.test/v2",
        ]
    ),
    PATHS,
    st.sampled_from(["", "  ttl: 7h\n", "  username: bot\n", "  ttl: -1h\n", "  username: 5\n"]),
)
ENVS = st.lists(
    st.sampled_from(
        [
            "REGISTRY_PROXY_REMOTEURL=https://e.test",
            "REGISTRY_PROXY_TTL=1h",
            "REGISTRY_PROXY_USERNAME=me",
            "X",
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/data",
        ]
    ),
    max_size=3,
)
CONSTRAINTS = st.lists(
    st.sampled_from(
        ["node.role == manager", "node.hostname==w1", "role == x", "node.labels.a != \x1b"]
    ),
    max_size=2,
)


@given(
    hosts=st.lists(HOSTS, min_size=1, max_size=4, unique=True),
    labels=LABELS.map(lambda odd: {"traefik.http.routers.c.rule": "Host(`c.example.com`)", **odd}),
    mounts=mostly([mount("/var/lib/registry"), CONFIG_MOUNT], MOUNTS),
    config=mostly(CONFIG, CONFIGS),
    env=mostly([], ENVS),
    constraints=CONSTRAINTS,
    name=mostly("mirror", st.sampled_from(["registry_mirror", "m" * 60, "m-"])),
    ports=st.sampled_from([[], [5000], [80, 443]]),
    replicas=mostly(1, st.integers(0, 2)),
    tag=st.sampled_from(["1.7", "v2.11", "v3.4", "latest"]),
)
def test_what_adopt_writes_our_own_settings_take(
    hosts: list[str],
    labels: dict[str, str],
    mounts: list[dict[str, Any]],
    config: str,
    env: list[str],
    constraints: list[str],
    name: str,
    ports: list[int],
    replicas: int,
    tag: str,
) -> None:
    machines = [
        Machine(host, f"10.0.0.{number}", user="ops", id=f"id{number}")
        for number, host in enumerate(hosts, 1)
    ]
    about = {
        "labels": labels,
        "mounts": mounts,
        "env": env,
        "constraints": constraints,
        "name": name,
        "ports": ports,
        "mode": {"Replicated": {"Replicas": replicas}},
    }
    mine = service(**about)
    try:
        result = settings_of(
            mine,
            config=config,
            services=[mine, traefik(tag)],
            networks=NETWORKS,
            machines=machines,
            manager=hosts[0],
            runs_on=machines[0],
        )
    except AdoptError:
        event("refused")
        return
    event("taken over")
    text = stack_file(
        result,
        {"sshPrivateKeyFile": "key", "knownHostsFile": "known_hosts"},
        "swarm-registry-mirror",
    )
    parsed = yaml.safe_load(text)
    assert list(parsed) == ["config"]
    values = {key.partition(":")[2]: value for key, value in parsed["config"].items()}
    assert values == {**result.values, "sshPrivateKeyFile": "key", "knownHostsFile": "known_hosts"}
    for key in ("image", "varnishImage"):  # what `make pin` does
        if key in values:
            values[key] += f"@{DIGEST}"
    if "upstreamUsername" in values:  # what the note says
        values |= {"upstreamToken": "t", "allowFrom": ["10.0.0.0/8"]}
    known_hosts = "".join(f"{machine.address} {ED25519}\n" for machine in machines)
    settings = parse(values, {"key": PRIVATE_KEY, "known_hosts": known_hosts}.__getitem__)
    assert settings.mirror.label_faults(str(values["serviceName"])) == []


class Swarm:
    """Answers as ssh and docker would; a machine that is not in `files` cannot be reached."""

    def __init__(
        self, nodes: list[dict[str, Any]], files: Mapping[str, Any], own: str = "id1"
    ) -> None:
        self.nodes, self.files, self.own, self.manager_user = nodes, files, own, "root"
        self.asked: list[str] = []

    def user(self, machine: str) -> str:
        return "ops"

    def __call__(self, address: str, user: str, script: str) -> str:
        self.asked.append(address)
        if address not in self.files:
            raise AdoptError(f"{user}@{address}: No route to host")
        if "docker info" in script:
            networks = [{"Id": "n1", "Name": "traefik_public"}]
            return "\n".join(map(json.dumps, (self.own, [service()], self.nodes, networks)))
        if "daemon.json" in script:
            files = self.files[address]
            texts = files if isinstance(files, dict) else {"/etc/docker/daemon.json": files}
            return "".join(
                f"{path} {base64.b64encode(text.encode()).decode()}\n"
                for path, text in texts.items()
            )
        return CONFIG if "cat " in script else "id1\n"


def swarm_node(number: int, hostname: str, state: str = "ready") -> dict[str, Any]:
    return {
        "ID": f"id{number}",
        "Description": {"Hostname": hostname},
        "Status": {"State": state, "Addr": f"10.0.0.{number}"},
    }


CONFIGURED = '{"registry-mirrors": ["https://mirror.example.com"]}'


def test_a_node_that_is_listed_twice_is_taken_once_and_one_that_is_down_is_left_out_and_not_asked() -> (  # noqa: E501
    None
):
    nodes = [
        swarm_node(1, "m1.x"),
        swarm_node(2, "w1", "down"),
        swarm_node(3, "w1"),
        swarm_node(4, "w2", "down"),
    ]
    swarm = Swarm(nodes, dict.fromkeys(("10.0.0.1", "10.0.0.3"), CONFIGURED))
    result = find(swarm, "10.0.0.1", None)  # type: ignore[arg-type]
    assert [(node["name"], node["address"]) for node in result.values["nodes"]] == [
        ("m1", "10.0.0.1"),
        ("w1", "10.0.0.3"),
    ]
    assert result.values["manager"] == "m1"
    assert not {"10.0.0.2", "10.0.0.4"} & set(swarm.asked)
    notes = " ".join(result.notes)
    assert (
        "the swarm has w1 twice; the one that is down is left out (`docker node rm id2` forgets it)"
        in notes
    )
    assert "w2 is down and left out" in notes


HOSTS_TOML = 'server = "https://{}"\n[host."https://mirror.example.com{}"]\n'


def test_a_node_that_has_the_mirror_in_hosts_toml_is_no_node_without_it() -> None:
    folder = "/etc/docker/certs.d"
    files = {
        "10.0.0.1": CONFIGURED,
        "10.0.0.2": {
            f"{folder}/docker.io/hosts.toml": HOSTS_TOML.format("registry-1.docker.io", ""),
            f"{folder}/ghcr.io/hosts.toml": HOSTS_TOML.format("ghcr.io", "/v2/ghcr.io"),
            f"{folder}/quay.io/hosts.toml": HOSTS_TOML.replace("mirror", "other").format(
                "quay.io", ""
            ),
            f"{folder}/a b/hosts.toml": HOSTS_TOML.format("a", ""),
        },
        "10.0.0.3": "{}",
    }
    swarm = Swarm([swarm_node(1, "m1"), swarm_node(2, "w1"), swarm_node(3, "w2")], files)
    notes = find(swarm, "10.0.0.1", None).notes  # type: ignore[arg-type]
    without = [note for note in notes if "was not configured to use the mirror" in note]
    assert [note.split()[0] for note in without] == ["w2"]
    (others,) = [note for note in notes if "hosts.toml" in note]
    assert others.startswith("w1 has the mirror in the hosts.toml of ghcr.io, too")
    assert "registries" in others


def test_the_files_of_a_node_are_found_by_a_shell_as_the_script_says(tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_text(CONFIGURED)
    for registry in ("ghcr.io", "registry.test:5000"):
        (tmp_path / "certs.d" / registry).mkdir(parents=True)
        (tmp_path / "certs.d" / registry / "hosts.toml").write_text(registry)

    def reach(address: str, user: str, script: str) -> str:
        there = script.replace("/etc/docker/", f"{tmp_path}/")
        done = subprocess.run(["sh", "-ec", there], capture_output=True, text=True, check=True)
        return done.stdout.replace(f"{tmp_path}/", "/etc/docker/")

    daemon_json, hosts_toml = _files(reach, "a", "u")  # type: ignore[arg-type]
    assert daemon_json == {"/etc/docker/daemon.json": CONFIGURED}
    assert hosts_toml == {name: name for name in ("ghcr.io", "registry.test:5000")}


def test_every_node_that_cannot_be_asked_is_named_at_once() -> None:
    swarm = Swarm(
        [swarm_node(1, "m1"), swarm_node(2, "w1"), swarm_node(3, "w2")], {"10.0.0.1": CONFIGURED}
    )
    with pytest.raises(AdoptError, match=r"w1: ops@10.0.0.2: No route to host; w2: ops@10.0.0.3"):
        find(swarm, "10.0.0.1", None)  # type: ignore[arg-type]


def test_two_machines_of_one_name_are_two_nodes() -> None:
    swarm = Swarm(
        [swarm_node(1, "m1"), swarm_node(2, "m1")],
        dict.fromkeys(("10.0.0.1", "10.0.0.2"), CONFIGURED),
    )
    adopted = find(swarm, "10.0.0.1", None)  # type: ignore[arg-type]
    assert [node["name"] for node in adopted.values["nodes"]] == ["m1", "m1-id2"]


@pytest.mark.parametrize(
    "shell",
    [found for found in ("sh", "bash", "dash", "zsh", "fish", "tcsh") if shutil.which(found)],
)
@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ("echo yes", "yes"),
        ("printf '%s' \"a'b!c\"", "a'b!c"),
        ("echo no >&2; exit 3", "root@h: no"),
        ("false; echo not reached", "root@h: the command ended with 1"),
    ],
)
def test_a_script_runs_alike_in_every_login_shell_and_what_that_prints_does_not_matter(
    shell: str, script: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f"#!/bin/sh\nfor last; do :; done\necho Welcome\n{shutil.which(shell)} -c"
        ' "$last"\ncode=$?\necho bye\nexit $code\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    try:
        said = Ssh([], "root", {})("h", "root", script).strip()
    except AdoptError as error:
        said = str(error)
    assert said.startswith(outcome)


def test_a_login_shell_that_runs_nothing_is_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\necho 'Welcome\x1b[2J'\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(AdoptError, match="said 'Welcome'; does its login shell run commands"):
        Ssh([], "root", {})("h", "root", "echo yes")


def test_only_one_module_says_how_long_a_connection_may_take_and_that_host_keys_are_checked() -> (
    None
):
    root = Path(__file__).resolve().parents[2]
    theirs = {
        path
        for folder in ("components", "config", "adopt", "review")
        for path in root.glob(f"{folder}/**/*.py")
    }
    saying = {
        path
        for path in theirs
        if re.search(r"ConnectTimeout|StrictHostKeyChecking|BatchMode", path.read_text())
    }
    assert saying == {root / "components/registry_mirror/ssh.py"}
