"""What the values of managed keys look like inside: what dockerd would refuse, or take and then
fail with, is said before. Pure.

Owns one function for each key whose value has parts. The shapes are those of moby
daemon/config/config.go, builder.go and opts/opts.go, and of docker/go-units ulimit.go; dockerd's
decoder refuses a number or `true` where it wants a text.
"""

import ipaddress
import re
from typing import Any, Callable, Dict, List, Optional

LARGEST = 2**31 - 1
"""Of a whole number, so that it is one to dockerd on every machine."""
LEVELS = ("debug", "info", "warn", "error", "fatal")
ULIMITS = (
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
)
RESERVED_LABELS = ("com.docker.", "io.docker.", "org.dockerproject.")
DOMAIN = re.compile(
    r"^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*\.?$"
)
ADDRESS = re.compile(r"^(\[[0-9a-fA-F:.]+\]|[^\s:/]*):(\d{1,5})$")
PROXY = re.compile(r"^(https?|socks5h?)://[^\s/]+/?$")
BYTES = re.compile(r"^\d+(\.\d+)? ?([kKmMgGtTpP]i?)?[bB]?$|^\d+%$")


def fault(key: str, value: Any) -> Optional[str]:
    """What is wrong inside the value of `key`, which is of the right type itself; None if
    nothing."""
    if isinstance(value, int) and not isinstance(value, bool) and value > LARGEST:
        return "must be %d or less" % LARGEST
    check = CHECKS.get(key)
    return check(value) if check else None


def _text_fault(value: Any, what: str) -> Optional[str]:
    """Why a value is no text that dockerd takes."""
    if isinstance(value, (bool, int, float)):
        return '%s is %s, and dockerd wants a text; put quotation marks round it: "%s" [RM093]' % (
            what,
            _shown(value),
            _shown(value),
        )
    if not isinstance(value, str):
        return "%s must be a text" % what
    return None if value else "%s is empty; give it a value, or take it out [RM094]" % what


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _texts(check: Callable[[str], Optional[str]]) -> Callable[[Any], Optional[str]]:
    """For a list of texts, each of which `check` judges."""

    def fault_of(value: List[Any]) -> Optional[str]:
        for number, item in enumerate(value, 1):
            wrong = _text_fault(item, "entry %d" % number) or check(item)
            if wrong:
                return wrong
        return None

    return fault_of


def _labels(value: List[Any]) -> Optional[str]:
    seen: Dict[str, str] = {}
    wrong = _texts(_label)(value)
    for item in [] if wrong else value:
        name, _, content = item.partition("=")
        if seen.setdefault(name, content) != content:
            return "gives %s twice, as %s and as %s; dockerd refuses that [RM095]" % (
                name,
                seen[name],
                content,
            )
    return wrong


def _label(item: str) -> Optional[str]:
    if not item.partition("=")[1] or item.startswith("="):
        return "has %s, which is no key=value" % item
    if item.lower().startswith(RESERVED_LABELS):
        return "has %s, and labels that begin with %s are docker's own [RM096]" % (
            item,
            ", ".join(RESERVED_LABELS),
        )
    return None


def _registry(item: str) -> Optional[str]:
    if "://" in item:
        return "has %s; write the host alone, without https:// or http:// [RM097]" % item
    if "/" in item:
        try:
            ipaddress.ip_network(item, strict=False)
        except ValueError:
            return (
                "has %s, which is neither host, host:port nor a network like 10.0.0.0/8 [RM098]"
            ) % item
    if re.search(r"\s", item) or item.startswith("-") or item.endswith("-"):
        return (
            "has %s, which is neither host, host:port nor a network like 10.0.0.0/8 [RM098]"
        ) % item
    return None


def _ip_address(item: str) -> Optional[str]:
    try:
        ipaddress.ip_address(item)
    except ValueError:
        return (
            "has %s, which is no IP address; dockerd takes no names and no ports there [RM100]"
        ) % item
    return "has %s; dockerd takes no zone there [RM101]" % item if "%" in item else None


def _domain(item: str) -> Optional[str]:
    if item == "." or (len(item) < 255 and DOMAIN.match(item) and re.search("[a-zA-Z]", item)):
        return None
    return "has %s, which is no domain name [RM102]" % item


def _option(item: str) -> Optional[str]:
    return (
        "has %s, which has a space in it; give each option its own entry [RM103]" % item
        if re.search(r"\s", item)
        else None
    )


def _features(value: Dict[Any, Any]) -> Optional[str]:
    if "containerd-snapshotter" in value:
        return (
            "cannot have containerd-snapshotter: dockerd reads it at its start only, and another"
            " image store hides every image"
            " and container of the node; switch the store by hand, node by node, and leave it out"
            " here [RM104]"
        )
    if "windows-dns-proxy" in value:
        return "cannot have windows-dns-proxy on Linux; dockerd would not start [RM105]"
    wrong = [name for name, enabled in value.items() if not isinstance(enabled, bool)]
    return (
        ("must have true or false for %s, without quotation marks [RM106]") % wrong[0]
        if wrong
        else None
    )


def _log_opts(value: Dict[Any, Any]) -> Optional[str]:
    for name, content in value.items():
        if isinstance(content, str):
            continue
        wrong = _text_fault(content, str(name))
        if wrong:
            return wrong
    return None


def _address_pools(value: List[Any]) -> Optional[str]:
    for number, pool in enumerate(value, 1):
        if not isinstance(pool, dict) or set(pool) != {"base", "size"}:
            return (
                "must have base and size, and nothing else, in entry %d, like {base: 10.10.0.0/16,"
                " size: 24} [RM107]" % number
            )
        try:
            network = ipaddress.ip_network(
                pool["base"] if isinstance(pool["base"], str) else "", strict=False
            )
        except ValueError:
            return "has %s as base in entry %d, which is no network like 10.10.0.0/16 [RM108]" % (
                pool["base"],
                number,
            )
        size = pool["size"]
        if not _is_number(size) or not network.prefixlen <= size <= network.max_prefixlen:
            words = (
                "has %s as size in entry %d; it is the prefix length of each network, a whole"
                " number from %d to %d [RM109]"
            )
            return words % (size, number, network.prefixlen, network.max_prefixlen)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ulimits(value: Dict[Any, Any]) -> Optional[str]:
    example = "{Name: nofile, Soft: 65536, Hard: 65536}"
    for name, limit in value.items():
        if name not in ULIMITS:
            return ("has %s, which is no limit; those that are: %s [RM110]") % (
                name,
                ", ".join(ULIMITS),
            )
        if not isinstance(limit, dict) or set(limit) != {"Name", "Soft", "Hard"}:
            return "must have Name, Soft and Hard, and nothing else, for %s, like %s [RM111]" % (
                name,
                example,
            )
        if limit["Name"] != name:
            return "has %s with the Name %s; they must be the same, like nofile: %s [RM112]" % (
                name,
                limit["Name"],
                example,
            )
        soft, hard = limit["Soft"], limit["Hard"]
        if not all(_is_number(number) and -1 <= number < 2**63 for number in (soft, hard)):
            return "must have whole numbers as Soft and Hard of %s, -1 for no limit [RM113]" % name
        if hard != -1 and (soft == -1 or soft > hard):
            return "has Soft above Hard for %s, and no container would start [RM114]" % name
    return None


def _proxies(value: Dict[Any, Any]) -> Optional[str]:
    for name, content in value.items():
        if name not in ("http-proxy", "https-proxy", "no-proxy"):
            return "has %s; what it can have is http-proxy, https-proxy and no-proxy [RM115]" % name
        if name == "no-proxy" and isinstance(content, list):
            return (
                "must have one text for no-proxy, with commas in it: no-proxy:"
                " localhost,.example.com [RM116]"
            )
        wrong = _text_fault(content, str(name))
        if wrong:
            return wrong
        if name != "no-proxy" and not PROXY.match(content):
            return "must have a URL like http://proxy.example.com:3128 for %s [RM117]" % name
    return None


GC_TEXTS = (
    "defaultKeepStorage",
    "defaultReservedSpace",
    "defaultMaxUsedSpace",
    "defaultMinFreeSpace",
)
POLICY_TEXTS = ("keepStorage", "reservedSpace", "maxUsedSpace", "minFreeSpace")


def _builder(value: Dict[Any, Any]) -> Optional[str]:
    for name, part in value.items():
        if name not in ("gc", "entitlements"):
            return "has %s; what it can have is gc and entitlements [RM118]" % name
        if not isinstance(part, dict):
            return "must have a mapping for %s" % name
    for name, allowed in value.get("entitlements", {}).items():
        if name not in ("network-host", "security-insecure") or not isinstance(allowed, bool):
            return (
                "must have network-host or security-insecure in entitlements, each true or false"
                " [RM119]"
            )
    return _garbage_collection(value.get("gc", {}))


def _garbage_collection(value: Dict[Any, Any]) -> Optional[str]:
    for name, content in value.items():
        if name == "enabled" and not isinstance(content, bool):
            return "must have true or false for gc.enabled [RM120]"
        if name in GC_TEXTS and (not isinstance(content, str) or not BYTES.match(content)):
            return 'must have a text like "20GB" for gc.%s [RM121]' % name
        if name not in ("enabled", "policy", *GC_TEXTS):
            return "has gc.%s; what gc can have is enabled, policy, %s [RM122]" % (
                name,
                ", ".join(GC_TEXTS),
            )
    policies = value.get("policy", [])
    if not isinstance(policies, list) or not all(isinstance(policy, dict) for policy in policies):
        return "must have a list of mappings for gc.policy [RM123]"
    for policy in policies:
        for name, content in policy.items():
            if name in POLICY_TEXTS and (not isinstance(content, str) or not BYTES.match(content)):
                return 'must have a text like "20GB" for %s of gc.policy [RM124]' % name
            if name == "all" and not isinstance(content, bool):
                return "must have true or false for all of gc.policy [RM125]"
            if name == "filter" and (
                not isinstance(content, list) or not all(isinstance(word, str) for word in content)
            ):
                return (
                    'must have a list of texts like "unused-for=24h" for filter of gc.policy'
                    " [RM126]"
                )
            if name not in ("all", "filter", *POLICY_TEXTS):
                return "has %s in gc.policy; what an entry can have is all, filter, %s [RM127]" % (
                    name,
                    ", ".join(POLICY_TEXTS),
                )
    return None


def _metrics_address(value: str) -> Optional[str]:
    match = ADDRESS.match(value)
    if value and (not match or int(match.group(2)) > 65535):
        return "must be an address like 127.0.0.1:9323 [RM128]"
    return None


def _log_level(value: str) -> Optional[str]:
    return None if value in LEVELS else "must be one of " + ", ".join(LEVELS)


def _log_driver(value: str) -> Optional[str]:
    return (
        None
        if re.match(r"^[a-zA-Z0-9][a-zA-Z0-9._/:-]*$", value)
        else "must be the name of a log driver, like json-file [RM129]"
    )


CHECKS: Dict[str, Callable[[Any], Optional[str]]] = {
    "labels": _labels,
    "insecure-registries": _texts(_registry),
    "features": _features,
    "log-driver": _log_driver,
    "log-opts": _log_opts,
    "log-level": _log_level,
    "dns": _texts(_ip_address),
    "dns-opts": _texts(_option),
    "dns-search": _texts(_domain),
    "default-address-pools": _address_pools,
    "default-ulimits": _ulimits,
    "builder": _builder,
    "proxies": _proxies,
    "metrics-addr": _metrics_address,
}
