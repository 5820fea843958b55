"""Registries behind one mirror: the one at the root, and others under their own names. Pure.

Owns how a registry's name becomes a path, a Swarm service and a folder, and what Varnish needs to
know of each (`configuration`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

DOCKER_HUB = "docker.io"
HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
"""Names of Docker Hub. Docker itself calls it `docker.io` (distribution/reference
normalize.go)."""

HUB_URL = "https://registry-1.docker.io"
"""Where Docker Hub is asked."""

MOST = 63
"""Registries besides the one at the root (`REGISTRIES` in container/mirror.vcl)."""


@dataclass(frozen=True)
class Behind:
    """A registry behind the mirror, besides the one at the root."""

    name: str
    """As images have it: `ghcr.io`, `registry.example.com:5000`."""
    aliases: Sequence[str] = field(default=())
    """Other names of the same content, like `lscr.io` of ghcr.io."""
    repositories: Sequence[str] = field(default=())
    """What may be pulled, like `owner/*` or `owner/image`; empty for everything."""


def path_of(name: str) -> str:
    """The first element of the paths of a registry; a colon cannot be in one (distribution
    reference/regexp.go)."""
    return name.replace(":", "_")


def suffix_of(name: str) -> str:
    """What a Swarm service of this registry has behind the mirror's own name: `-ghcr-io`."""
    return "-" + re.sub(r"[^a-z0-9]+", "-", name.lower())


def folder_of(name: str) -> str:
    """The folder of its cache below the mirror's cache; the registry at the root has the cache
    itself."""
    return f"registries/{path_of(name)}"


def configuration(text: str, behind: Sequence[Behind], root: Sequence[str] = ()) -> str:
    """`container/mirror.vcl` for these registries; the first is number 1.

    Args:
        text: The file.
        behind: The registries besides the one at the root, MOST at most.
        root: Names by which clients may know the registry at the root, its own first; empty for
            any. The others are its aliases, and are paths, too.
    """
    parts = {
        "backends": "\n".join(map(_backend, range(1, len(behind) + 1))),
        "routes": _routes(behind, root),
        "fetch": "\n    ".join(_fetch(number, item) for number, item in enumerate(behind, 1)),
    }
    for name, part in parts.items():
        text = text.replace(f"#@{name}", part)
    return text


def _pattern(*names: str) -> str:
    """A regular expression for the paths of these registries."""
    return "|".join(re.escape(path_of(name)).replace("\\-", "-") for name in names)


def _backend(number: int) -> str:
    return f"""backend registry_{number} {{
    .host = "@ADDRESS_{number}@";
    .port = "5000";
    .connect_timeout = 3s;
    .first_byte_timeout = 10s;
    .between_bytes_timeout = 60s;
}}"""


def _routes(behind: Sequence[Behind], root: Sequence[str]) -> str:
    branches = []
    for number, item in enumerate(behind, 1):
        names = [item.name, *item.aliases]
        lines = [
            *_path(names, f"{path_of(item.name)}/"),
            f'    set req.http.X-Mirror-Registry = "{number}";',
            *_cross_check(names),
        ]
        if item.repositories:
            allowed = "|".join(map(_repository, item.repositories))
            kinds = "(manifests|blobs|referrers|tags)"
            lines += [
                f'    if (req.url !~ "^/v2/{_pattern(item.name)}/({allowed})/{kinds}/[^/]+$") {{',
                '        return (synth(404, "This mirror does not serve this repository"));',
                "    }",
            ]
        branches.append("\n    ".join(lines))
    if root[1:]:
        others = [name for item in behind for name in (item.name, *item.aliases)]
        lines = [
            *_path(root[1:], ""),
            # What is left would have the path, and so the place in the cache, of another registry.
            f'    if (req.url ~ "^/v2/({_pattern(*others, *root[1:])})/") {{',
            '        return (synth(404, "No repository of this registry"));',
            "    }",
            *_cross_check(root),
        ]
        branches.append("\n    ".join(lines))
    if not branches:
        return ""
    other = [*(_cross_check(root) if root else []), "    # the registry at the root"]
    return "\n    } els".join(branches) + "\n    } else {\n    " + "\n    ".join(other) + "\n    }"


def _path(names: Sequence[str], own: str) -> list[str]:
    """The begin of a branch: the path that the client has used, and one spelling for the same
    content under several names."""
    return [
        f'if (req.url ~ "^/v2/({_pattern(*names)})/") {{',
        '    set req.http.X-Mirror-Path = regsub(req.url, "^/v2/([^/]+)/.*$", "\\1");',
        f'    set req.url = regsub(req.url, "^/v2/[^/]+/", "/v2/{own}");',
    ]


def _cross_check(names: Sequence[str]) -> list[str]:
    allowed = "|".join(re.escape(name).replace("\\-", "-") for name in names)
    header = "req.http.X-Mirror-Namespace"
    return [
        f'    if ({header} && {header} !~ "^({allowed})$") {{',
        '        return (synth(404, "Another registry than this path is of"));',
        "    }",
    ]


def _repository(allowed: str) -> str:
    """`owner/*` as a regular expression: any one element, and whatever is below it."""
    return re.escape(allowed).replace("\\-", "-").replace("\\*", "[^/]+(/[^/]+)*")


def _fetch(number: int, item: Behind) -> str:
    return (
        f'if (bereq.http.X-Mirror-Registry == "{number}") {{\n'
        f"        set bereq.backend = registry_{number};\n"
        f'        set bereq.url = regsub(bereq.url, "^/v2/{_pattern(item.name)}/", "/v2/");\n'
        "    }"
    )
