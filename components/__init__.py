"""Component resources of this project. Each is self-contained; this package imports nothing."""
