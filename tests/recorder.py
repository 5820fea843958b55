"""Pulumi mocks that remember every registration with its options, so that order, parents and
absences can be asserted."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pulumi
from google.protobuf import json_format
from pulumi.runtime import mocks
from pulumi.runtime.config import CONFIG

from components.registry_mirror.answer import marked

COMPONENT = "swarm-registry-mirror:index:RegistryMirror"
COMMAND = "command:local:Command"
SERVICE = "docker:index/service:Service"
NETWORK = "docker:index/network:Network"
STACK = "pulumi:pulumi:Stack"
"""Not recorded: it is registered by the first program of a process, and by no other."""

SECRET = "4dabf18193072939515e22adb298388d"
"""The key by which a secret is marked on the wire (pulumi sdk/python runtime/rpc.py)."""


@dataclass
class Registered:
    """One resource as it was asked for."""

    type: str
    name: str
    inputs: dict[str, Any]
    parent: str
    depends_on: list[str]
    protect: bool
    aliases: int
    ignore_changes: list[str]
    replace_on_changes: list[str]
    replacement_trigger: Any
    create_timeout: str


@dataclass
class Recorder(mocks.Mocks):
    """Answers every resource with an id and its inputs; commands also with some output."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name of each component -> what it registered as its outputs."""

    def new_resource(
        self, args: pulumi.runtime.MockResourceArgs
    ) -> tuple[str | None, dict[Any, Any]]:
        # What runs on this computer answers as it is; what comes from a machine stands between
        # marks.
        said = (
            f"Welcome\n{marked('an-id-or-word')}"
            if "MIRROR_SSH" in args.inputs.get("environment", {})
            else "an-id-or-word"
        )
        outputs = {"stdout": said, "stderr": ""} if args.typ == COMMAND else {}
        return f"{args.name}-id", {**args.inputs, **outputs}

    def call(
        self, args: pulumi.runtime.MockCallArgs
    ) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"{args.token} was invoked: that would connect in a preview")

    def of(self, type_: str) -> list[Registered]:
        return [resource for resource in self.resources if resource.type == type_]

    def named(self, name: str) -> Registered:
        (found,) = [resource for resource in self.resources if resource.name == name]
        return found


def registered(request: Any) -> Registered:
    """A registration, of which the protocol has more than a test asks for."""
    return Registered(
        type=request.type,
        name=request.name,
        inputs=json_format.MessageToDict(request.object),
        parent=request.parent.rpartition("::")[2],
        depends_on=sorted(urn.rpartition("::")[2] for urn in request.dependencies),
        protect=request.protect,
        aliases=len(request.aliases) + len(request.aliasURNs),
        ignore_changes=list(request.ignoreChanges),
        replace_on_changes=list(request.replaceOnChanges),
        replacement_trigger=json_format.MessageToDict(request.replacement_trigger),
        create_timeout=request.customTimeouts.create,
    )


class _Monitor(mocks.MockMonitor):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.recorder = recorder

    def RegisterResource(self, request: Any) -> Any:
        if request.type != STACK:
            self.recorder.resources.append(registered(request))
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    def RegisterResourceOutputs(self, request: Any) -> Any:
        name = request.urn.rpartition("::")[2]
        self.recorder.outputs[name] = json_format.MessageToDict(request.outputs)
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


def request(resource: Registered) -> dict[str, Any]:
    """What a command asks of the node agent."""
    asked: dict[str, Any] = json.loads(resource.inputs["stdin"])
    return asked


def run(
    build: Callable[[], object],
    *,
    preview: bool = False,
    docker_host: str | None = "ssh://root@m1.test",
    project: str = "swarm-registry-mirror",
) -> Recorder:
    """Run `build` as a program to its end, so that what was not registered by then never will be.

    `docker_host`: that of the docker provider that Pulumi itself makes; None: the stack says none.
    """
    recorder = Recorder()
    given = {key: value for key, value in CONFIG.get().items() if key != "docker:host"}
    pulumi.runtime.set_all_config(
        given if docker_host is None else {**given, "docker:host": docker_host}
    )
    mocks.set_mocks(
        recorder,
        project=project,
        stack="test",
        preview=preview,
        monitor=_Monitor(recorder),
    )

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> object:
        return build()

    program()
    return recorder
