"""What this project relies on in the docker plugin: run against the official one where it is, else against the stand-in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab_fixture import Lab, Project, counts

PROVIDER = "docker.Provider('p', host='ssh://root@198.18.0.11', ssh_opts=SSH)"


@pytest.fixture
def project(lab: Lab, tmp_path: Path) -> Iterator[Project]:
    found = Project(lab, tmp_path)
    yield found
    found.destroy()


def service(network: str, label: str = "one", image: str = "") -> str:
    image = image or "images.lab.test/registry:3.1.1@' + DIGEST + '"
    return f"""
        DIGEST = open({"'" + str(Path(".lab/test/registry.digest").resolve()) + "'"}).read().strip()
        opts = pulumi.ResourceOptions(provider={PROVIDER})
        docker.Service('s', name='contract', labels=[{{'label': 'l', 'value': '{label}'}}],
            mode={{'replicated': {{'replicas': 1}}}},
            update_config={{'parallelism': 1, 'order': 'stop-first', 'failure_action': 'pause'}},
            task_spec={{
                'container_spec': {{
                    'image': '{image}', 'env': {{'A': 'b'}},
                    'labels': [{{'label': 'x', 'value': 'y'}}],
                    'mounts': [{{'type': 'bind', 'source': '/var/data', 'target': '/a', 'read_only': True}},
                               {{'type': 'bind', 'source': '/tmp', 'target': '/b', 'read_only': False}}],
                    'healthcheck': {{'tests': ['CMD', 'true'], 'interval': '5s', 'timeout': '15s', 'retries': 2,
                        'start_period': '1s'}},
                }},
                'networks_advanceds': [{{{network}}}],
                'restart_policy': {{'condition': 'any', 'delay': '5s'}},
                'placement': {{'constraints': ['node.role == manager']}},
            }}, opts=opts)
    """


def network_id(lab: Lab) -> str:
    return lab.on("node1", "docker network inspect --format '{{.ID}}' traefik_public").strip()


def test_an_ssh_host_is_not_contacted_in_a_preview(lab: Lab, project: Project) -> None:
    before = lab.connections("node1")
    project.write(service(f"'id': '{network_id(lab)}'"))
    assert project.plan()["create"][-1] == "s"
    assert lab.connections("node1") == before


def test_a_tcp_host_that_is_not_there_fails_the_preview(project: Project) -> None:
    project.write(
        "docker.Network('n', driver='overlay', opts=pulumi.ResourceOptions(provider=docker.Provider('p', host='tcp://127.0.0.1:1')))"
    )
    assert "failed to connect to any docker daemon" in project("preview", fails=True)


def test_a_service_attached_by_network_id_is_clean_after_up_and_refresh(lab: Lab, project: Project) -> None:
    project.write(service(f"'id': '{network_id(lab)}'"))
    project.up()
    assert project.plan() == {}
    assert counts(project.up()) == {"unchanged": 3}
    project("refresh", "--yes", "--skip-preview")
    assert project.plan() == {}


def test_a_service_attached_by_network_name_is_replaced_for_ever_after_a_refresh(project: Project) -> None:
    project.write(service("'name': 'traefik_public'"))
    project.up()
    assert project.plan() == {}
    project("refresh", "--yes", "--skip-preview")
    for _ in range(2):
        assert "replace" in project.plan()
        project.up()
        project("refresh", "--yes", "--skip-preview")


def test_labels_change_in_place_and_networks_replace(lab: Lab, project: Project) -> None:
    network = network_id(lab)
    project.write(service(f"'id': '{network}'"))
    project.up()
    id_ = lab.on("node1", "docker service inspect --format '{{.ID}}' contract")
    project.write(service(f"'id': '{network}'", label="two"))
    assert project.plan() == {"update": ["s"]}
    assert counts(project.up())["updated"] == 1
    assert lab.on("node1", "docker service inspect --format '{{.ID}} {{index .Spec.Labels \"l\"}}' contract").split() == [
        id_.strip(),
        "two",
    ]
    other = lab.on("node1", "docker network create --driver overlay contract-other").strip()
    project.write(service(f"'id': '{other}'", label="two"))
    # An explicit name cannot be there twice, so the old one goes first.
    assert project.plan()["replace"] == ["s"]
    project.up()
    assert lab.on("node1", "docker service inspect --format '{{.ID}}' contract") != id_
    project.destroy()
    lab.on("node1", "for i in 1 2 3 4 5; do docker network rm contract-other && exit 0; sleep 1; done; exit 1")


def test_a_service_that_somebody_removed_is_made_again_after_a_refresh(lab: Lab, project: Project) -> None:
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
    """)
    assert "nmae" in project("preview", fails=True)


def test_a_network_is_made_and_removed_and_named_after_its_resource(lab: Lab, project: Project) -> None:
    project.write(f"docker.Network('net', driver='overlay', attachable=True, opts=pulumi.ResourceOptions(provider={PROVIDER}))")
    project.up()
    (name,) = lab.on("node1", "docker network ls --format '{{.Name}} {{.Driver}}' | grep ^net-").splitlines()
    assert name.startswith("net-")
    assert name.endswith(" overlay")
    project.destroy()
    assert "\nnet-" not in lab.on("node1", "docker network ls --format '{{.Name}}'")
