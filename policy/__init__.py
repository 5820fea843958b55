"""Policies: rules as functions, and the pack that Pulumi enforces them with. Needs nothing of this project but itself."""
