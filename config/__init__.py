"""Stack configuration as typed settings. Imports the component's args, and is imported by `__main__.py` only."""

from config.settings import Settings, load_settings

__all__ = ["Settings", "load_settings"]
