"""Who may have a hostname, a service name, a cache: what is on a swarm against what is asked for,
over a simulated docker."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.registry_mirror.node_agent import claim, engine, files, routes, storage
from components.registry_mirror.node_agent.request import ClaimRequest, StorageRequest, decode

CASES = json.loads((Path(__file__).parent / "cases" / "routes.json").read_text())
MARKER = "# Written by swarm-registry-mirror"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
def test_whether_traefik_may_lead_the_mirrors_requests_elsewhere(case: dict[str, Any]) -> None:
    assert (
        routes.leads_here(case["labels"], "m.test", case.get("entrypoint", "websecure"))
        is case["leads"]
    )


def take(asked: dict[str, Any]) -> str:
    return claim.take(decode(ClaimRequest, asked))


def release(asked: dict[str, Any]) -> str:
    return claim.release(decode(ClaimRequest, asked))


def put_on_storage(asked: dict[str, Any]) -> str:
    return storage.apply(decode(StorageRequest, asked))


class Swarm:
    """The commands of docker that a claim is made of: configs with unique names, services,
    nodes."""

    def __init__(self) -> None:
        self.configs: dict[str, dict[str, str]] = {}
        self.services: list[dict[str, Any]] = []
        self.networks = ["traefik_public", "web"]
        self.quicker: dict[str, dict[str, str]] = {}
        """Configs that somebody else makes just before we do."""

    def run(self, *words: str, seconds: float = 0) -> str:
        if words[0] == "sh":
            return self.create(list(words[4:]))
        if words[1] == "network":
            assert "driver=overlay" in words
            return "\n".join(self.networks)
        kind, verb, names = (
            words[1],
            words[2],
            [word for word in words[3:] if not word.startswith("-")],
        )
        if verb == "rm":
            del self.configs[names[0]]
            return ""
        found = {
            "config": [
                {"Spec": {"Name": name, "Labels": labels}} for name, labels in self.configs.items()
            ],
            "service": [{"Spec": spec} for spec in self.services],
            "node": [
                {"ID": f"id-{name}", "Description": {"Hostname": name}} for name in ("w1", "w2")
            ],
        }[kind]
        return (
            "some ids" if verb == "ls" and found else json.dumps(found) if verb == "inspect" else ""
        )

    def create(self, words: list[str]) -> str:
        labels = dict(word.split("=", 1) for word in words[1:-1:2])
        name = words[-1]
        self.configs.update({made: found for made, found in self.quicker.items() if made == name})
        if name in self.configs:
            raise engine.EngineProblem("`sh -c` failed: name conflicts with an existing object")
        self.configs[name] = labels
        return "id"

    def add(
        self, name: str, labels: dict[str, str] | None = None, source: str = "", **more: Any
    ) -> None:
        """A service; `source` is what it has at the registry's cache."""
        mounts = (
            [{"Type": more.pop("kind", "bind"), "Source": source, "Target": "/var/lib/registry"}]
            if source
            else []
        )
        placement = {"Constraints": more.pop("constraints", [])}
        container = {"Mounts": mounts, **more}
        self.services.append(
            {
                "Name": name,
                "Labels": labels or {},
                "TaskTemplate": {"ContainerSpec": container, "Placement": placement},
            }
        )

    def held(self) -> set[str]:
        """Values that are claimed."""
        return {labels["swarm-registry-mirror.claim.value"] for labels in self.configs.values()}


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Swarm:
    swarm = Swarm()
    monkeypatch.setattr(engine, "run", swarm.run)
    return swarm


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    return {
        "identity": "a" * 32,
        "stack": "acme/mirror/prod/hub",
        "hostname": "m.test",
        "entrypoint": "websecure",
        "services": ["hub", "hub-front"],
        "front": "hub-front",
        "routers": ["hub", "hub-front", "hub-metrics"],
        "cache": {"path": f"{tmp_path}/cache"},
        "cache_target": "/var/lib/registry",
        "config_path": f"{tmp_path}/config.yml",
        "marker": MARKER,
        "network": "web",
    }


@pytest.fixture
def other(asked: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A second stack with everything its own, and the same names in Pulumi."""
    return {
        **asked,
        "identity": "b" * 32,
        "hostname": "n.test",
        "services": ["quay", "quay-front"],
        "front": "quay-front",
        "routers": ["quay", "quay-front"],
        "cache": {"path": f"{tmp_path}/other"},
        "config_path": f"{tmp_path}/other.yml",
    }


RULE: dict[str, Any] = {"traefik.http.routers.x.rule": "Host(`m.test`)"}
OURS: dict[str, Any] = {"Labels": {"swarm-registry-mirror.digest": "sha256:x"}}


def test_a_claim_is_a_swarm_config_for_each_thing_and_can_be_given_back(
    swarm: Swarm, asked: dict[str, Any], tmp_path: Path
) -> None:
    assert take(asked) == "claimed"
    assert swarm.held() == {
        "m.test",
        "hub",
        "hub-front",
        f"path {tmp_path}/cache",
        f"{tmp_path}/config.yml",
    }
    assert all(len(name) <= 64 for name in swarm.configs)
    assert take(asked) == "claimed"
    assert release(asked) == "released"
    assert swarm.configs == {}


def test_what_a_former_version_has_claimed_becomes_ours_and_its_release_leaves_it(
    swarm: Swarm, asked: dict[str, Any]
) -> None:
    take(asked)
    successor = {**asked, "identity": asked["identity"] + ".2", "former": asked["identity"]}
    held = swarm.held()
    assert take(successor) == "claimed"
    release(asked)
    assert swarm.held() == held
    release(successor)
    assert swarm.configs == {}


def test_two_mirrors_with_everything_their_own_live_side_by_side(
    swarm: Swarm, asked: dict[str, Any], other: dict[str, Any]
) -> None:
    take(asked)
    take(other)
    release(other)
    assert "m.test" in swarm.held()
    assert "n.test" not in swarm.held()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (
            "hostname",
            "the hostname m.test is taken by the mirror of the stack acme/mirror/prod/hub",
        ),
        ("services", "the service hub is taken by"),
        ("cache", "the cache path .*/cache is taken by"),
        ("config_path", "the config .*/config.yml is taken by"),
    ],
)
def test_what_another_stack_has_claimed_is_refused_and_nothing_is_claimed(
    swarm: Swarm, asked: dict[str, Any], other: dict[str, Any], key: str, words: str
) -> None:
    take(asked)
    before = dict(swarm.configs)
    with pytest.raises(files.Failed, match="nothing was made: " + words) as refused:
        take({**other, key: asked[key]})
    assert swarm.configs == before
    name = str(refused.value).rpartition("docker config rm ")[2].split(")")[0]
    assert name in swarm.configs, "the remedy names the very claim"


def test_who_is_quicker_has_it_and_the_other_gives_back_what_it_took(
    swarm: Swarm, asked: dict[str, Any], other: dict[str, Any]
) -> None:
    take(asked)
    swarm.quicker = {name: labels for name, labels in swarm.configs.items() if ".cache." in name}
    swarm.configs = {}
    with pytest.raises(
        files.Failed, match="is taken by the mirror of the stack acme/mirror/prod/hub"
    ):
        take({**other, "cache": asked["cache"]})
    assert set(swarm.configs) == set(swarm.quicker)


def test_a_stack_that_was_renamed_is_the_same_and_gives_back_what_it_does_not_want_any_more(
    swarm: Swarm, asked: dict[str, Any]
) -> None:
    take(asked)
    swarm.add("hub", RULE, asked["cache"]["path"])
    renamed = {
        **asked,
        "stack": "acme/mirror/live/hub",
        "services": ["cache"],
        "front": "cache-front",
    }
    assert take(renamed) == "claimed"
    assert {"hub", "hub-front"} & swarm.held() == set()
    assert "cache" in swarm.held()


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"name": "hub"}, "there is a service hub already"),
        ({"name": "hub", "labels": RULE}, "there is a service hub already"),
        (
            {"name": "hub-front", **OURS, "Env": ["REGISTRY=another"]},
            "there is a service hub-front already",
        ),
        ({"name": "theirs", "labels": RULE}, "leads the hostname m.test to the service theirs"),
        (
            {"name": "theirs", "labels": {"traefik.http.routers.hub-front.tls": "true"}},
            "has a Traefik router hub-front",
        ),
        ({"name": "theirs", "source": "CACHE"}, "the service theirs writes to the cache path"),
        (
            {"name": "theirs", "source": "CACHE/below"},
            "the service theirs writes to the cache path",
        ),
    ],
)
def test_a_service_without_a_claim_counts_too(
    swarm: Swarm, asked: dict[str, Any], service: dict[str, Any], words: str
) -> None:
    given: dict[str, Any] = {
        key: value.replace("CACHE", asked["cache"]["path"]) if isinstance(value, str) else value
        for key, value in service.items()
    }
    swarm.add(**given)
    with pytest.raises(files.Failed, match="nothing was made: .*" + words):
        take(asked)
    assert swarm.configs == {}
    swarm.services.clear()  # the remedy
    assert take(asked) == "claimed"


def test_the_services_of_an_earlier_version_are_ours_by_hostname_or_cache(
    swarm: Swarm, asked: dict[str, Any]
) -> None:
    swarm.add("hub", {"traefik.enable": "false"}, asked["cache"]["path"], **OURS)
    swarm.add("hub-front", RULE, **OURS, Env=["PORT=6081", "REGISTRY=hub"])
    assert take({**asked, "hostname": "moved.test"}) == "claimed"
    release(asked)
    assert take({**asked, "services": ["hub"]}) == "claimed", (
        "Varnish that is not wanted any more is no stranger"
    )
    release(asked)
    with pytest.raises(files.Failed, match="there is a service hub already"):
        take({**asked, "hostname": "moved.test", "cache": {"path": "/elsewhere"}})


def test_a_mirror_that_was_made_by_hand_and_adopted_is_ours_by_hostname_and_cache(
    swarm: Swarm, asked: dict[str, Any]
) -> None:
    swarm.add("hub", RULE, asked["cache"]["path"])
    assert take(asked) == "claimed"


@pytest.mark.parametrize(
    ("constraints", "free"),
    [
        (["node.hostname == w2"], True),
        (["node.id == id-w2"], True),
        (["node.hostname == w1"], False),
        (["node.id==id-w1"], False),
        ([], False),
    ],
)
def test_a_volume_is_one_machines(
    swarm: Swarm, asked: dict[str, Any], constraints: list[str], free: bool
) -> None:
    swarm.add("theirs", source="cache", kind="volume", constraints=constraints)
    wanted = {
        **asked,
        "cache": {"volume": "cache", "constraints": ["node.hostname == w1"]},
        "config_path": None,
    }
    if free:
        assert take(wanted) == "claimed"
        assert "volume cache on id-w1" in swarm.held()
    else:
        with pytest.raises(
            files.Failed, match="the service theirs writes to the cache volume cache on id-w1"
        ):
            take(wanted)


def test_an_export_is_the_same_however_its_volume_is_called(
    swarm: Swarm, asked: dict[str, Any]
) -> None:
    driver = {
        "DriverConfig": {"Options": {"type": "nfs", "o": "addr=nfs.test,rw", "device": ":/export/"}}
    }
    swarm.add("theirs", source="any-name", kind="volume")
    swarm.services[0]["TaskTemplate"]["ContainerSpec"]["Mounts"][0]["VolumeOptions"] = driver
    wanted = {
        **asked,
        "cache": {"nfs": {"addr": "nfs.test", "device": ":/export"}},
        "config_path": None,
    }
    with pytest.raises(files.Failed, match=r"writes to the cache nfs nfs\.test /export"):
        take(wanted)


def test_storage_that_another_swarm_uses_says_so_before_anything_is_made(
    swarm: Swarm, asked: dict[str, Any], tmp_path: Path
) -> None:
    theirs = {
        "config_path": f"{tmp_path}/theirs.yml",
        "cache_path": asked["cache"]["path"],
        "owner": "hub",
    }
    put_on_storage(
        {
            **theirs,
            "marker": MARKER,
            "config": f"{MARKER} for the service hub; x\n",
            "identity": "c" * 32,
        }
    )
    with pytest.raises(
        files.Failed, match="the service hub writes to this cache, which is another stack's"
    ):
        take(asked)
    with pytest.raises(files.Failed, match=r"theirs\.yml is another mirror's"):
        take(
            {
                **asked,
                "services": ["new"],
                "config_path": theirs["config_path"],
                "cache": {"path": f"{tmp_path}/new"},
            }
        )
    assert swarm.configs == {}


def test_a_network_that_is_not_there_is_a_fault_like_others_and_nothing_is_made(
    swarm: Swarm, asked: dict[str, Any]
) -> None:
    swarm.networks = ["web_public", "a-web"]
    swarm.add("hub")
    with pytest.raises(files.Failed) as failed:
        take(asked)
    message = str(failed.value)
    assert "there is a service hub already" in message
    assert (
        "no overlay network web on this swarm: create it, or set createNetwork to true" in message
    )
    assert swarm.held() == set()


def test_a_network_that_is_made_by_us_or_known_by_its_id_is_not_looked_for(
    swarm: Swarm, asked: dict[str, Any]
) -> None:
    swarm.networks = []
    assert take({**asked, "network": None}) == "claimed"


def further(asked: dict[str, Any], folder: str = "registries/ghcr.io") -> dict[str, Any]:
    """What a registry besides the one at the root is in the swarm."""
    words = ["/bin/sh", "/usr/local/bin/start-mirror", f"FOLDER={folder}"]
    return {"source": asked["cache"]["path"], "Command": words}


def test_a_service_of_a_further_registry_is_one_mirrors_too(
    swarm: Swarm, asked: dict[str, Any], other: dict[str, Any]
) -> None:
    take({**asked, "services": ["hub", "hub-front", "hub-ghcr-io"]})
    assert "hub-ghcr-io" in swarm.held()
    with pytest.raises(files.Failed, match="the service hub-ghcr-io is taken by"):
        take({**other, "services": ["hub-ghcr-io", "hub-ghcr-io-front"]})


def test_a_strangers_service_with_the_name_of_a_further_registry_is_refused(
    swarm: Swarm, asked: dict[str, Any]
) -> None:
    swarm.add("hub-ghcr-io")
    with pytest.raises(files.Failed, match="there is a service hub-ghcr-io already"):
        take({**asked, "services": ["hub", "hub-front", "hub-ghcr-io"]})


def test_a_registry_that_was_removed_from_the_list_is_no_stranger_while_its_service_is_there(
    swarm: Swarm, asked: dict[str, Any]
) -> None:
    """Its claim is given back before its service is deleted, and an `up` may end in between."""
    wanted = {**asked, "services": ["hub", "hub-front", "hub-ghcr-io"]}
    take(wanted)
    swarm.add("hub-ghcr-io", **further(asked))
    assert take(asked) == "claimed"
    assert "hub-ghcr-io" not in swarm.held()
    assert take(asked) == "claimed"
    assert take(wanted) == "claimed"


@pytest.mark.parametrize(
    ("name", "folder"),
    [("theirs-ghcr-io", "registries/ghcr.io"), ("hub-ghcr-io", "registries/quay.io")],
)
def test_another_mirrors_registry_on_our_cache_is_a_stranger(
    swarm: Swarm, asked: dict[str, Any], name: str, folder: str
) -> None:
    swarm.add(name, **further(asked, folder))
    with pytest.raises(files.Failed, match=f"the service {name} writes to the cache"):
        take(asked)


def test_the_folder_of_a_further_registry_is_no_cache_for_another_mirror(
    swarm: Swarm, asked: dict[str, Any], other: dict[str, Any]
) -> None:
    take({**asked, "services": ["hub", "hub-front", "hub-ghcr-io"]})
    swarm.add("hub-ghcr-io", **further(asked))
    below = {"path": f"{asked['cache']['path']}/registries/ghcr.io"}
    with pytest.raises(files.Failed, match="the service hub-ghcr-io writes to the cache"):
        take({**other, "cache": below})
