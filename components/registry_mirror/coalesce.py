"""Varnish in front of the registry: clients that want the same at the same moment become one request. Pure.

The registry itself streams every concurrent request for what it does not have yet from the upstream (distribution
registry/proxy/proxyblobstore.go): n nodes that pull together would download n times. What Varnish does is in `container/`.
"""

PORT = 6081
"""Varnish's usual port, inside the overlay network only."""

VARNISH_FLOOR = (7, 2, 0)
"""The oldest that starts: 7.1 has no `transit_buffer` (varnish include/tbl/params.h). Run with 7.7.0."""

CONFIGURATION = "/etc/varnish/mirror.vcl"
START = "/usr/local/bin/start-mirror"

WRITABLE = "/tmp"
"""The only folder of Varnish's container that can be written, a volume of its own that goes with the task: compiled
configurations, which have to be executable (a tmpfs of a service is mounted noexec), and what is too large for memory."""

OVERHEAD_MIB = 384
"""What Varnish takes beside its storage: 128 MiB for what passes through, compiling its configuration, threads."""

HEALTH_CHECK = ("CMD", "varnishadm", "-n", "/tmp/varnish", "ping")


def front_name(service: str) -> str:
    """Name of the swarm service of Varnish."""
    return f"{service}-front"


def words(service: str, memory: int) -> list[str]:
    """The arguments of `container/start-varnish.sh`, as `NAME=value`.

    Args:
        service: Name of the registry's swarm service.
        memory: Varnish's storage in MiB (`coalesceMemory`).
    """
    # More than half would leave no room for a second layer of that size at the same time.
    return [f"REGISTRY={service}", f"PORT={PORT}", f"MEMORY={memory}", f"LARGEST={memory * 1024 * 1024 // 2}"]
