"""Varnish in front of the registry: clients that want the same at the same moment become one
request. Pure.

The registry itself streams every concurrent request for what it does not have yet from the upstream
(distribution registry/proxy/proxyblobstore.go): n nodes that pull together would download n times.
What Varnish does is in `container/`.
"""

from collections.abc import Sequence

from . import traefik

PORT = 6081
"""Varnish's usual port, inside the overlay network only."""

VARNISH_FLOOR = (7, 3, 0)
"""The oldest that starts: 7.1 has no `transit_buffer`, 7.2 no `vcc_feature` (varnish
include/tbl/params.h). Run with 7.7.0."""

CONFIGURATION = "/etc/varnish/mirror.vcl"
START = "/usr/local/bin/start-mirror"

WRITABLE = "/tmp"
"""The only folder of Varnish's container that can be written, a volume of its own that is removed
with the task: compiled configurations, which have to be executable (a tmpfs of a service is mounted
noexec), and what is too large for memory."""

DISK_MIB = 4096
"""Of the node's own disk, unless `coalesce_disk` says otherwise, for layers that are too large for
memory (more than half of it), or for which it has no room. Never more than half of what is free
there. A layer of up to 15/16 of this is one download for all who want it at the same moment."""
SMALLEST_DISK_MIB = 64
"""Less than this is not begun (`container/start-varnish.sh`): a layer that fits into it fits into
the least memory, too."""
LARGEST_DISK_MIB = 1024 * 1024
"""A TiB. More than that is a slip: it holds what is pulled within ten minutes, and is removed with
the task."""

PASSES = 512
"""How many bodies may be passed on at the same moment where there is no room to keep them. Docker
is sent to the upstream beyond."""

OVERHEAD_MIB = 512
"""What Varnish takes beside its store in memory, at most: 64 MiB of manifests, and 85 MiB that they
cost besides (110,000 of 606 bytes, each with 770 more that no store counts; measured); 128 MiB for
PASSES (a buffer of 128 KiB, and a piece of that size); the rest for compiling its configuration and
for threads."""

REFERRERS = ("empty", "upstream")
"""The answer to a request for the referrers of an image (signatures, bills of materials): that
there are none, or that the mirror does not know, so that it asks the upstream itself."""

HEALTH_PATH = "/healthy"
"""What Varnish answers itself, whatever the registry does; no router leads to it."""
METRICS_PATH = f"{traefik.METRICS_PATH}/varnish"
"""Varnish's counters as Prometheus reads them (`container/mirror.vcl`)."""
HEALTH_CHECK = ("CMD", "varnishadm", "-n", "/tmp/varnish", "ping")


def front_name(service: str) -> str:
    """Name of the swarm service of Varnish."""
    return f"{service}-front"


def meaning(memory: int, disk: int) -> str:
    """The two sizes in one line, as a user of the mirror sees them. `memory` and `disk` in MiB, as
    for `words`."""
    in_memory, on_disk = memory // 2, disk * 15 // 16
    kept = f"layers of up to {_size(in_memory)} are kept in memory while they are pulled"
    if on_disk > in_memory:
        kept += (
            f", of up to {_size(on_disk)} on the disk of Varnish's machine (if half of what is"
            f" free there is {_size(disk)})"
        )
    return (
        f"{kept}; a larger one is downloaded once for each client that wants it while the cache"
        " does not have it yet"
    )


def _size(mib: int) -> str:
    return f"{mib} MiB" if mib < 10 * 1024 else f"{mib / 1024:.0f} GiB"


def words(
    services: Sequence[str],
    memory: int,
    disk: int = DISK_MIB,
    referrers: str = REFERRERS[0],
    *,
    metrics: bool = False,
) -> list[str]:
    """The arguments of `container/start-varnish.sh`, as `NAME=value`.

    Args:
        services: Names of the registries' swarm services, the one at the root first.
        memory: Varnish's store in memory, in MiB (`coalesce_memory`).
        disk: Its store on the node's disk, in MiB (`coalesce_disk`); 0 for none.
        referrers: One of REFERRERS.
        metrics: Whether METRICS_PATH is answered (`metrics_from`).
    """
    sizes = [f"MEMORY={memory}", f"DISK={disk}", f"PASSES={PASSES}"]
    names = [f"REGISTRY={service}" for service in services]
    asked = ["METRICS=yes"] if metrics else []
    return [*names, f"PORT={PORT}", *sizes, f"REFERRERS={referrers}", *asked]
