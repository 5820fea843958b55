"""What a change would do, for people who decide on it: a preview that needs neither the swarm nor a secret, and its report.

Runs in the project's Python environment; `tools/preview.py` starts it. It reads the stack's file and a state, and writes nothing
but its report.
"""
