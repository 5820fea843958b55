"""What Traefik's labels on a service say of a hostname. Pure, stdlib only.

Reads the rules of Traefik 1 (`Host:a,b`), 2 and 3 (`Host(...)`); a pattern (HostRegexp) is for many
hosts and owns none, unless it is a name and nothing else. In doubt a rule counts as leading to
`/v2/`, where a mirror is asked.
"""

import re
from typing import Dict, Iterable, List

_HOSTS = re.compile(r"(!?)\s*\bHost(?:Header|Regexp)?\s*\(([^)]*)\)")
_PATHS = re.compile(r"(!?)\s*\bPath(Prefix)?\s*\(([^)]*)\)")
_WORD = re.compile(r"[`\"']([^`\"']*)[`\"']")
_RULE = re.compile(r"traefik\.http\.routers\.([^.]+)\.rule")
_OLD_RULE = re.compile(r"traefik\.(?:[^.]+\.)?frontend\.rule")


def leads_here(labels: Dict[str, str], hostname: str, entrypoint: str) -> bool:
    """Whether requests for `https://<hostname>/v2/` that come in at an entrypoint may be led to the
    service with these labels.

    `entrypoint`: one, or several with commas between them, of which any counts.
    """
    known = {key.lower(): value for key, value in labels.items()}
    if known.get("traefik.enable", "").lower() == "false":
        return False
    for key, rule in known.items():
        router = _RULE.fullmatch(key)
        if router is not None:
            points = known.get("traefik.http.routers.%s.entrypoints" % router.group(1), "")
            here = not points or not set(entrypoint.split(",")).isdisjoint(
                point.strip() for point in points.split(",")
            )
            if here and _matches(rule, hostname.lower()):
                return True
        elif _OLD_RULE.fullmatch(key) and _matches_old(rule, hostname.lower()):
            return True
    return False


def named(labels: Dict[str, str], routers: Iterable[str]) -> List[str]:
    """Those of some routers that these labels define."""
    keys = [key.lower() for key in labels]
    return [
        router
        for router in routers
        if any(key.startswith("traefik.http.routers.%s." % router.lower()) for key in keys)
    ]


def _matches(rule: str, hostname: str) -> bool:
    hosts = [
        host.lower()
        for no, words in _HOSTS.findall(rule)
        if not no
        for host in _WORD.findall(words)
    ]
    if hostname not in hosts:
        return False
    if "||" in rule:
        return True
    found = [
        (bool(no), bool(prefix), path)
        for no, prefix, words in _PATHS.findall(rule)
        for path in _WORD.findall(words)
    ]
    if any(no and prefix and "/v2/".startswith(path) for no, prefix, path in found):
        return False
    wanted = [(prefix, path) for no, prefix, path in found if not no]
    return not wanted or any(
        path.startswith("/v2") or (prefix and "/v2/".startswith(path)) for prefix, path in wanted
    )


def _matches_old(rule: str, hostname: str) -> bool:
    parts = [part.strip().partition(":") for part in rule.split(";")]
    hosts = [
        host.strip().lower()
        for kind, _, value in parts
        if kind in ("Host", "HostRegexp")
        for host in value.split(",")
    ]
    paths = [
        path.strip()
        for kind, _, value in parts
        if kind.startswith("Path")
        for path in value.split(",")
    ]
    return hostname in hosts and (
        not paths or any(path.startswith("/v2") or "/v2/".startswith(path) for path in paths)
    )
