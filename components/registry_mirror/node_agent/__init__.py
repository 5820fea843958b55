"""The node agent: programs that run for a moment on a node, over SSH, and then are gone.

DELIBERATELY STDLIB-ONLY, and nothing here imports pulumi: the same modules run on a node's own
Python (3.8 or newer), to which they travel on stdin (`ship.py`), and in the unit tests. Nothing is
installed on a node.
"""
