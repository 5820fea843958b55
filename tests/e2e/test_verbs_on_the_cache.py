"""What an operator does to the cache, on real machines: the list `warm`, and the verbs `warm`,
`prepull`, `why`, `purge` and `stats`.

The tests build on each other; what comes after the first failure is skipped.
"""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lab import deployed, internet
from lab.images import publish_at_hub, random_image
from lab.plan import MIRROR_HOST
from lab.publish import publish_at
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror

pytestmark = pytest.mark.story

NODES = ["node1", "node2", "node3"]
LAYERS = (6 << 20, 3 << 20)
SIZE = sum(LAYERS)
HUB_IMAGE = "verbs-of-hub:1"
NEW_IMAGE = "verbs-of-prepull:1"
GHCR_IMAGE = "ghcr.io/owner/verbs:1"
NOBODYS = "verbs-of-nobody:9"
CONTENT_OF_GHCR = "pkg-containers.githubusercontent.com"


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    internet.start_other_registries(lab.sandbox, lab.folder)
    internet.know_other_registries(lab.sandbox, lab.nodes.values())
    for name in ("verbs-of-hub", "verbs-of-prepull"):
        publish_at_hub(lab.sandbox, random_image(name, LAYERS), f"library/{name}:1")
    publish_at(lab.sandbox, "ghcr.io", random_image("verbs-of-ghcr", LAYERS), "owner/verbs:1")
    publish_at(
        lab.sandbox,
        "ghcr.io",
        random_image("verbs-of-ghcr", LAYERS),
        "home-assistant/home-assistant:1",
    )
    found = Mirror(lab)
    if found.stack.outputs():  # a lab that was kept from an earlier run (KEEP_LAB=1)
        found.destroy()
    lab.on("node1", f"rm -rf {deployed.CACHE}")
    yield found
    found.configure()
    found.destroy()


def configure(mirror: Mirror, **more: object) -> None:
    mirror.configure(registries=[{"name": "ghcr.io"}], upstreamCa=str(mirror.lab.folder.ca), **more)


def sent(lab: Lab) -> int:
    """Bytes over the internet since `reset`, of both registries."""
    places = [internet.HUB, internet.at("ghcr.io"), internet.at(CONTENT_OF_GHCR)]
    return sum(int(str(internet.counters(lab.sandbox, place)["bytes"])) for place in places)


def reset(lab: Lab) -> None:
    for place in (internet.HUB, internet.at("ghcr.io"), internet.at(CONTENT_OF_GHCR)):
        internet.reset_counters(lab.sandbox, place)


def report(mirror: Mirror, *words: str, code: int = 0) -> Any:
    """What a verb says to a script."""
    ended, output = mirror.operate(*words, "--json")
    assert ended == code, output
    # Behind it stands the progress, which goes to stderr.
    found, _ = json.JSONDecoder().raw_decode(output)
    return found


def pull_everywhere(lab: Lab, image: str) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: lab.pull(node, image), NODES))


def test_up_fails_before_any_node_where_a_required_image_cannot_be_had(
    lab: Lab, mirror: Mirror
) -> None:
    before = lab.connections("node2", "node3")
    configure(mirror, warm=[HUB_IMAGE, NOBODYS], warmRequired=True)
    reason = mirror.up_fails()
    assert "[RM264]" in reason
    assert NOBODYS in reason
    assert HUB_IMAGE not in reason
    assert lab.connections("node2", "node3") == before


def test_up_fetches_the_images_of_the_list_and_names_the_one_that_does_not_exist(
    lab: Lab, mirror: Mirror
) -> None:
    configure(mirror, warm=[HUB_IMAGE, NOBODYS, GHCR_IMAGE])
    output = mirror.up()
    assert f"NOT WARMED: {NOBODYS}: " in output
    assert mirror.stack.outputs()["nodes"].keys() == set(NODES)
    assert "unchanged" in mirror.preview_without_network()
    lab.wait_for_mirror("node3")
    reset(lab)
    pull_everywhere(lab, HUB_IMAGE)
    pull_everywhere(lab, f"{MIRROR_HOST}/{GHCR_IMAGE}")
    assert sent(lab) < 100_000, "manifests may be asked for again; layers may not"


def test_what_is_warm_is_not_fetched_again_and_one_that_fails_keeps_no_other_back(
    lab: Lab, mirror: Mirror
) -> None:
    reset(lab)
    entries = report(mirror, "warm", NOBODYS, HUB_IMAGE, GHCR_IMAGE, "quay.io/a/b", code=1)
    found = {entry["image"]: entry for entry in entries}
    assert {name: entry["outcome"] for name, entry in found.items()} == {
        NOBODYS: "failed",
        "quay.io/a/b": "failed",
        HUB_IMAGE: "warm",
        GHCR_IMAGE: "warm",
    }
    assert found[HUB_IMAGE]["fetched"] == 0
    assert found[HUB_IMAGE]["size"] > SIZE
    assert found[HUB_IMAGE]["platforms"] == [f"linux/{architecture(lab)}"]
    assert sent(lab) < 100_000


def architecture(lab: Lab) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[lab.on("node1", "uname -m").strip()]


def test_the_images_that_run_are_warm_also_after_the_cache_was_lost(
    lab: Lab, mirror: Mirror
) -> None:
    lab.on("node1", f"docker service create --detach --name verbs {HUB_IMAGE} /none")
    deployed.empty(lab.sandbox)
    lab.wait_for_mirror("node1")
    code, text = mirror.operate("warm", "--from-running")
    print(text)
    assert code == 0, text
    assert re.search(rf"{HUB_IMAGE}\S* +warm +", text), text
    lab.on("node1", "docker service rm verbs")
    reset(lab)
    pull_everywhere(lab, HUB_IMAGE)
    assert sent(lab) < 100_000


def test_every_node_has_what_was_pulled_before_a_task_needs_it(lab: Lab, mirror: Mirror) -> None:
    reset(lab)
    entries = report(mirror, "prepull", NEW_IMAGE)
    assert {entry["node"]: entry["outcome"] for entry in entries} == dict.fromkeys(NODES, "pulled")
    assert SIZE <= sent(lab) < 1.05 * SIZE + 100_000, "over the internet once"
    (image,) = {entry["image"] for entry in entries}
    for node in NODES:
        lab.on(node, f"docker image inspect {image}")
    code, text = mirror.operate("prepull", NEW_IMAGE)
    print(text)
    assert (code, text.count(" here ")) == (0, len(NODES)), text


def why(mirror: Mirror, image: str, code: int = 0) -> dict[str, dict[str, Any]]:
    return {entry["node"]: entry for entry in report(mirror, "why", image, code=code)}


def test_why_tells_for_each_node_where_its_next_pull_goes(lab: Lab, mirror: Mirror) -> None:
    found = why(mirror, HUB_IMAGE)
    assert {node: entry["goes"] for node, entry in found.items()} == dict.fromkeys(NODES, "mirror")
    assert len({entry["digest"] for entry in found.values()}) == 1
    assert all(entry["copies"] for entry in found.values()), "they have pulled it"
    reads = {node for node in NODES if lab.nodes[node].has.containerd_store}
    by_own_name = why(mirror, GHCR_IMAGE, code=0 if reads == set(NODES) else 1)
    assert {node for node, entry in by_own_name.items() if entry["goes"] == "mirror"} == reads
    assert all(
        "asks a mirror for Docker Hub's images only" in entry["reason"]
        for node, entry in by_own_name.items()
        if node not in reads
    )
    nobodys = why(mirror, NOBODYS, code=1)
    assert {entry["goes"] for entry in nobodys.values()} == {"UPSTREAM"}


def test_why_tells_of_a_node_that_does_not_find_the_mirror(lab: Lab, mirror: Mirror) -> None:
    lab.on("node2", f"cp /etc/hosts /run/hosts; echo 127.0.0.1 {MIRROR_HOST} > /etc/hosts")
    try:
        # By the mirror's own name there is nobody else to ask, on any engine.
        found = why(mirror, f"{MIRROR_HOST}/{GHCR_IMAGE}", code=1)
        assert {node: entry["goes"] for node, entry in found.items()} == {
            "node1": "mirror",
            "node2": "NOWHERE",
            "node3": "mirror",
        }
        assert "[RM164]" in found["node2"]["reason"]
    finally:
        lab.on("node2", "cat /run/hosts > /etc/hosts")


def test_a_purged_image_crosses_the_internet_again_and_no_other_one_does(
    lab: Lab, mirror: Mirror
) -> None:
    code, output = mirror.operate("purge", GHCR_IMAGE)
    assert (code, "--yes" in output) == (64, True), "nobody is there to be asked"
    code, output = mirror.operate("warm", HUB_IMAGE, GHCR_IMAGE, NOBODYS, "quay.io/a/b")
    print(output)
    assert code == 1, output
    code, output = mirror.operate("purge", GHCR_IMAGE, "--yes")
    print(output)
    assert (code, "removed" in output) == (0, True), output
    reset(lab)
    lab.pull("node1", f"{MIRROR_HOST}/{GHCR_IMAGE}")
    assert sent(lab) >= SIZE
    reset(lab)
    lab.pull("node1", HUB_IMAGE)
    assert sent(lab) < 100_000
    code, output = mirror.operate("purge", NOBODYS, "--yes")
    assert (code, "is not in the cache" in output) == (1, True), output


def test_stats_tell_what_each_registry_did_and_what_it_noted(lab: Lab, mirror: Mirror) -> None:
    now = int(time.time())
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    notes = f"{deployed.CACHE}/.usage"
    lab.on(
        "node1",
        f"mkdir -p {notes}; echo '{now - 3600} requests=10 hits=9 misses=1 served_bytes=5000"
        f" fetched_bytes=1000 oldest_use={now - 90000}' > {notes}/hours;"
        f" echo '7 library/traefik:v3.7' > {notes}/pulls-{day}",
    )
    found = report(mirror, "stats", "--days", "2")
    hub, ghcr = found["registries"]
    assert (hub["registry"], ghcr["registry"]) == ("", "ghcr.io")
    # That hour, and the one that is running, of which the registry itself has made notes.
    assert hub["hours"] == 2
    assert hub["hits"] >= 9
    assert hub["saved_bytes"] >= 4000
    assert 0 < hub["hit_rate"] <= 1
    assert ghcr["counters"]["pulled_bytes"] >= SIZE
    assert found["top"]["library/traefik:v3.7"] == 7
    assert found["node"]
    code, text = mirror.operate("stats")
    print(text)
    assert (code, "most pulled" in text) == (0, True)
