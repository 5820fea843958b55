"""`make advisories`: which published advisories a stack's images are older than. Connects to nothing."""

from components.registry_mirror.advisories import Advisory, concerning
from config import Settings

HEAD = ("image", "advisory", "severity", "fixed in", "here", "more")


def advisories(settings: Settings) -> list[Advisory]:
    """Those that concern the stack's images."""
    images = {"registry": settings.mirror.image, "varnish": settings.mirror.varnish_image or ""}
    return [advisory for component, image in images.items() for advisory in concerning(component, image)]


def as_rows(found: list[Advisory]) -> list[tuple[str, ...]]:
    """A row for each, as HEAD."""
    return [(each.component, each.id, each.severity, " and ".join(each.fixed), each.effect, each.url) for each in found]
