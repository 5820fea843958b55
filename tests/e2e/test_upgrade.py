"""A stack of the version before `local.Command`, taken over by one `up`, and destroyed as it is.

`tests/former/remote_command.json` has that version's commands, programs and rules for sudo. What it
would have left in a lab and in a state is made of them and of what this version leaves: the
resources of other types are the same.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from components.registry_mirror import ship
from components.registry_mirror.nodes import SUCCESSOR
from lab.plan import CHECKOUT, NODES
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror
from tests.lab.output import counts

FORMER = json.loads((CHECKOUT / "tests/former/remote_command.json").read_text())
ACTIONS = {
    "claim": ("claim.take", None, "claim.release"),
    "storage": ("storage.apply", None, "storage.remove"),
    "ready": ("ready.wait", "ready.wait_again", None),
    "node": ("node.apply", None, "node.remove"),
}
"""Agent -> what its resource runs when it is created, updated and deleted."""
NAMES = [node.name for node in NODES]
SIGNATURE, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"


FORMER_CLAIMS = f"""
set -e
labels='{{{{range $key, $value := .Spec.Labels}}}}{{{{$key}}}}={{{{$value}}}}{{{{println}}}}{{{{end}}}}'
for config in $(docker config ls --quiet --filter label=swarm-registry-mirror.claim); do
    name=$(docker config inspect --format '{{{{.Spec.Name}}}}' $config)
    docker config inspect --format "$labels" $config | sed -n 's/\\{SUCCESSOR}$//; /=/p' > /tmp/labels
    set --
    while IFS= read -r label; do set -- "$@" --label "$label"; done < /tmp/labels
    docker config rm $config
    echo former | docker config create "$@" $name -
done
sed -i 's/\\{SUCCESSOR}$//' /var/data/registry/registry-mirror-data/.swarm-registry-mirror
"""  # noqa: E501
"""Claims and the storage's mark as they were: under the identity itself."""


def former_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as the former version had them."""
    found = {key: value for key, value in settings.items() if key != "former"}
    for key in ("owner", "identity"):
        if key in found:
            found[key] = found[key].removesuffix(SUCCESSOR)
    return found


def secret(value: Any) -> dict[str, Any]:
    return {SIGNATURE: SECRET, "plaintext": json.dumps(value)}


class FormerStack:
    """The lab, and this mirror's state, as the former version leaves them."""

    def __init__(self, lab: Lab, mirror: Mirror) -> None:
        self.lab = lab
        self.key = lab.private_key()
        lab.on("node1", FORMER_CLAIMS)
        # Its rules for sudo are there until the upgrade is done, as their head says.
        lab.on(
            "node3",
            "umask 227; cat > /etc/sudoers.d/registry-mirror-former",
            FORMER["sudoers"].encode(),
        )
        state = json.loads(mirror.stack.quietly("stack", "export", "--show-secrets"))
        resources = [
            self._as_before(resource)
            for resource in state["deployment"]["resources"]
            if "-runner-" not in resource["urn"] and "-wave-" not in resource["urn"]
        ]
        text = json.dumps({**state, "deployment": {**state["deployment"], "resources": resources}})
        for resource in resources:
            if resource["type"] == "command:remote:Command":
                text = text.replace(resource["urn"].replace(":remote:", ":local:"), resource["urn"])
        file = lab.folder.root / "former-state.json"
        file.write_text(text)
        mirror.stack.quietly("stack", "import", "--file", str(file))
        file.unlink()

    def _as_before(self, resource: dict[str, Any]) -> dict[str, Any]:
        name = resource["urn"].rpartition("::")[2].removeprefix("registry-mirror-")
        agent = name.partition("-")[0]
        if agent not in ACTIONS:
            return resource
        variables, settings = (
            resource["inputs"]["environment"],
            json.loads(resource["inputs"]["stdin"]),
        )
        create, update, delete = ACTIONS[agent]
        machine = self.lab.nodes[variables["MIRROR_NODE"]]
        before = {**former_settings(settings), "program": FORMER["programs"][agent]}
        if agent == "node" and delete is not None:
            self.lab.on(
                machine.name,
                ship.command(delete, None),
                json.dumps({**settings, "program": ship.program(agent)}).encode(),
            )
            self.lab.on(machine.name, FORMER["commands"][create], json.dumps(before).encode())
        prefix = "sudo -n " if "MIRROR_BECOME" in variables else ""
        connection = {
            "host": machine.address,
            "port": 22,
            "user": machine.user,
            "hostKey": variables["MIRROR_HOST_KEY"],
            "privateKey": secret(self.key),
            "dialErrorLimit": 1,
            "perDialTimeout": 8,
        }
        inputs = {
            "connection": secret(connection),
            "create": prefix + FORMER["commands"][create],
            "stdin": json.dumps(before, indent=1),
            "addPreviousOutputInEnv": False,
            "logging": resource["inputs"]["logging"],
            **({"update": prefix + FORMER["commands"][update]} if update else {}),
            **({"delete": prefix + FORMER["commands"][delete]} if delete else {}),
        }
        answers = {key: resource["outputs"][key] for key in ("stdout", "stderr")}
        by_property = {
            key: value
            for key, value in resource.get("propertyDependencies", {}).items()
            if key in inputs
        }
        return {
            **resource,
            "type": "command:remote:Command",
            "urn": resource["urn"].replace("command:local:", "command:remote:"),
            "inputs": inputs,
            "outputs": {**inputs, **answers},
            "propertyDependencies": by_property,
        }


@pytest.fixture(scope="module")
def originals(lab: Lab) -> dict[str, bytes | None]:
    return {node: lab.daemon_json(node) for node in NAMES}


@pytest.fixture
def mirror(lab: Lab, originals: dict[str, bytes | None]) -> Iterator[Mirror]:
    """A mirror that is up, in the form that the former version leaves."""
    mirror = Mirror(lab)
    mirror.up()
    FormerStack(lab, mirror)
    yield mirror
    mirror.destroy()
    lab.on("node3", "rm /etc/sudoers.d/registry-mirror-former")


def reloads(lab: Lab) -> dict[str, int]:
    """How often each docker was reloaded or started."""
    script = "journalctl --unit=docker --output=cat | grep -ciE 'reload|starting up' || true"
    return {node: int(lab.on(node, script)) for node in NAMES}


def types(mirror: Mirror) -> set[str]:
    state = json.loads(mirror.stack.quietly("stack", "export"))
    return {resource["type"] for resource in state["deployment"]["resources"]}


def tasks(lab: Lab) -> str:
    return lab.on(
        "node1", "docker service ps --no-trunc --quiet registry-mirror registry-mirror-front"
    )


def test_one_up_takes_a_former_stack_over_without_a_reload_and_it_can_be_destroyed_after(
    lab: Lab, mirror: Mirror, originals: dict[str, bytes | None]
) -> None:
    assert "command:remote:Command" in types(mirror)
    # docker with a containerd store reads hosts.toml now, so its entry in daemon.json is taken out,
    # which takes a reload.
    moved = [node for node in NAMES if lab.nodes[node].has.containerd_store]
    same = [node for node in NAMES if node not in moved]
    before, running, files = (
        reloads(lab),
        tasks(lab),
        {node: lab.daemon_json(node) for node in same},
    )
    output = mirror.up()
    assert counts(output).get("deleted", 0) == 3 + len(NAMES)
    done = mirror.stack.outputs()["nodes"]
    assert done == {
        **dict.fromkeys(same, "unchanged"),
        **dict.fromkeys(moved, "written and reloaded"),
    }
    assert {node: reloads(lab)[node] for node in same} == {node: before[node] for node in same}
    assert tasks(lab) == running
    assert {node: lab.daemon_json(node) for node in same} == files
    assert "command:remote:Command" not in types(mirror)
    assert {entry["state"] for entry in mirror.status().values()} == {"healthy"}
    assert set(counts(mirror.up())) == {"unchanged"}
    mirror.destroy()
    assert {node: lab.daemon_json(node) for node in NAMES} == originals
    assert (
        lab.on(
            "node1", "docker config ls --quiet --filter label=swarm-registry-mirror.claim"
        ).strip()
        == ""
    )


@pytest.mark.long
def test_a_node_that_leaves_the_list_at_the_upgrade_is_restored_by_the_version_that_configured_it(
    lab: Lab, mirror: Mirror, originals: dict[str, bytes | None]
) -> None:
    mirror.configure(without=["node3"])
    mirror.up()
    assert lab.daemon_json("node3") == originals["node3"]
    assert lab.mirrors("node3") == []
    mirror.configure()


def test_the_state_of_a_former_stack_is_destroyed_as_it_is(
    lab: Lab, mirror: Mirror, originals: dict[str, bytes | None]
) -> None:
    mirror.destroy()
    assert {node: lab.daemon_json(node) for node in NAMES} == originals
    assert not any("https://mirror.lab.test" in url for node in NAMES for url in lab.mirrors(node))
