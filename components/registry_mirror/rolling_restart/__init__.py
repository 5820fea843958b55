"""Restarts docker on one node after the other, without hurting the swarm; runs on the computer of
`pulumi up`, for a moment.

Sent on stdin as a program, like the node agent, so that a preview's text holds no path of anybody's
computer. Stdlib only. `order.py` decides (pure), `run.py` does, `ssh.py` connects.
"""
