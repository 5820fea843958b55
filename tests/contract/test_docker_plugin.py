"""What this project relies on in the docker plugin: run against the official one where it is, else
against the stand-in."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.lab.lab import Lab
from tests.lab.output import counts
from tests.lab.project import Project

PROVIDER = "docker.Provider('p', host='ssh://root@198.18.0.11', ssh_opts=SSH)"


@pytest.fixture
def project(lab: Lab, tmp_path: Path) -> Iterator[Project]:
    project = Project(lab, tmp_path)
    yield project
    project.destroy()


UNTIL_STOPPED = "trap 'exit 0' TERM; while :; do sleep 0.2; done"


def service(
    network: str,
    label: str = "one",
    *,
    container: str = "",
    window: str = "'window': '0s'",
    ignored: Sequence[str] = ("taskSpec.placement.platforms",),
    env: Mapping[str, str] | None = None,
    options: str = "",
) -> str:
    """A program with a service like ours. `container`: more of its container; `ignored`: what an
    existing one keeps; `options`: more of its resource options.
    """
    variables = {"A": "b"} if env is None else dict(env)
    return f"""
        opts = pulumi.ResourceOptions(provider={PROVIDER}, ignore_changes={list(ignored)!r}, {options})
        docker.Service('s', name='contract', labels=[{{'label': 'l', 'value': '{label}'}}],
            mode={{'replicated': {{'replicas': 1}}}},
            update_config={{'parallelism': 1, 'order': 'stop-first', 'failure_action': 'pause'}},
            task_spec={{
                'container_spec': {{
                    'image': REGISTRY, 'env': {variables!r}, 'commands': ['/bin/sh', '-c', {UNTIL_STOPPED!r}],
                    'mounts': [{{'type': 'bind', 'source': '/var/data', 'target': '/a', 'read_only': True}},
                               {{'type': 'bind', 'source': '/tmp', 'target': '/b', 'read_only': False}}],
                    'healthcheck': {{'tests': ['CMD', '/bin/sleep', '0'], 'interval': '5s', 'timeout': '15s', 'retries': 2,
                        'start_period': '1s'}},
                    {container}
                }},
                'networks_advanceds': [{{{network}}}],
                'restart_policy': {{'condition': 'any', 'delay': '5s', {window}}},
                'placement': {{'constraints': ['node.role == manager']}},
            }}, opts=opts)
    """  # noqa: E501


def network_id(lab: Lab) -> str:
    return lab.on("node1", "docker network inspect --format '{{.ID}}' traefik_public").strip()


def test_an_ssh_host_is_not_contacted_in_a_preview(lab: Lab, project: Project) -> None:
    before = lab.connections("node1")
    project.write(service(f"'id': '{network_id(lab)}'"))
    assert project.plan()["create"][-1] == "s"
    assert lab.connections("node1") == before


def test_a_tcp_host_that_is_not_there_fails_the_preview(project: Project) -> None:
    project.write(
        "docker.Network('n', driver='overlay',"
        " opts=pulumi.ResourceOptions(provider=docker.Provider('p', host='tcp://127.0.0.1:1')))"
    )
    assert "failed to connect to any docker daemon" in project("preview", fails=True)


@pytest.mark.long
def test_a_service_attached_by_network_id_is_clean_after_up_and_refresh(
    lab: Lab, project: Project
) -> None:
    project.write(service(f"'id': '{network_id(lab)}'"))
    project.up()
    assert project.plan() == {}
    assert counts(project.up()) == {"unchanged": 3}
    project("refresh", "--yes", "--skip-preview")
    assert project.plan() == {}


@pytest.mark.long
def test_a_service_attached_by_network_name_is_replaced_for_ever_after_a_refresh(
    project: Project,
) -> None:
    project.write(service("'name': 'traefik_public'"))
    project.up()
    assert project.plan() == {}
    project("refresh", "--yes", "--skip-preview")
    for _ in range(2):
        assert "replace" in project.plan()
        project.up()
        project("refresh", "--yes", "--skip-preview")


@pytest.mark.long
def test_a_service_that_ignores_what_a_refresh_finds_of_its_network_is_clean_and_finds_a_network_that_was_made_anew(  # noqa: E501
    lab: Lab, project: Project
) -> None:
    def attached() -> tuple[str, str]:
        found = lab.on(
            "node1",
            "docker service inspect --format '{{.ID}} {{json .Spec.TaskTemplate.Networks}}'"
            " contract",
        )
        id_, _, networks = found.partition(" ")
        return id_, json.loads(networks)[0]["Target"]

    def write(network: str, label: str = "one") -> None:
        kept = ("taskSpec.placement.platforms", "taskSpec.networksAdvanceds")
        more = f"replacement_trigger='{network}', delete_before_replace=True"
        project.write(service(f"'id': '{network}'", label, ignored=kept, options=more))

    def make(network: str) -> str:
        # A network is removed once its last task has ended.
        lab.on(
            "node1",
            f"for i in $(seq 80); do docker network create -d overlay {network} && exit; sleep 0.5;"
            " done; exit 1",
        )
        return lab.on("node1", f"docker network inspect --format '{{{{.ID}}}}' {network}").strip()

    first, other = make("contract-one"), make("contract-two")
    try:
        # Taken over from a version that gave the id.
        project.write(service(f"'id': '{first}'"))
        project.up()
        before = attached()
        write("contract-one")
        assert project.plan() == {}
        project.up()
        project("refresh", "--yes", "--skip-preview")
        assert project.plan() == {}
        write("contract-one", "two")
        assert project.plan() == {"update": ["s"]}
        project.up()
        assert attached() == before == (before[0], first)

        lab.on(
            "node1",
            "docker service rm contract; for i in $(seq 80); do docker network rm contract-one &&"
            " exit; sleep 0.5; done",
        )
        again = make("contract-one")
        project("refresh", "--yes", "--skip-preview")
        project.up()
        assert attached()[1] == again != first
        assert project.plan() == {}

        write("contract-two", "two")
        assert any("s" in names for names in project.plan().values())
        project.up()
        assert attached()[1] == other
        project("refresh", "--yes", "--skip-preview")
        assert project.plan() == {}
    finally:
        project.destroy()
        for network in ("contract-one", "contract-two"):
            lab.on(
                "node1",
                f"for i in $(seq 80); do docker network rm {network} && exit; sleep 0.5; done",
            )


@pytest.mark.long
def test_labels_change_in_place_and_networks_replace(lab: Lab, project: Project) -> None:
    network = network_id(lab)
    project.write(service(f"'id': '{network}'"))
    project.up()
    id_ = lab.on("node1", "docker service inspect --format '{{.ID}}' contract")
    project.write(service(f"'id': '{network}'", label="two"))
    assert project.plan() == {"update": ["s"]}
    assert counts(project.up())["updated"] == 1
    assert lab.on(
        "node1", "docker service inspect --format '{{.ID}} {{index .Spec.Labels \"l\"}}' contract"
    ).split() == [
        id_.strip(),
        "two",
    ]
    other = lab.on("node1", "docker network create --driver overlay contract-other").strip()
    project.write(service(f"'id': '{other}'", label="two"))
    # An explicit name cannot be there twice, so the old one is deleted first.
    assert project.plan()["replace"] == ["s"]
    project.up()
    assert lab.on("node1", "docker service inspect --format '{{.ID}}' contract") != id_
    project.destroy()
    lab.on(
        "node1",
        "for i in 1 2 3 4 5; do docker network rm contract-other && exit 0; sleep 1; done; exit 1",
    )


def ids(lab: Lab) -> tuple[str, list[str]]:
    """The service's id, and those of all tasks that it ever had; once one of them runs."""
    lab.on(
        "node1",
        "for i in $(seq 60); do docker service ps contract | grep -q ' Running  *Running' && break;"
        " sleep 0.5; done",
    )
    tasks = lab.on("node1", "docker service ps --quiet contract").split()
    return lab.on("node1", "docker service inspect --format '{{.ID}}' contract").strip(), sorted(
        tasks
    )


def spec(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        lab.on("node1", "docker service inspect --format '{{json .Spec}}' contract")
    )
    return found


LABELLED = "'labels': [{'label': 'x', 'value': 'one'}],"
SYSCTL = "'sysctl': {'net.ipv4.tcp_syn_retries': '1'},"
KEPT = (
    "taskSpec.placement.platforms",
    "taskSpec.containerSpec.labels",
    "taskSpec.containerSpec.sysctl",
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(LABELLED, "", marks=pytest.mark.long),
        pytest.param(LABELLED, LABELLED.replace("one", "two"), marks=pytest.mark.long),
        pytest.param("", SYSCTL, marks=pytest.mark.long),
        pytest.param(SYSCTL, "", marks=pytest.mark.long),
    ],
)
def test_a_changed_container_label_or_sysctl_replaces_the_service_and_is_no_change_where_it_is_ignored(  # noqa: E501
    lab: Lab, project: Project, before: str, after: str
) -> None:
    network = f"'id': '{network_id(lab)}'"
    project.write(service(network, container=before))
    project.up()
    first, tasks = ids(lab)
    project.write(service(network, container=after))
    assert project.plan()["replace"] == ["s"]
    project.write(service(network, container=after, ignored=KEPT))
    assert project.plan() == {}
    # How an existing stack is upgraded: what else has changed is changed in place.
    project.write(service(network, "two", container=after, ignored=KEPT))
    assert project.plan() == {"update": ["s"]}
    project.up()
    assert ids(lab) == (first, tasks)
    assert project.plan() == {}


@pytest.mark.long
def test_a_restart_policy_without_a_window_is_a_change_for_ever(lab: Lab, project: Project) -> None:
    network = f"'id': '{network_id(lab)}'"
    project.write(service(network, window=""))
    project.up()
    for _ in range(2):
        assert project.plan() == {"update": ["s"]}
        project.up()
    project.write(service(network))
    project.up()
    assert project.plan() == {}


def test_the_platforms_that_docker_adds_are_a_change_after_a_refresh_unless_they_are_ignored(
    lab: Lab, project: Project
) -> None:
    network = f"'id': '{network_id(lab)}'"
    project.write(service(network, ignored=()))
    project.up()
    assert spec(lab)["TaskTemplate"]["Placement"]["Platforms"]
    assert project.plan() == {}
    project("refresh", "--yes", "--skip-preview")
    assert project.plan() == {"update": ["s"]}
    project.write(service(network))
    assert project.plan() == {}


def test_a_changed_label_starts_no_task_where_there_is_one_environment_variable(
    lab: Lab, project: Project
) -> None:
    network = f"'id': '{network_id(lab)}'"
    for label in ("one", "two", "three"):
        project.write(service(network, label))
        project.up()
    _, tasks = ids(lab)
    assert len(tasks) == 1


@pytest.mark.long
def test_several_environment_variables_come_in_another_order_each_time_which_starts_a_task(
    lab: Lab, project: Project
) -> None:
    network = f"'id': '{network_id(lab)}'"
    many = {f"NAME{number}": "x" for number in range(9)}
    project.write(service(network, env=many))
    project.up()
    before = ids(lab)
    project.write(service(network, "two", env=many))
    project.up()
    lab.on(
        "node1",
        "for i in $(seq 60); do [ $(docker service ps --quiet contract | wc -l) -gt 1 ] && break;"
        " sleep 0.5; done",
    )
    after = ids(lab)
    assert after[0] == before[0]
    assert len(after[1]) == 2


@pytest.mark.long
def test_a_grace_period_that_is_not_given_is_none_at_all(lab: Lab, project: Project) -> None:
    network = f"'id': '{network_id(lab)}'"
    project.write(service(network))
    project.up()
    first, _ = ids(lab)
    assert spec(lab)["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] == 0
    project.write(service(network, container="'stop_grace_period': '10s',"))
    project.up()
    assert spec(lab)["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] == 10 * 10**9
    assert ids(lab)[0] == first
    project("refresh", "--yes", "--skip-preview")
    assert project.plan() == {}


NFS = (
    "{'type': 'volume', 'source': 'contract-cache', 'target': '/cache', 'read_only': False,"
    " 'volume_options': "
    "{'driver_name': 'local', 'driver_options': {'type': 'nfs', 'o': 'addr=198.18.0.99,rw',"
    " 'device': ':/x'}}}"
)
VOLUME = "{'type': 'volume', 'source': 'contract-cache', 'target': '/cache', 'read_only': False}"
BIND = "{'type': 'bind', 'source': '/var/data', 'target': '/cache', 'read_only': False}"


@pytest.mark.long
def test_the_kind_of_storage_changes_in_place_and_is_clean_after_a_refresh(
    lab: Lab, project: Project
) -> None:
    network = f"'id': '{network_id(lab)}'"
    seen = set()
    for mount in (BIND, VOLUME, BIND, NFS):  # away from NFS: docs/how-to/upgrade.md
        text = service(network)
        project.write(text.replace("'mounts': [", f"'mounts': [{mount}, "))
        project.up()
        project("refresh", "--yes", "--skip-preview")
        assert project.plan() == {}
        seen.add(lab.on("node1", "docker service inspect --format '{{.ID}}' contract"))
    assert len(seen) == 1


def test_dockers_refusal_is_one_line_among_several_and_names_no_resource(
    lab: Lab, project: Project
) -> None:
    network = f"'id': '{network_id(lab)}'"
    project.write(service(network).replace("node.role == manager", "no constraint at all"))
    text = project.up(fails=True)
    said = {
        line.strip().partition("* ")[2]
        for line in text.splitlines()
        if "* " in line and "urn:" not in line
    }
    (line,) = {line for line in said if "Error response from daemon" in line}
    assert line.startswith("Error response from daemon: ")
    assert "1 error occurred" in text
    assert "contract" not in line


@pytest.mark.long
def test_a_service_that_is_deleted_is_waited_for_as_long_as_its_grace_period_and_no_longer(
    lab: Lab, project: Project
) -> None:
    """Why our containers end well within it: one that needs all of it makes a destroy fail, though
    the service is removed."""
    network = f"'id': '{network_id(lab)}'"
    deaf = service(network, container="'stop_grace_period': '2s',").replace("exit 0", ":")
    project.write(deaf)
    project.up()
    ids(lab)
    assert "context deadline exceeded" in project("destroy", "--yes", "--skip-preview", fails=True)
    assert "contract" not in lab.on("node1", "docker service ls --format '{{.Name}}'")
    project("refresh", "--yes", "--skip-preview")
    project.write(service(network, container="'stop_grace_period': '20s',"))
    project.up()
    ids(lab)
    started = time.monotonic()
    project.destroy()
    assert time.monotonic() - started < 15


def test_a_service_that_somebody_removed_is_made_again_after_a_refresh(
    lab: Lab, project: Project
) -> None:
    project.write(service(f"'id': '{network_id(lab)}'"))
    project.up()
    lab.on("node1", "docker service rm contract")
    project("refresh", "--yes", "--skip-preview")
    assert project.plan() == {"create": ["s"]}


def test_an_input_that_does_not_exist_is_refused(project: Project) -> None:
    project.write(f"""
        class Raw(pulumi.CustomResource):
            def __init__(self, name, props, opts):
                super().__init__('docker:index/service:Service', name, props, opts)
        Raw('s', {{'nmae': 'x', 'taskSpec': {{'containerSpec': {{'image': 'x'}}}}}}, pulumi.ResourceOptions(provider={PROVIDER}))
    """)  # noqa: E501
    assert "nmae" in project("preview", fails=True)


def test_a_network_is_made_and_removed_and_named_after_its_resource(
    lab: Lab, project: Project
) -> None:
    project.write(
        "docker.Network('net', driver='overlay', attachable=True,"
        f" opts=pulumi.ResourceOptions(provider={PROVIDER}))"
    )
    project.up()
    (name,) = lab.on(
        "node1", "docker network ls --format '{{.Name}} {{.Driver}}' | grep ^net-"
    ).splitlines()
    assert name.startswith("net-")
    assert name.endswith(" overlay")
    project("refresh", "--yes", "--skip-preview")
    assert project.plan() == {}
    project.destroy()
    assert "\nnet-" not in lab.on("node1", "docker network ls --format '{{.Name}}'")


def service_with_files(config: str, secret: str) -> str:
    return f"""
        import base64
        opts = pulumi.ResourceOptions(provider={PROVIDER})
        config = docker.ServiceConfig('c', data_raw='{config}', opts=opts)
        token = pulumi.Output.secret(base64.b64encode(b'{secret}').decode())
        secret = docker.Secret('k', data=token, opts=opts)
        docker.Service('s', name='contract', task_spec={{
            'container_spec': {{
                'image': REGISTRY, 'commands': ['/bin/sleep', '1000'],
                'sysctl': {{'net.ipv4.tcp_syn_retries': '1'}},
                'configs': [{{'config_id': config.id, 'config_name': config.name, 'file_name': '/run/a-config',
                             'file_mode': 0o555}}],
                'secrets': [{{'secret_id': secret.id, 'secret_name': secret.name, 'file_name': 'a-secret', 'file_mode': 0o400}}],
            }},
            'resources': {{'limits': {{'memory_bytes': 64 * 1024 * 1024}}}},
        }}, mode={{'replicated': {{'replicas': 1}}}},
            endpoint_spec={{'ports': [{{'target_port': 5000, 'published_port': 5999, 'publish_mode': 'ingress',
                                       'protocol': 'tcp'}}]}}, opts=opts)
    """  # noqa: E501


def in_the_container(lab: Lab, command: str) -> str:
    script = (
        'for i in $(seq 60); do c=$(docker ps -q --filter name=contract.1); [ -n "$c" ] &&'
        " break; sleep 0.5; done"
    )
    for node in lab.nodes:
        if "contract" in lab.on(
            "node1",
            f"docker service ps --filter node={node} --filter desired-state=running contract",
        ):
            return lab.on(node, f"{script}; docker exec $c {command}")
    raise AssertionError("the service has no task")


def test_a_changed_config_is_made_beside_the_old_one_and_the_service_updated_in_place(
    lab: Lab, project: Project
) -> None:
    project.write(service_with_files("one", "a-hidden-word"))
    project.up()
    assert project.plan() == {}
    project("refresh", "--yes", "--skip-preview")
    assert project.plan() == {}
    assert in_the_container(lab, "cat /run/a-config /run/secrets/a-secret") == "onea-hidden-word"
    assert in_the_container(lab, "stat -c %a /run/a-config /run/secrets/a-secret").split() == [
        "555",
        "400",
    ]
    assert in_the_container(lab, "cat /proc/sys/net/ipv4/tcp_syn_retries").strip() == "1"
    spec = json.loads(lab.on("node1", "docker service inspect --format '{{json .}}' contract"))
    assert spec["Spec"]["TaskTemplate"]["Resources"]["Limits"]["MemoryBytes"] == 64 << 20
    assert [port["PublishedPort"] for port in spec["Spec"]["EndpointSpec"]["Ports"]] == [5999]
    assert "a-hidden-word" not in project("stack", "export")

    project.write(service_with_files("two", "a-hidden-word"))
    plan = project.plan()
    # A replacement shows as its steps; its deletion comes after the service has let go.
    assert plan.pop("update") == ["s"]
    assert all(set(names) == {"c"} for names in plan.values())
    project.up()
    assert (
        lab.on("node1", "docker service inspect --format '{{.ID}}' contract").strip() == spec["ID"]
    )
    assert len(lab.on("node1", "docker config ls -q --filter name=c-").split()) == 1
    assert project.plan() == {}
