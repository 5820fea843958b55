"""The actions on a node, by the names that they have on the wire and in every stack's state:
`node.apply`, `node.remove`, `node.look`."""

from .apply import apply
from .remove import remove
from .status import look

__all__ = ["apply", "look", "remove"]
