"""The console command `swarm-registry-mirror`: looks after the mirrors of a stack between two runs
of `pulumi up`.

It reads the stack's state, and so works with any program in any language. It imports neither the
configuration of a checkout nor its lab: it comes complete with the wheel. `deployed.py` reads
the state (pure), `stack.py` runs the Pulumi CLI, `nodes.py` asks machines, and each verb has a
file. Nothing here runs in a preview.
"""
