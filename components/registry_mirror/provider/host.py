"""The plugin that Pulumi starts for programs in other languages, `pulumi-resource-…`. It declares
what a program in Python would, and so it opens no connection either."""

import importlib.metadata
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.errors import InputPropertiesError
from pulumi.provider import ConstructResult, Provider, main

from ..args import RegistryMirrorArgs
from ..component import RegistryMirror
from ..rules import InvalidArgs
from . import schema
from .inputs import arguments, in_the_schemas_names

_FOLDER = re.compile(r"-v(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)$")
"""Of a plugin that Pulumi has brought from a git repository (pulumi sdk/go/common/workspace
plugins.go, PluginDescriptor.Dir)."""
_RELEASE = re.compile(r"(\d+\.\d+\.\d+)(?:\.dev(\d+))?")
NO_VERSION = "0.0.0"
"""Of a checkout; code generators need some (pulumi sdk/python provider/experimental/host.py)."""


class MirrorProvider(Provider):
    """Declares the component where a program in another language asks for it."""

    def __init__(self, version: str) -> None:
        described = schema.package(RegistryMirrorArgs, RegistryMirror, version)
        super().__init__(version, json.dumps(described))

    def construct(
        self,
        name: str,
        resource_type: str,
        inputs: Mapping[str, Any],
        options: pulumi.ResourceOptions | None = None,
    ) -> ConstructResult:
        """Declare one mirror. Raises InputPropertiesError, which Pulumi prints without a
        traceback, with every fault."""
        if resource_type != schema.COMPONENT:
            raise InputPropertiesError(
                f"{resource_type} is none of this package; it has {schema.COMPONENT}", []
            )
        try:
            args = arguments(inputs)
            try:
                mirror = RegistryMirror(name, args, options)
            except InvalidArgs as error:
                raise in_the_schemas_names(error.faults) from None
        except InvalidArgs as error:
            # Not property by property: Pulumi would print the value of each, also of a secret.
            # The list is empty and not absent, with which the SDK fails (pulumi sdk/python
            # provider/server.py, create_grpc_invalid_properties_status).
            raise InputPropertiesError(str(error), []) from None
        outputs = json.loads(self.schema or "{}")["resources"][schema.COMPONENT]["properties"]
        return ConstructResult(
            mirror.urn,
            {
                schema.camel(attribute): getattr(mirror, attribute)
                for attribute in RegistryMirror.__annotations__
                if schema.camel(attribute) in outputs
            },
        )


def version(package: str, folder: Path) -> str:
    """The version of what is installed as `package`, as semantic versioning has it; else that of
    the plugin's `folder`; else NO_VERSION."""
    try:
        numbers = _RELEASE.match(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        numbers = None
    if numbers is not None:
        release, development = numbers.groups()
        return release if development is None else f"{release}-dev.{development}"
    folders = [_FOLDER.search(each.name) for each in folder.parents]
    return next((match[1] for match in folders if match), NO_VERSION)


def run() -> None:
    """Serve until Pulumi ends the process; the address of the engine is the first argument."""
    main(MirrorProvider(version(schema.NAME, Path(__file__).resolve())), sys.argv[1:])
