"""What the registries noted of each hour and each day, added up.

Each registry's task keeps these notes in the folder `.usage` of its cache (`start-registry.sh`):
`hours` has a line for each full hour, `hour` that of the hour that is running,
`pulls-2026-11-27` a line for each manifest that was pulled
that day. They are read in the registry's container, and a line that has another shape counts for
nothing, because whoever may write to the storage may have written it.
"""

import json
import re
import time
from typing import Any, Dict

from . import containers, stats
from .verb_request import CountedService, UsageRequest

DAY = 86400
PULL_DAYS = 32
"""For which pulls are kept."""
SUMS = (
    "requests",
    "hits",
    "misses",
    "served_bytes",
    "fetched_bytes",
    "evicted_layers",
    "evicted_bytes",
)
"""Of each hour: the difference to the hour before."""
STATES = ("cached_bytes", "oldest_use")
"""Of each hour: as it was at its end."""

READ = (
    "cd -P /var/lib/registry 2> /dev/null || exit 0\n"
    "notes=$(pwd -P)/${1:+$1/}.usage\n"
    'cd -P "$notes" 2> /dev/null && [ "$(pwd -P)" = "$notes" ] || exit 0\n'
    "[ ! -f hours ] || [ -L hours ] || tail -n 9700 hours | tail -c 4194304 | sed 's/^/hour /'\n"
    "[ ! -f hour ] || [ -L hour ] || head -n 1 hour | head -c 4096 | sed 's/^/hour /'\n"
    "shift\n"
    "for day; do\n"
    '  [ -f "pulls-$day" ] && [ ! -L "pulls-$day" ] || continue\n'
    "  head -n 1000 \"pulls-$day\" | head -c 524288 | sed 's/^/pull /'\n"
    "done\n"
    "exit 0\n"
)
"""Words: folder, then days."""

_HOUR = re.compile(r"hour ([0-9]{1,12})((?: [a-z_]{1,40}=[0-9]{1,18})*)")
_PULL = re.compile(
    r"pull ([0-9]{1,12}) ([a-z0-9][a-z0-9._/-]{0,254}(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
    r"|@sha256:[0-9a-f]{64}))"
)


def look(request: UsageRequest) -> str:
    """JSON, a list with an entry for each registry whose task runs on this machine: `registry`, its
    counters since its start (`counters`), `hours` (how many have notes), the sums and states of
    these, and `top` (image -> pulls, the most pulled first). Changes nothing."""
    found = []
    for service in request.services:
        names = containers.of_service(service.service)
        if names:
            found.append(_of(service, names[0], request))
    return json.dumps(found)


def _of(service: CountedService, container: str, request: UsageRequest) -> Dict[str, Any]:
    now = time.time()
    days = [
        time.strftime("%Y-%m-%d", time.gmtime(now - DAY * ago))
        for ago in range(min(request.days, PULL_DAYS) + 1)
    ]
    words = ["sh", "-c", READ, "sh", service.folder, *days]
    text = containers.run_in(container, *words)
    metrics = containers.run_in(container, "wget", "-q", "-O", "-", request.metrics)
    return {
        "registry": service.registry,
        "counters": stats.counters(metrics),
        **added_up(text, now - DAY * request.days),
        "top": most_pulled(text, request.top),
    }


def added_up(text: str, since: float) -> Dict[str, int]:
    """The sums over the hours since then, and the states of the last of them; 0 for what was
    never noted. Pure."""
    found: Dict[str, int] = {"hours": 0, **dict.fromkeys(SUMS + STATES, 0)}
    last = 0
    for line in text.splitlines():
        noted = _HOUR.fullmatch(line)
        if noted is None or int(noted.group(1)) < since:
            continue
        values = dict(pair.split("=") for pair in noted.group(2).split())
        found["hours"] += 1
        for name in SUMS:
            found[name] += int(values.get(name, 0))
        if int(noted.group(1)) >= last:
            last = int(noted.group(1))
            found.update({name: int(values[name]) for name in STATES if name in values})
    return found


def most_pulled(text: str, at_most: int) -> Dict[str, int]:
    """Image -> pulls of all days together, the most pulled first. Pure."""
    pulls: Dict[str, int] = {}
    for line in text.splitlines():
        noted = _PULL.fullmatch(line)
        if noted is not None:
            pulls[noted.group(2)] = pulls.get(noted.group(2), 0) + int(noted.group(1))
    ranked = sorted(pulls.items(), key=lambda pair: (-pair[1], pair[0]))
    return dict(ranked[:at_most])
