"""The try-out and test bench: three real machines, a swarm, Traefik and something that plays Docker
Hub.

No product code imports this package. It needs Linux and root, and only the standard library.
"""
