"""Takes over a mirror that somebody has set up by hand: finds it, and writes the stack's file that describes it.

Looks and writes that file; changes nothing on the swarm or a node. `tools/adopt.py` starts it and imports what it found.
"""
