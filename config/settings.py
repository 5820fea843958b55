"""From the text of a stack's configuration to the component's args: types, unknown keys, files. All
faults at once.

`parse` is pure but for the files that the settings name; `load_settings` reads `pulumi.Config` and
nothing else. Rules about values are not here but with the args
(`components/registry_mirror/rules.py`), so that other estates get them too.
"""

import difflib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime.config import (
    CONFIG,
    get_config_env,
    get_config_secret_keys_env,
    is_config_secret,
)

from components.registry_mirror import (
    Bastion,
    Fault,
    InvalidArgs,
    Registry,
    RegistryMirrorArgs,
    SwarmNode,
    rules,
    ssh,
)
from components.registry_mirror.args import some_bastion, some_node
from config.keys import BASTION_KEYS, KEYS, NODE_KEYS, REGISTRY_KEYS, Key
from config.known_hosts import find_host_key
from config.spelling import in_a_stacks_file

ReadFile = Callable[[str], str]


@dataclass(frozen=True)
class Settings:
    """What `__main__.py` needs: the component's args, and how docker's own provider reaches the
    manager."""

    mirror: RegistryMirrorArgs
    docker_host: str
    """`ssh://user@address:port` of the manager: with ssh, and only with ssh, a preview makes no
    connection."""
    ssh_options: tuple[str, ...]
    """Options for the ssh program that the docker provider starts."""


MIRROR_NAME = "registry-mirror"
"""Name of the component in this program; part of every resource's name, so it never changes."""

_MISSING = object()

# Stand in for values that are missing or of the wrong type, so that the faults of all the others
# are found in the same run.
_ANY_PRIVATE_KEY = "PRIVATE KEY-----"
_ANY_DIGEST = "sha256:" + "0" * 64
_PLACEHOLDERS = {
    "hostname": "missing.invalid",
    "image": f"registry:3.1.1@{_ANY_DIGEST}",
    "nodes": [],
}


def load_settings() -> Settings:
    """The stack's settings. Raises InvalidArgs with every fault; the CLI shows it in the
    preview."""
    prefix = f"{pulumi.get_project()}:"
    everything = {**get_config_env(), **CONFIG.get()}
    values = {
        key.removeprefix(prefix): value
        for key, value in everything.items()
        if key.startswith(prefix)
    }
    marked = get_config_secret_keys_env()
    return parse_files(
        values, {key for key in values if prefix + key in marked or is_config_secret(prefix + key)}
    )


def parse_files(values: Mapping[str, object], secret: Collection[str] = ()) -> Settings:
    """`parse` with files as they are on this computer."""
    return parse(values, _read, secret)


def parse(
    values: Mapping[str, object], read_file: ReadFile, secret: Collection[str] = ()
) -> Settings:
    """Settings from raw values (texts, as Pulumi hands them over, or already typed). Raises
    InvalidArgs.

    `secret`: the keys that have a secret in them, at any depth; Pulumi marks no more than the key.
    What came from one stays a secret in all that Pulumi keeps and shows, and no fault repeats a
    value of it. A key that cannot be kept secret is refused.
    """
    refused = [
        key for key in values if key in secret and key in KEYS and not KEYS[key].stays_secret
    ]
    if refused:
        # Alone, because any other fault may repeat what is secret here.
        reason = (
            "was set as a secret and cannot be kept one, because it ends in names, in labels"
            " or on nodes; set it without --secret"
        )
        raise InvalidArgs(Fault(key, None, reason) for key in refused)
    try:
        return _parse(values, read_file, secret)
    except InvalidArgs as error:
        secrets = {key: list(_texts(values[key])) for key in values if key in secret}
        raise InvalidArgs(_without_secrets(fault, secrets) for fault in error.faults) from None


def _without_secrets(fault: Fault, secrets: Mapping[str, list[str]]) -> Fault:
    """A fault without the texts of a secret, which its words may repeat, too. `secrets`: key -> the
    texts in its value."""
    if _top(fault.key) not in secrets:
        return fault
    wrong = fault.wrong
    for text in secrets[_top(fault.key)]:
        wrong = wrong.replace(text, "[secret]")
    return replace(fault, value=None if fault.value is None else "[secret]", wrong=wrong)


def _texts(value: object) -> Iterator[str]:
    """The texts in a value that are long enough to be secrets, longest first."""
    if isinstance(value, str):
        try:
            opened = json.loads(value)
        except ValueError:
            opened = None
        found = [value] if not isinstance(opened, dict | list) else list(_texts(opened))
    else:
        items = (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        )
        found = [text for item in items for text in _texts(item)]
    yield from sorted(
        {text for text in found if len(text) >= _SHORTEST_SECRET}, key=len, reverse=True
    )


_SHORTEST_SECRET = 4
"""Characters; a shorter one is in half of all words."""


def _parse(values: Mapping[str, object], read_file: ReadFile, secret: Collection[str]) -> Settings:
    faults: list[Fault] = []
    found = _typed(values, KEYS, "", faults)
    known_hosts_file = found.pop("knownHostsFile", None)
    known_hosts = _file(known_hosts_file, "knownHostsFile", read_file, faults)
    unread = known_hosts_file is not None and known_hosts is None
    private_key = _private_key(found, read_file, faults)
    for image, file in (("image", "imageDigestFile"), ("varnishImage", "varnishDigestFile")):
        name = found.pop(file, None)
        digest = _file(name, file, read_file, faults)
        if name is not None and "@" not in str(found.get(image, "@")):
            # Where the file cannot be read that is the fault, and not that the image has no digest.
            found[image] = f"{found[image]}@{_ANY_DIGEST if digest is None else digest.strip()}"
    if "upstreamProxy" in found and "upstreamProxy" in secret:
        faults += rules.check(
            "upstreamProxy", found["upstreamProxy"], lambda value: rules.proxy(value, secret=True)
        )
    for key in (
        "upstreamToken",
        *(key for key in ("upstreamUsername", "upstreamProxy") if key in secret),
    ):
        if key in found:
            found[key] = pulumi.Output.secret(found[key])
    authorities = _authorities(found, read_file, faults)
    if "registries" in found:
        found["registries"] = [
            _registry(entry, index, faults, secret="registries" in secret)
            for index, entry in enumerate(_list(found, "registries"))
        ]

    nodes = [
        _node(node, f"nodes[{index}]", known_hosts, faults, read_file, any_key=unread)
        for index, node in enumerate(_list(found, "nodes"))
    ]
    nodes = _left(nodes, found.pop("without", []), faults)
    bastion = _bastion(found.pop("bastion", None), "bastion", known_hosts, faults, any_key=unread)
    missing = {key: value for key, value in _PLACEHOLDERS.items() if key not in found}
    arguments = {KEYS[key].field: value for key, value in {**found, **missing}.items()}
    if "nodes" in missing:
        nodes = [some_node(0)]
        arguments.pop("manager", None)
    try:
        mirror = RegistryMirrorArgs(
            **{**arguments, "nodes": nodes, "bastion": bastion},
            private_key=None if private_key is None else pulumi.Output.secret(private_key),
            daemon_keys_are_secret="daemonKeys" in secret,
            upstream_ca=authorities,
        )
    except InvalidArgs as error:
        raise InvalidArgs(
            sorted(
                [*faults, *map(in_a_stacks_file, error.faults)],
                key=lambda fault: _order(fault.key),
            )
        ) from None
    faults += map(in_a_stacks_file, mirror.label_faults(mirror.service_name or MIRROR_NAME))
    if faults:
        raise InvalidArgs(sorted(faults, key=lambda fault: _order(fault.key)))

    manager = mirror.manager_node
    jump = manager.bastion or mirror.bastion
    options = ssh.command_options(
        key_file=manager.private_key_file or mirror.private_key_file,
        known_hosts=known_hosts_file,
        config=mirror.ssh_config,
        bastion=ssh.destination(jump.user, jump.address, jump.port) if jump else None,
    )
    return Settings(
        mirror,
        ssh.destination(manager.user, manager.address, manager.port),
        tuple(options),
    )


def _typed(
    values: Mapping[str, object], keys: Mapping[str, Key], place: str, faults: list[Fault]
) -> dict[str, Any]:
    """The values that have the type of their key; the others become faults."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(keys)}"
            # Without its value, which may be a secret whose key was misspelt.
            faults.append(Fault(place + key, None, f"is not a key of this program; {hint}"))
            continue
        if not keys[key].required and value in ("", "[]", "{}", [], {}):
            continue  # the empty default that Pulumi.yaml must declare for an optional key
        converted = _convert(value, keys[key].kind)
        if converted is _MISSING:
            faults.append(Fault(place + key, value, f"must be {_A_KIND[keys[key].kind]}"))
        else:
            found[key] = converted
    for key, entry in keys.items():
        if entry.required and key not in values:
            faults.append(Fault(place + key, None, f"is missing: {entry.meaning}"))
    return found


_A_KIND = {
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def _convert(value: object, kind: str) -> object:
    """`value` as its kind, or _MISSING. Pulumi hands everything over as text, lists and booleans as
    JSON."""
    if kind == "string":
        return value if isinstance(value, str) and value != "" else _MISSING
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return _MISSING
    types = {"integer": int, "boolean": bool, "array": list, "object": dict}
    # A bool is an int to Python, and not to a person.
    return (
        value
        if isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))
        else _MISSING
    )


def _list(found: dict[str, Any], key: str) -> list[object]:
    value = found.get(key, [])
    assert isinstance(value, list)
    return value


def _node(
    value: object,
    place: str,
    known_hosts: str | None,
    faults: list[Fault],
    read_file: ReadFile,
    *,
    any_key: bool,
) -> SwarmNode:
    """A node of the list; `any_key`: a missing host key is no fault, because the file that has it
    could not be read."""
    # Differs from node to node, so that no fault is reported about two placeholders being alike.
    number = int(place.strip("nodes[]"))
    if not isinstance(value, dict):
        faults.append(Fault(place, value, "must be a mapping with name and address"))
        return some_node(number)
    found = _typed(value, NODE_KEYS, f"{place}.", faults)
    bastion = _bastion(
        found.pop("bastion", None), f"{place}.bastion", known_hosts, faults, any_key=any_key
    )
    _check_key_file(found.get("sshPrivateKeyFile"), f"{place}.sshPrivateKeyFile", read_file, faults)
    _find_host_key(found, value, place, known_hosts, faults, any_key=any_key)
    return some_node(
        number, **{NODE_KEYS[key].field: value for key, value in found.items()}, bastion=bastion
    )


def _registry(value: object, index: int, faults: list[Fault], *, secret: bool) -> Registry:
    """A registry of the list; its token is a secret, however it was given, and its account where
    the list has a `secret`."""
    place = f"registries[{index}]"
    unnamed = f"missing{index}.invalid"
    if not isinstance(value, dict):
        wrong = "must be a mapping with the registry's name, like {name: ghcr.io}"
        faults.append(Fault(place, value if isinstance(value, str) else None, wrong))
        return Registry(name=unnamed)
    found = {"name": unnamed, **_typed(value, REGISTRY_KEYS, f"{place}.", faults)}
    for key in ("token", *(["username"] if secret else [])):
        if key in found:
            found[key] = pulumi.Output.secret(found[key])
    return Registry(**{REGISTRY_KEYS[key].field: value for key, value in found.items()})


def _bastion(
    value: dict[str, object] | None,
    place: str,
    known_hosts: str | None,
    faults: list[Fault],
    *,
    any_key: bool,
) -> Bastion | None:
    """As `_node`, of a bastion."""
    if value is None:
        return None
    found = _typed(value, BASTION_KEYS, f"{place}.", faults)
    _find_host_key(found, value, place, known_hosts, faults, any_key=any_key)
    return some_bastion(**{BASTION_KEYS[key].field: value for key, value in found.items()})


def _find_host_key(
    found: dict[str, Any],
    given: Mapping[str, object],
    place: str,
    known_hosts: str | None,
    faults: list[Fault],
    *,
    any_key: bool,
) -> None:
    """Add the host key of a machine that brings none."""
    address, port = found.get("address"), found.get("port", 22)
    if "hostKey" in given or address is None or any_key:
        return
    key = find_host_key(known_hosts, str(address), port) if known_hosts is not None else None
    if key is not None:
        found["hostKey"] = key
        return
    where = (
        "knownHostsFile has none for this address"
        if known_hosts is not None
        else "and there is no knownHostsFile"
    )
    remedy = (
        "`make hostkeys ENV=…` prints the one that the machine has now, to be compared with"
        " its own, and writes it"
    )
    faults.append(Fault(f"{place}.hostKey", address, f"is missing, {where}; {remedy}"))


def _left(nodes: list[SwarmNode], without: list[object], faults: list[Fault]) -> list[SwarmNode]:
    """The nodes without those that are left out by name."""
    names = [node.name for node in nodes]
    unknown = [name for name in without if name not in names]
    if unknown:
        faults.append(
            Fault("without", unknown, f"must be names of nodes; they are {', '.join(names)}")
        )
    return [node for node in nodes if node.name not in without]


def _private_key(found: dict[str, Any], read_file: ReadFile, faults: list[Fault]) -> str | None:
    """The SSH key where it is given as text. A file stays where it is, and must be one that ssh
    reads."""
    file, text = found.get("sshPrivateKeyFile"), found.pop("sshPrivateKey", None)
    if file is not None and text is not None:
        faults.append(
            Fault(
                "sshPrivateKey",
                "[secret]",
                "is given besides sshPrivateKeyFile; remove one of them",
            )
        )
        return None
    if text is not None:
        wrong = rules.private_key(text)
        if wrong is not None:
            faults.append(Fault("sshPrivateKey", "[secret]", wrong))
            return _ANY_PRIVATE_KEY
        return rules.private_key_text(text)
    _check_key_file(file, "sshPrivateKeyFile", read_file, faults)
    return None


def _check_key_file(file: str | None, key: str, read_file: ReadFile, faults: list[Fault]) -> None:
    content = _file(file, key, read_file, faults)
    wrong = None if content is None else rules.private_key_file(content)
    if wrong is not None:
        faults.append(Fault(key, file, wrong))


def _authorities(found: dict[str, Any], read_file: ReadFile, faults: list[Fault]) -> str | None:
    """The certificates in the file that `upstreamCa` names; None where there are none, or what is
    there is a fault."""
    file = found.pop("upstreamCa", None)
    text = _file(file, "upstreamCa", read_file, faults)
    wrong = None if text is None else rules.authorities(text)
    if wrong is not None:
        faults.append(Fault("upstreamCa", file, wrong))
        return None
    return text


def _file(name: str | None, key: str, read_file: ReadFile, faults: list[Fault]) -> str | None:
    if name is None:
        return None
    try:
        return read_file(name)
    except OSError as error:
        made = "; `make lab` makes it" if name.startswith(".lab/") else ""
        faults.append(Fault(key, name, f"cannot be read: {error.strerror}{made}"))
    except UnicodeDecodeError:
        faults.append(Fault(key, name, "is not a text file"))
    return None


def _read(name: str) -> str:
    return Path(name).expanduser().read_text(encoding="utf-8")


def _top(key: str) -> str:
    """The key of the configuration that a fault's key lies in."""
    return key.partition("[")[0].partition(".")[0]


def _order(key: str) -> int:
    """Faults are shown in the order of the keys in the reference."""
    top = _top(key)
    return list(KEYS).index(top) if top in KEYS else len(KEYS)
