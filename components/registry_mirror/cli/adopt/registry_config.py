"""What a registry was configured with, by its file and its environment, as the registry itself
reads the two. Pure.

A variable `REGISTRY_A_B` overrides the file's `a.b` (distribution configuration/parser.go).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ...render.registry import CACHE_TARGET

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_STORAGES = ("filesystem", "s3", "azure", "gcs", "inmemory", "swift", "oss", "middleware")


@dataclass(frozen=True)
class RegistryConfig:
    """What of it matters to a mirror."""

    upstream: str
    username: str
    password_in_environment: bool
    ttl_hours: int
    """0: it says nothing, or never."""
    folder: str
    """Where in the container its cache is."""

    @classmethod
    def read(cls, text: str, environment: Mapping[str, str]) -> "RegistryConfig":
        """Raises ValueError, with the reason and what to do, for what is no mirror that keeps its
        cache in a folder."""
        try:
            values = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"the registry's configuration is not YAML: {error}") from None
        if not isinstance(values, dict):
            raise ValueError("the registry's configuration is not YAML: there is no mapping in it")
        proxy = {**_mapping(values, "proxy"), **_variables("REGISTRY_PROXY_", environment)}
        if not proxy.get("remoteurl"):
            raise ValueError(
                "the registry's configuration has no proxy.remoteurl, so it is a registry of its"
                " own and no mirror"
            )
        return cls(
            upstream=str(proxy["remoteurl"]).strip().rstrip("/"),
            username=str(proxy.get("username") or ""),
            password_in_environment=bool(environment.get("REGISTRY_PROXY_PASSWORD")),
            ttl_hours=_hours(proxy.get("ttl")),
            folder=_folder(_mapping(values, "storage"), environment),
        )


def _mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def _variables(prefix: str, environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name[len(prefix) :].lower(): value
        for name, value in environment.items()
        if name.startswith(prefix)
    }


def _folder(storage: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    kinds = [
        kind for kind in _STORAGES if kind in storage and kind not in ("filesystem", "middleware")
    ]
    if kinds or environment.get("REGISTRY_STORAGE", "filesystem") != "filesystem":
        kind = kinds[0] if kinds else environment["REGISTRY_STORAGE"]
        raise ValueError(
            f"the registry keeps its cache in {kind}, and only a folder or a volume can be taken"
            " over"
        )
    settings = {
        **_mapping(storage, "filesystem"),
        **_variables("REGISTRY_STORAGE_FILESYSTEM_", environment),
    }
    return str(settings.get("rootdirectory") or CACHE_TARGET).rstrip("/") or "/"


def _hours(ttl: object) -> int:
    """Whole hours of a duration as Go writes it, at least one; 0 for none, for never, and for what
    is no duration."""
    if isinstance(ttl, int | float) and not isinstance(ttl, bool):
        seconds = float(ttl) * 1e-9  # a bare number is nanoseconds
    else:
        text = str(ttl or "").strip()
        parts = _DURATION.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            return 0
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 < seconds < 10**9:
        return 0
    return max(1, round(seconds / 3600))
