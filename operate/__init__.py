"""Looking after a mirror between two `pulumi up`s: `status` and `repair`, over the same settings as the program.

Pulumi cannot see what happens on a node between its runs (a command resource has no way to read); this can. It deliberately
knows nothing of Pulumi's state, and nothing here runs in a preview.
"""
