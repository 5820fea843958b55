"""User data for cloud-init: what has a new machine's docker use the mirror before a `pulumi up` has
come to it. Pure.

Owns the text, and what is left out of it. The two scripts in it (`first_boot/`) are small, take
what they write as arguments, and change nothing that is there already.

WHEN THEY RUN: `bootcmd` before docker is started, whether it is in the image or among the packages:
it is in cloud_init_modules, which the unit cloud-init.service runs before network-online.target,
and packages are installed by cloud_final_modules (cloud-init config/cloud.cfg.tmpl,
systemd/cloud-init.service); docker is started after that target (moby
contrib/init/systemd/docker.service). `runcmd` after packages are installed. `cloud-init-per
instance` has each run once on each machine (cloud-init tools/cloud-init-per), where bootcmd alone
would at every boot.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import yaml

from ..node_agent import daemon_json, hosts, hosts_plan, hosts_toml
from ..node_agent.request import NodeRequest
from ..plain_text import one_line, without_credentials

NAME = "registry-mirror"
"""By which cloud-init remembers that a script has run."""


def user_data(request: NodeRequest, *, secret: bool = False, authorities: str | None = None) -> str:
    """The text of `#cloud-config`.

    Args:
        request: What is asked of a node in the list.
        secret: Whether the managed keys are a secret; then they are left out, and named.
        authorities: Certificates in PEM that docker needs to trust the mirror, if it needs any.
    """
    keys = {
        key: value
        for key, value in request.managed_keys.items()
        if not secret and not has_password(value)
    }
    covered, strict = _covered(request)
    host = request.mirror_url.partition("://")[2]
    authority = ["/".join((hosts.CERTS, host, "mirror.crt")), authorities] if authorities else []
    config: dict[str, Any] = {
        # Behind another part with lists of these names: without it those are lost. (The part that
        # comes later says how; cloud-init handlers/cloud_config.py.)
        "merge_how": [
            {"name": "list", "settings": ["append"]},
            {"name": "dict", "settings": ["no_replace", "recurse_list"]},
        ],
        "bootcmd": [
            _once("daemon-json", request.path, first_text(request.mirror_url, keys), *authority)
        ],
    }
    if covered:
        config["runcmd"] = [_once("hosts-toml", hosts.CERTS, request.owner, *covered)]
    head = [
        "#cloud-config",
        *(
            f"# {line}"
            for remark in _remarks(request, list(keys), strict)
            for line in textwrap.wrap(one_line(remark, 1000), 96, break_on_hyphens=False)
        ),
    ]
    return "\n".join(head) + "\n" + yaml.dump(config, Dumper=_Dumper, sort_keys=False, width=200)


def first_text(mirror_url: str, keys: Mapping[str, Any]) -> str:
    """A daemon.json where there was none, as the node agent would write it."""
    text = daemon_json.add_mirror("", mirror_url)
    for key, value in keys.items():
        text = daemon_json.set_key(text, key, json.dumps(value, ensure_ascii=False))
    return text


def _covered(request: NodeRequest) -> tuple[list[str], list[str]]:
    """Folder and table of each registry whose hosts.toml is written; and the registries whose is
    not, because docker is to ask nobody but the mirror.

    That one only a node agent takes back, so that it is for machines in the list. With a guard
    none is written: it writes them itself, once the machine is in the swarm.
    """
    entries = hosts.entries(request)
    tables = [
        word
        for entry in entries
        if entry.fallback and not request.guard
        for word in (
            hosts.folder_of(entry.registry),
            hosts_toml.table(entry.url, hosts_plan.settings(entry.url, hosts_plan.Around())),
        )
    ]
    return tables, [entry.registry for entry in entries if not entry.fallback]


def _remarks(request: NodeRequest, entered: Sequence[str], strict: Sequence[str]) -> Iterator[str]:
    """What a person reads at the top. `entered`: the managed keys that are in it."""
    path = request.path
    left_out = [key for key in request.managed_keys if key not in entered]
    yield f"Has docker on a new machine use the registry mirror {request.mirror_url}."
    yield (
        f"bootcmd writes {path} before docker is started for the first time. A file that is there,"
        " in the image or by another part of the user data, stays as it is."
    )
    if request.guard:
        yield (
            "Where docker goes by hosts.toml, the mirror's guard writes those files, once the"
            " machine is in the swarm."
        )
    else:
        yield (
            "runcmd writes hosts.toml files, if docker is there by then and goes by them (28 and"
            " later, with the containerd image store)."
        )
    yield (
        "Then have the machine join the swarm, enter it in the list of nodes"
        " (`swarm-registry-mirror nodes` prints its entry), and run `pulumi up`, which finds docker"
        " configured and does not reload it."
    )
    yield "As one of several parts it must be the last: then its lists are appended to the others'."
    yield "There is no secret in it."
    if left_out:
        yield (
            f"Left out, because they hold a secret: {', '.join(left_out)} of the managed keys. The"
            " `pulumi up` enters them."
        )
    if entered:
        yield (
            f"Also in {path}: {', '.join(entered)}. A docker that does not know one of these keys"
            " does not start."
        )
    if strict:
        yield (
            f"Left out, because fallback is false there: hosts.toml of {', '.join(strict)}. The"
            " `pulumi up` writes it."
        )


def has_password(value: object) -> bool:
    """Whether a URL in a value has a password in it, as a proxy's may."""
    text = json.dumps(value)
    return without_credentials(text) != text


def _once(script: str, *arguments: str) -> list[str]:
    """A command that cloud-init runs once for each machine."""
    run = ["sh", "-c", _script(script), script]
    return ["cloud-init-per", "instance", f"{NAME}-{script}", *run, *arguments]


def _script(name: str) -> str:
    """A script without its comments."""
    folder = resources.files(__package__.rpartition(".")[0]) / "first_boot"
    text = (folder / f"{name}.sh").read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.lstrip().startswith("#"))


class _Dumper(yaml.SafeDumper):
    """Has texts of several lines stand as they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
