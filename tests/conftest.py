"""What several kinds of tests need."""

import os

import pytest
from hypothesis import settings

from tests.lab_fixture import lab as lab

settings.register_profile("ours", deadline=None, max_examples=200)
settings.load_profile("ours")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in `contract` and `e2e` need the lab's machines."""
    for item in items:
        if {"contract", "e2e"} & set(item.path.parts):
            item.add_marker(pytest.mark.lab)


@pytest.fixture(autouse=True)
def no_ambient_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own Pulumi settings must not leak into the tests."""
    for name in [name for name in os.environ if name.startswith("PULUMI_CONFIG") and name != "PULUMI_CONFIG_PASSPHRASE"]:
        monkeypatch.delenv(name)
