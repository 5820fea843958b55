"""Several registries behind one mirror, on real machines: ghcr.io, quay.io, registry.k8s.io and an
alias, each under its own name on the lab's internet (`lab/other_registries.py`).

The tests build on each other; what comes after the first failure is skipped.
"""

import base64
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import deployed, internet, other_registries
from lab.images import random_image
from lab.plan import MIRROR_HOST
from lab.publish import image_bytes, publish_at
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror
from tests.lab.output import counts

pytestmark = pytest.mark.story

NODES = ["node1", "node2", "node3"]
APP = "owner/app:1"
PRIVATE = "private/app:1"
LAYERS = (4 << 20, 3 << 20)
CHECKED = {"ghcr.io": "home-assistant/home-assistant", "quay.io": "prometheus/busybox"}
"""What the gate asks for by itself, and so must be there."""
HOSTS = {
    "ghcr.io": ("ghcr.io", "pkg-containers.githubusercontent.com"),
    "quay.io": ("quay.io",),
    "registry.k8s.io": ("registry.k8s.io", "europe-docker.pkg.dev"),
    "registry.gitlab.com": ("registry.gitlab.com", "gitlab.com"),
}
"""Registry -> the hosts that its images come from."""
GHCR, QUAY, K8S = ({"name": name} for name in ("ghcr.io", "quay.io", "registry.k8s.io"))
LSCR = {"name": "lscr.io", "aliasOf": "ghcr.io"}
LISTED = [GHCR, QUAY, K8S, LSCR]
MOST_MIB = 600
"""Of memory, for a mirror of five upstreams."""


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    internet.start_other_registries(lab.sandbox, lab.folder)
    internet.know_other_registries(lab.sandbox, lab.nodes.values())
    for host in HOSTS:
        archive = random_image(f"app-of-{host}", LAYERS)
        for reference in (APP, PRIVATE):
            publish_at(lab.sandbox, host, archive, reference)
        if host in CHECKED:
            publish_at(lab.sandbox, host, archive, f"{CHECKED[host]}:1")
    found = Mirror(lab)
    if found.stack.outputs():  # a lab that was kept from an earlier run (KEEP_LAB=1)
        configure(found, *LISTED)
        found.destroy()
    lab.on("node1", "rm -rf /var/data/registry")
    yield found
    for host in HOSTS:
        internet.behave(lab.sandbox, "well", internet.at(host))
    found.destroy()


@pytest.fixture(scope="module", autouse=True)
def reloads_before(lab: Lab) -> dict[str, int]:
    """Reloads of each node's docker before the first test here; an earlier file has its own."""
    return {node: lab.reloads(node) for node in NODES}


def configure(mirror: Mirror, *registries: Mapping[str, object], **more: object) -> None:
    mirror.configure(registries=list(registries), upstreamCa=str(mirror.lab.folder.ca), **more)


def pull_everywhere(lab: Lab, image: str, nodes: Iterable[str] = NODES) -> None:
    """At the same moment."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: lab.pull(node, image), nodes))


def reset(lab: Lab) -> None:
    for place in [internet.HUB, *(internet.at(item.name) for item in other_registries.REGISTRIES)]:
        internet.reset_counters(lab.sandbox, place)


def sent(lab: Lab, host: str) -> int:
    """Bytes that a registry's hosts have sent since the last reset."""
    places = [internet.at(name) for name in HOSTS[host]]
    return sum(int(str(internet.counters(lab.sandbox, place)["bytes"])) for place in places)


def warnings(output: str) -> dict[str, str]:
    """The registries that an `up` names as not reached, each with the reason."""
    return dict(re.findall(r"READY, BUT NOT FOR (\S+): (.*)", output))


def of_docker(lab: Lab) -> dict[str, tuple[str, int]]:
    """What of a node's docker must not change: its file and its process, and its reloads."""
    script = (
        "sha256sum /etc/docker/daemon.json 2>&1; stat -c '%i %y' /etc/docker/daemon.json 2>&1;"
        " systemctl show --property=MainPID --value docker"
    )
    return {node: (lab.on(node, script), lab.reloads(node)) for node in NODES}


def test_without_a_registry_that_is_required_no_node_is_touched(lab: Lab, mirror: Mirror) -> None:
    before = of_docker(lab), lab.connections("node2", "node3")
    internet.behave(lab.sandbox, "black-hole", internet.at("quay.io"))
    configure(mirror, GHCR, {**QUAY, "required": True}, K8S, LSCR, readyTimeout=25)
    reason = mirror.up_fails()
    assert "so no node was touched: " in reason
    assert "[RM244]" in reason
    assert "quay.io" in reason
    assert "ghcr.io" not in reason
    assert (of_docker(lab), lab.connections("node2", "node3")) == before


def test_a_registry_that_is_away_is_named_and_every_node_is_configured(
    lab: Lab, mirror: Mirror
) -> None:
    configure(mirror, *LISTED)
    started = time.monotonic()
    output = mirror.up()
    print(f"the second `up`, with one registry dead: {time.monotonic() - started:.0f} s")
    assert warnings(output).keys() == {"quay.io"}
    assert mirror.stack.outputs()["nodes"].keys() == set(NODES)
    lab.wait_for_mirror("node3")
    pull_everywhere(lab, f"{MIRROR_HOST}/ghcr.io/{APP}")
    internet.behave(lab.sandbox, "well", internet.at("quay.io"))


def test_an_image_of_each_registry_crosses_the_internet_once_for_three_engines(lab: Lab) -> None:
    deployed.empty(lab.sandbox)
    lab.on("node1", f"rm -rf {deployed.CACHE}/registries")
    deployed.kill(lab.sandbox)
    reset(lab)
    ratios = {}
    for host in ("ghcr.io", "quay.io", "registry.k8s.io"):
        lab.wait_for_registry(host)
        pull_everywhere(lab, f"{MIRROR_HOST}/{host}/{APP}")
        ratios[host] = sent(lab, host) / image_bytes(lab.sandbox, host, APP)
    print("bytes over the internet per byte of image:", ratios)
    assert all(0.99 < ratio <= 1.01 for ratio in ratios.values()), ratios


def test_an_alias_is_served_from_the_registry_that_it_is_of(lab: Lab) -> None:
    reset(lab)
    pull_everywhere(lab, f"{MIRROR_HOST}/lscr.io/{APP}")
    assert sent(lab, "ghcr.io") < 10_000, "manifests may be asked for again; layers may not"
    assert internet.requests(lab.sandbox, internet.at("lscr.io")) == []


def test_a_registry_comes_and_goes_without_a_word_to_any_docker(
    lab: Lab, mirror: Mirror, reloads_before: dict[str, int]
) -> None:
    before = of_docker(lab)
    reloaded = {node for node, (_, reloads) in before.items() if reloads > reloads_before[node]}
    assert reloaded == {"node1", "node2"}, (
        "those that go by daemon.json were reloaded, so a reload would be seen"
    )
    configure(mirror, *LISTED, {"name": "registry.gitlab.com", "checkRepository": "owner/app"})
    output = mirror.up()
    assert warnings(output) == {}
    reset(lab)
    pull_everywhere(lab, f"{MIRROR_HOST}/registry.gitlab.com/{APP}")
    ratio = sent(lab, "registry.gitlab.com") / image_bytes(lab.sandbox, "registry.gitlab.com", APP)
    assert 0.99 < ratio <= 1.01
    assert of_docker(lab) == before
    print_memory(lab, 5)
    configure(mirror, *LISTED)
    mirror.up()
    assert "registry-mirror-registry-gitlab-com" not in services(lab)
    assert of_docker(lab) == before
    configure(mirror, *LISTED)
    assert set(counts(mirror.up())) == {"unchanged"}


def services(lab: Lab) -> list[str]:
    return lab.on("node1", "docker service ls --format '{{.Name}}'").split()


def print_memory(lab: Lab, upstreams: int) -> None:
    held = {
        name: memory
        for name, (memory, _) in deployed.held(lab.sandbox).items()
        if name.startswith(deployed.SERVICE)
    }
    assert len(held) == upstreams + 1, held
    total = sum(held.values())
    print(f"a mirror of {upstreams} upstreams holds {total:.0f} MiB at most: {held}")
    assert total <= MOST_MIB


CANARY = "lab-canary-of-"
WITH_ACCOUNT = ("ghcr.io", "quay.io")


def configure_accounts(mirror: Mirror, tokens: Mapping[str, str]) -> None:
    """Have the mirror use an account at each of these registries, with this token."""
    listed = [
        {**entry, "username": other_registries.account(entry["name"])[0], "token": "placeholder"}
        if entry["name"] in tokens
        else entry
        for entry in LISTED
    ]
    configure(mirror, *listed, allowFrom=["198.18.0.0/24"])
    for index, entry in enumerate(listed):
        if entry["name"] in tokens:
            path = f"registries[{index}].token"
            mirror.stack.quietly(
                "config", "set", "--secret", "--path", path, stdin=tokens[entry["name"]]
            )


def test_an_account_reaches_its_own_registry_and_nothing_else(lab: Lab, mirror: Mirror) -> None:
    configure_accounts(mirror, {host: other_registries.account(host)[1] for host in WITH_ACCOUNT})
    reset(lab)
    output = mirror.up()
    assert warnings(output) == {}
    for host in WITH_ACCOUNT:
        lab.wait_for_registry(host)
        pull_everywhere(lab, f"{MIRROR_HOST}/{host}/{PRIVATE}")
    places = [item.name for item in other_registries.REGISTRIES]
    shown = {name: json.dumps(internet.headers(lab.sandbox, internet.at(name))) for name in places}
    shown["the hub"] = json.dumps(internet.headers(lab.sandbox))
    reached = {
        (host, name)
        for host in ("ghcr.io", "quay.io")
        for name, text in shown.items()
        if other_registries.account(host)[1] in text
    }
    assert reached == {("ghcr.io", "ghcr.io"), ("quay.io", "quay.io")}
    tickets = {
        (host, name)
        for host in ("ghcr.io", "quay.io")
        for name, text in shown.items()
        if f"ticket-of-{host}" in text
    }
    assert tickets == {("ghcr.io", "ghcr.io"), ("quay.io", "quay.io")}
    texts = {
        "the services": lab.on("node1", "docker service ls -q | xargs docker service inspect"),
        "the configs": lab.on("node1", "docker config ls -q | xargs docker config inspect"),
        "the secrets": lab.on("node1", "docker secret ls -q | xargs docker secret inspect"),
        "the share": lab.on("node1", f"grep -rl {CANARY} /var/data/registry || true"),
        "the state": mirror.stack.quietly("stack", "export"),
        "the output": output + mirror.stack.log.read_text(),
        **{f"docker of {node}": lab.on(node, ON_A_NODE) for node in NODES},
    }
    assert [place for place, text in texts.items() if holds(text, CANARY)] == []
    # The search finds it where it is.
    assert holds(mirror.stack.quietly("stack", "export", "--show-secrets"), CANARY)
    assert holds(base64.b64encode(f'{{"Secret": "{CANARY}x"}}'.encode()).decode(), CANARY)


def holds(text: str, secret: str) -> bool:
    """Whether a text has it, in the clear or inside base64."""
    tokens = (
        token[shift : shift + (len(token) - shift) // 4 * 4]
        for token in re.findall(r"[A-Za-z0-9+/]{12,}", text)
        for shift in range(4)
    )
    return secret in text or any(secret.encode() in base64.b64decode(token) for token in tokens)


ON_A_NODE = (
    "docker ps -aq | xargs -r docker inspect;"
    f" for c in $(docker ps -aq --filter name={deployed.SERVICE}); do docker logs $c 2>&1; done;"
    " cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '"
)


@pytest.mark.long
def test_a_wrong_account_of_one_registry_is_named(lab: Lab, mirror: Mirror) -> None:
    configure_accounts(
        mirror, {"ghcr.io": other_registries.account("ghcr.io")[1], "quay.io": "wrong"}
    )
    output = mirror.up()
    assert warnings(output).keys() == {"quay.io"}
    lab.wait_for_registry("ghcr.io")
    pull_everywhere(lab, f"{MIRROR_HOST}/ghcr.io/{PRIVATE}")


@pytest.mark.long
def test_a_registry_with_the_tokens_of_another_one_is_named_with_the_remedy(
    lab: Lab, mirror: Mirror
) -> None:
    vanity = {"name": "images.vanity.test", "checkRepository": "owner/app"}
    configure(mirror, *LISTED, vanity)
    output = mirror.up()
    found = warnings(output)
    assert found.keys() == {"images.vanity.test"}
    assert "[RM241]" in found["images.vanity.test"]
    assert "ghcr.io" in found["images.vanity.test"]
    configure(mirror, *LISTED, {"name": "images.vanity.test", "aliasOf": "ghcr.io"})
    assert warnings(mirror.up()) == {}
    lab.wait_for_registry("ghcr.io")
    pull_everywhere(lab, f"{MIRROR_HOST}/images.vanity.test/{APP}")
