"""Policies: rules as functions, and the pack by which Pulumi enforces them."""
