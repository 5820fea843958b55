"""What both stand-ins share: the provider protocol, the announcement, and comparing inputs.

Owns no resource. A resource type is a `Resource`; a plugin is a list of them handed to `serve`.
"""

import abc
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent import futures
from typing import Any, ClassVar

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
)

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Sent and expected by the engine for a value that only `up` will know (pulumi
sdk/go/common/resource/plugin/rpc.go)."""

SIGNATURE, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
"""Marks a secret between the engine and a plugin that takes secrets (pulumi
sdk/go/common/resource/sig/sig.go)."""

Values = dict[str, Any]


class ProviderError(Exception):
    """An operation failed; the text is what the user reads."""


class Resource(abc.ABC):
    """One resource type. `names` is the tree of inputs that it implements; a `None` leaf takes any
    value."""

    token: ClassVar[str]
    names: ClassVar[Mapping[str, Any]]
    read_back: ClassVar[tuple[str, ...]] = ()
    """Paths at which what is there counts as a change where the program says nothing (optional and
    not computed) and has the block that it lies in."""
    secrets: ClassVar[tuple[str, ...]] = ()
    """Paths of values that are secrets, whatever the program says; one may lie inside another."""

    def check(self, urn: str, old: Values, inputs: Values, seed: str) -> Values:
        """Inputs with their defaults; `old`: the inputs of the resource that is there, empty for a
        new one or a replacement."""
        return inputs

    def check_state(self, state: Values) -> None:
        """Raises ProviderError for a state that cannot be one of this type, as after an alias of
        another."""
        return

    def replaces(self, path: str) -> bool:
        """Whether a change at `path` needs a new resource."""
        return False

    def deletes_first(self, inputs: Values) -> bool:
        """Whether a replacement deletes the old resource before it makes the new one."""
        return False

    @abc.abstractmethod
    def create(
        self, provider: "Provider", urn: str, inputs: Values, preview: bool
    ) -> tuple[str, Values]:
        """See the protocol's Create; raises ProviderError."""

    @abc.abstractmethod
    def update(
        self, provider: "Provider", urn: str, id_: str, old: Values, inputs: Values, preview: bool
    ) -> Values:
        """See the protocol's Update; raises ProviderError."""

    def read(self, provider: "Provider", id_: str, old: Values) -> Values | None:
        """The resource's present state; None if it was deleted."""
        return old

    @abc.abstractmethod
    def delete(self, provider: "Provider", urn: str, id_: str, old: Values) -> None:
        """See the protocol's Delete; raises ProviderError."""


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """The provider protocol over a table of resource types."""

    takes_secrets = False
    """Whether the engine hands over secrets as such, and not their values alone. As the official
    plugin of that name does."""

    def __init__(self, name: str, version: str, resources: Iterable[Resource], engine: str) -> None:
        self.name = name
        self.version = version
        self.resources = {resource.token: resource for resource in resources}
        self.config: Values = {}
        self._engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(engine)) if engine else None

    def log(self, text: str, urn: str = "", *, warning: bool = False) -> None:
        """Show a line in the run's output."""
        severity = engine_pb2.WARNING if warning else engine_pb2.INFO
        if self._engine is not None:
            self._engine.Log(engine_pb2.LogRequest(severity=severity, message=text, urn=urn))

    def worded(self, verb: str, urn: str, error: ProviderError) -> str:
        """The user's word for an operation (`creating`, `updating`, `deleting`) that failed."""
        return str(error)

    def configure(self) -> None:
        """Called once the configuration is known; raises ProviderError if the provider cannot work
        with it."""

    # --------------------------------------------------------------------------- protocol, provider

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=self.version)

    def Attach(self, request: Any, context: Any) -> Any:
        self._engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(request.address))
        return empty_pb2.Empty()

    def cancel(self) -> None:
        """Called when the run is called off, as by ctrl-c; what is under way may be ended."""

    def Cancel(self, request: Any, context: Any) -> Any:
        self.cancel()
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_UNKNOWN)

    def Configure(self, request: Any, context: Any) -> Any:
        self.config = to_values(request.args)
        self.log(
            f"{self.name}: the lab's STAND-IN for the official plugin, which could not be"
            " downloaded on this computer"
        )
        try:
            self.configure()
        except ProviderError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        return provider_pb2.ConfigureResponse(
            acceptSecrets=self.takes_secrets, supportsPreview=True, acceptResources=False
        )

    # -------------------------------------------------------------------------- protocol, resources

    def Check(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        inputs = to_values(request.news)
        failures = [
            provider_pb2.CheckFailure(
                property=path,
                reason=f"is not an input of {resource.token}, or not one that the stand-in knows",
            )
            for path in unknown_names(inputs, resource.names)
        ]
        if not failures:
            inputs = resource.check(
                request.urn, to_values(request.olds), inputs, request.randomSeed.hex()
            )
        return provider_pb2.CheckResponse(
            inputs=self._answer(resource, inputs, request.news), failures=failures
        )

    def Diff(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        state, inputs = to_values(request.olds), to_values(request.news)
        try:
            resource.check_state(state)
        except ProviderError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        paths = differences(state, to_values(request.old_inputs), inputs)
        paths += [
            path
            for path in resource.read_back
            if path not in paths and _only_there(state, inputs, path)
        ]
        # A secret and the same text in the clear are two things to the official plugins that take
        # secrets.
        paths += (
            sorted(secret_paths(request.olds) ^ secret_paths(request.news))
            if self.takes_secrets
            else []
        )
        paths = [
            path
            for path in paths
            if not any(_is_below(path, kept) for kept in request.ignoreChanges)
        ]
        kinds = provider_pb2.PropertyDiff
        detailed = {
            path: kinds(kind=kinds.UPDATE_REPLACE if resource.replaces(path) else kinds.UPDATE)
            for path in paths
        }
        replaces = sorted(path for path in paths if resource.replaces(path))
        some, none = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(
            changes=some if paths else none,
            diffs=sorted({path.partition(".")[0].partition("[")[0] for path in paths}),
            replaces=replaces,
            detailedDiff=detailed,
            hasDetailedDiff=True,
            deleteBeforeReplace=bool(replaces) and resource.deletes_first(inputs),
        )

    def Create(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        try:
            id_, state = resource.create(
                self, request.urn, to_values(request.properties), request.preview
            )
        except ProviderError as error:
            context.abort(grpc.StatusCode.UNKNOWN, self.worded("creating", request.urn, error))
        return provider_pb2.CreateResponse(
            id=id_, properties=self._answer(resource, state, request.properties)
        )

    def Update(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        try:
            old, new = to_values(request.olds), to_values(request.news)
            state = resource.update(self, request.urn, request.id, old, new, request.preview)
        except ProviderError as error:
            context.abort(grpc.StatusCode.UNKNOWN, self.worded("updating", request.urn, error))
        return provider_pb2.UpdateResponse(properties=self._answer(resource, state, request.news))

    def Read(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        try:
            state = resource.read(self, request.id, to_values(request.properties))
        except ProviderError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        if state is None:
            return provider_pb2.ReadResponse(id="")
        # An import begins with nothing but the id: what is there then counts as what was asked for.
        imported = not request.inputs.fields and not request.properties.fields
        found = self._answer(resource, state, request.properties)
        return provider_pb2.ReadResponse(
            id=request.id, properties=found, inputs=found if imported else request.inputs
        )

    def Delete(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        try:
            resource.delete(self, request.urn, request.id, to_values(request.properties))
        except ProviderError as error:
            context.abort(grpc.StatusCode.UNKNOWN, self.worded("deleting", request.urn, error))
        return empty_pb2.Empty()

    def _answer(
        self, resource: Resource, values: Values, asked: struct_pb2.Struct
    ) -> struct_pb2.Struct:
        """Values for the engine: what came as a secret, and what the resource type says is one,
        goes back as a secret."""
        if not self.takes_secrets:
            return to_struct(values)
        for path in sorted(
            {*resource.secrets, *secret_paths(asked)}, key=lambda path: -path.count(".")
        ):  # the inner ones first
            values = _sealed(values, path.split("."))
        return to_struct(values)

    def _resource(self, urn: str, context: Any) -> Resource:
        token = urn.split("::")[2].split("$")[-1]
        if token not in self.resources:
            known = ", ".join(sorted(self.resources))
            context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"the stand-in knows {known}, not {token}; use the official plugin",
            )
        return self.resources[token]


def serve(provider: Provider) -> None:
    """Serve on a free port of loopback, print it for the engine, until it ends us."""
    limit = 1 << 30  # states of hundreds of nodes exceed grpc's 4 MiB
    options = [("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", limit)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def engine_address() -> str:
    """Where the engine listens: the plugin's only argument."""
    return sys.argv[1] if len(sys.argv) > 1 else ""


def to_values(struct: struct_pb2.Struct) -> Values:
    """A protocol struct as plain values, secrets too; whole numbers as ints, which JSON has no
    notion of."""
    values: Values = json_format.MessageToDict(struct)
    return {key: _whole(value) for key, value in values.items()}


def secret_paths(struct: struct_pb2.Struct) -> set[str]:
    """Paths like `a.b` at which a protocol struct has secrets."""
    return set(_secret_paths(json_format.MessageToDict(struct), ""))


def _secret_paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and value.get(SIGNATURE) == SECRET:
        yield path
        yield from _secret_paths(value.get("value"), path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _secret_paths(item, f"{path}.{key}" if path else key)


def _sealed(values: Values, path: list[str]) -> Values:
    """`values` with what stands at `path` as a secret."""
    name, *rest = path
    if values.get(name) is None:
        return values
    inner = values[name]
    if rest:
        return {**values, name: _sealed(inner, rest) if isinstance(inner, dict) else inner}
    return {**values, name: {SIGNATURE: SECRET, "value": inner}}


def to_struct(values: Values) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update({key: value for key, value in values.items() if value is not None})
    return struct


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict) and value.get(SIGNATURE) == SECRET:
        return _whole(value.get("value"))
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


def unknown_names(inputs: Any, names: Any, path: str = "") -> list[str]:
    """Paths of inputs that `names` does not have."""
    if names is None or inputs == UNKNOWN:
        return []
    if isinstance(inputs, list):
        return [
            found
            for index, item in enumerate(inputs)
            for found in unknown_names(item, names, f"{path}[{index}]")
        ]
    if not isinstance(inputs, dict):
        return []
    found: list[str] = []
    for key, value in inputs.items():
        here = f"{path}.{key}" if path else key
        if key.startswith("__"):  # the engine's own remarks
            continue
        found += unknown_names(value, names[key], here) if key in names else [here]
    return found


def differences(state: Any, old_inputs: Any, inputs: Any, path: str = "") -> list[str]:
    """Paths at which the wanted inputs differ from the state, or have been removed since the
    last run.

    A value in the state that was never an input was computed, and is no difference. Lists are
    compared as sets: docker keeps labels, mounts and networks in an order of its own.
    """
    if isinstance(inputs, dict) and isinstance(state, dict):
        old = old_inputs if isinstance(old_inputs, dict) else {}
        found = []
        for key in sorted({*inputs, *(key for key in old if key in state)}):
            if key.startswith("__"):
                continue
            here = f"{path}.{key}" if path else key
            if key not in inputs:
                found.append(here)
            else:
                found += differences(state.get(key), old.get(key), inputs[key], here)
        return found
    if isinstance(inputs, list) and isinstance(state, list) and len(inputs) == len(state):
        ours, theirs = _sorted(inputs), _sorted(state)
        pairs = zip(theirs, ours, strict=True)
        return [
            f
            for index, (one, other) in enumerate(pairs)
            for f in differences(one, one, other, f"{path}[{index}]")
        ]
    return [] if state == inputs or (not state and not inputs) else [path]


def _at(values: Any, path: str) -> Any:
    """What stands at a path like `a.b`; None where nothing does."""
    for name in path.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _only_there(state: Any, inputs: Any, path: str) -> bool:
    """Whether something stands at `path` in the state and not in the inputs, which do have the
    block around it."""
    return (
        bool(_at(state, path))
        and _at(inputs, path.rpartition(".")[0]) is not None
        and _at(inputs, path) is None
    )


def _is_below(path: str, other: str) -> bool:
    return path == other or path.startswith((f"{other}.", f"{other}["))


def _sorted(items: list[Any]) -> list[Any]:
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
