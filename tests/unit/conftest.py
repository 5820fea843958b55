"""Fixtures of several unit tests: a node's docker, its daemon.json, and its hosts.toml."""

from tests.fake_docker import docker as docker
from tests.fake_docker import path as path
from tests.fake_hosts import by_hosts as by_hosts
