"""Many simulated nodes on this computer, for what three real ones cannot show: how a roll-out
behaves with hundreds.

`dockerd.py` keeps moby's rules (and is held against the real daemons by a test), `shim.py` answers
as docker and systemctl.
"""
