"""Debian's Prometheus scrapes a mirror with the configuration that `monitoring` prints: every panel
of the dashboard has data after a pull, rules are sound, and the alerts for what happens here fire.

Prometheus and node_exporter run in the lab's network, from a Debian of their own.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from components.registry_mirror.monitoring.panels import ROWS
from lab import internet
from lab.base_systems import debian_tree
from lab.images import publish_at_hub, random_image
from lab.plan import GATEWAY, MANAGER, MIRROR_HOST
from lab.publish import publish_at
from tests.lab.lab import Lab
from tests.lab.mirror import Mirror

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "components/registry_mirror/monitoring"
PACKAGES = "prometheus,prometheus-node-exporter"
PROMETHEUS, EXPORTER = "127.0.0.1:9090", "127.0.0.1:9100"
EVERY = "5s"
SMALL, LARGE = "library/watched-small:1", "library/watched-large:1"
GHCR_IMAGE = "owner/watched:1"
DRAWN = os.environ.get("DASHBOARD_DATA", "")
"""Where to leave the panels' data for docs/site/dashboard_picture.py; empty for nowhere."""
NODES = ("node1", "node2", "node3")


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Iterator[Mirror]:
    """A mirror of Docker Hub and ghcr.io with everything that can be watched."""
    internet.start_other_registries(lab.sandbox, lab.folder)
    internet.know_other_registries(lab.sandbox, lab.nodes.values())
    for reference, size in ((SMALL, 2 << 20), (LARGE, 24 << 20)):
        archive = random_image(reference.partition(":")[0].replace("/", "-"), (size,) * 3)
        publish_at_hub(lab.sandbox, archive, reference)
    archive = random_image("watched-of-ghcr", (3 << 20,))
    publish_at(lab.sandbox, "ghcr.io", archive, GHCR_IMAGE)
    found = Mirror(lab)
    found.configure(
        registries=[{"name": "ghcr.io", "repositories": ["owner/*"]}],
        upstreamCa=str(lab.folder.ca.relative_to(ROOT)),
        metricsFrom=[f"{GATEWAY}/32"],
        cacheLimit="20GB",
        guard=True,
    )
    found.up()
    yield found
    found.destroy()


class Watch:
    """A Prometheus and a node_exporter, both in the lab's network."""

    def __init__(self, lab: Lab, tree: Path) -> None:
        self.lab, self.tree = lab, tree
        self.notes = tree / "notes"
        self.running: list[subprocess.Popen[bytes]] = []

    def command(self, *argv: str) -> list[str]:
        return self.lab.sandbox.command(["chroot", str(self.tree), *argv], network_only=True)

    def start(self, configuration: dict[str, Any]) -> None:
        self.notes.mkdir(exist_ok=True)
        (self.tree / "etc/hosts").write_text(
            f"127.0.0.1 localhost\n{MANAGER.address} {MIRROR_HOST}\n"
        )
        (self.tree / "watch.yml").write_text(yaml.safe_dump(configuration))
        for argv in (
            [
                "prometheus",
                "--config.file=/watch.yml",
                "--storage.tsdb.path=/data",
                f"--web.listen-address={PROMETHEUS}",
            ],
            [
                "prometheus-node-exporter",
                "--collector.disable-defaults",
                "--collector.textfile",
                "--collector.textfile.directory=/notes",
                f"--web.listen-address={EXPORTER}",
            ],
        ):
            with (self.tree / f"{argv[0]}.log").open("wb") as log:
                self.running.append(
                    subprocess.Popen(self.command(*argv), stdout=log, stderr=subprocess.STDOUT)
                )

    def stop(self) -> None:
        for process in self.running:
            process.terminate()
            process.wait(timeout=30)

    def ask(self, path: str) -> Any:
        """Prometheus's answer."""
        script = (
            "import sys, urllib.request as u\n"
            "print(u.urlopen(sys.argv[1], timeout=20).read().decode())"
        )
        argv = ["python3", "-c", script, f"http://{PROMETHEUS}/api/v1/{path}"]
        done = subprocess.run(
            self.lab.sandbox.command(argv, network_only=True),
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(f"query?query={quote(expr)}")["result"]
        return found

    def range(self, expr: str, seconds: int) -> list[dict[str, Any]]:
        now = time.time()
        path = f"query_range?query={quote(expr)}&start={now - seconds}&end={now}&step=5"
        found: list[dict[str, Any]] = self.ask(path)["result"]
        return found

    def alerts(self) -> dict[str, set[str]]:
        """Name of each alert that fires or is about to -> the nodes or parts that it is about."""
        found: dict[str, set[str]] = {}
        for alert in self.ask("alerts")["alerts"]:
            labels = alert["labels"]
            if labels["alertname"].startswith("RegistryMirrorDisk"):
                continue  # of this computer's disk
            about = labels.get("node") or labels.get("part") or ""
            found.setdefault(labels["alertname"], set()).add(about)
        return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prometheus") / "tree"
    debian_tree("trixie", folder, PACKAGES, variant="extract")
    for name in ("bin", "lib", "lib64"):  # which base-files would bring
        (folder / name).symlink_to(f"usr/{name}")
    return folder


@pytest.fixture(scope="module")
def watch(lab: Lab, mirror: Mirror, tree: Path) -> Iterator[Watch]:
    code, printed = mirror.operate("monitoring", "scrape")
    assert code == 0, printed
    (tree / "rules.yml").write_text(mirror.operate("monitoring", "rules")[1])
    (tree / "ca.crt").write_text(lab.folder.ca.read_text())
    (job,) = yaml.safe_load(printed)
    own = {"scrape_interval": EVERY, "tls_config": {"ca_file": "/ca.crt"}}
    nodes = {
        "job_name": "nodes",
        "scrape_interval": EVERY,
        "static_configs": [{"targets": [EXPORTER]}],
    }
    found = Watch(lab, tree)
    found.start(
        {
            "global": {"evaluation_interval": EVERY},
            "rule_files": ["/rules.yml"],
            "scrape_configs": [{**job, **own}, nodes],
        }
    )
    yield found
    found.stop()


def write_metrics(mirror: Mirror, watch: Watch) -> int:
    """What the timer of docs/how-to/watch-with-prometheus.md does; its exit code."""
    code, output = mirror.operate("metrics", "--output", str(watch.notes / "registry-mirror.prom"))
    assert output == ""
    return code


def until(true: Callable[[], bool], seconds: float) -> None:
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds
        time.sleep(2)


def empty_panels(watch: Watch) -> set[str]:
    return {
        f"{panel.title}: {query.legend}"
        for row in ROWS
        for panel in row.panels
        for query in panel.queries
        if not watch.query(query.expr.replace("$mirror", ".*"))
    }


def test_rules_are_sound_and_each_alert_fires_when_it_should(tree: Path) -> None:
    (tree / "tests").mkdir()
    rules = (MONITORING / "rules.yml").read_text()
    (tree / "tests/rules.yml").write_text(rules)
    text = (ROOT / "tests/monitoring/rules_test.yml").read_text()
    loaded = yaml.safe_load(text)
    loaded["rule_files"] = ["/tests/rules.yml"]
    (tree / "tests/rules_test.yml").write_text(yaml.safe_dump(loaded))
    for words in (
        ["check", "rules", "/tests/rules.yml"],
        ["test", "rules", "/tests/rules_test.yml"],
    ):
        done = subprocess.run(
            ["chroot", str(tree), "promtool", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


def test_every_panel_has_data_after_a_pull(lab: Lab, mirror: Mirror, watch: Watch) -> None:
    # What is fetched before Prometheus has looked is no growth to it.
    until(lambda: len(watch.query('up{job="registry-mirror"} == 1')) == PARTS, 60)
    for _ in range(3):
        for node in NODES:
            lab.pull(node, SMALL)
            lab.pull(node, LARGE)
            lab.pull(node, f"{MIRROR_HOST}/ghcr.io/{GHCR_IMAGE}")
            time.sleep(EACH)
    assert write_metrics(mirror, watch) == 0
    until(lambda: empty_panels(watch) <= NOT_HERE, 150)
    parts = {each["metric"]["part"] for each in watch.query('up{job="registry-mirror"} == 1')}
    assert parts == {"root", "varnish", "ghcr.io"}
    assert watch.alerts() == {}
    fetched = 'sum(increase(registry_proxy_pulled_bytes_total{type="blob"}[10m]))'
    assert float(watch.query(fetched)[0]["value"][1]) > 60 << 20, "78 MiB have crossed the internet"
    if DRAWN:
        Path(DRAWN).write_text(json.dumps(drawn(watch)))


PARTS = 3
"""The registry at the root, Varnish and ghcr.io."""
EACH = 6
"""Seconds between two nodes' pulls, so that Prometheus sees more than one rise."""
NOT_HERE = {"Unused for so long when thrown out: {{mirror}}", "Docker Hub pulls left: pulls"}
"""There is no such layer before the first is thrown out; and the lab's Docker Hub, of another
name, is asked for no quota."""


def drawn(watch: Watch) -> list[dict[str, Any]]:
    """The panels with their series, of the last minutes."""
    return [
        {
            "row": row.title,
            "title": panel.title,
            "unit": panel.unit,
            "number": panel.is_number,
            "series": [
                {
                    "legend": query.legend,
                    "labels": each["metric"],
                    "values": [[at, float(value)] for at, value in each["values"]],
                }
                for query in panel.queries
                for each in watch.range(query.expr.replace("$mirror", ".*"), 180)
            ],
        }
        for row in ROWS
        for panel in row.panels
    ]


def test_a_mirror_that_is_away_is_seen_from_prometheus_and_from_the_nodes(
    lab: Lab, mirror: Mirror, watch: Watch
) -> None:
    scale = "docker service scale --detach=false registry-mirror-front=%d >/dev/null"
    lab.on(MANAGER.name, scale % 0)
    try:
        until(lambda: bool(watch.query('up{job="registry-mirror", part="varnish"} == 0')), 60)
        until(lambda: "RegistryMirrorDown" in watch.alerts(), 60)
        assert write_metrics(mirror, watch) == 1
        until(lambda: "RegistryMirrorNotSeenFromNode" in watch.alerts(), 60)
        assert watch.alerts()["RegistryMirrorNotSeenFromNode"] == set(NODES)
        # Of the three, node 3's docker goes by hosts.toml.
        until(lambda: guard_is_active(mirror, watch), 90)
    finally:
        lab.on(MANAGER.name, scale % 1)
        lab.wait_for_mirror(MANAGER.name)
    until(lambda: write_metrics(mirror, watch) == 0, 120)
    until(lambda: watch.alerts() == {}, 60)


def guard_is_active(mirror: Mirror, watch: Watch) -> bool:
    write_metrics(mirror, watch)
    return watch.alerts().get("RegistryMirrorGuardActive") == {"node3"}


def test_a_node_that_drifts_is_an_alert(lab: Lab, mirror: Mirror, watch: Watch) -> None:
    file = lab.on("node2", "cat /etc/docker/daemon.json")
    lab.on("node2", "echo '{}' > /etc/docker/daemon.json")
    try:
        assert write_metrics(mirror, watch) == 1
        until(lambda: watch.alerts().get("RegistryMirrorNodeDrifted") == {"node2"}, 60)
    finally:
        lab.on("node2", "cat > /etc/docker/daemon.json", file.encode())


def test_nothing_of_the_metrics_leaves_a_process_behind(lab: Lab, mirror: Mirror) -> None:
    """The registry is process 1 of its container and waits for no child; swarm has no init."""
    script = (
        "for id in $(docker ps --quiet --filter name=registry-mirror);"
        " do docker top $id -eo pid,stat,args; done"
    )
    states = [line for node in NODES for line in lab.on(node, script).splitlines()]
    assert any("registry serve" in line for line in states)
    assert [line for line in states if line.split()[1].startswith("Z")] == []
