"""What stands for a secret must be a value that the key takes, or a preview without secrets would
fail where `up` does not."""

import pytest

from components.registry_mirror.cli.preview.placeholders import like
from components.registry_mirror.node_agent import daemon_keys

VALUES = {
    "proxies": {
        "http-proxy": "http://u:p@a.test:1",
        "https-proxy": "http://u:p@b.test:1",
        "no-proxy": "a.test",
    },
    "labels": ["a=b", "c=d"],
    "insecure-registries": ["a.test:5000", "b.test"],
    "dns": ["192.0.2.1", "192.0.2.2"],
    "dns-search": ["a.test"],
    "dns-opts": ["ndots:1"],
    "default-address-pools": [{"base": "10.10.0.0/16", "size": 24}],
    "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 65536, "Hard": 65536}},
    "log-driver": "fluentd",
    "log-level": "warn",
    "log-opts": {"splunk-token": "x", "max-file": "3"},
    "metrics-addr": "192.0.2.1:9323",
    "builder": {
        "gc": {
            "enabled": True,
            "defaultKeepStorage": "20GB",
            "policy": [{"keepStorage": "1GB", "filter": ["unused-for=24h"]}],
        }
    },
}


@pytest.mark.parametrize("key", VALUES)
def test_a_placeholder_is_a_value_that_the_key_takes(key: str) -> None:
    assert daemon_keys.fault(key, VALUES[key]) is None
    placeholder = like(VALUES[key], f"daemonKeys.{key}")
    assert daemon_keys.fault(key, placeholder) is None, placeholder
    assert placeholder != VALUES[key]
