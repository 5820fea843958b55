"""Stand-in for pulumi-resource-docker 5.2.0: services, networks, configs and secrets, by docker's
API over `dial-stdio`.

As the official plugin does, each seen in a run of it (tests/contract/README.md):
- an `ssh://` host is not contacted in a preview, another one is when the provider is configured
  (pulumi-docker provider/image.go);
- a service's name, mode, networks, container labels and sysctls are replaced, and everything else
  is updated in place (terraform-provider-docker resource_docker_service.go, ForceNew);
- a refresh finds networks by id only, so a service attached by name is replaced for ever
  (resource_docker_service_structures.go, flattenTaskNetworksAdvanced);
- what docker adds, and the program could have given, is a change (`window`, `platforms`); a grace
  period that is not given is 0;
- environment variables go to docker in a random order, which swarm takes for a change;
- a deleted service's containers are waited for as long as its grace period, and one that needs
  all of it is an error;
- an error has several lines, of which one matters.
"""

import base64
import http.client
import json
import random
import re
import socket
import subprocess
import time
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote, urlsplit

from lab.plugins.server import Provider, ProviderError, Resource, Values, engine_address, serve


class DockerError(ProviderError):
    """docker's own answer that something cannot be done."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


API = "/v1.41"
"""Spoken by 20.10 and everything since."""

CALL_SECONDS = 60
_POLL_SECONDS = 0.2
_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


class DockerProvider(Provider):
    """Configuration: `host` and, for ssh, `sshOpts`."""

    def worded(self, verb: str, urn: str, error: ProviderError) -> str:
        self.log(f"  sdk.helper_schema: {error}: provider=docker@{self.version}", urn, warning=True)
        return f"{verb} {urn}: 1 error occurred:\n\t* {error}\n\n"

    def configure(self) -> None:
        host = self.config.get("host")
        if isinstance(host, str) and not host.startswith("ssh://"):
            try:
                self.call("GET", "/_ping")
            except ProviderError as error:
                raise ProviderError(f"failed to connect to any docker daemon: {error}") from None

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One call of docker's API; raises ProviderError with docker's own message."""
        connection = _Connection(
            self.config.get("host") or "unix:///var/run/docker.sock", self._ssh_options()
        )
        try:
            payload = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json", "Host": "docker"}
            connection.request(method, API + path, body=payload, headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise ProviderError(
                f"docker at {self.config.get('host')} cannot be reached:"
                f" {connection.complaint() or error}"
            ) from None
        finally:
            connection.close()
        if answer.status >= 400:
            message = json.loads(text).get("message", text) if text.startswith("{") else text
            raise DockerError(answer.status, f"Error response from daemon: {message.strip()}")
        return json.loads(text) if text.startswith(("{", "[")) else text

    def _ssh_options(self) -> list[str]:
        options = self.config.get("sshOpts") or []
        # The engine hands a list to a provider's configuration as JSON text.
        return list(json.loads(options) if isinstance(options, str) else options)


class _Connection(http.client.HTTPConnection):
    """HTTP over `ssh … docker system dial-stdio`, a Unix socket or TCP."""

    def __init__(self, host: str, ssh_options: list[str]) -> None:
        super().__init__("docker", timeout=CALL_SECONDS)
        self._where = urlsplit(host)
        self._ssh_options = ssh_options
        self._process: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        if self._where.scheme == "ssh":
            where = self._where
            user = ["-l", where.username] if where.username else []
            port = ["-p", str(where.port)] if where.port else []
            argv = [
                "ssh",
                *self._ssh_options,
                *user,
                *port,
                "--",
                where.hostname or "",
                "docker system dial-stdio",
            ]
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            self.sock = _Pipes(self._process)
        elif self._where.scheme == "unix":
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(CALL_SECONDS)
            self.sock.connect(self._where.path)
        else:
            self.sock = socket.create_connection(
                (self._where.hostname, self._where.port or 2375), timeout=10
            )

    def complaint(self) -> str:
        """What ssh said, if it did."""
        if self._process is None or self._process.stderr is None:
            return ""
        self._process.kill()
        return self._process.stderr.read().decode(errors="replace").strip()

    def close(self) -> None:
        super().close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class _Pipes:
    """As much of a socket as http.client uses."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in: Any = process.stdin
        self._out: BinaryIO = process.stdout  # type: ignore[assignment]

    def sendall(self, data: bytes) -> None:
        self._in.write(data)
        self._in.flush()

    def makefile(self, *_: object, **__: object) -> BinaryIO:
        return self._out

    def close(self) -> None:
        self._in.close()


class Named(Resource):
    """A resource with a name, which cannot be there twice: given by the user, or made from the
    resource's own."""

    path: ClassVar[str]
    """Where docker's API has its kind."""

    def check(self, urn: str, old: Values, inputs: Values, seed: str) -> Values:
        if inputs.get("name"):
            return inputs
        if "name" in old.get("__defaults", []):
            return {**inputs, "name": old["name"], "__defaults": ["name"]}
        # Seven letters, as the official plugin appends them.
        return {**inputs, "name": f"{urn.split('::')[-1]}-{seed[:7]}", "__defaults": ["name"]}

    def deletes_first(self, inputs: Values) -> bool:
        return "__defaults" not in inputs

    def delete(self, provider: Provider, urn: str, id_: str, old: Values) -> None:
        assert isinstance(provider, DockerProvider)
        if _find(provider, f"/{self.path}/{id_}") is not None:
            provider.call("DELETE", f"/{self.path}/{id_}")


class Network(Named):
    """An overlay network; every change replaces it."""

    token = "docker:index/network:Network"
    path = "networks"
    names: ClassVar[Mapping[str, Any]] = {"name": None, "driver": None, "attachable": None}

    def replaces(self, path: str) -> bool:
        return True

    def create(
        self, provider: Provider, urn: str, inputs: Values, preview: bool
    ) -> tuple[str, Values]:
        if preview:
            return "", inputs
        assert isinstance(provider, DockerProvider)
        body = {
            "Name": inputs["name"],
            "Driver": inputs.get("driver", "bridge"),
            "Attachable": inputs.get("attachable", False),
            "CheckDuplicate": True,
        }
        return provider.call("POST", "/networks/create", body)["Id"], inputs

    def update(
        self, provider: Provider, urn: str, id_: str, old: Values, inputs: Values, preview: bool
    ) -> Values:
        raise ProviderError("docker cannot change a network; every difference replaces it")

    def read(self, provider: Provider, id_: str, old: Values) -> Values | None:
        assert isinstance(provider, DockerProvider)
        found = _find(provider, f"/networks/{id_}")
        if found is None:
            return None
        return {
            **old,
            "name": found["Name"],
            "driver": found["Driver"],
            "attachable": found["Attachable"],
        }


class ServiceConfig(Named):
    """A Swarm config; it cannot be changed, so every change replaces it."""

    token = "docker:index/serviceConfig:ServiceConfig"
    names: ClassVar[Mapping[str, Any]] = {"name": None, "data": None, "dataRaw": None}
    path = "configs"

    def replaces(self, path: str) -> bool:
        return True

    def create(
        self, provider: Provider, urn: str, inputs: Values, preview: bool
    ) -> tuple[str, Values]:
        if preview:
            return "", inputs
        assert isinstance(provider, DockerProvider)
        raw = inputs.get("dataRaw")
        data = inputs["data"] if raw is None else base64.b64encode(raw.encode()).decode()
        return provider.call(
            "POST", f"/{self.path}/create", {"Name": inputs["name"], "Data": data}
        )["ID"], inputs

    def update(
        self, provider: Provider, urn: str, id_: str, old: Values, inputs: Values, preview: bool
    ) -> Values:
        raise ProviderError(f"docker cannot change {self.path}; every difference replaces them")

    def read(self, provider: Provider, id_: str, old: Values) -> Values | None:
        assert isinstance(provider, DockerProvider)
        return None if _find(provider, f"/{self.path}/{id_}") is None else old


class Secret(ServiceConfig):
    """A Swarm secret."""

    token = "docker:index/secret:Secret"
    names: ClassVar[Mapping[str, Any]] = {"name": None, "data": None}
    path = "secrets"


class Service(Named):
    """A swarm service."""

    token = "docker:index/service:Service"
    path = "services"
    names: ClassVar[Mapping[str, Any]] = {
        "name": None,
        "labels": {"label": None, "value": None},
        "mode": {"replicated": {"replicas": None}},
        "updateConfig": {"parallelism": None, "order": None, "failureAction": None},
        "endpointSpec": {
            "ports": {
                "targetPort": None,
                "publishedPort": None,
                "publishMode": None,
                "protocol": None,
            }
        },
        "taskSpec": {
            "containerSpec": {
                "image": None,
                "commands": None,
                "args": None,
                "env": None,
                "sysctl": None,
                "stopGracePeriod": None,
                "readOnly": None,
                "capAdds": None,
                "capDrops": None,
                "labels": {"label": None, "value": None},
                "configs": {
                    "configId": None,
                    "configName": None,
                    "fileName": None,
                    "fileMode": None,
                },
                "secrets": {
                    "secretId": None,
                    "secretName": None,
                    "fileName": None,
                    "fileMode": None,
                },
                "mounts": {
                    "type": None,
                    "source": None,
                    "target": None,
                    "readOnly": None,
                    "volumeOptions": {"driverName": None, "driverOptions": None},
                },
                "healthcheck": {
                    "tests": None,
                    "interval": None,
                    "timeout": None,
                    "retries": None,
                    "startPeriod": None,
                },
            },
            "networksAdvanceds": {"id": None, "name": None},
            "resources": {"limits": {"memoryBytes": None}},
            "restartPolicy": {"condition": None, "delay": None, "window": None},
            "placement": {"constraints": None, "platforms": {"architecture": None, "os": None}},
        },
    }
    read_back = ("taskSpec.restartPolicy.window", "taskSpec.placement.platforms")

    def replaces(self, path: str) -> bool:
        kept = ("networksAdvanceds", "containerSpec.labels", "containerSpec.sysctl")
        return path in ("name", "mode", "mode.replicated") or any(part in path for part in kept)

    def create(
        self, provider: Provider, urn: str, inputs: Values, preview: bool
    ) -> tuple[str, Values]:
        if preview:
            return "", inputs
        assert isinstance(provider, DockerProvider)
        spec = spec_of(inputs)
        if platforms := _platforms(provider, inputs["taskSpec"]["containerSpec"]["image"]):
            spec["TaskTemplate"].setdefault("Placement", {})["Platforms"] = platforms
        return provider.call("POST", "/services/create", spec)["ID"], _kept(inputs)

    def update(
        self, provider: Provider, urn: str, id_: str, old: Values, inputs: Values, preview: bool
    ) -> Values:
        if not preview:
            assert isinstance(provider, DockerProvider)
            version = provider.call("GET", f"/services/{id_}")["Version"]["Index"]
            provider.call("POST", f"/services/{id_}/update?version={version}", spec_of(inputs))
        return _kept(inputs)

    def read(self, provider: Provider, id_: str, old: Values) -> Values | None:
        assert isinstance(provider, DockerProvider)
        found = _find(provider, f"/services/{id_}")
        return None if found is None else {**old, **inputs_of(found["Spec"])}

    def delete(self, provider: Provider, urn: str, id_: str, old: Values) -> None:
        """With a grace period its containers are waited for, that long (terraform-provider-docker
        deleteService)."""
        assert isinstance(provider, DockerProvider)
        grace = _nanoseconds(old["taskSpec"]["containerSpec"].get("stopGracePeriod", "0s")) / 10**9
        containers = _containers(provider, old["name"]) if grace else []
        super().delete(provider, urn, id_, old)
        for container in containers:
            deadline = time.monotonic() + grace
            while (
                _find(provider, f"/containers/{container}/json") is not None
            ):  # on another machine there is none to wait for
                if time.monotonic() > deadline:
                    raise ProviderError(
                        f"error on wait for container with ID '{container}': context deadline"
                        " exceeded"
                    )
                time.sleep(_POLL_SECONDS)


def _containers(provider: DockerProvider, service: str) -> list[str]:
    """Ids of the containers of a service's tasks that have not ended."""
    tasks = provider.call("GET", f"/tasks?filters={quote(json.dumps({'service': [service]}))}")
    states = [
        (task["Status"].get("ContainerStatus") or {}, task["Status"]["State"]) for task in tasks
    ]
    return [
        found["ContainerID"]
        for found, state in states
        if found.get("ContainerID") and state != "shutdown"
    ]


def _platforms(provider: DockerProvider, image: str) -> list[Values]:
    """What docker's own client puts into a new service when it asks the image's registry
    (QueryRegistry); none if it cannot."""
    try:
        found = provider.call("GET", f"/distribution/{image}/json")
    except DockerError:
        return []
    return [
        {"Architecture": entry["architecture"], "OS": entry["os"]}
        for entry in found.get("Platforms") or []
    ]


def _kept(inputs: Values) -> Values:
    """The state after a change: as asked for, and a restart policy's window. The rest of what
    docker adds comes by a refresh."""
    task = inputs["taskSpec"]
    if "restartPolicy" not in task:
        return inputs
    return {
        **inputs,
        "taskSpec": {**task, "restartPolicy": {"window": "0s", **task["restartPolicy"]}},
    }


def spec_of(inputs: Values) -> Values:
    """docker's ServiceSpec for a service's inputs."""
    task = inputs["taskSpec"]
    container = task["containerSpec"]
    spec: Values = {
        "Name": inputs["name"],
        "Labels": _map(inputs.get("labels")),
        "Mode": {
            "Replicated": {
                "Replicas": inputs.get("mode", {}).get("replicated", {}).get("replicas", 1)
            }
        },
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": container["image"],
                "Env": _shuffled(
                    [f"{key}={value}" for key, value in container.get("env", {}).items()]
                ),
                "StopGracePeriod": _nanoseconds(container.get("stopGracePeriod", "0s")),
                "Labels": _map(container.get("labels")),
                "Mounts": [
                    {
                        "Type": mount["type"],
                        "Source": mount.get("source", ""),
                        "Target": mount["target"],
                        "ReadOnly": mount.get("readOnly", False),
                        **_volume(mount),
                    }
                    for mount in container.get("mounts", [])
                ],
            },
            "Networks": [
                {"Target": network.get("id") or network["name"]}
                for network in task.get("networksAdvanceds", [])
            ],
        },
    }
    template = spec["TaskTemplate"]
    if commands := container.get("commands"):
        template["ContainerSpec"]["Command"] = commands
    for name, key in (
        ("readOnly", "ReadOnly"),
        ("capAdds", "CapabilityAdd"),
        ("capDrops", "CapabilityDrop"),
    ):
        if value := container.get(name):
            template["ContainerSpec"][key] = value
    if arguments := container.get("args"):
        template["ContainerSpec"]["Args"] = arguments
    if sysctl := container.get("sysctl"):
        template["ContainerSpec"]["Sysctls"] = sysctl
    for kind, key in (("configs", "Config"), ("secrets", "Secret")):
        if references := container.get(kind):
            template["ContainerSpec"][f"{key}s"] = [
                _reference(reference, key) for reference in references
            ]
    if limits := task.get("resources", {}).get("limits"):
        template["Resources"] = {"Limits": {"MemoryBytes": limits["memoryBytes"]}}
    if ports := inputs.get("endpointSpec", {}).get("ports"):
        spec["EndpointSpec"] = {
            "Ports": [
                {
                    "TargetPort": port["targetPort"],
                    "PublishedPort": port["publishedPort"],
                    "PublishMode": port["publishMode"],
                    "Protocol": port["protocol"],
                }
                for port in ports
            ]
        }
    if health := container.get("healthcheck"):
        template["ContainerSpec"]["Healthcheck"] = {
            "Test": health["tests"],
            "Interval": _nanoseconds(health.get("interval", "0s")),
            "Timeout": _nanoseconds(health.get("timeout", "0s")),
            "Retries": health.get("retries", 0),
            "StartPeriod": _nanoseconds(health.get("startPeriod", "0s")),
        }
    if restart := task.get("restartPolicy"):
        template["RestartPolicy"] = {
            "Condition": restart["condition"],
            "Delay": _nanoseconds(restart.get("delay", "0s")),
            "Window": _nanoseconds(restart.get("window", "0s")),
        }
    if placement := task.get("placement"):
        template["Placement"] = {"Constraints": placement.get("constraints", [])}
        if given := placement.get("platforms"):
            template["Placement"]["Platforms"] = [
                {"Architecture": item["architecture"], "OS": item["os"]} for item in given
            ]
    if update := inputs.get("updateConfig"):
        spec["UpdateConfig"] = {
            "Parallelism": update.get("parallelism", 1),
            "Order": update.get("order", "stop-first"),
            "FailureAction": update.get("failureAction", "pause"),
        }
    return spec


def inputs_of(spec: Values) -> Values:
    """A service's inputs as a refresh finds them: networks by id only, and with what docker has
    added."""
    template = spec["TaskTemplate"]
    container = template["ContainerSpec"]
    found: Values = {
        "image": container["Image"],
        "env": dict(entry.split("=", 1) for entry in container.get("Env") or []),
        "labels": _labels(container.get("Labels")),
        "mounts": [
            {
                "type": mount["Type"],
                **({"source": mount["Source"]} if mount.get("Source") else {}),
                "target": mount["Target"],
                "readOnly": mount.get("ReadOnly", False),
                **_volume_inputs(mount),
            }
            for mount in container.get("Mounts") or []
        ],
    }
    for name, key in (
        ("readOnly", "ReadOnly"),
        ("capAdds", "CapabilityAdd"),
        ("capDrops", "CapabilityDrop"),
    ):
        if value := container.get(key):
            found[name] = value
    if (grace := container.get("StopGracePeriod")) is not None:
        found["stopGracePeriod"] = _duration(grace)
    if commands := container.get("Command"):
        found["commands"] = commands
    if arguments := container.get("Args"):
        found["args"] = arguments
    if sysctl := container.get("Sysctls"):
        found["sysctl"] = sysctl
    for kind, key in (("configs", "Config"), ("secrets", "Secret")):
        if references := container.get(f"{key}s"):
            found[kind] = [_reference_inputs(reference, key) for reference in references]
    if health := container.get("Healthcheck"):
        found["healthcheck"] = {
            "tests": health["Test"],
            "interval": _duration(health.get("Interval", 0)),
            "timeout": _duration(health.get("Timeout", 0)),
            "retries": health.get("Retries", 0),
            "startPeriod": _duration(health.get("StartPeriod", 0)),
        }
    task: Values = {
        "containerSpec": found,
        "networksAdvanceds": [
            {"id": network["Target"]}
            for network in template.get("Networks") or spec.get("Networks") or []
        ],
        "placement": {"constraints": (template.get("Placement") or {}).get("Constraints") or []},
    }
    if platforms := (template.get("Placement") or {}).get("Platforms"):
        task["placement"]["platforms"] = [
            {"architecture": item["Architecture"], "os": item["OS"]} for item in platforms
        ]
    if limit := ((template.get("Resources") or {}).get("Limits") or {}).get("MemoryBytes"):
        task["resources"] = {"limits": {"memoryBytes": limit}}
    if restart := template.get("RestartPolicy"):
        task["restartPolicy"] = {
            "condition": restart["Condition"],
            "delay": _duration(restart.get("Delay", 0)),
            "window": _duration(restart.get("Window", 0)),
        }
    update = spec.get("UpdateConfig") or {}
    ports = [
        {
            "targetPort": port["TargetPort"],
            "publishedPort": port["PublishedPort"],
            "publishMode": port["PublishMode"],
            "protocol": port["Protocol"],
        }
        for port in (spec.get("EndpointSpec") or {}).get("Ports") or []
    ]
    return {
        **({"endpointSpec": {"ports": ports}} if ports else {}),
        "name": spec["Name"],
        "labels": _labels(spec.get("Labels")),
        "mode": {
            "replicated": {
                "replicas": spec.get("Mode", {}).get("Replicated", {}).get("Replicas", 1)
            }
        },
        "updateConfig": {
            "parallelism": update.get("Parallelism", 1),
            "order": update.get("Order", "stop-first"),
            "failureAction": update.get("FailureAction", "pause"),
        },
        "taskSpec": task,
    }


def _find(provider: DockerProvider, path: str) -> Any:
    try:
        return provider.call("GET", path)
    except DockerError as error:
        if error.status == 404:
            return None
        raise


def _shuffled(items: list[str]) -> list[str]:
    """In another order each time, as Go walks a map."""
    return random.sample(items, len(items))


def _volume(mount: Values) -> Values:
    """A mount's settings of its volume's driver, in docker's API."""
    driver = (mount.get("volumeOptions") or {}).get("driverName")
    if driver is None:
        return {}
    options = mount["volumeOptions"].get("driverOptions") or {}
    return {"VolumeOptions": {"DriverConfig": {"Name": driver, "Options": options}}}


def _volume_inputs(mount: Values) -> Values:
    driver = (mount.get("VolumeOptions") or {}).get("DriverConfig")
    return (
        {
            "volumeOptions": {
                "driverName": driver["Name"],
                "driverOptions": driver.get("Options") or {},
            }
        }
        if driver
        else {}
    )


def _reference(reference: Values, kind: str) -> Values:
    """A config or secret as a service's spec refers to it."""
    low = kind.lower()
    mode = reference.get("fileMode", 0o444)
    return {
        f"{kind}ID": reference[f"{low}Id"],
        f"{kind}Name": reference.get(f"{low}Name", ""),
        "File": {"Name": reference["fileName"], "UID": "0", "GID": "0", "Mode": mode},
    }


def _reference_inputs(reference: Values, kind: str) -> Values:
    low = kind.lower()
    file = reference["File"]
    return {
        f"{low}Id": reference[f"{kind}ID"],
        f"{low}Name": reference[f"{kind}Name"],
        "fileName": file["Name"],
        "fileMode": file["Mode"],
    }


def _map(labels: "list[Mapping[str, str]] | None") -> dict[str, str]:
    return {label["label"]: label["value"] for label in labels or []}


def _labels(labels: Mapping[str, str] | None) -> list[dict[str, str]]:
    return [{"label": key, "value": value} for key, value in sorted((labels or {}).items())]


def _nanoseconds(duration: str) -> int:
    return sum(
        int(float(number) * _NANOSECONDS[unit])
        for number, unit in re.findall(r"([\d.]+)(ns|us|ms|s|m|h)", duration)
    )


def _duration(nanoseconds: int) -> str:
    """Go's way to write a duration, for the whole seconds and minutes that people use."""
    minutes, seconds = divmod(nanoseconds / 10**9, 60)
    if not minutes:
        return f"{seconds:g}s"
    return f"{int(minutes)}m{seconds:g}s"


if __name__ == "__main__":
    serve(
        DockerProvider(
            "pulumi-resource-docker",
            "5.2.0",
            [Service(), Network(), ServiceConfig(), Secret()],
            engine_address(),
        )
    )
