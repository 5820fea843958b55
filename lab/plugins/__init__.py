"""Stand-ins for the official docker and command plugins, for computers that cannot download those.

They do for real (ssh, docker's API over ssh) what the official ones do for exactly the resources
that this project uses, with the same inputs, outputs, diffs and replacements; the contract tests
run against whichever is present. They announce themselves on every run, refuse every input that
they do not implement, and are never used where the official plugin is.
"""
