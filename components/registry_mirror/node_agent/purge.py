"""Removes one image from the cache, and from Varnish.

Owns what belongs to an image (`what_goes`, pure) and the two scripts that run in the registry's
container: one lists a repository, the other removes files by names that were checked here. The
registry keeps nothing in memory of what it has stored (every request reads the link, then the data:
distribution registry/storage/linkedblobstore.go, blobstore.go), so it fetches what is gone again
when somebody asks; whoever reads a layer meanwhile has it open and gets all of it.
"""

import json
import re
from typing import Dict, List, NamedTuple, Optional, Set

from . import containers
from .files import Failed
from .verb_request import BanRequest, PurgeRequest

ENTER = (
    "cd -P /var/lib/registry 2> /dev/null || exit 0\n"
    "top=$(pwd -P)/${1:+$1/}docker/registry/v2\n"
    'enter() { cd -P "$top/$1" 2> /dev/null && [ "$(pwd -P)" = "$top/$1" ]; }\n'
    'data_of() { echo "$top/blobs/sha256/${1%"${1#??}"}/$1/data"; }\n'
    "digits() { case $1 in *[!0-9a-f]*) return 1 ;; esac; [ ${#1} -eq 64 ]; }\n"
)
"""Where a registry's store is: a link on the way would lead elsewhere, so there is none."""

LIST = ENTER + (
    'enter "repositories/$2" || exit 0\n'
    "for link in _manifests/tags/*/current/link; do\n"
    '  [ -f "$link" ] && [ ! -L "$link" ] || continue\n'
    "  tag=${link#_manifests/tags/}\n"
    '  echo "tag ${tag%/current/link} $(head -c 71 "$link")"\n'
    "done\n"
    "for link in _layers/sha256/*/link; do\n"
    "  layer=${link#_layers/sha256/}\n"
    "  layer=${layer%/link}\n"
    '  [ ! -f "$link" ] || ! digits "$layer" || echo "layer $layer"\n'
    "done\n"
    "for link in _manifests/revisions/sha256/*/link; do\n"
    "  revision=${link#_manifests/revisions/sha256/}\n"
    "  revision=${revision%/link}\n"
    '  [ -f "$link" ] && digits "$revision" || continue\n'
    '  echo "revision $revision"\n'
    '  data=$(data_of "$revision")\n'
    '  [ -f "$data" ] && [ ! -L "$data" ] || continue\n'
    "  head -c 4194304 \"$data\" | grep -o 'sha256:[0-9a-f]\\{64\\}' | sort -u |\n"
    '    sed "s/^sha256:/names $revision /"\n'
    "done\n"
    "exit 0\n"
)
"""Words: folder, repository. What a manifest names is read from its text: an index its manifests,
a manifest its configuration and layers."""

ELSEWHERE = ENTER + (
    "enter repositories || exit 0\n"
    'find . -xdev -path "./$2/_layers" -prune -o -type f'
    " -path '*/_layers/sha256/*/link' -print |\n"
    "  sed 's|^.*/_layers/sha256/||; s|/link$||' | grep -F -x \"$3\" | sort -u\n"
    "exit 0\n"
)
"""Words: folder, repository, layers, one a line. Those of them that another repository has."""

REMOVE = ENTER + (
    "folder=$1 repository=$2\n"
    "shift 2\n"
    "for word; do\n"
    "  kind=${word%%:*} name=${word#*:}\n"
    "  manifests=repositories/$repository/_manifests\n"
    "  case $kind in\n"
    '    tag) (enter "$manifests/tags" && [ ! -L "$name" ] && rm -rf "./$name") ;;\n'
    '    revision) (enter "$manifests/revisions/sha256/$name" && rm -f link) ;;\n'
    '    layer) (enter "repositories/$repository/_layers/sha256/$name" && rm -f link) ;;\n'
    "    data) (\n"
    '      enter "blobs/sha256/${name%"${name#??}"}/$name" || exit 0\n'
    "      [ -f data ] && [ ! -L data ] || exit 0\n"
    "      size=$(stat -c %s data)\n"
    '      rm -f data && echo "data $size"\n'
    "    ) ;;\n"
    "  esac\n"
    "done\n"
    "exit 0\n"
)
"""Words: folder, repository, then what is to be removed: `tag:v3.7`, `layer:<64 digits>`. Links go
before what they lead to."""

AT_ONCE = 200
"""Names on one command line, of 70 characters each."""

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGITS = re.compile("[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_FOLDER = re.compile(r"(registries/[a-z0-9][a-z0-9._-]*)?")


class Listed(NamedTuple):
    """A repository in the cache."""

    tags: Dict[str, str]
    """Tag -> digits of its digest."""
    revisions: Set[str]
    """Manifests."""
    names: Dict[str, Set[str]]
    """Manifest -> the digests in its text."""
    layers: Set[str]
    """Layers and configurations."""


class Going(NamedTuple):
    """What is to leave the cache."""

    tags: List[str]
    manifests: List[str]
    layers: List[str]


def look(request: PurgeRequest) -> str:
    """What of an image is in the cache: JSON of `here` (whether the registry's task runs on this
    machine), `tags`, and how many `manifests` and `layers`. Changes nothing."""
    going = _going(request)
    return _answer(going is not None, going or Going([], [], []), 0)


def run(request: PurgeRequest) -> str:
    """Remove an image from the cache; returns the same as `look`, with the `bytes` that are free
    now. What is not there is no failure."""
    going = _going(request)
    if going is None:
        return _answer(False, Going([], [], []), 0)
    words = ["tag:" + tag for tag in going.tags]
    for kind, digits in (("revision", going.manifests), ("layer", going.layers)):
        words += ["%s:%s" % (kind, each) for each in digits]
    words += ["data:" + each for each in going.manifests + going.layers]
    freed = 0
    for start in range(0, len(words), AT_ONCE):
        lines = _in_registry(request, REMOVE, *words[start : start + AT_ONCE]) or ""
        freed += sum(int(size) for size in re.findall("(?m)^data ([0-9]{1,18})$", lines))
    return _answer(True, going, freed)


def ban(request: BanRequest) -> str:
    """Have Varnish forget everything of a repository; returns in how many containers here. What it
    sends to somebody at this moment it sends to the end."""
    if not _REPOSITORY.fullmatch(request.repository):
        raise Failed("%r is no repository [RM268]" % request.repository)
    # A dot within brackets, because a backslash means something to varnishadm, too.
    pattern = "^/v2/%s/" % request.repository.replace(".", "[.]")
    names = containers.of_service(request.front)
    for name in names:
        containers.run_in(name, "varnishadm", "-n", "/tmp/varnish", "ban", "req.url", "~", pattern)
    return str(len(names))


def read_list(text: str) -> Listed:
    """What LIST has printed; lines of another shape, whose names somebody else chose, are left
    out. Pure."""
    found = Listed({}, set(), {}, set())
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        first, _, second = rest.partition(" ")
        second = second[len("sha256:") :] if second.startswith("sha256:") else second
        if kind == "tag" and _TAG.fullmatch(first) and _DIGITS.fullmatch(second):
            found.tags[first] = second
        elif not _DIGITS.fullmatch(first):
            continue
        elif kind == "layer":
            found.layers.add(first)
        elif kind == "revision":
            found.revisions.add(first)
        elif kind == "names" and _DIGITS.fullmatch(second):
            found.names.setdefault(first, set()).add(second)
    return found


def what_goes(listed: Listed, reference: str) -> Going:
    """What belongs to the image of this tag or digest and to no other of the repository: its
    manifest with all tags of it, the manifests below it, their layers. Pure."""
    top = reference[len("sha256:") :] if ":" in reference else listed.tags.get(reference, reference)
    tags = [tag for tag, digits in listed.tags.items() if digits == top or tag == reference]
    named = listed.names.get(top, set())
    goes = ({top} | named) & listed.revisions
    others = listed.revisions - goes
    # A manifest that another index of the repository names stays, with its layers.
    kept = {digits for each in others for digits in listed.names.get(each, ())}
    goes = {each for each in goes if each == top or each not in kept}
    stays = {digits for each in listed.revisions - goes for digits in listed.names.get(each, ())}
    layers = {digits for each in goes for digits in listed.names.get(each, ())} & listed.layers
    return Going(sorted(tags), sorted(goes), sorted(layers - stays))


def _going(request: PurgeRequest) -> Optional[Going]:
    """What is to leave the cache; None where the registry's task is on another machine. Raises
    Failed."""
    reference = request.reference
    is_digest = reference.startswith("sha256:") and _DIGITS.fullmatch(reference[len("sha256:") :])
    if not (
        _REPOSITORY.fullmatch(request.repository)
        and _FOLDER.fullmatch(request.folder)
        and (is_digest or _TAG.fullmatch(reference))
    ):
        raise Failed("%s:%s is no image [RM269]" % (request.repository, reference))
    text = _in_registry(request, LIST)
    if text is None:
        return None
    going = what_goes(read_list(text), reference)
    if not going.layers:
        return going
    shared = _in_registry(request, ELSEWHERE, "\n".join(going.layers)) or ""
    return going._replace(layers=sorted(set(going.layers) - set(shared.split())))


def _in_registry(request: PurgeRequest, script: str, *words: str) -> Optional[str]:
    return containers.script_in(request.service, script, request.folder, request.repository, *words)


def _answer(here: bool, going: Going, freed: int) -> str:
    return json.dumps(
        {
            "here": here,
            "tags": going.tags,
            "manifests": len(going.manifests),
            "layers": len(going.layers),
            "bytes": freed,
        }
    )
