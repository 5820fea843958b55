"""Stack configuration as typed settings. Imports the component's args, and is imported by
`__main__.py` only."""

from config.settings import MIRROR_NAME, Settings, load_settings, parse_files

__all__ = ["MIRROR_NAME", "Settings", "load_settings", "parse_files"]
